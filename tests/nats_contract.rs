//! The public contract on NATS: what the stream and a message are, who may do what, and a program that knows nothing
//! else.
//!
//! `schemas/README.md`, `deploy/nats` and `examples/license-subscriber` are what is held to here, against real servers of
//! both versions.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "nats_contract/document.rs"]
mod document;
#[path = "nats_contract/fed.rs"]
mod fed;
#[path = "nats_contract/line.rs"]
mod line;
#[path = "nats_contract/permissions.rs"]
mod permissions;
#[path = "nats_contract/roles.rs"]
mod roles;
#[path = "nats_contract/server.rs"]
mod server;
#[path = "nats_contract/subscriber.rs"]
mod subscriber;
