//! Keygen, API v1 (JSON:API), as a stand-in.
//!
//! Licenses, users and the entitlements of licenses, under `/v1/accounts/sandbox`, for the token `sandbox` of the product
//! [`settings::PRODUCT`]; all of it is in [`Settings`]. Bodies, ids and media types are checked as Keygen checks them.
//! Webhooks, machines, passwords and everything else of Keygen is not here: 404.
//!
//! | operation | call | about |
//! | --- | --- | --- |
//! | `find_user`, `read_user` | `GET /users`, `/users/{id or email}` | |
//! | `create_user`, `update_user` | `POST /users`, `PATCH /users/{id}` | |
//! | `find`, `read` | `GET /licenses`, `/licenses/{id or key}` | the license |
//! | `create` | `POST /licenses` | |
//! | `update` | `PATCH /licenses/{id}` | the license |
//! | `owner`, `policy` | `PUT /licenses/{id}/owner`, `/policy` | the license |
//! | `entitlements`, `attach`, `detach` | `GET`, `POST`, `DELETE /licenses/{id}/entitlements` | the license |
//! | `entitlement`, `policy_entitlements` | `GET /entitlements/{id}`, `/policies/{id}/entitlements` | |
//! | `suspend`, `reinstate`, `renew` | `POST /licenses/{id}/actions/…` | the license |
//! | `revoke`, `delete` | `DELETE /licenses/{id}/actions/revoke`, `/licenses/{id}` | the license |
//!
//! Beside them: `GET /control/state`, `GET` and `PUT /control/settings`, and what every stand-in has ([`crate::stage`]).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, State};
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use account::{License, User};
pub use settings::{Entitlement, Policy, Product, RenewalBasis, Settings};

use account::Account;
use call::Call;
use operation::Operation;
use problem::Problem;
use render::Style;

use crate::stage::Stage;

mod account;
mod call;
mod document;
mod licenses;
mod metadata;
mod operation;
mod pages;
mod problem;
mod render;
pub mod settings;
mod users;

/// A Keygen account. Clones share it.
#[derive(Clone, Debug)]
pub struct Server {
    stage: Stage,
    account: Arc<Mutex<Account>>,
}

impl Default for Server {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Server {
    /// An account without licenses and users.
    pub fn new(settings: Settings) -> Self {
        Self { stage: Stage::new(), account: Arc::new(Mutex::new(Account::new(settings))) }
    }

    /// How it misbehaves, and what was asked.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Serves until `stop`; what it holds stays for the next serving.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let api = Router::new()
            .route("/control/state", get(state))
            .route("/control/settings", get(settings_now).put(set_settings))
            .fallback(answer)
            .with_state(self.clone());
        self.stage.clone().serve(api, listener, stop).await
    }

    /// What the account is like now.
    pub fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// Changes what the account is like; licenses and users stay.
    pub fn set(&self, settings: Settings) {
        self.lock().settings = settings;
    }

    /// All licenses, oldest first.
    pub fn licenses(&self) -> Vec<License> {
        self.lock().licenses.clone()
    }

    /// One license.
    pub fn license(&self, id: Uuid) -> Option<License> {
        self.lock().licenses.iter().find(|license| license.id == id).cloned()
    }

    /// What one license allows to the software, from its policy or its own: machines, and codes of entitlements.
    pub fn allowed(&self, id: Uuid) -> Option<(Option<u64>, Vec<String>)> {
        let account = self.lock();
        let license = account.licenses.iter().find(|license| license.id == id)?;
        let given = account.entitlements(license);
        let known = account.settings.entitlements.iter().filter(|known| given.contains(&known.id));
        Some((account.max_machines(license), known.map(|known| known.code.clone()).collect()))
    }

    /// All users, oldest first.
    pub fn customers(&self) -> Vec<User> {
        self.lock().users.clone()
    }

    /// How many licenses calls have made, by what they carried under this key of their metadata. Deleted ones count.
    pub fn creates_by(&self, key: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for metadata in &self.lock().made {
            if let Some(Value::String(value)) = metadata.get(&metadata::snake(key)) {
                *counts.entry(value.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// A person makes a license by hand, with this metadata.
    pub fn make_license(&self, policy: Uuid, metadata: &Value) -> Uuid {
        let mut account = self.lock();
        let (id, key, now) = (account.next_id(), account.next_key(), account.now());
        account.licenses.push(License {
            id,
            key,
            name: None,
            policy,
            owner: None,
            expiry: None,
            suspended: false,
            protected: false,
            limits: BTreeMap::new(),
            metadata: object(metadata::fold(metadata.clone())),
            entitlements: std::collections::BTreeSet::new(),
            created: now,
            updated: now,
            renewed_s: 0,
            made: None,
        });
        id
    }

    /// A person makes a user by hand.
    pub fn make_user(&self, email: &str, metadata: &Value) -> Uuid {
        self.add_user(email, metadata, false)
    }

    /// A person of the seller's own, whom a product's token does not see.
    pub fn make_admin(&self, email: &str) -> Uuid {
        self.add_user(email, &json!({}), true)
    }

    /// A person changes a license.
    pub fn edit_license(&self, id: Uuid, change: impl FnOnce(&mut License)) {
        if let Some(license) = self.lock().licenses.iter_mut().find(|license| license.id == id) {
            change(license);
        }
    }

    /// A person changes a user.
    pub fn edit_user(&self, id: Uuid, change: impl FnOnce(&mut User)) {
        if let Some(user) = self.lock().users.iter_mut().find(|user| user.id == id) {
            change(user);
        }
    }

    /// A person deletes a license.
    pub fn delete_license(&self, id: Uuid) {
        self.lock().licenses.retain(|license| license.id != id);
    }

    fn add_user(&self, email: &str, metadata: &Value, admin: bool) -> Uuid {
        let mut account = self.lock();
        let (id, now) = (account.next_id(), account.now());
        account.users.push(User {
            id,
            email: email.to_lowercase(),
            first_name: None,
            last_name: None,
            metadata: object(metadata::fold(metadata.clone())),
            banned: false,
            admin,
            created: now,
            updated: now,
        });
        id
    }

    /// Does one call, all of it under one lock: two calls never see each other half done.
    fn perform(&self, call: &Call, operation: &Operation) -> Response {
        let mut account = self.lock();
        let account = &mut *account;
        let admitted = account.admits();
        let (version, result) = match call.version(&account.settings) {
            Err(problem) => (None, Err(problem)),
            Ok(_) if !admitted => (None, Err(Problem::too_many())),
            Ok(version) => {
                let style = Style { base: call.base.clone(), version };
                let done = call.check(&account.settings).and_then(|()| operation.allowed(&account.settings));
                (Some(version), done.and_then(|()| operation.run(account, call, &style, self.stage.search_lag())))
            }
        };
        let mut answer = result.unwrap_or_else(Problem::into_response);
        if !admitted {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("30"));
        }
        finish(account, version, &mut answer);
        answer
    }

    /// Nothing is half done under the lock: a panic leaves whole values.
    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(server): State<Server>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let found = Call::new(method, &uri, headers, body).and_then(|call| Some((Operation::of(&call)?, call)));
    let Some((operation, call)) = found else {
        return Problem::not_found("path", uri.path()).into_response();
    };
    let (name, about) = (operation.name(), operation.about().map(str::to_owned));
    let stage = server.stage.clone();
    stage.perform(name, about.as_deref(), Problem::scripted, move || server.perform(&call, &operation)).await
}

/// Headers of every answer.
fn finish(account: &Account, version: Option<&'static str>, answer: &mut Response) {
    let headers = answer.headers_mut();
    if let Some(version) = version {
        headers.insert("keygen-version", HeaderValue::from_static(version));
    }
    if let Ok(name) = HeaderValue::from_str(&account.settings.account) {
        headers.insert("keygen-account", name);
    }
    if account.settings.rate_limit_headers {
        let limit = account.settings.calls_per_30_s.unwrap_or(60);
        let count = account.window.map_or(1, |(_, count)| count.min(limit));
        let reset = account.now().as_second() + 30;
        headers.insert("x-ratelimit-window", HeaderValue::from_static("30s"));
        headers.insert("x-ratelimit-count", HeaderValue::from(count));
        headers.insert("x-ratelimit-limit", HeaderValue::from(limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(limit.saturating_sub(count)));
        headers.insert("x-ratelimit-reset", HeaderValue::from(reset));
    }
}

fn located(mut answer: Response, path: &str) -> Response {
    if let Ok(path) = HeaderValue::from_str(path) {
        answer.headers_mut().insert(LOCATION, path);
    }
    answer
}

async fn state(State(server): State<Server>) -> Json<Value> {
    let account = server.lock();
    Json(json!({ "licenses": account.licenses, "users": account.users, "creates": account.made }))
}

async fn settings_now(State(server): State<Server>) -> Json<Settings> {
    Json(server.settings())
}

async fn set_settings(State(server): State<Server>, body: Result<Json<Settings>, JsonRejection>) -> Response {
    match body {
        Ok(Json(settings)) => {
            server.set(settings.clone());
            Json(settings).into_response()
        }
        Err(rejected) => {
            (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "message": rejected.body_text() }))).into_response()
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
