//! Every request of the API through one door, and the control routes beside it.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Server;
use super::account::Account;
use super::answer::{Refusal, failed};
use super::operation::{self, Call, Operation};
use super::settings::Settings;
use super::world::{BadLoad, Realm};

pub(super) fn router(server: Server) -> Router {
    Router::new()
        .route("/control/state", get(state))
        .route("/control/settings", get(settings).put(set_settings))
        .route("/control/objects", put(load_objects))
        .route("/control/events", put(load_events))
        .route("/control/events/{id}/deliver", post(deliver))
        .route("/control/events/{id}/delivered", put(set_delivered))
        .fallback(api)
        .with_state(server)
}

async fn api(State(server): State<Server>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (request, date) = {
        let mut account = server.lock();
        (account.next_request(), account.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
    };
    let admitted = admit(&mut server.lock(), &request, &method, &uri, &headers, &body);
    let mut answer = match admitted {
        Ok(call) => perform(&server, call).await,
        Err(refusal) => refusal.into_response(),
    };
    let own = answer.headers_mut();
    for (name, value) in [("request-id", request), ("date", date)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            own.insert(name, value);
        }
    }
    for name in ["stripe-version", "idempotency-key"] {
        if let Some(value) = headers.get(name) {
            own.insert(name, value.clone());
        }
    }
    answer
}

/// Everything that is looked at before a request is done.
fn admit(
    account: &mut Account,
    request: &str,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Call, Refusal> {
    if account.settings.forbid_all {
        account.forbidden += 1;
        return Err(Refusal::new(403, None, "No request is allowed now."));
    }
    let realm = operation::realm(headers, uri.path(), &account.settings, &account.world)?;
    let version = operation::version(headers, &account.settings)?;
    let operation = Operation::of(method, uri.path())?;
    let (all, each) = (account.settings.requests_per_second, account.settings.requests_per_second_each);
    account.limiter.ask(&operation.name(), all, each, Instant::now())?;
    let params = operation::params(method, headers, uri.query().unwrap_or_default(), body)?;
    let idempotency_key = operation::idempotency_key(headers)?.filter(|_| operation.writes());
    let path = uri.path().to_owned();
    Ok(Call { operation, path, params, realm, version, idempotency_key, request: request.to_owned() })
}

async fn perform(server: &Server, call: Call) -> Response {
    let Some(in_hand) = InHand::take(server, &call) else {
        let message = "There is currently another in-progress request using this Idempotent Key.";
        return Refusal {
            kind: "idempotency_error",
            should_retry: Some(true),
            ..Refusal::new(409, Some("idempotency_key_in_use"), message)
        }
        .into_response();
    };
    let (name, about) = (call.operation.name(), call.operation.about().map(str::to_owned));
    let doer = server.clone();
    let work = move || {
        let done = doer.lock().perform(&call);
        drop(in_hand);
        if let Some(event) = done.event {
            doer.send(&event);
        }
        done.answer
    };
    server.stage().perform(&name, about.as_deref(), failed, work).await
}

/// While it lives, another request with the same idempotency key is turned away.
struct InHand {
    server: Server,
    entry: Option<(Realm, String)>,
}

impl InHand {
    fn take(server: &Server, call: &Call) -> Option<Self> {
        let entry = call.idempotency_key.as_ref().map(|key| (call.realm.clone(), key.clone()));
        if let Some(entry) = &entry
            && !server.lock().in_hand.insert(entry.clone())
        {
            return None;
        }
        Some(Self { server: server.clone(), entry })
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            self.server.lock().in_hand.remove(entry);
        }
    }
}

async fn state(State(server): State<Server>) -> Json<Value> {
    Json(server.state())
}

async fn settings(State(server): State<Server>) -> Json<Settings> {
    Json(server.settings())
}

async fn set_settings(State(server): State<Server>, body: Result<Json<Settings>, JsonRejection>) -> Response {
    match body {
        Ok(Json(wanted)) => {
            server.set(wanted.clone());
            Json(wanted).into_response()
        }
        Err(rejected) => unprocessable(&rejected.body_text()),
    }
}

/// Whose objects are loaded, where they do not say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    account: Option<String>,
    #[serde(default = "live")]
    livemode: bool,
}

fn live() -> bool {
    true
}

async fn load_objects(
    State(server): State<Server>,
    Query(whose): Query<Whose>,
    body: Result<Json<Value>, JsonRejection>,
) -> Response {
    load(body, |object| {
        let live = object["livemode"].as_bool().unwrap_or(whose.livemode);
        server.load_object(&Realm { account: whose.account.clone(), live }, object)
    })
}

async fn load_events(State(server): State<Server>, body: Result<Json<Value>, JsonRejection>) -> Response {
    load(body, |event| server.load_event(event))
}

/// Loads one, an array, or a list as the API gives them.
fn load(body: Result<Json<Value>, JsonRejection>, mut one: impl FnMut(Value) -> Result<(), BadLoad>) -> Response {
    let body = match body {
        Ok(Json(body)) => body,
        Err(rejected) => return unprocessable(&rejected.body_text()),
    };
    let all = match body {
        Value::Array(all) => all,
        Value::Object(mut list) if list.get("object").is_some_and(|kind| kind == "list") => {
            list.remove("data").and_then(|data| data.as_array().cloned()).unwrap_or_default()
        }
        single => vec![single],
    };
    let count = all.len();
    match all.into_iter().try_for_each(&mut one) {
        Ok(()) => Json(json!({ "loaded": count })).into_response(),
        Err(bad) => unprocessable(&bad.to_string()),
    }
}

async fn deliver(State(server): State<Server>, Path(id): Path<String>) -> Response {
    match server.deliver(&id).await {
        Some(delivered) => Json(json!({ "delivered": delivered })).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"message": "no such event, or no webhook in the settings"})))
            .into_response(),
    }
}

async fn set_delivered(State(server): State<Server>, Path(id): Path<String>, Json(delivered): Json<bool>) -> Response {
    if server.set_delivered(&id, delivered) {
        return Json(delivered).into_response();
    }
    (StatusCode::NOT_FOUND, Json(json!({"message": "no such event"}))).into_response()
}

fn unprocessable(message: &str) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "message": message }))).into_response()
}
