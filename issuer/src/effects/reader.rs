//! Following the log to see which subjects changed, and noting their errands. Calls nobody.
//!
//! It never goes beyond where the issuer's own reader stands, so that the state it looks at knows of what it has read.

use std::collections::BTreeSet;
use std::sync::Arc;

use keyledger_eventlog::checkpoint::Cursor;
use keyledger_eventlog::consumer::Checkpoint;
use keyledger_eventlog::log::{Append, AppendError};
use keyledger_eventlog::state::{StateChange, StateWrite};
use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::event::Event;
use keyledger_schemas::ids::{CustomerId, PurchaseId};
use keyledger_schemas::stripe;
use keyledger_schemas::stripe::fact::{Fact, ObjectRef};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::errand::{ERRANDS, Stored, Subject, Thin, note};
use super::fetching::waits_for_sale;
use super::look::Look;
use crate::desk::WorkError;
use crate::store::{self, StoreError};

/// The name of the checkpoint of effects.
pub const NAME: &str = "issuer.effects";

/// What the log was read for, under the key `configured`: once more is configured, it is read again.
const CONFIGURED: &str = "issuer.effects";

/// How many events are read at a time.
const PAGE: usize = 256;

/// What the log was read for.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Configured {
    /// Sources by name, with what is done for them.
    sources: BTreeSet<(String, String, bool, bool)>,
    /// Engines.
    engines: BTreeSet<String>,
}

/// Follows the log.
#[derive(Clone)]
pub(crate) struct Reader {
    /// Looks at state.
    pub look: Arc<Look>,
}

impl Reader {
    /// Starts over where more is configured than the log was read for, and has comparisons with Stripe come in time.
    pub async fn begin(&self) -> Result<(), WorkError> {
        let desk = &self.look.desk;
        let now = desk.clock.now();
        let mut writes = Vec::new();
        for name in self.look.stripe.sources.keys() {
            let subject = Subject::Source(name.clone());
            for errand in self.look.wanted(&subject, now).await? {
                let known = self.stored(&errand.task.key()).await?;
                // How often may have been set anew.
                writes.extend(match known {
                    Some(known) if known.row.attempts == 0 => Some(known.put(&known.row, errand.due_at)),
                    Some(_) => None,
                    None => note(None, &errand, &subject, now),
                });
            }
        }
        let configured = self.configured();
        let row = desk.log.state(CONFIGURED, "configured").await?;
        let read_for = row.as_ref().map(store::decode::<Configured>).transpose()?.unwrap_or_default();
        if read_for != configured {
            let more =
                !configured.sources.is_subset(&read_for.sources) || !configured.engines.is_subset(&read_for.engines);
            if more {
                writes.push(Cursor::load(&*desk.log, NAME).await?.write(Checkpoint::default()));
            }
            writes.push(StateWrite {
                namespace: CONFIGURED.to_owned(),
                key: "configured".to_owned(),
                expected: Some(row.map_or(0, |row| row.revision)),
                change: StateChange::Put { value: store::encode(&configured), due_at: None },
            });
        }
        if !writes.is_empty() {
            self.write(writes).await?;
        }
        Ok(())
    }

    /// Reads one page on, and notes what it gives rise to. Says whether there was one.
    pub async fn step(&self) -> Result<bool, WorkError> {
        let desk = &self.look.desk;
        if self.configured() == Configured::default() {
            return Ok(false);
        }
        let read = Cursor::load(&*desk.log, crate::reader::NAME).await?.checkpoint();
        let mut cursor = Cursor::load(&*desk.log, NAME).await?;
        let mut from = cursor.checkpoint();
        if from.position > read.position || desk.log.chain_at(from.position).await? != Some(from.chain) {
            // The log was restored from a copy that is older, or the issuer's state is being built anew.
            from = Checkpoint::default();
        }
        let limit = usize::try_from(read.position.saturating_sub(from.position)).unwrap_or(PAGE).min(PAGE);
        if limit == 0 {
            return Ok(false);
        }
        let page = desk.log.read_after(from.position, limit).await?;
        let Some(last) = page.last() else { return Ok(false) };
        let to = Checkpoint { position: last.position, chain: last.chain };
        let mut writes = vec![cursor.write(to)];
        for subject in self.subjects(&page).await? {
            match self.notes(&subject).await {
                Ok(notes) => writes.extend(notes),
                // One that cannot be read does not hold up the others.
                Err(WorkError::Store(error @ StoreError::Row { .. })) => {
                    warn!(error = &error as &dyn std::error::Error, "cannot see what something gives rise to");
                }
                Err(error) => return Err(error),
            }
        }
        // Two subjects may ask for the same thing.
        let mut keys = BTreeSet::new();
        writes.retain(|write| keys.insert((write.namespace.clone(), write.key.clone())));
        if self.write(writes).await? {
            cursor.moved(to);
        }
        Ok(true)
    }

    /// The writes that note what `subject` gives rise to now.
    pub async fn notes(&self, subject: &Subject) -> Result<Vec<StateWrite>, WorkError> {
        let now = self.look.desk.clock.now();
        let mut writes = Vec::new();
        for errand in self.look.wanted(subject, now).await? {
            let known = self.stored(&errand.task.key()).await?;
            writes.extend(note(known.as_ref(), &errand, subject, now));
        }
        Ok(writes)
    }

    async fn stored(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        self.look.desk.log.state(ERRANDS, key).await?.as_ref().map(Stored::of).transpose()
    }

    /// Writes state alone. `false` when someone wrote first: what was read is looked at again.
    async fn write(&self, writes: Vec<StateWrite>) -> Result<bool, WorkError> {
        let desk = &self.look.desk;
        let state = desk.fence.guarded(writes);
        match desk.log.append(Append { state, ..Append::default() }).await {
            Ok(_) => Ok(true),
            Err(error @ AppendError::Unavailable(_)) => Err(WorkError::Append(error)),
            Err(error) => desk.lost_race(error).map(|_| false),
        }
    }

    fn configured(&self) -> Configured {
        let sources = self
            .look
            .stripe
            .sources
            .iter()
            .map(|(name, source)| (name.to_string(), source.mode().to_string(), source.write_back, source.fetch));
        let engines = self.look.desk.engines.capabilities();
        let engines = engines.into_iter().filter(|(_, engine)| engine.keeps_customers);
        Configured { sources: sources.collect(), engines: engines.map(|(name, _)| name.to_string()).collect() }
    }

    /// What these events are about.
    async fn subjects(&self, events: &[Recorded]) -> Result<BTreeSet<Subject>, WorkError> {
        let mut subjects = BTreeSet::new();
        // Without a key there is nothing to be done about anybody but customers.
        let only_customers = self.look.stripe.sources.is_empty();
        for event in events.iter().filter(|event| !only_customers || event.kind.contains("customer")) {
            let scope = &event.scope;
            if !event.is_stripe() {
                subjects.extend(of_own(event));
            } else if event.kind.starts_with("stripe.thin.") {
                subjects.extend(of_thin(event));
            } else {
                for fact in stripe::facts(&event.data) {
                    match fact {
                        Fact::SubscriptionSeen(seen) => {
                            subjects.insert(Subject::Purchase(PurchaseId::new(scope.clone(), seen.id.as_str())));
                        }
                        Fact::CustomerSeen(seen) => {
                            subjects.insert(Subject::Customer(scope.clone(), seen.id));
                        }
                        // A sale that they mean something for is worked on anew, and so are its effects.
                        Fact::PriceSeen(_) | Fact::ProductSeen(_) => {}
                        Fact::InvoiceSeen(seen) => {
                            subjects.extend(self.of_object(event, ObjectRef::Invoice(seen.id)).await?);
                        }
                        Fact::SessionSeen(seen) => {
                            subjects.extend(self.of_object(event, ObjectRef::Session(seen.id)).await?);
                        }
                        Fact::ChargeSeen(seen) => {
                            subjects.extend(self.of_object(event, ObjectRef::Charge(seen.id)).await?);
                        }
                        Fact::Linked(link) => subjects.extend(self.of_object(event, link.child).await?),
                        Fact::RefundSeen(seen) => subjects.extend(self.of_payment(event, seen.payment).await?),
                        Fact::DisputeSeen(seen) => subjects.extend(self.of_payment(event, seen.payment).await?),
                    }
                }
            }
        }
        Ok(subjects)
    }

    async fn of_payment(&self, event: &Recorded, payment: Option<ObjectRef>) -> Result<Option<Subject>, WorkError> {
        match payment {
            Some(payment) => self.of_object(event, payment).await,
            None => Ok(None),
        }
    }

    /// The purchase that an object belongs to; the object itself where it waits for one.
    async fn of_object(&self, event: &Recorded, object: ObjectRef) -> Result<Option<Subject>, WorkError> {
        let scope = &event.scope;
        let node = self.look.node(scope, &object).await?;
        Ok(match &node.purchase {
            Some(purchase) => Some(Subject::Purchase(PurchaseId::new(scope.clone(), purchase.as_str()))),
            None if waits_for_sale(&node) => Some(Subject::Payment(scope.clone(), object)),
            None => None,
        })
    }
}

/// What an event of ours is about.
fn of_own(event: &Recorded) -> Option<Subject> {
    if let Some(purchase) = PurchaseId::of_stream(&event.stream) {
        return Some(Subject::Purchase(purchase));
    }
    match Event::decode(&event.kind, &event.data) {
        Ok(Some(Event::CustomerLinked(data))) => {
            Some(Subject::Customer(event.scope.clone(), CustomerId::new(data.customer)))
        }
        _ => None,
    }
}

/// The object that a thin event is about.
fn of_thin(event: &Recorded) -> Option<Subject> {
    let thin = stripe::thin(&event.data)?;
    let (at, position) = (thin.created.unwrap_or(event.occurred_at), event.position);
    Some(Subject::Thin(event.scope.clone(), Thin { id: thin.id, kind: thin.kind, url: thin.url, at, position }))
}
