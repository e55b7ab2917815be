//! What the SQL adapters share: the texts of the queries, and how rows become events and state.
//!
//! Every text serves SQLite and PostgreSQL alike; only the migrations and the transactions differ.

use jiff::Timestamp;
use keyledger_schemas::envelope::{Hash, Position, Recorded};
use keyledger_schemas::ids::{AccountId, EventId, Scope, SourceName, StreamId};
use uuid::Uuid;

use crate::log::{Head, LogError};
use crate::state::StateRow;

pub(crate) const HEAD: &str = "select position, chain from event order by position desc limit 1";

pub(crate) const CHAIN: &str = "select chain from event where position = $1";

pub(crate) const READ_AFTER: &str = "select position, id, stream, version, kind, source, account, mode, occurred_at, \
     recorded_at, causation_id, correlation_id, schema_version, actor, partition, delivery, data, content_hash, chain, \
     key_id from event where position > $1 order by position limit $2";

pub(crate) const READ_STREAM: &str = "select position, id, stream, version, kind, source, account, mode, occurred_at, \
     recorded_at, causation_id, correlation_id, schema_version, actor, partition, delivery, data, content_hash, chain, \
     key_id from event where stream = $1 and version > $2 order by version limit $3";

pub(crate) const FIND: &str = "select position, id, stream, version, kind, source, account, mode, occurred_at, \
     recorded_at, causation_id, correlation_id, schema_version, actor, partition, delivery, data, content_hash, chain, \
     key_id from event where id = $1";

pub(crate) const STATE: &str =
    "select namespace, key, value, due_at, revision from state where namespace = $1 and key = $2";

pub(crate) const STATE_SCAN: &str = "select namespace, key, value, due_at, revision from state \
     where namespace = $1 and key > $2 and key >= $3 order by key limit $4";

pub(crate) const STATE_DUE: &str = "select namespace, key, value, due_at, revision from state \
     where namespace = $1 and due_at <= $2 order by due_at, key limit $3";

pub(crate) const STATE_DUE_COUNT: &str = "select count(*) from state where namespace = $1 and due_at <= $2";

pub(crate) const STATE_NEXT_DUE: &str = "select min(due_at) from state where namespace = $1 and due_at is not null";

/// The id of a log that is being made: the one that is wanted, or one that no other log has.
pub(crate) fn new_log_id(wanted: Option<Uuid>) -> Result<Uuid, LogError> {
    if let Some(wanted) = wanted {
        return Ok(wanted);
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
    Ok(uuid::Builder::from_random_bytes(random).into_uuid())
}

/// An integer as SQL has it. What does not fit is beyond every row.
pub(crate) fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// A time as text of one width, so that it reads back exactly and sorts by time.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// A row of the event table, as SQL has it.
#[derive(sqlx::FromRow)]
pub(crate) struct EventRow {
    position: i64,
    id: String,
    stream: String,
    version: i64,
    kind: String,
    source: String,
    account: Option<String>,
    mode: String,
    occurred_at: String,
    recorded_at: String,
    causation_id: Option<String>,
    correlation_id: Option<String>,
    schema_version: i64,
    actor: Option<String>,
    partition: i64,
    delivery: Option<String>,
    data: Vec<u8>,
    content_hash: Vec<u8>,
    chain: Vec<u8>,
    key_id: Option<String>,
}

impl EventRow {
    /// The event of this row.
    pub(crate) fn recorded(self) -> Result<Recorded, LogError> {
        let position = Position::try_from(self.position).unwrap_or(0);
        self.parse().map_err(|reason| LogError::Damaged { position, reason })
    }

    fn parse(self) -> Result<Recorded, String> {
        let delivery = self.delivery.as_deref().map(serde_json::from_str).transpose();
        Ok(Recorded {
            position: column("position", self.position.try_into())?,
            id: EventId::new(self.id),
            kind: self.kind,
            scope: Scope {
                source: column("source", SourceName::try_from(self.source))?,
                account: self.account.map(AccountId::new),
                mode: column("mode", self.mode.parse())?,
            },
            stream: StreamId::new(self.stream),
            version: column("version", self.version.try_into())?,
            occurred_at: column("occurred_at", self.occurred_at.parse())?,
            recorded_at: column("recorded_at", self.recorded_at.parse())?,
            causation_id: self.causation_id.map(EventId::new),
            correlation_id: self.correlation_id.map(EventId::new),
            schema_version: column("schema_version", self.schema_version.try_into())?,
            actor: self.actor,
            partition: column("partition", self.partition.try_into())?,
            delivery: column("delivery", delivery)?,
            data: self.data,
            content_hash: hash("content_hash", self.content_hash)?,
            chain: hash("chain", self.chain)?,
            key_id: self.key_id,
        })
    }
}

/// A position and a hash: the head, or where an id stands.
#[derive(sqlx::FromRow)]
pub(crate) struct PlaceRow(i64, Vec<u8>);

impl PlaceRow {
    /// A row whose columns were read one by one.
    pub(crate) fn new(position: i64, hash: Vec<u8>) -> Self {
        Self(position, hash)
    }

    /// The position, and the hash beside it.
    pub(crate) fn place(self) -> Result<(Position, Hash), LogError> {
        let position = Position::try_from(self.0).unwrap_or(0);
        let hash = hash("hash", self.1).map_err(|reason| LogError::Damaged { position, reason })?;
        Ok((position, hash))
    }

    /// The head this row is; the head of the empty log without a row.
    pub(crate) fn head(row: Option<Self>) -> Result<Head, LogError> {
        let Some(row) = row else { return Ok(Head::default()) };
        let (position, chain) = row.place()?;
        Ok(Head { position, chain })
    }
}

/// The chain value stored at `position`.
pub(crate) fn chain(position: Position, bytes: Vec<u8>) -> Result<Hash, LogError> {
    hash("chain", bytes).map_err(|reason| LogError::Damaged { position, reason })
}

/// A row of the state table, as SQL has it.
#[derive(sqlx::FromRow)]
pub(crate) struct StoredState {
    namespace: String,
    key: String,
    value: Vec<u8>,
    due_at: Option<String>,
    revision: i64,
}

impl StoredState {
    /// The state of this row.
    pub(crate) fn row(self) -> Result<StateRow, LogError> {
        let due_at = self.due_at.map(|text| parse_time(&text)).transpose()?;
        let revision = u64::try_from(self.revision).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(StateRow { namespace: self.namespace, key: self.key, value: self.value, due_at, revision })
    }
}

/// The rows of a scan whose keys start with `prefix`: they stand together, and the first without it ends them.
pub(crate) fn with_prefix(rows: Vec<StoredState>, prefix: &str) -> Result<Vec<StateRow>, LogError> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let row = row.row()?;
        if !row.key.starts_with(prefix) {
            break;
        }
        found.push(row);
    }
    Ok(found)
}

/// The time that [`time`] wrote.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, LogError> {
    Ok(text.parse().map_err(|error: jiff::Error| sqlx::Error::Decode(error.into()))?)
}

fn column<T, E: std::fmt::Display>(name: &str, value: Result<T, E>) -> Result<T, String> {
    value.map_err(|error| format!("column `{name}` cannot be read: {error}"))
}

fn hash(name: &str, bytes: Vec<u8>) -> Result<Hash, String> {
    Hash::try_from(bytes).map_err(|bytes| format!("column `{name}` has {} bytes, not 32", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_exactly_and_sort_as_text() {
        let texts = [
            "1969-12-31T23:59:59.999999999Z",
            "2024-02-29T12:00:00Z",
            "2024-02-29T12:00:00.5Z",
            "9999-01-01T00:00:00Z",
        ];
        let times: Vec<Timestamp> = texts.iter().map(|text| text.parse().unwrap()).collect();
        for pair in times.windows(2) {
            assert!(time(pair[0]) < time(pair[1]), "{} and {}", pair[0], pair[1]);
        }
        for at in times.into_iter().chain([Timestamp::MIN, Timestamp::MAX]) {
            assert_eq!(parse_time(&time(at)).unwrap(), at);
        }
    }

    #[test]
    fn a_number_beyond_sql_is_beyond_every_row() {
        assert_eq!(integer(u64::MAX), i64::MAX);
        assert_eq!(integer(7_u64), 7);
    }
}
