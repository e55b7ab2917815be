//! Working off what is due: one purchase at a time each, many purchases at once.
//!
//! Safe at every await point. Before a call, `license.requested` stands in the log; after it, the outcome. A crash between
//! the two leaves the request: once its `wait_until` has passed, the next worker looks the license up before it makes one.
//! Every append expects the purchase's stream version and row revision, and carries the lease's fence.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_engine::seal;
use keyledger_eventlog::log::{Append, AppendError, EventLog, LogError};
use keyledger_eventlog::state::{StateChange, StateWrite};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::{IdReuse, NewEvent, derived_id, partition_of};
use keyledger_schemas::event::Event;
use keyledger_schemas::ids::{EventId, PurchaseId};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::call::{self, CALLS_MAX, Outcome};
use crate::engines::Engines;
use crate::fence::Fence;
use crate::provider::Provider;
use crate::purchase::Purchase;
use crate::purchase::decide::{Answer, answered, decide, requested};
use crate::purchase::desired::Context;
use crate::purchase::evolve::evolve;
use crate::purchase::owed::{Request, next_due, owed};
use crate::store::{self, PURCHASES, SWEEP, StoreError, WorkingSet};

/// How many purchases are worked on at once.
pub const CONCURRENCY: usize = 64;

/// How many steps one purchase gets before others have their turn.
const STEPS_MAX: usize = 64;

/// How many of its own events a purchase reads at a time when it catches up.
const PAGE: usize = 256;

/// How many purchases one step of a sweep looks at.
const SWEEP_PAGE: usize = 64;

/// The longest sleep: another process may have made something due.
const POLL: Duration = Duration::from_millis(500);

/// Why the worker stopped working.
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

/// Works off due purchases.
#[derive(Clone)]
pub struct Worker {
    /// The log, and the state beside it.
    pub(crate) log: Arc<dyn EventLog>,
    /// Where it reads the time.
    pub(crate) clock: Arc<dyn Clock>,
    /// The engines to call.
    pub(crate) engines: Arc<Engines>,
    /// Seals license keys into events.
    pub(crate) keys: Arc<DeploymentKeys>,
    /// Proves that this process is still the one issuer.
    pub(crate) fence: Fence,
    /// How long one call may take.
    pub(crate) call_timeout: Duration,
    /// Woken when something may be due.
    pub(crate) due: Arc<Notify>,
}

/// A purchase as it was loaded, with the guards of its next append.
struct Loaded {
    purchase: Purchase,
    context: Context,
    revision: u64,
    due_at: Option<Timestamp>,
}

/// What became of an append.
enum Saved {
    Done,
    /// Someone wrote first: load and decide again.
    Again,
}

impl Worker {
    /// Works until told to stop: purchases as they fall due, then sleeps until something may be.
    ///
    /// # Errors
    ///
    /// [`WorkError::Fenced`] when another issuer took over; everything else is tried again.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), WorkError> {
        let mut tasks: JoinSet<(PurchaseId, Result<(), WorkError>)> = JoinSet::new();
        let mut busy: BTreeSet<PurchaseId> = BTreeSet::new();
        loop {
            let begun = if shutdown.is_cancelled() { Ok(0) } else { self.begin(&mut tasks, &mut busy).await };
            let sleep = match begun {
                Ok(0) => POLL,
                Ok(_) => Duration::ZERO,
                Err(WorkError::Fenced) => return Err(WorkError::Fenced),
                Err(error) => {
                    warn!(error = %chain(&error), "cannot see what is due; trying again");
                    POLL
                }
            };
            if shutdown.is_cancelled() && tasks.is_empty() {
                return Ok(());
            }
            let full = busy.len() >= CONCURRENCY;
            tokio::select! {
                Some(joined) = tasks.join_next(), if !tasks.is_empty() => ended(joined, &mut busy)?,
                () = tokio::time::sleep(sleep), if !full => {}
                () = self.due.notified(), if !full => {}
                () = shutdown.cancelled(), if !shutdown.is_cancelled() => {}
            }
        }
    }

    /// Works off everything that is due now, and what falls due by that. Says whether anything was.
    ///
    /// # Errors
    ///
    /// See [`WorkError`].
    pub async fn run_until_idle(&self) -> Result<bool, WorkError> {
        let mut worked = false;
        loop {
            let swept = self.sweep().await?;
            let due = self.log.state_due(PURCHASES, self.clock.now(), CONCURRENCY).await?;
            if due.is_empty() && !swept {
                return Ok(worked);
            }
            worked = true;
            for row in due {
                let id = purchase_id(&row.key)?;
                self.work(&id).await?;
            }
        }
    }

    /// Starts tasks for due purchases that none is on yet. Says how many.
    async fn begin(
        &self,
        tasks: &mut JoinSet<(PurchaseId, Result<(), WorkError>)>,
        busy: &mut BTreeSet<PurchaseId>,
    ) -> Result<usize, WorkError> {
        let room = CONCURRENCY.saturating_sub(busy.len());
        if room == 0 {
            return Ok(0);
        }
        let swept = self.sweep().await?;
        let mut begun = usize::from(swept);
        // Those that are busy are still in the list of what is due.
        for row in self.log.state_due(PURCHASES, self.clock.now(), room + busy.len()).await? {
            let id = purchase_id(&row.key)?;
            if begun < room && busy.insert(id.clone()) {
                begun += 1;
                let worker = self.clone();
                tasks.spawn(async move {
                    let result = worker.work(&id).await;
                    (id, result)
                });
            }
        }
        Ok(begun)
    }

    /// Looks at a page of all purchases again, where settings or the catalogue changed. Says whether there was one.
    async fn sweep(&self) -> Result<bool, WorkError> {
        let Some(row) = self.log.state(SWEEP, "all").await? else { return Ok(false) };
        let after: String = store::decode(&row)?;
        let page = self.log.state_scan(PURCHASES, "", &after, SWEEP_PAGE).await?;
        for purchase in &page {
            self.work(&purchase_id(&purchase.key)?).await?;
        }
        let change = match page.last() {
            Some(last) if page.len() == SWEEP_PAGE => {
                StateChange::Put { value: store::encode(&last.key), due_at: row.due_at }
            }
            _ => StateChange::Delete,
        };
        // A sweep that was ordered meanwhile starts over.
        let write =
            StateWrite { namespace: SWEEP.to_owned(), key: "all".to_owned(), expected: Some(row.revision), change };
        let append = Append { state: self.fence.guarded(vec![write]), ..Append::default() };
        match self.log.append(append).await {
            Ok(_) => Ok(true),
            Err(error) => self.lost_race(error).map(|_| true),
        }
    }

    /// Brings one purchase to where nothing more can be done for it now.
    async fn work(&self, id: &PurchaseId) -> Result<(), WorkError> {
        for _ in 0..STEPS_MAX {
            let loaded = self.load(id).await?;
            let now = self.clock.now();
            let events = decide(&loaded.purchase, &loaded.context, now);
            if !events.is_empty() {
                let cause = loaded.purchase.cause.clone();
                let ids = ids_of(&loaded.purchase, &events);
                self.save(loaded, events.into_iter().zip(ids).collect(), cause).await?;
                continue;
            }
            match owed(&loaded.purchase, &loaded.context, now).into_iter().next() {
                Some(request) => {
                    if !self.call(loaded, request).await? {
                        return Ok(());
                    }
                }
                None => return self.rest(loaded, now).await,
            }
        }
        Ok(())
    }

    /// Announces a request, carries it out, and records the outcome. `false` when it cannot be begun now.
    async fn call(&self, loaded: Loaded, request: Request) -> Result<bool, WorkError> {
        let now = self.clock.now();
        let engine = self.engines.get(&request.provider);
        let calls = self.call_timeout * CALLS_MAX;
        let hold = calls + engine.capabilities().settle;
        if !self.fence.outlives(now, hold) && !self.renewed(now).await? {
            return Err(WorkError::Fenced);
        }
        let wait_until = now.saturating_add(hold).unwrap_or(Timestamp::MAX);
        let made_by_us = license_is_ours(&loaded.purchase, &request);
        let announced = requested(&request, wait_until);
        let cause = loaded.purchase.cause.clone();
        let ids = ids_of(&loaded.purchase, std::slice::from_ref(&announced));
        let Some(request_id) = ids.first().cloned() else { return Ok(false) };
        if let Saved::Again = self.save(loaded, vec![(announced, request_id.clone())], cause).await? {
            return Ok(true);
        }
        let outcome = if made_by_us && !self.engines.has(&request.provider) {
            let reason = format!("provider `{}` is not configured", request.provider);
            let error = crate::provider::ProviderError::Refused { reason };
            Outcome::NotDone { error, nothing_found: request.provider_id.is_none() && request.attempt == 1 }
        } else {
            self.carry_out(&*engine, &request).await
        };
        let answer = self.answer(&request, &request_id, outcome);
        self.record(&request, &request_id, answer).await?;
        Ok(true)
    }

    async fn carry_out(&self, engine: &dyn Provider, request: &Request) -> Outcome {
        let name = request.provider.as_str().to_owned();
        let outcome = call::carry_out(engine, request, self.call_timeout).await;
        let word = match &outcome {
            Outcome::Made { found: true, .. } => "found",
            Outcome::Made { found: false, .. } => "created",
            Outcome::Changed => "changed",
            Outcome::NotDone { error, .. } => {
                let (answer, reason, _) = call::not_done(error);
                warn!(unit.id = %request.unit, provider.name = name, attempt = request.attempt, reason,
                    "provider did not do it: {answer:?}");
                answer_word(answer)
            }
        };
        metrics::counter!("keyledger_issue_attempts_total", "provider" => name, "outcome" => word).increment(1);
        outcome
    }

    fn answer(&self, request: &Request, request_id: &EventId, outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Made { held, found, surplus } => {
                let issued = outcome_id(request_id, ISSUED, &request.unit.to_string());
                let key = held.key.as_ref().map(|key| seal::seal(&self.keys, &issued, key));
                Answer::Made { provider_id: held.provider_id, key, found, surplus }
            }
            Outcome::Changed => Answer::Changed,
            Outcome::NotDone { error, nothing_found } => {
                let (answer, reason, retry_after) = call::not_done(&error);
                Answer::NotDone { answer, reason, retry_after, nothing_found }
            }
        }
    }

    /// Records an outcome, whatever happened to the purchase meanwhile: it is always appended.
    async fn record(&self, request: &Request, request_id: &EventId, answer: Answer) -> Result<(), WorkError> {
        loop {
            let loaded = self.load(&request.unit.purchase).await?;
            let events = answered(&loaded.purchase, request, answer.clone(), self.clock.now());
            let named = events
                .into_iter()
                .map(|event| {
                    let subject = match &event {
                        Event::LicenseSurplusFound(surplus) => format!("{}\n{}", request.unit, surplus.provider_id),
                        _ => request.unit.to_string(),
                    };
                    let id = outcome_id(request_id, event.kind(), &subject);
                    (event, id)
                })
                .collect();
            if let Saved::Done = self.save(loaded, named, Some(request_id.clone())).await? {
                return Ok(());
            }
        }
    }

    /// Nothing can be done now: notes when that changes.
    async fn rest(&self, loaded: Loaded, now: Timestamp) -> Result<(), WorkError> {
        let due_at = next_due(&loaded.purchase, &loaded.context, now);
        if due_at != loaded.due_at {
            self.save(loaded, Vec::new(), None).await?;
        }
        Ok(())
    }

    /// Loads a purchase with everything decisions need, its own stream read to the end.
    async fn load(&self, id: &PurchaseId) -> Result<Loaded, WorkError> {
        let row = self.log.state(PURCHASES, &id.to_string()).await?;
        let mut set = WorkingSet::new(self.log.clone());
        let mut purchase = set.purchase(id).await?.clone();
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
        let catalogue = set.catalogue_for(id).await?;
        let context = Context { settings, catalogue, providers: self.engines.capabilities() };
        let (revision, due_at) = row.map_or((0, None), |row| (row.revision, row.due_at));
        Ok(Loaded { purchase, context, revision, due_at })
    }

    /// Appends events with the state they lead to, in one transaction.
    async fn save(
        &self,
        loaded: Loaded,
        events: Vec<(Event, EventId)>,
        cause: Option<EventId>,
    ) -> Result<Saved, WorkError> {
        let now = self.clock.now();
        let Loaded { purchase, context, revision, .. } = loaded;
        let (id, stream, expected) = (purchase.id.clone(), purchase.id.stream(), purchase.version);
        let mut after = purchase;
        let mut appended = Vec::with_capacity(events.len());
        for (event, event_id) in &events {
            after = evolve(after, event, now);
            after.version += 1;
            appended.push(NewEvent {
                id: event_id.clone(),
                kind: event.kind().to_owned(),
                scope: id.scope.clone(),
                stream: stream.clone(),
                occurred_at: now,
                causation_id: cause.clone(),
                correlation_id: after.cause.clone(),
                schema_version: 1,
                actor: None,
                partition: partition_of(after.knowledge.customer.as_ref().map_or(&id.object, |c| c.as_str())),
                delivery: None,
                data: event.encode(),
                on_reuse: IdReuse::Refused,
            });
        }
        let due_at = next_due(&after, &context, now);
        let state = vec![StateWrite {
            namespace: PURCHASES.to_owned(),
            key: id.to_string(),
            expected: Some(revision),
            change: StateChange::Put { value: store::encode(&after), due_at },
        }];
        let expected = (!appended.is_empty()).then_some((stream, expected));
        let append = Append { events: appended, expected, state: self.fence.guarded(state) };
        match self.log.append(append).await {
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
    fn lost_race(&self, error: AppendError) -> Result<Saved, WorkError> {
        if self.fence.is_lost(&error) {
            return Err(WorkError::Fenced);
        }
        match error {
            AppendError::Conflict { .. } | AppendError::StaleState { .. } => {
                debug!(error = %error, "someone wrote first; deciding again");
                Ok(Saved::Again)
            }
            AppendError::IdReused { .. } | AppendError::Unavailable(_) => Err(WorkError::Append(error)),
        }
    }

    async fn renewed(&self, now: Timestamp) -> Result<bool, WorkError> {
        Ok(self.fence.renew(&self.log, now, true).await?)
    }
}

/// Takes note of a task that ended.
fn ended(
    joined: Result<(PurchaseId, Result<(), WorkError>), tokio::task::JoinError>,
    busy: &mut BTreeSet<PurchaseId>,
) -> Result<(), WorkError> {
    match joined {
        Ok((id, worked)) => {
            busy.remove(&id);
            match worked {
                Ok(()) => Ok(()),
                Err(WorkError::Fenced) => Err(WorkError::Fenced),
                Err(error) => {
                    warn!(purchase.id = %id, error = %chain(&error), "cannot work on a purchase; trying again");
                    Ok(())
                }
            }
        }
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Ids of events that a purchase decides at its present version: the same decision is always the same event.
fn ids_of(purchase: &Purchase, events: &[Event]) -> Vec<EventId> {
    let stream = purchase.id.stream();
    let cause = |index: usize| format!("{stream}@{}", purchase.version + index as u64);
    events.iter().enumerate().map(|(index, event)| derived_id(&cause(index), event.kind(), "")).collect()
}

/// The kind whose id a key is sealed under.
const ISSUED: &str = "license.issued";

fn outcome_id(request: &EventId, kind: &str, subject: &str) -> EventId {
    derived_id(request.as_str(), kind, subject)
}

fn purchase_id(key: &str) -> Result<PurchaseId, WorkError> {
    key.parse().map_err(|_| {
        WorkError::Store(StoreError::Log(LogError::Unsafe {
            reason: format!("the state row `{PURCHASES}/{key}` is not a purchase; rebuild the issuer's state"),
        }))
    })
}

/// Whether the license that is asked about is one we made, or are about to make.
fn license_is_ours(purchase: &Purchase, request: &Request) -> bool {
    let unit = purchase.unit(&request.unit.item, request.unit.number);
    let license = unit.and_then(|unit| unit.licenses.get(&request.generation));
    license.is_none_or(|license| !license.adopted)
}

fn answer_word(answer: keyledger_schemas::event::NotDone) -> &'static str {
    match answer {
        keyledger_schemas::event::NotDone::Refused => "rejected",
        keyledger_schemas::event::NotDone::Unavailable => "retry",
        keyledger_schemas::event::NotDone::Indeterminate => "unknown",
    }
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

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
