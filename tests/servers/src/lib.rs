//! Real servers for tests: [`Postgres`], [`Nats`], [`NatsCluster`], and a [`Link`] that can be cut between two of them.
//!
//! Each is started on a free port of the loopback address, with a folder of its own, and is gone when it is dropped.
//! `make needs` installs what they run; where it is missing, starting panics and says so.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that cannot go on must fail")]

pub mod http;
mod link;
mod nats;
mod place;
mod postgres;
mod process;

pub use link::Link;
pub use nats::{CURRENT, Nats, NatsCluster, OLDEST, Options};
pub use postgres::Postgres;
