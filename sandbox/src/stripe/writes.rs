//! What can be written: metadata of subscriptions and customers; and how a repeated write is recognized.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::Refusal;
use super::params::Params;
use super::world::{Realm, World};

const KEYS_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 40;
const VALUE_CHARS_MAX: usize = 500;

/// A write of metadata, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    /// An empty value takes its key away.
    entries: BTreeMap<String, String>,
    /// `metadata=`: everything goes.
    clear: bool,
}

impl Metadata {
    /// Reads and checks the parameters of a write.
    pub(super) fn read(params: &Params) -> Result<Self, Refusal> {
        params.only(&["metadata", "metadata[*]", "expand[]"])?;
        let clear = match params.get("metadata") {
            None => false,
            Some("") => true,
            Some(_) => return Err(Refusal::parameter("parameter_invalid", "metadata", "Invalid object")),
        };
        let given = params.hash("metadata");
        for (key, value) in &given {
            let param = format!("metadata[{key}]");
            if key.chars().count() > KEY_CHARS_MAX {
                let message = format!("Metadata keys can be at most {KEY_CHARS_MAX} characters.");
                return Err(Refusal::parameter("parameter_invalid", &param, message));
            }
            if value.chars().count() > VALUE_CHARS_MAX {
                let message = format!("Metadata values can be at most {VALUE_CHARS_MAX} characters.");
                return Err(Refusal::parameter("parameter_invalid", &param, message));
            }
        }
        let entries = given.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Ok(Self { entries, clear })
    }

    /// Merges it into an object, and gives the old values of what changed.
    pub(super) fn write(
        &self,
        world: &mut World,
        realm: &Realm,
        object: &Value,
    ) -> Result<BTreeMap<String, Value>, Refusal> {
        let id = object["id"].as_str().unwrap_or_default();
        let known = object["metadata"].as_object().into_iter().flatten().map(|(key, _)| key);
        let mut entries = self.entries.clone();
        if self.clear {
            entries.extend(known.clone().map(|key| (key.clone(), String::new())));
        }
        let kept = known.filter(|key| !entries.contains_key(*key)).count();
        if kept + entries.values().filter(|value| !value.is_empty()).count() > KEYS_MAX {
            let message = format!("Metadata can have at most {KEYS_MAX} keys.");
            return Err(Refusal::parameter("parameter_invalid", "metadata", message));
        }
        Ok(world.write_metadata(realm, id, &entries))
    }
}

/// The event that a change of metadata makes.
pub(super) fn echo(kind: &str, object: &Value, old: &BTreeMap<String, Value>, made: &Made<'_>) -> Value {
    let mut event = json!({
        "id": made.id,
        "object": "event",
        "api_version": made.api_version,
        "created": made.created,
        "data": {"object": object, "previous_attributes": {"metadata": old}},
        "livemode": made.realm.live,
        "pending_webhooks": 1,
        "request": {"id": made.request, "idempotency_key": made.idempotency_key},
        "type": format!("customer.{}updated", if kind == "subscription" { "subscription." } else { "" }),
    });
    if let Some(account) = &made.realm.account {
        event["account"] = json!(account);
    }
    event
}

/// Under what circumstances an event is made.
pub(super) struct Made<'a> {
    pub(super) id: String,
    pub(super) api_version: &'a str,
    pub(super) created: i64,
    pub(super) realm: &'a Realm,
    pub(super) request: &'a str,
    pub(super) idempotency_key: Option<&'a str>,
}

/// Results of writes by their idempotency key, within an account and a mode.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    results: BTreeMap<(Realm, String), Kept>,
}

/// What was answered to the first request with a key.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    asked: (String, Vec<(String, String)>),
    at: i64,
    pub(super) request: String,
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Keys {
    /// What was answered under this key, if it was used. Another request under it is an error.
    pub(super) fn replay(
        &self,
        realm: &Realm,
        key: &str,
        path: &str,
        params: &Params,
    ) -> Result<Option<Kept>, Refusal> {
        let Some(kept) = self.results.get(&(realm.clone(), key.to_owned())) else { return Ok(None) };
        if kept.asked == (path.to_owned(), params.fingerprint()) {
            return Ok(Some(kept.clone()));
        }
        let message =
            "Keys for idempotent requests can only be used with the same parameters they were first used with.";
        Err(Refusal { kind: "idempotency_error", ..Refusal::new(400, None, message) })
    }

    pub(super) fn keep(
        &mut self,
        realm: &Realm,
        key: &str,
        asked: (&str, &Params),
        at: i64,
        answer: (u16, Value, &str),
    ) {
        let kept = Kept {
            asked: (asked.0.to_owned(), asked.1.fingerprint()),
            at,
            status: answer.0,
            body: answer.1,
            request: answer.2.to_owned(),
        };
        self.results.insert((realm.clone(), key.to_owned()), kept);
    }

    /// Forgets what is older than `seconds`.
    pub(super) fn forget(&mut self, now: i64, seconds: i64) {
        self.results.retain(|_, kept| now - kept.at < seconds);
    }
}
