//! Keygen's JSON. It never leaves this folder.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A document about one thing.
#[derive(Debug, Deserialize)]
pub(super) struct One<T> {
    pub(super) data: T,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Many<T> {
    pub(super) data: Vec<T>,
    #[serde(default)]
    pub(super) links: Links,
}

/// Where a list goes on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Links {
    #[serde(default)]
    pub(super) next: Option<String>,
}

/// Anything, by its id.
#[derive(Debug, Deserialize)]
pub(super) struct Resource {
    pub(super) id: String,
}

/// A license.
#[derive(Debug, Deserialize)]
pub(super) struct License {
    pub(super) id: String,
    pub(super) attributes: LicenseAttributes,
    pub(super) relationships: LicenseRelationships,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LicenseAttributes {
    pub(super) key: String,
    pub(super) expiry: Option<Timestamp>,
    #[serde(default)]
    pub(super) status: Option<String>,
    pub(super) suspended: bool,
    /// `None` for no limit.
    #[serde(default)]
    pub(super) max_machines: Option<u32>,
    pub(super) metadata: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LicenseRelationships {
    pub(super) policy: Relationship,
    /// In answers of API versions before 1.6 it is called `user`.
    #[serde(default, alias = "user")]
    pub(super) owner: Relationship,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Relationship {
    #[serde(default)]
    pub(super) data: Option<Resource>,
}

impl License {
    pub(super) fn policy(&self) -> &str {
        self.relationships.policy.data.as_ref().map_or("", |policy| &policy.id)
    }

    pub(super) fn owner(&self) -> Option<&str> {
        self.relationships.owner.data.as_ref().map(|owner| owner.id.as_str())
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        field(&self.attributes.metadata, name)
    }
}

/// A user.
#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) attributes: UserAttributes,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserAttributes {
    pub(super) email: String,
    #[serde(default)]
    pub(super) first_name: Option<String>,
    #[serde(default)]
    pub(super) last_name: Option<String>,
    #[serde(default)]
    pub(super) metadata: Map<String, Value>,
}

impl User {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        field(&self.attributes.metadata, name)
    }
}

/// Why not.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Problem {
    #[serde(default)]
    pub(super) errors: Vec<ProblemError>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProblemError {
    #[serde(default)]
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) detail: Option<String>,
    #[serde(default)]
    pub(super) code: Option<String>,
    #[serde(default)]
    pub(super) source: Source,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Source {
    #[serde(default)]
    pub(super) pointer: Option<String>,
}

/// The text under `name`, however its key is written: Keygen takes `stripe_customer_id` and `stripeCustomerId` for one key.
fn field<'m>(metadata: &'m Map<String, Value>, name: &str) -> Option<&'m str> {
    let (_, value) = metadata.iter().find(|(key, _)| folded(key) == folded(name))?;
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

fn folded(key: &str) -> String {
    key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// `metadata` with these fields added; those that are there already, and everything else, stay. Keygen replaces metadata whole.
pub(super) fn merged(metadata: &Map<String, Value>, fields: &[(&str, &str)]) -> Value {
    let mut all = metadata.clone();
    for (name, value) in fields {
        if field(metadata, name).is_none() {
            all.retain(|key, _| folded(key) != folded(name));
            all.insert((*name).to_owned(), json!(value));
        }
    }
    Value::Object(all)
}

/// A document of one thing that is to be made or changed.
pub(super) fn document(kind: &str, id: Option<&str>, attributes: &Value, relationships: Option<Value>) -> Value {
    let mut data = json!({ "type": kind, "attributes": attributes });
    if let Some(id) = id {
        data["id"] = json!(id);
    }
    if let Some(relationships) = relationships {
        data["relationships"] = relationships;
    }
    json!({ "data": data })
}

/// What names one thing.
pub(super) fn linkage(kind: &str, id: &str) -> Value {
    json!({ "data": { "type": kind, "id": id } })
}

/// What names several.
pub(super) fn linkages<'i>(kind: &str, ids: impl Iterator<Item = &'i str>) -> Value {
    let data: Vec<Value> = ids.map(|id| json!({ "type": kind, "id": id })).collect();
    json!({ "data": data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_field_is_read_however_its_key_is_written() {
        for key in ["stripeCustomerId", "stripe_customer_id", "StripeCustomerId"] {
            assert_eq!(field(&map(&json!({ key: "cus_1" })), "stripeCustomerId"), Some("cus_1"), "{key}");
        }
        let none = map(&json!({ "stripeCustomerIds": "cus_1", "stripeCustomer": "cus_1", "stripeCustomerId": 7 }));
        assert_eq!(field(&none, "stripeCustomerId"), None);
    }

    #[test]
    fn what_others_wrote_stays() {
        let before = map(&json!({ "note": "hi", "deep": { "a": [1, null] }, "stripe_subscription_id": "sub_0" }));
        let after = merged(&before, &[("keyledgerRef", "kl-1"), ("stripeSubscriptionId", "sub_1")]);
        let expected = json!({ "note": "hi", "deep": { "a": [1, null] }, "stripe_subscription_id": "sub_0",
            "keyledgerRef": "kl-1" });
        assert_eq!(after, expected);
    }
}
