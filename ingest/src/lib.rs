//! Webhooks in: limit, verify the raw bytes, read the header, append, and only then answer 2xx.
//!
//! ```text
//!   POST /webhooks/stripe/{source} ─▶ limit ─▶ signature ─▶ header ─▶ append ─▶ 200
//!                                      413       400          400       503
//! ```
//!
//! This crate keeps what Stripe says without interpreting it: it does not know what an event means for a license,
//! and it calls nobody. A 2xx means that the event is in the log for good.

mod answer;
mod body;
mod connection;
pub mod gate;
pub mod health;
mod observe;
pub mod options;
mod refused;
mod same_account;
pub mod server;
pub mod signature;
mod stream;
mod webhook;
