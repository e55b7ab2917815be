//! Metadata that is written back to Stripe.

use std::time::Duration;

use keyledger_schemas::event::{AttachRequested, Event};
use keyledger_schemas::ids::{Mode, PurchaseId, Scope, SourceName};
use keyledger_schemas::settings::{LeftPolicy, Policy};
use serde_json::{Value, json};

use crate::support::{VERSIONS, own_event, story};
use crate::world::{World, entry, id_in, updated, without};

const SUBSCRIPTION: &str = "subscription";

/// Story `a` up to its first payment: what came after it is not known yet.
fn first_payment() -> Vec<Vec<u8>> {
    story("a", VERSIONS[1]).into_iter().take(10).collect()
}

#[tokio::test]
async fn a_confirmed_license_is_written_to_its_subscription_once() {
    let mut world = World::new("cryptolens").await;
    let bodies = first_payment();
    let id = id_in(&bodies, SUBSCRIPTION);
    world.load(&bodies);
    let before = world.metadata(SUBSCRIPTION, &id);
    world.feed(&bodies).await;
    let after = world.metadata(SUBSCRIPTION, &id);
    assert_eq!((after["skm_key_id"].as_str(), after["skm_key_globalid"].as_str()), ("5", "812345"));
    assert!(!after.contains_key("skm_temp_var"));
    for (key, value) in before.iter().filter(|(key, _)| !key.starts_with("skm_")) {
        assert_eq!(after.get(key), Some(value), "{key} is the seller's");
    }
    for _ in 0..3 {
        world.echo().await;
        world.feed(&bodies).await;
        world.pass(Duration::from_hours(3)).await;
    }
    assert_eq!(world.stripe.writes().get(&id), Some(&1));
    assert_eq!(world.asked("subscriptions.update"), 1);
    assert_eq!(world.events("metadata.written").await.len(), 2, "the subscription's, and the customer's");
}

#[tokio::test]
async fn a_license_at_another_engine_is_named_by_our_id() {
    let mut world = World::new("cryptlex").await;
    let bodies = first_payment();
    world.load(&bodies);
    world.feed(&bodies).await;
    let id = id_in(&bodies, SUBSCRIPTION);
    let metadata = world.metadata(SUBSCRIPTION, &id);
    let issued = world.events("license.issued").await;
    let license: Value = serde_json::from_slice(&issued[0].data).unwrap();
    assert_eq!(metadata["keyledger_license_id"], license["license"].as_str().unwrap());
    assert!(!metadata.contains_key("skm_key_id"));
    let customer = id_in(&bodies, "customer");
    assert!(!world.metadata("customer", &customer).contains_key("skm_customer_id"));
}

#[tokio::test]
async fn a_customer_at_cryptolens_is_named_once() {
    let mut world = World::new("cryptolens").await;
    let bodies = first_payment();
    world.load(&bodies);
    world.feed(&bodies).await;
    let customer = id_in(&bodies, "customer");
    assert_eq!(world.metadata("customer", &customer)["skm_customer_id"], "4711");
    world.echo().await;
    world.pass(Duration::from_hours(3)).await;
    assert_eq!(world.asked("customers.update"), 1);
    assert_eq!(world.engine.told.lock().unwrap().updates, 0, "an echo says nothing about how they are called");
}

#[tokio::test]
async fn a_mark_of_another_system_goes_when_the_key_is_there() {
    let mut world = World::new("cryptolens").await;
    let bodies = world.tell("g").await;
    let stuck = id_in(&bodies, SUBSCRIPTION);
    let metadata = world.metadata(SUBSCRIPTION, &stuck);
    assert!(!metadata.contains_key("skm_temp_var"), "{metadata:?}");
    assert!(metadata.contains_key("skm_key_id"));
    world.echo().await;
    assert_eq!(world.stripe.writes().get(&stuck), Some(&1));
}

#[tokio::test]
async fn a_mark_of_another_system_stays_while_a_person_is_to_decide() {
    let mut world = World::new("cryptolens").await;
    let mut settings = world.settings();
    settings.policy = Policy { left_by_other_system: LeftPolicy::Case, ..Policy::default() };
    world.note(settings).await;
    let bodies = world.tell("g").await;
    let stuck = id_in(&bodies, SUBSCRIPTION);
    let mark = world.metadata(SUBSCRIPTION, &stuck)["skm_temp_var"].clone();
    world.pass(Duration::from_hours(3)).await;
    assert_eq!(world.metadata(SUBSCRIPTION, &stuck)["skm_temp_var"], mark);
    assert_eq!(world.stripe.writes().get(&stuck), None);
}

#[tokio::test]
async fn a_key_that_is_missing_for_a_minute_is_marked_and_the_mark_goes_with_the_key() {
    let mut world = World::selling("cryptolens", vec![entry(r#"{"price": "price_other"}"#)]).await;
    world.configured.fetch = false;
    world.restart().await;
    let bodies = first_payment();
    let id = id_in(&bodies, SUBSCRIPTION);
    world.load(&bodies);
    world.feed(&bodies).await;
    world.pass(Duration::from_secs(59)).await;
    assert_eq!(world.writes(), 0, "it may come any moment");
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.metadata(SUBSCRIPTION, &id)["skm_temp_var"], "keyledger: unmapped_price");
    world.echo().await;
    assert_eq!(world.events("license.issued").await.len(), 0);
    let mut settings = world.settings();
    settings.catalog = vec![entry(r#"{"provider": "cryptolens", "product": "3349"}"#)];
    world.note(settings).await;
    world.work().await;
    let metadata = world.metadata(SUBSCRIPTION, &id);
    assert!(!metadata.contains_key("skm_temp_var") && metadata["skm_key_id"] == "5", "{metadata:?}");
    assert_eq!(world.stripe.writes().get(&id), Some(&2));
}

#[tokio::test]
async fn a_mark_says_another_cause_after_an_hour() {
    let mut world = World::selling("cryptolens", vec![entry(r#"{"price": "price_other"}"#)]).await;
    world.configured.fetch = false;
    world.restart().await;
    let bodies = first_payment();
    let id = id_in(&bodies, SUBSCRIPTION);
    world.load(&bodies);
    world.feed(&bodies).await;
    world.pass(Duration::from_mins(1)).await;
    world.engine.told.lock().unwrap().refuse_licenses = true;
    let mut settings = world.settings();
    settings.catalog = vec![entry(r#"{"provider": "cryptolens", "product": "3349"}"#)];
    world.note(settings).await;
    world.pass(Duration::from_mins(59)).await;
    assert_eq!(world.metadata(SUBSCRIPTION, &id)["skm_temp_var"], "keyledger: unmapped_price");
    world.pass(Duration::from_mins(2)).await;
    assert_eq!(world.metadata(SUBSCRIPTION, &id)["skm_temp_var"], "keyledger: provider_refused");
}

#[tokio::test]
async fn a_key_made_by_hand_is_written_when_it_is_attached() {
    let mut world = World::new("cryptlex").await;
    let mut settings = world.settings();
    settings.policy = Policy { left_by_other_system: LeftPolicy::Case, ..Policy::default() };
    world.note(settings).await;
    let bodies = world.tell("g").await;
    let stuck = id_in(&bodies, SUBSCRIPTION);
    let purchase = PurchaseId::new(Scope::new(SourceName::default(), Mode::Live), stuck.as_str());
    let opened = world.events("obligation.opened").await;
    let opened: Vec<Value> = opened.iter().map(|event| serde_json::from_slice(&event.data).unwrap()).collect();
    let unit = opened.iter().find(|data| data["unit"].as_str().unwrap().contains(&stuck)).unwrap()["unit"].clone();
    let attach = Event::AttachRequested(AttachRequested {
        unit: serde_json::from_value(unit).unwrap(),
        // It is not configured here: nobody is asked.
        provider: "cryptolens".into(),
        provider_id: "77".to_owned(),
        reason: "made by hand".to_owned(),
    });
    let event = own_event(&attach, purchase.stream().as_str(), "2026-11-20T12:00:00Z".parse().unwrap());
    world.append(event).await;
    let metadata = world.metadata(SUBSCRIPTION, &stuck);
    assert_eq!(metadata.get("skm_key_id").map(String::as_str), Some("77"), "{metadata:?}");
    assert!(!metadata.contains_key("skm_temp_var"));
    world.echo().await;
    world.pass(Duration::from_hours(3)).await;
    assert_eq!(world.stripe.writes().get(&stuck), Some(&1));
}

#[tokio::test]
async fn a_storm_of_changes_causes_one_write() {
    let mut world = World::new("cryptolens").await;
    let bodies = first_payment();
    let id = id_in(&bodies, SUBSCRIPTION);
    world.load(&bodies);
    let shown = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).unwrap());
    let subscription = shown.map(|event| event["data"]["object"].clone()).find(|object| object["id"] == id.as_str());
    let mut subscription = subscription.unwrap();
    world.feed(&bodies).await;
    // Changes that were made before ours was done, and that arrive after it.
    for second in 0..50 {
        subscription["metadata"]["note"] = json!(format!("n{second}"));
        world.feed(&[updated("customer.subscription.updated", &subscription, second)]).await;
    }
    world.pass(Duration::from_mins(10)).await;
    assert_eq!(world.stripe.writes().get(&id), Some(&1));
}

#[tokio::test]
async fn a_value_that_somebody_takes_away_is_put_back_once_an_hour() {
    let mut world = World::new("cryptolens").await;
    let bodies = first_payment();
    let id = id_in(&bodies, SUBSCRIPTION);
    world.load(&bodies);
    world.feed(&bodies).await;
    let mut writes = Vec::new();
    for minute in [10, 20, 30, 130] {
        let shown = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).unwrap());
        let mut objects = shown.map(|event| event["data"]["object"].clone());
        let without_ids = objects.find(|object| object["id"] == id.as_str()).unwrap();
        world.clock.set(crate::world::BEGIN.parse().unwrap());
        world.pass(Duration::from_mins(minute)).await;
        let second = i64::try_from(minute * 60).unwrap();
        world.feed(&[updated("customer.subscription.updated", &without_ids, second)]).await;
        writes.push(world.stripe.writes()[&id]);
    }
    assert_eq!(writes, [1, 1, 1, 2]);
}

#[tokio::test]
async fn nothing_is_written_where_it_is_not_wanted() {
    for (key, write_back) in [(false, true), (true, false)] {
        let mut world = World::new("cryptolens").await;
        (world.configured.key, world.configured.write_back) = (key, write_back);
        world.restart().await;
        world.tell("g").await;
        world.pass(Duration::from_hours(3)).await;
        assert_eq!((world.writes(), world.asked("subscriptions.update")), (0, 0));
    }
}

#[tokio::test]
async fn what_was_issued_before_there_was_a_key_is_written_once_there_is_one() {
    let mut world = World::new("cryptolens").await;
    world.configured.key = false;
    world.restart().await;
    let bodies = first_payment();
    world.load(&bodies);
    world.feed(&without(&bodies, &[])).await;
    assert_eq!(world.writes(), 0);
    world.configured.key = true;
    world.restart().await;
    world.work().await;
    assert_eq!(world.metadata(SUBSCRIPTION, &id_in(&bodies, SUBSCRIPTION))["skm_key_id"], "5");
}
