//! Customers.

use super::event::Event;
use crate::stripe::fact::{CustomerSeen, Fact};
use crate::stripe::value::{id, metadata, text};

/// A customer event. `customer.deleted` shows the whole customer; only its name says that they are gone.
pub(super) fn read(event: &Event<'_>) -> Vec<Fact> {
    let object = event.object;
    let Some(id) = id(object) else { return Vec::new() };
    let seen = CustomerSeen {
        seen: event.seen(),
        id,
        email: text(&object["email"]),
        name: text(&object["name"]),
        metadata: metadata(&object["metadata"]),
        deleted: event.deletes(),
    };
    vec![Fact::CustomerSeen(seen)]
}
