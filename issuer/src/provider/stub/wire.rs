//! The stub engine's JSON. It never leaves this folder.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

/// A license as the stub stores and shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct License {
    /// The stub's own id: `stub-000001` and on.
    pub id: String,
    /// What the customer types in: `STUB-…`.
    pub key: String,
    /// As given on create.
    pub reference: String,
    /// As given on create.
    pub product: String,
    /// As given on create.
    pub purchase: String,
    /// As given on create.
    pub customer: Option<String>,
    /// When it stops working; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// `None` for unlimited, which is what the stub makes of a 0, as some engines do.
    pub seats: Option<u32>,
    /// Feature names.
    pub features: BTreeSet<String>,
    /// Whether it works.
    pub state: State,
}

/// Whether a license works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It works until it expires.
    Active,
    /// It does not work for now.
    Suspended,
    /// It does not work any more.
    Revoked,
}

/// Body of `POST /licenses`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLicense {
    /// Written into the license. Not checked for being unique.
    pub reference: String,
    /// A product's name.
    pub product: String,
    /// Which purchase it is for.
    pub purchase: String,
    /// Which customer it is for.
    #[serde(default)]
    pub customer: Option<String>,
    /// When it stops working; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// How many seats; 0 is unlimited.
    pub seats: u32,
    /// Feature names.
    #[serde(default)]
    pub features: BTreeSet<String>,
}

/// Body of `PATCH /licenses/{id}`: what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Absent: as before. `null`: never expires.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Option<Timestamp>>,
    /// 0 is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
    /// All of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<BTreeSet<String>>,
    /// The new state, whatever the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// Answer of `GET /licenses?reference=`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// In the order in which they were made.
    pub data: Vec<License>,
}

/// Body of every answer that is not success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
}

/// Answer of `GET /control/stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Licenses that exist, over all restarts. Each is one effective create.
    pub licenses: u64,
    /// Of these, how many have each reference. Anything above 1 was issued twice.
    pub creates_by_reference: BTreeMap<String, u64>,
    /// The greatest of those counts; 0 without licenses.
    pub creates_per_reference_max: u64,
    /// Licenses with unlimited seats: somebody sent a 0.
    pub unlimited: u64,
    /// Calls since this process started: by operation, then by how they ended (a status, or the name of a fault).
    pub calls: BTreeMap<String, BTreeMap<String, u64>>,
}

#[expect(clippy::option_option, reason = "absent and null mean different things here")]
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<Timestamp>>, D::Error> {
    Option::deserialize(value).map(Some)
}
