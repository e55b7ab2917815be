//! The log in memory: [`MemoryLog`], for tests. It keeps every promise but durability.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::{Position, Recorded, Version};
use keyledger_schemas::ids::{EventId, StreamId};
use tokio::sync::watch;
use uuid::Uuid;

use crate::log::{Append, AppendError, EventLog, Head, LogError, Placed, RestoreError};
use crate::plan::{Known, Needs, RowChange, StateKey, plan};
use crate::restore;
use crate::state::{StateRow, StateStore};

/// A log in memory. Clones are the same log.
#[derive(Clone)]
pub struct MemoryLog {
    log_id: Uuid,
    store: Arc<Mutex<Store>>,
    clock: Arc<dyn Clock>,
    wake: watch::Sender<Position>,
    closed: Arc<AtomicBool>,
}

#[derive(Default)]
struct Store {
    events: Vec<Recorded>,
    ids: HashMap<EventId, usize>,
    streams: HashMap<StreamId, Vec<usize>>,
    state: BTreeMap<StateKey, StateRow>,
}

impl MemoryLog {
    /// An empty log that takes its time from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        // It lives no longer than the process, in which it needs an id of its own.
        static MADE: AtomicU64 = AtomicU64::new(1);
        Self::with_id(Uuid::from_u128(MADE.fetch_add(1, Ordering::SeqCst).into()), clock)
    }

    /// An empty log with the id of another: what a copy of that one is restored to.
    pub fn with_id(log_id: Uuid, clock: Arc<dyn Clock>) -> Self {
        Self { log_id, store: Arc::default(), clock, wake: watch::Sender::new(0), closed: Arc::default() }
    }

    /// Another handle on the same events and state, as another process would have: it has a wake-up hint of its own,
    /// and stays open when this one is closed.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let newest = self.lock().head().position;
        let store = Arc::clone(&self.store);
        let clock = Arc::clone(&self.clock);
        Self { log_id: self.log_id, store, clock, wake: watch::Sender::new(newest), closed: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> Result<MutexGuard<'_, Store>, LogError> {
        if self.closed.load(Ordering::SeqCst) { Err(LogError::Closed) } else { Ok(self.lock()) }
    }

    fn woken(&self, head: Head) {
        self.wake.send_if_modified(|newest| {
            let grew = head.position > *newest;
            *newest = head.position.max(*newest);
            grew
        });
    }
}

impl Store {
    fn head(&self) -> Head {
        self.events.last().map_or_else(Head::default, |event| Head { position: event.position, chain: event.chain })
    }

    fn known(&self, needs: Needs) -> Known {
        let mut known = Known::at(self.head());
        for id in needs.ids {
            let place = self.ids.get(&id).map(|index| &self.events[*index]);
            known.ids.insert(id, place.map(|event| (event.position, event.content_hash)));
        }
        for stream in needs.streams {
            let version = self.streams.get(&stream).map_or(0, |events| events.len() as u64);
            known.versions.insert(stream, version);
        }
        for key in needs.rows {
            let revision = self.state.get(&key).map_or(0, |row| row.revision);
            known.revisions.insert(key, revision);
        }
        known
    }

    fn write(&mut self, event: Recorded) {
        let index = self.events.len();
        self.ids.insert(event.id.clone(), index);
        self.streams.entry(event.stream.clone()).or_default().push(index);
        self.events.push(event);
    }

    fn change(&mut self, change: RowChange) {
        match change {
            RowChange::Put(row) => {
                self.state.insert((row.namespace.clone(), row.key.clone()), row);
            }
            RowChange::Delete(key) => {
                self.state.remove(&key);
            }
        }
    }

    fn namespace(&self, namespace: &str) -> impl Iterator<Item = &StateRow> {
        let first = (namespace.to_owned(), String::new());
        self.state.range(first..).map(|(_, row)| row).take_while(move |row| row.namespace == namespace)
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn log_id(&self) -> Uuid {
        self.log_id
    }

    async fn append(&self, append: Append) -> Result<Vec<Placed>, AppendError> {
        let mut store = self.opened().map_err(AppendError::Unavailable)?;
        let mut needs = Needs::default();
        needs.of_append(&append);
        let mut known = store.known(needs);
        let plan = plan(&append, &mut known, self.clock.now())?;
        plan.events.into_iter().for_each(|event| store.write(event));
        plan.state.into_iter().for_each(|change| store.change(change));
        drop(store);
        self.woken(known.head);
        Ok(plan.placed)
    }

    async fn restore(&self, events: &[Recorded]) -> Result<Head, RestoreError> {
        let mut store = self.opened().map_err(RestoreError::Unavailable)?;
        let mut needs = Needs::default();
        needs.of_restore(events);
        let mut known = store.known(needs);
        let plan = restore::plan(events, &mut known)?;
        plan.events.into_iter().for_each(|event| store.write(event));
        drop(store);
        self.woken(known.head);
        Ok(known.head)
    }

    async fn read_after(&self, after: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        Ok(self.opened()?.events.iter().skip(skip).take(limit).cloned().collect())
    }

    async fn read_stream(&self, stream: &StreamId, after: Version, limit: usize) -> Result<Vec<Recorded>, LogError> {
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        let store = self.opened()?;
        let indices = store.streams.get(stream).into_iter().flatten().skip(skip).take(limit);
        Ok(indices.map(|index| store.events[*index].clone()).collect())
    }

    async fn find(&self, id: &EventId) -> Result<Option<Recorded>, LogError> {
        let store = self.opened()?;
        Ok(store.ids.get(id).map(|index| store.events[*index].clone()))
    }

    async fn head(&self) -> Result<Head, LogError> {
        Ok(self.opened()?.head())
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.wake.subscribe()
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl StateStore for MemoryLog {
    async fn state(&self, namespace: &str, key: &str) -> Result<Option<StateRow>, LogError> {
        Ok(self.opened()?.state.get(&(namespace.to_owned(), key.to_owned())).cloned())
    }

    async fn state_scan(
        &self,
        namespace: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<StateRow>, LogError> {
        let store = self.opened()?;
        let rows = store.namespace(namespace).filter(|row| row.key.starts_with(prefix) && row.key.as_str() > after);
        Ok(rows.take(limit).cloned().collect())
    }

    async fn state_due(&self, namespace: &str, now: Timestamp, limit: usize) -> Result<Vec<StateRow>, LogError> {
        let store = self.opened()?;
        let mut due: Vec<&StateRow> = store.namespace(namespace).filter(|row| is_due(row, now)).collect();
        due.sort_by(|a, b| (a.due_at, &a.key).cmp(&(b.due_at, &b.key)));
        Ok(due.into_iter().take(limit).cloned().collect())
    }

    async fn state_due_count(&self, namespace: &str, now: Timestamp) -> Result<u64, LogError> {
        Ok(self.opened()?.namespace(namespace).filter(|row| is_due(row, now)).count() as u64)
    }

    async fn state_next_due(&self, namespace: &str) -> Result<Option<Timestamp>, LogError> {
        Ok(self.opened()?.namespace(namespace).filter_map(|row| row.due_at).min())
    }
}

fn is_due(row: &StateRow, now: Timestamp) -> bool {
    row.due_at.is_some_and(|due_at| due_at <= now)
}
