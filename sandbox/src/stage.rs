//! What every stand-in has besides what it imitates: faults on demand, and a count of what was asked and how it ended.
//!
//! | call | does |
//! | --- | --- |
//! | `GET`, `PUT /control/faults` | how it misbehaves: [`crate::faults`] |
//! | `GET /control/calls` | calls so far, by operation and by how they ended |
//!
//! What a call does is done even if its caller has left: a commit never depends on somebody waiting for the answer.
//! It has no password of its own and is for one's own machine.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Json, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::faults::{Fault, Faults};

/// Bodies are a few thousand bytes; scripts of faults too.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Calls so far, by operation, then by how they ended: a status, or the name of a fault.
pub type Calls = BTreeMap<String, BTreeMap<String, u64>>;

/// Faults and counts of one server. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    state: Arc<Mutex<StageState>>,
}

#[derive(Debug, Default)]
struct StageState {
    faults: Faults,
    calls: Calls,
    /// Ends calls that hang: of the serving that goes on, not of the next.
    stop: CancellationToken,
}

impl Stage {
    /// Good behavior, and nothing asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How it misbehaves from now on.
    ///
    /// # Errors
    ///
    /// [`crate::faults::BadFaults`] for faults that cannot be; nothing is changed then.
    pub fn misbehave(&self, faults: Faults) -> Result<(), crate::faults::BadFaults> {
        faults.check()?;
        self.lock().faults = faults;
        Ok(())
    }

    /// Calls so far.
    pub fn calls(&self) -> Calls {
        self.lock().calls.clone()
    }

    /// How long what is new stays invisible to searches.
    pub fn search_lag(&self) -> Duration {
        Duration::from_millis(self.lock().faults.search_lag_ms)
    }

    /// Serves `api` with the control routes beside it, until `stop`. Calls that hang are then dropped.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve(self, api: Router, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        // The handlers have clones of this, made before.
        self.lock().stop = stop.clone();
        let control = Router::new()
            .route("/control/faults", get(faults).put(set_faults))
            .route("/control/calls", get(calls))
            .with_state(self);
        let app = control.merge(api).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
        axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
    }

    /// Does one call with the fault that is due for it. `work` is done at once and whole, or not at all. `failed` makes the
    /// service's own kind of error body.
    pub async fn perform<W>(
        &self,
        operation: &str,
        about: Option<&str>,
        failed: fn(StatusCode) -> Response,
        work: W,
    ) -> Response
    where
        W: FnOnce() -> Response + Send + 'static,
    {
        let fault = self.lock().faults.draw(operation, about);
        let name = fault.as_ref().map(Fault::as_str);
        if let Some(answer) = fault.as_ref().and_then(|fault| instead_of_work(fault, failed)) {
            self.count(operation, name.unwrap_or_default());
            return answer;
        }
        let delay = match &fault {
            Some(Fault::Slow { delay_ms }) => Duration::from_millis(*delay_ms),
            _ => Duration::ZERO,
        };
        // A task of its own: axum drops the handler when its caller leaves, and the work must be done all the same.
        let stage = self.clone();
        let counted = operation.to_owned();
        let work = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let answer = work();
            stage.count(&counted, name.unwrap_or(answer.status().as_str()));
            answer
        });
        let Ok(answer) = work.await else { return failed(StatusCode::INTERNAL_SERVER_ERROR) };
        match fault {
            Some(Fault::CommitThenHang) => {
                let stop = self.lock().stop.clone();
                stop.cancelled().await;
                dropped_connection()
            }
            Some(Fault::CommitThenDrop) => dropped_connection(),
            Some(Fault::CommitThenFail { status }) => failed(scripted(status)),
            Some(Fault::CommitThenGarble) => garbled(answer.status()),
            Some(Fault::Slow { .. } | Fault::Drop | Fault::Fail { .. }) | None => answer,
        }
    }

    fn count(&self, operation: &str, ending: &str) {
        let mut state = self.lock();
        let endings = state.calls.entry(operation.to_owned()).or_default();
        *endings.entry(ending.to_owned()).or_default() += 1;
    }

    /// Nothing is half done under the lock: a panic leaves whole values.
    fn lock(&self) -> MutexGuard<'_, StageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn faults(State(stage): State<Stage>) -> Json<Faults> {
    Json(stage.lock().faults.clone())
}

async fn set_faults(State(stage): State<Stage>, body: Result<Json<Faults>, JsonRejection>) -> Response {
    let bad = |text: String| (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "message": text }))).into_response();
    match body {
        Ok(Json(wanted)) => match stage.misbehave(wanted.clone()) {
            Ok(()) => Json(wanted).into_response(),
            Err(error) => bad(error.to_string()),
        },
        Err(rejected) => bad(rejected.body_text()),
    }
}

async fn calls(State(stage): State<Stage>) -> Json<Calls> {
    Json(stage.calls())
}

/// The answer of a fault that keeps the work from being done.
fn instead_of_work(fault: &Fault, failed: fn(StatusCode) -> Response) -> Option<Response> {
    match fault {
        Fault::Drop => Some(dropped_connection()),
        Fault::Fail { status, retry_after_s } => {
            let mut answer = failed(scripted(*status));
            if let Some(seconds) = *retry_after_s {
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Some(answer)
        }
        Fault::CommitThenHang
        | Fault::CommitThenDrop
        | Fault::CommitThenFail { .. }
        | Fault::CommitThenGarble
        | Fault::Slow { .. } => None,
    }
}

fn scripted(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A body that fails before its first byte: the server closes the connection without having sent anything.
fn dropped_connection() -> Response {
    let failure = futures::stream::once(async { Err::<Vec<u8>, _>(io::Error::other("scripted drop")) });
    Response::new(Body::from_stream(failure))
}

fn garbled(status: StatusCode) -> Response {
    let half = r#"{"id": "0"#;
    let headers = [(CONTENT_TYPE, "application/json".to_owned()), (CONTENT_LENGTH, half.len().to_string())];
    (status, headers, half).into_response()
}
