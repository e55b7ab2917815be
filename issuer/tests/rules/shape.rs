//! How deciding is built: a pure core, a shell that can be killed, timers in a column, settings for every default.

use std::fs;
use std::path::{Path, PathBuf};

use keyledger_eventlog::log::Append;
use keyledger_issuer::store;
use keyledger_schemas::event::Event;
use keyledger_schemas::settings::Policy;
use serde_json::{Value, json};

use crate::engine::Fault;
use crate::stripe::{NOV, OCT, at, dispute, invoice_paid, item, line, payment_of, refund, seen, sub};
use crate::support::stripe_event;
use crate::world::{World, everything, policy, purchase_id};

fn october() -> Vec<u8> {
    invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)])
}

/// Every `.rs` file below a folder of the workspace.
pub fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut folders = vec![root];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files
}

/// The lines that are code, not comment.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn the_core_has_no_clock_no_calls_and_no_waiting() {
    let core = sources("issuer/src/purchase");
    assert!(core.len() >= 7, "{}", core.len());
    for (path, text) in core {
        for word in ["async ", ".await", "tokio", "Clock", "reqwest", "tracing", "eventlog", "std::fs", "std::env"] {
            let found = code(&text).find(|line| line.contains(word));
            assert_eq!(found, None, "{} has `{word}`", path.display());
        }
    }
}

#[test]
fn nobody_reads_the_billing_reason() {
    for folder in ["issuer/src", "schemas/src", "projector/src"] {
        for (path, text) in sources(folder) {
            let found = code(&text).find(|line| line.contains("billing_reason"));
            assert_eq!(found, None, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn state_has_two_cursors_one_for_the_log_and_one_for_its_own_stream() {
    let mut world = World::new().await;
    world
        .sees([seen("customer.updated", "2026-10-01", json!({ "id": "cus_9", "object": "customer" })), october()])
        .await;
    let purchase = world.bench.purchases().await["sub_1"].clone();
    let own = world.bench.log.read_stream(&purchase_id("sub_1").stream(), 0, 100).await.unwrap();
    assert_eq!(purchase.version, own.len() as u64, "every event of its own is folded in");
    let invoice = &world.events("stripe.invoice.paid").await[0];
    assert_eq!(purchase.consumed, invoice.position, "its own events do not move how far facts were read");
    assert_ne!(purchase.consumed, purchase.version);
}

#[tokio::test]
async fn state_is_rebuilt_from_the_log_alone() {
    let mut world = World::new().await;
    world.sees([october(), payment_of("in_1", "pi_1", "2026-10-01")]).await;
    world.sees([dispute("dp_1", "pi_1", 4900, "needs_response", "2026-10-05")]).await;
    let (before, due) = (world.bench.purchases().await, world.due().await);
    let (story, held) = (world.story().await, world.held());

    let again = World::new().await;
    let events = world.bench.log.read_after(1, 1000).await.unwrap();
    let copies = events.into_iter().map(|event| keyledger_schemas::envelope::NewEvent {
        id: event.id,
        kind: event.kind,
        scope: event.scope,
        stream: event.stream,
        occurred_at: event.occurred_at,
        causation_id: event.causation_id,
        correlation_id: event.correlation_id,
        schema_version: event.schema_version,
        actor: event.actor,
        partition: event.partition,
        delivery: event.delivery,
        data: event.data,
        on_reuse: keyledger_schemas::envelope::IdReuse::Refused,
    });
    again.bench.log.append(Append::events(copies.collect())).await.unwrap();
    let mut again = again;
    again.settle().await;
    assert_eq!(again.bench.purchases().await, before);
    assert_eq!(again.due().await, due);
    assert_eq!(again.story().await, story, "and nothing is done twice");
    assert!(again.engine.calls().is_empty());
    assert_eq!(world.held(), held);
}

#[tokio::test]
async fn timers_are_a_column_of_the_state() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    let expires = at("2026-11-04");
    assert_eq!(world.bench.log.state_next_due(store::PURCHASES).await.unwrap(), Some(expires));
    let due = world.bench.log.state_due(store::PURCHASES, expires, 10).await.unwrap();
    assert_eq!(due.len(), 1);
}

#[tokio::test]
async fn what_must_be_done_is_read_from_state_whatever_woke_us() {
    let mut world = World::new().await;
    world.engine.fail_all(Fault::Unavailable, 1);
    world.sees([october()]).await;
    assert_eq!(world.open().await.len(), 1);
    // The message is long consumed; another process starts, and nothing new arrives.
    world.engine.recover();
    world.bench.restart().await;
    world.patience().await;
    assert_eq!(world.licenses().await.len(), 1);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn facts_may_come_in_any_order_and_more_than_once() {
    let bodies = [
        october(),
        payment_of("in_1", "pi_1", "2026-10-01"),
        refund("re_1", "pi_1", 1000, "succeeded", "2026-10-05"),
        seen("customer.subscription.updated", "2026-10-04", sub("active", &[item("pro", 3, OCT)])),
        invoice_paid("in_2", "2026-11-01", &[line("pro", 3, 4900, NOV)]),
    ];
    let expected = ["si_pro/1 active 3x until 2026-12-01, expires 2026-12-04"];
    for turn in 0..bodies.len() {
        let turned = || bodies.iter().cycle().skip(turn).take(bodies.len()).cloned();
        let mut one_by_one = World::new().await;
        one_by_one.sees(turned()).await;
        assert_eq!(one_by_one.licenses().await, expected, "{turn}");
        let mut backward = World::new().await;
        backward.sees(turned().collect::<Vec<_>>().into_iter().rev().chain(turned())).await;
        assert_eq!(backward.licenses().await, expected, "{turn}, backward and again");
        assert_eq!(backward.held(), ["active 3x, expires 2026-12-04"]);
    }
}

#[test]
fn every_default_is_a_setting_of_the_policy() {
    let defaults = serde_json::to_value(Policy::default()).unwrap();
    let others = json!({
        "grace": "1d", "trial": "ignore", "refund_full": "keep", "dispute_lost": "keep", "dispute_open": "keep",
        "paused": "keep", "unpaid": "keep", "cancel_scheduled": "grace", "ended": "paid_until",
        "left_by_other_system": "case",
    });
    let names = |settings: &Value| settings.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&defaults), names(&others), "each has another value that some test of these rules sets");
    for (name, other) in others.as_object().unwrap() {
        assert_ne!(defaults[name], *other, "{name}");
        assert_ne!(policy(json!({ name: other })), Policy::default(), "{name}");
    }
}

#[tokio::test]
async fn what_is_decided_names_what_it_was_decided_for() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    let invoice = world.events("stripe.invoice.paid").await.remove(0);
    let opened = world.events("obligation.opened").await.remove(0);
    let requested = world.events("license.requested").await.remove(0);
    let issued = world.events("license.issued").await.remove(0);
    assert_eq!(opened.causation_id.as_ref(), Some(&invoice.id));
    assert_eq!(requested.causation_id.as_ref(), Some(&invoice.id));
    assert_eq!(issued.causation_id.as_ref(), Some(&requested.id));
    let Some(Event::LicenseIssued(data)) = Event::decode(&issued.kind, &issued.data).unwrap() else { panic!() };
    assert!(data.key.is_some(), "the engine gave one");
    assert!(!String::from_utf8(issued.data).unwrap().contains("KEY-"), "the key itself is sealed");
}

#[tokio::test]
async fn only_the_mode_that_issues_gets_licenses() {
    let mut world = World::with(everything()).await;
    let test = String::from_utf8(october()).unwrap().replace("\"livemode\":true", "\"livemode\":false").into_bytes();
    world.bench.log.append(Append::events(vec![stripe_event(&test)])).await.unwrap();
    world.settle().await;
    assert_eq!((world.licenses().await.len(), world.open().await.len()), (0, 0));
    assert_eq!(world.bench.purchases().await.len(), 1, "kept, and shown");
}
