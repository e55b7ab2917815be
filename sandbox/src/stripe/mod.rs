//! Stripe's REST API, as far as keyledger reads and writes it.
//!
//! An account that is loaded with objects and events and then answers for them: the newest event that showed an object says
//! what it is like. Objects are shown as they were given, whatever version is asked for.
//!
//! | call | operation |
//! | --- | --- |
//! | `GET /v1/{kind}` | `{kind}.list`: subscriptions, customers, invoices, `invoice_payments`, checkout/sessions, charges, `payment_intents`, refunds, disputes, prices, products, plans |
//! | `GET /v1/{kind}/{id}` | `{kind}.get`, about its id |
//! | `GET /v1/invoices/{id}/lines`, `/v1/checkout/sessions/{id}/line_items` | `invoices.lines`, `checkout/sessions.line_items`, about its id |
//! | `GET /v1/subscription_items?subscription=` | `subscription_items.list` |
//! | `GET /v1/events`, `/v1/events/{id}` | `events.list`, `events.get`: of the last 30 days |
//! | `GET /v2/core/events/{id}` | `v2/core/events.get`: a thin event |
//! | `POST /v1/subscriptions/{id}`, `/v1/customers/{id}` | `subscriptions.update`, `customers.update`: metadata, about its id |
//! | `PUT /control/objects`, `/control/events` | loads one, an array or a list |
//! | `POST /control/events/{id}/deliver` | posts it to the webhook in the settings |
//! | `PUT /control/events/{id}/delivered` | `true` or `false`: whether every endpoint has it |
//! | `GET /control/state` | what it holds, what was written, what that made happen |
//! | `GET`, `PUT /control/settings` | [`Settings`] |
//!
//! Refused before any of these, and not counted as calls: a wrong key, an account that is not connected, an unknown version,
//! an unknown path, more requests than allowed.

mod account;
mod answer;
mod limiter;
mod list;
mod operation;
mod params;
mod reads;
mod routes;
mod settings;
mod webhook;
mod world;
mod writes;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::stage::Stage;
use account::{Account, OwnClock};

pub use settings::{Settings, Webhook};
pub use webhook::signature;
pub use world::{BadLoad, Realm};

/// The stand-in. Clones share what it holds.
#[derive(Clone, Debug)]
pub struct Server {
    stage: Stage,
    account: Arc<Mutex<Account>>,
}

impl Server {
    /// An account without objects.
    pub fn new(settings: Settings) -> Self {
        Self { stage: Stage::new(), account: Arc::new(Mutex::new(Account::new(settings))) }
    }

    /// An account without objects that goes by `clock`, unless its settings say what time it is.
    pub fn on_clock(settings: Settings, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        let server = Self::new(settings);
        server.lock().clock = OwnClock(Some(clock));
        server
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

    /// Sets its clock, which stands still from then on.
    pub fn set_now(&self, now: Timestamp) {
        self.lock().settings.now = Some(now);
    }

    /// From now on every request fails, and is counted; or is answered again.
    pub fn forbid_all(&self, forbidden: bool) {
        self.lock().settings.forbid_all = forbidden;
    }

    /// Requests that came while none was allowed.
    pub fn forbidden(&self) -> u64 {
        self.lock().forbidden
    }

    /// Keeps an object as it is: whole lists are shown as ten and the rest apart, `deleted: true` stands for one that is gone.
    ///
    /// # Errors
    ///
    /// [`BadLoad`]: what every object has is missing.
    pub fn load_object(&self, realm: &Realm, object: Value) -> Result<(), BadLoad> {
        self.lock().world.load_object(realm, object)
    }

    /// Keeps an event, thin or not, and the object that it shows.
    ///
    /// # Errors
    ///
    /// [`BadLoad`]: what every event has is missing.
    pub fn load_event(&self, event: Value) -> Result<(), BadLoad> {
        let mut account = self.lock();
        let version = account.settings.api_version.clone();
        account.world.load_event(event, &version)
    }

    /// Says whether an event was delivered to every endpoint, as it is taken to be. False if there is no such event.
    pub fn set_delivered(&self, id: &str, delivered: bool) -> bool {
        self.lock().world.set_delivered(id, delivered)
    }

    /// An object as the API shows it.
    pub fn object(&self, realm: &Realm, kind: &str, id: &str) -> Option<Value> {
        self.lock().world.object(realm, kind, id)
    }

    /// Writes that were really done, by object: replays and refusals are none.
    pub fn writes(&self) -> BTreeMap<String, u64> {
        self.lock().writes.clone()
    }

    /// The events that writes made, in order. They stand in the list too.
    pub fn echoes(&self) -> Vec<Value> {
        self.lock().echoes.clone()
    }

    /// What `GET /control/state` answers.
    pub fn state(&self) -> Value {
        self.lock().state()
    }

    /// Posts an event to the webhook in the settings. Whether it was taken; `None` without such an event or webhook.
    pub async fn deliver(&self, id: &str) -> Option<bool> {
        let (webhook, event, now) = {
            let account = self.lock();
            let (_, event) = account.world.find_event(id)?;
            (account.settings.webhook.clone()?, event, account.now())
        };
        // Bodies are pretty-printed, as Stripe's are.
        let body = format!("{event:#}");
        let taken = webhook::deliver(&webhook, now.as_second(), body.as_bytes()).await.unwrap_or(false);
        self.set_delivered(id, taken);
        Some(taken)
    }

    /// Has an event that was just made delivered, if there is an endpoint.
    fn send(&self, event: &Value) {
        let Some(id) = event["id"].as_str().map(str::to_owned) else { return };
        if self.lock().settings.webhook.is_none() {
            return;
        }
        self.set_delivered(&id, false);
        let server = self.clone();
        tokio::spawn(async move { server.deliver(&id).await });
    }

    /// Nothing is half done under the lock: a panic leaves whole values.
    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
