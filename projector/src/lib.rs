//! The projector: folds the log into views, independently of the issuer, and lets others read them.
//!
//! ```text
//!   log ──▶ facts (one row per object) ──▶ routed to purchases ──▶ derive ──▶ obligations, licenses, cases
//! ```
//!
//! What is owed is derived here from money facts and license facts alone (docs/deciding.md), so it is right even while
//! the issuer is stopped. The projector never calls a provider, never calls Stripe, and never writes to the log.

pub mod casebook;
mod db;
pub mod derive;
mod digest;
pub mod facts;
mod fold;
mod place;
mod projector;
pub mod read;
pub mod replay;
pub mod route;
mod sql;
mod store;
pub mod waiting;
mod working;

pub use projector::{NAME, Projector};
pub use sql::ViewsError;
pub use store::set_aside;

/// Which tables there are. Another number in the file means that it is made anew.
pub const SCHEMA_VERSION: i64 = 4;

/// Which fold the rows come from: raised whenever the same log would give other rows.
pub const PROJECTION_VERSION: i64 = 6;
