//! Stripe's API as keyledger asks it: reading what webhooks did not bring, and writing metadata.
//!
//! ```text
//!   want ──▶ client ──▶ Stripe ──▶ answer ──▶ schemas::stripe::fetched ──▶ log
//! ```
//!
//! Nothing here decides anything, and nobody reads an answer before it stands in the log. What Stripe's objects mean is for
//! [`keyledger_schemas::stripe`] to know; this knows paths, headers and errors
//! (<https://docs.stripe.com/api>).

pub mod want;

pub mod client;

pub mod pages;

pub mod reconcile;

use keyledger_schemas::ids::Mode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outbound::Limits;

/// The version that every request asks for, so that answers have one shape whatever the account's default is.
pub const VERSION: &str = "2026-07-29.dahlia";

/// The mode of an object, where it says one that is not `wanted`: the key is for the other mode, and what it shows is nothing
/// to this source.
pub(crate) fn other_mode(object: &Value, wanted: Mode) -> Option<Mode> {
    object["livemode"].as_bool().map(Mode::of_livemode).filter(|shown| *shown != wanted)
}

/// How Stripe's API is called for one source. The key is given apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where the API is. Default `https://api.stripe.com`; another only for a stand-in.
    pub api_base: String,
    /// How long one request may take, in milliseconds. Default 20000.
    pub timeout_ms: u64,
    /// Requests in a second, on average; bursts are no larger. Stripe allows 100 in live mode and 25 in a sandbox, for
    /// everybody who uses the account. Default 8.
    pub requests_per_second: u32,
    /// Requests at once. Default 4.
    pub requests_at_once: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api_base: "https://api.stripe.com".to_owned(),
            timeout_ms: 20_000,
            requests_per_second: 8,
            requests_at_once: 4,
        }
    }
}

impl Options {
    /// The limits in it.
    pub fn limits(&self) -> Limits {
        Limits {
            timeout_ms: self.timeout_ms,
            requests_per_second: self.requests_per_second,
            requests_at_once: self.requests_at_once,
        }
    }
}
