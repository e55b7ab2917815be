//! Refunds and disputes.

use keyledger_issuer::provider::Capabilities;
use serde_json::json;

use crate::engine::{ABLE, Call, Fault};
use crate::stripe::{
    And, NOV, OCT, charge, dispute, invoice_paid, line, lone_invoice, paid, payment_of, refund, seen, session,
};
use crate::world::World;

const ACTIVE: &str = "si_pro/1 active 1x until 2026-11-01, expires 2026-11-04";
const REVOKED: &str = "si_pro/1 revoked (MoneyGone) 1x until 2026-11-01, expires 2026-11-04";

/// October was paid with `pi_1`.
fn october() -> [Vec<u8>; 2] {
    [invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)]), payment_of("in_1", "pi_1", "2026-10-01")]
}

/// November was paid with `pi_2`.
fn november() -> [Vec<u8>; 2] {
    [invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)]), payment_of("in_2", "pi_2", "2026-11-01")]
}

async fn after_october() -> World {
    let mut world = World::new().await;
    world.sees(october()).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    world
}

#[tokio::test]
async fn what_is_refunded_is_the_sum_of_the_refunds_that_did_not_come_to_nothing() {
    let mut world = after_october().await;
    world.sees([refund("re_1", "pi_1", 2500, "succeeded", "2026-10-05")]).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    world.sees([refund("re_2", "pi_1", 2400, "pending", "2026-10-06")]).await;
    assert_eq!(world.licenses().await, [REVOKED], "both together are all of it");
    world.sees([refund("re_2", "pi_1", 2400, "failed", "2026-10-07")]).await;
    assert_eq!(world.licenses().await, [ACTIVE], "the second one failed");
    world.sees([refund("re_3", "pi_1", 2400, "canceled", "2026-10-08")]).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn what_the_charge_says_was_refunded_counts_too_without_what_failed() {
    let mut world = after_october().await;
    world.sees([charge("ch_1", "pi_1", 4900, 4900, "2026-10-05")]).await;
    assert_eq!(world.licenses().await, [REVOKED], "the refund itself was never delivered");
    world.sees([refund("re_1", "pi_1", 4900, "failed", "2026-10-06")]).await;
    assert_eq!(world.licenses().await, [ACTIVE], "the charge still says 4900, all of which failed");
    world.sees([charge("ch_1", "pi_1", 4900, 0, "2026-10-07")]).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn a_lost_dispute_counts_as_refunded() {
    let mut world = after_october().await;
    world.sees([dispute("dp_1", "pi_1", 4900, "lost", "2026-10-05")]).await;
    assert_eq!(world.licenses().await, [REVOKED]);
}

#[tokio::test]
async fn a_refund_and_a_lost_dispute_add_up() {
    let mut world = after_october().await;
    world.sees([refund("re_1", "pi_1", 2000, "succeeded", "2026-10-05")]).await;
    world.sees([dispute("dp_1", "pi_1", 2900, "lost", "2026-10-06")]).await;
    assert_eq!(world.licenses().await, [REVOKED]);
}

#[tokio::test]
async fn a_period_counts_unless_all_of_what_was_paid_for_it_went_back() {
    // Nothing was paid: nothing can have gone back.
    let mut world = World::new().await;
    world.sees([invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 0, OCT)])]).await;
    world
        .sees([payment_of("in_1", "pi_1", "2026-10-01"), refund("re_1", "pi_1", 100, "succeeded", "2026-10-05")])
        .await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    // More went back than was paid.
    let mut world = after_october().await;
    world.sees([refund("re_1", "pi_1", 9900, "succeeded", "2026-10-05")]).await;
    assert_eq!(world.licenses().await, [REVOKED]);
}

#[tokio::test]
async fn a_partial_refund_keeps_the_license() {
    let mut world = after_october().await;
    world.sees([refund("re_1", "pi_1", 4899, "succeeded", "2026-10-05")]).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn without_a_counting_period_the_license_is_revoked_and_one_that_comes_later_reinstates_it() {
    let mut world = after_october().await;
    world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-05")]).await;
    assert_eq!(world.held(), ["revoked 1x, expires 2026-11-04"]);
    assert_eq!(world.open().await, [""; 0], "nothing is owed");
    world.sees(november()).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-12-01, expires 2026-12-04"]);
    assert_eq!(world.held(), ["active 1x, expires 2026-12-04"]);
}

#[tokio::test]
async fn where_revoked_is_final_at_the_engine_the_next_generation_is_made() {
    let mut world = World::at_engine(Capabilities { reinstates_revoked: false, ..ABLE }).await;
    world.sees(october()).await;
    world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-05")]).await;
    world.sees(november()).await;
    assert_eq!(world.licenses().await, [REVOKED, "si_pro/1#2 active 1x until 2026-12-01, expires 2026-12-04"]);
    assert_eq!(world.held(), ["revoked 1x, expires 2026-11-04", "active 1x, expires 2026-12-04"]);
}

#[tokio::test]
async fn the_refund_of_a_renewal_takes_that_period_back_and_not_the_license() {
    let mut world = after_october().await;
    world.sees(november()).await;
    world.sees([refund("re_1", "pi_2", 4900, "succeeded", "2026-11-05")]).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
}

#[tokio::test]
async fn an_open_dispute_suspends_and_a_won_one_reinstates() {
    for open in ["needs_response", "under_review"] {
        let mut world = after_october().await;
        world.sees([dispute("dp_1", "pi_1", 4900, open, "2026-10-05")]).await;
        let suspended = "si_pro/1 suspended (Disputed) 1x until 2026-11-01, expires 2026-11-04";
        assert_eq!(world.licenses().await, [suspended], "{open}");
        assert_eq!(world.open().await, [""; 0]);
        world.sees([dispute("dp_1", "pi_1", 4900, "won", "2026-10-09")]).await;
        assert_eq!(world.licenses().await, [ACTIVE], "{open}");
        assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
    }
}

#[tokio::test]
async fn of_a_dispute_the_highest_rank_seen_counts() {
    let ranks = [
        ("needs_response", "suspended"),
        ("under_review", "suspended"),
        ("lost", "revoked"),
        ("appeal_needs_response", "suspended"),
        ("appeal_under_review", "suspended"),
        ("won", "active"),
    ];
    for (index, (rank, state)) in ranks.iter().enumerate() {
        // Every lower rank arrives later and changes nothing.
        let mut world = after_october().await;
        world.sees([dispute("dp_1", "pi_1", 4900, rank, "2026-10-05")]).await;
        world.sees(ranks[..index].iter().map(|(lower, _)| dispute("dp_1", "pi_1", 4900, lower, "2026-10-06"))).await;
        assert!(world.licenses().await[0].starts_with(&format!("si_pro/1 {state}")), "{rank}");
    }
}

#[tokio::test]
async fn an_inquiry_and_a_prevented_dispute_leave_the_license_alone() {
    for status in ["warning_needs_response", "warning_under_review", "warning_closed", "prevented"] {
        let mut world = after_october().await;
        world.sees([dispute("dp_1", "pi_1", 4900, status, "2026-10-05")]).await;
        assert_eq!(world.licenses().await, [ACTIVE], "{status}");
        assert!(!world.engine.calls().contains(&Call::Change));
    }
}

#[tokio::test]
async fn only_what_a_person_revoked_stays_revoked() {
    let mut world = after_october().await;
    world.revokes("sub_1/si_pro/1").await;
    let final_one = ["si_pro/1 revoked (Operator) 1x until 2026-11-01, expires 2026-11-04"];
    assert_eq!(world.licenses().await, final_one);
    world.sees(november()).await;
    assert_eq!(world.licenses().await, final_one, "money does not bring it back");
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_unit_whose_money_was_gone_before_issue_is_listed_as_revoked_and_never_made() {
    let mut world = World::new().await;
    let [invoice, payment] = october();
    world.sees_at_once([invoice, payment, refund("re_1", "pi_1", 4900, "succeeded", "2026-10-01")]).await;
    assert_eq!(world.standings().await, ["si_pro/1 revoked"]);
    assert_eq!(world.licenses().await, [""; 0]);
    assert!(world.engine.calls().is_empty());
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn money_that_goes_back_is_kept_where_the_policy_says_so() {
    let keep = json!({ "refund_full": "keep", "dispute_lost": "keep", "dispute_open": "keep" });
    for body in [
        refund("re_1", "pi_1", 4900, "succeeded", "2026-10-05"),
        dispute("dp_1", "pi_1", 4900, "lost", "2026-10-05"),
        dispute("dp_1", "pi_1", 4900, "needs_response", "2026-10-05"),
    ] {
        let mut world = World::under(keep.clone()).await;
        world.sees(october()).await;
        world.sees([body]).await;
        assert_eq!(world.licenses().await, [ACTIVE]);
    }
}

#[tokio::test]
async fn a_refund_that_arrives_before_its_link_waits_and_then_counts() {
    let mut world = World::new().await;
    let [invoice, payment] = october();
    world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-05"), invoice]).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    world.sees([payment]).await;
    assert_eq!(world.licenses().await, [REVOKED]);
}

#[tokio::test]
async fn the_refund_of_a_one_off_sale_revokes() {
    let mut world = World::new().await;
    let sale = session("payment", "paid", 4900).and(json!({ "payment_intent": "pi_1" }));
    world.sees([seen("checkout.session.completed", "2026-10-01", sale)]).await;
    assert_eq!(world.licenses().await, ["0/1 active 1x until never, expires never"]);
    world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-05")]).await;
    assert_eq!(world.licenses().await, ["0/1 revoked (MoneyGone) 1x until never, expires never"]);
}

#[tokio::test]
async fn the_payments_of_a_one_off_sale_are_one() {
    // The session and its invoice tell of the same money.
    let mut world = World::new().await;
    let sale = session("payment", "paid", 4900).and(json!({ "payment_intent": "pi_1", "invoice": "in_1" }));
    let invoice = lone_invoice("in_1", "2026-10-01", &[crate::stripe::extra("book", 1, 4900)]);
    world
        .sees([
            seen("checkout.session.completed", "2026-10-01", sale),
            seen("invoice.paid", "2026-10-01", invoice),
            payment_of("in_1", "pi_1", "2026-10-01"),
        ])
        .await;
    assert_eq!(world.licenses().await, ["0/1 active 1x until never, expires never"]);
    world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-05")]).await;
    assert_eq!(world.licenses().await, ["0/1 revoked (MoneyGone) 1x until never, expires never"]);
}

#[tokio::test]
async fn a_revocation_in_doubt_is_undone_when_the_money_comes_back_first() {
    let mut world = after_october().await;
    world.engine.fail(Call::Change, Fault::AnswerLost);
    world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-05")]).await;
    assert_eq!(world.held(), ["revoked 1x, expires 2026-11-04"], "it was done, and nobody could tell");
    world.sees([refund("re_1", "pi_1", 4900, "failed", "2026-10-06")]).await;
    world.patience().await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
}

#[tokio::test]
async fn a_suspension_in_doubt_is_undone_when_the_dispute_is_won_first() {
    let mut world = after_october().await;
    world.engine.fail(Call::Change, Fault::AnswerLost);
    world.sees([dispute("dp_1", "pi_1", 4900, "needs_response", "2026-10-05")]).await;
    world.sees([dispute("dp_1", "pi_1", 4900, "won", "2026-10-06")]).await;
    world.patience().await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
}

#[tokio::test]
async fn a_paid_sight_of_an_invoice_outlives_an_older_open_one() {
    let mut world = World::new().await;
    let open = crate::stripe::invoice("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)]);
    let settled = paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)]);
    world.sees([seen("invoice.paid", "2026-10-02", settled), seen("invoice.updated", "2026-10-01", open)]).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}
