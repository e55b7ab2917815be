//! How far the views are, and what waits for a person.

use jiff::Timestamp;
use keyledger_schemas::envelope::Position;
use keyledger_schemas::ids::SourceName;

use super::{Parked, Reconciled, Status, Views, Within};
use crate::db;
use crate::sql::{self, ViewsError};

const POSITION: &str = "select position from checkpoint where name = 'projector'";

const CASES_OPEN: &str = "select kind, count(*), min(opened_at) from casefile \
     where status = 'open' and visible_from <= $3 and mode = $1 and (cast($2 as text) is null or source = $2) \
     group by kind";

const PARKED_COUNT: &str = "select count(*) from parked";

const PARKED: &str =
    "select position, event_id, kind, reason from parked where position > $1 order by position limit $2";

const RECONCILED: &str = "select source, mode, at, since, events_seen, events_appended, objects_seen, objects_appended \
     from reconciled where mode = $1 and (cast($2 as text) is null or source = $2) order by source";

type ReconciledRow = (String, String, String, String, i64, i64, i64, i64);

impl Views {
    /// How far the views are, and what is open at `at`.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn status(&self, within: &Within, at: Timestamp) -> Result<Status, ViewsError> {
        let position = self.position().await?;
        let open: Vec<(String, i64, String)> = db::query(CASES_OPEN)
            .bind(within.mode.as_str())
            .bind(within.source())
            .bind(sql::time(at))
            .fetch_all(&self.pool)
            .await?;
        let (parked,): (i64,) = db::query(PARKED_COUNT).fetch_one(&self.pool).await?;
        let oldest = open.iter().find(|(kind, ..)| kind == "no_key").map(|(.., opened_at)| opened_at.as_str());
        Ok(Status {
            position,
            oldest_no_key: sql::parse_optional_time(oldest)?,
            cases_open: open.iter().map(|(kind, count, _)| (kind.clone(), sql::unsigned(*count))).collect(),
            parked: sql::unsigned(parked),
            reconciled: self.reconciled(within).await?,
        })
    }

    async fn reconciled(&self, within: &Within) -> Result<Vec<Reconciled>, ViewsError> {
        let rows: Vec<ReconciledRow> =
            db::query(RECONCILED).bind(within.mode.as_str()).bind(within.source()).fetch_all(&self.pool).await?;
        rows.into_iter().map(reconciled).collect()
    }

    /// The last position folded.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn position(&self) -> Result<Position, ViewsError> {
        let row: Option<(i64,)> = db::query(POSITION).fetch_optional(&self.pool).await?;
        Ok(row.map_or(0, |(position,)| sql::unsigned(position)))
    }

    /// Up to `limit` events that were set aside, after a position.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn parked(&self, after: u64, limit: u32) -> Result<Vec<Parked>, ViewsError> {
        let rows: Vec<(i64, String, String, String)> =
            db::query(PARKED).bind(sql::integer(after)).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        let parked = rows.into_iter().map(|(position, event_id, kind, reason)| Parked {
            position: sql::unsigned(position),
            event_id,
            kind,
            reason,
        });
        Ok(parked.collect())
    }
}

fn reconciled(
    (source, mode, at, since, events, appended, objects, new): ReconciledRow,
) -> Result<Reconciled, ViewsError> {
    Ok(Reconciled {
        source: source.parse().map_err(|error| ViewsError::damaged("a source", error))?,
        mode: mode.parse().map_err(|error| ViewsError::damaged("a mode", error))?,
        at: sql::parse_time(&at)?,
        since: sql::parse_time(&since)?,
        events_seen: sql::unsigned(events),
        events_appended: sql::unsigned(appended),
        objects_seen: sql::unsigned(objects),
        objects_appended: sql::unsigned(new),
    })
}

impl Within {
    /// The source as a query takes it.
    pub(super) fn source(&self) -> Option<&str> {
        self.source.as_ref().map(SourceName::as_str)
    }
}
