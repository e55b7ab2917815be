//! What the issuer does outside of license calls, against the stand-in of Stripe.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[expect(dead_code, reason = "other tests use more of it")]
#[path = "../support/mod.rs"]
mod support;

mod world;

mod values;

mod written;

mod trouble;

mod fetched;

mod told;

mod compared;
