//! Liveness, readiness and metrics, without a token: they say nothing of anybody.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use keyledger_projector::ViewsError;
use serde::Serialize;

use super::Console;

/// The text format that Prometheus reads.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long a check may take.
const CHECKED_WITHIN: Duration = Duration::from_secs(2);

/// Renders the metrics of the process.
#[derive(Clone)]
pub struct Metrics(Arc<dyn Fn() -> String + Send + Sync>);

impl Metrics {
    /// What `render` gives.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }
}

impl Default for Metrics {
    /// None.
    fn default() -> Self {
        Self::new(String::new)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: [Checked; 2],
}

#[derive(Serialize)]
struct Checked {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Checked {
    fn new(name: &'static str, reason: Option<&'static str>) -> Self {
        Self { name, ok: reason.is_none(), reason }
    }
}

/// 200 as long as the process turns.
pub async fn live() -> Response {
    Json(serde_json::json!({ "live": true })).into_response()
}

/// 200 when the log and the views can be read, else 503; either way with each by name.
pub async fn ready(State(console): State<Console>) -> Response {
    let log = async {
        match tokio::time::timeout(CHECKED_WITHIN, console.api.log_position()).await {
            Ok(Ok(_)) => None,
            Ok(Err(_)) => Some("it cannot be reached"),
            Err(_) => Some("no answer in time"),
        }
    };
    let views = async {
        match tokio::time::timeout(CHECKED_WITHIN, console.api.require_views()).await {
            Ok(Ok(())) => None,
            // The cause may name a host or a file, and whoever asks here may be anyone.
            Ok(Err(ViewsError::Unusable { .. } | ViewsError::Newer)) => Some("there are none of this version yet"),
            Ok(Err(ViewsError::Database(_) | ViewsError::Damaged { .. })) => Some("they cannot be read"),
            Err(_) => Some("no answer in time"),
        }
    };
    let (log, views) = tokio::join!(log, views);
    let checks = [Checked::new("log", log), Checked::new("views", views)];
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, checks })).into_response()
}

/// The metrics as the executable renders them.
pub async fn metrics(State(console): State<Console>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], (console.metrics.0)()).into_response()
}
