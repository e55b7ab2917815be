//! Subscriptions.

use serde_json::Value;

use super::event::Event;
use super::previous::previous;
use super::price::{is_metered, price_of};
use crate::ids::SubscriptionItemId;
use crate::stripe::fact::{Fact, SubscriptionItem, SubscriptionSeen};
use crate::stripe::value::{count, first_id, flag, id, list, metadata, time, word};

/// A subscription event.
pub(super) fn read(event: &Event<'_>) -> Vec<Fact> {
    let object = event.object;
    let Some(id) = id(object) else { return Vec::new() };
    let (items, items_truncated) = items(object);
    let seen = SubscriptionSeen {
        seen: event.seen(),
        id,
        customer: first_id(&[&object["customer"], &object["customer_account"]]),
        status: word(&object["status"]),
        previous: previous(event.previous, object, &items),
        items,
        items_truncated,
        metadata: metadata(&object["metadata"]),
        cancel_at: time(&object["cancel_at"]),
        cancel_at_period_end: flag(&object["cancel_at_period_end"]),
        ended_at: time(&object["ended_at"]),
        trial_end: time(&object["trial_end"]),
    };
    vec![Fact::SubscriptionSeen(seen)]
}

/// What is subscribed to. Before items existed (2016), the subscription itself had one plan and a quantity.
fn items(object: &Value) -> (Vec<SubscriptionItem>, bool) {
    let (listed, truncated) = list(&object["items"]);
    if listed.is_empty() && !truncated {
        return (item(object, object, None).into_iter().collect(), false);
    }
    // Live payloads repeat the quantity of a lone item on the subscription.
    let lone_quantity = count(&object["quantity"]).filter(|_| listed.len() == 1 && !truncated);
    (listed.iter().filter_map(|listed| item(listed, object, lone_quantity)).collect(), truncated)
}

/// The item in `holder`; its period is on the item since basil, and was on the subscription before.
fn item(holder: &Value, subscription: &Value, lone_quantity: Option<u64>) -> Option<SubscriptionItem> {
    if flag(&holder["deleted"]) {
        return None;
    }
    let price = price_of(holder);
    let own_id = if std::ptr::eq(holder, subscription) { None } else { id::<SubscriptionItemId>(holder) };
    let id = own_id.or_else(|| price.as_ref().map(|price| SubscriptionItemId::from(price.id.as_str())))?;
    let metered = is_metered(holder);
    Some(SubscriptionItem {
        id,
        price,
        quantity: count(&holder["quantity"]).or(lone_quantity.filter(|_| !metered)),
        metered,
        period_start: time(&holder["current_period_start"]).or_else(|| time(&subscription["current_period_start"])),
        period_end: time(&holder["current_period_end"]).or_else(|| time(&subscription["current_period_end"])),
    })
}
