//! Licenses that somebody else made: named by a person or by metadata, or found at the engine for the purchase.

use keyledger_issuer::provider::Provider;
use keyledger_schemas::settings::CatalogEntry;
use serde_json::{Value, json};

use crate::engine::{ABLE, Call, Engine, Fault, Made};
use crate::stripe::{And, NOV, OCT, dispute, invoice_paid, item, line, payment_of, refund, seen, sub};
use crate::world::{World, entry, everything, unit_id};

const UNIT: &str = "sub_1/si_pro/1";
const ACTIVE: &str = "si_pro/1 active 1x until 2026-11-01, expires 2026-11-04";
const THERE: &str = "si_pro/1 active 1x until 2026-11-01, expires 2026-11-04 at cryptolens/3349";

fn october() -> Vec<u8> {
    invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)])
}

#[expect(clippy::needless_pass_by_value, reason = "its callers read better")]
fn subscribed(metadata: Value) -> Vec<u8> {
    let snapshot = sub("active", &[item("pro", 1, OCT)]).and(json!({ "metadata": metadata }));
    seen("customer.subscription.created", "2026-10-01", snapshot)
}

fn at_cryptolens() -> Vec<CatalogEntry> {
    vec![entry(json!({ "provider": "cryptolens", "product": "3349" }))]
}

/// Everything is sold at an engine called `cryptolens`, which can be asked.
async fn cryptolens() -> (World, Engine) {
    let mut world = World::with(at_cryptolens()).await;
    let engine = Engine::new("cryptolens", ABLE);
    world.joined_by(&engine).await;
    (world, engine)
}

#[tokio::test]
async fn a_license_that_metadata_names_is_looked_up_and_made_ours() {
    for (key, id, named) in [("skm_key_id", "77", "77"), ("skm_key_globalid", "977", "globalId=977")] {
        let (mut world, engine) = cryptolens().await;
        engine.left("77", "3349", "");
        world.sees_at_once([subscribed(json!({ key: id })), october()]).await;
        assert_eq!(world.licenses().await, [THERE], "{key}");
        assert_eq!(engine.calls(), [Call::Adopt]);
        assert_eq!(engine.licenses()[0].reference, unit_id(UNIT).reference(1));
        assert_eq!(
            engine.licenses()[0].terms.expires_at.map(|at| at.to_string()).as_deref(),
            Some("2026-11-04T00:00:00Z")
        );
        assert_eq!(world.data("license.requested").await[0]["named"], named);
        let adopted = &world.data("license.adopted").await[0];
        assert_eq!((&adopted["provider_id"], &adopted["product"]), (&json!("77"), &json!("3349")));
        assert_eq!((&adopted["named_by"], &adopted["also"]["globalId"]), (&json!(key), &json!("977")));
        assert!(adopted["key"]["sealed"].is_string(), "the customer can be shown the key");
        assert_eq!(world.open().await, [""; 0]);
    }
}

#[tokio::test]
async fn an_adopted_license_follows_renewals_and_refunds_at_its_engine() {
    let (mut world, engine) = cryptolens().await;
    engine.left("77", "3349", "");
    world.sees_at_once([subscribed(json!({ "skm_key_id": "77" })), october()]).await;
    let renewed = invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)]);
    world.sees([renewed, payment_of("in_1", "pi_1", "2026-10-01"), payment_of("in_2", "pi_2", "2026-11-01")]).await;
    assert_eq!(engine.licenses()[0].terms.expires_at.map(|at| at.to_string()).as_deref(), Some("2026-12-04T00:00:00Z"));
    world.sees([dispute("dp_1", "pi_2", 4900, "needs_response", "2026-11-02")]).await;
    assert_eq!(engine.licenses()[0].state, "suspended");
}

#[tokio::test]
async fn a_named_license_that_is_refused_makes_no_second_one_and_a_person_is_asked() {
    let (mut world, engine) = cryptolens().await;
    engine.left("77", "another product", "");
    world.sees_at_once([subscribed(json!({ "skm_key_id": "77" })), october()]).await;
    world.patience().await;
    assert_eq!(engine.calls(), [Call::Adopt], "asked once");
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    assert_eq!(world.data("license.not_done").await[0]["reason"], "it belongs to another product");
    engine.left("78", "3349", "");
    let mended = sub("active", &[item("pro", 1, OCT)]).and(json!({ "metadata": { "skm_key_id": "78" } }));
    world.sees([seen("customer.subscription.updated", "2026-10-05", mended)]).await;
    assert_eq!(world.licenses().await, [THERE], "another name is another question");
}

#[tokio::test]
async fn an_adoption_whose_answer_is_lost_is_asked_for_again() {
    for fault in [Fault::CallLost, Fault::AnswerLost, Fault::Unavailable] {
        let (mut world, engine) = cryptolens().await;
        engine.left("77", "3349", "");
        engine.fail(Call::Adopt, fault);
        world.sees_at_once([subscribed(json!({ "skm_key_id": "77" })), october()]).await;
        assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
        world.patience().await;
        assert_eq!(engine.calls(), [Call::Adopt, Call::Adopt], "{fault:?}");
        assert_eq!(world.licenses().await, [THERE]);
    }
}

#[tokio::test]
async fn an_adoption_in_doubt_whose_money_went_back_is_looked_up_and_the_license_revoked() {
    for (fault, end) in [(Fault::AnswerLost, "revoked"), (Fault::CallLost, "active")] {
        let (mut world, engine) = cryptolens().await;
        engine.left("77", "3349", "");
        engine.fail(Call::Adopt, fault);
        world
            .sees_at_once([
                subscribed(json!({ "skm_key_id": "77" })),
                october(),
                payment_of("in_1", "pi_1", "2026-10-01"),
            ])
            .await;
        world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-02")]).await;
        world.patience().await;
        assert_eq!(engine.licenses()[0].state, end, "what was never ours is left alone");
        assert_eq!(world.open().await, [""; 0]);
    }
}

#[tokio::test]
async fn an_adoption_cut_in_half_that_nobody_names_any_more_gets_the_terms_it_is_recorded_with() {
    let (mut world, engine) = cryptolens().await;
    engine.fail(Call::Adopt, Fault::CallLost);
    world.sees_at_once([subscribed(json!({ "skm_key_id": "77" })), october()]).await;
    // The lost call wrote our reference, and nothing else.
    engine.left("77", "3349", "");
    let left = engine.licenses()[0].clone();
    engine.put(Made { provider_id: "78".to_owned(), reference: unit_id(UNIT).reference(1), ..left });
    let unnamed = sub("active", &[item("pro", 1, OCT)]).and(json!({ "metadata": {} }));
    world.sees([seen("customer.subscription.updated", "2026-10-02", unnamed)]).await;
    world.patience().await;
    assert_eq!(engine.calls(), [Call::Adopt, Call::Find, Call::Change]);
    let expires_at = engine.licenses()[1].terms.expires_at.map(|at| at.to_string());
    assert_eq!(expires_at.as_deref(), Some("2026-11-04T00:00:00Z"));
    assert_eq!(world.data("license.adopted").await[0]["provider_id"], "78");
    assert_eq!(world.licenses().await, [THERE]);
}

#[tokio::test]
async fn an_adoption_that_was_never_sent_is_not_looked_for() {
    let mut world = World::new().await;
    let engine = Engine::new("cryptolens", ABLE);
    world.joined_by(&engine).await;
    world.engine.fail(Call::Create, Fault::Refused);
    world.sees([october()]).await;
    world.dies_adopting(UNIT, "cryptolens", "77", 2).await;
    world.patience().await;
    assert!(engine.calls().is_empty(), "without a product there is nothing to ask for");
    world.retries(UNIT).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn a_license_attached_by_its_id_in_the_account_is_known_where_metadata_has_that_id() {
    let mut world = World::with(at_cryptolens()).await;
    world.sees([october()]).await;
    world.attaches(UNIT, "cryptolens", "globalId=977").await;
    assert_eq!(world.data("license.adopted").await[0]["provider_id"], "globalId=977");
    world.sees([subscribed(json!({ "skm_key_globalid": "977" }))]).await;
    assert!(world.data("license.surplus_found").await.is_empty());
    world.sees([subscribed(json!({ "skm_key_globalid": "978" }))]).await;
    assert_eq!(world.data("license.surplus_found").await.len(), 1, "another one is");
}

#[tokio::test]
async fn a_license_that_a_person_attaches_is_looked_up_and_made_ours() {
    let mut world = World::new().await;
    world.engine.fail(Call::Create, Fault::Refused);
    world.sees([october()]).await;
    world.engine.left("lic_by_hand", "pro", "");
    world.attaches(UNIT, "stub", "lic_by_hand").await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    assert_eq!(world.held(), ["active 1x, expires 2026-11-04"]);
    assert_eq!(world.data("license.adopted").await[0]["named_by"], "operator");
    assert_eq!(world.open().await, [""; 0]);
    world.attaches(UNIT, "stub", "lic_by_hand").await;
    assert_eq!(world.held().len(), 1, "doing it again changes nothing");
    assert_eq!(world.data("license.adopted").await.len(), 1);
}

#[tokio::test]
async fn the_wrong_license_is_refused_with_the_reason_and_the_right_one_may_be_attached_then() {
    let mut world = World::new().await;
    (0..9).for_each(|_| world.engine.fail(Call::Create, Fault::Refused));
    world.sees([october()]).await;
    world.engine.left("lic_other", "other", "");
    world.attaches(UNIT, "stub", "lic_other").await;
    let refused = world.data("license.not_done").await;
    assert_eq!(refused.last().unwrap()["reason"], "it belongs to another product");
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    assert!(world.engine.licenses()[0].reference.is_empty(), "nothing was changed");
    world.engine.left("lic_right", "pro", "");
    world.attaches(UNIT, "stub", "lic_right").await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn a_unit_whose_attachment_was_refused_may_be_issued() {
    let mut world = World::new().await;
    world.engine.fail(Call::Create, Fault::Refused);
    world.sees([october()]).await;
    world.attaches(UNIT, "stub", "lic_that_is_not_there").await;
    world.retries(UNIT).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn an_attached_license_takes_the_place_of_the_one_there_is() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    world.engine.left("lic_by_hand", "pro", "");
    world.attaches(UNIT, "stub", "lic_by_hand").await;
    assert_eq!(world.held(), ["revoked 1x, expires 2026-11-04", "active 1x, expires 2026-11-04"]);
}

#[tokio::test]
async fn a_license_at_an_engine_that_the_price_is_not_mapped_to_is_not_asked_for() {
    let mut world = World::new().await;
    let engine = Engine::new("cryptolens", ABLE);
    world.joined_by(&engine).await;
    engine.left("77", "3349", "");
    world.sees_at_once([subscribed(json!({ "skm_key_id": "77" })), october()]).await;
    assert!(engine.calls().is_empty());
    let reason = world.data("license.not_done").await[0]["reason"].clone();
    assert!(reason.as_str().unwrap().contains("not mapped to a product at `cryptolens`"), "{reason}");
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    world.configured(|settings| settings.catalog = at_cryptolens()).await;
    assert_eq!(world.licenses().await, [THERE]);
}

#[tokio::test]
async fn a_license_adopted_without_calls_is_checked_once_its_engine_can_be_asked() {
    for (key, id) in [("skm_key_id", "77"), ("skm_key_globalid", "977")] {
        let mut world = World::with(at_cryptolens()).await;
        world.sees_at_once([subscribed(json!({ key: id })), october()]).await;
        assert_eq!(world.licenses().await, [THERE.trim_end_matches("3349")]);
        let engine = Engine::new("cryptolens", ABLE);
        engine.left("77", "3349", "");
        world.joined_by(&engine).await;
        assert_eq!(world.licenses().await, [THERE], "{key}");
        assert_eq!(engine.calls(), [Call::Adopt]);
        assert!(world.data("license.surplus_found").await.is_empty());
        world.sees([invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)])]).await;
        assert_eq!(engine.calls(), [Call::Adopt, Call::Change]);
    }
}

#[tokio::test]
async fn a_license_that_another_integration_made_for_the_purchase_is_adopted_instead_of_making_one() {
    let mut world = World::new().await;
    world.engine.left("lic_old", "pro", "sub_1");
    world.sees([october()]).await;
    assert_eq!(world.engine.calls(), [Call::Find, Call::Adopt]);
    assert_eq!(world.licenses().await, [ACTIVE]);
    let adopted = &world.data("license.adopted").await[0];
    assert_eq!((&adopted["provider_id"], &adopted["named_by"]), (&json!("lic_old"), &json!("purchase")));
    assert_eq!(world.held().len(), 1);
}

#[tokio::test]
async fn of_several_licenses_made_for_one_unit_the_others_are_surplus() {
    let mut world = World::new().await;
    world.engine.left("lic_a", "pro", "sub_1");
    world.engine.left("lic_b", "pro", "sub_1");
    world.sees([october()]).await;
    assert_eq!(world.data("license.adopted").await[0]["provider_id"], "lic_a");
    let surplus = world.data("license.surplus_found").await;
    assert_eq!((surplus.len(), &surplus[0]["provider_id"]), (1, &json!("lic_b")));
}

#[tokio::test]
async fn of_several_licenses_made_for_several_units_each_takes_one() {
    let mut world =
        World::with(vec![entry(json!({ "provider": "stub", "product": "pro", "units": "quantity" }))]).await;
    for id in ["lic_a", "lic_b"] {
        world.engine.left(id, "pro", "sub_1");
    }
    world.sees([invoice_paid("in_1", "2026-10-01", &[line("pro", 3, 9800, OCT)])]).await;
    assert_eq!(world.held().len(), 3, "one was missing");
    let adopted = world.data("license.adopted").await;
    assert_eq!(adopted.iter().map(|a| a["provider_id"].as_str().unwrap()).collect::<Vec<_>>(), ["lic_a", "lic_b"]);
    assert!(world.data("license.surplus_found").await.is_empty());
}

#[tokio::test]
async fn a_lost_answer_of_adopting_what_was_there_is_found_by_our_reference() {
    let mut world = World::new().await;
    world.engine.left("lic_old", "pro", "sub_1");
    world.engine.fail(Call::Adopt, Fault::AnswerLost);
    world.sees([october()]).await;
    world.patience().await;
    assert_eq!(world.engine.calls(), [Call::Find, Call::Adopt, Call::Find, Call::Change]);
    assert_eq!((world.licenses().await, world.held().len()), (vec![ACTIVE.to_owned()], 1));
}

#[tokio::test]
async fn what_was_left_beside_a_license_of_ours_is_not_taken_for_its_replacement() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    world.engine.left("lic_old", "pro", "sub_1");
    world.reissues(UNIT, 1).await;
    assert!(!world.engine.calls().contains(&Call::Adopt));
    assert!(world.engine.licenses()[1].reference.is_empty());
}

#[tokio::test]
async fn the_id_that_we_wrote_back_ourselves_names_nothing_new() {
    let (mut world, engine) = cryptolens().await;
    world.sees([october()]).await;
    let own = json!({ "skm_key_id": "lic_1", "skm_key_globalid": "9lic_1" });
    world.sees([subscribed(own.clone())]).await;
    // Another item that comes first by name is no reason to take the license from the one that has it.
    let items = [item("a", 1, OCT), item("pro", 1, OCT)];
    let more = sub("active", &items).and(json!({ "metadata": own }));
    world.sees([seen("customer.subscription.updated", "2026-10-05", more)]).await;
    world.sees([invoice_paid("in_2", "2026-10-05", &[line("a", 1, 900, OCT)])]).await;
    assert_eq!(engine.licenses().len(), 2);
    assert!(!engine.calls().contains(&Call::Adopt));
    assert!(world.data("license.surplus_found").await.is_empty());
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn an_adopted_license_moves_with_the_plan_like_one_of_ours() {
    let catalog = vec![
        entry(json!({ "price": "price_max", "provider": "stub", "product": "max" })),
        entry(json!({ "price": "price_pro", "provider": "stub", "product": "pro" })),
    ];
    let mut world = World::with(catalog).await;
    world.engine.left("lic_old", "pro", "sub_1");
    world.sees([october()]).await;
    let moved = item("pro", 1, OCT).and(json!({ "price": { "id": "price_max", "product": "prod_max" } }));
    world.sees([seen("customer.subscription.updated", "2026-10-05", sub("active", &[moved]))]).await;
    assert_eq!(
        world.licenses().await,
        [
            "si_pro/1 revoked (Replaced) 1x until 2026-11-01, expires 2026-11-04",
            "si_pro/1#2 active 1x until 2026-11-01, expires 2026-11-04 at stub/max",
        ]
    );
}

#[tokio::test]
async fn a_product_that_is_sold_at_another_engine_from_now_on_leaves_the_licenses_where_they_are() {
    let mut world = World::with(everything()).await;
    world.sees([october()]).await;
    let other = Engine::new("other", ABLE);
    world.joined_by(&other).await;
    world.configured(|settings| settings.catalog = vec![entry(json!({ "provider": "other", "product": "pro" }))]).await;
    world.sees([invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)])]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-12-01, expires 2026-12-04"]);
    assert!(other.calls().is_empty());
    let new = String::from_utf8(invoice_paid("in_3", "2026-11-02", &[line("pro", 1, 4900, NOV)])).unwrap();
    world.sees([new.replace("sub_1", "sub_2").into_bytes()]).await;
    assert_eq!(other.calls(), [Call::Find, Call::Create], "what is new is sold there");
    assert_eq!(other.name().as_str(), "other");
}
