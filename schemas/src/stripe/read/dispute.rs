//! Disputes. They name a payment and nothing else: neither customer nor invoice.

use super::event::Event;
use super::payment::payment_of;
use crate::ids::DisputeId;
use crate::stripe::fact::{DisputeSeen, Fact};
use crate::stripe::value::{amount, currency_or_none, id, word};

/// A dispute event.
pub(super) fn read(event: &Event<'_>) -> Vec<Fact> {
    let object = event.object;
    let Some(id) = id::<DisputeId>(object) else { return Vec::new() };
    let (payment, link) = payment_of(object, None);
    let seen = DisputeSeen {
        seen: event.seen(),
        id,
        payment,
        amount_minor: amount(&object["amount"]),
        currency: currency_or_none(&object["currency"]),
        status: word(&object["status"]),
    };
    [Some(Fact::DisputeSeen(seen)), link].into_iter().flatten().collect()
}
