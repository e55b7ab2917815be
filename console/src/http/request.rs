//! What surrounds every request: its id, its bounds, its log line, and the form of its refusals.
//!
//! The log line names the route's pattern, never the path or the query: ids, addresses and keys stand in those.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use keyledger_schemas::clock::Clock;
use serde::Serialize;
use tracing::Instrument;
use utoipa::ToSchema;

use crate::problem::{Fault, Problem};

/// The header that names a request in answers and in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest path with query, bytes. The longest search fits, percent-encoded.
pub const ADDRESS_BYTES_MAX: usize = 8 * 1024;

/// After this long without an answer the request is given up.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// When to ask again what cannot be answered now, seconds.
const RETRY_AFTER_S: &str = "5";

/// The id of one request: never the same twice, whatever the sender says.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Makes request ids of the process's start and a counter.
pub struct RequestIds {
    prefix: String,
    count: AtomicU64,
}

impl RequestIds {
    /// Ids of a process that starts now.
    pub fn new(clock: &dyn Clock) -> Self {
        let started = clock.now().as_microsecond();
        Self { prefix: format!("req_{started:x}{:05x}", std::process::id()), count: AtomicU64::new(1) }
    }

    fn next(&self) -> RequestId {
        RequestId(format!("{}_{:x}", self.prefix, self.count.fetch_add(1, Ordering::Relaxed)))
    }
}

/// An RFC 9457 problem.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// A page about this kind of problem, relative to this server.
    #[schema(example = "/problems/not_found")]
    pub r#type: String,
    /// What it is, the same every time.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What it is this time.
    pub detail: String,
    /// The request's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Stable; programs may match on it.
    #[schema(example = "not_found")]
    pub code: String,
    /// Everything in the request that cannot be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

impl IntoResponse for Problem {
    /// Carries the problem on; the outermost layer writes it, because it knows the request's id.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// The outermost layer: gives the request its id, bounds it in length and time, writes its log line and its problem.
pub async fn surround(State(ids): State<Arc<RequestIds>>, mut request: Request, next: Next) -> Response {
    let id = ids.next();
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("console.request", request.id = %id.0, http.method = %method, http.route = route);
    let address_bytes = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let answer = async {
        if address_bytes > ADDRESS_BYTES_MAX {
            return Problem::AddressTooLong { limit_bytes: ADDRESS_BYTES_MAX }.into_response();
        }
        match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::Timeout { after_s: ANSWER_WITHIN.as_secs() }.into_response(),
        }
    };
    let response = answer.instrument(span.clone()).await;
    let _entered = span.enter();
    finish(response, &id)
}

fn finish(response: Response, id: &RequestId) -> Response {
    let problem = response.extensions().get::<Arc<Problem>>().cloned();
    let mut response = match problem {
        Some(problem) => {
            log(&problem);
            write(&response, &problem, id)
        }
        None => response,
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, value);
    }
    tracing::debug!(http.status = response.status().as_u16(), "answered");
    response
}

/// Only what somebody must look at: what a caller did wrong is told to the caller.
fn log(problem: &Problem) {
    if problem.status() < 500 {
        return;
    }
    let chain = chain_of(problem);
    if let Problem::NotReady { part, .. } = problem {
        tracing::warn!(error = chain, "{part} cannot be reached");
    } else {
        tracing::error!(error = chain, "a request failed");
    }
}

fn chain_of(problem: &Problem) -> String {
    let mut text = problem.to_string();
    let mut source = std::error::Error::source(problem);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Keeps the status and the headers (a 405 says what is allowed) and writes the body.
fn write(response: &Response, problem: &Problem, id: &RequestId) -> Response {
    let body = ProblemBody {
        r#type: format!("/problems/{}", problem.code()),
        title: problem.title().to_owned(),
        status: problem.status(),
        detail: problem.to_string(),
        instance: Some(id.0.clone()),
        code: problem.code().to_owned(),
        errors: problem.faults().to_vec(),
    };
    let mut written = (response.status(), Json(body)).into_response();
    for (name, value) in response.headers() {
        if !written.headers().contains_key(name) {
            written.headers_mut().insert(name, value.clone());
        }
    }
    let headers = written.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    match problem {
        Problem::Unauthorized { token_given: true } => {
            let challenge = HeaderValue::from_static("Bearer realm=\"keyledger\", error=\"invalid_token\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        Problem::Unauthorized { token_given: false } => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"keyledger\""));
        }
        Problem::NotReady { .. } | Problem::Timeout { .. } => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        _ => {}
    }
    written
}

/// What a panicking handler answers. The panic's text may hold anything, so it is not shown.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::Internal("a handler panicked".into()).into_response()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::middleware;
    use axum::routing::get;
    use keyledger_schemas::clock::ManualClock;
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn answer(routes: Router) -> (Response, String) {
        let ids = Arc::new(RequestIds::new(&ManualClock::at(jiff::Timestamp::UNIX_EPOCH)));
        let app = routes.layer(CatchPanicLayer::custom(panicked)).layer(middleware::from_fn_with_state(ids, surround));
        let mut response = app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        let body = to_bytes(std::mem::take(response.body_mut()), 10_000).await.unwrap();
        (response, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_does_not_show_what_it_said() {
        let routes = Router::new().route("/", get(|| async { std::hint::black_box(None::<()>).expect("secret") }));
        let (response, body) = answer(routes).await;
        assert_eq!(response.status(), 500);
        assert!(body.contains("\"code\":\"internal\"") && !body.contains("secret"), "{body}");
    }

    #[tokio::test]
    async fn the_cause_of_a_fault_is_logged_and_not_shown() {
        let fault = || Problem::Internal("disk of the seller".into());
        let (response, body) = answer(Router::new().route("/", get(move || async move { fault() }))).await;
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert!(!body.contains("disk of the seller"), "{body}");
        assert_eq!(chain_of(&fault()).lines().count(), 1);
        assert!(chain_of(&fault()).ends_with(": disk of the seller"));
    }

    #[test]
    fn no_two_requests_have_one_id() {
        let ids = RequestIds::new(&ManualClock::at(jiff::Timestamp::UNIX_EPOCH));
        assert_ne!(ids.next().0, ids.next().0);
    }
}
