//! The log is compared with Stripe from time to time.

use std::time::Duration;

use keyledger_sandbox::faults::Fault;

use crate::support::{VERSIONS, story};
use crate::world::{World, updated};

const EVERY: Duration = Duration::from_mins(15);

async fn comparing() -> World {
    let mut world = World::new("cryptlex").await;
    (world.configured.reconcile_every, world.configured.write_back) = (Some(EVERY), false);
    world.restart().await;
    world
}

#[tokio::test]
async fn what_was_never_delivered_is_found_in_time_and_once() {
    let mut world = comparing().await;
    world.work().await;
    assert_eq!(world.asked("events.list"), 0, "not at every start");
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
    world.load(&recent(&bodies));
    world.pass(EVERY).await;
    assert_eq!(world.events("license.issued").await.len(), 1);
    assert_eq!(world.events("reconcile.completed").await.len(), 1);
    let size = world.log.head().await.unwrap().position;
    world.restart().await;
    world.work().await;
    assert_eq!(world.events("reconcile.completed").await.len(), 1, "a restart does not hurry it");
    world.pass(EVERY).await;
    assert_eq!(world.events("reconcile.completed").await.len(), 2);
    assert_eq!(world.log.head().await.unwrap().position, size + 1, "nothing was missing any more");
}

/// Time passes between the moment when it is decided how far back to look and the one when Stripe is asked.
#[tokio::test]
async fn the_first_comparison_looks_at_events_alone() {
    let mut world = comparing().await;
    world.ticking = true;
    world.restart().await;
    world.work().await;
    world.pass(EVERY).await;
    assert_eq!(world.events("reconcile.completed").await.len(), 1);
    assert!(world.asked("events.list") > 0);
    let calls = world.stripe.stage().calls();
    let others: Vec<_> = calls.keys().filter(|operation| *operation != "events.list").collect();
    assert_eq!(others, Vec::<&String>::new());
}

#[tokio::test]
async fn a_comparison_that_fails_comes_again_soon() {
    let mut world = comparing().await;
    world.work().await;
    world.misbehave("events.list", 1, Fault::Fail { status: 400, retry_after_s: None });
    world.pass(EVERY).await;
    assert_eq!(world.events("reconcile.completed").await.len(), 0);
    world.pass(Duration::from_mins(1)).await;
    assert_eq!(world.events("reconcile.completed").await.len(), 1);
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let mut world = comparing().await;
    world.work().await;
    world.configured.reconcile_every = None;
    world.restart().await;
    world.pass(EVERY * 10).await;
    assert_eq!(world.asked("events.list"), 0);
}

/// The bodies as if they had been made today.
fn recent(bodies: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let events = bodies.iter().enumerate().map(|(index, body)| {
        let event: serde_json::Value = serde_json::from_slice(body).unwrap();
        let second = i64::try_from(index).unwrap() - 600;
        let kind = event["type"].as_str().unwrap().to_owned();
        let renamed = String::from_utf8(updated(&kind, &event["data"]["object"], second)).unwrap();
        renamed.replace("evt_test", "evt_recent").into_bytes()
    });
    events.collect()
}
