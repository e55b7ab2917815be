//! What opens a unit, and what *paid* and *charged* mean.

use keyledger_schemas::settings::Policy;
use serde_json::json;

use crate::engine::{ABLE, Fault};
use crate::stripe::{
    And, NOV, OCT, charge, extra, invoice, invoice_paid, item, line, lone_invoice, paid, payment_of, proration, seen,
    session, sold, sub,
};
use crate::world::{World, entry, everything};

#[tokio::test]
async fn every_subscription_line_of_a_paid_invoice_opens_a_unit() {
    let mut world = World::new().await;
    let lines = [line("a", 1, 1000, OCT), line("b", 2, 2000, OCT)];
    world.sees([invoice_paid("in_1", "2026-10-01", &lines)]).await;
    assert_eq!(
        world.licenses().await,
        [
            "si_a/1 active 1x until 2026-11-01, expires 2026-11-04",
            "si_b/1 active 2x until 2026-11-01, expires 2026-11-04",
        ]
    );
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn the_billing_reason_of_an_invoice_is_never_read() {
    for reason in ["subscription_create", "subscription_cycle", "subscription_update", "manual", "brand_new"] {
        let mut world = World::new().await;
        let invoice = paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)]).and(json!({ "billing_reason": reason }));
        world.sees([seen("invoice.paid", "2026-10-01", invoice)]).await;
        assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"], "{reason}");
    }
}

#[tokio::test]
async fn a_positive_proration_opens_a_unit_where_the_item_has_no_other_paid_line() {
    let mut world = World::new().await;
    world.sees([invoice_paid("in_1", "2026-10-10", &[proration("pro", 1, 1500, ("2026-10-10", "2026-11-01"))])]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
}

#[tokio::test]
async fn a_proration_opens_nothing_beside_a_line_of_its_item_nor_when_it_is_a_credit() {
    let mut world = World::new().await;
    let later = ("2026-10-10", "2026-12-24");
    let lines = [line("pro", 1, 4900, OCT), proration("pro", 1, 1500, later), proration("old", 1, -1500, OCT)];
    world.sees([invoice_paid("in_1", "2026-10-01", &lines)]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
}

#[tokio::test]
async fn where_an_invoice_has_more_lines_than_shown_the_items_of_the_snapshot_at_its_date_are_paid() {
    let mut world = World::new().await;
    let items = [item("a", 1, OCT), item("b", 3, OCT), item("later", 1, NOV)];
    let lines = json!({ "data": [line("a", 1, 1000, OCT)], "has_more": true });
    let invoice = paid("in_1", "2026-10-01", &[line("a", 1, 1000, OCT)]).and(json!({ "lines": lines }));
    world
        .sees([
            seen("customer.subscription.created", "2026-10-01", sub("active", &items)),
            seen("invoice.paid", "2026-10-01", invoice),
        ])
        .await;
    assert_eq!(
        world.licenses().await,
        [
            "si_a/1 active 1x until 2026-11-01, expires 2026-11-04",
            "si_b/1 active 3x until 2026-11-01, expires 2026-11-04",
        ]
    );
}

#[tokio::test]
async fn a_sight_of_a_paid_invoice_with_all_its_lines_counts_before_a_newer_one_with_some() {
    let lines = [line("a", 1, 1000, OCT), line("b", 1, 2000, OCT)];
    let some = json!({ "lines": { "data": [line("a", 1, 1000, OCT)], "has_more": true } });
    let whole = seen("invoice.paid", "2026-10-01", paid("in_1", "2026-10-01", &lines));
    let cut = seen("invoice.updated", "2026-10-02", paid("in_1", "2026-10-01", &lines).and(some));
    for bodies in [[whole.clone(), cut.clone()], [cut, whole]] {
        let mut world = World::new().await;
        world.sees(bodies).await;
        assert_eq!(world.licenses().await.len(), 2);
    }
}

#[tokio::test]
async fn a_paid_subscription_session_proves_that_its_invoice_is_paid() {
    let mut world = World::new().await;
    let session = session("subscription", "paid", 4900).and(json!({ "subscription": "sub_1", "invoice": "in_1" }));
    world.sees([seen("checkout.session.completed", "2026-10-01", session)]).await;
    assert_eq!(world.licenses().await, [""; 0], "what was sold is unknown");
    assert_eq!(world.open().await, ["no_key sub_1"]);
    world.sees([seen("customer.subscription.created", "2026-10-01", sub("active", &[item("pro", 1, OCT)]))]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_subscription_session_that_is_not_paid_proves_nothing() {
    for status in ["unpaid", "no_payment_required"] {
        let mut world = World::new().await;
        let session = session("subscription", status, 0).and(json!({ "subscription": "sub_1", "invoice": "in_1" }));
        world
            .sees([
                seen("checkout.session.completed", "2026-10-01", session),
                seen("customer.subscription.created", "2026-10-01", sub("active", &[item("pro", 1, OCT)])),
            ])
            .await;
        assert_eq!(world.licenses().await, [""; 0], "{status}");
    }
}

#[tokio::test]
async fn a_payment_session_sells_once_it_is_paid_or_nothing_was_due() {
    for (status, licenses) in [("unpaid", 0), ("paid", 1), ("no_payment_required", 1)] {
        let mut world = World::new().await;
        world.sees([seen("checkout.session.completed", "2026-10-01", session("payment", status, 4900))]).await;
        assert_eq!(world.licenses().await.len(), licenses, "{status}");
    }
}

#[tokio::test]
async fn a_delayed_payment_that_succeeds_sells() {
    let mut world = World::new().await;
    world.sees([seen("checkout.session.completed", "2026-10-01", session("payment", "unpaid", 4900))]).await;
    assert_eq!(world.licenses().await, [""; 0]);
    let later = session("payment", "unpaid", 4900);
    world.sees([seen("checkout.session.async_payment_succeeded", "2026-10-02", later)]).await;
    assert_eq!(world.licenses().await, ["0/1 active 1x until never, expires never"]);
}

#[tokio::test]
async fn a_set_up_session_sells_nothing() {
    let mut world = World::new().await;
    world.sees([seen("checkout.session.completed", "2026-10-01", session("setup", "no_payment_required", 0))]).await;
    assert!(world.bench.purchases().await.is_empty());
}

#[tokio::test]
async fn a_trial_opens_a_unit_to_its_end_that_charges_nothing() {
    let mut world = World::new().await;
    world.engine.fail_all(Fault::Refused, 1);
    let trial = sub("trialing", &[item("pro", 1, OCT)]).and(json!({ "trial_end": 1_792_022_400 }));
    world.sees([seen("customer.subscription.created", "2026-10-01", trial)]).await;
    assert_eq!(world.open().await, ["free_without_key sub_1/si_pro/1"]);
    world.engine.recover();
    world.retries("sub_1/si_pro/1").await;
    world.patience().await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-10-15, expires 2026-10-18"]);
}

#[tokio::test]
async fn a_trial_opens_nothing_where_the_policy_says_ignore() {
    let mut world = World::under(json!({ "trial": "ignore" })).await;
    let trial = sub("trialing", &[item("pro", 1, OCT)]).and(json!({ "trial_end": 1_792_022_400 }));
    world.sees([seen("customer.subscription.created", "2026-10-01", trial)]).await;
    assert_eq!((world.licenses().await.len(), world.open().await.len()), (0, 0));
}

#[tokio::test]
async fn an_invoice_item_sells_only_where_its_price_or_product_is_mapped_and_never_by_the_default() {
    let lines = [line("pro", 1, 4900, OCT), extra("setup", 1, 9900)];
    let mut world = World::new().await;
    world.sees([invoice_paid("in_1", "2026-10-01", &lines)]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.open().await, [""; 0], "nobody is owed a key for a set-up fee");

    let by_price = json!({ "price": "price_setup", "provider": "stub", "product": "addon" });
    let by_product = json!({ "stripe_product": "prod_setup", "provider": "stub", "product": "addon" });
    for mapped in [by_price, by_product] {
        let mut world = World::with([everything(), vec![entry(mapped)]].concat()).await;
        world.sees([invoice_paid("in_1", "2026-10-01", &lines)]).await;
        assert_eq!(
            world.licenses().await,
            [
                "il_setup/1 active 1x until never, expires never at stub/addon",
                "si_pro/1 active 1x until 2026-11-01, expires 2026-11-04",
            ]
        );
    }
}

#[tokio::test]
async fn an_invoice_without_a_subscription_sells_only_where_its_price_or_product_is_mapped() {
    let bodies = || {
        let invoice = lone_invoice("in_1", "2026-10-01", &[extra("book", 1, 4900)]);
        [seen("invoice.paid", "2026-10-01", invoice), payment_of("in_1", "pi_1", "2026-10-01")]
    };
    let mut world = World::new().await;
    world.sees(bodies()).await;
    assert_eq!((world.licenses().await.len(), world.open().await.len()), (0, 0));
    let mapped = entry(json!({ "price": "price_book", "provider": "stub", "product": "book" }));
    let mut world = World::with(vec![mapped]).await;
    world.sees(bodies()).await;
    assert_eq!(world.licenses().await, ["0/1 active 1x until never, expires never at stub/book"]);
}

#[tokio::test]
async fn bare_charges_and_payment_intents_open_nothing() {
    let mut world = World::new().await;
    let intent = json!({ "id": "pi_1", "object": "payment_intent", "status": "succeeded", "latest_charge": "ch_1" });
    world
        .sees([charge("ch_1", "pi_1", 4900, 0, "2026-10-01"), seen("payment_intent.succeeded", "2026-10-01", intent)])
        .await;
    assert!(world.bench.purchases().await.is_empty());
}

#[tokio::test]
async fn an_invoice_of_an_old_account_is_paid_when_it_says_so() {
    let mut world = World::new().await;
    let invoice = paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)]).and(json!({ "status": null, "paid": true }));
    world.sees([seen("invoice.payment_succeeded", "2026-10-01", invoice)]).await;
    assert_eq!(world.licenses().await.len(), 1);
}

#[tokio::test]
async fn an_invoice_of_nothing_or_paid_out_of_band_is_paid() {
    let mut world = World::new().await;
    world.sees([invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 0, OCT)])]).await;
    assert_eq!(world.licenses().await.len(), 1, "nothing was due");
    let mut world = World::new().await;
    let invoice = paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)]);
    let elsewhere = invoice.and(json!({ "paid_out_of_band": true, "amount_paid": 0 }));
    world.sees([seen("invoice.paid", "2026-10-01", elsewhere)]).await;
    assert_eq!(world.licenses().await.len(), 1, "the money came another way");
}

#[tokio::test]
async fn an_active_subscription_is_not_a_paid_one() {
    let mut world = World::new().await;
    world
        .sees([
            seen("customer.subscription.created", "2026-10-01", sub("active", &[item("pro", 1, OCT)])),
            seen("invoice.finalized", "2026-10-01", invoice("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)])),
        ])
        .await;
    assert_eq!((world.licenses().await.len(), world.open().await.len()), (0, 0));
}

#[tokio::test]
async fn charged_means_that_the_invoice_and_the_line_cost_something() {
    let refused = [
        (vec![line("pro", 1, 4900, OCT)], "no_key"),
        (vec![line("pro", 1, 0, OCT)], "free_without_key"),
        // A credit took all of it: nothing was charged, although the line has a price.
        (vec![line("pro", 1, 4900, OCT), proration("old", 1, -4900, OCT)], "free_without_key"),
        (vec![line("pro", 1, 0, OCT), line("other", 1, 4900, OCT)], "free_without_key"),
    ];
    for (lines, kind) in refused {
        let mut world = World::new().await;
        world.engine.fail_all(Fault::Refused, 2);
        world.sees([invoice_paid("in_1", "2026-10-01", &lines)]).await;
        let open = world.open().await;
        assert!(open.contains(&format!("{kind} sub_1/si_pro/1")), "{open:?}");
    }
}

#[tokio::test]
async fn a_period_whose_money_went_back_is_not_charged_for() {
    let mut world = World::new().await;
    world.engine.fail_all(Fault::Refused, 1);
    let trial = sub("trialing", &[item("pro", 1, OCT)]).and(json!({ "trial_end": 1_792_022_400 }));
    world
        .sees_at_once([
            seen("customer.subscription.created", "2026-10-01", trial),
            invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)]),
            payment_of("in_1", "pi_1", "2026-10-01"),
            crate::stripe::refund("re_1", "pi_1", 4900, "succeeded", "2026-10-02"),
        ])
        .await;
    assert_eq!(world.open().await, ["free_without_key sub_1/si_pro/1"], "only the trial is left");
}

#[tokio::test]
async fn without_a_key_a_charged_unit_is_no_key_and_another_is_free_without_key() {
    let mut world = World::of(Policy::default(), Vec::new(), ABLE).await;
    world.sees([invoice_paid("in_1", "2026-10-01", &[line("a", 1, 4900, OCT), line("b", 1, 0, OCT)])]).await;
    assert_eq!(world.open().await, ["no_key sub_1/si_a/1", "free_without_key sub_1/si_b/1"]);
}

#[tokio::test]
async fn a_session_that_shows_its_lines_sells_each() {
    let mut world = World::new().await;
    let lines = json!({ "line_items": { "data": [sold("a", 2, 2000), sold("b", 1, 900)], "has_more": false } });
    world.sees([seen("checkout.session.completed", "2026-10-01", session("payment", "paid", 2900).and(lines))]).await;
    assert_eq!(
        world.licenses().await,
        ["0/1 active 2x until never, expires never", "1/1 active 1x until never, expires never"]
    );
}
