//! The issuer: turns paid money into licenses and keeps them in step.
//!
//! ```text
//!   log ──▶ reader ──▶ purchase state, due times ──▶ worker ──▶ request ─▶ engine ─▶ outcome ──▶ log
//! ```
//!
//! [`purchase`] is the pure core. The rest is shell: it loads a purchase, asks the core, appends, calls, appends.
//! It never reads a webhook or writes a view. What a customer is called it knows in [`customer`] alone, for engines that keep
//! customers.

pub mod purchase;

mod routing;

pub mod store;

pub mod customer;

mod reader;

mod worker;

mod work;

mod desk;

mod call;

pub mod engines;

mod fence;

pub mod issuer;

pub mod balance;

pub mod outbound;

pub mod provider;

pub mod effects;

pub mod stripe;

pub use desk::WorkError;
pub use engines::Engines;
pub use fence::LEASE;
pub use issuer::{Issuer, IssuerError, Options, Parts};
pub use reader::{NAME, PARKED};
