//! `keyledger projector`: keeps the views. Several may run; the checkpoint of the views decides whose turn it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use keyledger_console::api::ViewsAt;
use keyledger_eventlog::consumer::{Consumer, Options as ConsumerOptions};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::{SqlTail, Tail};
use keyledger_ingest::health::{LogReachable, NotReady, ReadinessCheck};
use keyledger_projector::NAME;
use keyledger_schemas::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::ground::{Ground, Place};
use super::restored::{self, Views};
use super::views::{self, MendedViews};
use super::{Ready, Running, begin, gauges, health, listen, mirror, on_ground};
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
        let projecting = Projecting::make(settings, ground, accept_loss)?;
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
        // The cause may name a host or a file; whoever asks here is told the outer error alone.
        self.views.open().await.map(drop).map_err(|error| NotReady(error.to_string()))
    }
}

/// All that keeping the views needs.
pub struct Projecting {
    settings: Settings,
    log: Arc<dyn EventLog>,
    tail: Arc<dyn Tail>,
    clock: Arc<dyn Clock>,
    counted: Arc<ViewsAt>,
    waits: Arc<AtomicBool>,
    accept_loss: bool,
}

impl Projecting {
    /// Nothing is opened yet.
    ///
    /// # Errors
    ///
    /// When the views' URL is none.
    pub fn make(settings: &Settings, ground: &Ground, accept_loss: bool) -> anyhow::Result<Self> {
        Ok(Self {
            settings: settings.clone(),
            log: ground.bare.clone(),
            tail: mirror::tail(settings.nats.as_ref(), ground.mirror.as_ref(), &ground.bare, NAME),
            clock: ground.clock.clone(),
            counted: Arc::new(ViewsAt::new(settings.views.url().expose())?),
            waits: Arc::default(),
            accept_loss,
        })
    }

    fn check(&self) -> Kept {
        Kept { waits: self.waits.clone(), views: self.counted.clone() }
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

    async fn run(self, stop: CancellationToken, last_within: Duration) -> anyhow::Result<()> {
        let waited = tokio::select! {
            waited = self.wait_for_the_log() => waited,
            () = stop.cancelled() => return Ok(()),
        };
        waited?;
        let (url, place) = (self.settings.views.url(), self.settings.views.to_string());
        let views = MendedViews::open(url, place, self.clock.clone()).await;
        let projecting = Consumer::new(views, self.tail.clone(), ConsumerOptions::default());
        views::run(projecting, stop, last_within).await
    }

    /// A log that lacks what the views have seen is about to be put back from its mirror, or by a person. Until then the
    /// views stay as they are; where the loss is accepted, they are made anew.
    async fn wait_for_the_log(&self) -> anyhow::Result<()> {
        loop {
            let url = self.settings.views.url();
            let looked = restored::look_at_views(&*self.log, url.expose()).await;
            match looked {
                Ok(Views::Fine) => break,
                Ok(Views::Ahead(_)) if self.accept_loss => {
                    let tail = SqlTail::new(self.log.clone());
                    restored::require_all_seen(&*self.log, &tail, &self.settings, true).await?;
                    break;
                }
                Ok(Views::Ahead(seen)) => {
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
}
