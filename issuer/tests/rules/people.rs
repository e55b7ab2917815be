//! What people decide about a license: stopping it, letting it work again, giving it time, replacing it.

use serde_json::json;

use crate::engine::{ABLE, Call, Fault};
use crate::stripe::{DEC, NOV, OCT, invoice_paid, item, line, payment_of, refund, seen, sub};
use crate::world::World;
use keyledger_issuer::provider::Capabilities;

const UNIT: &str = "sub_1/si_pro/1";
const ACTIVE: &str = "si_pro/1 active 1x until 2026-11-01, expires 2026-11-04";

fn october() -> Vec<u8> {
    invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)])
}

fn november() -> Vec<u8> {
    invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)])
}

#[tokio::test]
async fn a_person_stops_a_license_until_a_person_lets_it_work_again() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    world.suspends(UNIT).await;
    assert_eq!(world.held(), ["suspended 1x, expires 2026-11-04"]);
    assert_eq!(world.data("license.suspended").await[0]["reason"], "operator");
    world.sees([november()]).await;
    assert_eq!(world.held(), ["suspended 1x, expires 2026-12-04"], "money does not lift it");
    assert_eq!(world.open().await, [""; 0], "nobody is owed what a person stopped");
    world.reinstates(UNIT).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-12-04"]);
}

#[tokio::test]
async fn what_a_person_stopped_wins_over_everything_but_revoked() {
    let mut world = World::new().await;
    world.sees([october(), payment_of("in_1", "pi_1", "2026-10-01")]).await;
    world.suspends(UNIT).await;
    world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-03")]).await;
    assert_eq!(world.standings().await, ["si_pro/1 revoked"]);
    assert_eq!(world.held(), ["revoked 1x, expires 2026-11-04"]);
    world.sees([november()]).await;
    assert_eq!(world.standings().await, ["si_pro/1 suspended"], "it comes back stopped");
}

#[tokio::test]
async fn a_unit_that_a_person_stopped_before_it_was_issued_waits() {
    let mut world = World::new().await;
    world.engine.fail(Call::Create, Fault::Refused);
    world.sees([october()]).await;
    world.suspends(UNIT).await;
    world.retries(UNIT).await;
    assert_eq!((world.held().len(), world.open().await.len()), (0, 0));
    world.reinstates(UNIT).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn a_person_takes_back_what_a_person_revoked() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    world.revokes(UNIT).await;
    assert_eq!(world.held(), ["revoked 1x, expires 2026-11-04"]);
    world.reinstates(UNIT).await;
    assert_eq!((world.licenses().await, world.held().len()), (vec![ACTIVE.to_owned()], 1));

    let mut world = World::at_engine(Capabilities { reinstates_revoked: false, ..ABLE }).await;
    world.sees([october()]).await;
    world.revokes(UNIT).await;
    world.reinstates(UNIT).await;
    assert_eq!(
        world.held(),
        ["revoked 1x, expires 2026-11-04", "active 1x, expires 2026-11-04"],
        "where it must be made anew"
    );
}

#[tokio::test]
async fn a_person_gives_a_license_time_and_what_is_paid_stays_what_it_is() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    world.extends(UNIT, "2026-11-20").await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-11-01, expires 2026-11-20"]);
    world.extends(UNIT, "2026-11-10").await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-10"], "the later word counts");
    world.sees([november()]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-12-01, expires 2026-12-04"], "more was paid");
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn time_that_a_person_gave_outlives_the_subscription() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    world.extends(UNIT, "2026-11-20").await;
    let ended = sub("canceled", &[item("pro", 1, OCT)]);
    world.sees([seen("customer.subscription.deleted", "2026-10-10", ended)]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-20"]);
}

#[tokio::test]
async fn a_license_that_lapsed_works_again_when_a_person_extends_it() {
    let mut world = World::at_engine(Capabilities { enforces_expiry: false, ..ABLE }).await;
    world.sees([october()]).await;
    world.on("2026-11-04").await;
    assert_eq!(world.held(), ["suspended 1x, expires 2026-11-04"]);
    world.extends(UNIT, "2026-11-20").await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-20"]);
}

#[tokio::test]
async fn a_license_is_replaced_once_however_often_that_is_asked_for() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    world.reissues(UNIT, 1).await;
    let replaced = [
        "si_pro/1 revoked (Replaced) 1x until 2026-11-01, expires 2026-11-04",
        "si_pro/1#2 active 1x until 2026-11-01, expires 2026-11-04",
    ];
    assert_eq!(world.licenses().await, replaced);
    world.reissues(UNIT, 1).await;
    assert_eq!(world.licenses().await, replaced, "that one is replaced already");
    world.reissues(UNIT, 2).await;
    assert_eq!(world.held().len(), 3);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_replacement_that_is_refused_leaves_the_license_in_step() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    world.engine.fail(Call::Create, Fault::Refused);
    world.reissues(UNIT, 1).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
    (0..9).for_each(|_| world.engine.fail(Call::Create, Fault::Refused));
    world.sees([november()]).await;
    assert_eq!(world.held(), ["active 1x, expires 2026-12-04"], "it follows what is paid meanwhile");
    world.engine.recover();
    world.retries(UNIT).await;
    assert_eq!(world.held(), ["revoked 1x, expires 2026-12-04", "active 1x, expires 2026-12-04"]);
}

#[tokio::test]
async fn a_replacement_that_was_refused_is_asked_for_again_by_asking_again() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    world.engine.fail(Call::Create, Fault::Refused);
    world.reissues(UNIT, 1).await;
    world.patience().await;
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"], "it waits for a person");
    world.reissues(UNIT, 1).await;
    assert_eq!(world.held(), ["revoked 1x, expires 2026-11-04", "active 1x, expires 2026-11-04"]);
}

#[tokio::test]
async fn a_replacement_waits_for_the_engine_and_the_license_does_not() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    (0..30).for_each(|_| world.engine.fail(Call::Create, Fault::Unavailable));
    world.reissues(UNIT, 1).await;
    world.sees([november(), invoice_paid("in_3", "2026-12-01", &[line("pro", 1, 4900, DEC)])]).await;
    assert_eq!(world.held(), ["active 1x, expires 2027-01-04"]);
}

#[tokio::test]
async fn reinstating_a_revoked_license_takes_its_replacement_back() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    world.revokes(UNIT).await;
    world.reissues(UNIT, 1).await;
    assert_eq!(world.held(), ["revoked 1x, expires 2026-11-04"], "revoked is final");
    world.reinstates(UNIT).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn our_own_mark_is_no_other_system_s() {
    let marked = |mark: &str| {
        let items = [item("pro", 1, OCT)];
        let sub = crate::stripe::And::and(sub("active", &items), json!({ "metadata": { "skm_temp_var": mark } }));
        seen("customer.subscription.created", "2026-10-01", sub)
    };
    for (mark, held) in [("keyledger:no_key", 1), ("1", 0)] {
        let mut world = World::under(json!({ "left_by_other_system": "case" })).await;
        world.sees_at_once([marked(mark), october()]).await;
        assert_eq!(world.held().len(), held, "{mark}");
    }
}

#[tokio::test]
async fn a_person_who_retries_what_another_system_left_has_it_issued() {
    let mut world = World::under(json!({ "left_by_other_system": "case" })).await;
    let items = [item("pro", 1, OCT)];
    let left = crate::stripe::And::and(sub("active", &items), json!({ "metadata": { "skm_temp_var": "1" } }));
    world.sees_at_once([seen("customer.subscription.created", "2026-10-01", left), october()]).await;
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    world.retries(UNIT).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    assert_eq!(world.open().await, [""; 0]);
}
