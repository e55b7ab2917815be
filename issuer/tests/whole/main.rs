//! The whole issuer on a log in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../support/mod.rs"]
mod support;

mod stories;

mod shell;
