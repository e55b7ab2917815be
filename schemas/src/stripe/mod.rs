//! How Stripe's JSON is read: a total function from the body of any API version to a small set of [`fact::Fact`]s.
//!
//! Only this module knows Stripe's field names. A body that cannot be read gives no facts, never an error: it was
//! kept verbatim, and a better reading is a replay away.

pub mod fact;
pub mod fetched;
mod header;
mod news;
mod read;
pub mod record;
pub mod register;
pub mod status;
mod thin;
mod value;

pub use header::{Header, NotAnEvent};
pub use news::news;
pub use read::facts;
pub use thin::{Thin, thin};
