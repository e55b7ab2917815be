//! What the account looks like, and how it behaves where nobody could verify the real one.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The account and its switches. The default is an account that takes any product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The personal access token that is accepted.
    pub token: String,
    /// What that token may do. The default is what an integration needs at least.
    pub scopes: BTreeSet<String>,
    /// Products of the account. Empty: any UUID is one, with the default template.
    pub products: Vec<Product>,
    /// Templates of the account. Empty: any UUID is one, like the default.
    pub templates: Vec<Template>,
    /// Entitlement sets of the account. Empty: any UUID is one.
    pub entitlement_sets: Vec<Uuid>,
    /// Requests that are answered in five seconds; 0 for no limit.
    pub requests_per_window: u32,
    /// A clock that stands still here; `None` for the machine's.
    pub now: Option<Timestamp>,
    /// A second user with the same address.
    pub duplicate_email: Duplicate,
    /// Whether addresses that differ in case are the same.
    pub email_comparison: EmailComparison,
    /// A second license with the same supplied key.
    pub duplicate_key: Duplicate,
    /// Whether filters by `metadata.key` and `metadata.value` mean one entry.
    pub metadata_filters: MetadataFilters,
    /// What a `PATCH` with `metadata` does to entries that it does not name.
    pub metadata_patch: MetadataPatch,
    /// How long a page is without `limit`: 1 to 100.
    pub page_size: usize,
    /// What renewing does to a license that is suspended, revoked or perpetual.
    pub renew_stopped: RenewStopped,
    /// A user without `lastName`.
    pub last_name_missing: Missing,
    /// What setting the expiry does to a license that is suspended or revoked.
    pub expiry_stopped: ExpiryStopped,
    /// Setting the expiry to `null`.
    pub expiry_null: NullExpiry,
}

impl Default for Settings {
    fn default() -> Self {
        let scopes = ["license:read", "license:write", "user:read", "user:write"];
        Self {
            token: "sandbox".to_owned(),
            scopes: scopes.into_iter().map(ToOwned::to_owned).collect(),
            products: Vec::new(),
            templates: Vec::new(),
            entitlement_sets: Vec::new(),
            requests_per_window: 50,
            now: None,
            duplicate_email: Duplicate::Refused400,
            email_comparison: EmailComparison::IgnoringCase,
            duplicate_key: Duplicate::Refused400,
            metadata_filters: MetadataFilters::SameEntry,
            metadata_patch: MetadataPatch::Replace,
            page_size: 20,
            renew_stopped: RenewStopped::Unchanged,
            last_name_missing: Missing::Accepted,
            expiry_stopped: ExpiryStopped::Set,
            expiry_null: NullExpiry::Accepted,
        }
    }
}

/// A product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Its id.
    pub id: Uuid,
    /// Its default template.
    pub template: Uuid,
}

/// A license template: what a license gets that is not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Template {
    /// Its id.
    pub id: Uuid,
    /// `node-locked`, `hosted-floating` or `on-premise-floating`.
    pub kind: String,
    /// ISO-8601; `None` for no expiry.
    pub interval: Option<String>,
    /// `creation` or `activation`.
    pub trigger: String,
    /// Seats; 0 or -1 for unlimited.
    pub allowed_activations: i64,
    /// Seats of a floating license.
    pub allowed_floating_clients: Option<i64>,
    /// A license must have metadata with these keys.
    pub required_metadata: Vec<String>,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            id: Uuid::from_u128(0x8a11_0000_0000_4000_8000_0000_0000_0001),
            kind: "node-locked".to_owned(),
            interval: Some("P1Y".to_owned()),
            trigger: "creation".to_owned(),
            allowed_activations: 1,
            allowed_floating_clients: None,
            required_metadata: Vec::new(),
        }
    }
}

/// What becomes of a second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicate {
    /// 400.
    Refused400,
    /// 409.
    Refused409,
    /// There are two.
    Allowed,
}

/// How addresses are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmailComparison {
    /// Byte by byte.
    Exact,
    /// `A@x` is `a@x`.
    IgnoringCase,
}

/// How filters by metadata are paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataFilters {
    /// One entry fits all of them.
    SameEntry,
    /// Each is fitted by some entry.
    AnyEntry,
}

/// What `PATCH` does with metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataPatch {
    /// The list sent is the list kept.
    Replace,
    /// Entries with a key that is sent are replaced, others stay.
    Merge,
}

/// What renewing a stopped license does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewStopped {
    /// 200, and nothing.
    Unchanged,
    /// 200, and a later expiry.
    Extended,
    /// 400.
    Refused,
}

/// A field that may be required.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// It may be left out.
    Accepted,
    /// 400.
    Refused,
}

/// What setting the expiry of a stopped license does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryStopped {
    /// It is set; the license stays stopped.
    Set,
    /// It is set, and the license is not suspended any more.
    Reinstates,
    /// 200, and nothing.
    Unchanged,
    /// 400.
    Refused,
}

/// What becomes of `{"expiresAt": null}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullExpiry {
    /// The license never expires.
    Accepted,
    /// 400.
    Refused,
}
