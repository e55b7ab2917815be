//! The JSON API over HTTP: routes, and what surrounds them. The answers are [`crate::api`]'s.

mod body;
mod handlers;
mod health;
mod openapi;
mod params;
mod request;

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, FORWARDED, HOST, ORIGIN};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::access::{Access, Shown};
use crate::api::Api;
use crate::problem::Problem;
use request::{RequestId, RequestIds};

pub use health::Metrics;
pub use openapi::document;
pub use request::{ProblemBody, REQUEST_ID};

/// The position that the views had reached when the request came: the answer is at least that new.
pub const POSITION: axum::http::HeaderName = axum::http::HeaderName::from_static("keyledger-position");

/// How long requests in hand may take to finish once the role is stopping.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Console {
    /// The answers.
    pub api: Api,
    /// Who may ask.
    pub access: Arc<Access>,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

/// The API as a router. Serve it with the peer's address ([`serve`] does), or nobody counts as local.
pub fn router(console: Console) -> Router {
    let ids = Arc::new(RequestIds::new(console.api.clock()));
    let (routes, _) = handlers::routes().split_for_parts();
    let guarded = routes
        .layer(middleware::from_fn_with_state(console.clone(), position))
        .layer(middleware::from_fn_with_state(console.clone(), admit));
    guarded
        .route("/api/v1/openapi.json", get(handlers::openapi))
        .route("/problems/{code}", get(handlers::problem))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(|| async { Problem::NoRoute })
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .layer(CatchPanicLayer::custom(request::panicked))
        .layer(DefaultBodyLimit::max(body::BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(ids, request::surround))
        .with_state(console)
}

/// Serves the API until `shutdown`, then finishes what is in hand, for ten seconds at most.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(listener: TcpListener, console: Console, shutdown: CancellationToken) -> std::io::Result<()> {
    let app = router(console).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    // A connection that never finishes its request must not keep the process alive.
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = overdue => {
            tracing::warn!("connections that did not finish in time were dropped");
            Ok(())
        }
    }
}

/// Lets nobody in without a token, before anything of the request is looked at.
async fn admit(State(console): State<Console>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let relayed = headers.contains_key(FORWARDED)
        || headers.contains_key("x-forwarded-for")
        || headers.contains_key("x-real-ip")
        || headers.contains_key(ORIGIN)
        || text("sec-fetch-site").is_some_and(|site| site != "none" && site != "same-origin");
    // A header that is not text is still a header: it does not count as none.
    let authorization = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST.as_str()).or(request.uri().host());
    match console.access.admit(&Shown { authorization, peer, host, relayed }, &id) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Says how new the answer is at least. Read before the answer is: read after, it could promise too much.
async fn position(State(console): State<Console>, request: Request, next: Next) -> Response {
    let position = console.api.position().await.ok();
    let mut response = next.run(request).await;
    if let Some(position) = position {
        response.headers_mut().insert(POSITION, HeaderValue::from(position));
    }
    response
}
