//! Reading events and state rows, over the pool that cannot write.

use async_trait::async_trait;
use futures::TryStreamExt;
use jiff::Timestamp;
use keyledger_schemas::envelope::{Hash, Position, Recorded, Version};
use keyledger_schemas::ids::{EventId, StreamId};
use sqlx::SqlitePool;

use super::SqliteLog;
use crate::log::{Head, LogError};
use crate::sql::{self, EventRow, PlaceRow, StoredState, integer};
use crate::state::{StateRow, StateStore};

/// A page ends early once its events' data is this large, so that a page of large bodies cannot fill the memory.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) async fn head(pool: &SqlitePool) -> Result<Head, LogError> {
    PlaceRow::head(sqlx::query_as(sql::HEAD).fetch_optional(pool).await.map_err(closed)?)
}

pub(super) async fn chain_at(pool: &SqlitePool, position: Position) -> Result<Option<Hash>, LogError> {
    if position == 0 {
        return Ok(Some(Head::default().chain));
    }
    let query = sqlx::query_scalar(sql::CHAIN).bind(integer(position));
    let chain: Option<Vec<u8>> = query.fetch_optional(pool).await.map_err(closed)?;
    chain.map(|chain| sql::chain(position, chain)).transpose()
}

pub(super) async fn find(pool: &SqlitePool, id: &EventId) -> Result<Option<Recorded>, LogError> {
    let row: Option<EventRow> =
        sqlx::query_as(sql::FIND).bind(id.as_str()).fetch_optional(pool).await.map_err(closed)?;
    row.map(EventRow::recorded).transpose()
}

pub(super) async fn after(pool: &SqlitePool, after: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
    let mut rows = sqlx::query_as(sql::READ_AFTER).bind(integer(after)).bind(integer(limit)).fetch(pool);
    let mut page = Page::default();
    while !page.is_full() {
        let position = after.saturating_add(1 + page.len());
        let row: EventRow = match rows.try_next().await {
            Ok(Some(row)) => row,
            Err(error) if page.events.is_empty() => return Err(unreadable(error, position)),
            // The end; or trouble, and then the next page begins there and says so.
            Ok(None) | Err(_) => break,
        };
        match row.recorded() {
            Ok(event) if event.position == position => page.push(event),
            _ if !page.events.is_empty() => break,
            Ok(_) => return Err(LogError::Damaged { position, reason: "the row is missing".to_owned() }),
            Err(error) => return Err(error),
        }
    }
    Ok(page.events)
}

pub(super) async fn stream(
    pool: &SqlitePool,
    stream: &StreamId,
    after: Version,
    limit: usize,
) -> Result<Vec<Recorded>, LogError> {
    let mut rows =
        sqlx::query_as(sql::READ_STREAM).bind(stream.as_str()).bind(integer(after)).bind(integer(limit)).fetch(pool);
    let mut page = Page::default();
    while !page.is_full() {
        let Some(row): Option<EventRow> = rows.try_next().await.map_err(closed)? else { break };
        let event = row.recorded()?;
        let version = after.saturating_add(1 + page.len());
        if event.version != version {
            let reason = format!("version {version} of stream `{stream}` is missing before it");
            return Err(LogError::Damaged { position: event.position, reason });
        }
        page.push(event);
    }
    Ok(page.events)
}

/// Events read so far, and the size of their data.
#[derive(Default)]
struct Page {
    events: Vec<Recorded>,
    bytes: usize,
}

impl Page {
    fn push(&mut self, event: Recorded) {
        self.bytes += event.data.len();
        self.events.push(event);
    }

    fn len(&self) -> u64 {
        self.events.len() as u64
    }

    fn is_full(&self) -> bool {
        self.bytes >= PAGE_BYTES_MAX
    }
}

/// A row that does not decode, or a page of the file that SQLite finds corrupt, is damage at that position.
fn unreadable(error: sqlx::Error, position: Position) -> LogError {
    let corrupt = error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("11"));
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            LogError::Damaged { position, reason: error.to_string() }
        }
        _ if corrupt => LogError::Damaged { position, reason: error.to_string() },
        error => closed(error),
    }
}

fn closed(error: sqlx::Error) -> LogError {
    match error {
        sqlx::Error::PoolClosed => LogError::Closed,
        error => LogError::Database(error),
    }
}

#[async_trait]
impl StateStore for SqliteLog {
    async fn state(&self, namespace: &str, key: &str) -> Result<Option<StateRow>, LogError> {
        let query = sqlx::query_as(sql::STATE).bind(namespace).bind(key);
        let row: Option<StoredState> = query.fetch_optional(&self.0.readers).await.map_err(closed)?;
        row.map(StoredState::row).transpose()
    }

    async fn state_scan(
        &self,
        namespace: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<StateRow>, LogError> {
        let query = sqlx::query_as(sql::STATE_SCAN).bind(namespace).bind(after).bind(prefix).bind(integer(limit));
        let rows: Vec<StoredState> = query.fetch_all(&self.0.readers).await.map_err(closed)?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let row = row.row()?;
            // Keys with one prefix stand together: the first without it ends them.
            if !row.key.starts_with(prefix) {
                break;
            }
            found.push(row);
        }
        Ok(found)
    }

    async fn state_due(&self, namespace: &str, now: Timestamp, limit: usize) -> Result<Vec<StateRow>, LogError> {
        let query = sqlx::query_as(sql::STATE_DUE).bind(namespace).bind(sql::time(now)).bind(integer(limit));
        let rows: Vec<StoredState> = query.fetch_all(&self.0.readers).await.map_err(closed)?;
        rows.into_iter().map(StoredState::row).collect()
    }

    async fn state_due_count(&self, namespace: &str, now: Timestamp) -> Result<u64, LogError> {
        let query = sqlx::query_scalar(sql::STATE_DUE_COUNT).bind(namespace).bind(sql::time(now));
        let count: i64 = query.fetch_one(&self.0.readers).await.map_err(closed)?;
        Ok(count.unsigned_abs())
    }

    async fn state_next_due(&self, namespace: &str) -> Result<Option<Timestamp>, LogError> {
        let query = sqlx::query_scalar(sql::STATE_NEXT_DUE).bind(namespace);
        let due_at: Option<String> = query.fetch_one(&self.0.readers).await.map_err(closed)?;
        due_at.map(|text| sql::parse_time(&text)).transpose()
    }
}
