//! Add-ons, what the catalog skips, and releases.

use keyledger_schemas::settings::{CatalogEntry, Policy};
use serde_json::json;

use crate::engine::ABLE;
use crate::stripe::{And, NOV, OCT, extra, invoice_paid, item, line, metered, payment_of, refund, seen, sub};
use crate::world::{World, entry};

fn catalog() -> Vec<CatalogEntry> {
    vec![
        entry(json!({ "price": "price_seats", "provider": "stub", "addon_of": "pro", "seats": "quantity" })),
        entry(json!({ "price": "price_export", "provider": "stub", "addon_of": "pro", "features": ["export"] })),
        entry(json!({ "price": "price_support", "skip": true })),
        entry(json!({ "provider": "stub", "product": "pro", "features": ["base"] })),
    ]
}

fn subscribed(created: &str, items: &[serde_json::Value]) -> Vec<u8> {
    seen("customer.subscription.updated", created, sub("active", items))
}

fn base() -> serde_json::Value {
    line("pro", 1, 4900, OCT)
}

#[tokio::test]
async fn an_add_on_gives_its_features_and_seats_to_the_license_it_belongs_to() {
    let mut world = World::with(catalog()).await;
    world
        .sees([invoice_paid("in_1", "2026-10-01", &[base(), line("seats", 4, 400, OCT), line("export", 1, 900, OCT)])])
        .await;
    assert_eq!(
        world.licenses().await,
        ["si_pro/1 active 5x +base +export until 2026-11-01, expires 2026-11-04"],
        "one license, no unit for an add-on"
    );
    assert_eq!(world.open().await, [""; 0]);
    assert_eq!(world.data("obligation.opened").await.len(), 1);
}

#[tokio::test]
async fn an_add_on_gives_to_every_license_of_its_kind() {
    let catalog = vec![
        entry(json!({ "price": "price_export", "provider": "stub", "addon_of": "pro", "features": ["export"] })),
        entry(json!({ "price": "price_other", "provider": "stub", "product": "other" })),
        entry(json!({ "provider": "stub", "product": "pro", "units": "quantity" })),
    ];
    let mut world = World::with(catalog).await;
    let lines = [line("pro", 2, 9800, OCT), line("other", 1, 100, OCT), line("export", 1, 900, OCT)];
    world.sees([invoice_paid("in_1", "2026-10-01", &lines)]).await;
    assert_eq!(
        world.licenses().await,
        [
            "si_other/1 active 1x until 2026-11-01, expires 2026-11-04 at stub/other",
            "si_pro/1 active 1x +export until 2026-11-01, expires 2026-11-04",
            "si_pro/2 active 1x +export until 2026-11-01, expires 2026-11-04",
        ]
    );
}

#[tokio::test]
async fn an_add_on_that_is_bought_later_or_given_up_changes_the_license() {
    let mut world = World::with(catalog()).await;
    world.sees([invoice_paid("in_1", "2026-10-01", &[base()])]).await;
    let both = [item("pro", 1, OCT), item("seats", 3, OCT)];
    world.sees([subscribed("2026-10-05", &both)]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"], "not paid yet");
    world.sees([invoice_paid("in_2", "2026-10-05", &[line("seats", 3, 300, OCT)])]).await;
    assert_eq!(world.held(), ["active 4x, expires 2026-11-04"]);
    world.sees([subscribed("2026-10-06", &[item("pro", 1, OCT), item("seats", 1, OCT)])]).await;
    assert_eq!(world.held(), ["active 2x, expires 2026-11-04"]);
    world.sees([subscribed("2026-10-07", &[item("pro", 1, OCT), item("seats", 0, OCT)])]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
    world.sees([subscribed("2026-10-08", &both)]).await;
    world.sees([subscribed("2026-10-09", &[item("pro", 1, OCT)])]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"], "it is no item of the subscription any more");
}

#[tokio::test]
async fn an_add_on_whose_money_went_back_gives_nothing() {
    let mut world = World::with(catalog()).await;
    world
        .sees([
            invoice_paid("in_1", "2026-10-01", &[base()]),
            invoice_paid("in_2", "2026-10-05", &[line("seats", 3, 300, OCT)]),
            payment_of("in_2", "pi_2", "2026-10-05"),
        ])
        .await;
    assert_eq!(world.held(), ["active 4x, expires 2026-11-04"]);
    world.sees([refund("re_1", "pi_2", 300, "succeeded", "2026-10-06")]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
}

#[tokio::test]
async fn an_add_on_is_in_effect_in_whatever_order_it_arrives() {
    let bodies = [
        invoice_paid("in_2", "2026-10-05", &[line("seats", 3, 300, OCT)]),
        subscribed("2026-10-05", &[item("pro", 1, OCT), item("seats", 3, OCT)]),
        invoice_paid("in_1", "2026-10-01", &[base()]),
    ];
    let mut world = World::with(catalog()).await;
    world.sees(bodies).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 4x +base until 2026-11-01, expires 2026-11-04"]);
}

#[tokio::test]
async fn an_add_on_without_what_it_belongs_to_makes_nothing() {
    let mut world = World::with(catalog()).await;
    world.sees([invoice_paid("in_1", "2026-10-01", &[line("export", 1, 900, OCT)])]).await;
    assert_eq!((world.licenses().await.len(), world.open().await.len()), (0, 0));
    assert!(world.engine.calls().is_empty());
}

#[tokio::test]
async fn an_add_on_that_is_bought_once_stays() {
    let mut world = World::with(catalog()).await;
    world.sees([invoice_paid("in_1", "2026-10-01", &[base(), extra("export", 1, 900)])]).await;
    world.sees([invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)])]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x +base +export until 2026-12-01, expires 2026-12-04"]);
}

#[tokio::test]
async fn a_metered_add_on_counts_only_with_a_number_of_seats() {
    for (seats, held) in [(json!("quantity"), 1), (json!(5), 6)] {
        let metered_price =
            entry(json!({ "price": "price_calls", "provider": "stub", "addon_of": "pro", "seats": seats }));
        let mut world = World::with([vec![metered_price], catalog()].concat()).await;
        let items = [item("pro", 1, OCT), metered("calls", OCT).and(json!({ "quantity": 7 }))];
        world.sees([subscribed("2026-10-01", &items)]).await;
        world.sees([invoice_paid("in_1", "2026-10-01", &[base(), line("calls", 7, 70, OCT)])]).await;
        assert_eq!(world.held(), [format!("active {held}x, expires 2026-11-04")], "{seats}");
    }
}

#[tokio::test]
async fn what_the_catalog_skips_is_owed_nothing() {
    let mut world = World::with(catalog()).await;
    world.sees([invoice_paid("in_1", "2026-10-01", &[base(), line("support", 1, 9900, OCT)])]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x +base until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.open().await, [""; 0]);
    assert_eq!(world.data("obligation.opened").await.len(), 1);
}

#[tokio::test]
async fn what_is_skipped_from_now_on_keeps_the_license_it_has() {
    let mut world = World::new().await;
    world.sees([invoice_paid("in_1", "2026-10-01", &[base()])]).await;
    world.configured(|settings| settings.catalog = vec![entry(json!({ "price": "price_pro", "skip": true }))]).await;
    world.sees([invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)])]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-12-01, expires 2026-12-04"]);
}

#[tokio::test]
async fn the_greatest_release_is_sent_with_the_license_and_with_another_plan() {
    let catalog = vec![
        entry(json!({ "price": "price_two", "provider": "stub", "product": "pro", "max_release": "2.9" })),
        entry(json!({ "provider": "stub", "product": "pro", "max_release": "1.9" })),
    ];
    let mut world = World::of(Policy::default(), catalog, ABLE).await;
    world.sees([invoice_paid("in_1", "2026-10-01", &[base()])]).await;
    assert_eq!(world.engine.licenses()[0].terms.max_release.as_deref(), Some("1.9"));
    let two = item("pro", 1, OCT).and(json!({ "price": { "id": "price_two", "product": "prod_pro" } }));
    world.sees([subscribed("2026-10-05", &[two])]).await;
    assert_eq!(world.engine.licenses()[0].terms.max_release.as_deref(), Some("2.9"));
    assert_eq!(world.held().len(), 1);
}
