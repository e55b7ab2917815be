//! Carrying errands out as they fall due, each under the issuer's lease, and recording what became of them.
//!
//! Safe at every await point: before a call nothing is promised, after it the outcome stands in the log together with the
//! errand's row. A crash between the two repeats a call that changes nothing the second time.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use keyledger_eventlog::checkpoint::Cursor;
use keyledger_eventlog::log::{Append, AppendError, Placed};
use keyledger_eventlog::state::{StateChange, StateRow, StateWrite};
use keyledger_schemas::envelope::NewEvent;
use keyledger_schemas::ids::SourceName;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Stripe;
use super::calls::{Calls, Outcome};
use super::errand::{ERRANDS, Errand, Row, Stored, Task, delay};
use super::look::Look;
use super::reader::Reader;
use crate::desk::{Desk, WorkError};

/// How many errands are carried out at once.
const AT_ONCE: usize = 4;

/// How many due errands are looked at in one go.
const BATCH: usize = 32;

/// What the keys of comparisons begin with.
const COMPARISONS: &str = "reconcile:";

/// The longest sleep: another process may have written to the log.
const POLL: Duration = Duration::from_millis(500);

/// How long an outcome is held while the log is away, before it is left to be found out anew.
const RECORD_FOR: Duration = Duration::from_secs(30);

/// How long to wait before an outcome is offered to the log again.
const RECORD_AGAIN: Duration = Duration::from_millis(200);

/// Reads the log for errands, and carries them out.
pub struct Runner {
    reader: Reader,
    look: Arc<Look>,
    calls: Calls,
    begun: tokio::sync::Mutex<bool>,
}

/// Which errands: comparing a log with Stripe may take long, and is done beside the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kinds {
    Comparisons,
    Others,
}

impl Runner {
    /// Works at `desk` for these sources.
    pub(crate) fn new(desk: Desk, call_timeout: Duration, stripe: Stripe) -> Self {
        let options = stripe.options.clone();
        let look = Arc::new(Look { desk, stripe: Arc::new(stripe), options });
        let (reader, calls) = (Reader { look: look.clone() }, Calls { look: look.clone(), call_timeout });
        Self { reader, look, calls, begun: tokio::sync::Mutex::new(false) }
    }

    /// The same at the same desk, for other sources.
    pub(crate) fn with_stripe(self, stripe: Stripe) -> Self {
        Self::new(self.look.desk.clone(), self.calls.call_timeout, stripe)
    }

    /// Reads and carries out until told to stop. What is in hand is finished, but for a comparison with Stripe, which may
    /// take long and goes on another time.
    ///
    /// # Errors
    ///
    /// [`WorkError::Fenced`] when another issuer took over; everything else is tried again.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), WorkError> {
        let stop = shutdown.child_token();
        let comparing = async {
            tokio::select! {
                ended = self.again_and_again(&stop, Kinds::Comparisons) => ended,
                () = stop.cancelled() => Ok(()),
            }
        };
        let ended = async {
            let ended = self.again_and_again(&stop, Kinds::Others).await;
            stop.cancel();
            ended
        };
        let (ended, compared) = tokio::join!(ended, comparing);
        ended.and(compared)
    }

    /// Reads and carries out all that is due now. Says whether anything was.
    ///
    /// # Errors
    ///
    /// See [`WorkError`].
    pub async fn run_until_idle(&self) -> Result<bool, WorkError> {
        let mut worked = false;
        let never = CancellationToken::new();
        self.begin().await?;
        while self.turn(&never, Kinds::Others).await? | self.turn(&never, Kinds::Comparisons).await? {
            worked = true;
        }
        Ok(worked)
    }

    async fn again_and_again(&self, stop: &CancellationToken, kinds: Kinds) -> Result<(), WorkError> {
        let mut wake = self.look.desk.log.wake();
        while !stop.is_cancelled() {
            let worked = match self.begin().await {
                Ok(()) => self.turn(stop, kinds).await,
                Err(error) => Err(error),
            };
            match worked {
                Ok(true) => continue,
                Ok(false) => {}
                Err(WorkError::Fenced) => {
                    stop.cancel();
                    return Err(WorkError::Fenced);
                }
                Err(error) => warn!(error = &error as &dyn std::error::Error, "cannot see to effects; trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                Ok(()) = wake.changed(), if kinds == Kinds::Others => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn begin(&self) -> Result<(), WorkError> {
        let mut begun = self.begun.lock().await;
        if !*begun {
            self.reader.begin().await?;
            *begun = true;
        }
        Ok(())
    }

    /// Reads to where the issuer has read, then carries out what is due of these kinds.
    async fn turn(&self, stop: &CancellationToken, kinds: Kinds) -> Result<bool, WorkError> {
        let mut worked = false;
        while kinds == Kinds::Others && !stop.is_cancelled() && self.reader.step().await? {
            worked = true;
        }
        let now = self.look.desk.clock.now();
        let mut running = FuturesUnordered::new();
        let mut results = Vec::new();
        for stored in self.due(kinds, now).await? {
            // Whoever is told to stop begins nothing more.
            if stop.is_cancelled() {
                break;
            }
            running.push(self.try_out(stored));
            if running.len() >= AT_ONCE {
                results.extend(running.next().await);
            }
        }
        while let Some(result) = running.next().await {
            results.push(result);
        }
        for (stored, result) in results {
            match result {
                Ok(()) => worked = true,
                Err(WorkError::Fenced) => return Err(WorkError::Fenced),
                Err(error) => {
                    warn!(
                        errand.key = stored.key,
                        error = &error as &dyn std::error::Error,
                        "cannot see to an errand; trying again later"
                    );
                    let failed = Outcome::Failed { asked: None, replayed: false };
                    let (events, state) = self.conclude(&stored, None, failed, now);
                    self.record(events, state).await?;
                }
            }
        }
        Ok(worked)
    }

    async fn due(&self, kinds: Kinds, now: Timestamp) -> Result<Vec<Stored>, WorkError> {
        let log = &self.look.desk.log;
        let rows = match kinds {
            Kinds::Others => log.state_due(ERRANDS, now, BATCH + self.look.stripe.sources.len()).await?,
            Kinds::Comparisons => log.state_scan(ERRANDS, COMPARISONS, "", BATCH).await?,
        };
        let mut due = Vec::new();
        for row in rows.iter().filter(|row| row.due_at.is_some_and(|at| at <= now)) {
            if row.key.starts_with(COMPARISONS) != (kinds == Kinds::Comparisons) {
                continue;
            }
            match Stored::of(row) {
                Ok(stored) if self.is_read(&stored.row).await? => due.push(stored),
                Ok(_) => {}
                // Another build's. What it timed comes back with the next event.
                Err(error) => {
                    warn!(errand.key = row.key, error = &error as &dyn std::error::Error, "an errand is forgotten");
                    self.record(Vec::new(), vec![forget(row)]).await?;
                }
            }
        }
        Ok(due)
    }

    /// Whether the issuer has read the answer that this errand waits for.
    async fn is_read(&self, row: &Row) -> Result<bool, WorkError> {
        let Some(after) = &row.after else { return Ok(true) };
        let log = &self.look.desk.log;
        let read = Cursor::load(&**log, crate::reader::NAME).await?.checkpoint().position;
        Ok(log.find(after).await?.is_none_or(|event| event.position <= read))
    }

    async fn try_out(&self, stored: Stored) -> (Stored, Result<(), WorkError>) {
        let result = self.carry_out(&stored).await;
        (stored, result)
    }

    /// Looks whether the errand is still to be done; does it, and records what became of it.
    async fn carry_out(&self, stored: &Stored) -> Result<(), WorkError> {
        let now = self.look.desk.clock.now();
        let mut mine = None;
        let mut notes = Vec::new();
        for errand in self.look.wanted(&stored.row.subject, now).await? {
            if errand.task.key() == stored.key {
                mine = Some(errand);
            } else {
                notes.push(errand);
            }
        }
        let Some(errand) = mine else {
            let mut state = vec![stored.done()];
            state.extend(self.notes(stored, &notes, now).await?);
            return self.record(Vec::new(), state).await;
        };
        if stored.row.attempts == 0 && errand.due_at > now {
            let mut state = vec![stored.put(&stored.row, errand.due_at)];
            state.extend(self.notes(stored, &notes, now).await?);
            return self.record(Vec::new(), state).await;
        }
        let outcome = self.calls.perform(&stored.row, &errand, now).await?;
        let (events, mut state) = self.conclude(stored, Some(&errand.task), outcome, now);
        state.extend(self.notes(stored, &notes, now).await?);
        self.record(events, state).await
    }

    /// The writes that note what else the subject gives rise to.
    async fn notes(&self, stored: &Stored, errands: &[Errand], now: Timestamp) -> Result<Vec<StateWrite>, WorkError> {
        let mut writes = Vec::new();
        for errand in errands {
            let row = self.look.desk.log.state(ERRANDS, &errand.task.key()).await?;
            let known = row.as_ref().map(Stored::of).transpose()?;
            writes.extend(super::errand::note(known.as_ref(), errand, &stored.row.subject, now));
        }
        Ok(writes)
    }

    /// What is recorded about an outcome: events, and what becomes of the row.
    fn conclude(
        &self,
        stored: &Stored,
        task: Option<&Task>,
        outcome: Outcome,
        now: Timestamp,
    ) -> (Vec<NewEvent>, Vec<StateWrite>) {
        let row = &stored.row;
        let after = |wait: Duration| now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let word = match &outcome {
            Outcome::Done { .. } => "done",
            Outcome::Failed { .. } => "retry",
            Outcome::Postponed(_) => "postponed",
        };
        metrics::counter!("keyledger_errands_total", "kind" => kind(&stored.key), "outcome" => word).increment(1);
        match outcome {
            Outcome::Done { events, mut state, after: read } => {
                let write = match (task, read) {
                    // It comes again by time.
                    (Some(Task::Reconcile { source, .. }), _) => {
                        let done = Row { attempts: 0, done_at: Some(now), ..row.clone() };
                        stored.put(&done, self.again(source, now))
                    }
                    // More may be wanted once the answer is known.
                    (_, Some(event)) => stored.put(&Row { attempts: 0, after: Some(event), ..row.clone() }, now),
                    (_, None) => stored.done(),
                };
                state.push(write);
                (events, state)
            }
            Outcome::Failed { asked, replayed } => {
                let wait = delay(row.attempts, asked);
                let fresh = row.fresh + u32::from(replayed);
                let row = Row { attempts: row.attempts.saturating_add(1), fresh, ..row.clone() };
                (Vec::new(), vec![stored.put(&row, after(wait))])
            }
            Outcome::Postponed(wait) => (Vec::new(), vec![stored.put(row, after(wait))]),
        }
    }

    /// When a comparison with Stripe comes again.
    fn again(&self, source: &SourceName, now: Timestamp) -> Timestamp {
        let every = self.look.stripe.sources.get(source).and_then(|source| source.reconcile_every);
        every.and_then(|every| now.saturating_add(every).ok()).unwrap_or(Timestamp::MAX)
    }

    /// Appends what became of an errand with its row. A log that is away for a moment is waited for.
    async fn record(&self, events: Vec<NewEvent>, state: Vec<StateWrite>) -> Result<(), WorkError> {
        let desk = &self.look.desk;
        let tries = RECORD_FOR.as_millis() / RECORD_AGAIN.as_millis();
        let mut failed = 0;
        loop {
            let append = Append { events: events.clone(), expected: None, state: desk.fence.guarded(state.clone()) };
            match desk.log.append(append).await {
                // All of it stood there already, so no state was written with it.
                Ok(placed)
                    if !placed.is_empty() && placed.iter().all(|place| matches!(place, Placed::Duplicate(_))) =>
                {
                    return Box::pin(self.record(Vec::new(), state)).await;
                }
                Ok(_) => return Ok(()),
                Err(AppendError::Unavailable(_)) if failed < tries => {
                    failed += 1;
                    tokio::time::sleep(RECORD_AGAIN).await;
                }
                Err(error @ AppendError::Unavailable(_)) => return Err(WorkError::Append(error)),
                // The row, or the customer, was written meanwhile: it is looked at again. What was done is recorded alone.
                Err(error) => {
                    desk.lost_race(error)?;
                    if events.is_empty() {
                        return Ok(());
                    }
                    return Box::pin(self.record_events(events)).await;
                }
            }
        }
    }

    /// Appends events whose row was changed meanwhile: the next look sees them in their streams.
    async fn record_events(&self, events: Vec<NewEvent>) -> Result<(), WorkError> {
        let desk = &self.look.desk;
        let append = Append { events, expected: None, state: desk.fence.guarded(Vec::new()) };
        match desk.log.append(append).await {
            Ok(_) => Ok(()),
            Err(error @ AppendError::Unavailable(_)) => Err(WorkError::Append(error)),
            Err(error) => desk.lost_race(error).map(|_| ()),
        }
    }
}

/// The kind of an errand: what its key begins with.
fn kind(key: &str) -> &'static str {
    let kinds = ["metadata", "fetch", "customer", "reconcile"];
    kinds.into_iter().find(|kind| key.starts_with(kind)).unwrap_or("other")
}

fn forget(row: &StateRow) -> StateWrite {
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    StateWrite { namespace, key, expected: Some(row.revision), change: StateChange::Delete }
}
