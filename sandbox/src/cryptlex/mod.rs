//! Cryptlex, Web API v3.
//!
//! Users and licenses under `/v3`, with a personal access token, as far as an integration that sells needs them. Bodies
//! and filters that the real service is not known to take are refused. Where nobody could verify what it does, a switch
//! in [`Settings`] decides.
//!
//! | call | operation |
//! | --- | --- |
//! | `POST /v3/licenses` | `create`, about its product |
//! | `GET /v3/licenses` with a filter by metadata | `find` |
//! | `GET /v3/licenses` without one | `list` |
//! | `GET`, `PATCH`, `DELETE /v3/licenses/{id}` | `read`, `change`, `delete`, about its id |
//! | `PATCH /v3/licenses/{id}/expires-at` | `change`, about its id |
//! | `POST /v3/licenses/{id}/renew`, `/extend` | `renew`, `extend`, about its id |
//! | `DELETE /v3/licenses/metadata/{id}` | `delete_metadata`, about its id |
//! | `POST /v3/users` | `user_create`, about its address |
//! | `GET /v3/users` | `user_find` |
//! | `GET`, `PATCH /v3/users/{id}` | `user_read`, `user_change`, about its id |
//! | `POST /v3/users/{id}/reset-password-token` | `user_password`, about its id |
//! | `GET /control/state` | what the account holds, and what was really made |
//! | `GET`, `PUT /control/settings` | [`Settings`] |
//!
//! Requests beyond 50 in five seconds are turned away before any of these, and are not counted as calls.

mod account;
mod fields;
mod limiter;
mod query;
mod record;
mod routes;
mod settings;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::stage::Stage;
use account::Account;
use limiter::Limiter;

pub use account::Creates;
pub use fields::Refusal;
pub use settings::{
    Duplicate, EmailComparison, ExpiryStopped, MetadataFilters, MetadataPatch, Missing, NullExpiry, Product,
    RenewStopped, Settings, Template,
};

/// The stand-in. Clones share what it holds.
///
/// Its methods that change something are what a person does in the dashboard: they need no token and meet no fault.
/// What they take and give is the API's own JSON.
#[derive(Clone, Debug)]
pub struct Server {
    stage: Stage,
    account: Arc<Mutex<Account>>,
    limiter: Arc<Mutex<Limiter>>,
}

impl Server {
    /// An empty account.
    pub fn new(settings: Settings) -> Self {
        Self { stage: Stage::new(), account: Arc::new(Mutex::new(Account::new(settings))), limiter: Arc::default() }
    }

    /// Its faults and counts.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Serves on `listener` until `stop`.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        self.stage.clone().serve(routes::router(self.clone()), listener, stop).await
    }

    /// The switches as they are.
    pub fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// Sets the switches. What the account holds stays.
    pub fn set(&self, settings: Settings) {
        self.lock().settings = settings;
    }

    /// Every license, in the order in which they were made.
    pub fn licenses(&self) -> Vec<Value> {
        list(&self.state()["licenses"])
    }

    /// Every user, in the order in which they were made.
    pub fn customers(&self) -> Vec<Value> {
        list(&self.state()["users"])
    }

    /// Licenses that were really made, deleted ones too, by the metadata that the create brought: a value above 1 under
    /// a key that names one license was issued twice.
    pub fn creates(&self) -> Creates {
        self.lock().creates.clone()
    }

    /// How many licenses were really made, deleted ones too.
    pub fn licenses_made(&self) -> u64 {
        self.lock().licenses_made
    }

    /// How many users were really made, deleted ones too.
    pub fn customers_made(&self) -> u64 {
        self.lock().users_made
    }

    /// How many requests were turned away for being too many.
    pub fn turned_away(&self) -> u64 {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner).turned_away
    }

    /// What `GET /control/state` answers.
    pub fn state(&self) -> Value {
        self.lock().state()
    }

    /// A person makes a license.
    ///
    /// # Errors
    ///
    /// [`Refusal`], as the API would.
    pub fn create_license(&self, body: &Value) -> Result<Value, Refusal> {
        self.lock().create_license(body)
    }

    /// A person changes a license: metadata, owner, seats, suspended.
    ///
    /// # Errors
    ///
    /// [`Refusal`], as the API would.
    pub fn change_license(&self, id: &str, body: &Value) -> Result<Value, Refusal> {
        self.lock().change_license(id, body)
    }

    /// A person sets the expiry of a license.
    ///
    /// # Errors
    ///
    /// [`Refusal`], as the API would.
    pub fn set_expiry(&self, id: &str, body: &Value) -> Result<Value, Refusal> {
        self.lock().set_expiry(id, body)
    }

    /// A person deletes a license.
    ///
    /// # Errors
    ///
    /// [`Refusal`] without such a license.
    pub fn delete_license(&self, id: &str) -> Result<(), Refusal> {
        self.lock().delete_license(id)
    }

    /// A person makes a user.
    ///
    /// # Errors
    ///
    /// [`Refusal`], as the API would.
    pub fn create_customer(&self, body: &Value) -> Result<Value, Refusal> {
        self.lock().create_user(body)
    }

    /// A person changes a user.
    ///
    /// # Errors
    ///
    /// [`Refusal`], as the API would.
    pub fn change_customer(&self, id: &str, body: &Value) -> Result<Value, Refusal> {
        self.lock().change_user(id, body)
    }

    /// A person deletes a user. Licenses stay, without an owner.
    ///
    /// # Errors
    ///
    /// [`Refusal`] without such a user.
    pub fn delete_customer(&self, id: &str) -> Result<(), Refusal> {
        self.lock().delete_user(id)
    }

    /// A panic leaves whole values: every call checks first and changes then.
    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}
