//! The Web API over HTTP: who may ask, how often, and which operation a call is.

use std::sync::PoisonError;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, patch, post};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Server;
use super::account::Account;
use super::fields::Refusal;
use super::settings::Settings;

const LIMIT: HeaderName = HeaderName::from_static("x-rate-limit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-rate-limit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-rate-limit-reset");

type Parameters = Query<Vec<(String, String)>>;

/// A call: its operation, what it is about, and the scope that it needs.
struct Call<'a> {
    operation: &'static str,
    about: Option<&'a str>,
    scope: &'static str,
}

pub(super) fn router(server: Server) -> Router {
    let api = Router::new()
        .route("/v3/users", post(create_user).get(users))
        .route("/v3/users/{id}", get(read_user).patch(change_user))
        .route("/v3/users/{id}/reset-password-token", post(password_token))
        .route("/v3/licenses", post(create).get(licenses))
        .route("/v3/licenses/{id}", get(read).patch(change).delete(remove))
        .route("/v3/licenses/{id}/expires-at", patch(set_expiry))
        .route("/v3/licenses/{id}/renew", post(renew))
        .route("/v3/licenses/{id}/extend", post(extend))
        .route("/v3/licenses/metadata/{id}", delete(remove_metadata))
        .fallback(async || refused(&Refusal::unknown("route")))
        .layer(middleware::from_fn_with_state(server.clone(), limited));
    let control =
        Router::new().route("/control/state", get(state)).route("/control/settings", get(settings).put(set_settings));
    api.merge(control).with_state(server)
}

async fn create_user(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    let (about, read) = (text_of(&body, "email"), json_of(&headers, &body));
    let call = Call { operation: "user_create", about: about.as_deref(), scope: "user:write" };
    server.perform(call, &headers, move |account| Ok((StatusCode::CREATED, account.create_user(&read?)?))).await
}

async fn users(State(server): State<Server>, Query(asked): Parameters, headers: HeaderMap) -> Response {
    let call = Call { operation: "user_find", about: None, scope: "user:read" };
    let lag = server.stage.search_lag();
    server.perform(call, &headers, move |account| ok(account.users(&asked, lag))).await
}

async fn read_user(State(server): State<Server>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let call = Call { operation: "user_read", about: Some(&id.clone()), scope: "user:read" };
    server.perform(call, &headers, move |account| ok(account.read_user(&id))).await
}

async fn change_user(
    State(server): State<Server>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let read = json_of(&headers, &body);
    let call = Call { operation: "user_change", about: Some(&id.clone()), scope: "user:write" };
    server.perform(call, &headers, move |account| ok(account.change_user(&id, &read?))).await
}

async fn password_token(State(server): State<Server>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let call = Call { operation: "user_password", about: Some(&id.clone()), scope: "user:write" };
    let work = move |account: &mut Account| {
        account.read_user(&id)?;
        ok(Ok(json!({ "resetPasswordToken": "c2FuZGJveC8rPQ==" })))
    };
    server.perform(call, &headers, work).await
}

async fn create(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    let (about, read) = (text_of(&body, "productId"), json_of(&headers, &body));
    let call = Call { operation: "create", about: about.as_deref(), scope: "license:write" };
    server.perform(call, &headers, move |account| Ok((StatusCode::CREATED, account.create_license(&read?)?))).await
}

/// A search by metadata is a `find`, anything else a `list`.
async fn licenses(State(server): State<Server>, Query(asked): Parameters, headers: HeaderMap) -> Response {
    let by_metadata = asked.iter().any(|(name, _)| name.starts_with("metadata."));
    let operation = if by_metadata { "find" } else { "list" };
    let call = Call { operation, about: None, scope: "license:read" };
    let lag = server.stage.search_lag();
    server.perform(call, &headers, move |account| ok(account.licenses(&asked, lag))).await
}

async fn read(State(server): State<Server>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let call = Call { operation: "read", about: Some(&id.clone()), scope: "license:read" };
    server.perform(call, &headers, move |account| ok(account.read_license(&id))).await
}

async fn change(State(server): State<Server>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let read = json_of(&headers, &body);
    let call = Call { operation: "change", about: Some(&id.clone()), scope: "license:write" };
    server.perform(call, &headers, move |account| ok(account.change_license(&id, &read?))).await
}

/// A change like the others to whoever scripts faults.
async fn set_expiry(State(server): State<Server>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let read = json_of(&headers, &body);
    let call = Call { operation: "change", about: Some(&id.clone()), scope: "license:write" };
    server.perform(call, &headers, move |account| ok(account.set_expiry(&id, &read?))).await
}

async fn renew(State(server): State<Server>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let call = Call { operation: "renew", about: Some(&id.clone()), scope: "license:write" };
    server.perform(call, &headers, move |account| ok(account.renew(&id))).await
}

async fn extend(State(server): State<Server>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let read = json_of(&headers, &body);
    let call = Call { operation: "extend", about: Some(&id.clone()), scope: "license:write" };
    server.perform(call, &headers, move |account| ok(account.extend(&id, &read?))).await
}

async fn remove(State(server): State<Server>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let call = Call { operation: "delete", about: Some(&id.clone()), scope: "license:write" };
    server.perform(call, &headers, move |account| gone(account.delete_license(&id))).await
}

async fn remove_metadata(State(server): State<Server>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let call = Call { operation: "delete_metadata", about: Some(&id.clone()), scope: "license:write" };
    server.perform(call, &headers, move |account| gone(account.delete_metadata(&id))).await
}

async fn state(State(server): State<Server>) -> Json<Value> {
    Json(server.state())
}

async fn settings(State(server): State<Server>) -> Json<Settings> {
    Json(server.settings())
}

async fn set_settings(State(server): State<Server>, body: Bytes) -> Response {
    match serde_json::from_slice::<Settings>(&body) {
        Ok(wanted) => {
            server.set(wanted.clone());
            Json(wanted).into_response()
        }
        Err(error) => {
            let message = json!({ "message": error.to_string() });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(message)).into_response()
        }
    }
}

/// Counts the request in its window, and turns it away beyond what is allowed.
async fn limited(State(server): State<Server>, request: Request, next: Next) -> Response {
    let allowed = server.lock().settings.requests_per_window;
    if allowed == 0 {
        return next.run(request).await;
    }
    let verdict = server.limiter.lock().unwrap_or_else(PoisonError::into_inner).ask(allowed, Instant::now());
    let mut answer = if verdict.admitted {
        next.run(request).await
    } else {
        let mut answer = failed(StatusCode::TOO_MANY_REQUESTS);
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(verdict.reset_in.as_secs() + 1));
        answer
    };
    #[expect(clippy::disallowed_methods, reason = "the header has the time of the machine that serves")]
    let reset =
        SignedDuration::try_from(verdict.reset_in).map_or_else(|_| Timestamp::now(), |left| Timestamp::now() + left);
    let headers = answer.headers_mut();
    headers.insert(LIMIT, HeaderValue::from_static("5s"));
    headers.insert(REMAINING, HeaderValue::from(verdict.remaining));
    if let Ok(reset) = HeaderValue::from_str(&format!("{reset:.7}")) {
        headers.insert(RESET, reset);
    }
    answer
}

impl Server {
    async fn perform<W>(&self, call: Call<'_>, headers: &HeaderMap, work: W) -> Response
    where
        W: FnOnce(&mut Account) -> Result<(StatusCode, Value), Refusal> + Send + 'static,
    {
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let (server, scope) = (self.clone(), call.scope);
        let whole = move || {
            let mut account = server.lock();
            let done = admitted(&account.settings, token.as_deref(), scope).and_then(|()| work(&mut account));
            match done {
                Ok((StatusCode::NO_CONTENT, _)) => StatusCode::NO_CONTENT.into_response(),
                Ok((status, body)) => (status, Json(body)).into_response(),
                Err(refusal) => refused(&refusal),
            }
        };
        self.stage.perform(call.operation, call.about, failed, whole).await
    }
}

fn admitted(settings: &Settings, token: Option<&str>, scope: &str) -> Result<(), Refusal> {
    let refusal = |status, code, message: &str| Err(Refusal { status, code, message: message.to_owned() });
    if token.and_then(|value| value.strip_prefix("Bearer ")) != Some(settings.token.as_str()) {
        return refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "the access token is not valid");
    }
    if !settings.scopes.contains(scope) {
        return refusal(StatusCode::FORBIDDEN, "FORBIDDEN", "the access token lacks a scope");
    }
    Ok(())
}

fn ok(done: Result<Value, Refusal>) -> Result<(StatusCode, Value), Refusal> {
    done.map(|body| (StatusCode::OK, body))
}

fn gone(done: Result<(), Refusal>) -> Result<(StatusCode, Value), Refusal> {
    done.map(|()| (StatusCode::NO_CONTENT, Value::Null))
}

fn json_of(headers: &HeaderMap, body: &Bytes) -> Result<Value, Refusal> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        let message = "the body is not declared as application/json".to_owned();
        return Err(Refusal { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, code: "MEDIA_TYPE", message });
    }
    serde_json::from_slice(body).map_err(|_| Refusal::bad("the body is not JSON"))
}

/// One field of a body, before anybody looked whether it is right.
fn text_of(body: &Bytes, field: &str) -> Option<String> {
    let read: Value = serde_json::from_slice(body).ok()?;
    read.get(field)?.as_str().map(ToOwned::to_owned)
}

fn refused(refusal: &Refusal) -> Response {
    let body = json!({ "message": refusal.message, "code": refusal.code });
    (refusal.status, Json(body)).into_response()
}

fn failed(status: StatusCode) -> Response {
    refused(&Refusal { status, code: "SCRIPTED", message: "the call failed".to_owned() })
}
