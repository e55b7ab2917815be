//! Cryptlex' JSON. It never leaves this folder.
//!
//! Facts: <https://docs.cryptlex.com/> and <https://api.cryptlex.com/v3/docs>; what of it could not be verified is said in
//! `docs/providers.md`.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use keyledger_schemas::secret::Secret;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Our reference.
pub(super) const REFERENCE: &str = "keyledger_ref";

/// That whoever made an adopted license gave it seats without limit; its value is [`UNLIMITED`].
pub(super) const SEATS: &str = "keyledger_seats";

/// Value of [`SEATS`].
pub(super) const UNLIMITED: &str = "unlimited";

/// The subscription, as Cryptlex' own Stripe integration calls it.
pub(super) const SUBSCRIPTION: &str = "stripe_subscription_id";

/// The subscription, as the first version of that integration called it. Read only.
pub(super) const SUBSCRIPTION_BEFORE: &str = "subscription_id";

/// A one-off sale, as Cryptlex' own Stripe integration calls it.
pub(super) const TRANSACTION: &str = "stripe_transaction_id";

/// Whose user it is.
pub(super) const CUSTOMER: &str = "stripe_customer_id";

/// What that integration writes where it has no id: many licenses carry these, and they say nothing.
const PLACEHOLDERS: [&str; 2] = ["subscription_empty", "transaction_empty"];

/// One of the metadata of a license or a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub key: String,
    #[serde(default, deserialize_with = "or_default")]
    pub value: String,
    /// Who besides administrators sees it.
    #[serde(default, deserialize_with = "or_default")]
    pub view_permissions: Vec<String>,
}

impl Entry {
    /// One that only administrators see.
    pub(super) fn hidden(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), value: value.to_owned(), view_permissions: Vec::new() }
    }
}

/// The value under `key`, unless it is a placeholder.
pub(super) fn value<'a>(metadata: &'a [Entry], key: &str) -> Option<&'a str> {
    let entry = metadata.iter().find(|entry| entry.key == key)?;
    let says = !entry.value.is_empty() && !PLACEHOLDERS.contains(&entry.value.as_str());
    says.then_some(entry.value.as_str())
}

/// All of `old` in its order, with `ours` in it: what is sent is the whole list, since nobody knows whether a list that is
/// sent replaces the old one.
pub(super) fn merged(old: &[Entry], ours: &[Entry]) -> Vec<Entry> {
    let mut all = old.to_vec();
    for entry in ours {
        match all.iter_mut().find(|kept| kept.key == entry.key) {
            Some(kept) => kept.value.clone_from(&entry.value),
            None => all.push(entry.clone()),
        }
    }
    all
}

/// A license as it is shown.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct License {
    pub id: String,
    #[serde(default)]
    pub key: Option<Secret>,
    pub product_id: String,
    #[serde(default, deserialize_with = "lenient_time")]
    pub expires_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient_time")]
    pub created_at: Option<Timestamp>,
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    #[serde(default)]
    pub allowed_activations: Option<i64>,
    #[serde(default)]
    pub allowed_floating_clients: Option<i64>,
    /// Without these two nobody knows whether it works: an answer that lacks them is not read.
    pub suspended: bool,
    pub revoked: bool,
    #[serde(default)]
    pub entitlement_set_id: Option<String>,
    #[serde(default)]
    pub max_allowed_release_version: Option<String>,
    #[serde(default)]
    pub user: Option<Owner>,
    #[serde(default)]
    pub user_id: Option<String>,
    /// Without it a license of ours would look like nobody's: an answer that lacks it is not read.
    pub metadata: Vec<Entry>,
}

/// The user that a license belongs to.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Owner {
    pub id: String,
}

impl License {
    pub(super) fn owner(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.id.as_str()).or(self.user_id.as_deref())
    }

    pub(super) fn reference(&self) -> Option<&str> {
        value(&self.metadata, REFERENCE)
    }

    /// The purchase that it was made for, by whoever made it.
    pub(super) fn purchase(&self) -> Option<&str> {
        [SUBSCRIPTION, SUBSCRIPTION_BEFORE, TRANSACTION].into_iter().find_map(|key| value(&self.metadata, key))
    }

    /// Seats are counted by clients that run at once, not by activations.
    pub(super) fn is_floating(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind.ends_with("floating"))
    }

    /// Seats; `None` for no limit.
    pub(super) fn seats(&self) -> Option<u32> {
        let count = if self.is_floating() { self.allowed_floating_clients } else { self.allowed_activations };
        // 0 and -1 are both without limit.
        count.and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.suspended || self.revoked
    }
}

/// Body of `POST /v3/licenses`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewLicense<'a> {
    pub product_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_template_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entitlement_set_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_allowed_release_version: Option<&'a str>,
    /// Empty for no expiry, whatever the template says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_interval: Option<&'a str>,
    /// Always `creation`: with the template's `activation` the first use might set another expiry.
    pub subscription_start_trigger: &'a str,
    pub metadata: Vec<Entry>,
}

/// Body of `PATCH /v3/licenses/{id}`: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Patch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_activations: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_floating_clients: Option<u32>,
    /// Its id, or `null` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entitlement_set_id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_allowed_release_version: Option<String>,
    /// The whole list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Vec<Entry>>,
}

/// Body of `PATCH /v3/licenses/{id}/expires-at`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Expiry {
    pub expires_at: Option<String>,
}

/// A user as it is shown.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    pub id: String,
    pub email: String,
    #[serde(default)]
    pub first_name: Option<String>,
    #[serde(default)]
    pub last_name: Option<String>,
    #[serde(default, deserialize_with = "lenient_time")]
    pub created_at: Option<Timestamp>,
    /// Without it somebody's user would look like nobody's: an answer that lacks it is not read.
    pub metadata: Vec<Entry>,
}

impl User {
    /// The Stripe customer whose user it is.
    pub(super) fn customer(&self) -> Option<&str> {
        value(&self.metadata, CUSTOMER)
    }
}

/// Body of `POST /v3/users`. It has no `Debug`: all of it is personal or secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewUser<'a> {
    pub email: &'a str,
    pub first_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<&'a str>,
    pub password: &'a str,
    pub role: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_customer_portal_access: Option<bool>,
    pub metadata: Vec<Entry>,
}

/// Body of `PATCH /v3/users/{id}`: what is absent stays.
#[derive(Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// The whole list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Vec<Entry>>,
}

/// Body of every answer that is not success. Its codes are not documented: nothing depends on them.
#[derive(Default, Deserialize)]
pub(super) struct Problem {
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
    #[serde(default, deserialize_with = "or_default")]
    pub code: String,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// ISO-8601 with up to seven digits after the point. One that names no zone is in UTC.
fn lenient_time<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(value)? else { return Ok(None) };
    let zoned = text.parse::<Timestamp>();
    let read = zoned.or_else(|_| Ok(text.parse::<DateTime>()?.to_zoned(TimeZone::UTC)?.timestamp()));
    read.map(Some).map_err(|error: jiff::Error| serde::de::Error::custom(error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn license(more: &serde_json::Value) -> Result<License, serde_json::Error> {
        let mut whole = json!({
            "id": "1", "productId": "p", "suspended": false, "revoked": false, "metadata": [],
            "somethingNew": { "a": 1 }, "expiresAt": null,
        });
        for (name, value) in more.as_object().unwrap() {
            whole[name] = value.clone();
        }
        serde_json::from_value(whole)
    }

    #[test]
    fn times_are_read_with_seven_digits_and_without_a_zone() {
        let read = |text: &str| license(&json!({ "expiresAt": text })).unwrap().expires_at.unwrap().to_string();
        assert_eq!(read("2026-05-05T08:49:17.9361143Z"), "2026-05-05T08:49:17.9361143Z");
        assert_eq!(read("2026-05-05T08:49:17Z"), "2026-05-05T08:49:17Z");
        assert_eq!(read("2026-05-05T08:49:17.9361143"), "2026-05-05T08:49:17.9361143Z");
        assert_eq!(read("2026-05-05T10:49:17+02:00"), "2026-05-05T08:49:17Z");
        assert_eq!(license(&json!({})).unwrap().expires_at, None);
    }

    #[test]
    fn an_answer_that_does_not_say_whose_it_is_is_not_read() {
        assert!(license(&json!({ "metadata": null })).is_err());
        assert!(serde_json::from_value::<License>(json!({ "id": "1", "productId": "p" })).is_err());
    }

    #[test]
    fn seats_without_limit_are_told_from_counted_ones() {
        let seats = |more: &serde_json::Value| license(more).unwrap().seats();
        assert_eq!(seats(&json!({ "allowedActivations": 3 })), Some(3));
        assert_eq!(seats(&json!({ "allowedActivations": 0 })), None);
        assert_eq!(seats(&json!({ "allowedActivations": -1 })), None);
        let floating = json!({ "type": "hosted-floating", "allowedActivations": 1, "allowedFloatingClients": 5 });
        assert_eq!(seats(&floating), Some(5));
    }

    #[test]
    fn placeholders_say_nothing() {
        let metadata = [Entry::hidden(SUBSCRIPTION, "subscription_empty"), Entry::hidden(TRANSACTION, "pi_1")];
        assert_eq!(value(&metadata, SUBSCRIPTION), None);
        assert_eq!(value(&metadata, TRANSACTION), Some("pi_1"));
    }

    #[test]
    fn merging_keeps_what_is_not_ours_and_who_sees_it() {
        let seen = Entry { view_permissions: vec!["user".to_owned()], ..Entry::hidden("order", "7") };
        let old = [seen.clone(), Entry::hidden(SUBSCRIPTION, "subscription_empty")];
        let ours = [Entry::hidden(SUBSCRIPTION, "sub_1"), Entry::hidden(REFERENCE, "kl-1")];
        let merged = merged(&old, &ours);
        assert_eq!(merged[0], seen);
        assert_eq!(merged[1..], ours);
    }
}
