//! [`Views`]: the handle that readers hold.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use keyledger_schemas::ids::{SourceName, UnitId};
use serde::Serialize;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};

use super::Within;
use crate::sql::{self, ViewsError};
use crate::store::META;
use crate::{PROJECTION_VERSION, SCHEMA_VERSION};

/// Connections that read at the same time.
const READERS: u32 = 4;

/// How long a reader waits for a lock.
const BUSY: Duration = Duration::from_secs(5);

const OPEN_OBLIGATIONS: &str = "select scope, subject, purchase, item, number, kind, cause from casefile \
     where status = 'open' and kind in ('no_key', 'free_without_key', 'not_extended') and mode = $1 \
     and (cast($2 as text) is null or source = $2) order by subject, kind";

const SOURCE_SEEN: &str = "select exists(select 1 from object where source = $1) \
     or exists(select 1 from customer where source = $1) or exists(select 1 from casefile where source = $1)";

/// The views, for reading. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Views {
    pub(super) pool: SqlitePool,
}

/// Something owed that is not met: what `keyledger check` compares with the issuer's books.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OpenObligation {
    /// The unit, or the purchase where its items are unknown: as text, `scope:purchase[/item/number]`.
    pub subject: String,
    /// The unit, where it is about one.
    pub unit: Option<UnitId>,
    /// `no_key`, `free_without_key` or `not_extended`.
    pub kind: String,
    /// Why, as stored (without `issuer_behind`).
    pub cause: Option<String>,
}

impl Views {
    /// Opens the views for reading.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Unusable`] when there are none, or another build made them: start the projector, or replay.
    pub async fn open_read(url: &str) -> Result<Self, ViewsError> {
        let options = SqliteConnectOptions::from_str(url)?;
        if !Path::new(options.get_filename()).exists() {
            return Err(ViewsError::Unusable {
                reason: format!("`{url}` does not exist; `keyledger up` or `keyledger replay` makes it"),
            });
        }
        let options =
            options.create_if_missing(false).busy_timeout(BUSY).pragma("query_only", "on").disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(READERS).connect_with(options).await?;
        let meta: Result<Option<(i64, i64)>, _> = sqlx::query_as(META).fetch_optional(&pool).await;
        let reason = match meta {
            Ok(Some((SCHEMA_VERSION, PROJECTION_VERSION))) => return Ok(Self { pool }),
            Ok(_) => format!("`{url}` was made by another build; start `keyledger up`, or run `keyledger replay`"),
            Err(error) => format!("`{url}` holds no views: {error}"),
        };
        pool.close().await;
        Err(ViewsError::Unusable { reason })
    }

    /// Everything owed that is not met and not waived: units, and purchases whose items are unknown. By subject.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn open_obligations(&self, within: &Within) -> Result<Vec<OpenObligation>, ViewsError> {
        let rows: Vec<OpenRow> = sqlx::query_as(OPEN_OBLIGATIONS)
            .bind(within.mode.as_str())
            .bind(within.source.as_ref().map(|source| source.as_str().to_owned()))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(OpenRow::read).collect()
    }

    /// Whether anything in the views came from this source.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn has_source(&self, source: &SourceName) -> Result<bool, ViewsError> {
        Ok(sqlx::query_scalar(SOURCE_SEEN).bind(source.as_str()).fetch_one(&self.pool).await?)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[derive(sqlx::FromRow)]
struct OpenRow {
    scope: String,
    subject: String,
    purchase: Option<String>,
    item: Option<String>,
    number: Option<i64>,
    kind: String,
    cause: Option<String>,
}

impl OpenRow {
    fn read(self) -> Result<OpenObligation, ViewsError> {
        let scope = sql::parse_scope(&self.scope)?;
        let unit = super::purchases::unit(&scope, self.purchase.as_deref(), self.item, self.number);
        Ok(OpenObligation { subject: self.subject, unit, kind: self.kind, cause: self.cause })
    }
}
