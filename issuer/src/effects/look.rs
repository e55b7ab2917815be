//! Looking at the state around a subject: which errands it gives rise to now. Reads, and changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use keyledger_eventlog::log::LogError;
use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::event::Event;
use keyledger_schemas::ids::{CustomerId, PurchaseId, Scope, SourceName, StreamId};
use keyledger_schemas::stripe::fact::ObjectRef;
use keyledger_schemas::stripe::fetched::Fetched;

use super::errand::{ERRANDS, Errand, Stored, Subject, Task, Thin};
use super::fetching::{self, Missing};
use super::write_back::{self, Known, Record};
use super::{Options, Source, Stripe};
use crate::customer;
use crate::desk::{Desk, WorkError};
use crate::purchase::desired::CRYPTOLENS;
use crate::store::{self, CATALOGUE, LINKS, Node, object_key};
use crate::stripe::client::Want;

/// What the kind of every answer of Stripe's begins with.
const FETCHED: &str = "stripe.fetched.";

/// How many events of a stream are read at a time.
const PAGE: usize = 256;

/// How many objects are walked over from a payment toward its sale.
const WALK_MAX: usize = 64;

/// How far back the first comparison with Stripe goes: as far as Stripe lists events, but for an hour. Beyond that all objects
/// are walked through, which nobody asked for, and time passes until the last account's turn.
const FIRST_BACK: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24 - 1);

/// For how long a refusal holds. What Stripe does not show may be shown once the key is the right one, and to find out costs
/// one request a day for each thing that is missing.
const REFUSED_FOR: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// How far two comparisons overlap: an event may be listed a little after it was made.
const OVERLAP: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// What came of asking Stripe for something.
enum Asked {
    /// It was not asked for, or so long ago that a refusal says nothing any more.
    Not,
    /// It answered.
    Answered,
    /// It refused, which holds until then.
    Refused(Timestamp),
}

/// Looks at state.
#[derive(Clone)]
pub(crate) struct Look {
    /// Where state is read.
    pub desk: Desk,
    /// The sources that can be asked.
    pub stripe: Arc<Stripe>,
    /// How patient it is.
    pub options: Options,
}

impl Look {
    /// What is to be done about `subject`, and when.
    pub async fn wanted(&self, subject: &Subject, now: Timestamp) -> Result<Vec<Errand>, WorkError> {
        match subject {
            Subject::Purchase(id) => self.purchase(id, now).await,
            Subject::Payment(scope, object) => self.payment(scope, object, now).await,
            Subject::Customer(scope, id) => self.customer(scope, id, now).await,
            Subject::Thin(scope, thin) => self.thin(scope, thin, now).await,
            Subject::Source(name) => self.source(name, now).await,
        }
    }

    /// The source whose key may be used for objects of this scope.
    fn source_of(&self, scope: &Scope) -> Option<&Source> {
        self.stripe.sources.get(&scope.source).filter(|source| source.mode() == scope.mode)
    }

    fn fetches(&self, scope: &Scope) -> bool {
        self.source_of(scope).is_some_and(|source| source.fetch)
    }

    async fn purchase(&self, id: &PurchaseId, now: Timestamp) -> Result<Vec<Errand>, WorkError> {
        let Some(source) = self.source_of(&id.scope) else { return Ok(Vec::new()) };
        let loaded = self.desk.load(id).await?;
        let (purchase, context) = (&loaded.purchase, &loaded.context);
        if !context.settings.issues(&id.scope.source, id.scope.mode) {
            return Ok(Vec::new());
        }
        let mut errands = Vec::new();
        if source.write_back {
            let record = self.record(&id.scope, &id.object).await?;
            let mark_after = self.options.mark_after();
            let round = record.rounds;
            let noticed = self.noticed(&format!("metadata:{}:{}", id.scope, id.object)).await?;
            let values = write_back::of_purchase(purchase, context, &record, noticed, mark_after, now);
            errands.extend(values.map(|values| write(&id.scope, &id.object, values, round)));
        }
        let missing = if source.fetch { fetching::of_purchase(purchase, context) } else { Vec::new() };
        for missing in missing {
            errands.extend(self.fetch(&id.scope, missing, now).await?);
        }
        for errand in &mut errands {
            errand.cause.clone_from(&purchase.cause);
        }
        Ok(errands)
    }

    async fn customer(&self, scope: &Scope, id: &CustomerId, now: Timestamp) -> Result<Vec<Errand>, WorkError> {
        let Some((row, _)) = customer::load(&*self.desk.log, scope, id.as_str()).await? else { return Ok(Vec::new()) };
        let at_engines = row.to_sync().into_iter().filter(|(provider, _)| self.desk.engines.has(provider));
        let mut errands: Vec<_> = at_engines
            .map(|(provider, engine_id)| {
                let (scope, customer) = (scope.clone(), id.clone());
                Errand { task: Task::Sync { scope, customer, provider, id: engine_id }, due_at: now, cause: None }
            })
            .collect();
        let linked = row.linked.iter().find(|(provider, _)| provider.as_str() == CRYPTOLENS);
        let writes = self.source_of(scope).is_some_and(|source| source.write_back);
        if let Some((_, linked)) = linked
            && writes
            && id.as_str().starts_with("cus_")
            && !row.is_deleted()
            && store::settings(&*self.desk.log).await?.issues(&scope.source, scope.mode)
        {
            let at = row.seen.as_ref().map_or(Timestamp::MIN, |(_, seen)| seen.at);
            let record = self.record(scope, id.as_str()).await?;
            let known = Known { metadata: &row.metadata, at };
            let values = write_back::of_customer(&known, &linked.id, &record, now);
            errands.extend(values.map(|values| write(scope, id.as_str(), values, record.rounds)));
        }
        Ok(errands)
    }

    /// The next thing to ask for that may say what a payment belongs to.
    async fn payment(&self, scope: &Scope, object: &ObjectRef, now: Timestamp) -> Result<Vec<Errand>, WorkError> {
        if !self.fetches(scope) || !fetching::waits_for_sale(&self.node(scope, object).await?) {
            return Ok(Vec::new());
        }
        let mut seen = BTreeSet::from([object.clone()]);
        let (mut walk, mut ends) = (vec![object.clone()], Vec::new());
        while let Some(next) = walk.pop().filter(|_| seen.len() < WALK_MAX) {
            let node = self.node(scope, &next).await?;
            if node.parents.is_empty() {
                ends.push(next);
            }
            walk.extend(node.parents.into_iter().filter(|parent| seen.insert(parent.clone())));
        }
        ends.sort();
        let mut asked_before = false;
        let mut errands = Vec::new();
        for missing in fetching::of_ends(&ends) {
            match self.asked(scope, &missing.want, now).await? {
                Asked::Answered => asked_before = true,
                Asked::Refused(until) => {
                    asked_before = true;
                    errands.push(again(scope, missing.want, until));
                }
                Asked::Not => {
                    // Once a first answer said nothing, there is nothing to wait for.
                    let may_come = missing.may_come && !asked_before;
                    errands.push(self.ask(scope, Missing { may_come, ..missing }, now).await?);
                    break;
                }
            }
        }
        Ok(errands)
    }

    async fn thin(&self, scope: &Scope, thin: &Thin, now: Timestamp) -> Result<Vec<Errand>, WorkError> {
        let Some(missing) = fetching::of_thin(&thin.kind, &thin.url) else { return Ok(Vec::new()) };
        if !self.fetches(scope) {
            return Ok(Vec::new());
        }
        let sights = self.stream(&stripe_stream(scope, &thin.id)).await?;
        let answers = |event: &Recorded| event.position > thin.position && event.kind.starts_with(FETCHED);
        let shows = |event: &Recorded| event.is_stripe() && !is_thin(event) && event.occurred_at >= thin.at;
        let seen_since = sights.iter().any(|event| answers(event) || shows(event));
        if seen_since {
            return Ok(Vec::new());
        }
        Ok(vec![match self.refused_until(scope, &missing.want, now).await? {
            Some(until) => again(scope, missing.want, until),
            None => self.ask(scope, missing, now).await?,
        }])
    }

    async fn source(&self, name: &SourceName, now: Timestamp) -> Result<Vec<Errand>, WorkError> {
        let Some(every) = self.stripe.sources.get(name).and_then(|source| source.reconcile_every) else {
            return Ok(Vec::new());
        };
        let key = format!("reconcile:{name}");
        let row =
            self.desk.log.state(ERRANDS, &key).await?.as_ref().map(Stored::of).transpose()?.map(|stored| stored.row);
        let done_at = row.as_ref().and_then(|row| row.done_at);
        let from = done_at.or(row.map(|row| row.noticed)).unwrap_or(now);
        let back = if done_at.is_some() { OVERLAP } else { FIRST_BACK };
        let since = done_at.unwrap_or(now).saturating_sub(back).unwrap_or(Timestamp::UNIX_EPOCH);
        let due_at = from.saturating_add(every).unwrap_or(Timestamp::MAX);
        Ok(vec![Errand { task: Task::Reconcile { source: name.clone(), since }, due_at, cause: None }])
    }

    /// The errand of asking for something, unless it was answered before, or is known.
    async fn fetch(&self, scope: &Scope, missing: Missing, now: Timestamp) -> Result<Option<Errand>, WorkError> {
        let known = match &missing.want {
            Want::Price(_) | Want::Product(_) => {
                let row = self.desk.log.state(CATALOGUE, &object_key(scope, missing.want.about())).await?;
                // A row may hold that nothing is known.
                row.is_some_and(|row| row.value != b"null")
            }
            Want::Customer(id) => {
                let row = customer::load(&*self.desk.log, scope, id.as_str()).await?;
                row.is_some_and(|(row, _)| row.seen.is_some())
            }
            _ => false,
        };
        if known {
            return Ok(None);
        }
        Ok(match self.asked(scope, &missing.want, now).await? {
            Asked::Answered => None,
            Asked::Refused(until) => Some(again(scope, missing.want, until)),
            Asked::Not => Some(self.ask(scope, missing, now).await?),
        })
    }

    async fn ask(&self, scope: &Scope, missing: Missing, now: Timestamp) -> Result<Errand, WorkError> {
        let task = Task::Fetch { scope: scope.clone(), want: missing.want };
        let mut due_at = now;
        if missing.may_come {
            let noticed = self.noticed(&task.key()).await?.unwrap_or(now);
            due_at = noticed.saturating_add(self.options.fetch_after()).unwrap_or(Timestamp::MAX);
        }
        Ok(Errand { task, due_at, cause: None })
    }

    /// Whether Stripe was asked for this before, by the log, and what came of it.
    async fn asked(&self, scope: &Scope, want: &Want, now: Timestamp) -> Result<Asked, WorkError> {
        let path = want.path();
        let sights = self.stream(&stripe_stream(scope, want.about())).await?;
        let answered = |event: &Recorded| {
            event.kind.starts_with(FETCHED) && Fetched::decode(&event.data).is_some_and(|fetched| fetched.path == path)
        };
        if sights.iter().any(answered) {
            return Ok(Asked::Answered);
        }
        Ok(self.refused_until(scope, want, now).await?.map_or(Asked::Not, Asked::Refused))
    }

    /// Until when it is not asked for, because it was refused.
    async fn refused_until(&self, scope: &Scope, want: &Want, now: Timestamp) -> Result<Option<Timestamp>, WorkError> {
        let path = want.path();
        let refused = |event: &Recorded| match Event::decode(&event.kind, &event.data) {
            Ok(Some(Event::FetchRefused(data))) => data.path == path,
            _ => false,
        };
        let events = self.stream(&effects_stream(scope, want.about())).await?;
        let last = events.iter().filter(|event| refused(event)).map(|event| event.occurred_at).max();
        let until = last.map(|at| at.saturating_add(REFUSED_FOR).unwrap_or(Timestamp::MAX));
        Ok(until.filter(|until| *until > now))
    }

    async fn record(&self, scope: &Scope, object: &str) -> Result<Record, WorkError> {
        Ok(Record::of(&self.stream(&effects_stream(scope, object)).await?))
    }

    /// When an errand was first wanted, where it still waits.
    async fn noticed(&self, key: &str) -> Result<Option<Timestamp>, WorkError> {
        let row = self.desk.log.state(ERRANDS, key).await?;
        Ok(row.as_ref().map(Stored::of).transpose()?.map(|stored| stored.row.noticed))
    }

    pub async fn node(&self, scope: &Scope, object: &ObjectRef) -> Result<Node, WorkError> {
        let row = self.desk.log.state(LINKS, &object_key(scope, object.id())).await?;
        Ok(row.as_ref().map(store::decode).transpose()?.unwrap_or_default())
    }

    async fn stream(&self, stream: &StreamId) -> Result<Vec<Recorded>, LogError> {
        let mut events: Vec<Recorded> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.version);
            let page = self.desk.log.read_stream(stream, after, PAGE).await?;
            if page.is_empty() {
                return Ok(events);
            }
            events.extend(page);
        }
    }
}

/// The errand of asking once more for what was refused.
fn again(scope: &Scope, want: Want, until: Timestamp) -> Errand {
    Errand { task: Task::Fetch { scope: scope.clone(), want }, due_at: until, cause: None }
}

/// The stream of what was written to an object, and of what was refused about it.
pub(crate) fn effects_stream(scope: &Scope, object: &str) -> StreamId {
    StreamId::new(format!("effects:{scope}:{object}"))
}

fn stripe_stream(scope: &Scope, object: &str) -> StreamId {
    StreamId::new(format!("stripe:{scope}:{object}"))
}

fn is_thin(event: &Recorded) -> bool {
    event.kind.starts_with("stripe.thin.")
}

fn write(scope: &Scope, object: &str, values: write_back::Values, round: usize) -> Errand {
    let (scope, object, due_at) = (scope.clone(), object.to_owned(), values.due_at);
    Errand { task: Task::Write { scope, object, values: values.values, round }, due_at, cause: None }
}
