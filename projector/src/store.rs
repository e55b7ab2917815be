//! The views' database: its tables, and how rows get into them.

mod schema;

pub use schema::META;
pub(crate) use schema::connect;
