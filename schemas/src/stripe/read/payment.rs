//! Charges, payment intents, and which invoice they pay.

use serde_json::Value;

use super::event::Event;
use super::{link, refund};
use crate::ids::{ChargeId, InvoiceId, PaymentIntentId};
use crate::stripe::fact::{ChargeSeen, Fact, ObjectRef};
use crate::stripe::value::{amount, currency_or_none, first_id, flag, id, int, list};

/// A charge event.
pub(super) fn read_charge(event: &Event<'_>) -> Vec<Fact> {
    let object = event.object;
    let Some(id) = id::<ChargeId>(object) else { return Vec::new() };
    let seen = ChargeSeen {
        seen: event.seen(),
        id: id.clone(),
        customer: first_id(&[&object["customer"], &object["customer_account"]]),
        paid: is_paid(object),
        amount_minor: int(&object["amount_captured"]).unwrap_or_else(|| amount(&object["amount"])),
        refunded_minor: amount(&object["amount_refunded"]),
        currency: currency_or_none(&object["currency"]),
    };
    let mut facts = vec![Fact::ChargeSeen(seen)];
    let (intent, invoice) = (intent_of(object), invoice_of(object));
    facts.extend(belongs(Some(ObjectRef::Charge(id.clone())), intent, invoice.as_ref()));
    // Embedded until November 2022.
    for embedded in list(&object["refunds"]).0 {
        facts.extend(refund::read(event, embedded, Some(&id)));
    }
    facts
}

/// Whether the money was taken: an authorization that was not captured yet is not payment.
/// Charges without `status` or `captured` are older than these fields.
fn is_paid(object: &Value) -> bool {
    let succeeded = object["status"].is_null() || object["status"] == "succeeded";
    flag(&object["paid"]) && succeeded && object["captured"] != false
}

/// A payment intent event.
pub(super) fn read_intent(event: &Event<'_>) -> Vec<Fact> {
    let object = event.object;
    let Some(intent) = id(object).map(ObjectRef::PaymentIntent) else { return Vec::new() };
    let invoice = invoice_of(object);
    let mut facts: Vec<Fact> = link(Some(intent.clone()), invoice.clone()).into_iter().collect();
    // `charges` until November 2022, `latest_charge` since.
    let charges = list(&object["charges"]).0.iter().chain([&object["latest_charge"]]);
    for charge in charges.filter_map(id::<ChargeId>) {
        facts.extend(belongs(Some(ObjectRef::Charge(charge)), Some(intent.clone()), invoice.as_ref()));
    }
    facts
}

/// An `invoice_payment` event.
pub(super) fn read_invoice_payment(event: &Event<'_>) -> Vec<Fact> {
    let invoice = id::<InvoiceId>(&event.object["invoice"]).map(ObjectRef::Invoice);
    if event.kind == "invoice_payment.paid" {
        return paid_by(event.object, invoice.as_ref());
    }
    of_invoice(event.object, invoice.as_ref())
}

/// The links that an `invoice_payment` of `invoice` states once it is paid.
/// One that is open or canceled says only what was tried.
pub(super) fn of_invoice(invoice_payment: &Value, invoice: Option<&ObjectRef>) -> Vec<Fact> {
    if invoice_payment["status"] == "paid" { paid_by(invoice_payment, invoice) } else { Vec::new() }
}

fn paid_by(invoice_payment: &Value, invoice: Option<&ObjectRef>) -> Vec<Fact> {
    let payment = &invoice_payment["payment"];
    let latest = &payment["payment_intent"]["latest_charge"];
    // Money from elsewhere is recorded as a payment of its own, which stands where a charge would.
    let charge = first_id::<ChargeId>(&[&payment["charge"], latest, &payment["payment_record"]]).map(ObjectRef::Charge);
    let intent = first_id::<PaymentIntentId>(&[&payment["payment_intent"], &payment["charge"]["payment_intent"]]);
    belongs(charge, intent.map(ObjectRef::PaymentIntent), invoice)
}

/// A charge, its intent and their invoice, as far as they are known: each belongs to the next, and both to the last.
pub(super) fn belongs(charge: Option<ObjectRef>, intent: Option<ObjectRef>, invoice: Option<&ObjectRef>) -> Vec<Fact> {
    [link(charge.clone(), intent.clone()), link(charge, invoice.cloned()), link(intent, invoice.cloned())]
        .into_iter()
        .flatten()
        .collect()
}

/// The intent behind a charge, refund or dispute.
fn intent_of(object: &Value) -> Option<ObjectRef> {
    id::<PaymentIntentId>(&object["payment_intent"]).map(ObjectRef::PaymentIntent)
}

/// The invoice that a charge or intent pays: said there until basil.
fn invoice_of(object: &Value) -> Option<ObjectRef> {
    id::<InvoiceId>(&object["invoice"]).map(ObjectRef::Invoice)
}

/// What a refund or dispute takes money back of, and the link between its charge and its intent.
pub(super) fn payment_of(object: &Value, charge: Option<&ChargeId>) -> (Option<ObjectRef>, Option<Fact>) {
    let charge = id::<ChargeId>(&object["charge"]).or_else(|| charge.cloned()).map(ObjectRef::Charge);
    let expanded = first_id::<PaymentIntentId>(&[&object["payment_intent"], &object["charge"]["payment_intent"]]);
    let intent = expanded.map(ObjectRef::PaymentIntent);
    (charge.clone().or_else(|| intent.clone()), link(charge, intent))
}
