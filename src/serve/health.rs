//! How a process without an address of its own tells how it is: health and metrics, for those who run it.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use keyledger_ingest::health::{self, ReadinessCheck};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long one check may take.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// How long requests in hand may take to finish while stopping.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// `/health/live`, `/health/ready` and `/metrics`. Nothing else answers anything but 404.
pub fn router(checks: Vec<Arc<dyn ReadinessCheck>>, metrics: PrometheusHandle) -> Router {
    let checks: Arc<[Arc<dyn ReadinessCheck>]> = checks.into();
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(async move || health::readiness(&checks, CHECK_WITHIN).await))
        .route("/metrics", get(async move || health::metrics(metrics.render())))
        .fallback(async || StatusCode::NOT_FOUND)
}

/// Answers until told to stop.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> anyhow::Result<()> {
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        served = serving.into_future() => Ok(served?),
        () = overdue => Ok(()),
    }
}
