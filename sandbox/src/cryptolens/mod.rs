//! Cryptolens, Web API v3.
//!
//! `POST` with a form or `GET` with a query on `/api/<group>/<Method>`, in any case, with or without a slash at the end.
//!
//! | group | methods |
//! | --- | --- |
//! | `key` | `CreateKey`, `GetKey`, `ExtendLicense`, `BlockKey`, `UnblockKey`, `ChangeCustomer`, `ChangeNotes`, `MachineLockLimit`, `AddFeature`, `RemoveFeature` |
//! | `product` | `GetKeys`, `GetProducts` |
//! | `customer` | `AddCustomer`, `EditCustomer`, `GetCustomers`, `GetCustomerLicenses`, `GetCustomerLicensesBySecret`, `RemoveCustomer` |
//! | `data` | `AddDataObjectToKey`, `ListDataObjectsToKey`, `SetStringValueToKey`, `RemoveDataObjectToKey`, `AddDataObject`, `ListDataObjects`, `SetStringValue` |
//!
//! | call | does |
//! | --- | --- |
//! | `GET /control/state` | all customers, licenses and data objects |
//! | `GET`, `PUT /control/settings` | [`Settings`], from now on |
//!
//! It is stricter than the service is known to be: a parameter that a method does not have is an error, and so is an
//! expression that names a field which is not there. Not imitated: signed answers, resellers, templates, activations, users,
//! and the removal of a key, for which no call is known.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use account::Account;
use call::{Call, named};
use form::Form;

use crate::stage::Stage;

mod account;
mod answer;
mod call;
mod customers;
mod data;
mod form;
mod grammar;
mod hand;
mod keys;
mod products;
mod query;
mod settings;

pub use account::{Customer, DataObject, License};
pub use keys::ByHand;
pub use settings::{Algorithm, Duplicates, EmptyFields, Errors, Links, Matching, Product, Settings, TimeOfDay};

/// Where a server reads the time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The stand-in. Clones share what it holds.
#[derive(Clone)]
pub struct Server {
    stage: Stage,
    state: Arc<Mutex<Held>>,
    now: Now,
}

struct Held {
    settings: Settings,
    account: Account,
}

impl Server {
    /// An account with nothing in it, on the machine's clock.
    pub fn new(settings: Settings) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a stand-in for a service has that service's clock")]
        let now: Now = Arc::new(Timestamp::now);
        Self::on_clock(settings, now)
    }

    /// An account with nothing in it, on another clock.
    pub fn on_clock(settings: Settings, now: Now) -> Self {
        let held = Held { settings, account: Account::new() };
        Self { stage: Stage::new(), state: Arc::new(Mutex::new(held)), now }
    }

    /// How it misbehaves, and what it was asked.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Serves on `listener` until `stop`.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let router = Router::new()
            .route("/control/state", get(state))
            .route("/control/settings", get(settings).put(set_settings))
            .fallback(call)
            .with_state(self.clone());
        self.stage.clone().serve(router, listener, stop).await
    }

    /// What it is like.
    pub fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// What it is like from now on.
    pub fn set(&self, settings: Settings) {
        self.lock().settings = settings;
    }

    fn act<T>(&self, work: impl FnOnce(&mut Call<'_>) -> T) -> T {
        let lag = self.stage.search_lag();
        let mut held = self.lock();
        let Held { settings, account } = &mut *held;
        let now = settings.now.unwrap_or_else(|| (self.now)());
        work(&mut Call { settings, account, now, instant: Instant::now(), lag })
    }

    /// Every method changes the account in one go: a panic leaves whole values.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, group: &str, method: &str, form: &Form) -> Response {
        let done = self.act(|call| call.permitted(method, form).and_then(|()| call.perform(group, method, form)));
        answer::whole(&self.lock().settings, done)
    }
}

async fn call(
    State(server): State<Server>,
    http: Method,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let named = named(uri.path()).filter(|_| http == Method::GET || http == Method::POST);
    let Some((group, method)) = named else {
        return (StatusCode::NOT_FOUND, "There is nothing here.").into_response();
    };
    let is_form = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(FORM));
    // Another kind of body is not looked at.
    let body = if is_form { String::from_utf8_lossy(&body).into_owned() } else { String::new() };
    let form = match Form::read(&query.unwrap_or_default(), &body) {
        Ok(form) => form,
        Err(no) => return answer::whole(&server.settings(), Err(no)),
    };
    let about = form.text("ProductId").map(ToOwned::to_owned);
    let stage = server.stage.clone();
    let work = move || server.answer(group, method, &form);
    stage.perform(method, about.as_deref(), answer::failed, work).await
}

const FORM: &[u8] = b"application/x-www-form-urlencoded";

async fn state(State(server): State<Server>) -> Response {
    let held = server.lock();
    let account = &held.account;
    Json(json!({
        "customers": account.customers,
        "licenses": account.licenses,
        "data_objects": account.data_objects,
    }))
    .into_response()
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
        Err(rejected) => {
            let message = json!({ "message": rejected.body_text() });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(message)).into_response()
        }
    }
}
