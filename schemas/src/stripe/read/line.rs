//! The lines of an invoice.

use serde_json::Value;

use super::price::{is_metered, price_of};
use crate::ids::{LineId, SubscriptionId};
use crate::stripe::fact::{InvoiceLine, LineKind};
use crate::stripe::value::{amount, count, first_id, id, numbered, time};

/// The line `index` (from 0) of an invoice.
pub(super) fn read(line: &Value, index: usize) -> InvoiceLine {
    let item =
        first_id(&[&line["parent"]["subscription_item_details"]["subscription_item"], &line["subscription_item"]]);
    let proration = is_proration(line);
    InvoiceLine {
        id: line_id(line).unwrap_or_else(|| numbered(index)),
        kind: if item.is_some() || bills_subscription(line, proration) {
            LineKind::Subscription
        } else {
            LineKind::InvoiceItem
        },
        item,
        price: price_of(line),
        amount_minor: amount(&line["amount"]),
        quantity: count(&line["quantity"]),
        period_start: time(&line["period"]["start"]),
        period_end: time(&line["period"]["end"]),
        proration,
        metered: is_metered(line),
    }
}

/// The subscription a line says it bills: in `parent` since basil, on the line before; in 2016 it was the line's id.
pub(super) fn subscription(line: &Value) -> Option<SubscriptionId> {
    let parent = &line["parent"];
    first_id(&[
        &parent["subscription_item_details"]["subscription"],
        &parent["invoice_item_details"]["subscription"],
        &line["subscription"],
    ])
    .or_else(|| id(&line["id"]).filter(|id: &SubscriptionId| id.as_str().starts_with("sub_")))
}

/// From 2018 to 2019 `id` still named another object, and `unique_id` was what `id` is now.
fn line_id(line: &Value) -> Option<LineId> {
    first_id(&[&line["unique_id"], &line["id"]])
}

fn is_proration(line: &Value) -> bool {
    let parent = &line["parent"];
    let places = [&parent["subscription_item_details"], &parent["invoice_item_details"], line];
    places.iter().find_map(|place| place["proration"].as_bool()).unwrap_or(false)
}

/// Whether a line without a subscription item bills a subscription all the same. An invoice item that merely rides
/// on a subscription's invoice (a set-up fee) does not; the proration of a subscription does, although it is one.
fn bills_subscription(line: &Value, proration: bool) -> bool {
    let alone = line["parent"]["type"] == "invoice_item_details" || line["type"] == "invoiceitem";
    let named = line["parent"]["type"] == "subscription_item_details" || line["type"] == "subscription";
    named || (subscription(line).is_some() && (proration || !alone))
}
