//! The role: takes the lease, reads the log, works off what is due.

use std::sync::Arc;
use std::time::Duration;

use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::checkpoint::Cursor;
use keyledger_eventlog::consumer::{Consumer, HandleError, Options as ConsumerOptions, Step};
use keyledger_eventlog::lease::{Lease, Taken};
use keyledger_eventlog::log::{EventLog, LogError};
use keyledger_eventlog::tail::Tail;
use keyledger_schemas::clock::Clock;
use keyledger_schemas::event::Action;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::call::calls_max;
use crate::desk::{Desk, WorkError};
use crate::effects;
use crate::engines::Engines;
use crate::fence::{Fence, LEASE};
use crate::provider::Capabilities;
use crate::reader::{NAME, Reader};
use crate::work::{Turns, Work};
use crate::worker::Worker;

/// How often a standby looks whether the lease was given back.
const STANDBY_POLL: Duration = Duration::from_millis(500);

/// How long an engine may take to check itself when we begin; it may make several calls.
const PREPARE_FOR: Duration = Duration::from_mins(1);

/// How the issuer works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How long one call to a license engine may take, in milliseconds. Default 10000.
    pub call_timeout_ms: u64,
    /// How long the issuer's lease runs unless renewed, in milliseconds. Default 60000; never less than one and a half times
    /// the longest request at a configured engine.
    pub lease_ms: u64,
    /// How long connecting to an engine or to Stripe may take, in milliseconds. Default 3000.
    pub connect_timeout_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { call_timeout_ms: 10_000, lease_ms: 60_000, connect_timeout_ms: 3_000 }
    }
}

/// What the issuer is made of.
#[derive(Clone)]
pub struct Parts {
    /// The log, and the state beside it.
    pub log: Arc<dyn EventLog>,
    /// Where it reads the log.
    pub tail: Arc<dyn Tail>,
    /// Where it reads the time.
    pub clock: Arc<dyn Clock>,
    /// The engines it may call.
    pub engines: Engines,
    /// Seals license keys into events.
    pub keys: Arc<DeploymentKeys>,
    /// Who holds the lease: unlike every process that may run at the same time.
    pub holder: String,
    /// How it works.
    pub options: Options,
}

/// Why the issuer stopped.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The log failed while starting.
    #[error("the issuer cannot reach the log")]
    Log(#[from] LogError),
    /// Reading the log failed for good.
    #[error("the issuer cannot read the log")]
    Read(#[source] HandleError),
    /// Working failed for good: another issuer took over.
    #[error("the issuer cannot go on")]
    Work(#[from] WorkError),
}

impl From<HandleError> for IssuerError {
    /// That another issuer took over is found out by whoever writes first, and means the same.
    fn from(error: HandleError) -> Self {
        match error {
            HandleError::Fatal(source) if matches!(source.downcast_ref(), Some(WorkError::Fenced)) => {
                Self::Work(WorkError::Fenced)
            }
            error => Self::Read(error),
        }
    }
}

/// The one active issuer.
pub struct Issuer {
    reader: Consumer<Reader>,
    worker: Worker,
    effects: effects::Runner,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    fence: Fence,
    engines: Arc<Engines>,
}

impl Issuer {
    /// Takes the lease, waiting for another holder's to run out. `None` when told to stop meanwhile.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Log`] when the log cannot be reached.
    pub async fn start(parts: Parts, shutdown: &CancellationToken) -> Result<Option<Self>, IssuerError> {
        let ttl = Duration::from_millis(parts.options.lease_ms).max(lease_min(&parts));
        let mut active = None;
        let lease = loop {
            let now = parts.clock.now();
            match Lease::acquire(&*parts.log, LEASE, &parts.holder, now, ttl).await? {
                Taken::Ours(lease) => break lease,
                Taken::Held { holder, until } => {
                    if active.as_ref() != Some(&holder) {
                        info!(lease.holder = holder, "another issuer is active; standing by");
                        active = Some(holder);
                    }
                    let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
                    tokio::select! {
                        () = tokio::time::sleep(left.clamp(Duration::from_millis(100), STANDBY_POLL)) => {}
                        () = shutdown.cancelled() => return Ok(None),
                    }
                }
            }
        };
        Ok(Some(Self::with(parts, Fence::new(lease, ttl))))
    }

    fn with(parts: Parts, fence: Fence) -> Self {
        let due = Arc::new(Notify::new());
        let engines = Arc::new(parts.engines);
        let reader = Reader {
            log: parts.log.clone(),
            clock: parts.clock.clone(),
            engines: engines.clone(),
            fence: fence.clone(),
            due: due.clone(),
        };
        let desk =
            Desk { log: parts.log.clone(), clock: parts.clock.clone(), engines: engines.clone(), fence: fence.clone() };
        let call_timeout = Duration::from_millis(parts.options.call_timeout_ms);
        let effects = effects::Runner::new(desk.clone(), call_timeout, effects::Stripe::default());
        let worker = Worker { work: Work { desk, keys: parts.keys, call_timeout, turns: Turns::default() }, due };
        let reader = Consumer::new(reader, parts.tail, ConsumerOptions::default());
        Self { reader, worker, effects, log: parts.log, clock: parts.clock, fence, engines }
    }

    /// The same with API keys of Stripe's: what they allow besides licenses is done too.
    #[must_use]
    pub fn with_stripe(self, stripe: effects::Stripe) -> Self {
        Self { effects: self.effects.with_stripe(stripe), ..self }
    }

    /// Reads and works until told to stop. What is in hand is finished.
    ///
    /// # Errors
    ///
    /// See [`IssuerError`]; the process should stop, and a new one take over.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), IssuerError> {
        // Nothing is decided on half-read facts: after a rebuild, all that stands in the log is read first.
        self.catch_up(&shutdown).await?;
        let stop = shutdown.child_token();
        let guard = stop.clone().drop_guard();
        let (log, clock, fence) = (self.log.clone(), self.clock.clone(), self.fence.clone());
        let reading = self.reader.run(stop.clone());
        let working = self.worker.run(stop.clone());
        let seeing_to = self.effects.run(stop.clone());
        let keeping = keep(&log, &clock, &fence, &stop);
        let (reading, working, seeing_to, keeping, ()) = tokio::join!(
            ending(reading, &stop),
            ending(working, &stop),
            ending(seeing_to, &stop),
            ending(keeping, &stop),
            // Beside the work: an engine that is not ready holds up nobody else.
            prepare(&self.engines, &stop),
        );
        drop(guard);
        reading?;
        working?;
        seeing_to?;
        keeping?;
        // What the worker recorded last, and what came in while it finished: whoever looks at the stopped log finds it read.
        self.reader.run_until_idle().await?;
        self.fence.release(&self.log, self.clock.now()).await?;
        Ok(())
    }

    /// Reads and works until there is nothing to do now. For tests and one-off runs.
    ///
    /// # Errors
    ///
    /// See [`IssuerError`].
    pub async fn run_until_idle(&mut self) -> Result<(), IssuerError> {
        loop {
            self.fence.renew(&self.log, self.clock.now(), false).await?;
            if let Step::Delayed(delay) = self.reader.run_until_idle().await? {
                tokio::time::sleep(delay).await;
                continue;
            }
            let worked = self.worker.run_until_idle().await? | self.effects.run_until_idle().await?;
            let position = Cursor::load(&*self.log, NAME).await?.checkpoint().position;
            if !worked && position == self.log.head().await?.position {
                return Ok(());
            }
        }
    }

    /// Reads all that stood in the log when it began, however long the tail takes to show it.
    async fn catch_up(&mut self, shutdown: &CancellationToken) -> Result<(), IssuerError> {
        let head = self.log.head().await?.position;
        while !shutdown.is_cancelled() {
            if Cursor::load(&*self.log, NAME).await?.checkpoint().position >= head {
                return Ok(());
            }
            if !self.fence.renew(&self.log, self.clock.now(), false).await? {
                return Err(WorkError::Fenced.into());
            }
            if let Step::Delayed(delay) = self.reader.step().await? {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
        Ok(())
    }
}

/// A lease must outlive any request begun under it, with room to renew. A request that the rest of it would not outlive has it
/// renewed first, so half a request is room enough.
fn lease_min(parts: &Parts) -> Duration {
    let call = Duration::from_millis(parts.options.call_timeout_ms);
    let longest = |engine: &Capabilities| call * calls_max(Action::Create, engine) + engine.settle;
    parts.engines.capabilities().values().map(longest).max().unwrap_or_default() * 3 / 2
}

/// Has every engine check once what can be checked before any sale.
async fn prepare(engines: &Engines, stop: &CancellationToken) {
    tokio::select! {
        () = engines.prepare(PREPARE_FOR) => {}
        () = stop.cancelled() => {}
    }
}

/// Whoever ends first, with or without an error, ends the others.
async fn ending<T, E>(role: impl Future<Output = Result<T, E>>, stop: &CancellationToken) -> Result<T, E> {
    let ended = role.await;
    stop.cancel();
    ended
}

/// Renews the lease well before it runs out.
async fn keep(
    log: &Arc<dyn EventLog>,
    clock: &Arc<dyn Clock>,
    fence: &Fence,
    stop: &CancellationToken,
) -> Result<(), IssuerError> {
    while !stop.is_cancelled() {
        match fence.renew(log, clock.now(), false).await {
            Ok(true) => {}
            Ok(false) => return Err(WorkError::Fenced.into()),
            Err(error) => tracing::warn!(error = %error, "cannot renew the issuer's lease; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}
