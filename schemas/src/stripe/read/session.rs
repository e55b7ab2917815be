//! Checkout sessions.

use serde_json::Value;

use super::event::Event;
use super::link;
use super::price::price_of;
use crate::ids::{InvoiceId, PaymentIntentId, SessionId, SubscriptionId};
use crate::stripe::fact::{Fact, ObjectRef, SessionLine, SessionSeen};
use crate::stripe::status::{PaymentStatus, SessionMode, SessionStatus};
use crate::stripe::value::{amount, count, currency, first_id, id, list, metadata, numbered, text, word};

/// A Checkout session event.
pub(super) fn read(event: &Event<'_>) -> Vec<Fact> {
    let object = event.object;
    let Some(session_id) = id::<SessionId>(object) else { return Vec::new() };
    let details = &object["customer_details"];
    let subscription: Option<SubscriptionId> = id(&object["subscription"]);
    let invoice: Option<InvoiceId> = id(&object["invoice"]);
    let payment_intent: Option<PaymentIntentId> = id(&object["payment_intent"]);
    let mode = mode(object, subscription.as_ref());
    let session = ObjectRef::Session(session_id.clone());
    let one_off_intent = payment_intent.clone().filter(|_| mode == SessionMode::Payment);
    let links = [
        link(Some(session.clone()), subscription.clone().map(ObjectRef::Subscription)),
        link(Some(session.clone()), invoice.clone().map(ObjectRef::Invoice)),
        link(one_off_intent.map(ObjectRef::PaymentIntent), Some(session)),
    ];
    let seen = SessionSeen {
        seen: event.seen(),
        id: session_id,
        mode,
        status: status(event),
        payment_status: payment_status(event),
        customer: first_id(&[&object["customer"], &object["customer_account"]]),
        customer_email: text(&details["email"]).or_else(|| text(&object["customer_email"])),
        customer_name: ["name", "individual_name", "business_name"].iter().find_map(|name| text(&details[name])),
        client_reference_id: text(&object["client_reference_id"]),
        subscription,
        invoice,
        payment_intent,
        total_minor: amount(&object["amount_total"]),
        currency: currency(&object["currency"]),
        metadata: metadata(&object["metadata"]),
        lines: lines(&object["line_items"]),
    };
    let mut facts = vec![Fact::SessionSeen(seen)];
    facts.extend(links.into_iter().flatten());
    facts
}

/// The first sessions (2019) did not say their mode.
fn mode(object: &Value, subscription: Option<&SubscriptionId>) -> SessionMode {
    if object["mode"].is_string() {
        word(&object["mode"])
    } else if subscription.is_some() {
        SessionMode::Subscription
    } else if id::<String>(&object["setup_intent"]).is_some() {
        SessionMode::Setup
    } else {
        SessionMode::Payment
    }
}

/// Sessions older than the field tell by the event's name.
fn status(event: &Event<'_>) -> SessionStatus {
    if event.object["status"].is_string() {
        return word(&event.object["status"]);
    }
    match event.kind {
        "checkout.session.expired" => SessionStatus::Expired,
        kind if kind.starts_with("checkout.session.") => SessionStatus::Complete,
        _ => SessionStatus::Open,
    }
}

/// Whether money came. A session that does not say is unpaid: nothing is delivered on a guess.
fn payment_status(event: &Event<'_>) -> PaymentStatus {
    let status = &event.object["payment_status"];
    if event.kind == "checkout.session.async_payment_succeeded" {
        PaymentStatus::Paid
    } else if status.is_string() {
        word(status)
    } else {
        PaymentStatus::Unpaid
    }
}

/// What was sold, where the payload shows all of it: part of it would hide the rest.
fn lines(value: &Value) -> Option<Vec<SessionLine>> {
    let (shown, truncated) = list(value);
    if shown.is_empty() || truncated {
        return None;
    }
    let line = |(index, line): (usize, &Value)| SessionLine {
        id: id(line).unwrap_or_else(|| numbered(index)),
        price: price_of(line),
        amount_minor: amount(&line["amount_total"]),
        quantity: count(&line["quantity"]),
    };
    Some(shown.iter().enumerate().map(line).collect())
}
