//! The executable's own parts: settings, wiring, the command line, signals.
//!
//! Everything that decides, stores or serves lives in the member crates. This package alone reads settings and the
//! environment, builds the parts and puts them together, and speaks to the person at the terminal.

pub mod cli;
pub mod demo;
pub mod keys;
pub mod lifecycle;
pub mod output;
pub mod serve;
pub mod settings;
pub mod telemetry;
