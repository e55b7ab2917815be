//! The issuer: turns paid money into licenses and keeps them in step.
//!
//! ```text
//!   log ──▶ reader ──▶ purchase state, due times ──▶ worker ──▶ request ─▶ engine ─▶ outcome ──▶ log
//! ```
//!
//! [`purchase`] is the pure core. The rest is shell: it loads a purchase, asks the core, appends, calls, appends.
//! It never reads a webhook, writes a view, or knows what a customer is called.

pub mod purchase;

mod routing;

pub mod store;

mod reader;

mod worker;

mod work;

mod desk;

mod call;

pub mod engines;

mod fence;

pub mod issuer;

pub mod balance;

pub mod provider;

pub use desk::WorkError;
pub use engines::Engines;
pub use fence::LEASE;
pub use issuer::{Issuer, IssuerError, Options, Parts};
pub use reader::{NAME, PARKED};
