//! The one writer of the mirror: [`Relay`]. It follows the log and publishes every event at its own position.
//!
//! Nothing says in the log how far it has come: it asks the stream, at the start and after any trouble, and goes on from
//! there. A message says which one must be before it, so two relays, or one that was asleep, cannot write past each
//! other; the lease only spares the work. It takes nothing from those who append: it reads the log like a consumer.

mod import;
mod publish;
mod renew;
mod report;
mod rescue;
mod status;

use std::sync::Arc;
use std::time::Duration;

use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::Position;
use keyledger_schemas::event::MirrorFault;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::compare::{CompareError, ends};
use super::judgement::Judgement;
use super::mirror::{Look, Mirror, MirrorError};
use super::sync::{Differs, Step, decide};
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
    #[error("{0}")]
    Away(String),
}

impl Trouble {
    /// Whether it is the log that fails.
    fn is_the_logs(&self) -> bool {
        match self {
            Self::Log(_) | Self::Append(_) | Self::Compare(CompareError::Log(_)) => true,
            Self::Mirror(_) | Self::Compare(CompareError::Mirror(_)) | Self::Publish(_) | Self::Away(_) => false,
        }
    }
}

/// How the lease was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// It was lost, or it is time to stop.
    InOrder,
    /// Nothing worked.
    GaveUp,
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
        let mut troubles = 0;
        while !shutdown.is_cancelled() {
            let wait = match self.take_lease(&shutdown).await {
                Ok(Some(lease)) => {
                    troubles = 0;
                    match self.hold(lease, &shutdown).await {
                        Left::InOrder => Duration::ZERO,
                        // Long enough for a standby that may have a better way to the server.
                        Left::GaveUp => self.options.lease_ttl / 2,
                    }
                }
                Ok(None) => {
                    troubles = 0;
                    self.options.lease_ttl / 10
                }
                Err(trouble) => {
                    troubles += 1;
                    self.trouble(&trouble, troubles)
                }
            };
            self.pause(wait, &shutdown).await;
        }
        self.be(State::Stopped);
    }

    /// Takes the lease, if it is free and the server answers: a relay that reaches no server keeps nobody from working.
    async fn take_lease(&self, shutdown: &CancellationToken) -> Result<Option<Lease>, Trouble> {
        let look = tokio::select! {
            look = self.look() => look?,
            () = shutdown.cancelled() => return Ok(None),
        };
        let Options { holder, lease_ttl, .. } = &self.options;
        match Lease::acquire(&*self.log, LEASE, holder, self.clock.now(), *lease_ttl).await? {
            Taken::Ours(lease) => Ok(Some(lease)),
            Taken::Held { holder, .. } => {
                if let Look::Here(Judgement::Ours { last }) = look {
                    self.see(last, self.log.head().await?.position);
                }
                self.be(State::Standby { holder });
                Ok(None)
            }
        }
    }

    /// What is at the mirror's place.
    async fn look(&self) -> Result<Look, Trouble> {
        self.see_log().await?;
        let client = self.mirror.client();
        if client.is_connected() { Ok(self.mirror.look().await?) } else { Err(Trouble::Away(client.trouble())) }
    }

    /// Works under the lease until it is lost, or until `shutdown`, or until nothing has worked for as long as it lasts.
    async fn hold(&mut self, lease: Lease, shutdown: &CancellationToken) -> Left {
        let (log, clock, ttl) = (Arc::clone(&self.log), Arc::clone(&self.clock), self.options.lease_ttl);
        let patience = self.options.ack_timeout;
        let mut kept = lease.clone();
        let left = tokio::select! {
            left = self.work(&lease, shutdown) => left,
            () = too_long(shutdown, patience) => Left::InOrder,
            () = keep(&mut kept, &*log, &*clock, ttl) => {
                tracing::warn!("another relay took the lease over");
                return Left::InOrder;
            }
        };
        if let Err(error) = kept.release(&*log, clock.now()).await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "the relay's lease was not given back; it runs out");
        }
        left
    }

    async fn work(&mut self, lease: &Lease, shutdown: &CancellationToken) -> Left {
        let mut troubles = 0;
        let mut worked = Instant::now();
        while !shutdown.is_cancelled() {
            let before = self.status.borrow().position;
            let next = self.round(lease, shutdown).await;
            // A log that fails, fails for every relay.
            let has_worked = match &next {
                Ok(_) => true,
                Err(trouble) => self.status.borrow().position > before || trouble.is_the_logs(),
            };
            if has_worked {
                (troubles, worked) = (0, Instant::now());
            }
            let wait = match next {
                Ok(Next::Now) => continue,
                Ok(Next::After(wait)) => wait,
                Err(trouble) => {
                    troubles += 1;
                    self.trouble(&trouble, troubles)
                }
            };
            if worked.elapsed() > self.options.lease_ttl {
                tracing::warn!("nothing has worked for a while: another relay may try");
                return Left::GaveUp;
            }
            self.pause(wait, shutdown).await;
        }
        Left::InOrder
    }

    /// Looks where log and mirror are, and does what follows from it until something else does.
    async fn round(&mut self, lease: &Lease, shutdown: &CancellationToken) -> Result<Next, Trouble> {
        let look = self.look().await?;
        match self.step(&look).await? {
            Step::LookAgain => Ok(Next::After(RECONNECT_POLL)),
            Step::Make => self.make(lease).await,
            Step::Publish { after } => self.follow(after, lease, shutdown).await,
            Step::Import { after, to } => self.import(after, to, lease, shutdown).await,
            Step::Refuse { fault, reason, differs } => {
                if let Some(Differs { common, last }) = differs {
                    let first = self.first_difference(common).await?;
                    self.rescue(first, last, lease).await?;
                }
                self.refuse(fault, reason, lease).await
            }
            Step::Diverged(Differs { common, last }) => {
                let first = self.first_difference(common).await?;
                self.renew(MirrorFault::OtherBytes, first, last, lease).await
            }
            Step::Holes { first, last } => self.renew(MirrorFault::Holes, first, last, lease).await,
        }
    }

    /// What follows from a look at the mirror, and one at the log after it.
    async fn step(&self, look: &Look) -> Result<Step, Trouble> {
        let ends = match look {
            Look::Here(Judgement::Ours { last } | Judgement::Unsafe { last, .. }) => {
                Some(ends(&*self.log, &self.mirror, *last).await?)
            }
            Look::Gone | Look::Here(Judgement::Holes { .. } | Judgement::Foreign { .. }) => None,
        };
        if let Some(ends) = &ends {
            self.see(ends.last, ends.log.position);
        }
        Ok(decide(look, ends.as_ref()))
    }

    async fn make(&mut self, lease: &Lease) -> Result<Next, Trouble> {
        match self.mirror.make().await? {
            Judgement::Ours { .. } | Judgement::Holes { .. } => {
                tracing::info!("the mirror `{}` is made", self.mirror.stream());
                Ok(Next::Now)
            }
            Judgement::Foreign { reason } => self.refuse(MirrorFault::Foreign, reason, lease).await,
            Judgement::Unsafe { reason, .. } => self.refuse(MirrorFault::UnsafeSettings, reason, lease).await,
        }
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

    /// Notes what is wrong, and says how long to wait.
    fn trouble(&self, trouble: &Trouble, troubles: usize) -> Duration {
        let error = trouble as &dyn std::error::Error;
        self.be(State::Unreachable { reason: in_words(error) });
        if troubles == 1 {
            tracing::warn!(error, "the relay looks again where the mirror is");
        } else {
            tracing::debug!(error, attempt = troubles, "the relay looks again where the mirror is");
        }
        match trouble {
            Trouble::Away(_) => RECONNECT_POLL,
            Trouble::Mirror(_) | Trouble::Log(_) | Trouble::Compare(_) | Trouble::Append(_) | Trouble::Publish(_) => {
                delay(DELAYS, troubles)
            }
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
