//! The pure core: what one purchase knows, what it is owed, and what is decided about it.
//!
//! `docs/deciding.md` defines it. No clock, no I/O, no `async`: the shell loads a [`Purchase`], asks, appends, saves.

pub mod addon;
pub mod decide;
pub mod desired;
pub mod evolve;
pub mod knowledge;
pub mod named;
pub mod owed;
pub mod period;
pub mod state;

pub use state::Purchase;
