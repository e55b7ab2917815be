//! The read side: what the console and the command line ask of the views. It never writes.
//!
//! Rows hold dates; what depends on the clock (`grace`, `expired`, `issuer_behind`, facts that wait for over an hour)
//! is computed here, with the time the reader names.

mod advice;
mod cases;
mod customers;
mod licenses;
mod open;
mod payments;
mod prices;
mod purchases;
mod search;
mod status;
mod subscriptions;
mod types;

pub use open::{OpenObligation, Views, file_of};
pub use types::*;

/// Cuts `rows` (one more was asked for than wanted) to a page.
fn page<R, T, E>(
    mut rows: Vec<R>,
    request: &PageRequest,
    key: impl Fn(&R) -> String,
    read: impl Fn(R) -> Result<T, E>,
) -> Result<Page<T>, E> {
    let wanted = request.rows() as usize;
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    let next = rows.last().filter(|_| more).map(key);
    Ok(Page { data: rows.into_iter().map(read).collect::<Result<_, E>>()?, next })
}
