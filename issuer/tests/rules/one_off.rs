//! Sales that are no subscription.

use keyledger_schemas::settings::Policy;
use serde_json::json;

use crate::engine::ABLE;
use crate::stripe::{And, extra, lone_invoice, payment_of, seen, session, sold};
use crate::world::{World, entry};

fn sale() -> Vec<u8> {
    seen("checkout.session.completed", "2026-10-01", session("payment", "paid", 4900))
}

#[tokio::test]
async fn a_one_off_sale_is_for_ever_unless_the_mapping_gives_a_term() {
    let mut world = World::new().await;
    world.sees([sale()]).await;
    assert_eq!(world.licenses().await, ["0/1 active 1x until never, expires never"]);
    assert_eq!(world.due().await["cs_1"], None);
    let yearly = entry(json!({ "provider": "stub", "product": "pro", "term": "P1Y" }));
    let mut world = World::with(vec![yearly]).await;
    world.sees([sale()]).await;
    assert_eq!(world.licenses().await, ["0/1 active 1x until 2027-10-01, expires 2027-10-04"]);
}

#[tokio::test]
async fn a_sale_whose_lines_are_unknown_is_what_the_sessions_metadata_says_else_the_default_entry() {
    let by_metadata = session("payment", "paid", 4900).and(json!({ "metadata": { "skm_product_id": "3349" } }));
    let mut world = World::new().await;
    world.configured(|settings| settings.providers.extend(["cryptolens".into()])).await;
    world.sees([seen("checkout.session.completed", "2026-10-01", by_metadata)]).await;
    assert_eq!(world.open().await, ["no_key cs_1/0/1"], "that engine is not there in this test");
    let requested = world.data("license.requested").await;
    assert_eq!(requested[0]["mapping"]["provider"], "cryptolens");
    assert_eq!(requested[0]["mapping"]["product"], "3349");

    let mut world = World::new().await;
    world.sees([sale()]).await;
    assert_eq!(world.licenses().await.len(), 1);
}

#[tokio::test]
async fn a_sale_of_which_nothing_says_what_it_was_is_no_key() {
    let only_a_price = entry(json!({ "price": "price_a", "provider": "stub", "product": "pro" }));
    let mut world = World::of(Policy::default(), vec![only_a_price], ABLE).await;
    world.sees([sale()]).await;
    assert_eq!(world.open().await, ["no_key cs_1/0/1"]);
    assert!(world.engine.calls().is_empty());
}

/// The same session, fetched later with its lines.
fn fetched(lines: &[serde_json::Value]) -> Vec<u8> {
    let lines = json!({ "line_items": { "data": lines, "has_more": false } });
    seen("checkout.session.completed", "2026-10-02", session("payment", "paid", 4900).and(lines))
}

#[tokio::test]
async fn lines_fetched_later_open_new_units() {
    let mut world = World::new().await;
    world.sees([sale(), fetched(&[sold("a", 1, 2900), sold("b", 2, 2000)])]).await;
    assert_eq!(
        world.licenses().await,
        ["0/1 active 1x until never, expires never", "1/1 active 2x until never, expires never"]
    );
    assert_eq!(world.engine.licenses().len(), 2);
}

#[tokio::test]
async fn lines_fetched_later_fill_in_what_was_unmapped() {
    let only_a_price = entry(json!({ "price": "price_a", "provider": "stub", "product": "pro" }));
    let mut world = World::with(vec![only_a_price]).await;
    world.sees([sale()]).await;
    assert_eq!(world.open().await, ["no_key cs_1/0/1"]);
    world.sees([fetched(&[sold("a", 3, 4900)])]).await;
    assert_eq!(world.licenses().await, ["0/1 active 3x until never, expires never"]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_session_and_its_invoice_are_one_sale_in_whatever_order_they_come() {
    let bodies = || {
        let with_invoice = session("payment", "paid", 4900).and(json!({ "payment_intent": "pi_1", "invoice": "in_1" }));
        vec![
            seen("checkout.session.completed", "2026-10-01", with_invoice),
            seen("invoice.paid", "2026-10-01", lone_invoice("in_1", "2026-10-01", &[extra("pro", 2, 4900)])),
            payment_of("in_1", "pi_1", "2026-10-01"),
        ]
    };
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut world = World::new().await;
        let bodies = bodies();
        world.sees(order.map(|index| bodies[index].clone())).await;
        assert_eq!(world.bench.purchases().await.len(), 1, "{order:?}");
        assert_eq!(world.licenses().await, ["0/1 active 2x until never, expires never"], "{order:?}");
        assert_eq!(world.engine.licenses().len(), 1, "{order:?}");
    }
}
