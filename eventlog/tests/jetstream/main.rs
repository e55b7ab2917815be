//! The mirror on real servers: the relay that writes it and the tail that follows it, through every kind of trouble.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod conformance;
mod disaster;
mod large;
mod login;
mod network;
mod oldest;
mod refusal;
mod relay;
mod tail;
