//! Stripe's API as it is asked: against its stand-in, with the clocks in our hands.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[expect(dead_code, reason = "other tests use more of it")]
#[path = "../support/mod.rs"]
mod support;

mod client;
mod place;
mod reconcile;
mod whole;
