//! The public contract on NATS: who may do what there, what a message is, and a program that knows nothing else.
//!
//! `schemas/README.md` and `deploy/nats` are what is held to here, against real servers of both versions.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "nats_contract/line.rs"]
mod line;
#[path = "nats_contract/permissions.rs"]
mod permissions;
#[path = "nats_contract/server.rs"]
mod server;
