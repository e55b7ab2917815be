//! The old values that a subscription event names.
//!
//! Renderings differ in where they put them: before basil a renewal changed the subscription's
//! `current_period_end`, since then the items', which are repeated whole. Both come out as items here.

use jiff::Timestamp;
use serde_json::Value;

use crate::ids::{PriceId, SubscriptionItemId};
use crate::stripe::fact::{PreviousItem, PreviousSubscription, SubscriptionItem};
use crate::stripe::value::{count, id, metadata_key, metadata_value, time, word};

/// What `previous_attributes` says of a subscription that shows `items` now.
pub(super) fn previous(previous: &Value, object: &Value, items: &[SubscriptionItem]) -> PreviousSubscription {
    let metadata = previous["metadata"].as_object().into_iter().flatten();
    PreviousSubscription {
        status: previous["status"].is_string().then(|| word(&previous["status"])),
        cancel_at_period_end: previous["cancel_at_period_end"].as_bool(),
        cancel_at: previous.get("cancel_at").and_then(time_or_null),
        items: previous_items(previous, object, items),
        metadata: metadata.filter_map(|(key, old)| Some((metadata_key(key)?, text_or_null(old)?))).collect(),
    }
}

#[expect(clippy::option_option, reason = "null and unreadable are different answers")]
fn time_or_null(value: &Value) -> Option<Option<Timestamp>> {
    if value.is_null() { Some(None) } else { time(value).map(Some) }
}

#[expect(clippy::option_option, reason = "null and unreadable are different answers")]
fn text_or_null(value: &Value) -> Option<Option<String>> {
    if value.is_null() { Some(None) } else { metadata_value(value).map(Some) }
}

/// The items before: as listed, else the items now with the old period, plan and quantity of the subscription.
fn previous_items(previous: &Value, object: &Value, items: &[SubscriptionItem]) -> Option<Vec<PreviousItem>> {
    let period_end = time(&previous["current_period_end"]);
    if let Some(listed) = previous["items"]["data"].as_array() {
        // Items without a period of their own had the subscription's, which did not change unless the event says so.
        let fallback = period_end.or_else(|| time(&object["current_period_end"]));
        return Some(listed.iter().filter_map(|listed| listed_item(listed, fallback)).collect());
    }
    // The subscription's own plan and quantity speak of an item only where there is just one.
    let lone = items.len() == 1;
    let plan = id::<PriceId>(&previous["plan"]).filter(|_| lone);
    let quantity = count(&previous["quantity"]).filter(|_| lone);
    if period_end.is_none() && plan.is_none() && quantity.is_none() {
        return None;
    }
    Some(items.iter().map(|item| changed_item(item, plan.as_ref(), quantity, period_end)).collect())
}

fn listed_item(listed: &Value, period_end: Option<Timestamp>) -> Option<PreviousItem> {
    let price: Option<PriceId> = id(&listed["price"]).or_else(|| id(&listed["plan"]));
    let named = price.as_ref().map(|price| SubscriptionItemId::from(price.as_str()));
    Some(PreviousItem {
        id: id(listed).or(named)?,
        price,
        quantity: count(&listed["quantity"]),
        period_end: time(&listed["current_period_end"]).or(period_end),
    })
}

fn changed_item(
    now: &SubscriptionItem,
    plan: Option<&PriceId>,
    quantity: Option<u64>,
    period_end: Option<Timestamp>,
) -> PreviousItem {
    let price_now = now.price.as_ref().map(|price| &price.id);
    // Before items existed, the plan's id is the item's.
    let named_by_plan = price_now.is_some_and(|price| price.as_str() == now.id.as_str());
    let id = plan.filter(|_| named_by_plan).map_or_else(|| now.id.clone(), |plan| plan.as_str().into());
    PreviousItem {
        id,
        price: plan.or(price_now).cloned(),
        quantity: quantity.or(now.quantity),
        period_end: period_end.or(now.period_end),
    }
}
