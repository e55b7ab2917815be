//! The stub engine as a server: licenses on its own disk, and faults on demand.
//!
//! | call | does |
//! | --- | --- |
//! | `POST /licenses` | makes one, **without** looking whether the reference is taken |
//! | `GET /licenses?reference=` | those that carry it, as far as the search sees them |
//! | `GET /licenses/{id}` | one |
//! | `PATCH /licenses/{id}` | sets what is given: `expires_at`, `seats`, `features`, `state` |
//! | `GET /control/stats` | what was really made, and how calls ended: [`Stats`] |
//! | `GET`, `PUT /control/faults` | how it misbehaves: [`super::faults`] |
//!
//! It has no password and is for one's own machine. What a call does is done even if its caller has left: a commit
//! never depends on somebody waiting for the answer.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Json, Path as UrlPath, Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, No};
use super::faults::{Fault, Faults, Operation};
use super::journal::JournalError;
use super::wire::{Found, NewLicense, Patch, Problem, Stats};

/// Bodies are a few hundred bytes; scripts of faults a few thousand.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// The stub engine on its directory, ready to serve.
#[derive(Clone, Debug)]
pub struct StubServer {
    engine: Arc<Mutex<Engine>>,
    /// Ends calls that hang.
    stop: CancellationToken,
}

/// Why the stub does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its disk.
    #[error("the stub cannot open its directory")]
    Journal(#[from] JournalError),
    /// Its address.
    #[error("the stub cannot serve")]
    Io(#[from] io::Error),
}

/// Serves the stub engine of `dir` on `listener` until `shutdown`.
///
/// # Errors
///
/// [`ServeError`]: the directory is in use or damaged, or the listener failed.
pub async fn run(listener: TcpListener, dir: &Path, shutdown: CancellationToken) -> Result<(), ServeError> {
    StubServer::open(dir)?.serve(listener, shutdown).await
}

impl StubServer {
    /// Opens or makes the directory and reads what is in it. Blocks while reading.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        Ok(Self { engine: Arc::new(Mutex::new(Engine::open(dir)?)), stop: CancellationToken::new() })
    }

    /// Serves on `listener` until `shutdown`; calls that hang are then dropped.
    ///
    /// # Errors
    ///
    /// [`ServeError::Io`] if the listener failed.
    pub async fn serve(mut self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ServeError> {
        self.stop = shutdown.clone();
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
        Ok(())
    }

    /// Its routes.
    fn router(self) -> Router {
        Router::new()
            .route("/licenses", post(create).get(find))
            .route("/licenses/{id}", get(read).patch(change))
            .route("/control/stats", get(stats))
            .route("/control/faults", get(faults).put(set_faults))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }

    /// A panic while holding the lock leaves nothing half done: memory is changed after the disk, in one step.
    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one call, with the fault that is due for it.
    async fn perform<T, W>(self, operation: Operation, fault: Option<Fault>, success: StatusCode, work: W) -> Response
    where
        T: Serialize + Send + 'static,
        W: FnOnce(&mut Engine) -> Result<T, No> + Send + 'static,
    {
        let name = fault.as_ref().map(Fault::as_str);
        if let Some(answer) = fault.as_ref().and_then(instead_of_work) {
            self.lock().count(operation, name.unwrap_or_default().to_owned());
            return answer;
        }
        let delay = match &fault {
            Some(Fault::Slow { delay_ms }) => Duration::from_millis(*delay_ms),
            _ => Duration::ZERO,
        };
        // A task of its own: axum drops the handler when its caller leaves, and the work must be done all the same.
        let server = self.clone();
        let work = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            tokio::task::spawn_blocking(move || {
                let mut engine = server.lock();
                let answer = answer(success, work(&mut engine));
                let ending = name.map_or_else(|| answer.status().as_str().to_owned(), ToOwned::to_owned);
                engine.count(operation, ending);
                answer
            })
            .await
        });
        let answer = match work.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failed)) | Err(failed) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
        };
        match fault {
            Some(Fault::CommitThenHang) => {
                self.stop.cancelled().await;
                dropped_connection()
            }
            Some(Fault::CommitThenDrop) => dropped_connection(),
            Some(Fault::CommitThenFail { status }) => scripted_failure(status),
            Some(Fault::CommitThenGarble) => garbled(answer.status()),
            Some(Fault::Slow { .. } | Fault::Drop | Fault::Fail { .. } | Fault::Refuse { .. }) | None => answer,
        }
    }
}

async fn create(State(server): State<StubServer>, body: Result<Json<NewLicense>, JsonRejection>) -> Response {
    let new = match body {
        Ok(Json(new)) => new,
        Err(rejected) => return problem(StatusCode::BAD_REQUEST, &rejected.body_text()),
    };
    let fault = server.lock().draw(Operation::Create, None, Some(&new.product));
    server.perform(Operation::Create, fault, StatusCode::CREATED, |engine| engine.create(new)).await
}

#[derive(Deserialize)]
struct Search {
    reference: String,
}

async fn find(State(server): State<StubServer>, Query(search): Query<Search>) -> Response {
    let fault = server.lock().draw(Operation::Find, None, None);
    let work = move |engine: &mut Engine| Ok(Found { data: engine.find(&search.reference) });
    server.perform(Operation::Find, fault, StatusCode::OK, work).await
}

async fn read(State(server): State<StubServer>, UrlPath(id): UrlPath<String>) -> Response {
    let fault = server.lock().draw(Operation::Read, Some(&id), None);
    server.perform(Operation::Read, fault, StatusCode::OK, move |engine| engine.read(&id)).await
}

async fn change(
    State(server): State<StubServer>,
    UrlPath(id): UrlPath<String>,
    body: Result<Json<Patch>, JsonRejection>,
) -> Response {
    let patch = match body {
        Ok(Json(patch)) => patch,
        Err(rejected) => return problem(StatusCode::BAD_REQUEST, &rejected.body_text()),
    };
    let fault = server.lock().draw(Operation::Change, Some(&id), None);
    server.perform(Operation::Change, fault, StatusCode::OK, move |engine| engine.change(&id, patch)).await
}

async fn stats(State(server): State<StubServer>) -> Json<Stats> {
    Json(server.lock().stats())
}

async fn faults(State(server): State<StubServer>) -> Json<Faults> {
    Json(server.lock().faults.clone())
}

async fn set_faults(State(server): State<StubServer>, body: Result<Json<Faults>, JsonRejection>) -> Response {
    let faults = match body {
        Ok(Json(faults)) => faults,
        Err(rejected) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &rejected.body_text()),
    };
    if let Err(bad) = faults.check() {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, &bad.to_string());
    }
    server.lock().faults = faults.clone();
    Json(faults).into_response()
}

/// The answer of a fault that keeps the work from being done.
fn instead_of_work(fault: &Fault) -> Option<Response> {
    match fault {
        Fault::Drop => Some(dropped_connection()),
        Fault::Refuse { reason } => Some(problem(StatusCode::UNPROCESSABLE_ENTITY, reason)),
        Fault::Fail { status, retry_after_s } => {
            let mut answer = scripted_failure(*status);
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

fn answer<T: Serialize>(success: StatusCode, done: Result<T, No>) -> Response {
    match done {
        Ok(body) => (success, Json(body)).into_response(),
        Err(No::Unknown) => problem(StatusCode::NOT_FOUND, "no such license"),
        Err(No::Forbidden(reason)) => problem(StatusCode::UNPROCESSABLE_ENTITY, reason),
        Err(No::Disk(error)) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(Problem { message: message.to_owned() })).into_response()
}

fn scripted_failure(status: u16) -> Response {
    problem(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "scripted failure")
}

/// A body that fails before its first byte: the server closes the connection without having sent anything.
fn dropped_connection() -> Response {
    let failure = futures::stream::once(async { Err::<Vec<u8>, _>(io::Error::other("scripted drop")) });
    Response::new(Body::from_stream(failure))
}

fn garbled(status: StatusCode) -> Response {
    let half = r#"{"id": "stub-0"#;
    let headers = [(CONTENT_TYPE, "application/json".to_owned()), (CONTENT_LENGTH, half.len().to_string())];
    (status, headers, half).into_response()
}
