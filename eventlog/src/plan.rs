//! What an append does to a log, decided without touching it: the rules every adapter shares.
//!
//! An adapter opens its transaction, fills [`Known`] with what [`Needs`] asks for, lets [`plan`] or
//! [`crate::restore::plan`] decide, and writes the [`Plan`] as it is. Neither SQL nor time of day is known here.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use keyledger_schemas::envelope::{Hash, IdReuse, NewEvent, Position, Recorded, Version, content_hash};
use keyledger_schemas::ids::{EventId, StreamId};

use crate::log::{Append, AppendError, Head, Placed};
use crate::state::{StateChange, StateRow, StateWrite};

/// A row's place in the state table: namespace and key.
pub type StateKey = (String, String);

/// What has been read from the log within the open transaction, kept up to date with what was planned in it.
#[derive(Debug, Default)]
pub struct Known {
    /// The end of the log.
    pub head: Head,
    /// Where an id stands and the hash of its bytes; `None` when the log does not hold it.
    pub ids: HashMap<EventId, Option<(Position, Hash)>>,
    /// The version each stream has.
    pub versions: HashMap<StreamId, Version>,
    /// The revision each state row has; 0 for an absent one.
    pub revisions: HashMap<StateKey, u64>,
}

impl Known {
    /// A view of a log that ends at `head`, and of which nothing else has been read.
    pub fn at(head: Head) -> Self {
        Self { head, ..Self::default() }
    }
}

/// What must be read from the log before something can be planned.
#[derive(Debug, Default)]
pub struct Needs {
    /// Events that may be there.
    pub ids: BTreeSet<EventId>,
    /// Streams whose version counts.
    pub streams: BTreeSet<StreamId>,
    /// State rows whose revision counts.
    pub rows: BTreeSet<StateKey>,
}

impl Needs {
    /// Adds what planning `append` takes.
    pub fn of_append(&mut self, append: &Append) {
        self.ids.extend(append.events.iter().map(|event| event.id.clone()));
        self.streams.extend(append.events.iter().map(|event| event.stream.clone()));
        self.streams.extend(append.expected.iter().map(|(stream, _)| stream.clone()));
        self.rows.extend(append.state.iter().map(key_of));
    }

    /// Adds what planning to put back `events` takes.
    pub fn of_restore(&mut self, events: &[Recorded]) {
        self.ids.extend(events.iter().map(|event| event.id.clone()));
        self.streams.extend(events.iter().map(|event| event.stream.clone()));
    }
}

/// What to write for one append, in this order, and what to answer once it is committed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What became of each event, in the order of the append.
    pub placed: Vec<Placed>,
    /// The new rows of the log.
    pub events: Vec<Recorded>,
    /// The state rows to put or to delete.
    pub state: Vec<RowChange>,
}

impl Plan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.state.is_empty()
    }
}

/// One change of the state table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// Insert or replace the row.
    Put(StateRow),
    /// Remove the row, if it is there.
    Delete(StateKey),
}

/// Decides what `append` writes, and notes it in `known`, so that the next append of the same transaction builds on it.
///
/// The order is the contract's: duplicates, then the expected version, then the state rows.
///
/// # Errors
///
/// `IdReused`, `Conflict` and `StaleState` as [`crate::log::EventLog::append`] describes them; `known` is then unchanged.
pub fn plan(append: &Append, known: &mut Known, now: Timestamp) -> Result<Plan, AppendError> {
    let placed = place(append, known)?;
    let already_written = !placed.is_empty() && placed.iter().all(|(place, _)| matches!(place, Placed::Duplicate(_)));
    if already_written {
        return Ok(Plan { placed: without_hashes(&placed), ..Plan::default() });
    }
    check_version(append, known)?;
    let (state, revisions) = plan_state(append, known)?;

    // Nothing can fail from here on.
    known.revisions.extend(revisions);
    let mut events = Vec::with_capacity(placed.len());
    for (event, (place, hash)) in append.events.iter().zip(&placed) {
        if let Placed::Appended(position) = place {
            events.push(record(event, *position, *hash, known, now));
        }
    }
    Ok(Plan { placed: without_hashes(&placed), events, state })
}

fn without_hashes(placed: &[(Placed, Hash)]) -> Vec<Placed> {
    placed.iter().map(|(place, _)| *place).collect()
}

/// Gives every event its position: the one it has already, or the next free one; with it the hash of its data.
fn place(append: &Append, known: &Known) -> Result<Vec<(Placed, Hash)>, AppendError> {
    let mut fresh: HashMap<&EventId, (Position, Hash)> = HashMap::new();
    let mut placed = Vec::with_capacity(append.events.len());
    let mut next = known.head.position + 1;
    for event in &append.events {
        let hash = content_hash(&event.data);
        let there = known.ids.get(&event.id).copied().flatten().or_else(|| fresh.get(&event.id).copied());
        if let Some((position, first_hash)) = there {
            if first_hash != hash && event.on_reuse == IdReuse::Refused {
                return Err(AppendError::IdReused { id: event.id.clone(), position });
            }
            placed.push((Placed::Duplicate(position), hash));
        } else {
            fresh.insert(&event.id, (next, hash));
            placed.push((Placed::Appended(next), hash));
            next += 1;
        }
    }
    Ok(placed)
}

fn check_version(append: &Append, known: &Known) -> Result<(), AppendError> {
    let Some((stream, expected)) = &append.expected else { return Ok(()) };
    let actual = known.versions.get(stream).copied().unwrap_or(0);
    if actual == *expected {
        return Ok(());
    }
    Err(AppendError::Conflict { stream: stream.clone(), expected: *expected, actual })
}

/// Walks the state writes in order; a later write to a key sees the revision an earlier one left.
fn plan_state(append: &Append, known: &Known) -> Result<(Vec<RowChange>, HashMap<StateKey, u64>), AppendError> {
    let mut changes = Vec::new();
    let mut revisions: HashMap<StateKey, u64> = HashMap::new();
    for write in &append.state {
        let key = key_of(write);
        let actual = revisions.get(&key).or_else(|| known.revisions.get(&key)).copied().unwrap_or(0);
        if let Some(expected) = write.expected
            && expected != actual
        {
            return Err(AppendError::StaleState { namespace: key.0, key: key.1, expected, actual });
        }
        match &write.change {
            StateChange::Check => {}
            StateChange::Delete => {
                changes.push(RowChange::Delete(key.clone()));
                revisions.insert(key, 0);
            }
            StateChange::Put { value, due_at } => {
                let revision = actual + 1;
                changes.push(RowChange::Put(StateRow {
                    namespace: key.0.clone(),
                    key: key.1.clone(),
                    value: value.clone(),
                    due_at: *due_at,
                    revision,
                }));
                revisions.insert(key, revision);
            }
        }
    }
    Ok((changes, revisions))
}

/// The row of a new event: the next version of its stream, chained to the head, which it becomes.
fn record(event: &NewEvent, position: Position, content_hash: Hash, known: &mut Known, now: Timestamp) -> Recorded {
    let version = known.versions.entry(event.stream.clone()).or_insert(0);
    *version += 1;
    let mut recorded = Recorded {
        position,
        id: event.id.clone(),
        kind: event.kind.clone(),
        scope: event.scope.clone(),
        stream: event.stream.clone(),
        version: *version,
        occurred_at: event.occurred_at,
        recorded_at: now,
        causation_id: event.causation_id.clone(),
        correlation_id: event.correlation_id.clone(),
        schema_version: event.schema_version,
        actor: event.actor.clone(),
        partition: event.partition,
        delivery: event.delivery.clone(),
        data: event.data.clone(),
        content_hash,
        chain: Hash::default(),
        key_id: None,
    };
    recorded.chain = recorded.chain_after(&known.head.chain);
    known.head = Head { position, chain: recorded.chain };
    known.ids.insert(recorded.id.clone(), Some((position, recorded.content_hash)));
    recorded
}

fn key_of(write: &StateWrite) -> StateKey {
    (write.namespace.clone(), write.key.clone())
}
