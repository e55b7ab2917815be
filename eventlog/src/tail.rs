//! What consumers read: [`Tail`]. Positions are the log's, so a checkpoint is valid on every tail.

use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::envelope::{Position, Recorded};

use crate::log::{Head, LogError};

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
