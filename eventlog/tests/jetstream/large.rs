//! Bodies that do not fit into a message reach consumers whole.

use std::fmt::Write as _;
use std::time::Duration;

use keyledger_eventlog::jetstream::message::Decoded;
use keyledger_eventlog::jetstream::mirror::Slot;
use keyledger_eventlog::jetstream::tail::{Fallback, JetStreamTail};
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::tail::Tail;
use keyledger_eventlog::testing::event;
use keyledger_schemas::envelope::{Recorded, content_hash};
use keyledger_test_servers::{Nats, Options};

use crate::support::{PATIENCE, Place, all, append, mirror, relay, said, sale, settled, until};

const MIB: usize = 1024 * 1024;

/// Text that does not compress well.
fn noise(length: usize) -> String {
    (0..length / 64).fold(String::new(), |mut text, number: usize| {
        for byte in content_hash(&number.to_be_bytes()) {
            write!(text, "{byte:02x}").unwrap();
        }
        text
    })
}

async fn reach_consumers_whole(max_payload: &str) -> Vec<&'static str> {
    let config = format!("max_payload: {max_payload}");
    let nats = Nats::start_with(&Options { config, ..Options::default() });
    let place = Place::new();
    let log = place.open().await;
    let relay = relay(nats.url(), &log, "relay").await;
    let mirror = mirror(nats.url(), &*log).await;
    let tail = JetStreamTail::new(log.clone(), mirror.clone(), "reader", Fallback::Sql);
    append(&*log, "before", 3).await;
    log.append(Append::events(vec![
        sale("compressed", 4 * MIB),
        event("elsewhere", "s", noise(4 * MIB)),
        event("almost", "s", noise(MIB - 1500)),
        event(&"long".repeat(20_000), "s", "{}"),
    ]))
    .await
    .unwrap();
    append(&*log, "after", 3).await;
    assert_eq!(settled(&*log, &mirror).await, 10);
    let mut seen: Vec<Recorded> = Vec::new();
    while seen.len() < 10 {
        let after = seen.last().map_or(0, |event| event.position);
        seen.extend(tail.next_after(after, 100, PATIENCE).await.unwrap());
    }
    assert_eq!(seen, all(&*log).await);
    let mut travelled = Vec::new();
    for position in 4..=7 {
        travelled.push(match mirror.at(position).await.unwrap() {
            Slot::Event(Decoded::Whole(_)) => "whole",
            Slot::Event(Decoded::Elsewhere(_)) => "elsewhere",
            other => panic!("{other:?}"),
        });
    }
    relay.stop().await;
    travelled
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_limit_of_a_usual_server_reach_consumers_whole() {
    assert_eq!(reach_consumers_whole("1MB").await, ["whole", "elsewhere", "whole", "elsewhere"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_limit_of_a_narrow_server_reach_consumers_whole() {
    assert_eq!(reach_consumers_whole("64KB").await, ["whole", "elsewhere", "elsewhere", "elsewhere"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_cannot_take_back_what_did_not_fit_and_says_which() {
    let nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let first = relay(nats.url(), &log, "relay").await;
    append(&*log, "a", 10).await;
    let backup = place.back_up(&log, "backup.db").await;
    append(&*log, "b", 5).await;
    log.append(Append::events(vec![event("evt_large", "s", noise(4 * MIB))])).await.unwrap();
    append(&*log, "c", 5).await;
    let mirror = mirror(nats.url(), &*log).await;
    settled(&*log, &mirror).await;
    first.stop().await;
    log.close().await;
    place.restore(&backup);
    let log = place.open().await;
    let mut relay = relay(nats.url(), &log, "relay").await;
    until(async || said(&*log).await.len() == 1).await;
    assert_eq!(said(&*log).await, ["CannotImport Some(16)"]);
    let text = format!("{:?}", relay.wait_for("diverged").await);
    assert!(text.contains("evt_large at 16, without data") && text.contains("nats stream rm KL_LOG"), "{text}");
    // All but that one, and the event that says so.
    assert_eq!(log.head().await.unwrap().position, 21);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(mirror.position().await.unwrap(), Some(21), "a person decides about the stream");
    // Stripe sends it again; then the person removes the stream.
    log.append(Append::events(vec![event("evt_large", "s", noise(4 * MIB))])).await.unwrap();
    mirror.remove().await.unwrap();
    until(async || said(&*log).await.len() == 2).await;
    assert_eq!(settled(&*log, &mirror).await, 23);
    relay.stop().await;
}
