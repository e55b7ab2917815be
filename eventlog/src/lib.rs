//! The log: its contract, its adapters, and the one loop that reads it.
//!
//! ```text
//!   position      1      2      3      4      5            head = 5
//!               ┌──────┬──────┬──────┬──────┬──────┐
//!   log         │ evt  │ evt  │ own  │ evt  │ own  │  append ▶
//!               └──────┴──────┴──────┴──────┴──────┘
//!                                ▲ checkpoint = (3, chain of 3): the last position fully handled;
//!                                  a reader asks for what comes after 3
//! ```
//!
//! This crate does not know what an event means, and never looks into its bytes.

pub mod checkpoint;
pub mod conformance;
pub mod consumer;
pub mod exchange;
mod group;
pub mod jetstream;
pub mod lease;
pub mod log;
pub mod memory;
pub mod open;
mod page;
pub mod plan;
pub mod postgres;
pub mod restore;
mod sql;
pub mod sqlite;
pub mod state;
pub mod tail;
pub mod testing;
pub mod verify;
