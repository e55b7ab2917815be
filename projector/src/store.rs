//! The views' database: its tables, and how rows get into them and out again for the fold.

mod load;
mod save;
mod save_derived;
mod schema;

pub(crate) use load::*;
pub(crate) use save::*;
pub(crate) use save_derived::*;
pub use schema::META;
pub(crate) use schema::{connect, reset, seen, take_over};
