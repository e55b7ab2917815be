//! From the JSON of any API version to facts: one file per Stripe object.
//!
//! The object's own `object` field decides who reads it, never the event's type: `charge.refund.updated` shows a
//! refund. Where a field has lived over the years is said at the place that reads it.

mod catalog;
mod customer;
mod dispute;
mod event;
mod invoice;
mod line;
mod payment;
mod previous;
mod price;
mod refund;
mod session;
mod subscription;

use std::collections::BTreeSet;

use serde_json::Value;

use self::event::Event;
use super::fact::{Fact, Link, ObjectRef};
use super::fetched::Fetched;

/// The facts that a Stripe event states, or an answer of Stripe's ([`Fetched`]): about the object it shows first, then what
/// belongs to what.
///
/// Total: an unknown object, a thin event or bytes that are neither give no facts.
pub fn facts(body: &[u8]) -> Vec<Fact> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let mut facts = if body.get("keyledger_fetched").is_some() {
        let fetched = Fetched::of(body);
        fetched.iter().flat_map(Event::of_answer).flat_map(|event| shown(&event)).collect()
    } else {
        Event::of(&body).as_ref().map(shown).unwrap_or_default()
    };
    let mut links = BTreeSet::new();
    facts.retain(|fact| match fact {
        Fact::Linked(link) => links.insert(link.clone()),
        _ => true,
    });
    facts
}

/// What the object of one event states.
fn shown(event: &Event<'_>) -> Vec<Fact> {
    match event.object["object"].as_str().unwrap_or_default() {
        "subscription" => subscription::read(event),
        "invoice" => invoice::read(event),
        "invoice_payment" => payment::read_invoice_payment(event),
        "checkout.session" => session::read(event),
        "charge" => payment::read_charge(event),
        "payment_intent" => payment::read_intent(event),
        "refund" => refund::read(event, event.object, None),
        "dispute" => dispute::read(event),
        "customer" => customer::read(event),
        "price" | "plan" => catalog::read_price(event),
        "product" => catalog::read_product(event),
        _ => Vec::new(),
    }
}

/// `child` belongs to `parent`, where both are known.
fn link(child: Option<ObjectRef>, parent: Option<ObjectRef>) -> Option<Fact> {
    Some(Fact::Linked(Link { child: child?, parent: parent? }))
}
