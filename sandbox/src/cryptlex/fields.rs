//! What bodies may hold: a table of fields for each, and nothing beside them.

use axum::http::StatusCode;
use jiff::{Span, Timestamp};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A call that is turned down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// For programs. The real codes are not known: nobody may branch on these.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// 400.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "BAD_REQUEST", message: message.into() }
    }

    /// 404.
    pub(super) fn unknown(what: &str) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "NOT_FOUND", message: format!("no such {what}") }
    }
}

/// A field of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    name: &'static str,
    kind: Kind,
    /// Whether a `PATCH` takes it.
    changes: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Id,
    IdOrNull,
    Text {
        min: usize,
        max: usize,
    },
    TextOrNull,
    /// -1 and up.
    Count,
    CountOrNull,
    Flag,
    Texts {
        max: usize,
    },
    Ids,
    Metadata,
    /// ISO-8601, empty or null.
    Interval,
    Release,
    OneOf(&'static [&'static str]),
}

const fn fixed(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, changes: false }
}

const fn open(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, changes: true }
}

const NAME: Kind = Kind::Text { min: 1, max: 10_000 };

/// Of `POST /v3/users`, and of its `PATCH`.
pub(super) const USER: &[Field] = &[
    open("email", NAME),
    open("firstName", NAME),
    open("lastName", Kind::TextOrNull),
    open("company", Kind::TextOrNull),
    fixed("password", Kind::Text { min: 8, max: 1000 }),
    open("role", Kind::OneOf(&["user", "organization-admin"])),
    open("tags", Kind::Texts { max: 10 }),
    open("allowCustomerPortalAccess", Kind::Flag),
    open("metadata", Kind::Metadata),
];

/// Of `POST /v3/licenses`, and of its `PATCH`.
pub(super) const LICENSE: &[Field] = &[
    fixed("productId", Kind::Id),
    fixed("licenseTemplateId", Kind::Id),
    open("userId", Kind::IdOrNull),
    fixed("key", Kind::Text { min: 16, max: 256 }),
    fixed("subscriptionInterval", Kind::Interval),
    fixed("subscriptionStartTrigger", Kind::OneOf(&["creation", "activation"])),
    open("entitlementSetId", Kind::IdOrNull),
    open("allowedActivations", Kind::Count),
    open("allowedDeactivations", Kind::Count),
    fixed("type", Kind::OneOf(&["node-locked", "hosted-floating", "on-premise-floating"])),
    open("allowedFloatingClients", Kind::Count),
    open("leaseDuration", Kind::CountOrNull),
    open("leasingStrategy", Kind::OneOf(&["per-machine", "per-instance"])),
    open("suspended", Kind::Flag),
    open("revoked", Kind::Flag),
    open("maxAllowedReleaseVersion", Kind::Release),
    open("notes", Kind::TextOrNull),
    open("tags", Kind::Texts { max: 5 }),
    open("resellerId", Kind::IdOrNull),
    open("additionalUserIds", Kind::Ids),
    open("maintenancePolicyId", Kind::IdOrNull),
    open("expiringSoonEventOffset", Kind::CountOrNull),
    open("metadata", Kind::Metadata),
    fixed("validity", Kind::CountOrNull),
    fixed("expirationStrategy", Kind::OneOf(&["immediate", "delayed", "rolling"])),
];

/// A body of a create: an object of known fields with values that fit, and the required ones among them.
pub(super) fn new(body: &Value, fields: &[Field], required: &[&str]) -> Result<Map<String, Value>, Refusal> {
    let given = known(body, fields)?;
    for name in required {
        if !given.contains_key(*name) {
            return Err(Refusal::bad(format!("`{name}` is required")));
        }
    }
    Ok(given)
}

/// A body of a change: some of the fields that can be changed.
pub(super) fn patch(body: &Value, fields: &[Field]) -> Result<Map<String, Value>, Refusal> {
    let given = known(body, fields)?;
    for field in fields.iter().filter(|field| !field.changes) {
        if given.contains_key(field.name) {
            return Err(Refusal::bad(format!("`{}` cannot be changed", field.name)));
        }
    }
    Ok(given)
}

/// The one field of a body that has one.
pub(super) fn only<'a>(body: &'a Value, name: &str) -> Result<&'a Value, Refusal> {
    match body.as_object() {
        Some(fields) if fields.len() == 1 => fields.get(name),
        _ => None,
    }
    .ok_or_else(|| Refusal::bad(format!("the body is not an object with `{name}` alone")))
}

/// A time as it is sent.
pub(super) fn moment(value: &Value) -> Result<Timestamp, Refusal> {
    let text = value.as_str().ok_or_else(|| Refusal::bad("a time is not text"))?;
    text.parse().map_err(|_| Refusal::bad("a time is not ISO-8601 in UTC"))
}

/// A subscription's interval.
pub(super) fn interval(text: &str) -> Option<Span> {
    // jiff reads friendlier forms as well.
    if !text.starts_with('P') {
        return None;
    }
    text.parse::<Span>().ok().filter(|span| span.is_positive())
}

fn known(body: &Value, fields: &[Field]) -> Result<Map<String, Value>, Refusal> {
    let given = body.as_object().ok_or_else(|| Refusal::bad("the body is not an object"))?;
    for (name, value) in given {
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            return Err(Refusal::bad(format!("`{name}` is not a field")));
        };
        if !field.kind.fits(value) {
            return Err(Refusal::bad(format!("`{name}` has a value that does not fit")));
        }
    }
    Ok(given.clone())
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Id => is_id(value),
            Self::IdOrNull => value.is_null() || is_id(value),
            Self::Text { min, max } => value.as_str().is_some_and(|text| (min..=max).contains(&text.chars().count())),
            Self::TextOrNull => value.is_null() || value.is_string(),
            Self::Count => value.as_i64().is_some_and(|count| count >= -1),
            Self::CountOrNull => value.is_null() || Self::Count.fits(value),
            Self::Flag => value.is_boolean(),
            Self::Texts { max } => {
                value.as_array().is_some_and(|texts| texts.len() <= max && texts.iter().all(Value::is_string))
            }
            Self::Ids => value.as_array().is_some_and(|ids| ids.iter().all(is_id)),
            Self::Metadata => value.as_array().is_some_and(|entries| metadata_fits(entries)),
            Self::Interval => {
                value.is_null() || value.as_str().is_some_and(|text| text.is_empty() || interval(text).is_some())
            }
            Self::Release => value.as_str().is_some_and(is_release),
            Self::OneOf(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        }
    }
}

/// At most 50 entries of a key, a value and who may see it, each key once.
fn metadata_fits(entries: &[Value]) -> bool {
    let fits = |entry: &Value| {
        entry.as_object().is_some_and(|entry| {
            entry.len() == 3
                && entry.get("key").and_then(Value::as_str).is_some_and(|key| !key.is_empty())
                && entry.get("value").is_some_and(Value::is_string)
                && entry
                    .get("viewPermissions")
                    .and_then(Value::as_array)
                    .is_some_and(|all| all.iter().all(Value::is_string))
        })
    };
    let mut keys: Vec<_> = entries.iter().map(|entry| &entry["key"]).filter_map(Value::as_str).collect();
    keys.sort_unstable();
    keys.dedup();
    entries.len() <= 50 && keys.len() == entries.len() && entries.iter().all(fits)
}

fn is_id(value: &Value) -> bool {
    value.as_str().is_some_and(|text| Uuid::parse_str(text).is_ok())
}

/// Two to four numbers with dots between.
fn is_release(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.chars().all(|digit| digit.is_ascii_digit());
    (2..=4).contains(&parts.len()) && parts.iter().all(number)
}
