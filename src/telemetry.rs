//! What is told while running: log lines to stderr, numbers for Prometheus.

mod lines;

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::settings::Environment;

/// What is logged unless `RUST_LOG` says otherwise. What the client of NATS says at each try to connect, the mirror says
/// once.
const DEFAULT_FILTER: &str = "info,sqlx=warn,hyper=warn,reqwest=warn,async_nats=off";

/// How often old samples are folded away.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Starts logging: text on a terminal, else one JSON object on each line. `RUST_LOG` filters; a filter that cannot be
/// read is passed over, and said so.
pub fn start(environment: &Environment, quiet: bool) {
    let default = if quiet { "warn" } else { DEFAULT_FILTER };
    let wanted = environment.get("RUST_LOG");
    let parsed = wanted.map(EnvFilter::try_new).transpose();
    let wrong = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.ok().flatten().unwrap_or_else(|| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second start, in a test, leaves the first one in place.
    let _ = if io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines.json().event_format(lines::Lines).try_init()
    };
    if let Some(wrong) = wrong {
        tracing::warn!("RUST_LOG cannot be read and is passed over: {wrong}");
    }
}

/// Starts counting. The handle renders what was counted as Prometheus reads it. Asked again, it is the same one: a
/// process counts in one place.
///
/// # Errors
///
/// When something else in this process counts already.
pub fn count() -> anyhow::Result<PrometheusHandle> {
    static COUNTING: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = counting.as_ref() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).context("starting to count")?;
    metrics::gauge!("keyledger_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    *counting = Some(handle.clone());
    Ok(handle)
}

/// Folds old samples away until told to stop; without it memory would grow.
pub async fn keep(metrics: &PrometheusHandle, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        metrics.run_upkeep();
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(UPKEEP_EVERY) => {}
        }
    }
}
