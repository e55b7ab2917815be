//! Refunds, in their own events and embedded in old charges.

use serde_json::Value;

use super::event::Event;
use super::payment::payment_of;
use crate::ids::{ChargeId, RefundId};
use crate::stripe::fact::{Fact, RefundSeen};
use crate::stripe::status::RefundStatus;
use crate::stripe::value::{amount, currency_or_none, id, word};

/// The refund in `object`, which may be embedded in `charge`.
pub(super) fn read(event: &Event<'_>, object: &Value, charge: Option<&ChargeId>) -> Vec<Fact> {
    // An id alone says neither how much nor how far it got.
    let Some(id) = id::<RefundId>(object).filter(|_| object.is_object()) else { return Vec::new() };
    let (payment, link) = payment_of(object, charge);
    let seen = RefundSeen {
        seen: event.seen(),
        id,
        payment,
        amount_minor: amount(&object["amount"]),
        currency: currency_or_none(&object["currency"]),
        status: status(&object["status"]),
    };
    [Some(Fact::RefundSeen(seen)), link].into_iter().flatten().collect()
}

/// A refund without a status is older than the field, and was made at once.
fn status(value: &Value) -> RefundStatus {
    if value.is_null() { RefundStatus::Succeeded } else { word(value) }
}
