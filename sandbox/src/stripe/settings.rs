//! What the account looks like, and how it behaves where nobody could verify the real one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The account and its switches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The key that is accepted for live objects.
    pub token: String,
    /// The key that is accepted for objects of test mode.
    pub token_test: String,
    /// A clock that stands still here; `None` for the machine's. It decides which events are older than 30 days.
    pub now: Option<Timestamp>,
    /// The version in which the account renders events that it makes, and of two renderings of one event the one that the
    /// API shows.
    pub api_version: String,
    /// Requests that are answered in a second; 0 for no limit.
    pub requests_per_second: u32,
    /// Requests to one kind of call that are answered in a second; 0 for no limit.
    pub requests_per_second_each: u32,
    /// How long a write keeps its object locked, in milliseconds: another one meanwhile gets `lock_timeout`.
    pub lock_ms: u64,
    /// Whether a request without `Stripe-Version` is refused. The real one takes the account's default, and a program that
    /// relies on that breaks on the day it is changed.
    pub requires_version: bool,
    /// Whether a canceled subscription takes metadata.
    pub canceled_takes_metadata: bool,
    /// The status that answers a write to a deleted customer.
    pub deleted_customer_status: u16,
    /// For how many hours idempotency keys are remembered. The real one: at least 24.
    pub keys_kept_h: u32,
    /// Every request fails, and is counted.
    pub forbid_all: bool,
    /// Where events that this account makes are delivered to; `None`: they only stand in the list.
    pub webhook: Option<Webhook>,
}

/// An endpoint that events are delivered to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// An `http:` address.
    pub url: String,
    /// What deliveries are signed with, prefix and all.
    pub secret: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            token: "sandbox".to_owned(),
            token_test: "sandbox_test".to_owned(),
            now: None,
            api_version: "2026-07-29.dahlia".to_owned(),
            requests_per_second: 100,
            requests_per_second_each: 25,
            lock_ms: 0,
            requires_version: true,
            canceled_takes_metadata: true,
            deleted_customer_status: 404,
            keys_kept_h: 24,
            forbid_all: false,
            webhook: None,
        }
    }
}
