//! The role: what it is made of, its routes, and how it starts and stops.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::ids::{Scope, SourceName};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;

use crate::answer::{Outcome, closing, problem};
use crate::body::Limits;
use crate::connection::{self, Ending};
use crate::gate::Gate;
use crate::health::{LogWritable, ReadinessCheck};
use crate::options::{Options, Source};
use crate::refused::Tally;
use crate::{health, observe, webhook};

/// How often refused bodies are looked after, beside the moments when one was refused.
const REFUSED_EVERY: Duration = Duration::from_mins(1);

/// How long to wait after the system would not accept a connection (no file descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Renders the metrics of the process.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// The ingest role.
pub struct Ingest {
    options: Options,
    sources: BTreeMap<SourceName, Source>,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    gate: Gate,
    checks: Vec<Arc<dyn ReadinessCheck>>,
    render_metrics: RenderMetrics,
    in_hand: Semaphore,
    body_limits: Limits,
    refused: Tally,
    refused_grew: Notify,
    warned_in: AtomicI64,
    leaving: AtomicBool,
}

/// Sources that cannot stand beside each other.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSources {
    /// Two have one name.
    #[error("source `{0}` is configured twice")]
    SameName(SourceName),
    /// Two share a secret: they are the same account, and every event would be kept, and sold, twice.
    #[error("sources `{first}` and `{second}` share a webhook secret: make them one source")]
    SameSecret {
        /// One of them.
        first: SourceName,
        /// The other.
        second: SourceName,
    },
}

impl Ingest {
    /// A role that takes deliveries for `sources` into `log`.
    ///
    /// # Errors
    ///
    /// [`BadSources`]: refuse to start.
    pub fn new(
        options: Options,
        sources: Vec<Source>,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BadSources> {
        let sources = by_name(sources)?;
        let budget = Arc::new(Semaphore::new(options.buffered_bytes_max.min(Semaphore::MAX_PERMITS)));
        let body_limits = Limits { bytes_max: options.body_bytes_max, timeout: options.body_timeout(), budget };
        Ok(Self {
            sources,
            checks: vec![Arc::new(LogWritable(Arc::clone(&log)))],
            gate: Gate::default(),
            log,
            clock,
            render_metrics: Arc::new(String::new),
            in_hand: Semaphore::new(options.requests_max.min(Semaphore::MAX_PERMITS)),
            body_limits,
            refused: Tally::default(),
            refused_grew: Notify::new(),
            warned_in: AtomicI64::new(i64::MIN),
            leaving: AtomicBool::new(false),
            options,
        })
    }

    /// Lets `/metrics` answer with what `render` gives.
    #[must_use]
    pub fn with_metrics(mut self, render: RenderMetrics) -> Self {
        self.render_metrics = render;
        self
    }

    /// Takes events only while `gate` is open.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.gate = gate.clone();
        self.with_check(Arc::new(gate))
    }

    /// Lets `/health/ready` ask `check` too, beside whether the log can be reached.
    #[must_use]
    pub fn with_check(mut self, check: Arc<dyn ReadinessCheck>) -> Self {
        self.checks.push(check);
        self
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn source(&self, name: &str) -> Option<&Source> {
        self.sources.values().find(|source| source.name().as_str() == name)
    }

    /// The names of all sources, in order.
    pub(crate) fn source_names(&self) -> impl Iterator<Item = &SourceName> {
        self.sources.keys()
    }

    pub(crate) fn log(&self) -> &Arc<dyn EventLog> {
        &self.log
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn checks(&self) -> &[Arc<dyn ReadinessCheck>] {
        &self.checks
    }

    /// Whether the role was told to stop.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(crate) fn render_metrics(&self) -> String {
        (self.render_metrics)()
    }

    pub(crate) fn body_limits(&self) -> &Limits {
        &self.body_limits
    }

    /// A place among the requests in hand, if there is one. It is given back when dropped.
    pub(crate) fn admit(&self) -> Option<SemaphorePermit<'_>> {
        self.in_hand.try_acquire().ok()
    }

    /// Whether no warning about a stranger's request was written in this second yet.
    pub(crate) fn may_warn(&self) -> bool {
        let second = self.clock.now().as_second();
        self.warned_in.swap(second, Ordering::Relaxed) != second
    }

    /// Counts a body over the limit; the log is told by and by, not by the stranger's request.
    pub(crate) fn count_refused(&self, scope: &Scope, announced_bytes: Option<u64>) {
        self.refused.count(scope, announced_bytes, self.clock.now());
        self.refused_grew.notify_one();
    }

    /// Reports refused bodies. A report that the log does not take stays due. May be dropped at any await: a report
    /// that was on its way has a derived id, and is only offered again.
    async fn report_refused(&self) {
        loop {
            self.report_refused_once(false).await;
            tokio::select! {
                () = self.refused_grew.notified() => {}
                () = tokio::time::sleep(REFUSED_EVERY) => {}
            }
        }
    }

    async fn report_refused_once(&self, stopping: bool) {
        if self.gate.closed().is_some() {
            return;
        }
        let limit_bytes = u64::try_from(self.options.body_bytes_max).unwrap_or(u64::MAX);
        let now = self.clock.now();
        for report in self.refused.due(now, stopping) {
            let append = self.log.append(Append::events(vec![report.event(now, limit_bytes)]));
            match tokio::time::timeout(self.options.append_timeout(), append).await {
                Ok(Ok(_)) => self.refused.reported(&report, now),
                Ok(Err(error)) => {
                    let cause: &(dyn std::error::Error + 'static) = &error;
                    tracing::warn!(error = cause, "cannot note refused bodies in the log yet");
                    return;
                }
                Err(_) => {
                    tracing::warn!("cannot note refused bodies in the log yet: it did not answer in time");
                    return;
                }
            }
        }
    }
}

fn by_name(sources: Vec<Source>) -> Result<BTreeMap<SourceName, Source>, BadSources> {
    let mut by_name: BTreeMap<SourceName, Source> = BTreeMap::new();
    for source in sources {
        for other in by_name.values() {
            if other.name() == source.name() {
                return Err(BadSources::SameName(source.name().clone()));
            }
            let shares = |secret| other.secrets().iter().any(|its| its.is_same_secret(secret));
            if source.secrets().iter().any(shares) {
                return Err(BadSources::SameSecret { first: other.name().clone(), second: source.name().clone() });
            }
        }
        by_name.insert(source.name().clone(), source);
    }
    Ok(by_name)
}

/// The routes. Nothing else answers anything but 404 or 405.
pub fn router(ingest: Arc<Ingest>) -> Router {
    Router::new()
        .route("/webhooks/stripe", post(webhook::to_default))
        .route("/webhooks/stripe/{source}", post(webhook::to_named))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready_of))
        .route("/metrics", get(health::metrics_of))
        .fallback(async || closing(problem(StatusCode::NOT_FOUND, "not_found", "there is nothing here")))
        .method_not_allowed_fallback(async || {
            closing(problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address takes another method"))
        })
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(ingest)
}

/// A bug. What the panic says may quote the request, so it is not repeated here.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request handler panicked, which is a bug");
    observe::request("unknown", None, Outcome::Panicked, Duration::ZERO);
    Outcome::Panicked.into_response()
}

/// Serves until `stop`, and in the order of a rolling restart from there on: readiness turns red and each answer ends its
/// connection, for [`Options::drain_ms`]; then nobody listens any more; then the requests in hand are finished, up to
/// [`Options::stop_timeout_ms`].
///
/// Dropping the future instead leaves requests unfinished; no event that was answered with 2xx is lost either way.
pub async fn serve(listener: TcpListener, ingest: Arc<Ingest>, stop: CancellationToken) {
    observe::describe();
    let ending = Ending { leaving: stop.clone(), stop: CancellationToken::new(), abort: CancellationToken::new() };
    // Connections are dropped with this future, however it ends.
    let _abort_on_drop = ending.abort.clone().drop_guard();
    let connections = TaskTracker::new();
    let told = async {
        stop.cancelled().await;
        ingest.leaving.store(true, Ordering::Relaxed);
        tokio::time::sleep(ingest.options.drain()).await;
    };
    tokio::select! {
        () = told => {}
        () = accept(&listener, &ingest, &connections, &ending) => {}
        () = ingest.report_refused() => {}
    }
    // Whoever is connected by now was promised an answer by the system.
    tokio::select! {
        biased;
        () = accept(&listener, &ingest, &connections, &ending) => {}
        () = std::future::ready(()) => {}
    }
    drop(listener);
    ending.stop.cancel();

    connections.close();
    if tokio::time::timeout(ingest.options.stop_timeout(), connections.wait()).await.is_err() {
        tracing::warn!("requests in hand did not finish in time and are dropped; their senders will try again");
        ending.abort.cancel();
        connections.wait().await;
    }
    ingest.report_refused_once(true).await;
}

/// Accepts connections until dropped, at most [`Options::connections_max`] at once.
async fn accept(listener: &TcpListener, ingest: &Arc<Ingest>, connections: &TaskTracker, ending: &Ending) {
    let app = router(Arc::clone(ingest));
    let places = Arc::new(Semaphore::new(ingest.options.connections_max.min(Semaphore::MAX_PERMITS)));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let (app, ingest, ending) = (app.clone(), Arc::clone(ingest), ending.clone());
                connections.spawn(Box::pin(async move {
                    let _place = place;
                    connection::run(stream, app, &ingest.options, ending).await;
                }));
            }
            Err(error) => {
                // Never a reason to leave: the sender has gone, or the system is out of something for a while.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
