//! What a subscription's status does.

use serde_json::json;

use crate::stripe::{And, NOV, OCT, at, invoice_paid, item, line, paid, seen, sub};
use crate::world::World;

const ACTIVE: &str = "si_pro/1 active 1x until 2026-11-01, expires 2026-11-04";

fn october() -> Vec<u8> {
    invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)])
}

fn snapshot(status: &str, created: &str) -> Vec<u8> {
    seen("customer.subscription.updated", created, sub(status, &[item("pro", 1, OCT)]))
}

/// November's invoice, paid at that moment.
fn november_paid(at_day: &str) -> Vec<u8> {
    let invoice = paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)]);
    let then = json!({ "status_transitions": { "paid_at": at(at_day).as_second() } });
    seen("invoice.paid", at_day, invoice.and(then))
}

#[tokio::test]
async fn paused_and_unpaid_suspend_at_once() {
    for (status, reason) in [("paused", "Paused"), ("unpaid", "Unpaid")] {
        let mut world = World::new().await;
        world.sees([october(), snapshot(status, "2026-10-05")]).await;
        let suspended = format!("si_pro/1 suspended ({reason}) 1x until 2026-11-01, expires 2026-11-04");
        assert_eq!(world.licenses().await, [suspended]);
        assert_eq!(world.held(), ["suspended 1x, expires 2026-11-04"]);
        assert_eq!(world.open().await, [""; 0]);
        world.sees([snapshot("active", "2026-10-06")]).await;
        assert_eq!(world.licenses().await, [ACTIVE], "{status}");
    }
}

#[tokio::test]
async fn paused_and_unpaid_change_nothing_where_the_policy_says_keep() {
    for status in ["paused", "unpaid"] {
        let mut world = World::under(json!({ "paused": "keep", "unpaid": "keep" })).await;
        world.sees([october(), snapshot(status, "2026-10-05")]).await;
        assert_eq!(world.licenses().await, [ACTIVE], "{status}");
    }
}

#[tokio::test]
async fn past_due_changes_nothing_before_the_grace_is_over() {
    let mut world = World::new().await;
    world.sees([october(), snapshot("past_due", "2026-11-01")]).await;
    world.on("2026-11-03").await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
    world.on("2026-11-04").await;
    assert_eq!(world.events("license.lapsed").await.len(), 1, "then it runs out like any other");
}

#[tokio::test]
async fn a_later_payment_overrides_unpaid_and_past_due_but_not_paused() {
    for (status, works) in [("unpaid", true), ("past_due", true), ("paused", false)] {
        let mut world = World::new().await;
        world.sees([october(), snapshot(status, "2026-11-05"), november_paid("2026-11-06")]).await;
        let license = &world.licenses().await[0];
        assert_eq!(license.starts_with("si_pro/1 active"), works, "{status}: {license}");
        assert!(license.contains("until 2026-12-01"), "{status}: {license}");
    }
}

#[tokio::test]
async fn a_payment_before_the_snapshot_does_not_override_it() {
    let mut world = World::new().await;
    world.sees_at_once([november_paid("2026-11-04"), snapshot("unpaid", "2026-11-05")]).await;
    assert_eq!(world.licenses().await, [""; 0], "it is not made while it would be suspended");
    assert_eq!(world.standings().await, ["si_pro/1 suspended"]);
    assert_eq!(world.open().await, [""; 0], "which is no open obligation");
}

#[tokio::test]
async fn a_payment_reinstates() {
    let mut world = World::new().await;
    world.sees([october(), snapshot("unpaid", "2026-11-05")]).await;
    assert_eq!(world.held(), ["suspended 1x, expires 2026-11-04"]);
    world.sees([november_paid("2026-11-06")]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-12-04"]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_snapshot_of_unknown_status_is_skipped() {
    let mut world = World::new().await;
    let strange = sub("hibernating", &[item("pro", 7, NOV)]).and(json!({ "cancel_at_period_end": true }));
    world
        .sees([
            october(),
            snapshot("active", "2026-10-02"),
            seen("customer.subscription.updated", "2026-10-05", strange),
        ])
        .await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    let purchases = world.bench.purchases().await;
    assert!(purchases["sub_1"].knowledge.subscription.skipped().is_some(), "but it is known");
}
