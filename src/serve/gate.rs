//! Nothing is added to a log that lacks events which others have seen: it was restored from an old backup, and what it
//! lost may still be put back, as long as nothing else stands in its place.
//!
//! ```text
//!   roles, verbs ──append──▶ Gated ──▶ log          refused while the gate is closed; reading goes on
//!   relay ─────────restore──────────▶ log          puts back what the mirror holds; then the gate opens
//!   Keeper ──looks at mirror and views──▶ gate
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_eventlog::jetstream::Mirror;
use keyledger_eventlog::jetstream::compare::{Ahead, ahead};
use keyledger_eventlog::log::{Append, AppendError, EventLog, Head, LogError, Placed, RestoreError};
use keyledger_eventlog::state::{StateRow, StateStore};
use keyledger_ingest::gate::{Closed, Gate};
use keyledger_schemas::envelope::{Position, Recorded, Version};
use keyledger_schemas::ids::{EventId, StreamId};
use keyledger_schemas::secret::Secret;
use tokio::sync::{Mutex, watch};
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
    accept_loss: bool,
}

impl Keeper {
    /// A keeper of `gate`, which is closed until it has looked. With `accept_loss` it stays open whatever is lost.
    pub fn new(gate: Gate, log: Arc<dyn EventLog>, mirror: Option<Mirror>, views: Secret, accept_loss: bool) -> Self {
        metrics::describe_gauge!("keyledger_gate_closed", "1 while nothing is appended, because the log lacks events");
        gate.set(Some(Closed::Unknown));
        Self { gate, log, mirror, views, accept_loss }
    }

    /// Looks once, and waits for NATS for a while.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub async fn look(&self) -> Result<Option<Closed>, LogError> {
        let was = self.gate.closed();
        let closed = match self.mirror_ahead(was).await? {
            Some(closed) => Some(closed),
            None if self.accept_loss => None,
            None => self.views_ahead().await?,
        };
        self.set(closed);
        Ok(closed)
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
            let looked = if was.is_some() || round.is_multiple_of(VIEWS_EVERY) {
                self.look().await.map(drop)
            } else {
                self.mirror_ahead(was).await.map(|closed| self.set(closed))
            };
            if let Err(error) = looked {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "cannot see now whether the log is whole");
            }
        }
    }

    /// Whether the mirror holds what the log lacks. Once it was found to, that stands until an answer says otherwise.
    async fn mirror_ahead(&self, was: Option<Closed>) -> Result<Option<Closed>, LogError> {
        let Some(mirror) = &self.mirror else { return Ok(None) };
        let found = match ahead(&*self.log, mirror, PATIENCE).await? {
            Ahead::By { log, mirror } => {
                if was != Some(Closed::BehindMirror) {
                    tracing::warn!(
                        "the log ends at {log}, and its mirror at {mirror}: the rest is put back from there"
                    );
                }
                Some(Closed::BehindMirror)
            }
            Ahead::No | Ahead::Diverged => None,
            Ahead::Unknown if was == Some(Closed::BehindMirror) => was,
            Ahead::Unknown => {
                if was == Some(Closed::Unknown) {
                    tracing::warn!("NATS does not answer, so nobody knows whether the mirror holds more than the log");
                }
                None
            }
        };
        Ok(found.filter(|_| !self.accept_loss))
    }

    async fn views_ahead(&self) -> Result<Option<Closed>, LogError> {
        Ok(match restored::look_at_views(&*self.log, self.views.expose()).await? {
            Views::Ahead(_) => Some(Closed::BehindViews),
            Views::Fine => None,
        })
    }

    fn set(&self, closed: Option<Closed>) {
        metrics::gauge!("keyledger_gate_closed").set(if closed.is_some() { 1.0 } else { 0.0 });
        let was = self.gate.closed();
        if !self.gate.set(closed) {
            return;
        }
        match closed {
            Some(reason @ (Closed::BehindMirror | Closed::BehindViews)) => tracing::error!(
                "nothing is taken and nothing is issued: {reason}. It goes on by itself once what is missing is back; to \
                 go on without it, start once with `--accept-loss`"
            ),
            Some(Closed::Unknown) => {}
            None if was == Some(Closed::Unknown) => tracing::debug!("the log holds all that others have seen"),
            None => tracing::info!("the log holds again all that others have seen: events are taken"),
        }
    }
}

/// A log that takes no events while its gate is closed. Reading goes on, and so do state rows: leases must live, and a
/// row takes no place from an event.
pub struct Gated {
    log: Arc<dyn EventLog>,
    gate: Gate,
    /// Who looks before the first event, where nobody looks all the time.
    asked: Option<Mutex<Option<Keeper>>>,
}

impl Gated {
    /// A log behind a gate that somebody keeps.
    pub fn new(log: Arc<dyn EventLog>, gate: Gate) -> Self {
        Self { log, gate, asked: None }
    }

    /// A log that is looked at before the first event is added: for verbs.
    pub fn asking(log: Arc<dyn EventLog>, gate: Gate, keeper: Keeper) -> Self {
        Self { log, gate, asked: Some(Mutex::new(Some(keeper))) }
    }

    async fn require_open(&self) -> Result<(), AppendError> {
        if let Some(asked) = &self.asked {
            let mut keeper = asked.lock().await;
            if let Some(looking) = keeper.as_ref() {
                looking.look().await.map_err(AppendError::Unavailable)?;
                *keeper = None;
            }
        }
        let Some(reason) = self.gate.closed() else { return Ok(()) };
        Err(AppendError::Unavailable(LogError::Unsafe { reason: format!("{reason}: nothing may be added now") }))
    }
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
        self.log.append(append).await
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
    use keyledger_eventlog::memory::MemoryLog;
    use keyledger_eventlog::state::{StateChange, StateWrite};
    use keyledger_schemas::clock::ManualClock;
    use keyledger_schemas::settings::DecidingSettings;

    use super::super::recorded_settings;
    use super::*;

    fn gated(gate: &Gate) -> Gated {
        Gated::new(Arc::new(MemoryLog::new(Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)))), gate.clone())
    }

    #[tokio::test]
    async fn while_the_gate_is_closed_events_are_refused_and_leases_live() {
        let gate = Gate::default();
        let log = gated(&gate);
        gate.set(Some(Closed::BehindMirror));
        let settings = DecidingSettings::default();
        let refused = recorded_settings::record(&log, &settings, Timestamp::UNIX_EPOCH).await.unwrap_err();
        assert!(format!("{refused:#}").contains("the log is behind its mirror"), "{refused:#}");
        let row = StateWrite {
            namespace: "lease".to_owned(),
            key: "issuer".to_owned(),
            expected: Some(0),
            change: StateChange::Put { value: Vec::new(), due_at: None },
        };
        log.append(Append { state: vec![row], ..Append::default() }).await.unwrap();
        assert_eq!(log.head().await.unwrap().position, 0);
        gate.set(None);
        assert!(recorded_settings::record(&log, &settings, Timestamp::UNIX_EPOCH).await.unwrap());
    }

    #[tokio::test]
    async fn views_that_have_seen_more_close_the_gate_until_the_loss_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("views.db").display());
        let full = gated(&Gate::default());
        recorded_settings::record(&full, &DecidingSettings::default(), Timestamp::UNIX_EPOCH).await.unwrap();
        let tail: Arc<dyn keyledger_eventlog::tail::Tail> =
            Arc::new(keyledger_eventlog::tail::SqlTail::new(Arc::new(full)));
        let projector = keyledger_projector::Projector::open(&url).await.unwrap();
        let mut consumer = keyledger_eventlog::consumer::Consumer::new(
            projector,
            tail,
            keyledger_eventlog::consumer::Options::default(),
        );
        consumer.run_until_idle().await.unwrap();
        drop(consumer);

        for (accept_loss, closed) in [(false, Some(Closed::BehindViews)), (true, None)] {
            let gate = Gate::default();
            let empty: Arc<dyn EventLog> = Arc::new(gated(&gate));
            let keeper = Keeper::new(gate.clone(), empty.clone(), None, Secret::new(url.as_str()), accept_loss);
            assert_eq!(gate.closed(), Some(Closed::Unknown), "closed until somebody looked");
            assert_eq!(keeper.look().await.unwrap(), closed);
            assert_eq!(gate.closed(), closed);
        }
    }
}
