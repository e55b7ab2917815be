//! `keyledger ingest`: takes webhooks into the log, and keeps the log's mirror.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use keyledger_eventlog::log::EventLog;
use keyledger_ingest::options::{Options, Source};
use keyledger_ingest::server::{self, Ingest};
use keyledger_schemas::clock::{Clock, SystemClock};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::ground::{Ground, Place};
use super::{Ready, Running, begin, listen, mirror, on_ground};
use crate::lifecycle::{Lifecycle, Stage};
use crate::settings::Settings;

/// Starts the role in a process of its own. When it returns, webhooks are answered.
///
/// # Errors
///
/// When the data folder is in use by an `up`, the log is gone or unsafe, or the address is taken.
pub async fn start(settings: &Settings, accept_loss: bool) -> anyhow::Result<Running> {
    on_ground(settings, Place::Shared("ingest"), accept_loss, async |ground, lifecycle| {
        let intake = Intake::make(settings, settings.ingest.clone(), ground).await?;
        ground.look().await;
        let ready = Ready { role: Some("ingest"), ingest: Some(intake.url()), ..Ready::default() };
        intake.spawn(lifecycle, ground.metrics.clone());
        keep_mirror(lifecycle, ground);
        begin::spawn(lifecycle, settings, ground);
        Ok(ready)
    })
    .await
}

/// All that can fail of taking webhooks, made and found good.
pub struct Intake {
    listener: TcpListener,
    address: SocketAddr,
    ingest: Ingest,
}

impl Intake {
    /// Takes the address.
    ///
    /// # Errors
    ///
    /// When it is taken, or two sources share a secret.
    pub async fn make(settings: &Settings, options: Options, ground: &Ground) -> anyhow::Result<Self> {
        // How old a signature is, is between Stripe and this machine: the clock of the log's server has no say in it.
        let (log, clock): (Arc<dyn EventLog>, Arc<dyn Clock>) = (ground.log.clone(), Arc::new(SystemClock));
        let listener = listen("ingest.listen", options.listen).await?;
        let address = listener.local_addr().context("asking for the address of ingest")?;
        let ingest = Ingest::new(options, sources(settings)?, log, clock)?.with_gate(ground.gate.clone());
        Ok(Self { listener, address, ingest })
    }

    /// Where webhooks arrive.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes webhooks from here on.
    pub fn spawn(self, lifecycle: &mut Lifecycle, metrics: PrometheusHandle) {
        let ingest = self.ingest.with_metrics(Arc::new(move || metrics.render()));
        lifecycle.spawn(Stage::Intake, "ingest", |stop| async move {
            server::serve(self.listener, Arc::new(ingest), stop).await;
            Ok(())
        });
    }
}

/// Keeps the mirror equal to the log, where there is to be one.
pub fn keep_mirror(lifecycle: &mut Lifecycle, ground: &Ground) {
    if let Some(mirror) = &ground.mirror {
        let (log, clock) = (ground.bare.clone(), ground.clock.clone());
        mirror::relay(lifecycle, mirror.clone(), log, clock, ground.holder.clone());
    }
}

fn sources(settings: &Settings) -> anyhow::Result<Vec<Source>> {
    let source = |(name, source): (&_, &crate::settings::Source)| {
        Source::new(Clone::clone(name), source.mode, source.webhook_secrets.clone())
    };
    Ok(settings.sources.iter().map(source).collect::<Result<_, _>>()?)
}
