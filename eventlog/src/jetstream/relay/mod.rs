//! The one writer of the mirror: [`Relay`]. It follows the log and publishes every event at its own position.
//!
//! Nothing says in the log how far it has come: it asks the stream, at the start and after any trouble, and goes on from
//! there. A message says which one must be before it, so two relays, or one that was asleep, cannot write past each
//! other; the lease only spares the work. It takes nothing from those who append: it reads the log like a consumer.

mod import;
mod publish;
mod report;
mod rescue;
mod status;

use std::sync::Arc;
use std::time::Duration;

use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::Position;
use keyledger_schemas::event::{MirrorDiverged, MirrorFault};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::compare::{CompareError, ends, mirror_chain};
use super::judgement::Judgement;
use super::mirror::{Look, Mirror, MirrorError, Removed};
use super::sync::{Step, decide};
use crate::consumer::delay;
use crate::lease::{Lease, Taken};
use crate::log::{AppendError, EventLog, LogError};

pub use status::{State, Status};

/// The name of the lease.
pub const LEASE: &str = "relay";

/// How long to wait after the first, second, … trouble in a row; the last repeats.
const DELAYS: &[Duration] = &[
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// How often a connection that is being made is looked at.
const RECONNECT_POLL: Duration = Duration::from_millis(100);

/// How long after a refused removal it is tried again: the server writes a line for each.
const REMOVE_AGAIN: Duration = Duration::from_mins(1);

/// How a relay works. The defaults suit production.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who this process is: different for every one that may run at the same time.
    pub holder: String,
    /// How long the lease lasts without being renewed. Default 10 s.
    pub lease_ttl: Duration,
    /// How often the stream's settings are looked at, and a stream that was refused. Default 5 s.
    pub look_every: Duration,
    /// How long the server may take to acknowledge a message. Default 5 s.
    pub ack_timeout: Duration,
    /// Messages on their way at most. Default 256.
    pub in_flight: usize,
    /// Their bytes at most, though one is always allowed. Default 8 MiB.
    pub in_flight_bytes: usize,
    /// How often the log is looked at for events of other processes. Default 250 ms.
    pub poll: Duration,
}

impl Options {
    /// The defaults, for this holder of the lease.
    pub fn of(holder: impl Into<String>) -> Self {
        Self {
            holder: holder.into(),
            lease_ttl: Duration::from_secs(10),
            look_every: Duration::from_secs(5),
            ack_timeout: Duration::from_secs(5),
            in_flight: 256,
            in_flight_bytes: 8 * 1024 * 1024,
            poll: Duration::from_millis(250),
        }
    }
}

/// Keeps the mirror equal to the log, for as long as it runs.
pub struct Relay {
    log: Arc<dyn EventLog>,
    mirror: Mirror,
    clock: Arc<dyn Clock>,
    options: Options,
    status: watch::Sender<Status>,
    /// What the mirror was rescued from: the first wrong position, and the mirror's end.
    rescued: Option<rescue::Rescued>,
    /// When the server may be asked again to remove the stream.
    remove_after: Option<Instant>,
}

/// What cannot be done now, and is tried again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error("the log cannot be read")]
    Log(#[from] LogError),
    #[error(transparent)]
    Compare(#[from] CompareError),
    #[error("the log takes nothing")]
    Append(#[from] AppendError),
    #[error("an answer of the server is not what was expected: {0}")]
    Publish(String),
}

/// What follows a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Look again at once.
    Now,
    /// Look again after this long.
    After(Duration),
}

impl Relay {
    /// A relay from `log` to `mirror`, which must be the mirror of this log's id.
    pub fn new(log: Arc<dyn EventLog>, mirror: Mirror, clock: Arc<dyn Clock>, options: Options) -> Self {
        let status = Status { state: State::Starting, since: clock.now(), position: None, log: 0 };
        let status = watch::Sender::new(status);
        Self { log, mirror, clock, options, status, rescued: None, remove_after: None }
    }

    /// How it is, now and later.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Works until `shutdown`: what is on its way by then is waited for, and the lease is given back.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            match self.acquire().await {
                Ok(Taken::Ours(lease)) => self.hold(lease, &shutdown).await,
                Ok(Taken::Held { holder, .. }) => {
                    self.be(State::Standby { holder });
                    self.stand_by(&shutdown).await;
                }
                Err(error) => {
                    self.trouble(&Trouble::Log(error), 1);
                    self.pause(self.options.poll, &shutdown).await;
                }
            }
        }
        self.be(State::Stopped);
    }

    async fn acquire(&self) -> Result<Taken, LogError> {
        let Options { holder, lease_ttl, .. } = &self.options;
        Lease::acquire(&*self.log, LEASE, holder, self.clock.now(), *lease_ttl).await
    }

    /// Waits a while for the lease, and looks meanwhile how far the other one is.
    async fn stand_by(&self, shutdown: &CancellationToken) {
        if self.mirror.client().is_connected() {
            let look = tokio::select! {
                look = self.mirror.look() => look,
                () = shutdown.cancelled() => return,
            };
            if let (Ok(Look::Here(Judgement::Ours { last })), Ok(head)) = (look, self.log.head().await) {
                self.see(last, head.position);
            }
        }
        self.pause(self.options.lease_ttl / 10, shutdown).await;
    }

    /// Works under the lease until it is lost, or until `shutdown`.
    async fn hold(&mut self, lease: Lease, shutdown: &CancellationToken) {
        let (log, clock, ttl) = (Arc::clone(&self.log), Arc::clone(&self.clock), self.options.lease_ttl);
        let patience = self.options.ack_timeout;
        let mut kept = lease.clone();
        tokio::select! {
            () = self.work(&lease, shutdown) => {}
            () = too_long(shutdown, patience) => {}
            () = keep(&mut kept, &*log, &*clock, ttl) => {
                tracing::warn!("another relay took the lease over");
                return;
            }
        }
        if let Err(error) = kept.release(&*log, clock.now()).await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "the relay's lease was not given back; it runs out");
        }
    }

    async fn work(&mut self, lease: &Lease, shutdown: &CancellationToken) {
        let mut troubles = 0;
        while !shutdown.is_cancelled() {
            let before = self.status.borrow().position;
            let next = self.round(lease, shutdown).await;
            if self.status.borrow().position > before {
                troubles = 0;
            }
            let wait = match next {
                Ok(Next::Now) => continue,
                Ok(Next::After(wait)) => {
                    troubles = 0;
                    wait
                }
                Err(trouble) => {
                    troubles += 1;
                    self.trouble(&trouble, troubles);
                    delay(DELAYS, troubles)
                }
            };
            self.pause(wait, shutdown).await;
        }
    }

    /// Looks where log and mirror are, and does what follows from it until something else does.
    async fn round(&mut self, lease: &Lease, shutdown: &CancellationToken) -> Result<Next, Trouble> {
        self.see_log().await?;
        if !self.mirror.client().is_connected() {
            self.be(State::Unreachable { reason: self.mirror.client().trouble() });
            return Ok(Next::After(RECONNECT_POLL));
        }
        let look = self.mirror.look().await?;
        let ends = match look {
            Look::Here(Judgement::Ours { last }) => Some(ends(&*self.log, &self.mirror, last).await?),
            Look::Gone | Look::Here(_) => None,
        };
        if let Some(ends) = &ends {
            self.see(ends.last, ends.log.position);
        }
        match decide(&look, ends.as_ref()) {
            Step::LookAgain => Ok(Next::After(RECONNECT_POLL)),
            Step::Make => self.make(lease).await,
            Step::Publish { after } => self.follow(after, lease, shutdown).await,
            Step::Import { after, to } => self.import(after, to, lease, shutdown).await,
            Step::Refuse { fault, reason } => self.refuse(fault, reason, lease).await,
            Step::Diverged { common, last } => {
                let first = self.first_difference(common).await?;
                self.renew(MirrorFault::OtherBytes, first, last, lease).await
            }
            Step::Holes { first, last } => self.renew(MirrorFault::Holes, first, last, lease).await,
        }
    }

    /// The first position up to `common` where the mirror has another chain value than the log.
    async fn first_difference(&self, common: Position) -> Result<Position, Trouble> {
        let (mut same, mut other) = (0, common);
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            let log_chain = self.log.chain_at(middle).await?;
            if log_chain.is_some() && mirror_chain(&self.mirror, middle).await? == log_chain {
                same = middle;
            } else {
                other = middle;
            }
        }
        Ok(other)
    }

    async fn make(&mut self, lease: &Lease) -> Result<Next, Trouble> {
        match self.mirror.make().await? {
            Judgement::Ours { .. } | Judgement::Holes { .. } => {
                tracing::info!("the mirror `{}` is made", self.mirror.stream());
                Ok(Next::Now)
            }
            Judgement::Foreign { reason } => self.refuse(MirrorFault::Foreign, reason, lease).await,
            Judgement::Unsafe { reason } => self.refuse(MirrorFault::UnsafeSettings, reason, lease).await,
        }
    }

    /// Says that the stream cannot be the mirror, and keeps off it until it is looked at again.
    async fn refuse(&mut self, fault: MirrorFault, reason: String, lease: &Lease) -> Result<Next, Trouble> {
        self.be(State::Diverged { fault, reason: reason.clone() });
        self.say(fault, None, reason, lease).await?;
        Ok(Next::After(self.options.look_every))
    }

    /// Makes a mirror anew that cannot be mended in place, after whatever it alone holds was put into the log.
    async fn renew(
        &mut self,
        fault: MirrorFault,
        first: Position,
        last: Position,
        lease: &Lease,
    ) -> Result<Next, Trouble> {
        let rescued = self.rescue(first, last, lease).await?;
        let fault = if rescued.is_complete() { fault } else { MirrorFault::CannotImport };
        let detail = rescued.describe(fault, self.mirror.stream());
        self.be(State::Diverged { fault, reason: detail.clone() });
        self.say(fault, Some(first), detail, lease).await?;
        if rescued.is_complete() && self.may_remove() {
            if self.mirror.remove().await? == Removed::Yes {
                tracing::warn!("the mirror `{}` was removed, to be made anew", self.mirror.stream());
                return Ok(Next::Now);
            }
            self.remove_after = Some(Instant::now() + REMOVE_AGAIN);
        }
        Ok(Next::After(self.options.look_every))
    }

    fn may_remove(&self) -> bool {
        self.remove_after.is_none_or(|after| after <= Instant::now())
    }

    async fn say(
        &self,
        fault: MirrorFault,
        position: Option<Position>,
        detail: String,
        lease: &Lease,
    ) -> Result<(), Trouble> {
        let found = MirrorDiverged { stream: self.mirror.stream().to_owned(), fault, position, detail };
        Ok(report::diverged(&*self.log, lease, found, self.clock.now()).await?)
    }

    fn be(&self, state: State) {
        let now = self.clock.now();
        self.status.send_if_modified(|status| {
            if status.state == state {
                return false;
            }
            if status.state.word() != state.word() {
                status.since = now;
            }
            status.state = state;
            status.measure_state();
            true
        });
    }

    /// Notes how far mirror and log are.
    fn see(&self, position: Position, log: Position) {
        self.status.send_if_modified(|status| {
            if (status.position, status.log) == (Some(position), log) {
                return false;
            }
            (status.position, status.log) = (Some(position), log);
            status.measure_position();
            true
        });
    }

    /// Notes how far the log is while nothing is written, so that the lag shows.
    async fn see_log(&self) -> Result<(), LogError> {
        let head = self.log.head().await?;
        self.status.send_if_modified(|status| {
            let is_news = status.log != head.position;
            status.log = head.position;
            status.measure_position();
            is_news
        });
        Ok(())
    }

    fn trouble(&self, trouble: &Trouble, troubles: usize) {
        let error = trouble as &dyn std::error::Error;
        self.be(State::Unreachable { reason: in_words(error) });
        if troubles == 1 {
            tracing::warn!(error, "the relay looks again where the mirror is");
        } else {
            tracing::debug!(error, attempt = troubles, "the relay looks again where the mirror is");
        }
    }

    async fn pause(&self, wait: Duration, shutdown: &CancellationToken) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Ends when `shutdown` was asked for and `patience` has passed since.
async fn too_long(shutdown: &CancellationToken, patience: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(patience).await;
}

/// An error and its causes.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some say their cause themselves.
        if !words.ends_with(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

/// Renews the lease until it is lost. While the log cannot be reached nobody else can take it either.
async fn keep(lease: &mut Lease, log: &dyn EventLog, clock: &dyn Clock, ttl: Duration) {
    loop {
        tokio::time::sleep(ttl / 3).await;
        match lease.renew(log, clock.now(), ttl).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "the relay's lease is renewed later");
            }
        }
    }
}
