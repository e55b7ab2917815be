//! Quantities, prices and plans.

use keyledger_schemas::settings::Policy;
use serde_json::{Value, json};

use crate::engine::{ABLE, Call};
use crate::stripe::{And, NOV, OCT, invoice_paid, item, line, metered, proration, seen, sub};
use crate::world::{World, entry};

fn october(quantity: u64) -> Vec<u8> {
    invoice_paid("in_1", "2026-10-01", &[line("pro", quantity, 4900, OCT)])
}

fn bought(quantity: u64, created: &str) -> Vec<u8> {
    seen("customer.subscription.updated", created, sub("active", &[item("pro", quantity, OCT)]))
}

async fn one_each() -> World {
    World::with(vec![entry(json!({ "provider": "stub", "product": "pro", "units": "quantity" }))]).await
}

fn unit(number: u32, state: &str) -> String {
    format!("si_pro/{number} {state} 1x until 2026-11-01, expires 2026-11-04")
}

#[tokio::test]
async fn the_quantity_is_that_of_the_newest_snapshot_else_of_the_latest_paid_line() {
    let mut world = World::new().await;
    world.sees([october(2)]).await;
    assert_eq!(world.held(), ["active 2x, expires 2026-11-04"], "the line's");
    world.sees([bought(5, "2026-10-05")]).await;
    assert_eq!(world.held(), ["active 5x, expires 2026-11-04"], "the snapshot's");
    world.sees([bought(3, "2026-10-04")]).await;
    assert_eq!(world.held(), ["active 5x, expires 2026-11-04"], "an older snapshot came late");
    let mut world = World::new().await;
    let renewed = invoice_paid("in_2", "2026-11-01", &[line("pro", 4, 4900, NOV)]);
    let adjusted = invoice_paid("in_3", "2026-11-10", &[proration("pro", 9, 100, NOV)]);
    world.sees([renewed, adjusted, october(2)]).await;
    assert_eq!(world.held(), ["active 4x, expires 2026-12-04"], "the latest line that is no adjustment");
}

#[tokio::test]
async fn quantity_means_seats_by_default() {
    let mut world = World::new().await;
    world.sees([october(5)]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 5x until 2026-11-01, expires 2026-11-04"]);
    world.sees([bought(2, "2026-10-05")]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 2x until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.data("license.seats_changed").await[0]["seats"], 2);
}

#[tokio::test]
async fn seats_may_be_a_number() {
    let mut world = World::with(vec![entry(json!({ "provider": "stub", "product": "pro", "seats": 3 }))]).await;
    world.sees([october(5)]).await;
    assert_eq!(world.held(), ["active 3x, expires 2026-11-04"]);
}

#[tokio::test]
async fn quantity_may_mean_licenses() {
    let mut world = one_each().await;
    world.sees([october(3)]).await;
    assert_eq!(world.licenses().await, [unit(1, "active"), unit(2, "active"), unit(3, "active")]);
}

#[tokio::test]
async fn fewer_suspends_the_highest_numbers_and_more_reinstates_them_before_making_any() {
    let mut world = one_each().await;
    world.sees([october(3), bought(1, "2026-10-05")]).await;
    let stopped = "suspended (QuantityReduced)";
    assert_eq!(world.licenses().await, [unit(1, "active"), unit(2, stopped), unit(3, stopped)]);
    assert_eq!(world.open().await, [""; 0]);
    let calls = world.engine.calls().len();
    world.sees([bought(4, "2026-10-06")]).await;
    assert_eq!(world.licenses().await, [unit(1, "active"), unit(2, "active"), unit(3, "active"), unit(4, "active")]);
    assert_eq!(world.engine.calls()[calls..], [Call::Change, Call::Change, Call::Find, Call::Create]);
}

#[tokio::test]
async fn quantity_zero_owes_nothing_and_suspends() {
    let mut world = World::new().await;
    world.sees([october(2), bought(0, "2026-10-05")]).await;
    let suspended = "si_pro/1 suspended (QuantityReduced) 2x until 2026-11-01, expires 2026-11-04";
    assert_eq!(world.licenses().await, [suspended]);
    assert_eq!(world.open().await, [""; 0]);
    let mut world = World::new().await;
    world.sees([bought(0, "2026-10-01"), october(0)]).await;
    assert_eq!((world.licenses().await.len(), world.open().await.len()), (0, 0));
}

#[tokio::test]
async fn no_engine_is_ever_sent_zero_seats() {
    let mut world = World::new().await;
    world.sees([october(2), bought(0, "2026-10-05"), bought(1, "2026-10-06"), bought(0, "2026-10-07")]).await;
    assert!(world.engine.licenses().iter().all(|made| made.terms.seats > 0), "{:?}", world.held());
    for requested in world.data("license.requested").await {
        assert!(requested["terms"]["seats"].as_u64() > Some(0), "{requested}");
    }
}

#[tokio::test]
async fn an_absent_quantity_is_one() {
    let mut world = World::new().await;
    let absent = item("pro", 1, OCT).and(json!({ "quantity": null }));
    let line = line("pro", 1, 4900, OCT).and(json!({ "quantity": null }));
    world.sees([invoice_paid("in_1", "2026-10-01", &[line])]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
    world.sees([seen("customer.subscription.updated", "2026-10-02", sub("active", &[absent]))]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
}

fn usage() -> [Vec<u8>; 2] {
    let snapshot = sub("active", &[item("pro", 1, OCT), metered("calls", OCT)]);
    [
        seen("customer.subscription.created", "2026-10-01", snapshot),
        invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT), line("calls", 5000, 800, OCT)]),
    ]
}

#[tokio::test]
async fn a_metered_item_opens_nothing() {
    let mut world = World::new().await;
    world.sees(usage()).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.open().await, [""; 0]);
    let dropped = sub("active", &[item("pro", 1, OCT)]);
    world.sees([seen("customer.subscription.updated", "2026-10-05", dropped)]).await;
    assert_eq!(world.licenses().await.len(), 1, "nor when it is no longer subscribed to");
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_metered_item_mapped_with_fixed_seats_opens_a_unit() {
    let mapped = entry(json!({ "price": "price_calls", "provider": "stub", "product": "pro", "seats": 2 }));
    let mut world = World::with(vec![mapped]).await;
    world.sees(usage()).await;
    assert_eq!(world.licenses().await, ["si_calls/1 active 2x until 2026-11-01, expires 2026-11-04"]);
}

fn plans(other: Value) -> Vec<keyledger_schemas::settings::CatalogEntry> {
    let pro = entry(json!({ "price": "price_pro", "provider": "stub", "product": "pro", "features": ["basic"] }));
    vec![pro, entry(json!({ "price": "price_max" }).and(other))]
}

/// The item `si_pro` at another price.
fn moved(created: &str) -> Vec<u8> {
    let price = json!({ "id": "price_max", "product": "prod_max" });
    let item = item("pro", 1, OCT).and(json!({ "price": price }));
    seen("customer.subscription.updated", created, sub("active", &[item]))
}

#[tokio::test]
async fn a_new_price_of_the_same_product_is_changed_in_place() {
    let catalog = plans(json!({ "provider": "stub", "product": "pro", "features": ["all"], "seats": 10 }));
    let mut world = World::of(Policy::default(), catalog, ABLE).await;
    world.sees([october(1)]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x +basic until 2026-11-01, expires 2026-11-04"]);
    world.sees([moved("2026-10-05")]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 10x +all until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.held().len(), 1);
}

#[tokio::test]
async fn another_product_is_the_next_generation_and_then_the_old_one_is_revoked() {
    let mut world = World::of(Policy::default(), plans(json!({ "provider": "stub", "product": "max" })), ABLE).await;
    world.sees([october(1)]).await;
    let calls = world.engine.calls().len();
    world.sees([moved("2026-10-05")]).await;
    assert_eq!(
        world.licenses().await,
        [
            "si_pro/1 revoked (Replaced) 1x +basic until 2026-11-01, expires 2026-11-04",
            "si_pro/1#2 active 1x until 2026-11-01, expires 2026-11-04 at stub/max",
        ]
    );
    assert_eq!(world.engine.calls()[calls..], [Call::Find, Call::Create, Call::Change], "made before it is revoked");
}

#[tokio::test]
async fn another_engine_is_the_next_generation_too() {
    let mut world = World::of(Policy::default(), plans(json!({ "provider": "other", "product": "pro" })), ABLE).await;
    let other = crate::engine::Engine::new("other", ABLE);
    world.bench.engines.push(std::sync::Arc::new(other.clone()));
    world.bench.restart().await;
    world.sees([october(1), moved("2026-10-05")]).await;
    assert_eq!(
        world.licenses().await,
        [
            "si_pro/1 revoked (Replaced) 1x +basic until 2026-11-01, expires 2026-11-04",
            "si_pro/1#2 active 1x until 2026-11-01, expires 2026-11-04 at other/pro",
        ]
    );
    assert_eq!((world.held().len(), other.licenses().len()), (1, 1));
}

#[tokio::test]
async fn an_issued_unit_keeps_its_mapping_when_the_catalog_changes() {
    let mut world = World::new().await;
    world.sees([october(2)]).await;
    let other = json!({ "provider": "stub", "product": "different", "seats": 9, "grace": "30d" });
    world.configured(|settings| settings.catalog = vec![entry(other)]).await;
    world.sees([invoice_paid("in_2", "2026-11-01", &[line("pro", 2, 4900, NOV)])]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 2x until 2026-12-01, expires 2026-12-04"]);
}
