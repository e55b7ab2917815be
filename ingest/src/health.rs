//! Liveness, readiness and metrics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use keyledger_eventlog::log::{Append, EventLog};
use serde::Serialize;

use crate::server::Ingest;

/// The text format that Prometheus reads.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Something that must be well for this process to do its work.
#[async_trait]
pub trait ReadinessCheck: Send + Sync + 'static {
    /// A stable name, shown in the answer.
    fn name(&self) -> &'static str;

    /// Whether it is well. Dropped when it takes longer than the bound.
    ///
    /// # Errors
    ///
    /// [`NotReady`] with a reason that strangers may read: no secrets, no personal data.
    async fn check(&self) -> Result<(), NotReady>;

    /// What more there is to say, such as `active` or `standby`.
    fn state(&self) -> Option<String> {
        None
    }
}

/// Why a check does not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

/// Whether the log's head can be read.
pub struct LogReachable(pub Arc<dyn EventLog>);

#[async_trait]
impl ReadinessCheck for LogReachable {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn check(&self) -> Result<(), NotReady> {
        // The cause may name a host or a file; whoever asks here is told the outer error alone.
        self.0.head().await.map(|_| ()).map_err(|error| NotReady(error.to_string()))
    }
}

/// Whether the log takes anything. Reading may go on where nothing can be added: the disk is full, the server is a standby,
/// or another log is in its place.
pub struct LogWritable(pub Arc<dyn EventLog>);

#[async_trait]
impl ReadinessCheck for LogWritable {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn check(&self) -> Result<(), NotReady> {
        // An append of nothing goes all the way through the writer.
        self.0.append(Append::default()).await.map(drop).map_err(|error| NotReady(error.to_string()))
    }
}

/// What a role says that was told to stop.
pub struct Leaving;

#[async_trait]
impl ReadinessCheck for Leaving {
    fn name(&self) -> &'static str {
        "running"
    }

    async fn check(&self) -> Result<(), NotReady> {
        Err(NotReady("it was told to stop".to_owned()))
    }
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Vec<Checked>,
}

#[derive(Serialize)]
struct Checked {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// 200 as long as the process turns.
pub async fn live() -> Response {
    Json(serde_json::json!({ "live": true })).into_response()
}

/// 200 when every check passes within `bound`, else 503; either way with each check by name.
pub async fn readiness(checks: &[Arc<dyn ReadinessCheck>], bound: Duration) -> Response {
    let checks = futures::future::join_all(checks.iter().map(async |check| {
        let answer = tokio::time::timeout(bound, check.check()).await;
        let reason = match answer {
            Ok(Ok(())) => None,
            Ok(Err(NotReady(reason))) => Some(reason),
            Err(_) => Some("no answer in time".to_owned()),
        };
        Checked { name: check.name(), ok: reason.is_none(), state: check.state(), reason }
    }))
    .await;
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, checks })).into_response()
}

/// Metrics in the format that Prometheus reads.
pub fn metrics(rendered: String) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], rendered).into_response()
}

/// The role's own checks. Once it is told to stop, it is not ready whatever they say.
pub(crate) async fn ready_of(State(ingest): State<Arc<Ingest>>) -> Response {
    if ingest.is_leaving() {
        return readiness(&[Arc::new(Leaving)], ingest.options().check_timeout()).await;
    }
    readiness(ingest.checks(), ingest.options().check_timeout()).await
}

/// The metrics as the executable renders them.
pub(crate) async fn metrics_of(State(ingest): State<Arc<Ingest>>) -> Response {
    metrics(ingest.render_metrics())
}
