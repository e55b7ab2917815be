//! Nothing is added to a log that lacks events which others have seen: it was restored from an old backup, and what it
//! lost may still be put back, as long as nothing else stands in its place.
//!
//! ```text
//!   roles, verbs ──append──▶ Gated ──▶ log          refused while the gate is closed; reading goes on
//!   relay ─────────restore──────────▶ log          puts back what the mirror holds; then the gate opens
//!   Keeper ──looks at mirror and views──▶ gate
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_eventlog::jetstream::Mirror;
use keyledger_eventlog::jetstream::compare::{Ahead, ahead};
use keyledger_eventlog::jetstream::judgement::Judgement;
use keyledger_eventlog::jetstream::mirror::Look;
use keyledger_eventlog::log::{Append, AppendError, EventLog, Head, LogError, Placed, RestoreError};
use keyledger_eventlog::state::{StateRow, StateStore};
use keyledger_ingest::gate::{Closed, Gate};
use keyledger_schemas::envelope::{Position, Recorded, Version};
use keyledger_schemas::ids::{EventId, StreamId};
use keyledger_schemas::secret::Secret;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::restored::{self, Views};

/// How long NATS may take to answer at the start. Without an answer the gate opens: intake never depends on NATS.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the mirror is looked at.
const MIRROR_EVERY: Duration = Duration::from_secs(2);

/// After so many looks at the mirror the views are looked at too: while this process runs, the log does not go back
/// unnoticed.
const VIEWS_EVERY: u32 = 15;

/// A look that failed so long ago is not tried again by the next one who wants to add something.
const LOOKED_WITHIN: Duration = Duration::from_secs(1);

/// What a mirror holds and nobody has put back for so long is given up too, where the loss is accepted.
const STUCK_AFTER: Duration = Duration::from_mins(1);

/// How often both are looked at while the gate is closed.
const CLOSED_EVERY: Duration = Duration::from_millis(500);

/// Closes the gate while the log lacks something, and opens it again.
#[derive(Clone)]
pub struct Keeper {
    gate: Gate,
    /// The log itself, not the one behind the gate.
    log: Arc<dyn EventLog>,
    mirror: Option<Mirror>,
    views: Secret,
    shared: Arc<Shared>,
}

/// What all who keep one gate know.
struct Shared {
    /// Whether what nobody can give back is given up. Over once nothing is missing: the next loss is another one.
    accept_loss: AtomicBool,
    /// How often the log may have become another one: at first, and whenever it was away.
    doubts: AtomicU64,
    /// How many of the doubts a look has answered.
    answered: AtomicU64,
    /// One looks at a time. When a look failed last; whoever waited for it shares what came of it.
    looking: Mutex<Option<Instant>>,
    /// Where the log was when a mirror was found ahead of it, and since when it has not moved.
    waiting: std::sync::Mutex<Option<(Position, Instant)>>,
}

impl Shared {
    fn is_in_doubt(&self) -> bool {
        self.answered.load(Ordering::SeqCst) < self.doubts.load(Ordering::SeqCst)
    }
}

impl Keeper {
    /// A keeper of `gate`, which is closed until it has looked. With `accept_loss` what nobody can give back is given up.
    pub fn new(gate: Gate, log: Arc<dyn EventLog>, mirror: Option<Mirror>, views: Secret, accept_loss: bool) -> Self {
        metrics::describe_gauge!("keyledger_gate_closed", "1 while nothing is appended, because the log lacks events");
        gate.set(Some(Closed::Unknown));
        let shared = Shared {
            accept_loss: AtomicBool::new(accept_loss),
            doubts: AtomicU64::new(1),
            answered: AtomicU64::new(0),
            looking: Mutex::new(None),
            waiting: std::sync::Mutex::new(None),
        };
        Self { gate, log, mirror, views, shared: Arc::new(shared) }
    }

    /// Looks once, and waits for NATS for a while.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub async fn look(&self) -> Result<Option<Closed>, LogError> {
        let mut failed = self.shared.looking.lock().await;
        self.look_alone(&mut failed).await
    }

    async fn look_alone(&self, failed: &mut Option<Instant>) -> Result<Option<Closed>, LogError> {
        // Read before the look: what is doubted meanwhile is looked at again.
        let doubts = self.shared.doubts.load(Ordering::SeqCst);
        match self.look_at_both().await {
            Ok(closed) => {
                self.set(closed);
                self.shared.answered.fetch_max(doubts, Ordering::SeqCst);
                Ok(closed)
            }
            Err(error) => {
                *failed = Some(Instant::now());
                Err(error)
            }
        }
    }

    /// Looks if there is a doubt, and waits for whoever looks now.
    async fn settle(&self) -> Result<(), AppendError> {
        if !self.shared.is_in_doubt() {
            return Ok(());
        }
        let mut failed = self.shared.looking.lock().await;
        if !self.shared.is_in_doubt() {
            return Ok(());
        }
        if failed.is_some_and(|at| at.elapsed() < LOOKED_WITHIN) {
            return Err(refused("the log was away a moment ago"));
        }
        self.look_alone(&mut failed).await.map(drop).map_err(AppendError::Unavailable)
    }

    /// Notes that the log was away: it may have come back as another one.
    fn doubt(&self) {
        self.shared.doubts.fetch_add(1, Ordering::SeqCst);
    }

    async fn look_at_both(&self) -> Result<Option<Closed>, LogError> {
        let mirror = self.mirror_ahead().await?;
        let views = if mirror.is_none() { self.views_ahead().await? } else { None };
        let accept_loss = self.shared.accept_loss.load(Ordering::SeqCst);
        if mirror.is_none() && views.is_none() {
            self.shared.accept_loss.store(false, Ordering::SeqCst);
        }
        // What the mirror holds is put back, whatever is accepted, unless that does not get on.
        Ok(mirror.filter(|_| !accept_loss || !self.is_stuck()).or(views.filter(|_| !accept_loss)))
    }

    /// Looks again and again until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut round: u32 = 0;
        while !stop.is_cancelled() {
            let was = self.gate.closed();
            let wait = if was.is_some() { CLOSED_EVERY } else { MIRROR_EVERY };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            round = round.wrapping_add(1);
            // While this process runs, the log does not go back unnoticed: the views need no look every time.
            if was.is_none() && !round.is_multiple_of(VIEWS_EVERY) && !self.is_mirror_ahead_now().await {
                continue;
            }
            if let Err(error) = self.look().await {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "cannot see now whether the log is whole");
            }
        }
    }

    async fn is_mirror_ahead_now(&self) -> bool {
        let Some(mirror) = &self.mirror else { return false };
        matches!(ahead(&*self.log, mirror, PATIENCE).await, Ok(Ahead::By { .. }))
    }

    /// Whether the mirror holds what the log lacks. Once it was found to, that stands until an answer says otherwise.
    async fn mirror_ahead(&self) -> Result<Option<Closed>, LogError> {
        let was = self.gate.closed();
        let Some(mirror) = &self.mirror else { return Ok(None) };
        Ok(match ahead(&*self.log, mirror, PATIENCE).await? {
            Ahead::By { log, mirror } => {
                if was != Some(Closed::BehindMirror) {
                    tracing::warn!(
                        "the log ends at {log}, and its mirror at {mirror}: the rest is put back from there"
                    );
                }
                let mut waiting = self.waiting();
                if waiting.is_none_or(|(position, _)| position != log) {
                    *waiting = Some((log, Instant::now()));
                }
                Some(Closed::BehindMirror)
            }
            Ahead::No | Ahead::Diverged => {
                *self.waiting() = None;
                None
            }
            Ahead::Unknown if was == Some(Closed::BehindMirror) => was,
            Ahead::Unknown => {
                if was == Some(Closed::Unknown) {
                    tracing::warn!("NATS does not answer, so nobody knows whether the mirror holds more than the log");
                }
                None
            }
        })
    }

    /// Whether what the mirror holds is not put back, for a long time now.
    fn is_stuck(&self) -> bool {
        self.waiting().is_some_and(|(_, since)| since.elapsed() > STUCK_AFTER)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<(Position, Instant)>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn views_ahead(&self) -> Result<Option<Closed>, LogError> {
        Ok(match restored::look_at_views(&*self.log, self.views.expose()).await? {
            Views::Fine => None,
            // Nothing can be put back where something else stands. What the mirror held was added again elsewhere.
            Views::Other(_) if is_ours(self.mirror.as_ref()).await => None,
            Views::Ahead(_) | Views::Other(_) => Some(Closed::BehindViews),
        })
    }

    fn set(&self, closed: Option<Closed>) {
        metrics::gauge!("keyledger_gate_closed").set(if closed.is_some() { 1.0 } else { 0.0 });
        let was = self.gate.closed();
        if !self.gate.set(closed) {
            return;
        }
        match closed {
            Some(reason @ Closed::BehindMirror) => tracing::error!(
                "nothing is taken and nothing is issued: {reason}. What is missing is put back from there, and then it \
                 goes on by itself"
            ),
            Some(reason @ Closed::BehindViews) => tracing::error!(
                "nothing is taken and nothing is issued: {reason}. It goes on by itself once what is missing is back: \
                 start NATS, which may have all of it, or bring back a newer backup of the log; docs/operations.md says \
                 how to go on without it"
            ),
            Some(Closed::Unknown) => {}
            None if was == Some(Closed::Unknown) => tracing::debug!("the log holds all that others have seen"),
            None => tracing::info!("the log holds again all that others have seen: events are taken"),
        }
    }
}

/// Whether there is a mirror of this very log: then what only the mirror held is in the log too. A log of somebody else,
/// named by mistake, has none.
pub async fn is_ours(mirror: Option<&Mirror>) -> bool {
    let Some(mirror) = mirror else { return false };
    let look = tokio::time::timeout(PATIENCE, mirror.look()).await;
    matches!(look, Ok(Ok(Look::Here(Judgement::Ours { .. } | Judgement::Holes { .. } | Judgement::Unsafe { .. }))))
}

/// A log that takes no events while its gate is closed. Reading goes on, and so do state rows: leases must live, and a
/// row takes no place from an event.
pub struct Gated {
    log: Arc<dyn EventLog>,
    keeper: Keeper,
}

impl Gated {
    /// A log behind the gate of `keeper`, who looks before the first event, and again after the log was away.
    pub fn new(log: Arc<dyn EventLog>, keeper: Keeper) -> Self {
        Self { log, keeper }
    }

    async fn require_open(&self) -> Result<(), AppendError> {
        self.keeper.settle().await?;
        self.keeper.gate.closed().map_or(Ok(()), |reason| Err(refused(&reason.to_string())))
    }
}

fn refused(reason: &str) -> AppendError {
    AppendError::Unavailable(LogError::Unsafe { reason: format!("{reason}: nothing may be added now") })
}

#[async_trait]
impl EventLog for Gated {
    fn log_id(&self) -> Uuid {
        self.log.log_id()
    }

    async fn append(&self, append: Append) -> Result<Vec<Placed>, AppendError> {
        if !append.events.is_empty() {
            self.require_open().await?;
        }
        let appended = self.log.append(append).await;
        if let Err(AppendError::Unavailable(_)) = &appended {
            self.keeper.doubt();
        }
        appended
    }

    async fn restore(&self, events: &[Recorded]) -> Result<Head, RestoreError> {
        self.log.restore(events).await
    }

    async fn read_after(&self, after: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        self.log.read_after(after, limit).await
    }

    async fn read_stream(&self, stream: &StreamId, after: Version, limit: usize) -> Result<Vec<Recorded>, LogError> {
        self.log.read_stream(stream, after, limit).await
    }

    async fn find(&self, id: &EventId) -> Result<Option<Recorded>, LogError> {
        self.log.find(id).await
    }

    async fn at(&self, position: Position) -> Result<Option<Recorded>, LogError> {
        self.log.at(position).await
    }

    async fn chain_at(&self, position: Position) -> Result<Option<[u8; 32]>, LogError> {
        self.log.chain_at(position).await
    }

    async fn head(&self) -> Result<Head, LogError> {
        self.log.head().await
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.log.wake()
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

#[async_trait]
impl StateStore for Gated {
    async fn state(&self, namespace: &str, key: &str) -> Result<Option<StateRow>, LogError> {
        self.log.state(namespace, key).await
    }

    async fn state_scan(
        &self,
        namespace: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<StateRow>, LogError> {
        self.log.state_scan(namespace, prefix, after, limit).await
    }

    async fn state_due(&self, namespace: &str, now: Timestamp, limit: usize) -> Result<Vec<StateRow>, LogError> {
        self.log.state_due(namespace, now, limit).await
    }

    async fn state_due_count(&self, namespace: &str, now: Timestamp) -> Result<u64, LogError> {
        self.log.state_due_count(namespace, now).await
    }

    async fn state_next_due(&self, namespace: &str) -> Result<Option<Timestamp>, LogError> {
        self.log.state_next_due(namespace).await
    }
}

#[cfg(test)]
mod tests {
    use keyledger_eventlog::consumer::{self, Consumer};
    use keyledger_eventlog::memory::MemoryLog;
    use keyledger_eventlog::state::{StateChange, StateWrite};
    use keyledger_eventlog::tail::{SqlTail, Tail};
    use keyledger_projector::Projector;
    use keyledger_schemas::clock::ManualClock;
    use keyledger_schemas::settings::DecidingSettings;

    use super::super::recorded_settings;
    use super::*;

    fn memory() -> Arc<dyn EventLog> {
        Arc::new(MemoryLog::new(Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH))))
    }

    fn keeper(gate: &Gate, log: &Arc<dyn EventLog>, views: &str, accept_loss: bool) -> Keeper {
        Keeper::new(gate.clone(), log.clone(), None, Secret::new(views), accept_loss)
    }

    #[tokio::test]
    async fn while_the_gate_is_closed_events_are_refused_and_leases_live() {
        let (gate, log) = (Gate::default(), memory());
        let gated = Gated::new(log.clone(), keeper(&gate, &log, "sqlite:/nowhere/views.db", false));
        let settings = DecidingSettings::default();
        assert_eq!(gate.closed(), Some(Closed::Unknown), "closed until somebody looked");
        gated.require_open().await.unwrap();
        gate.set(Some(Closed::BehindMirror));
        let refused = recorded_settings::record(&gated, &settings, Timestamp::UNIX_EPOCH).await.unwrap_err();
        assert!(format!("{refused:#}").contains("the log is behind its mirror"), "{refused:#}");
        let row = StateWrite {
            namespace: "lease".to_owned(),
            key: "issuer".to_owned(),
            expected: Some(0),
            change: StateChange::Put { value: Vec::new(), due_at: None },
        };
        gated.append(Append { state: vec![row], ..Append::default() }).await.unwrap();
        assert_eq!(log.head().await.unwrap().position, 0);
        gate.set(None);
        assert!(recorded_settings::record(&gated, &settings, Timestamp::UNIX_EPOCH).await.unwrap());
    }

    /// Views that have seen all of `log`.
    async fn views_of(log: &Arc<dyn EventLog>, url: &str) {
        let projector = Projector::open(url).await.unwrap();
        let tail: Arc<dyn Tail> = Arc::new(SqlTail::new(log.clone()));
        let mut consumer = Consumer::new(projector, tail, consumer::Options::default());
        consumer.run_until_idle().await.unwrap();
    }

    #[tokio::test]
    async fn views_that_have_seen_more_close_the_gate_until_the_loss_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("views.db").display());
        let full = memory();
        recorded_settings::record(&*full, &DecidingSettings::default(), Timestamp::UNIX_EPOCH).await.unwrap();
        views_of(&full, &url).await;
        for (accept_loss, closed) in [(false, Some(Closed::BehindViews)), (true, None)] {
            let (gate, empty) = (Gate::default(), memory());
            assert_eq!(keeper(&gate, &empty, &url, accept_loss).look().await.unwrap(), closed);
            assert_eq!(gate.closed(), closed);
        }
        let gate = Gate::default();
        assert_eq!(keeper(&gate, &full, &url, false).look().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_loss_is_accepted_once() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("views.db").display());
        let (gate, log, full) = (Gate::default(), memory(), memory());
        let keeper = keeper(&gate, &log, &url, true);
        assert_eq!(keeper.look().await.unwrap(), None);
        recorded_settings::record(&*full, &DecidingSettings::default(), Timestamp::UNIX_EPOCH).await.unwrap();
        views_of(&full, &url).await;
        assert_eq!(keeper.look().await.unwrap(), Some(Closed::BehindViews), "that is another loss");
    }

    #[tokio::test]
    async fn views_of_another_history_are_told_from_views_that_are_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("views.db").display());
        let [log, fork, empty] = [(); 3].map(|()| memory());
        recorded_settings::record(&*log, &DecidingSettings::default(), Timestamp::UNIX_EPOCH).await.unwrap();
        recorded_settings::record(&*fork, &DecidingSettings::default(), Timestamp::MIN).await.unwrap();
        views_of(&log, &url).await;
        let look = async |log: &Arc<dyn EventLog>| restored::look_at_views(&**log, &url).await.unwrap();
        assert_eq!(look(&log).await, Views::Fine);
        assert_eq!(look(&fork).await, Views::Other(1));
        assert_eq!(look(&empty).await, Views::Ahead(1));
    }

    #[tokio::test]
    async fn a_log_that_was_away_is_looked_at_before_the_next_event() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("views.db").display());
        let (gate, log, full) = (Gate::default(), memory(), memory());
        let gated = Gated::new(log.clone(), keeper(&gate, &log, &url, false));
        gated.require_open().await.unwrap();
        recorded_settings::record(&*full, &DecidingSettings::default(), Timestamp::UNIX_EPOCH).await.unwrap();
        views_of(&full, &url).await;
        gated.require_open().await.unwrap();
        gated.keeper.doubt();
        gated.require_open().await.unwrap_err();
        assert_eq!(gate.closed(), Some(Closed::BehindViews));
    }
}
