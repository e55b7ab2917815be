//! Prices (and plans, as they were called) and products.

use super::event::Event;
use crate::stripe::fact::{Fact, PriceSeen, ProductSeen};
use crate::stripe::value::{id, metadata, text};

/// A price or plan event. Until 2018 a plan had a `name` and no product.
pub(super) fn read_price(event: &Event<'_>) -> Vec<Fact> {
    let object = event.object;
    let Some(price) = id(object) else { return Vec::new() };
    let seen = PriceSeen {
        seen: event.seen(),
        id: price,
        product: id(&object["product"]),
        metadata: metadata(&object["metadata"]),
        nickname: text(&object["nickname"]).or_else(|| text(&object["name"])),
        deleted: event.deletes(),
    };
    vec![Fact::PriceSeen(seen)]
}

/// A product event.
pub(super) fn read_product(event: &Event<'_>) -> Vec<Fact> {
    let object = event.object;
    let Some(id) = id(object) else { return Vec::new() };
    let seen = ProductSeen {
        seen: event.seen(),
        id,
        metadata: metadata(&object["metadata"]),
        name: text(&object["name"]),
        deleted: event.deletes(),
    };
    vec![Fact::ProductSeen(seen)]
}
