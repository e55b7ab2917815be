//! A scripted license engine for tests and demos: a server that stores licenses and misbehaves on demand, and the
//! provider that talks to it.
//!
//! The [`server`] is meant to run as a process of its own with its own disk, so that it counts what really was made,
//! whatever happens to keyledger. Like the engines that sell, it does not notice that two creates carry one reference.
//! The [`client`] speaks HTTP to it like any adapter, and shows by example how answers are told apart.

pub mod client;
pub mod faults;
pub mod server;
pub mod wire;

mod engine;
mod journal;

pub use client::{Options, Stub};
pub use journal::JournalError;
pub use server::{StubServer, run};
