//! State rows beside the log: the issuer's purchases, links, checkpoints, leases.
//!
//! A small key-value table in the log's own database, so that an outcome event, the state it changes and the cursor
//! that read its cause can be written in **one** transaction (see [`crate::log::Append::state`]). Rows are derived:
//! what can be rebuilt from the log may be deleted; leases and checkpoints cost only repeated work.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::log::LogError;

/// One state row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRow {
    /// What kind of thing it is.
    pub namespace: String,
    /// Which one. Sorted bytewise within its namespace.
    pub key: String,
    /// What is known, usually JSON.
    pub value: Vec<u8>,
    /// When it wants attention next, if ever.
    pub due_at: Option<Timestamp>,
    /// Counts writes to the key, from 1; from 1 again for a row put after a delete.
    pub revision: u64,
}

/// One write, in the transaction of the append that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    /// What kind of thing it is.
    pub namespace: String,
    /// Which one.
    pub key: String,
    /// The revision the row must have before: `Some(0)` for an absent row, `None` for whatever it has.
    pub expected: Option<u64>,
    /// What to do.
    pub change: StateChange,
}

/// What a [`StateWrite`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// Insert or replace the row.
    Put {
        /// What is known.
        value: Vec<u8>,
        /// When it wants attention next.
        due_at: Option<Timestamp>,
    },
    /// Remove the row, if it is there.
    Delete,
    /// Change nothing; only the expectation matters (a lease's epoch).
    Check,
}

/// Reading state rows. Writing goes through [`crate::log::EventLog::append`] alone.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// The row, if it is there.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    async fn state(&self, namespace: &str, key: &str) -> Result<Option<StateRow>, LogError>;

    /// Up to `limit` rows whose key starts with `prefix` and is greater than `after`, by key.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    async fn state_scan(
        &self,
        namespace: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<StateRow>, LogError>;

    /// Up to `limit` rows with `due_at <= now`, the longest due first.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    async fn state_due(&self, namespace: &str, now: Timestamp, limit: usize) -> Result<Vec<StateRow>, LogError>;

    /// How many rows have `due_at <= now`.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    async fn state_due_count(&self, namespace: &str, now: Timestamp) -> Result<u64, LogError>;

    /// The earliest `due_at` of the namespace, past or future.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    async fn state_next_due(&self, namespace: &str) -> Result<Option<Timestamp>, LogError>;
}
