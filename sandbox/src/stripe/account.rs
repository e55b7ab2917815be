//! The account: what it holds, its switches, and what was asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::response::{IntoResponse, Json, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::Refusal;
use super::limiter::Limiter;
use super::operation::{Call, Operation};
use super::reads::Asked;
use super::settings::Settings;
use super::world::{Realm, World};
use super::writes::{Keys, Made, Metadata, echo};

/// A clock that a test moves.
#[derive(Clone, Default)]
pub(super) struct OwnClock(pub(super) Option<Arc<dyn Fn() -> Timestamp + Send + Sync>>);

impl fmt::Debug for OwnClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "its own" } else { "the machine's" })
    }
}

/// Everything behind one lock.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) clock: OwnClock,
    pub(super) settings: Settings,
    pub(super) world: World,
    pub(super) limiter: Limiter,
    /// Idempotency keys of requests that are being done.
    pub(super) in_hand: BTreeSet<(Realm, String)>,
    /// Writes that were done, by object.
    pub(super) writes: BTreeMap<String, u64>,
    /// Requests that came while none was allowed.
    pub(super) forbidden: u64,
    /// Events that writes made, in order.
    pub(super) echoes: Vec<Value>,
    keys: Keys,
    locked: BTreeMap<(Realm, String), Instant>,
    requests: u64,
}

/// What a request came to.
pub(super) struct Done {
    pub(super) answer: Response,
    /// An event that is to be delivered.
    pub(super) event: Option<Value>,
}

impl From<Refusal> for Done {
    fn from(refusal: Refusal) -> Self {
        Self { answer: refusal.into_response(), event: None }
    }
}

impl Account {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    #[expect(clippy::disallowed_methods, reason = "a stand-in is a service of its own, with a clock of its own")]
    pub(super) fn now(&self) -> Timestamp {
        match (self.settings.now, &self.clock.0) {
            (Some(now), _) => now,
            (None, Some(clock)) => clock(),
            (None, None) => Timestamp::now(),
        }
    }

    pub(super) fn next_request(&mut self) -> String {
        self.requests += 1;
        format!("req_sandbox{:010}", self.requests)
    }

    /// Does one request, which was found to be allowed.
    pub(super) fn perform(&mut self, call: &Call) -> Done {
        if call.operation.writes() {
            return self.write(call);
        }
        match self.read(call) {
            Ok(body) => Done { answer: Json(body).into_response(), event: None },
            Err(refusal) => refusal.into(),
        }
    }

    fn read(&self, call: &Call) -> Result<Value, Refusal> {
        let asked = Asked {
            world: &self.world,
            realm: &call.realm,
            now: self.now().as_second(),
            version: &call.version,
            params: &call.params,
        };
        match &call.operation {
            Operation::One(resource, id) => asked.one(resource, id),
            Operation::List(resource) => asked.list(resource),
            Operation::Inner(resource, id, name) => asked.inner(resource, id, name),
            Operation::SubscriptionItems => asked.subscription_items(),
            Operation::Events => asked.events(),
            Operation::Event(id) => asked.event(id),
            Operation::ThinEvent(id) => asked.thin_event(id),
            Operation::Write(..) => Err(Refusal::new(405, None, "not a read")),
        }
    }

    /// A write is done once for its idempotency key. Nothing is kept for a request that failed the checks before it.
    fn write(&mut self, call: &Call) -> Done {
        let now = self.now().as_second();
        self.keys.forget(now, i64::from(self.settings.keys_kept_h) * 60 * 60);
        if let Some(key) = &call.idempotency_key {
            match self.keys.replay(&call.realm, key, &call.path, &call.params) {
                Ok(None) => {}
                Ok(Some(kept)) => {
                    let status = axum::http::StatusCode::from_u16(kept.status).unwrap_or_default();
                    let mut answer = (status, Json(kept.body)).into_response();
                    answer.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
                    if let Ok(request) = HeaderValue::from_str(&kept.request) {
                        answer.headers_mut().insert("original-request", request);
                    }
                    return Done { answer, event: None };
                }
                Err(refusal) => return refusal.into(),
            }
        }
        let metadata = match Metadata::read(&call.params) {
            Ok(metadata) => metadata,
            Err(refusal) => return refusal.into(),
        };
        let (status, body, event) = match self.write_metadata(call, &metadata) {
            Ok((object, event)) => (200, object, event),
            // Another request has the object: nothing began, so nothing is kept.
            Err(refusal) if refusal.should_retry == Some(true) => return refusal.into(),
            Err(refusal) => (refusal.status, refusal.body(), None),
        };
        if let Some(key) = &call.idempotency_key {
            let answer = (status, body.clone(), call.request.as_str());
            self.keys.keep(&call.realm, key, (&call.path, &call.params), now, answer);
        }
        let code = axum::http::StatusCode::from_u16(status).unwrap_or_default();
        Done { answer: (code, Json(body)).into_response(), event }
    }

    fn write_metadata(&mut self, call: &Call, metadata: &Metadata) -> Result<(Value, Option<Value>), Refusal> {
        let Operation::Write(resource, id) = &call.operation else {
            return Err(Refusal::new(405, None, "not a write"));
        };
        let (kind, realm) = (resource.kind, &call.realm);
        let missing = || Refusal::missing(kind, id, "id");
        if self.world.is_deleted(realm, kind, id) {
            return Err(Refusal { status: self.settings.deleted_customer_status, ..missing() });
        }
        let object = self.world.object(realm, kind, id).ok_or_else(missing)?;
        if object["status"] == "canceled" && !self.settings.canceled_takes_metadata {
            return Err(Refusal::new(400, None, "A canceled subscription cannot be changed."));
        }
        self.lock(realm, id)?;
        let old = metadata.write(&mut self.world, realm, &object)?;
        *self.writes.entry(id.clone()).or_default() += 1;
        let object = self.world.object(realm, kind, id).ok_or_else(missing)?;
        if old.is_empty() {
            return Ok((object, None));
        }
        let made = Made {
            id: format!("evt_sandbox{:010}", self.echoes.len() + 1),
            api_version: &self.settings.api_version,
            created: self.now().as_second(),
            realm,
            request: &call.request,
            idempotency_key: call.idempotency_key.as_deref(),
        };
        let event = echo(kind, &object, &old, &made);
        self.echoes.push(event.clone());
        // It has an id, a type and a mode, so it is taken.
        _ = self.world.load_event(event.clone(), &self.settings.api_version);
        Ok((object, Some(event)))
    }

    fn lock(&mut self, realm: &Realm, id: &str) -> Result<(), Refusal> {
        if self.settings.lock_ms == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let entry = (realm.clone(), id.to_owned());
        if self.locked.get(&entry).is_some_and(|until| *until > now) {
            let message = "This object cannot be accessed right now because another request is accessing it.";
            return Err(Refusal { should_retry: Some(true), ..Refusal::new(429, Some("lock_timeout"), message) });
        }
        self.locked.insert(entry, now + Duration::from_millis(self.settings.lock_ms));
        Ok(())
    }

    /// What `GET /control/state` answers.
    pub(super) fn state(&self) -> Value {
        let (objects, events) = self.world.counts();
        json!({
            "objects": objects,
            "events": events,
            "subscriptions": self.world.everywhere("subscription"),
            "customers": self.world.everywhere("customer"),
            "writes": self.writes,
            "echoes": self.echoes,
            "forbidden": self.forbidden,
        })
    }
}
