//! The one loop that reads the log: [`Consumer`]. Production runs it until told to stop, tests until it is idle.

use async_trait::async_trait;
use keyledger_schemas::envelope::{Hash, Position, Recorded};

/// How far a consumer has come: the last position it fully handled, and the chain value there.
///
/// The pair must be in the log; a consumer whose pair is not was fed from another log, or the log was restored from
/// an older backup, and must rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last position fully handled; 0 for none.
    pub position: Position,
    /// The chain value at that position.
    pub chain: Hash,
}

/// Why a batch was not handled.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// Nothing was written; the same batch is offered again after a delay from the table.
    #[error("cannot handle position {position} now")]
    Retry {
        /// The position that could not be handled.
        position: Position,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This one event can never be handled: set it aside with a reason a person sees, and go on.
    #[error("cannot ever handle position {position}: {reason}")]
    Park {
        /// The position to set aside. Everything before it in the batch has been handled and checkpointed.
        position: Position,
        /// The reason a person will read.
        reason: String,
    },
    /// The checkpoint was moved by someone else: load it and go on from there.
    #[error("the checkpoint was moved by another process")]
    Moved,
    /// A broken invariant: stop the role loudly.
    #[error("the consumer must stop")]
    Fatal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a consumer does with events. Delivery is at least once: every handler is safe to run again.
#[async_trait]
pub trait Handler: Send + 'static {
    /// A stable name: names the checkpoint, the metrics and the log lines.
    fn name(&self) -> &'static str;

    /// Where it stands, from its own database.
    ///
    /// # Errors
    ///
    /// [`HandleError::Retry`] when the database cannot be reached.
    async fn checkpoint(&mut self) -> Result<Checkpoint, HandleError>;

    /// Handles `batch` (never empty, in order, starting right after `from`) and moves the checkpoint from `from` to the
    /// end of the batch by compare-and-set, all in one transaction.
    ///
    /// # Errors
    ///
    /// See [`HandleError`].
    async fn handle(&mut self, batch: &[Recorded], from: Checkpoint) -> Result<(), HandleError>;

    /// Sets one event aside with a reason, and moves the checkpoint from `from` past it, in one transaction.
    ///
    /// # Errors
    ///
    /// See [`HandleError`]; `Park` is not expected here.
    async fn park(&mut self, event: &Recorded, reason: &str, from: Checkpoint) -> Result<(), HandleError>;

    /// Work that time has made due, apart from events. Called between batches and when idle.
    /// Says whether it did anything.
    ///
    /// # Errors
    ///
    /// See [`HandleError`].
    async fn tick(&mut self) -> Result<bool, HandleError> {
        Ok(false)
    }
}
