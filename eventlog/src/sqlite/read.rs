//! Reading events and state rows, over the pool that cannot write.

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_schemas::envelope::{Hash, Position, Recorded, Version};
use keyledger_schemas::ids::{EventId, StreamId};
use sqlx::SqlitePool;

use super::SqliteLog;
use crate::log::{Head, LogError};
use crate::page::Page;
use crate::sql::{self, EventRow, PlaceRow, StoredState, integer};
use crate::state::{StateRow, StateStore};

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
    let rows = sqlx::query_as(sql::READ_AFTER).bind(integer(after)).bind(integer(limit)).fetch(pool);
    Ok(Page::after(rows, after, unreadable).await?.events)
}

pub(super) async fn stream(
    pool: &SqlitePool,
    stream: &StreamId,
    after: Version,
    limit: usize,
) -> Result<Vec<Recorded>, LogError> {
    let query = sqlx::query_as(sql::READ_STREAM).bind(stream.as_str()).bind(integer(after)).bind(integer(limit));
    Ok(Page::of_stream(query.fetch(pool), stream, after, closed).await?.events)
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
        sql::with_prefix(rows, prefix)
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
