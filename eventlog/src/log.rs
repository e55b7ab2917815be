//! The contract of the log: [`EventLog`].

use async_trait::async_trait;
use keyledger_schemas::envelope::{Hash, NewEvent, Position, Recorded, Version};
use keyledger_schemas::ids::{EventId, StreamId};
use tokio::sync::watch;
use uuid::Uuid;

use crate::state::{StateStore, StateWrite};

/// The end of the log: its last position and the chain value there. The empty log is `(0, [0; 32])`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The last position, 0 when the log is empty.
    pub position: Position,
    /// The chain value at that position.
    pub chain: Hash,
}

/// One append: all of it happens, or none.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// In this order, at consecutive positions. May be empty when only state is written.
    pub events: Vec<NewEvent>,
    /// The version a stream must have before this append; 0 for a stream without events.
    pub expected: Option<(StreamId, Version)>,
    /// State rows written in the same transaction.
    pub state: Vec<StateWrite>,
}

impl Append {
    /// An append of events alone, to any version.
    pub fn events(events: Vec<NewEvent>) -> Self {
        Self { events, ..Self::default() }
    }
}

/// What became of one event of an append that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is new and now stands here.
    Appended(Position),
    /// It was here already; nothing was written for it.
    Duplicate(Position),
}

impl Placed {
    /// Where the event stands.
    pub fn position(self) -> Position {
        match self {
            Self::Appended(position) | Self::Duplicate(position) => position,
        }
    }
}

/// Why an append did not happen. Nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Someone wrote to the stream first: read it again and decide again.
    #[error("stream `{stream}` is at version {actual}, not {expected}")]
    Conflict {
        /// The stream that was expected.
        stream: StreamId,
        /// The version the caller expected.
        expected: Version,
        /// The version it has.
        actual: Version,
    },
    /// A state row was not at the revision the caller expected: read it again and decide again.
    #[error("state `{namespace}/{key}` is at revision {actual}, not {expected}")]
    StaleState {
        /// The namespace of the row.
        namespace: String,
        /// The key of the row.
        key: String,
        /// The revision the caller expected, 0 for an absent row.
        expected: u64,
        /// The revision it has, 0 for an absent row.
        actual: u64,
    },
    /// The log holds this id with other bytes: a bug in the writer. Raise an alarm, do not retry.
    #[error("event id `{id}` is already used at position {position} with other content")]
    IdReused {
        /// The id offered.
        id: EventId,
        /// Where the other event stands.
        position: Position,
    },
    /// The log could not be reached or is shutting down; nothing was written, unless a commit had failed when it was
    /// closed. Try again later.
    #[error("the log is not available")]
    Unavailable(#[source] LogError),
}

/// Why events were not put back. Nothing of them was written.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The head is elsewhere, because someone appended or restored meanwhile: look again, and offer what follows it.
    #[error("position {offered} does not follow the head: the next one is {expected}")]
    NotNext {
        /// The position after the head.
        expected: Position,
        /// The first position offered.
        offered: Position,
    },
    /// These events are not the continuation of this log: they are another log's, or damaged. Do not retry.
    #[error("the event at position {position} cannot be put back: {reason}")]
    Broken {
        /// The first position that does not fit.
        position: Position,
        /// What is wrong with it.
        reason: String,
    },
    /// As [`AppendError::Unavailable`]: try again later.
    #[error("the log is not available")]
    Unavailable(#[source] LogError),
}

/// Why the log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database refused, or cannot be reached.
    #[error("the log's database failed")]
    Database(#[from] sqlx::Error),
    /// The database would not keep what it acknowledges, or is not a log of ours.
    #[error("unsafe log: {reason}")]
    Unsafe {
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// A stored row cannot be read back: the file was changed from outside, or is damaged.
    #[error("the event at position {position} is damaged: {reason}")]
    Damaged {
        /// The first position that cannot be read.
        position: Position,
        /// What is wrong with it.
        reason: String,
    },
    /// The writer task has stopped.
    #[error("the log is closed")]
    Closed,
}

/// The ordered, append-only home of all events. The only thing that must never be lost.
///
/// What every adapter promises, each held by a test in [`crate::conformance`]:
///
/// * **Durable.** When [`EventLog::append`] returns `Ok`, the events survive a power cut.
/// * **All or nothing.** The events and state rows of one [`Append`] are written together or not at all.
/// * **Gapless.** Positions are 1, 2, 3, … in commit order; an event is visible to every reader as soon as its
///   position is assigned, so a page after `p` never skips anything. So are versions within a stream.
/// * **Idempotent for ever.** An id already in the log is reported as [`Placed::Duplicate`] with its position and
///   written no second time, days later too. Other bytes under the id are [`AppendError::IdReused`], or a
///   duplicate where the event says [`keyledger_schemas::envelope::IdReuse::FirstWins`].
///   The same id twice within one append is a duplicate of the first.
/// * **Duplicates before versions.** An append whose events are all in the log already succeeds with their positions
///   whatever `expected` says, and writes no state: the transaction that wrote them wrote its state too.
/// * **Expected version.** Checked and written in one transaction, across processes.
/// * **Chained.** Each event carries [`Recorded::chain_after`] of its predecessor's chain value.
/// * **Known outcome.** When a commit's fate is unknown, the adapter looks the ids up before it answers.
///   [`AppendError::Unavailable`] means that nothing was written, but for one case: a commit failed, and the log was
///   closed before it could be looked up. Whoever asks again after the next start is told.
/// * **Many processes.** The head is read inside every append: a command-line verb is a second writer.
/// * **Restored exactly.** [`EventLog::restore`] puts back what another copy of this log recorded: row for row the same,
///   in the order of appends, and only where it continues the chain.
#[async_trait]
pub trait EventLog: StateStore {
    /// The id this log was given when it was made: a copy keeps it, another log has another.
    fn log_id(&self) -> Uuid;

    /// Appends. Concurrent calls are committed in groups.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]: on `Conflict` and `StaleState` read again and decide again; on `IdReused` raise an alarm;
    /// on `Unavailable` try again later.
    async fn append(&self, append: Append) -> Result<Vec<Placed>, AppendError>;

    /// Puts back `events` exactly as another copy of this log recorded them, with their positions, versions, times and
    /// chain values, and gives the new head. For a log that was restored from an old backup, and for moving one.
    ///
    /// # Errors
    ///
    /// See [`RestoreError`]: on `NotNext` look at the head again; on `Broken` ask a person; on `Unavailable` try again.
    async fn restore(&self, events: &[Recorded]) -> Result<Head, RestoreError>;

    /// Up to `limit` events after `after`, in order. A page may be shorter than `limit` though more follows, because
    /// its bytes are bounded too; only an empty one is the end.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`] names a position that cannot be read; everything else may be tried again.
    async fn read_after(&self, after: Position, limit: usize) -> Result<Vec<Recorded>, LogError>;

    /// Up to `limit` events of one stream after version `after`, in order. As with [`EventLog::read_after`], only an
    /// empty page is the end.
    ///
    /// # Errors
    ///
    /// As [`EventLog::read_after`].
    async fn read_stream(&self, stream: &StreamId, after: Version, limit: usize) -> Result<Vec<Recorded>, LogError>;

    /// The event with this id, if the log holds it.
    ///
    /// # Errors
    ///
    /// As [`EventLog::read_after`].
    async fn find(&self, id: &EventId) -> Result<Option<Recorded>, LogError>;

    /// The event at this position, if there is one.
    ///
    /// # Errors
    ///
    /// As [`EventLog::read_after`].
    async fn at(&self, position: Position) -> Result<Option<Recorded>, LogError> {
        let before = position.saturating_sub(1);
        Ok(self.read_after(before, 1).await?.pop().filter(|event| event.position == position))
    }

    /// The chain value at this position: of the event there, or of the empty log at 0. `None` beyond the head.
    ///
    /// # Errors
    ///
    /// As [`EventLog::read_after`].
    async fn chain_at(&self, position: Position) -> Result<Option<Hash>, LogError> {
        if position == 0 {
            return Ok(Some(Head::default().chain));
        }
        Ok(self.at(position).await?.map(|event| event.chain))
    }

    /// The end of the log as committed now.
    ///
    /// # Errors
    ///
    /// As [`EventLog::read_after`].
    async fn head(&self) -> Result<Head, LogError>;

    /// A hint that the log grew: the value is the newest position this process knows of. Appends by other processes
    /// do not show here, so a reader polls as well.
    fn wake(&self) -> watch::Receiver<Position>;

    /// Takes no more appends, finishes those it has, and lets go of the database. Every clone is closed with it.
    async fn close(&self);
}
