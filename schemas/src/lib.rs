//! The vocabulary of keyledger: ids, money, time, envelope, events, and how Stripe's JSON is read.
//!
//! Everything here is data and pure functions. This crate does no I/O, reads no clock but through
//! [`clock::Clock`], and knows nothing of databases, brokers or providers.

pub mod clock;
pub mod envelope;
pub mod event;
pub mod ids;
pub mod json;
pub mod mapping;
pub mod money;
pub mod secret;
pub mod settings;
pub mod stripe;
