//! What a sale means, and what other systems left behind.

use keyledger_schemas::settings::{CatalogEntry, Policy};
use serde_json::{Value, json};

use crate::engine::ABLE;
use crate::stripe::{And, NOV, OCT, customer, invoice_paid, item, line, metered, paid, seen, session, sub};
use crate::world::{World, entry, everything};

fn october() -> Vec<u8> {
    invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)])
}

#[expect(clippy::needless_pass_by_value, reason = "its callers read better")]
fn subscribed(metadata: Value) -> Vec<u8> {
    let snapshot = sub("active", &[item("pro", 1, OCT)]).and(json!({ "metadata": metadata }));
    seen("customer.subscription.updated", "2026-10-01", snapshot)
}

#[expect(clippy::needless_pass_by_value, reason = "its callers read better")]
fn price(metadata: Value) -> Vec<u8> {
    let price = json!({ "id": "price_pro", "object": "price", "product": "prod_pro", "metadata": metadata });
    seen("price.updated", "2026-10-01", price)
}

#[expect(clippy::needless_pass_by_value, reason = "its callers read better")]
fn product(metadata: Value) -> Vec<u8> {
    seen("product.updated", "2026-10-01", json!({ "id": "prod_pro", "object": "product", "metadata": metadata }))
}

/// Its session names another sale of the same subscription.
#[expect(clippy::needless_pass_by_value, reason = "its callers read better")]
fn checkout(metadata: Value) -> Vec<u8> {
    let session = session("subscription", "paid", 4900);
    let session = session.and(json!({ "subscription": "sub_1", "invoice": "in_1", "metadata": metadata }));
    seen("checkout.session.completed", "2026-10-01", session)
}

fn catalog() -> Vec<CatalogEntry> {
    vec![
        entry(json!({ "provider": "stub", "product": "by default" })),
        entry(json!({ "stripe_product": "prod_pro", "provider": "stub", "product": "by product" })),
        entry(json!({ "price": "price_pro", "provider": "stub", "product": "by price" })),
    ]
}

/// What was asked of which engine for the first license.
async fn meant(world: &World) -> String {
    let requested = &world.data("license.requested").await[0];
    let mapping = &requested["mapping"];
    format!("{} {}", mapping["provider"].as_str().unwrap(), mapping["product"].as_str().unwrap())
}

#[tokio::test]
async fn metadata_says_what_a_sale_means_session_first_then_subscription_price_and_product() {
    let named = |id: u32| json!({ "skm_product_id": id.to_string() });
    let bodies = [checkout(named(1)), subscribed(named(2)), price(named(3)), product(named(4))];
    for (skip, expected) in [(0, "cryptolens 1"), (1, "cryptolens 2"), (2, "cryptolens 3"), (3, "cryptolens 4")] {
        let mut world = World::with(catalog()).await;
        world.configured(|settings| settings.providers.extend(["cryptolens".into()])).await;
        world.sees_at_once(bodies[skip..].iter().cloned().chain([october()])).await;
        assert_eq!(meant(&world).await, expected);
    }
}

#[tokio::test]
async fn every_metadata_key_of_the_two_vendors_is_understood() {
    for (metadata, expected) in [
        (json!({ "skm_product_id": "3349" }), "cryptolens 3349"),
        (json!({ "skm": "{\"ProductId\": 3349, \"F1\": true}" }), "cryptolens 3349"),
        (json!({ "CRYPTLEX_PRODUCT_ID": "0197", "CRYPTLEX_LICENSE_TEMPLATE": "t" }), "cryptlex 0197"),
        (json!({ "CRYPTLEX_PRODUCT_ID": "0197", "CRYPTLEX_ENTITLEMENT_SET_ID": "e" }), "cryptlex 0197"),
    ] {
        let mut world = World::with(catalog()).await;
        world.configured(|settings| settings.providers.extend(["cryptolens".into(), "cryptlex".into()])).await;
        let buyer = customer("cus_1", Some("a@example.com"), None, "2026-10-01");
        world.sees_at_once([buyer, subscribed(metadata.clone()), october()]).await;
        assert_eq!(meant(&world).await, expected, "{metadata}");
    }
}

#[tokio::test]
async fn after_metadata_the_catalog_says_it_by_price_then_by_product_then_by_default() {
    for (entries, expected) in [(3, "stub by price"), (2, "stub by product"), (1, "stub by default")] {
        let mut world = World::with(catalog()[..entries].to_vec()).await;
        world.sees([october()]).await;
        assert_eq!(meant(&world).await, expected);
    }
}

#[tokio::test]
async fn metadata_of_an_engine_that_is_not_configured_is_passed_over() {
    let mut world = World::with(catalog()).await;
    world
        .sees_at_once([subscribed(json!({ "skm_product_id": "3349", "CRYPTLEX_PRODUCT_ID": "0197" })), october()])
        .await;
    assert_eq!(meant(&world).await, "stub by price");
}

#[tokio::test]
async fn a_sale_that_nothing_maps_is_no_key_until_a_mapping_exists_and_then_heals_by_itself() {
    let mut world = World::with(Vec::new()).await;
    world.sees([october()]).await;
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    assert!(world.engine.calls().is_empty());
    world.configured(|settings| settings.catalog = everything()).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_sale_that_nothing_maps_heals_when_stripes_catalogue_says_more() {
    let by_product = entry(json!({ "stripe_product": "prod_new", "provider": "stub", "product": "pro" }));
    let mut world = World::with(vec![by_product]).await;
    let bare = json!({ "pricing": { "price_details": { "price": "price_pro" } } });
    world.sees([invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT).and(bare)])]).await;
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    let price = json!({ "id": "price_pro", "object": "price", "product": "prod_new", "metadata": {} });
    world.sees([seen("price.updated", "2026-10-01", price)]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
}

#[tokio::test]
async fn metadata_that_cannot_be_used_keeps_the_unit_open() {
    let mut world = World::with(catalog()).await;
    world.configured(|settings| settings.providers.extend(["cryptolens".into()])).await;
    world.sees_at_once([subscribed(json!({ "skm_product_id": "not a number" })), october()]).await;
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    assert!(world.data("license.requested").await.is_empty(), "never the default instead");
}

#[tokio::test]
async fn a_mark_of_another_system_never_blocks_issuing() {
    let mut world = World::new().await;
    world.sees_at_once([subscribed(json!({ "skm_temp_var": "1" })), october()]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_mark_of_another_system_waits_for_a_person_where_the_policy_says_case() {
    let mut world = World::under(json!({ "left_by_other_system": "case" })).await;
    world.sees_at_once([subscribed(json!({ "skm_temp_var": "1" })), october()]).await;
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    assert!(world.engine.calls().is_empty());
    world.engine.left("lic_by_hand", "pro", "");
    world.attaches("sub_1/si_pro/1", "stub", "lic_by_hand").await;
    assert_eq!(world.open().await, [""; 0]);
}

const ADOPTED: &str = "si_pro/1 active 1x until 2026-11-01, expires 2026-11-04 at cryptolens/";

#[tokio::test]
async fn a_key_that_another_system_wrote_into_the_subscription_is_adopted_without_calls() {
    for key in ["skm_key_id", "skm_key_globalid"] {
        let mut world = World::new().await;
        world.sees_at_once([subscribed(json!({ key: "90210" })), october()]).await;
        assert_eq!(world.licenses().await, [ADOPTED], "{key}");
        assert_eq!(world.data("license.adopted").await[0]["provider_id"], "90210");
        assert!(world.engine.calls().is_empty());
        assert_eq!(world.open().await, [""; 0]);
    }
}

#[tokio::test]
async fn an_adopted_key_follows_renewals_without_calls() {
    let mut world = World::new().await;
    world.sees_at_once([subscribed(json!({ "skm_key_id": "90210" })), october()]).await;
    world.sees([invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)])]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-12-01, expires 2026-12-04 at cryptolens/"]);
    assert!(world.engine.calls().is_empty());
}

#[tokio::test]
async fn an_adopted_key_meets_a_price_that_is_mapped_nowhere() {
    let mut world = World::of(Policy::default(), Vec::new(), ABLE).await;
    let three = paid("in_1", "2026-10-01", &[line("pro", 3, 4900, OCT)]);
    let metadata = json!({ "subscription_details": { "subscription": "sub_1", "metadata": { "skm_key_id": "1" } } });
    let three = three.and(json!({ "parent": metadata }));
    world.sees([seen("invoice.paid", "2026-10-01", three)]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 3x until 2026-11-01, expires 2026-11-04 at cryptolens/"]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn only_the_first_licensed_item_gets_the_key_that_was_left() {
    let mut world = World::new().await;
    // `si_calls` comes first by name, but usage has no license.
    let snapshot = sub("active", &[metered("calls", OCT), item("pro", 1, OCT), item("zed", 1, OCT)]);
    let snapshot = snapshot.and(json!({ "metadata": { "skm_key_id": "90210" } }));
    let lines = [line("calls", 900, 100, OCT), line("pro", 1, 4900, OCT), line("zed", 1, 900, OCT)];
    world
        .sees_at_once([
            seen("customer.subscription.created", "2026-10-01", snapshot),
            invoice_paid("in_1", "2026-10-01", &lines),
        ])
        .await;
    assert_eq!(
        world.licenses().await,
        [ADOPTED.to_owned(), "si_zed/1 active 1x until 2026-11-01, expires 2026-11-04".to_owned()]
    );
}

#[tokio::test]
async fn a_key_that_another_system_wrote_beside_ours_is_surplus() {
    let mut world = World::new().await;
    world.sees([october(), subscribed(json!({ "skm_key_id": "90210" }))]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
    let surplus = world.data("license.surplus_found").await;
    assert_eq!(surplus.len(), 1);
    assert_eq!(surplus[0]["provider_id"], "90210");
    world.sees([subscribed(json!({ "skm_key_id": "90210", "more": "" }))]).await;
    assert_eq!(world.data("license.surplus_found").await.len(), 1, "said once");
}

#[tokio::test]
async fn the_id_of_our_own_license_in_the_metadata_is_no_surplus() {
    let mut world = World::new().await;
    world.sees([october(), subscribed(json!({ "skm_key_id": "lic_1" }))]).await;
    assert!(world.data("license.surplus_found").await.is_empty());
}

#[tokio::test]
async fn a_person_may_attach_a_license_where_nothing_is_mapped() {
    let mut world = World::with(Vec::new()).await;
    world.sees([october()]).await;
    world.attaches("sub_1/si_pro/1", "cryptolens", "777").await;
    assert_eq!(world.licenses().await, [ADOPTED]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_person_may_waive_until_more_is_paid() {
    let mut world = World::with(Vec::new()).await;
    world.sees([october()]).await;
    world.waives("sub_1/si_pro/1", Some("2026-11-01")).await;
    assert_eq!(world.open().await, [""; 0]);
    world.sees([invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)])]).await;
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    world.waives("sub_1/si_pro/1", None).await;
    world.configured(|settings| settings.catalog = everything()).await;
    assert_eq!((world.open().await.len(), world.licenses().await.len()), (0, 0), "for ever");
}
