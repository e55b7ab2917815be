//! What consumers read: [`Tail`]. Positions are the log's, so a checkpoint is valid on every tail.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::envelope::{Position, Recorded};
use tokio::time::Instant;

use crate::log::{EventLog, Head, LogError};

/// The log as a consumer follows it. [`SqlTail`] pages the database; another may follow a mirror.
///
/// What every tail promises, each held by a test in [`crate::conformance`]: events come in order and without gaps
/// from `after + 1`; nothing is skipped, whoever appends; at the end it waits up to `wait` for more and then
/// answers with an empty page; it holds no position of its own, so a consumer may ask again from anywhere.
#[async_trait]
pub trait Tail: Send + Sync + 'static {
    /// Up to `limit` events after `after`, waiting up to `wait` when there are none yet.
    ///
    /// # Errors
    ///
    /// As [`crate::log::EventLog::read_after`].
    async fn next_after(&self, after: Position, limit: usize, wait: Duration) -> Result<Vec<Recorded>, LogError>;

    /// The end of the log as this tail sees it.
    ///
    /// # Errors
    ///
    /// As [`crate::log::EventLog::head`].
    async fn head(&self) -> Result<Head, LogError>;
}

/// How often [`SqlTail`] looks for events of other processes when nothing wakes it.
pub const POLL: Duration = Duration::from_millis(250);

/// Follows the log by paging its database: woken at once by appends of this process, and within a poll interval by
/// those of others.
#[derive(Clone)]
pub struct SqlTail {
    log: Arc<dyn EventLog>,
    poll: Duration,
}

impl SqlTail {
    /// Follows `log`, polling every [`POLL`].
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self::polling(log, POLL)
    }

    /// Follows `log`, polling every `poll`.
    pub fn polling(log: Arc<dyn EventLog>, poll: Duration) -> Self {
        Self { log, poll }
    }
}

#[async_trait]
impl Tail for SqlTail {
    async fn next_after(&self, after: Position, limit: usize, wait: Duration) -> Result<Vec<Recorded>, LogError> {
        let mut wake = self.log.wake();
        // A wait too long to add up never ends by itself; the poll still does.
        let deadline = Instant::now().checked_add(wait);
        loop {
            // Marked as seen before the read, so that an append in between wakes the wait below.
            wake.borrow_and_update();
            let page = self.log.read_after(after, limit).await?;
            let left = deadline.map_or(self.poll, |deadline| deadline.saturating_duration_since(Instant::now()));
            if !page.is_empty() || limit == 0 || left.is_zero() {
                return Ok(page);
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(self.poll)) => {}
                // Without a writer there is no hint any more, and the poll alone is left.
                Ok(()) = wake.changed() => {}
            }
        }
    }

    async fn head(&self) -> Result<Head, LogError> {
        self.log.head().await
    }
}
