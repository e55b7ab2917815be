//! What happens once the gate is open: what decides is put into the log, before anything is decided with it.

use std::sync::Arc;
use std::time::Duration;

use keyledger_eventlog::log::EventLog;
use keyledger_ingest::gate::Gate;
use keyledger_schemas::clock::Clock;
use keyledger_schemas::settings::DecidingSettings;
use tokio_util::sync::CancellationToken;

use super::ground::Ground;
use super::recorded_settings;
use crate::lifecycle::{Lifecycle, Stage};
use crate::settings::Settings;
use crate::telemetry;

/// How long to wait before the log is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// What must be so before a role adds anything.
#[derive(Clone)]
pub struct Beginning {
    gate: Gate,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    settings: DecidingSettings,
}

impl Beginning {
    /// With these settings, on this ground.
    pub fn new(settings: &Settings, ground: &Ground) -> Self {
        Self::of(ground.gate.clone(), ground.log.clone(), ground.clock.clone(), settings.deciding())
    }

    /// With these settings, once this gate is open.
    pub fn of(gate: Gate, log: Arc<dyn EventLog>, clock: Arc<dyn Clock>, settings: DecidingSettings) -> Self {
        Self { gate, log, clock, settings }
    }

    /// Puts into the log what decides, if it is not what was recorded last.
    ///
    /// # Errors
    ///
    /// When the log does not take it.
    pub async fn record(&self) -> anyhow::Result<()> {
        if recorded_settings::record(&*self.log, &self.settings, self.clock.now()).await? {
            tracing::info!("the settings differ from the recorded ones, and were recorded");
        }
        Ok(())
    }

    /// Waits for the gate, and puts into the log what decides, however often that must be tried. `false` when told to
    /// stop meanwhile.
    pub async fn wait(&self, stop: &CancellationToken) -> bool {
        let begun = async {
            loop {
                self.gate.opened().await;
                match self.record().await {
                    Ok(()) => return,
                    Err(error) => tracing::warn!("the settings cannot be recorded yet: {error:#}"),
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = begun => true,
            () = stop.cancelled() => false,
        }
    }
}

/// Keeps the gate from here on, records what decides once it is open, and folds away old samples of what is counted.
pub fn spawn(lifecycle: &mut Lifecycle, settings: &Settings, ground: &Ground) {
    let beginning = Beginning::new(settings, ground);
    lifecycle.spawn(Stage::Work, "settings", |stop| async move {
        beginning.wait(&stop).await;
        stop.cancelled().await;
        Ok(())
    });
    keep_gate(lifecycle, ground);
}

/// Keeps the gate from here on, and folds away old samples of what is counted.
pub fn keep_gate(lifecycle: &mut Lifecycle, ground: &Ground) {
    let keeper = ground.keeper.clone();
    lifecycle.spawn(Stage::Show, "gate", |stop| async move {
        keeper.run(stop).await;
        Ok(())
    });
    keep_metrics(lifecycle, ground);
}

/// Folds away old samples of what is counted.
pub fn keep_metrics(lifecycle: &mut Lifecycle, ground: &Ground) {
    let metrics = ground.metrics.clone();
    lifecycle.spawn(Stage::Show, "metrics", |stop| async move {
        telemetry::keep(&metrics, &stop).await;
        Ok(())
    });
}
