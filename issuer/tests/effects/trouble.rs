//! Lost replies, refusals, limits, crashes and replays.

use std::time::Duration;

use keyledger_issuer::effects::errand::ERRANDS;
use keyledger_sandbox::faults::{Chance, Fault, Faults, Mix};
use keyledger_sandbox::stripe::Settings;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{VERSIONS, story};
use crate::world::{World, id_in, updated};

const UPDATE: &str = "subscriptions.update";

/// A world in which story `a` was paid for the first time, with Stripe misbehaving from the start.
async fn paid(operation: &str, count: u32, fault: Fault) -> (World, String) {
    let mut world = World::new("cryptolens").await;
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
    let id = id_in(&bodies, "subscription");
    world.load(&bodies);
    world.misbehave(operation, count, fault);
    world.feed(&bodies).await;
    (world, id)
}

fn is_written(world: &World, id: &str) -> bool {
    world.metadata("subscription", id).contains_key("skm_key_id")
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_and_written_once() {
    let (mut world, id) = paid(UPDATE, 1, Fault::CommitThenDrop).await;
    assert!(is_written(&world, &id));
    world.pass(Duration::from_mins(1)).await;
    assert_eq!(world.stripe.writes().get(&id), Some(&1), "the second was the first, by its key");
    assert_eq!(world.asked(UPDATE), 2);
    world.echo().await;
    world.pass(Duration::from_hours(48)).await;
    assert_eq!(world.asked(UPDATE), 2);
}

#[tokio::test]
async fn limits_and_failures_are_waited_for() {
    let fail = |status| Fault::Fail { status, retry_after_s: None };
    // Stripe repeats its own failures to the key that met them, for a day: after one, the key is another.
    let faults = [(fail(429), "0.0"), (fail(500), "0.3"), (fail(503), "0.3"), (fail(409), "0.0"), (Fault::Drop, "0.0")];
    for (fault, round) in faults {
        let (mut world, id) = paid(UPDATE, 3, fault.clone()).await;
        assert!(!is_written(&world, &id), "{fault:?}");
        for _ in 0..4 {
            world.pass(Duration::from_mins(3)).await;
        }
        assert!(is_written(&world, &id), "{fault:?}");
        assert_eq!(world.asked(UPDATE), 4, "{fault:?}");
        assert_eq!(world.events("metadata.refused").await.len(), 0, "{fault:?}");
        let written = world.events("metadata.written").await.pop().unwrap();
        let data: Value = serde_json::from_slice(&written.data).unwrap();
        let key = data["idempotency_key"].as_str().unwrap();
        assert!(key.starts_with(&format!("keyledger/metadata/{id}/{round}/")), "{fault:?}: {key}");
    }
}

#[tokio::test]
async fn a_write_that_was_done_though_it_failed_is_written_in_the_end() {
    let (mut world, id) = paid(UPDATE, 1, Fault::CommitThenFail { status: 500 }).await;
    world.pass(Duration::from_mins(1)).await;
    assert!(is_written(&world, &id));
    assert_eq!(world.events("metadata.written").await.len(), 2);
}

#[tokio::test]
async fn a_key_that_is_refused_is_tried_again_when_it_was_mended() {
    for status in [401, 403] {
        let (mut world, id) = paid(UPDATE, 1, Fault::Fail { status, retry_after_s: None }).await;
        assert_eq!(world.events("metadata.refused").await.len(), 0);
        world.pass(Duration::from_mins(1)).await;
        assert!(is_written(&world, &id), "{status}");
    }
}

#[tokio::test]
async fn what_is_refused_is_recorded_and_never_written_again() {
    for status in [400, 404] {
        let (mut world, id) = paid(UPDATE, 100, Fault::Fail { status, retry_after_s: None }).await;
        let refused = world.events("metadata.refused").await;
        let data: Value = serde_json::from_slice(&refused[0].data).unwrap();
        assert_eq!((refused.len(), data["object"].as_str()), (1, Some(id.as_str())));
        world.echo().await;
        world.feed(&story("a", VERSIONS[1])).await;
        world.pass(Duration::from_hours(48)).await;
        world.restart().await;
        world.pass(Duration::from_hours(48)).await;
        assert_eq!(world.asked(UPDATE), 1, "{status}");
    }
}

#[tokio::test]
async fn an_ended_subscription_and_a_deleted_customer_are_let_go() {
    let mut world = World::new("cryptolens").await;
    world.stripe.set(Settings { canceled_takes_metadata: false, ..world.stripe.settings() });
    let bodies = story("a", VERSIONS[1]);
    world.load(&bodies);
    let customer = id_in(&bodies, "customer");
    let gone = json!({"id": customer, "object": "customer", "livemode": true, "created": 1});
    world.load(&[updated("customer.deleted", &gone, 0)]);
    // The log has not seen either end yet.
    world.feed(&bodies[..10]).await;
    let refused = world.events("metadata.refused").await;
    assert_eq!(refused.len(), 2);
    world.feed(&bodies).await;
    world.pass(Duration::from_hours(48)).await;
    assert_eq!((world.events("metadata.refused").await.len(), world.writes()), (2, 0));
    assert_eq!((world.asked(UPDATE), world.asked("customers.update")), (1, 1));
}

#[tokio::test]
async fn a_running_issuer_writes_and_stops_when_it_is_told() {
    let mut world = World::new("cryptolens").await;
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
    let id = id_in(&bodies, "subscription");
    world.load(&bodies);
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.take().run(stop.clone()));
    world.put(&bodies).await;
    let written = async {
        while !is_written(&world, &id) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), written).await.unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn killed_at_any_moment_it_writes_once() {
    for moment in 0..40 {
        let mut world = World::new("cryptolens").await;
        let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
        let id = id_in(&bodies, "subscription");
        world.load(&bodies);
        world.put(&bodies).await;
        for _ in 0..3 {
            let running = tokio::spawn(world.take().run(CancellationToken::new()));
            tokio::time::sleep(Duration::from_micros(moment * 500)).await;
            running.abort();
            _ = running.await;
            world.restart().await;
        }
        for _ in 0..4 {
            world.pass(Duration::from_mins(2)).await;
        }
        let written = (world.stripe.writes().get(&id).copied(), is_written(&world, &id));
        assert_eq!(written, (Some(1), true), "killed after {moment} half milliseconds");
        assert_eq!(world.events("metadata.written").await.len(), 2);
    }
}

#[tokio::test]
async fn a_restart_in_between_repeats_nothing() {
    let (mut world, id) = paid(UPDATE, 1, Fault::CommitThenDrop).await;
    for _ in 0..3 {
        world.restart().await;
        world.pass(Duration::from_mins(1)).await;
    }
    assert_eq!(world.stripe.writes().get(&id), Some(&1));
    assert_eq!(world.asked(UPDATE), 2);
}

#[tokio::test]
async fn an_echo_that_comes_before_the_reply_changes_nothing() {
    let (mut world, id) = paid(UPDATE, 1, Fault::CommitThenDrop).await;
    world.echo().await;
    world.pass(Duration::from_hours(3)).await;
    assert_eq!(world.stripe.writes().get(&id), Some(&1));
}

#[tokio::test]
async fn with_every_fourth_call_failing_all_is_written_and_fetched_in_the_end() {
    let chance = |fault| Chance { operation: "any".to_owned(), probability: 0.05, fault };
    let faults = [
        Fault::CommitThenDrop,
        Fault::Drop,
        Fault::CommitThenFail { status: 500 },
        Fault::Fail { status: 429, retry_after_s: None },
        Fault::CommitThenGarble,
    ];
    for seed in 0..12 {
        let mut world = World::new("cryptolens").await;
        let mix = Mix { seed, faults: faults.iter().cloned().map(chance).collect() };
        world.stripe.stage().misbehave(Faults { mix: Some(mix), ..Faults::default() }).unwrap();
        for key in ["a", "b", "d", "g"] {
            world.tell(key).await;
        }
        for round in 0..12 {
            world.pass(Duration::from_mins(15)).await;
            if round % 3 == 0 {
                world.echo().await;
                world.restart().await;
            }
        }
        let written = world.events("metadata.written").await.len();
        assert_eq!(world.events("metadata.refused").await.len(), 0, "seed {seed}");
        assert_eq!(world.events("stripe.fetched.checkout.session").await.len(), 1, "seed {seed}");
        let waiting = world.log.state_scan(ERRANDS, "", "", 10).await.unwrap();
        assert_eq!(waiting.iter().map(|row| &row.key).collect::<Vec<_>>(), Vec::<&String>::new(), "seed {seed}");
        let asked = world.asked(UPDATE);
        world.pass(Duration::from_hours(72)).await;
        assert_eq!(
            (world.asked(UPDATE), world.events("metadata.written").await.len()),
            (asked, written),
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn reading_the_log_again_makes_no_request() {
    let mut world = World::new("cryptolens").await;
    for key in ["a", "b", "d", "e", "f", "g", "k"] {
        world.tell(key).await;
    }
    world.pass(Duration::from_hours(3)).await;
    world.echo().await;
    world.pass(Duration::from_hours(3)).await;
    assert!(world.writes() > 0);
    let asked = world.stripe.stage().calls();
    world.stripe.forbid_all(true);
    let mut again = world.replayed().await;
    again.work().await;
    again.pass(Duration::from_hours(72)).await;
    assert_eq!(world.stripe.forbidden(), 0);
    assert_eq!(world.stripe.stage().calls(), asked);
    let own = |events: &[keyledger_schemas::envelope::Recorded]| events.len();
    for kind in ["metadata.written", "metadata.refused", "fetch.refused"] {
        assert_eq!(own(&again.events(kind).await), own(&world.events(kind).await), "{kind}");
    }
}

#[tokio::test]
async fn no_secret_name_or_address_is_in_an_event_of_effects() {
    let mut world = World::new("cryptolens").await;
    for key in ["a", "g", "l"] {
        world.tell(key).await;
    }
    world.pass(Duration::from_hours(3)).await;
    let events = world.log.read_after(0, 100_000).await.unwrap();
    let own = events.iter().filter(|event| !event.is_stripe() && event.kind != "settings.changed");
    for event in own {
        let text = String::from_utf8_lossy(&event.data);
        assert!(!text.contains('@') && !text.contains("\"sandbox\""), "{}: {text}", event.kind);
    }
}
