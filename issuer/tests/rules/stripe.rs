//! Small Stripe bodies in the newest shape: `seen("invoice.paid", "2026-10-01", paid("in_1", …))`.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};

/// From midnight to midnight, by date.
pub type Period = (&'static str, &'static str);

pub const SEP: Period = ("2026-09-01", "2026-10-01");
pub const OCT: Period = ("2026-10-01", "2026-11-01");
pub const NOV: Period = ("2026-11-01", "2026-12-01");
pub const DEC: Period = ("2026-12-01", "2027-01-01");

/// A date at midnight, or a whole timestamp.
pub fn at(text: &str) -> Timestamp {
    let text = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    text.parse().unwrap()
}

fn seconds(text: &str) -> i64 {
    at(text).as_second()
}

/// An event of `kind` that shows `object`, with an id that no other event has.
#[expect(clippy::needless_pass_by_value, reason = "its callers read better")]
pub fn seen(kind: &str, created: &str, object: Value) -> Vec<u8> {
    let body = json!({
        "id": event_id(), "object": "event", "api_version": "2026-07-29.dahlia", "type": kind, "livemode": true,
        "created": seconds(created), "data": { "object": object },
    });
    serde_json::to_vec(&body).unwrap()
}

/// Ids go up, so that of two events of one second the later made one is the greatest.
fn event_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("evt_{:08}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Lays the fields of `more` over those of a value.
pub trait And {
    fn and(self, more: Value) -> Self;
}

impl And for Value {
    fn and(mut self, more: Value) -> Self {
        let fields = more.as_object().unwrap().clone();
        self.as_object_mut().unwrap().extend(fields);
        self
    }
}

/// Subscription `sub_1` of customer `cus_1`.
pub fn sub(status: &str, items: &[Value]) -> Value {
    json!({
        "id": "sub_1", "object": "subscription", "customer": "cus_1", "status": status, "metadata": {},
        "items": { "data": items, "has_more": false },
    })
}

/// A subscription item of price `price_<name>` and product `prod_<name>`, called `si_<name>`.
pub fn item(name: &str, quantity: u64, period: Period) -> Value {
    json!({
        "id": format!("si_{name}"), "quantity": quantity,
        "price": { "id": format!("price_{name}"), "product": format!("prod_{name}") },
        "current_period_start": seconds(period.0), "current_period_end": seconds(period.1),
    })
}

/// The same item with usage that is billed afterward.
pub fn metered(name: &str, period: Period) -> Value {
    let price = format!("price_{name}");
    let terms = json!({ "id": price, "product": format!("prod_{name}"), "recurring": { "usage_type": "metered" } });
    item(name, 0, period).and(json!({ "price": terms, "quantity": null }))
}

/// A line that bills a subscription item.
pub fn line(name: &str, quantity: u64, amount: i64, period: Period) -> Value {
    json!({
        "id": format!("il_{name}_{}", period.0), "amount": amount, "quantity": quantity,
        "pricing": { "price_details": { "price": format!("price_{name}"), "product": format!("prod_{name}") } },
        "period": { "start": seconds(period.0), "end": seconds(period.1) },
        "parent": {
            "type": "subscription_item_details",
            "subscription_item_details": {
                "subscription": "sub_1", "subscription_item": format!("si_{name}"), "proration": false,
            },
        },
    })
}

/// An adjustment within the item's period.
pub fn proration(name: &str, quantity: u64, amount: i64, period: Period) -> Value {
    let details = json!({ "subscription": "sub_1", "subscription_item": format!("si_{name}"), "proration": true });
    line(name, quantity, amount, period).and(json!({
        "id": format!("il_{name}_{}_{amount}_adjusted", period.0),
        "parent": { "type": "subscription_item_details", "subscription_item_details": details },
    }))
}

/// A line that is sold once and bills no subscription item.
pub fn extra(name: &str, quantity: u64, amount: i64) -> Value {
    line(name, quantity, amount, OCT).and(json!({
        "id": format!("il_{name}"),
        "parent": { "type": "invoice_item_details", "invoice_item_details": { "proration": false } },
    }))
}

/// An open invoice of `sub_1`.
pub fn invoice(id: &str, created: &str, lines: &[Value]) -> Value {
    let total: i64 = lines.iter().map(|line| line["amount"].as_i64().unwrap()).sum();
    json!({
        "id": id, "object": "invoice", "customer": "cus_1", "status": "open", "created": seconds(created),
        "currency": "eur", "total": total, "amount_paid": 0,
        "parent": { "type": "subscription_details", "subscription_details": { "subscription": "sub_1" } },
        "lines": { "data": lines, "has_more": false },
    })
}

/// The same invoice, paid when it was made.
pub fn paid(id: &str, created: &str, lines: &[Value]) -> Value {
    let open = invoice(id, created, lines);
    let amount = open["total"].clone();
    open.and(json!({
        "status": "paid", "amount_paid": amount, "status_transitions": { "paid_at": seconds(created) },
    }))
}

/// The event of [`paid`].
pub fn invoice_paid(id: &str, created: &str, lines: &[Value]) -> Vec<u8> {
    seen("invoice.paid", created, paid(id, created, lines))
}

/// A paid invoice that bills no subscription.
pub fn lone_invoice(id: &str, created: &str, lines: &[Value]) -> Value {
    paid(id, created, lines).and(json!({ "parent": null }))
}

/// What links a payment intent to the invoice it paid.
pub fn payment_of(invoice: &str, intent: &str, created: &str) -> Vec<u8> {
    let payment = json!({ "type": "payment_intent", "payment_intent": intent });
    let id = format!("inpay_{invoice}");
    let paid =
        json!({ "id": id, "object": "invoice_payment", "invoice": invoice, "payment": payment, "status": "paid" });
    seen("invoice_payment.paid", created, paid)
}

/// A refund on a payment intent.
pub fn refund(id: &str, intent: &str, amount: i64, status: &str, created: &str) -> Vec<u8> {
    let refund = json!({
        "id": id, "object": "refund", "payment_intent": intent, "amount": amount, "currency": "eur", "status": status,
    });
    seen("refund.updated", created, refund)
}

/// A charge of a payment intent, with what was given back so far.
pub fn charge(id: &str, intent: &str, amount: i64, refunded: i64, created: &str) -> Vec<u8> {
    let charge = json!({
        "id": id, "object": "charge", "payment_intent": intent, "amount": amount, "amount_captured": amount,
        "amount_refunded": refunded, "currency": "eur", "paid": true, "captured": true, "status": "succeeded",
    });
    seen("charge.refunded", created, charge)
}

/// A dispute of a payment intent.
pub fn dispute(id: &str, intent: &str, amount: i64, status: &str, created: &str) -> Vec<u8> {
    let dispute = json!({
        "id": id, "object": "dispute", "payment_intent": intent, "amount": amount, "currency": "eur", "status": status,
    });
    seen("charge.dispute.updated", created, dispute)
}

/// A customer as they are called now.
pub fn customer(id: &str, email: Option<&str>, name: Option<&str>, created: &str) -> Vec<u8> {
    let customer = json!({ "id": id, "object": "customer", "email": email, "name": name, "metadata": {} });
    seen("customer.updated", created, customer)
}

/// A Checkout session `cs_1` of `mode`.
pub fn session(mode: &str, payment_status: &str, total: i64) -> Value {
    json!({
        "id": "cs_1", "object": "checkout.session", "mode": mode, "status": "complete", "customer": "cus_1",
        "payment_status": payment_status, "amount_total": total, "currency": "eur", "metadata": {},
    })
}

/// A line of a session, as a fetched one shows it.
pub fn sold(name: &str, quantity: u64, amount: i64) -> Value {
    json!({
        "id": format!("li_{name}"), "amount_total": amount, "quantity": quantity,
        "price": { "id": format!("price_{name}"), "product": format!("prod_{name}") },
    })
}
