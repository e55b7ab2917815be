//! Users and licenses as they are kept and shown.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::query::{Kind, Listed};
use super::settings::MetadataPatch;

/// What users and licenses have in common.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: Uuid,
    /// Everything that is set by bodies, metadata aside.
    pub(super) fields: Map<String, Value>,
    pub(super) metadata: Vec<Entry>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    /// Since when it can be read; searches may see it later.
    pub(super) since: Instant,
}

/// One of the metadata.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    id: Uuid,
    key: String,
    value: String,
    view_permissions: Value,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Who buys.
#[derive(Clone, Debug)]
pub(super) struct User(pub(super) Record);

/// What is bought.
#[derive(Clone, Debug)]
pub(super) struct License {
    pub(super) record: Record,
    pub(super) expires_at: Option<Timestamp>,
    /// How often it was renewed.
    pub(super) renewals: u64,
    /// What was added by extending it, in seconds.
    pub(super) extended_s: i64,
    /// The owner's address, for filters.
    pub(super) email: Option<String>,
    pub(super) expired: bool,
}

impl Record {
    /// Takes what a body gives; metadata as the account treats it.
    pub(super) fn take(
        &mut self,
        mut given: Map<String, Value>,
        way: MetadataPatch,
        now: Timestamp,
        mut id: impl FnMut() -> Uuid,
    ) {
        let sent = given.remove("metadata");
        self.fields.append(&mut given);
        self.updated_at = now;
        let Some(sent) = sent.as_ref().and_then(Value::as_array) else { return };
        let mut kept = std::mem::take(&mut self.metadata);
        let mut taken = Vec::new();
        for entry in sent {
            let key = text(&entry["key"]);
            let before = kept.iter().position(|old| old.key == key).map(|at| kept.remove(at));
            let (entry_id, created_at) = before.map_or_else(|| (id(), now), |old| (old.id, old.created_at));
            let (value, view_permissions) = (text(&entry["value"]), entry["viewPermissions"].clone());
            taken.push(Entry { id: entry_id, key, value, view_permissions, created_at, updated_at: now });
        }
        self.metadata = match way {
            MetadataPatch::Replace => taken,
            MetadataPatch::Merge => kept.into_iter().chain(taken).collect(),
        };
    }

    /// The value of one of the metadata.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    pub(super) fn remove_entry(&mut self, id: Uuid) -> bool {
        let before = self.metadata.len();
        self.metadata.retain(|entry| entry.id != id);
        self.metadata.len() < before
    }

    fn json(&self) -> Map<String, Value> {
        let mut shown = self.fields.clone();
        shown.insert("id".to_owned(), json!(self.id));
        shown.insert("createdAt".to_owned(), json!(shown_time(self.created_at)));
        shown.insert("updatedAt".to_owned(), json!(shown_time(self.updated_at)));
        shown.insert("metadata".to_owned(), self.metadata.iter().map(Entry::json).collect());
        shown
    }

    fn field(&self, name: &str) -> Vec<String> {
        match self.fields.get(name) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Bool(flag)) => vec![flag.to_string()],
            Some(Value::Array(texts)) => texts.iter().map(text).collect(),
            _ => Vec::new(),
        }
    }
}

impl Entry {
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "key": self.key,
            "value": self.value,
            "viewPermissions": self.view_permissions,
            "createdAt": shown_time(self.created_at),
            "updatedAt": shown_time(self.updated_at),
        })
    }
}

impl User {
    pub(super) fn json(&self) -> Value {
        let Self(record) = self;
        let mut shown = record.json();
        let names = ["firstName", "lastName"].into_iter().filter_map(|name| record.fields.get(name)?.as_str());
        shown.insert("name".to_owned(), json!(names.collect::<Vec<_>>().join(" ")));
        for (name, value) in [
            ("twoFactorEnabled", json!(false)),
            ("googleSsoEnabled", json!(false)),
            ("allowCustomerPortalAccess", json!(true)),
            ("lastName", Value::Null),
            ("company", Value::Null),
            ("tags", json!([])),
            ("lastLoginAt", Value::Null),
            ("lastSeenAt", Value::Null),
        ] {
            shown.entry(name).or_insert(value);
        }
        Value::Object(shown)
    }

    pub(super) fn email(&self) -> String {
        self.0.fields.get("email").map(text).unwrap_or_default()
    }
}

impl License {
    /// With its owner in place of the owner's id.
    pub(super) fn json(&self, user: Option<&User>) -> Value {
        let mut shown = self.record.json();
        shown.remove("userId");
        let user = user.map_or(Value::Null, |user| {
            let whole = user.json();
            let picked = ["id", "name", "firstName", "lastName", "email", "company"];
            picked.into_iter().map(|name| (name.to_owned(), whole[name].clone())).collect::<Map<_, _>>().into()
        });
        shown.insert("user".to_owned(), user);
        shown.insert("expiresAt".to_owned(), json!(self.expires_at.map(shown_time)));
        shown.insert("totalActivations".to_owned(), json!(0));
        shown.insert("totalDeactivations".to_owned(), json!(0));
        Value::Object(shown)
    }

    pub(super) fn user(&self) -> Option<Uuid> {
        Uuid::parse_str(self.record.fields.get("userId")?.as_str()?).ok()
    }

    pub(super) fn is(&self, flag: &str) -> bool {
        self.record.fields.get(flag).and_then(Value::as_bool).unwrap_or_default()
    }
}

impl Listed for User {
    fn kind(field: &str) -> Option<Kind> {
        match field {
            "email" => Some(Kind::Email),
            "company" | "tag" | "role" => Some(Kind::Text),
            "createdAt" => Some(Kind::Moment),
            _ => None,
        }
    }

    fn values(&self, field: &str) -> Vec<String> {
        match field {
            "tag" => self.0.field("tags"),
            "createdAt" => vec![self.0.created_at.to_string()],
            _ => self.0.field(field),
        }
    }

    fn metadata(&self) -> Vec<(&str, &str)> {
        pairs(&self.0)
    }

    fn created_at(&self) -> Timestamp {
        self.0.created_at
    }

    fn text(&self) -> String {
        let shown = self.json();
        format!("{} {}", text(&shown["name"]), text(&shown["email"]))
    }
}

impl Listed for License {
    fn kind(field: &str) -> Option<Kind> {
        match field {
            "user.email" => Some(Kind::Email),
            "productId" | "userId" | "entitlementSetId" => Some(Kind::Id),
            "key" | "type" | "tag" | "subscriptionInterval" | "subscriptionStartTrigger" => Some(Kind::Text),
            "suspended" | "revoked" | "expired" => Some(Kind::Flag),
            "createdAt" => Some(Kind::Moment),
            _ => None,
        }
    }

    fn values(&self, field: &str) -> Vec<String> {
        match field {
            "tag" => self.record.field("tags"),
            "user.email" => self.email.iter().cloned().collect(),
            "expired" => vec![self.expired.to_string()],
            "createdAt" => vec![self.record.created_at.to_string()],
            _ => self.record.field(field),
        }
    }

    fn metadata(&self) -> Vec<(&str, &str)> {
        pairs(&self.record)
    }

    fn created_at(&self) -> Timestamp {
        self.record.created_at
    }

    fn text(&self) -> String {
        let key = self.record.field("key").concat();
        format!("{key} {}", self.email.as_deref().unwrap_or_default())
    }
}

fn pairs(record: &Record) -> Vec<(&str, &str)> {
    record.metadata.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect()
}

/// Seven digits after the point, as the service shows times.
fn shown_time(time: Timestamp) -> String {
    format!("{time:.7}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
