//! `keyledger projector`: keeps the views. Several may run; the checkpoint of the views decides whose turn it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use keyledger_console::api::ViewsAt;
use keyledger_eventlog::consumer::{Consumer, HandleError, Options as ConsumerOptions};
use keyledger_eventlog::jetstream::Mirror;
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::{SqlTail, Tail};
use keyledger_ingest::health::{LogReachable, NotReady, ReadinessCheck};
use keyledger_projector::NAME;
use keyledger_schemas::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::ground::{Ground, Place};
use super::restored::{self, Views};
use super::views::{self, MendedViews};
use super::{Ready, Running, begin, gate, gauges, health, listen, mirror, on_ground};
use crate::lifecycle::{Lifecycle, Stage};
use crate::settings::Settings;

/// How often a log is looked at again that lacks what the views have seen.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts the role in a process of its own. When it returns, it reads the log.
///
/// # Errors
///
/// When the data folder is in use by an `up`, the log is gone or unsafe, or the address is taken.
pub async fn start(settings: &Settings, accept_loss: bool) -> anyhow::Result<Running> {
    on_ground(settings, Place::Shared("projector"), accept_loss, async |ground, lifecycle| {
        let projecting = Projecting::make(settings, ground, Place::Shared("projector"), accept_loss).await?;
        let listener = listen("projector.listen", settings.projector.listen).await?;
        let address: SocketAddr = listener.local_addr().context("asking for the address of health")?;
        let checks: Vec<Arc<dyn ReadinessCheck>> =
            vec![Arc::new(LogReachable(ground.bare.clone())), Arc::new(projecting.check())];
        let router = health::router(checks, ground.metrics.clone());
        lifecycle.spawn(Stage::Carry, "health", |stop| health::serve(listener, router, stop));
        projecting.spawn(lifecycle, settings.stop_timeout() / 2);
        begin::keep_metrics(lifecycle, ground);
        Ok(Ready { role: Some("projector"), health: Some(format!("http://{address}")), ..Ready::default() })
    })
    .await
}

/// Whether the views are kept, and can be read.
struct Kept {
    waits: Arc<AtomicBool>,
    is_down: Arc<AtomicBool>,
    views: Arc<ViewsAt>,
}

#[async_trait]
impl ReadinessCheck for Kept {
    fn name(&self) -> &'static str {
        "views"
    }

    async fn check(&self) -> Result<(), NotReady> {
        if self.waits.load(Ordering::Relaxed) {
            return Err(NotReady("they have seen events that the log does not hold".to_owned()));
        }
        if self.is_down.load(Ordering::Relaxed) {
            return Err(NotReady("they are no longer kept".to_owned()));
        }
        // The cause may name a host or a file; whoever asks here is told the outer error alone.
        self.views.open().await.map(drop).map_err(|error| NotReady(error.to_string()))
    }
}

/// All that keeping the views needs.
pub struct Projecting {
    settings: Settings,
    log: Arc<dyn EventLog>,
    mirror: Option<Mirror>,
    tail: Arc<dyn Tail>,
    clock: Arc<dyn Clock>,
    counted: Arc<ViewsAt>,
    waits: Arc<AtomicBool>,
    is_down: Arc<AtomicBool>,
    place: Place,
    accept_loss: bool,
    /// Opened before anybody is told that this process is ready, where they are the log's.
    opened: Option<MendedViews>,
}

impl Projecting {
    /// Opens the views, and makes them where there are none. Where that fails, it is tried again by the role.
    ///
    /// # Errors
    ///
    /// When the views' URL is none, or the log cannot be read.
    pub async fn make(settings: &Settings, ground: &Ground, place: Place, accept_loss: bool) -> anyhow::Result<Self> {
        let looked = restored::look_at_views(&*ground.bare, settings.views.url().expose()).await;
        let opened = match looked.context("reading the log")? {
            Views::Fine => Some(Box::pin(open(settings, ground.clock.clone())).await),
            Views::Ahead(_) | Views::Other(_) => None,
        };
        Ok(Self {
            settings: settings.clone(),
            log: ground.bare.clone(),
            mirror: ground.mirror.clone(),
            tail: mirror::tail(settings.nats.as_ref(), ground.mirror.as_ref(), &ground.bare, NAME),
            clock: ground.clock.clone(),
            counted: Arc::new(ViewsAt::new(settings.views.url().expose())?),
            waits: Arc::default(),
            is_down: Arc::default(),
            place,
            accept_loss,
            opened,
        })
    }

    fn check(&self) -> Kept {
        Kept { waits: self.waits.clone(), is_down: self.is_down.clone(), views: self.counted.clone() }
    }

    /// Keeps the views from here on, and counts what is in them.
    pub fn spawn(self, lifecycle: &mut Lifecycle, last_within: Duration) {
        let (counted, clock) = (self.counted.clone(), self.clock.clone());
        lifecycle.spawn(Stage::Show, "projector", |stop| self.run(stop, last_within));
        lifecycle.spawn(Stage::Show, "gauges", |stop| async move {
            gauges::run(&counted, &*clock, stop).await;
            Ok(())
        });
    }

    async fn run(mut self, stop: CancellationToken, last_within: Duration) -> anyhow::Result<()> {
        loop {
            let waited = tokio::select! {
                waited = self.wait_for_the_log() => waited,
                () = stop.cancelled() => return Ok(()),
            };
            waited?;
            let views = match self.opened.take() {
                Some(views) => views,
                None => Box::pin(open(&self.settings, self.clock.clone())).await,
            };
            let projecting = Consumer::new(views, self.tail.clone(), ConsumerOptions::default());
            let running = views::run(projecting, stop.clone(), last_within, self.place, &self.is_down);
            match Box::pin(running).await {
                // The log was restored under the views. With a mirror that mends itself.
                Err(error) if is_diverged(&error) && self.mirror.is_some() && !stop.is_cancelled() => {
                    tracing::warn!("looking again whether the log holds what the views have seen: {error:#}");
                    tokio::time::sleep(AGAIN).await;
                }
                ended => return ended,
            }
        }
    }

    /// A log that lacks what the views have seen is about to be put back from its mirror, or by a person. Until then the
    /// views stay as they are; where the loss is accepted, they are made anew.
    async fn wait_for_the_log(&self) -> anyhow::Result<()> {
        loop {
            let url = self.settings.views.url();
            let looked = restored::look_at_views(&*self.log, url.expose()).await;
            match looked {
                Ok(Views::Fine) => break,
                Ok(Views::Ahead(_) | Views::Other(_)) if self.accept_loss => self.make_anew().await?,
                // What stood there was added to the log again from the mirror, elsewhere.
                Ok(Views::Other(_)) if gate::is_ours(self.mirror.as_ref()).await => self.make_anew().await?,
                Ok(Views::Ahead(seen) | Views::Other(seen)) => {
                    if !self.waits.swap(true, Ordering::Relaxed) {
                        tracing::error!(
                            "the views have seen {seen} events, and not all of them are in the log: it was restored from \
                             an older backup. Waiting until they are back; to go on without them, start once with \
                             `--accept-loss`"
                        );
                    }
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "cannot see now whether the log holds what the views have seen");
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        self.waits.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the views anew from the log as it is.
    async fn make_anew(&self) -> anyhow::Result<()> {
        let tail = SqlTail::new(self.log.clone());
        Box::pin(restored::require_all_seen(&*self.log, &tail, &self.settings, false, true)).await
    }
}

async fn open(settings: &Settings, clock: Arc<dyn Clock>) -> MendedViews {
    MendedViews::open(settings.views.url(), settings.views.to_string(), clock).await
}

/// Whether the views have seen what the log does not hold.
fn is_diverged(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(HandleError::Diverged { .. }))
}
