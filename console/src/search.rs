//! The search grammar: what a person may type into the one search box.
//!
//! Text is first taken for a bare token and recognized by its shape ([`shape`]); whatever is not one is a query in the
//! boolean language ([`parse`]). Both are pure: nothing here reads a view, a clock or a key. What a query finds is
//! decided in [`crate::api`].

pub mod parse;
pub mod query;
pub mod shape;
pub mod value;

use jiff::Timestamp;

use parse::BadQuery;
use query::Query;
use shape::Lookup;

/// Longer text is not a search, bytes.
pub const QUERY_BYTES_MAX: usize = 1024;

/// What somebody searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// A bare token: everything it may mean by its shape, most exact first. Never empty.
    Lookups(Vec<Lookup>),
    /// A query in the boolean language.
    Query(Query),
}

/// Reads what somebody typed; `now` is what relative dates count from.
///
/// # Errors
///
/// [`BadQuery`] points at the column of the first mistake.
pub fn read(text: &str, now: Timestamp) -> Result<Search, BadQuery> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(BadQuery::at(1, format!("a search has at most {QUERY_BYTES_MAX} bytes")));
    }
    let lookups = shape::recognize(text);
    if lookups.is_empty() { parse::parse(text, now).map(Search::Query) } else { Ok(Search::Lookups(lookups)) }
}
