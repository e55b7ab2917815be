//! The log's mirror on NATS JetStream: written by one relay, followed by any number of consumers.
//!
//! ```text
//!   log (SQL)   1  2  3  4  5  6  7        position = stream sequence: same id, same bytes
//!               │  │  │  │  │
//!   KL_LOG      1  2  3  4  5              the relay asks the stream where it ends, and goes on from there
//! ```
//!
//! The log is the truth. Nothing here marks an event as sent, nothing read from the mirror is believed before the log's
//! chain value agrees, and nothing here is waited for by whoever appends.

pub mod message;
mod text;

pub mod client;
pub mod options;

pub mod compare;
pub mod judgement;
pub mod mirror;
pub mod sync;

pub mod relay;
pub mod tail;

pub use client::{Client, connect};
pub use mirror::Mirror;
pub use options::Options;

/// The name of the stream, unless told otherwise.
pub const STREAM: &str = "KL_LOG";

/// The subjects of the mirror: all of them and no others.
pub const SUBJECTS: &str = "kl.v1.>";

/// The stream's metadata that names the log it mirrors.
pub const LOG_ID_KEY: &str = "keyledger-log-id";

/// The stream's metadata that names how it is written.
pub const FORMAT_KEY: &str = "keyledger-mirror";

/// How it is written: the value under [`FORMAT_KEY`].
pub const FORMAT: &str = "v1";
