//! Checkpoints of handlers that keep theirs in the log's own state rows: [`Cursor`].
//!
//! The write goes into the same append as what was handled, so both happen or neither. Not for views: those keep
//! their checkpoint in the database they are in.

use keyledger_schemas::envelope::{Hash, Position};

use crate::consumer::Checkpoint;
use crate::log::LogError;
use crate::state::{StateChange, StateStore, StateWrite};

/// The namespace of the rows. The key is the consumer's name.
pub const CHECKPOINTS: &str = "checkpoint";

/// A stored checkpoint, and the revision that guards it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    name: String,
    checkpoint: Checkpoint,
    revision: u64,
}

impl Cursor {
    /// Reads the checkpoint of `name`; the start of the log when there is none.
    ///
    /// # Errors
    ///
    /// [`LogError::Unsafe`] when the row is not a checkpoint; otherwise as [`StateStore::state`].
    pub async fn load<S: StateStore + ?Sized>(store: &S, name: &str) -> Result<Self, LogError> {
        let Some(row) = store.state(CHECKPOINTS, name).await? else {
            return Ok(Self { name: name.to_owned(), checkpoint: Checkpoint::default(), revision: 0 });
        };
        let checkpoint = decode(&row.value).ok_or_else(|| LogError::Unsafe {
            reason: format!("state `{CHECKPOINTS}/{name}` is not a checkpoint; delete the row to start over"),
        })?;
        Ok(Self { name: name.to_owned(), checkpoint, revision: row.revision })
    }

    /// Where the consumer stands.
    pub fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// The write that moves it from where it stands to `to`, refused as stale when someone else moved it first.
    pub fn write(&self, to: Checkpoint) -> StateWrite {
        StateWrite {
            namespace: CHECKPOINTS.to_owned(),
            key: self.name.clone(),
            expected: Some(self.revision),
            change: StateChange::Put { value: encode(to), due_at: None },
        }
    }

    /// Notes that the append with [`Cursor::write`] succeeded.
    pub fn moved(&mut self, to: Checkpoint) {
        self.checkpoint = to;
        self.revision += 1;
    }
}

/// The bytes of a stored checkpoint: the position, 8 bytes big-endian, then the chain value.
pub fn encode(checkpoint: Checkpoint) -> Vec<u8> {
    [&checkpoint.position.to_be_bytes()[..], &checkpoint.chain[..]].concat()
}

/// The checkpoint of [`encode`]d bytes; `None` when they are not one.
pub fn decode(bytes: &[u8]) -> Option<Checkpoint> {
    let (position, chain) = bytes.split_first_chunk()?;
    let chain = Hash::try_from(chain).ok()?;
    Some(Checkpoint { position: Position::from_be_bytes(*position), chain })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use keyledger_schemas::clock::ManualClock;

    use super::*;
    use crate::log::{Append, AppendError, EventLog};
    use crate::memory::MemoryLog;

    #[test]
    fn a_checkpoint_reads_back_and_other_bytes_do_not() {
        let checkpoint = Checkpoint { position: 7, chain: [9; 32] };
        assert_eq!(decode(&encode(checkpoint)), Some(checkpoint));
        assert_eq!(decode(&encode(checkpoint)[1..]), None);
        assert_eq!(decode(b""), None);
    }

    #[tokio::test]
    async fn the_second_of_two_movers_is_refused() {
        let log = MemoryLog::new(Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
        let mut first = Cursor::load(&log, "issuer").await.unwrap();
        let second = first.clone();
        let to = Checkpoint { position: 1, chain: [1; 32] };

        log.append(Append { state: vec![first.write(to)], ..Append::default() }).await.unwrap();
        first.moved(to);
        assert_eq!(Cursor::load(&log, "issuer").await.unwrap(), first);

        let refused = log.append(Append { state: vec![second.write(to)], ..Append::default() }).await;
        assert!(matches!(refused, Err(AppendError::StaleState { expected: 0, actual: 1, .. })), "{refused:?}");
    }
}
