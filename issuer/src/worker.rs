//! Working off what is due: one purchase at a time each, many purchases at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_eventlog::consumer::{DELAYS, delay};
use keyledger_eventlog::log::{Append, LogError};
use keyledger_eventlog::state::{StateChange, StateRow, StateWrite};
use keyledger_schemas::ids::PurchaseId;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::desk::WorkError;
use crate::store::{PURCHASES, SWEEP, StoreError, Sweep};
use crate::work::{Ended, Work};

/// How many purchases are worked on at once.
pub const CONCURRENCY: usize = 64;

/// How many purchases one step of a sweep marks.
const SWEEP_PAGE: usize = 64;

/// The longest sleep: another process may have made something due.
const POLL: Duration = Duration::from_millis(500);

/// How long a purchase is left alone whose call is in hand elsewhere, or whose engine is crowded.
const WAIT: Duration = Duration::from_millis(500);

/// Works off due purchases.
#[derive(Clone)]
pub struct Worker {
    /// Works on single purchases.
    pub(crate) work: Work,
    /// Woken when something may be due.
    pub(crate) due: Arc<Notify>,
}

/// What is in hand, and what is left alone for a while.
#[derive(Default)]
struct Hands {
    tasks: JoinSet<(PurchaseId, Result<Ended, WorkError>)>,
    busy: BTreeSet<PurchaseId>,
    /// Purchases that are due but must wait: how often in a row they failed, and when to try again.
    left_alone: BTreeMap<PurchaseId, (usize, Instant)>,
}

impl Worker {
    /// Works until told to stop: purchases as they fall due, then sleeps until something may be. What is in hand by
    /// then is finished.
    ///
    /// # Errors
    ///
    /// [`WorkError::Fenced`] when another issuer took over; everything else is tried again.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), WorkError> {
        let mut hands = Hands::default();
        loop {
            let begun = if shutdown.is_cancelled() { Ok(0) } else { self.begin(&mut hands).await };
            let sleep = match begun {
                Ok(0) => POLL,
                Ok(_) => Duration::ZERO,
                Err(WorkError::Fenced) => return Err(WorkError::Fenced),
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "cannot see what is due; trying again");
                    POLL
                }
            };
            if shutdown.is_cancelled() && hands.tasks.is_empty() {
                return Ok(());
            }
            let full = hands.busy.len() >= CONCURRENCY;
            tokio::select! {
                Some(joined) = hands.tasks.join_next(), if !hands.tasks.is_empty() => hands.ended(joined)?,
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
        // Those whose call is in hand elsewhere: due, but not ours to go on with.
        let mut waiting = BTreeSet::new();
        loop {
            let swept = self.sweep().await?;
            let mut due = self.due(CONCURRENCY + waiting.len()).await?;
            due.retain(|row| !waiting.contains(&row.key));
            if due.is_empty() && !swept {
                return Ok(worked);
            }
            worked |= swept;
            for row in due {
                match self.work.on(&purchase_id(&row)?).await? {
                    Ended::Waiting => {
                        waiting.insert(row.key);
                    }
                    Ended::Rested | Ended::More => worked = true,
                }
            }
        }
    }

    /// Starts tasks for due purchases that none is on yet. Says how many.
    async fn begin(&self, hands: &mut Hands) -> Result<usize, WorkError> {
        let room = CONCURRENCY.saturating_sub(hands.busy.len());
        if room == 0 {
            return Ok(0);
        }
        let mut begun = usize::from(self.sweep().await?);
        let now = Instant::now();
        // Those that are busy or left alone are still among what is due.
        for row in self.due(room + hands.busy.len() + hands.left_alone.len()).await? {
            let id = purchase_id(&row)?;
            let waits = hands.left_alone.get(&id).is_some_and(|(_, again)| *again > now);
            if waits || begun >= room || !hands.busy.insert(id.clone()) {
                continue;
            }
            begun += 1;
            let work = self.work.clone();
            hands.tasks.spawn(async move {
                let result = work.on(&id).await;
                (id, result)
            });
        }
        Ok(begun)
    }

    async fn due(&self, limit: usize) -> Result<Vec<StateRow>, WorkError> {
        let desk = &self.work.desk;
        Ok(desk.log.state_due(PURCHASES, desk.clock.now(), limit).await?)
    }

    /// Marks a page of all purchases due, where settings or the catalogue changed. Says whether there was one.
    ///
    /// It calls nobody, and reads no purchase: one that hangs, or that cannot be read, does not hold up the others. Every row
    /// gets a new revision, so that a task that is deciding by the old settings decides again.
    async fn sweep(&self) -> Result<bool, WorkError> {
        let desk = &self.work.desk;
        let Some(row) = desk.log.state(SWEEP, "all").await? else { return Ok(false) };
        let sweep: Sweep = crate::store::decode(&row)?;
        let page = desk.log.state_scan(PURCHASES, "", &sweep.after, SWEEP_PAGE).await?;
        let now = desk.clock.now();
        let full = page.len() == SWEEP_PAGE;
        let next = match page.last() {
            Some(last) if full => Some(Sweep { after: last.key.clone(), again: sweep.again }),
            _ if sweep.again => Some(Sweep::default()),
            _ => None,
        };
        let mut state: Vec<_> = page.into_iter().map(|row| marked(row, now)).collect();
        state.push(StateWrite {
            namespace: SWEEP.to_owned(),
            key: "all".to_owned(),
            expected: Some(row.revision),
            change: match next {
                Some(next) => StateChange::Put { value: crate::store::encode(&next), due_at: row.due_at },
                None => StateChange::Delete,
            },
        });
        let append = Append { state: desk.fence.guarded(state), ..Append::default() };
        match desk.log.append(append).await {
            Ok(_) => Ok(true),
            // A purchase was written meanwhile, or the sweep was ordered anew: the page is marked the next time.
            Err(error) => desk.lost_race(error).map(|_| true),
        }
    }
}

impl Hands {
    /// Takes note of a task that ended.
    fn ended(&mut self, joined: Result<(PurchaseId, Result<Ended, WorkError>), JoinError>) -> Result<(), WorkError> {
        let (id, result) = match joined {
            Ok(ended) => ended,
            // A panic is a broken invariant: it stops the role loudly.
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        self.busy.remove(&id);
        match result {
            Ok(Ended::Rested | Ended::More) => {
                self.left_alone.remove(&id);
                Ok(())
            }
            Ok(Ended::Waiting) => {
                self.left_alone.insert(id, (0, Instant::now() + WAIT));
                Ok(())
            }
            Err(WorkError::Fenced) => Err(WorkError::Fenced),
            Err(error) => {
                let failures = self.left_alone.get(&id).map_or(0, |(failures, _)| *failures) + 1;
                let wait = delay(DELAYS, failures);
                warn!(purchase.id = %id, error = &error as &dyn std::error::Error, delay_ms = wait.as_millis(),
                    "cannot work on a purchase; trying again later");
                self.left_alone.insert(id, (failures, Instant::now() + wait));
                Ok(())
            }
        }
    }
}

/// The row as it is, due now.
fn marked(row: StateRow, now: Timestamp) -> StateWrite {
    StateWrite {
        namespace: row.namespace,
        key: row.key,
        expected: Some(row.revision),
        change: StateChange::Put { value: row.value, due_at: Some(now) },
    }
}

fn purchase_id(row: &StateRow) -> Result<PurchaseId, WorkError> {
    row.key.parse().map_err(|_| {
        WorkError::Store(StoreError::Log(LogError::Unsafe {
            reason: format!("the state row `{PURCHASES}/{}` is not a purchase; rebuild the issuer's state", row.key),
        }))
    })
}
