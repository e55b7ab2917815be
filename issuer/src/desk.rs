//! Loading a purchase with all that decisions need, and recording what was decided: one transaction each.

use std::sync::Arc;

use jiff::Timestamp;
use keyledger_eventlog::log::{Append, AppendError, EventLog, LogError, Placed};
use keyledger_eventlog::state::{StateChange, StateWrite};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::{IdReuse, NewEvent, derived_id, partition_of};
use keyledger_schemas::event::{CustomerLinked, Event};
use keyledger_schemas::ids::{EventId, PurchaseId, StreamId};
use tracing::{debug, info};

use crate::customer::{self, CustomerRow};
use crate::engines::Engines;
use crate::fence::Fence;
use crate::purchase::Purchase;
use crate::purchase::desired::Context;
use crate::purchase::evolve::evolve;
use crate::purchase::owed::next_due;
use crate::store::{self, PURCHASES, StoreError, WorkingSet};

/// How many of its own events a purchase reads at a time when it catches up.
const PAGE: usize = 256;

/// Why work stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The log failed; the work is tried again.
    #[error("cannot work on a purchase")]
    Store(#[from] StoreError),
    /// The log refused an append for another reason than someone being first.
    #[error("cannot record what was decided")]
    Append(#[source] AppendError),
    /// Another issuer took over: stop at once.
    #[error("another issuer took over")]
    Fenced,
}

impl From<LogError> for WorkError {
    fn from(error: LogError) -> Self {
        Self::Store(StoreError::Log(error))
    }
}

impl WorkError {
    /// Whether the log was away for a moment: nothing was written, and the same may be tried again.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Append(AppendError::Unavailable(_)) | Self::Store(StoreError::Log(LogError::Database(_))))
    }
}

/// A purchase as it was loaded, with the guards of its next append.
pub struct Loaded {
    /// The purchase, its own stream read to the end.
    pub purchase: Purchase,
    /// What decisions are made with.
    pub context: Context,
    /// Whose it is.
    pub customer: CustomerRow,
    /// When its row says it is due.
    pub due_at: Option<Timestamp>,
    revision: u64,
    customer_revision: u64,
}

/// A customer who was found or made at an engine, as it is recorded.
#[derive(Clone, Debug)]
pub struct Link {
    /// The event's data.
    pub data: CustomerLinked,
    /// The event's id.
    pub id: EventId,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is in the log.
    Done,
    /// Someone wrote first: load and decide again.
    Again,
}

/// Where purchases are loaded from and recorded to.
#[derive(Clone)]
pub struct Desk {
    /// The log, and the state beside it.
    pub log: Arc<dyn EventLog>,
    /// Where it reads the time.
    pub clock: Arc<dyn Clock>,
    /// What the engines can do.
    pub engines: Arc<Engines>,
    /// Proves that this process is still the one issuer.
    pub fence: Fence,
}

impl Desk {
    /// Loads a purchase with everything decisions need.
    ///
    /// # Errors
    ///
    /// [`WorkError::Store`] when the log fails.
    pub async fn load(&self, id: &PurchaseId) -> Result<Loaded, WorkError> {
        let row = self.log.state(PURCHASES, &id.to_string()).await?;
        let (revision, due_at) = row.as_ref().map_or((0, None), |row| (row.revision, row.due_at));
        let mut purchase = match &row {
            Some(row) => store::decode(row)?,
            None => Purchase::new(id.clone()),
        };
        loop {
            let page = self.log.read_stream(&id.stream(), purchase.version, PAGE).await?;
            if page.is_empty() {
                break;
            }
            for event in page {
                if let Ok(Some(own)) = Event::decode(&event.kind, &event.data) {
                    purchase = evolve(purchase, &own, event.occurred_at);
                }
                purchase.version = event.version;
            }
        }
        let settings = store::settings(&*self.log).await?;
        let catalogue = WorkingSet::new(self.log.clone()).catalogue_of(&purchase).await?;
        let customer = customer::load(&*self.log, &id.scope, customer::of(&purchase)).await?;
        let (customer, customer_revision) = customer.unwrap_or_default();
        let has_address = customer.contact.email.is_some();
        let context = Context { settings, catalogue, providers: self.engines.capabilities(), has_address };
        Ok(Loaded { purchase, context, customer, due_at, revision, customer_revision })
    }

    /// Appends events with the state they lead to, in one transaction; with them who the customer is at an engine, where
    /// that was found out.
    ///
    /// # Errors
    ///
    /// See [`WorkError`].
    pub async fn save(
        &self,
        loaded: Loaded,
        events: Vec<(Event, EventId)>,
        link: Option<Link>,
        cause: Option<&EventId>,
    ) -> Result<Saved, WorkError> {
        let now = self.clock.now();
        let Loaded { purchase, context, revision, mut customer, customer_revision, .. } = loaded;
        let (id, stream, version) = (purchase.id.clone(), purchase.id.stream(), purchase.version);
        let mut after = purchase;
        let mut appended = Vec::with_capacity(events.len());
        let partition = partition_of(customer::of(&after));
        let recorded = |event: &Event, event_id: &EventId, stream: &StreamId, correlation: Option<&EventId>| NewEvent {
            id: event_id.clone(),
            kind: event.kind().to_owned(),
            scope: id.scope.clone(),
            stream: stream.clone(),
            occurred_at: now,
            causation_id: cause.cloned(),
            correlation_id: correlation.cloned(),
            schema_version: 1,
            actor: None,
            partition,
            delivery: None,
            data: event.encode(),
            on_reuse: IdReuse::Refused,
        };
        for (event, event_id) in &events {
            after = evolve(after, event, now);
            after.version += 1;
            appended.push(recorded(event, event_id, &stream, after.cause.as_ref()));
        }
        let mut rows = Vec::new();
        let expected = (!appended.is_empty()).then_some((stream, version));
        if let Some(Link { data, id: event_id }) = link {
            customer.link(&data, now);
            let who = data.customer.clone();
            rows.push(customer::write(&id.scope, &who, &customer, customer_revision, now));
            let event = Event::CustomerLinked(data);
            appended.push(recorded(&event, &event_id, &customer::stream(&id.scope, &who), after.cause.as_ref()));
        }
        let due_at = next_due(&after, &context, now);
        rows.push(StateWrite {
            namespace: PURCHASES.to_owned(),
            key: id.to_string(),
            expected: Some(revision),
            change: StateChange::Put { value: store::encode(&after), due_at },
        });
        let append = Append { events: appended, expected, state: self.fence.guarded(rows) };
        match self.log.append(append).await {
            // The same decision stands there already: whoever made it wrote its state too.
            Ok(placed) if placed.iter().any(|placed| matches!(placed, Placed::Duplicate(_))) => Ok(Saved::Again),
            Ok(_) => {
                for (event, _) in &events {
                    tell(&id, event);
                }
                Ok(Saved::Done)
            }
            Err(error) => self.lost_race(error),
        }
    }

    /// Someone being first is ordinary; losing the lease, or the log, is not.
    ///
    /// # Errors
    ///
    /// [`WorkError::Fenced`] when the lease was lost, [`WorkError::Append`] when the log failed.
    pub fn lost_race(&self, error: AppendError) -> Result<Saved, WorkError> {
        if self.fence.is_lost(&error) {
            return Err(WorkError::Fenced);
        }
        match error {
            AppendError::Conflict { .. } | AppendError::StaleState { .. } => {
                debug!(error = %error, "someone wrote first; deciding again");
                Ok(Saved::Again)
            }
            // Two tasks of one process decided at the same version: the other was first.
            AppendError::IdReused { .. } => {
                tracing::warn!(error = %error, "another decision stands at this version; deciding again");
                Ok(Saved::Again)
            }
            AppendError::Unavailable(_) => Err(WorkError::Append(error)),
        }
    }
}

/// Ids of events that a purchase decides at its present version: the same decision is always the same event.
pub fn decided_ids(purchase: &Purchase, events: &[Event]) -> Vec<EventId> {
    let stream = purchase.id.stream();
    let cause = |index: usize| format!("{stream}@{}", purchase.version + index as u64);
    events.iter().enumerate().map(|(index, event)| derived_id(&cause(index), event.kind(), "")).collect()
}

/// The id of an outcome of a request.
pub fn outcome_id(request: &EventId, kind: &str, subject: &str) -> EventId {
    derived_id(request.as_str(), kind, subject)
}

/// One line per business fact.
fn tell(purchase: &PurchaseId, event: &Event) {
    match event {
        Event::LicenseIssued(data) => info!(unit.id = %data.unit, license.id = %data.license,
            provider.name = %data.provider, "license issued for purchase {purchase}"),
        Event::LicenseAdopted(data) => info!(unit.id = %data.unit, license.id = %data.license,
            provider.name = %data.provider, "license adopted for purchase {purchase}"),
        Event::LicenseRevoked(data) => info!(unit.id = %data.unit, license.id = %data.license,
            "license revoked for purchase {purchase}: {:?}", data.reason),
        Event::LicenseSuspended(data) => info!(unit.id = %data.unit, license.id = %data.license,
            "license suspended for purchase {purchase}: {:?}", data.reason),
        other => debug!(purchase.id = %purchase, event.type = other.kind(), "recorded"),
    }
}
