//! Until when a license works.

use keyledger_issuer::provider::Capabilities;
use keyledger_schemas::settings::Policy;
use serde_json::json;

use crate::engine::{ABLE, Call, Fault};
use crate::stripe::{And, DEC, NOV, OCT, SEP, at, invoice_paid, item, line, proration, seen, sub};
use crate::world::{World, entry, everything, policy};

fn october() -> Vec<u8> {
    invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)])
}

fn november() -> Vec<u8> {
    invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)])
}

#[tokio::test]
async fn a_license_expires_three_days_after_what_is_paid() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
}

#[tokio::test]
async fn grace_is_as_long_as_it_is_written_and_zero_only_when_written_so() {
    for (grace, expires) in [("0s", "2026-11-01"), ("36h", "2026-11-02"), ("10d", "2026-11-11")] {
        let mut world = World::under(json!({ "grace": grace })).await;
        world.sees([october()]).await;
        assert_eq!(world.held(), [format!("active 1x, expires {expires}")], "{grace}");
    }
    assert_eq!(policy(json!({})).grace.seconds(), 3 * 86_400);
    assert!(serde_json::from_value::<Policy>(json!({ "grace": "" })).is_err(), "blank is not zero");
}

#[tokio::test]
async fn a_catalog_entry_may_have_a_grace_of_its_own() {
    let mut world = World::with(vec![entry(json!({ "provider": "stub", "product": "pro", "grace": "1d" }))]).await;
    world.sees([october()]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-02"]);
}

#[tokio::test]
async fn a_renewal_gives_the_same_date_however_often_and_whenever_it_comes() {
    let mut once = World::new().await;
    once.sees([october(), november()]).await;
    let expected = ["si_pro/1 active 1x until 2026-12-01, expires 2026-12-04"];
    assert_eq!(once.licenses().await, expected);

    let mut twice = World::new().await;
    twice.sees([october(), november(), november(), october()]).await;
    assert_eq!(twice.licenses().await, expected, "twice, and an old one again");

    let mut late = World::new().await;
    late.sees([october()]).await;
    late.on("2026-11-20").await.sees([november()]).await;
    assert_eq!(late.licenses().await, expected, "late");

    let mut gap = World::new().await;
    gap.sees([invoice_paid("in_0", "2026-09-01", &[line("pro", 1, 4900, SEP)]), november()]).await;
    assert_eq!(gap.licenses().await, expected, "after a gap");
}

#[tokio::test]
async fn an_elapsed_period_still_gets_its_expired_license() {
    let mut world = World::new().await;
    world.on("2027-03-01").await.sees([october()]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.open().await, [""; 0]);
    assert_eq!(world.events("license.lapsed").await.len(), 1);
}

#[tokio::test]
async fn proration_never_moves_the_date() {
    let mut world = World::new().await;
    let upgrade = [proration("pro", 1, 1500, ("2026-10-10", "2027-06-01")), proration("pro", 1, -700, OCT)];
    world.sees([october(), invoice_paid("in_2", "2026-10-10", &upgrade)]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
}

#[tokio::test]
async fn the_date_never_moves_earlier_by_what_arrives_late() {
    let mut world = World::new().await;
    world.sees([november(), october()]).await;
    world.sees([invoice_paid("in_3", "2026-11-10", &[line("pro", 1, 100, ("2026-11-10", "2026-11-11"))])]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-12-01, expires 2026-12-04"]);
}

#[tokio::test]
async fn an_ended_subscription_ends_its_license_when_it_ended_and_never_later_than_grace() {
    for (ended, expires) in [("2026-10-10", "2026-10-10"), ("2026-11-02", "2026-11-02"), ("2026-11-20", "2026-11-04")] {
        let mut world = World::new().await;
        let over = sub("canceled", &[item("pro", 1, OCT)]).and(json!({ "ended_at": at(ended).as_second() }));
        world.sees([october(), seen("customer.subscription.deleted", ended, over)]).await;
        assert_eq!(world.held(), [format!("active 1x, expires {expires}")], "{ended}");
    }
}

#[tokio::test]
async fn an_ended_subscription_runs_out_its_grace_where_the_policy_says_so() {
    let mut world = World::under(json!({ "ended": "paid_until" })).await;
    let over = sub("canceled", &[item("pro", 1, OCT)]).and(json!({ "ended_at": at("2026-10-10").as_second() }));
    world.sees([october(), seen("customer.subscription.deleted", "2026-10-10", over)]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
}

#[tokio::test]
async fn a_subscription_set_to_end_with_its_period_has_no_grace() {
    let canceled = || sub("active", &[item("pro", 1, OCT)]).and(json!({ "cancel_at_period_end": true }));
    let mut world = World::new().await;
    world.sees([october(), seen("customer.subscription.updated", "2026-10-05", canceled())]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-01"]);
    let changed_their_mind = sub("active", &[item("pro", 1, OCT)]);
    world.sees([seen("customer.subscription.updated", "2026-10-06", changed_their_mind)]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);

    let mut world = World::under(json!({ "cancel_scheduled": "grace" })).await;
    world.sees([october(), seen("customer.subscription.updated", "2026-10-05", canceled())]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
}

#[tokio::test]
async fn a_cancellation_beyond_what_is_paid_leaves_the_grace() {
    for (cancel_at, expires) in [("2026-11-01", "2026-11-01"), ("2026-12-01", "2026-11-04")] {
        let mut world = World::new().await;
        let canceled = sub("active", &[item("pro", 1, OCT)]).and(json!({ "cancel_at": at(cancel_at).as_second() }));
        world.sees([october(), seen("customer.subscription.updated", "2026-10-05", canceled)]).await;
        assert_eq!(world.held(), [format!("active 1x, expires {expires}")], "{cancel_at}");
    }
}

#[tokio::test]
async fn grace_and_expired_are_no_stored_states() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    let during = world.licenses().await;
    world.on("2026-11-02").await;
    assert_eq!(world.licenses().await, during, "in grace");
    world.on("2026-12-02").await;
    assert_eq!(world.licenses().await, during, "expired");
}

#[tokio::test]
async fn at_its_expiry_a_license_lapses_by_itself_once() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    assert_eq!(world.due().await["sub_1"], Some(at("2026-11-04")), "the timer is a column");
    world.on("2026-11-03T23:59:59Z").await;
    assert!(world.events("license.lapsed").await.is_empty());
    world.on("2026-11-04").await;
    world.on("2026-11-05").await;
    let lapsed = world.data("license.lapsed").await;
    assert_eq!(lapsed.len(), 1);
    assert_eq!(lapsed[0]["expires_at"], "2026-11-04T00:00:00Z");
    assert_eq!(world.engine.calls(), [Call::Find, Call::Create], "this engine stops it by itself");
    assert_eq!(world.due().await["sub_1"], None);
}

#[tokio::test]
async fn an_engine_that_does_not_enforce_expiry_is_told_to_block() {
    let mut world = World::at_engine(Capabilities { enforces_expiry: false, ..ABLE }).await;
    world.sees([october()]).await;
    world.on("2026-11-04").await;
    assert_eq!(world.held(), ["suspended 1x, expires 2026-11-04"]);
    assert_eq!(world.open().await, [""; 0], "it had what was paid for");
    world.sees([november()]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-12-04"]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_license_that_stays_blocked_after_it_was_paid_again_is_an_open_obligation() {
    let mut world = World::at_engine(Capabilities { enforces_expiry: false, ..ABLE }).await;
    world.sees([october()]).await;
    world.on("2026-11-04").await;
    assert_eq!(world.held(), ["suspended 1x, expires 2026-11-04"]);
    // The new date is taken, the unblocking is not.
    world.engine.fail(Call::Change, Fault::Fine);
    world.engine.fail(Call::Change, Fault::Unavailable);
    world.sees([november()]).await;
    assert_eq!(world.held(), ["suspended 1x, expires 2026-12-04"]);
    assert_eq!(world.open().await, ["not_extended sub_1/si_pro/1"]);
    world.patience().await;
    assert_eq!(world.held(), ["active 1x, expires 2026-12-04"]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_late_payment_for_a_period_that_is_over_is_met_by_an_expired_license() {
    for enforces_expiry in [true, false] {
        let mut world = World::at_engine(Capabilities { enforces_expiry, ..ABLE }).await;
        world.sees([october()]).await;
        world.on("2027-02-01").await;
        world.sees([november()]).await;
        assert_eq!(world.licenses().await.len(), 1);
        assert!(world.licenses().await[0].contains("until 2026-12-01, expires 2026-12-04"));
        assert_eq!(world.open().await, [""; 0], "enforces expiry: {enforces_expiry}");
        world.sees([invoice_paid("in_3", "2027-02-01", &[line("pro", 1, 4900, DEC)])]).await;
        assert_eq!(world.open().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_term_counts_from_the_start_of_the_paid_period() {
    let yearly = entry(json!({ "provider": "stub", "product": "pro", "term": "P1Y" }));
    let mut world = World::with(vec![yearly]).await;
    world.sees([october()]).await;
    assert_eq!(world.held(), ["active 1x, expires 2027-10-04"]);
    let mut world = World::with([everything(), vec![]].concat()).await;
    world.sees([october()]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
}
