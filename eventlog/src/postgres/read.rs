//! Reading events and state rows, over the pool that cannot write.

use std::ops::{Deref, DerefMut};

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_schemas::envelope::{Hash, Position, Recorded, Version};
use keyledger_schemas::ids::{EventId, StreamId};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};

use super::{PostgresLog, session};
use crate::log::{Head, LogError};
use crate::page::Page;
use crate::sql::{self, EventRow, PlaceRow, StoredState, integer};
use crate::state::{StateRow, StateStore};

/// A connection of the pool that goes back to it only when its use came to an end: after an error, a timeout or a
/// caller that went away, the next reader must not wait for what was asked on it.
struct Lent {
    connection: PoolConnection<Postgres>,
    done: bool,
}

impl Lent {
    async fn of(pool: &PgPool) -> Result<Self, LogError> {
        Ok(Self { connection: pool.acquire().await.map_err(closed)?, done: false })
    }

    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.done {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

pub(super) async fn head(pool: &PgPool) -> Result<Head, LogError> {
    let mut lent = Lent::of(pool).await?;
    let row = sqlx::query_as(sql::HEAD).fetch_optional(&mut *lent).await.map_err(closed)?;
    lent.done();
    PlaceRow::head(row)
}

pub(super) async fn chain_at(pool: &PgPool, position: Position) -> Result<Option<Hash>, LogError> {
    if position == 0 {
        return Ok(Some(Head::default().chain));
    }
    let mut lent = Lent::of(pool).await?;
    let query = sqlx::query_scalar(sql::CHAIN).bind(integer(position));
    let chain: Option<Vec<u8>> = query.fetch_optional(&mut *lent).await.map_err(closed)?;
    lent.done();
    chain.map(|chain| sql::chain(position, chain)).transpose()
}

pub(super) async fn find(pool: &PgPool, id: &EventId) -> Result<Option<Recorded>, LogError> {
    let mut lent = Lent::of(pool).await?;
    let query = sqlx::query_as(sql::FIND).bind(id.as_str());
    let row: Option<EventRow> = query.fetch_optional(&mut *lent).await.map_err(closed)?;
    lent.done();
    row.map(EventRow::recorded).transpose()
}

pub(super) async fn after(pool: &PgPool, after: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
    let mut lent = Lent::of(pool).await?;
    let rows = sqlx::query_as(sql::READ_AFTER).bind(integer(after)).bind(integer(limit)).fetch(&mut *lent);
    let page = Page::after(rows, after, unreadable).await?;
    Ok(whole(lent, page))
}

pub(super) async fn stream(
    pool: &PgPool,
    stream: &StreamId,
    after: Version,
    limit: usize,
) -> Result<Vec<Recorded>, LogError> {
    let mut lent = Lent::of(pool).await?;
    let query = sqlx::query_as(sql::READ_STREAM).bind(stream.as_str()).bind(integer(after)).bind(integer(limit));
    let page = Page::of_stream(query.fetch(&mut *lent), stream, after, closed).await?;
    Ok(whole(lent, page))
}

/// The events of a page. The rows that a page of large bodies left unread are cheaper to leave than to take.
fn whole(lent: Lent, page: Page) -> Vec<Recorded> {
    if !page.is_full() {
        lent.done();
    }
    page.events
}

/// A row that does not decode, or that the server finds corrupt, is damage at that position.
fn unreadable(error: sqlx::Error, position: Position) -> LogError {
    let corrupt =
        error.as_database_error().is_some_and(|error| matches!(error.code().as_deref(), Some("XX001" | "XX002")));
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
impl StateStore for PostgresLog {
    async fn state(&self, namespace: &str, key: &str) -> Result<Option<StateRow>, LogError> {
        session::within(self.0.timeout, async {
            let mut lent = Lent::of(&self.0.readers).await?;
            let query = sqlx::query_as(sql::STATE).bind(namespace).bind(key);
            let row: Option<StoredState> = query.fetch_optional(&mut *lent).await.map_err(closed)?;
            lent.done();
            row.map(StoredState::row).transpose()
        })
        .await
    }

    async fn state_scan(
        &self,
        namespace: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<StateRow>, LogError> {
        session::within(self.0.timeout, async {
            let mut lent = Lent::of(&self.0.readers).await?;
            let query = sqlx::query_as(sql::STATE_SCAN).bind(namespace).bind(after).bind(prefix).bind(integer(limit));
            let rows: Vec<StoredState> = query.fetch_all(&mut *lent).await.map_err(closed)?;
            lent.done();
            sql::with_prefix(rows, prefix)
        })
        .await
    }

    async fn state_due(&self, namespace: &str, now: Timestamp, limit: usize) -> Result<Vec<StateRow>, LogError> {
        session::within(self.0.timeout, async {
            let mut lent = Lent::of(&self.0.readers).await?;
            let query = sqlx::query_as(sql::STATE_DUE).bind(namespace).bind(sql::time(now)).bind(integer(limit));
            let rows: Vec<StoredState> = query.fetch_all(&mut *lent).await.map_err(closed)?;
            lent.done();
            rows.into_iter().map(StoredState::row).collect()
        })
        .await
    }

    async fn state_due_count(&self, namespace: &str, now: Timestamp) -> Result<u64, LogError> {
        session::within(self.0.timeout, async {
            let mut lent = Lent::of(&self.0.readers).await?;
            let query = sqlx::query_scalar(sql::STATE_DUE_COUNT).bind(namespace).bind(sql::time(now));
            let count: i64 = query.fetch_one(&mut *lent).await.map_err(closed)?;
            lent.done();
            Ok(count.unsigned_abs())
        })
        .await
    }

    async fn state_next_due(&self, namespace: &str) -> Result<Option<Timestamp>, LogError> {
        session::within(self.0.timeout, async {
            let mut lent = Lent::of(&self.0.readers).await?;
            let query = sqlx::query_scalar(sql::STATE_NEXT_DUE).bind(namespace);
            let due_at: Option<String> = query.fetch_one(&mut *lent).await.map_err(closed)?;
            lent.done();
            due_at.map(|text| sql::parse_time(&text)).transpose()
        })
        .await
    }
}
