//! Stripe's JSON for a happening, in the shape of 2024-06-20 and in that of dahlia.

use serde_json::{Map, Value, json};

use crate::model::catalog;
use crate::model::history::{Happened, Invoice, Item, Line, Session, Subscription, What};

/// An API version that an endpoint may be pinned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The last shape before basil.
    Old,
    /// The newest.
    New,
}

impl Shape {
    fn version(self) -> &'static str {
        match self {
            Self::Old => "2024-06-20",
            Self::New => "2026-07-29.dahlia",
        }
    }
}

/// The body of the event; `None` where that version has no such event.
pub fn render(happened: &Happened, shape: Shape) -> Option<Vec<u8>> {
    let mut data = Map::new();
    let object = match &happened.what {
        What::Subscription { now, before } => {
            if let Some(before) = before {
                data.insert("previous_attributes".to_owned(), previous(before, now, shape));
            }
            subscription(now, shape)
        }
        What::Invoice(shown) => invoice(shown, shape),
        What::InvoicePayment { invoice, intent } => {
            if shape == Shape::Old {
                return None;
            }
            json!({
                "id": format!("inpay_{}", intent.trim_start_matches("pi_")),
                "object": "invoice_payment",
                "invoice": invoice,
                "is_default": true,
                "payment": {"type": "payment_intent", "payment_intent": intent},
                "status": "paid",
            })
        }
        What::Session(shown) => session(shown, shape),
        What::Charge(shown) => {
            let mut object = json!({
                "id": shown.id,
                "object": "charge",
                "amount": shown.amount,
                "amount_captured": if shown.paid { shown.amount } else { 0 },
                "amount_refunded": shown.refunded,
                "captured": shown.paid,
                "currency": "eur",
                "paid": shown.paid,
                "payment_intent": shown.intent,
                "refunded": shown.refunded == shown.amount,
                "status": if shown.paid { "succeeded" } else { "failed" },
            });
            if shape == Shape::Old {
                object["invoice"] = json!(shown.invoice);
            }
            object
        }
        What::Intent { id, charge, invoice } => {
            let mut object = json!({
                "id": id,
                "object": "payment_intent",
                "latest_charge": charge,
                "status": "succeeded",
            });
            if shape == Shape::Old {
                object["invoice"] = json!(invoice);
            }
            object
        }
        What::Refund(shown) => json!({
            "id": shown.id,
            "object": "refund",
            "amount": shown.amount,
            "charge": shown.charge,
            "currency": "eur",
            "payment_intent": shown.intent,
            "status": shown.status,
        }),
        What::Dispute(shown) => json!({
            "id": shown.id,
            "object": "dispute",
            "amount": shown.amount,
            "charge": shown.charge,
            "currency": "eur",
            "payment_intent": shown.intent,
            "status": shown.status,
        }),
        What::Customer { id } => json!({"id": id, "object": "customer", "email": null, "metadata": {}}),
        What::Price { id, product } => json!({"id": id, "object": "price", "product": product, "metadata": {}}),
        What::Product { id } => json!({"id": id, "object": "product", "name": id, "metadata": {}}),
    };
    data.insert("object".to_owned(), object);
    let body = json!({
        "id": happened.event,
        "object": "event",
        "api_version": shape.version(),
        "created": happened.at,
        "data": data,
        "livemode": true,
        "pending_webhooks": 1,
        "type": happened.kind,
    });
    Some(serde_json::to_vec_pretty(&body).unwrap())
}

fn subscription(shown: &Subscription, shape: Shape) -> Value {
    let mut object = json!({
        "id": shown.id,
        "object": "subscription",
        "cancel_at": shown.cancel_at,
        "cancel_at_period_end": shown.cancel_at_period_end,
        "currency": "eur",
        "customer": shown.customer,
        "ended_at": shown.ended_at,
        "items": items(shown, shape),
        "metadata": shown.metadata,
        "status": shown.status,
        "trial_end": shown.trial_end,
    });
    if shape == Shape::Old {
        object["current_period_start"] = json!(shown.start);
        object["current_period_end"] = json!(shown.end);
    }
    object
}

fn items(shown: &Subscription, shape: Shape) -> Value {
    let data: Vec<_> = shown.items.iter().map(|item| self::item(item, shown, shape)).collect();
    json!({"object": "list", "data": data, "has_more": false})
}

fn item(item: &Item, of: &Subscription, shape: Shape) -> Value {
    let mut object = json!({
        "id": item.id,
        "object": "subscription_item",
        "price": price(item.price),
        "subscription": of.id,
    });
    if let Some(quantity) = item.quantity {
        object["quantity"] = json!(quantity);
    }
    if shape == Shape::New {
        object["current_period_start"] = json!(of.start);
        object["current_period_end"] = json!(of.end);
    }
    object
}

fn price(id: &str) -> Value {
    let price = catalog::price(id);
    json!({
        "id": id,
        "object": "price",
        "currency": "eur",
        "metadata": {},
        "product": price.product,
        "recurring": {"interval": "month", "usage_type": if price.metered { "metered" } else { "licensed" }},
        "unit_amount": price.amount,
    })
}

/// The old values of what changed.
fn previous(before: &Subscription, now: &Subscription, shape: Shape) -> Value {
    let mut previous = Map::new();
    if before.status != now.status {
        previous.insert("status".to_owned(), json!(before.status));
    }
    if before.cancel_at != now.cancel_at {
        previous.insert("cancel_at".to_owned(), json!(before.cancel_at));
    }
    if before.cancel_at_period_end != now.cancel_at_period_end {
        previous.insert("cancel_at_period_end".to_owned(), json!(before.cancel_at_period_end));
    }
    if before.end != now.end && shape == Shape::Old {
        previous.insert("current_period_start".to_owned(), json!(before.start));
        previous.insert("current_period_end".to_owned(), json!(before.end));
    }
    if before.items != now.items || (before.end != now.end && shape == Shape::New) {
        previous.insert("items".to_owned(), items(before, shape));
    }
    let keys = before.metadata.keys().chain(now.metadata.keys());
    let changed = keys.filter(|key| before.metadata.get(*key) != now.metadata.get(*key));
    let metadata: Map<_, _> = changed.map(|key| ((*key).to_owned(), json!(before.metadata.get(key)))).collect();
    if !metadata.is_empty() {
        previous.insert("metadata".to_owned(), Value::Object(metadata));
    }
    Value::Object(previous)
}

fn invoice(shown: &Invoice, shape: Shape) -> Value {
    let paid = shown.is_paid();
    let received = if paid { shown.total.max(0) } else { 0 };
    let lines: Vec<_> = shown.lines.iter().map(|line| self::line(line, shown, shape)).collect();
    let mut object = json!({
        "id": shown.id,
        "object": "invoice",
        "amount_due": shown.total.max(0),
        "amount_paid": received,
        "created": shown.created,
        "currency": "eur",
        "customer": shown.customer,
        "lines": {"object": "list", "data": lines, "has_more": shown.truncated},
        "status": shown.status,
        "status_transitions": {"paid_at": shown.paid_at},
        "total": shown.total,
    });
    match shape {
        Shape::Old => {
            object["amount_paid"] = json!(if shown.out_of_band { 0 } else { received });
            object["charge"] = json!(shown.charge);
            object["paid"] = json!(paid);
            object["paid_out_of_band"] = json!(shown.out_of_band);
            object["payment_intent"] = json!(shown.intent);
            object["subscription"] = json!(shown.subscription);
            if shown.subscription.is_some() {
                object["subscription_details"] = json!({"metadata": shown.metadata});
            }
        }
        Shape::New => {
            object["parent"] = match &shown.subscription {
                Some(subscription) => json!({
                    "type": "subscription_details",
                    "subscription_details": {"metadata": shown.metadata, "subscription": subscription},
                }),
                None => Value::Null,
            };
        }
    }
    object
}

fn line(line: &Line, of: &Invoice, shape: Shape) -> Value {
    let mut object = json!({
        "id": line.id,
        "object": "line_item",
        "amount": line.amount,
        "currency": "eur",
        "period": {"start": line.start, "end": line.end},
        "quantity": line.quantity,
    });
    // A proration is an invoice item in the old shape, and in the new one billed by its subscription item.
    let by_item = line.item.is_some() && !line.proration;
    match shape {
        Shape::Old => {
            object["price"] = price(line.price);
            object["proration"] = json!(line.proration);
            object["subscription"] = json!(of.subscription);
            object["subscription_item"] = json!(line.item);
            object["type"] = json!(if by_item { "subscription" } else { "invoiceitem" });
            if !by_item {
                object["invoice_item"] = json!(line.id.replace("il_", "ii_"));
            }
        }
        Shape::New => {
            object["pricing"] = json!({
                "type": "price_details",
                "price_details": {"price": line.price, "product": catalog::price(line.price).product},
            });
            object["parent"] = match &line.item {
                Some(item) => json!({
                    "type": "subscription_item_details",
                    "subscription_item_details": {
                        "proration": line.proration, "subscription": of.subscription, "subscription_item": item,
                    },
                }),
                None => json!({
                    "type": "invoice_item_details",
                    "invoice_item_details": {"proration": line.proration, "subscription": of.subscription},
                }),
            };
        }
    }
    object
}

fn session(shown: &Session, _shape: Shape) -> Value {
    let mut object = json!({
        "id": shown.id,
        "object": "checkout.session",
        "amount_total": shown.total,
        "currency": "eur",
        "customer": shown.customer,
        "invoice": shown.invoice,
        "metadata": {},
        "mode": shown.mode,
        "payment_intent": shown.intent,
        "payment_status": shown.payment_status,
        "status": shown.status,
        "subscription": shown.subscription,
    });
    if let Some(lines) = &shown.lines {
        let data: Vec<_> = lines.iter().map(session_line).collect();
        object["line_items"] = json!({"object": "list", "data": data, "has_more": false});
    }
    object
}

fn session_line(line: &Line) -> Value {
    json!({
        "id": line.id,
        "object": "item",
        "amount_total": line.amount,
        "price": price(line.price),
        "quantity": line.quantity,
    })
}
