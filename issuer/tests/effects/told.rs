//! Customers who are called otherwise now, brought up to date at their engines.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{VERSIONS, story};
use crate::world::{World, updated};

/// A customer with a license, without any API key of Stripe's.
async fn licensed() -> (World, Value) {
    let mut world = World::new("cryptlex").await;
    world.configured.key = false;
    world.restart().await;
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
    world.feed(&bodies).await;
    let shown = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).unwrap()["data"]["object"].clone());
    let customer = shown.into_iter().find(|object| object["object"] == "customer").unwrap();
    (world, customer)
}

fn renamed(customer: &Value, name: &str, second: i64) -> Vec<u8> {
    let mut customer = customer.clone();
    customer["name"] = json!(name);
    updated("customer.updated", &customer, second)
}

#[tokio::test]
async fn a_new_name_is_told_once() {
    let (mut world, customer) = licensed().await;
    assert_eq!(world.engine.told.lock().unwrap().updates, 0);
    world.feed(&[renamed(&customer, "Ada", 1)]).await;
    assert_eq!(world.engine.told.lock().unwrap().customers["4711"].1.as_deref(), Some("Ada"));
    let mut noted = customer.clone();
    (noted["name"], noted["metadata"]["note"]) = (json!("Ada"), json!("x"));
    world.feed(&[updated("customer.updated", &noted, 2)]).await;
    world.restart().await;
    world.pass(Duration::from_hours(48)).await;
    assert_eq!(world.engine.told.lock().unwrap().updates, 1);
    let synced = world.events("customer.synced").await;
    assert_eq!(synced.len(), 1);
    assert!(!String::from_utf8_lossy(&synced[0].data).contains("Ada"));
}

#[tokio::test]
async fn an_engine_that_is_away_is_told_later() {
    let (mut world, customer) = licensed().await;
    world.engine.told.lock().unwrap().away = 2;
    world.feed(&[renamed(&customer, "Ada", 1)]).await;
    world.pass(Duration::from_mins(1)).await;
    world.pass(Duration::from_mins(1)).await;
    assert_eq!(world.engine.told.lock().unwrap().customers["4711"].1.as_deref(), Some("Ada"));
    assert_eq!(world.events("customer.synced").await.len(), 1);
}

#[tokio::test]
async fn what_an_engine_refuses_is_recorded_and_tried_again_with_the_next_name() {
    let (mut world, customer) = licensed().await;
    world.engine.told.lock().unwrap().refuse = Some("name too long".to_owned());
    world.feed(&[renamed(&customer, "Ada", 1)]).await;
    world.pass(Duration::from_hours(48)).await;
    let synced = world.events("customer.synced").await;
    let data: Value = serde_json::from_slice(&synced[0].data).unwrap();
    assert_eq!((synced.len(), data["refused"].as_str()), (1, Some("name too long")));
    assert_eq!(world.engine.told.lock().unwrap().updates, 1);
    world.engine.told.lock().unwrap().refuse = None;
    world.feed(&[renamed(&customer, "Al", 5)]).await;
    assert_eq!(world.engine.told.lock().unwrap().customers["4711"].1.as_deref(), Some("Al"));
}

#[tokio::test]
async fn reading_the_log_again_tells_nobody() {
    let (mut world, customer) = licensed().await;
    world.feed(&[renamed(&customer, "Ada", 1)]).await;
    let mut again = world.replayed().await;
    again.work().await;
    again.pass(Duration::from_hours(1)).await;
    assert_eq!(world.engine.told.lock().unwrap().updates, 1);
}
