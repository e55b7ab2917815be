//! Bringing one purchase to where nothing more can be done for it now.
//!
//! Safe at every await point. Before a call, `license.requested` stands in the log; after it, the outcome. A crash between
//! the two leaves the request: once its `wait_until` has passed, the next worker treats the call as in doubt, and looks a
//! license up before it makes one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_engine::seal;
use keyledger_schemas::event::{Action, CustomerLinked, Event, NotDone};
use keyledger_schemas::ids::{EventId, PurchaseId};
use tracing::warn;

use crate::call::{self, Done, Gate, Outcome, Owner};
use crate::customer;
use crate::desk::{Desk, Link, Loaded, Saved, WorkError, decided_ids, outcome_id};
use crate::provider::unmanaged::Unmanaged;
use crate::provider::{Customer, Person, Provider};
use crate::purchase::Purchase;
use crate::purchase::decide::{Answer, answered, decide, requested};
use crate::purchase::owed::{Request, next_due, owed};

/// How many steps one purchase gets before others have their turn.
const STEPS_MAX: usize = 64;

/// How long an outcome is held while the log is away, before it must be looked up anew.
const RECORD_FOR: Duration = Duration::from_secs(30);

/// How long to wait before an outcome is offered to the log again.
const RECORD_AGAIN: Duration = Duration::from_millis(200);

/// The kinds whose ids a license key is sealed under.
const ISSUED: &str = "license.issued";
const ADOPTED: &str = "license.adopted";

/// Where work on a purchase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing more can be done before its next due time.
    Rested,
    /// There is more to do at once, but others have their turn.
    More,
    /// It is due, but must be left alone for a moment: a call is in hand elsewhere, or the engine is crowded.
    Waiting,
}

/// Works on single purchases.
#[derive(Clone)]
pub struct Work {
    /// Loads and records.
    pub desk: Desk,
    /// Seals license keys into events.
    pub keys: Arc<DeploymentKeys>,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// Customers who are being looked for at an engine.
    pub turns: Turns,
}

/// One at a time for each customer: two purchases of one customer must not make them twice at an engine. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    taken: Arc<Mutex<BTreeSet<String>>>,
}

impl Turns {
    /// The turn of `who`, unless another purchase has it: then this one is left alone for a moment.
    fn take(&self, who: String) -> Option<Turn> {
        let free = self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(who.clone());
        free.then(|| Turn { taken: self.taken.clone(), who })
    }
}

/// A turn, given back when it is dropped.
#[derive(Debug)]
struct Turn {
    taken: Arc<Mutex<BTreeSet<String>>>,
    who: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.who);
    }
}

/// What came of a request, to be recorded.
struct Came {
    /// What it means for the license; `None` when nothing was sent.
    answer: Option<Answer>,
    /// Who was found or made at the engine.
    link: Option<Link>,
}

impl Work {
    /// Brings one purchase to where nothing more can be done for it now.
    ///
    /// # Errors
    ///
    /// See [`WorkError`]; what was recorded until then stands.
    pub async fn on(&self, id: &PurchaseId) -> Result<Ended, WorkError> {
        for _ in 0..STEPS_MAX {
            let loaded = self.desk.load(id).await?;
            let now = self.desk.clock.now();
            let events = decide(&loaded.purchase, &loaded.context, now);
            if !events.is_empty() {
                let cause = loaded.purchase.cause.clone();
                let ids = decided_ids(&loaded.purchase, &events);
                self.desk.save(loaded, events.into_iter().zip(ids).collect(), None, cause.as_ref()).await?;
                continue;
            }
            match owed(&loaded.purchase, &loaded.context, now).into_iter().next() {
                Some(request) => {
                    if !self.request(loaded, &request, now).await? {
                        return Ok(Ended::Waiting);
                    }
                }
                None => return self.rest(loaded, now).await,
            }
        }
        Ok(Ended::More)
    }

    /// Announces a request, carries it out, and records the outcome. `false` when it was not sent after all.
    async fn request(&self, loaded: Loaded, request: &Request, now: Timestamp) -> Result<bool, WorkError> {
        let Some(_place) = self.desk.engines.place(&request.provider) else { return Ok(false) };
        let engine = self.engine(request);
        let owner = owner(&loaded, request, &*engine);
        // Held until the link is recorded: whoever is next finds it there.
        let turn = match &owner {
            Owner::Asked(person) => self.turns.take(format!(
                "{}\n{}",
                request.provider,
                customer::key(&loaded.purchase.id.scope, &person.customer)
            )),
            Owner::Known(_) | Owner::Nobody => None,
        };
        if matches!(owner, Owner::Asked(_)) && turn.is_none() {
            return Ok(false);
        }
        let capabilities = engine.capabilities();
        let calls = self.call_timeout * call::calls_max(request.action, &capabilities);
        let hold = calls + capabilities.settle;
        if !self.desk.fence.outlives(now, hold) && !self.desk.fence.renew(&self.desk.log, now, true).await? {
            return Err(WorkError::Fenced);
        }
        let wait_until = now.saturating_add(hold).unwrap_or(Timestamp::MAX);
        let ours = license_is_ours(&loaded.purchase, request);
        let announced = requested(request, wait_until);
        let cause = loaded.purchase.cause.clone();
        let who = customer::of(&loaded.purchase).to_owned();
        let known = loaded.customer.linked.get(&request.provider).map(|linked| linked.id.clone());
        let Some(request_id) = decided_ids(&loaded.purchase, std::slice::from_ref(&announced)).pop() else {
            return Ok(false);
        };
        let saved = self.desk.save(loaded, vec![(announced, request_id.clone())], None, cause.as_ref()).await?;
        if saved == Saved::Again {
            return Ok(true);
        }
        let done = if ours && !self.desk.engines.has(&request.provider) {
            Done { outcome: Outcome::Unconfigured, customer: None }
        } else {
            // All calls are over before the engine's time to settle begins.
            let until = now.saturating_add(calls).unwrap_or(Timestamp::MAX);
            let gate = Gate { clock: self.desk.clock.clone(), until, limit: self.call_timeout };
            self.carry_out(&*engine, request, owner, &gate).await
        };
        let found = done.customer.filter(|customer| known.as_ref() != Some(&customer.id));
        let link = found.map(|customer| link(request, &request_id, who, customer));
        let came = Came { answer: self.answer(request, &request_id, done.outcome), link };
        let sent = came.answer.is_some();
        if sent || came.link.is_some() {
            self.record(request, &request_id, &came).await?;
        }
        Ok(sent)
    }

    /// The engine to ask. One that never was asked about a license it holds is not told to change it either: without its
    /// product the license cannot be addressed there.
    fn engine(&self, request: &Request) -> Arc<dyn Provider> {
        let makes = matches!(request.action, Action::Create | Action::Adopt);
        if !makes && request.product.is_empty() {
            return Arc::new(Unmanaged::new(request.provider.clone()));
        }
        self.desk.engines.get(&request.provider)
    }

    async fn carry_out(&self, engine: &dyn Provider, request: &Request, owner: Owner, gate: &Gate) -> Done {
        let done = call::carry_out(engine, request, owner, gate).await;
        let word = match &done.outcome {
            Outcome::Made { adopted: Some(_), .. } => "adopted",
            Outcome::Made { found: true, .. } => "found",
            Outcome::Made { found: false, .. } => "created",
            Outcome::Changed => "changed",
            Outcome::NothingMade => "nothing_made",
            Outcome::NotSent | Outcome::Unconfigured => "not_sent",
            Outcome::NotDone { error, .. } => {
                let (answer, reason, _) = call::not_done(error);
                warn!(unit.id = %request.unit, provider.name = %request.provider, attempt = request.attempt, reason,
                    "provider did not do it: {answer:?}");
                match answer {
                    NotDone::Refused => "rejected",
                    NotDone::Unavailable => "retry",
                    NotDone::Indeterminate => "unknown",
                }
            }
        };
        let name = request.provider.as_str().to_owned();
        metrics::counter!("keyledger_issue_attempts_total", "provider" => name, "outcome" => word).increment(1);
        done
    }

    /// What an outcome is recorded as. `None` when nothing was sent: the request stands, and is made anew in its time.
    fn answer(&self, request: &Request, request_id: &EventId, outcome: Outcome) -> Option<Answer> {
        Some(match outcome {
            Outcome::Made { held, found, adopted, surplus } => {
                let kind = if adopted.is_some() { ADOPTED } else { ISSUED };
                let event = outcome_id(request_id, kind, &request.unit.to_string());
                let key = held.key.as_ref().map(|key| seal::seal(&self.keys, &event, key));
                Answer::Made { provider_id: held.provider_id, key, also: held.also, found, adopted, surplus }
            }
            Outcome::Changed => Answer::Changed,
            Outcome::NothingMade => Answer::NothingMade,
            Outcome::NotDone { error, nothing_found } => {
                let (answer, reason, retry_after) = call::not_done(&error);
                Answer::NotDone { answer, reason, retry_after, nothing_found }
            }
            Outcome::Unconfigured => Answer::Unconfigured,
            Outcome::NotSent => return None,
        })
    }

    /// Records an outcome, whatever happened to the purchase meanwhile: it is always appended. A log that is away for a
    /// moment is waited for, since what was answered may not be answered again.
    async fn record(&self, request: &Request, request_id: &EventId, came: &Came) -> Result<(), WorkError> {
        let tries = RECORD_FOR.as_millis() / RECORD_AGAIN.as_millis();
        let mut failed = 0;
        loop {
            match self.try_record(request, request_id, came).await {
                Ok(Saved::Done) => return Ok(()),
                Ok(Saved::Again) => {}
                Err(error) if error.is_passing() && failed < tries => {
                    failed += 1;
                    tokio::time::sleep(RECORD_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_record(&self, request: &Request, request_id: &EventId, came: &Came) -> Result<Saved, WorkError> {
        let loaded = self.desk.load(&request.unit.purchase).await?;
        let answer = came.answer.clone().into_iter();
        let events: Vec<_> = answer
            .flat_map(|answer| answered(&loaded.purchase, request, answer, self.desk.clock.now()))
            .map(|event| {
                let subject = match &event {
                    Event::LicenseSurplusFound(surplus) => format!("{}\n{}", request.unit, surplus.provider_id),
                    _ => request.unit.to_string(),
                };
                let id = outcome_id(request_id, event.kind(), &subject);
                (event, id)
            })
            .collect();
        // An append that went through although its answer was lost.
        let first = events.first().map(|(_, id)| id).or(came.link.as_ref().map(|link| &link.id));
        if let Some(id) = first
            && self.desk.log.find(id).await?.is_some()
        {
            return Ok(Saved::Done);
        }
        self.desk.save(loaded, events, came.link.clone(), Some(request_id)).await
    }

    /// Nothing can be done now: notes when that changes.
    async fn rest(&self, loaded: Loaded, now: Timestamp) -> Result<Ended, WorkError> {
        let due_at = next_due(&loaded.purchase, &loaded.context, now);
        if due_at != loaded.due_at {
            self.desk.save(loaded, Vec::new(), None, None).await?;
        }
        Ok(if due_at.is_some_and(|at| at <= now) { Ended::Waiting } else { Ended::Rested })
    }
}

/// Whether the license that is asked about is one we made, or are about to make.
fn license_is_ours(purchase: &Purchase, request: &Request) -> bool {
    let unit = purchase.unit(&request.unit.item, request.unit.number);
    let license = unit.and_then(|unit| unit.licenses.get(&request.generation));
    license.is_none_or(|license| !license.adopted)
}

/// Whose the license will be. A customer who is linked already is taken as they are, unless the engine did not do the same
/// request before: what was wrong may be that it has them no more.
fn owner(loaded: &Loaded, request: &Request, engine: &dyn Provider) -> Owner {
    let makes = matches!(request.action, Action::Create | Action::Adopt) && request.may_create;
    if !makes || !engine.capabilities().keeps_customers {
        return Owner::Nobody;
    }
    let purchase = &loaded.purchase;
    let unit = purchase.unit(&request.unit.item, request.unit.number);
    let not_done = unit.and_then(|unit| unit.answered(request.generation, request.action));
    if let Some(linked) = loaded.customer.linked.get(&request.provider).filter(|_| not_done.is_none()) {
        return Owner::Known(linked.id.clone());
    }
    let fallback = purchase.knowledge.contacts.contact();
    let person = loaded.customer.person(customer::of(purchase), &request.provider, &fallback);
    Owner::Asked(Person { failures: not_done.map_or(0, |answered| answered.in_a_row), ..person })
}

fn link(request: &Request, request_id: &EventId, who: String, customer: Customer) -> Link {
    let subject = format!("{}\n{who}", request.provider);
    let data = CustomerLinked {
        provider: request.provider.clone(),
        customer: who,
        provider_customer_id: customer.id,
        made: customer.made,
        shared: customer.shared,
    };
    Link { data, id: outcome_id(request_id, "customer.linked", &subject) }
}
