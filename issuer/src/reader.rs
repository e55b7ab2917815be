//! Reading the log: Stripe's facts and people's requests into purchase state. Calls nobody and issues nothing.

use std::sync::Arc;

use async_trait::async_trait;
use keyledger_eventlog::checkpoint::Cursor;
use keyledger_eventlog::consumer::{Checkpoint, HandleError, Handler};
use keyledger_eventlog::log::{Append, AppendError, EventLog};
use keyledger_eventlog::state::{StateChange, StateWrite};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::event::Event;
use keyledger_schemas::ids::PurchaseId;
use keyledger_schemas::settings::DecidingSettings;
use keyledger_schemas::stripe;
use tokio::sync::Notify;
use tracing::warn;

use crate::desk::WorkError;
use crate::engines::Engines;
use crate::fence::Fence;
use crate::purchase::evolve::evolve;
use crate::purchase::owed::next_due;
use crate::routing;
use crate::store::{self, SETTINGS, SWEEP, StoreError, Sweep, WorkingSet};

/// The name of the issuer's checkpoint.
pub const NAME: &str = "issuer";

/// Events set aside, by position.
pub const PARKED: &str = "issuer.parked";

/// How often parts of a batch are folded again at once after the worker changed a purchase under them.
const AGAIN_MAX: usize = 200;

/// The handler that folds the log into purchase state.
pub struct Reader {
    /// The log, and the state beside it.
    pub(crate) log: Arc<dyn EventLog>,
    /// Where it reads the time.
    pub(crate) clock: Arc<dyn Clock>,
    /// What the engines can do.
    pub(crate) engines: Arc<Engines>,
    /// Proves that this process is still the one issuer.
    pub(crate) fence: Fence,
    /// Wakes the worker when something may be due.
    pub(crate) due: Arc<Notify>,
}

#[async_trait]
impl Handler for Reader {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn checkpoint(&mut self) -> Result<Checkpoint, HandleError> {
        let cursor = Cursor::load(&*self.log, NAME).await.map_err(|error| retry(0, error))?;
        Ok(cursor.checkpoint())
    }

    async fn handle(&mut self, batch: &[Recorded], mut from: Checkpoint) -> Result<(), HandleError> {
        let (mut rest, mut size) = (batch, batch.len());
        let mut stale = 0;
        while let Some(first) = rest.first() {
            let part = &rest[..size.min(rest.len())];
            match self.fold(part, from).await? {
                Ok(()) => {
                    if let Some(last) = part.last() {
                        from = Checkpoint { position: last.position, chain: last.chain };
                    }
                    rest = &rest[part.len()..];
                }
                // The worker changed a purchase meanwhile: fold less at a time, so that one event always gets through.
                Err(error @ AppendError::StaleState { .. }) if !self.fence.is_lost(&error) && stale < AGAIN_MAX => {
                    stale += 1;
                    size = (size / 2).max(1);
                }
                Err(error @ (AppendError::Unavailable(_) | AppendError::StaleState { .. }))
                    if !self.fence.is_lost(&error) =>
                {
                    return Err(retry(first.position, error));
                }
                Err(error) => return Err(self.refused(error)),
            }
        }
        self.due.notify_one();
        Ok(())
    }

    async fn park(&mut self, event: &Recorded, reason: &str, from: Checkpoint) -> Result<(), HandleError> {
        let cursor = Cursor::load(&*self.log, NAME).await.map_err(|error| retry(event.position, error))?;
        if cursor.checkpoint() != from {
            return Err(HandleError::Moved);
        }
        let parked = StateWrite {
            namespace: PARKED.to_owned(),
            key: format!("{:020}", event.position),
            expected: None,
            change: StateChange::Put { value: store::encode(&reason), due_at: None },
        };
        let to = Checkpoint { position: event.position, chain: event.chain };
        let state = self.fence.guarded(vec![cursor.write(to), parked]);
        match self.log.append(Append { state, ..Append::default() }).await {
            Ok(_) => Ok(()),
            Err(error @ AppendError::Unavailable(_)) => Err(retry(event.position, error)),
            Err(error) => Err(self.refused(error)),
        }
    }
}

impl Reader {
    /// Why nothing can be recorded any more: another issuer took over, or a bug.
    fn refused(&self, error: AppendError) -> HandleError {
        if self.fence.is_lost(&error) {
            return HandleError::Fatal(Box::new(WorkError::Fenced));
        }
        HandleError::Fatal(Box::new(error))
    }

    /// Folds the batch and moves the checkpoint, in one append.
    async fn fold(&self, batch: &[Recorded], from: Checkpoint) -> Result<Result<(), AppendError>, HandleError> {
        let first = batch.first().map_or(from.position, |event| event.position);
        let cursor = Cursor::load(&*self.log, NAME).await.map_err(|error| retry(first, error))?;
        if cursor.checkpoint() != from {
            return Err(HandleError::Moved);
        }
        let mut set = WorkingSet::new(self.log.clone());
        let mut settings = store::settings(&*self.log).await.map_err(|error| retry(first, error))?;
        let mut sweep = false;
        let mut to = from;
        for event in batch {
            match self.take(&mut set, event, &mut settings).await {
                Ok(wide) => sweep |= wide,
                // What came before it in the batch is handled first; then it is offered again alone and parked.
                Err(Taken::Damaged(reason)) if to == from => {
                    return Err(HandleError::Park { position: event.position, reason });
                }
                Err(Taken::Damaged(_)) => break,
                Err(Taken::Store(error)) => return Err(retry(event.position, error)),
            }
            to = Checkpoint { position: event.position, chain: event.chain };
        }
        if to.position != batch.last().map_or(from.position, |event| event.position) {
            return self.fold_until(batch, from, to).await;
        }
        self.set_due(&mut set, &settings).await.map_err(|error| retry(first, error))?;
        if sweep {
            set.write(self.order_sweep().await.map_err(|error| retry(first, error))?);
        }
        let mut state = self.fence.guarded(vec![cursor.write(to)]);
        state.extend(set.into_writes(self.clock.now()));
        Ok(self.log.append(Append { state, ..Append::default() }).await.map(|_| ()))
    }

    /// Folds only the events before one that is damaged, then says which one that is.
    async fn fold_until(
        &self,
        batch: &[Recorded],
        from: Checkpoint,
        to: Checkpoint,
    ) -> Result<Result<(), AppendError>, HandleError> {
        let sound = batch.iter().take_while(|event| event.position <= to.position).count();
        let folded = Box::pin(self.fold(&batch[..sound], from)).await?;
        let position = batch.get(sound).map_or(to.position, |event| event.position);
        match folded {
            Ok(()) => Err(HandleError::Park { position, reason: "the event cannot be read by this build".to_owned() }),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Takes one event. Says whether every purchase must be looked at again.
    async fn take(
        &self,
        set: &mut WorkingSet,
        event: &Recorded,
        settings: &mut DecidingSettings,
    ) -> Result<bool, Taken> {
        if event.is_stripe() {
            let now = self.clock.now();
            return Ok(routing::take(set, event, stripe::facts(&event.data), settings, now).await?);
        }
        let decoded = Event::decode(&event.kind, &event.data).map_err(|error| Taken::Damaged(error.to_string()))?;
        match decoded {
            Some(Event::SettingsChanged(changed)) => {
                *settings = changed.settings;
                set.write(StateWrite {
                    namespace: SETTINGS.to_owned(),
                    key: "current".to_owned(),
                    expected: None,
                    change: StateChange::Put { value: store::encode(settings), due_at: None },
                });
                Ok(true)
            }
            // Most of these were folded when they were appended; those of a rebuild were not.
            Some(Event::CustomerLinked(link)) => {
                set.customer(&event.scope, &link.customer).await?.link(&link, event.occurred_at);
                Ok(false)
            }
            Some(Event::CustomerSynced(synced)) => {
                set.customer(&event.scope, &synced.customer).await?.synced(&synced);
                Ok(false)
            }
            Some(own) => {
                let Some(id) = PurchaseId::of_stream(&event.stream) else { return Ok(false) };
                let purchase = set.purchase(&id).await?;
                // Most of these were folded when they were appended; those of people and of a rebuild were not.
                if event.version == purchase.version + 1 {
                    let folded = evolve(purchase.clone(), &own, event.occurred_at);
                    *purchase = folded;
                    purchase.version = event.version;
                } else if event.version > purchase.version {
                    // An event before it could not be read: the worker reads the stream itself.
                    warn!(stream.id = %event.stream, position = event.position, "a purchase's own events have a gap");
                    set.touch(&id, self.clock.now()).await?;
                }
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Has every purchase looked at again. A sweep under way goes on, and starts over once it is through.
    async fn order_sweep(&self) -> Result<StateWrite, StoreError> {
        let row = self.log.state(SWEEP, "all").await?;
        let sweep = match &row {
            Some(row) => Sweep { again: true, ..store::decode(row)? },
            None => Sweep::default(),
        };
        Ok(StateWrite {
            namespace: SWEEP.to_owned(),
            key: "all".to_owned(),
            expected: Some(row.map_or(0, |row| row.revision)),
            change: StateChange::Put { value: store::encode(&sweep), due_at: Some(self.clock.now()) },
        })
    }

    async fn set_due(&self, set: &mut WorkingSet, settings: &DecidingSettings) -> Result<(), StoreError> {
        let now = self.clock.now();
        for id in set.changed_purchases() {
            let purchase = set.purchase(&id).await?.clone();
            let context = set.context_of(&purchase, settings.clone(), &self.engines).await?;
            let due_at = next_due(&purchase, &context, now);
            set.set_due(&id, due_at);
        }
        Ok(())
    }
}

/// Why an event was not taken.
enum Taken {
    /// The state could not be read.
    Store(StoreError),
    /// The event's bytes are not what its kind promises.
    Damaged(String),
}

impl From<StoreError> for Taken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn retry(position: u64, source: impl std::error::Error + Send + Sync + 'static) -> HandleError {
    HandleError::Retry { position, source: Box::new(source) }
}
