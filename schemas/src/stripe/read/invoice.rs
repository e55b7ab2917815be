//! Invoices.

use serde_json::Value;

use super::event::Event;
use super::{line, link, payment};
use crate::ids::{ChargeId, InvoiceId, PaymentIntentId, SubscriptionId};
use crate::stripe::fact::{Fact, InvoiceLine, InvoiceSeen, LineKind, Metadata, ObjectRef};
use crate::stripe::status::InvoiceStatus;
use crate::stripe::value::{amount, currency_or_none, first_id, flag, id, int, list, metadata, text, time, word};

/// An invoice event. A preview (`invoice.upcoming`) has no id and states nothing.
pub(super) fn read(event: &Event<'_>) -> Vec<Fact> {
    let object = event.object;
    let Some(id) = id::<InvoiceId>(object) else { return Vec::new() };
    let (raw_lines, lines_truncated) = list(&object["lines"]);
    let lines: Vec<_> = raw_lines.iter().enumerate().map(|(index, raw)| line::read(raw, index)).collect();
    let subscription = subscription(object, raw_lines);
    let status = status(object);
    let paid = status == InvoiceStatus::Paid || flag(&object["paid"]);
    let seen = InvoiceSeen {
        seen: event.seen(),
        id: id.clone(),
        subscription: subscription.clone(),
        customer: first_id(&[&object["customer"], &object["customer_account"]]),
        customer_email: text(&object["customer_email"]),
        customer_name: text(&object["customer_name"]),
        status,
        paid,
        paid_at: time(&object["status_transitions"]["paid_at"]).or(event.created).filter(|_| paid),
        created: time(&object["created"]).or_else(|| time(&object["date"])),
        total_minor: amount(&object["total"]),
        amount_paid_minor: amount_paid(object, paid),
        currency: currency_or_none(&object["currency"]),
        number: text(&object["number"]),
        subscription_metadata: subscription_metadata(object, raw_lines, &lines),
        lines,
        lines_truncated,
    };
    let mut facts = vec![Fact::InvoiceSeen(seen)];
    let invoice = ObjectRef::Invoice(id);
    facts.extend(link(Some(invoice.clone()), subscription.map(ObjectRef::Subscription)));
    facts.extend(payments(object, &invoice));
    facts
}

/// The subscription that an invoice bills: in `parent` since basil, on the invoice before, else what its lines say.
fn subscription(object: &Value, lines: &[Value]) -> Option<SubscriptionId> {
    first_id(&[&object["parent"]["subscription_details"]["subscription"], &object["subscription"]])
        .or_else(|| lines.iter().find_map(line::subscription))
}

/// Before November 2018 there was no `status`. Closed or forgiven meant that collecting had stopped, and that the
/// invoice could still be reopened and paid.
fn status(object: &Value) -> InvoiceStatus {
    if object["status"].is_string() {
        word(&object["status"])
    } else if flag(&object["paid"]) {
        InvoiceStatus::Paid
    } else if flag(&object["closed"]) || flag(&object["forgiven"]) {
        InvoiceStatus::Uncollectible
    } else {
        InvoiceStatus::Open
    }
}

/// What was paid. The oldest invoices said only what was due.
fn amount_paid(object: &Value, paid: bool) -> i64 {
    if flag(&object["paid_out_of_band"]) {
        return 0;
    }
    let due = || if paid { amount(&object["amount_due"]) } else { 0 };
    int(&object["amount_paid"]).unwrap_or_else(due)
}

/// The subscription's metadata: in `parent` since basil, on the invoice from 2023 on; its lines mirror it.
fn subscription_metadata(object: &Value, raw_lines: &[Value], lines: &[InvoiceLine]) -> Metadata {
    let details = [&object["parent"]["subscription_details"], &object["subscription_details"]];
    let billing =
        raw_lines.iter().zip(lines).filter(|(_, line)| line.kind == LineKind::Subscription && !line.proration);
    let holders = details.into_iter().chain(billing.map(|(raw, _)| raw));
    holders.map(|holder| metadata(&holder["metadata"])).find(|metadata| !metadata.is_empty()).unwrap_or_default()
}

/// The payments that an invoice names: its own fields before basil, an expanded list since.
fn payments(object: &Value, invoice: &ObjectRef) -> Vec<Fact> {
    let charge = id::<ChargeId>(&object["charge"]).map(ObjectRef::Charge);
    let intent = first_id::<PaymentIntentId>(&[&object["payment_intent"], &object["charge"]["payment_intent"]]);
    let mut facts = payment::belongs(charge, intent.map(ObjectRef::PaymentIntent), Some(invoice));
    for paid in list(&object["payments"]).0 {
        facts.extend(payment::of_invoice(paid, Some(invoice)));
    }
    facts
}
