//! The whole on the oldest server that is supported: the suites run on the current one.

use keyledger_eventlog::jetstream::tail::{Fallback, JetStreamTail};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::Tail;
use keyledger_schemas::envelope::Recorded;
use keyledger_test_servers::{Nats, OLDEST, Options};

use crate::support::{Load, PATIENCE, Place, all, append, mirror, relay, said, settled, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_server_is_filled_followed_killed_and_imported_from() {
    let mut nats = Nats::start_with(&Options { version: OLDEST, ..Options::default() });
    let place = Place::new();
    let log = place.open().await;
    let first = relay(nats.url(), &log, "relay").await;
    let mirror = mirror(nats.url(), &*log).await;
    let tail = JetStreamTail::new(log.clone(), mirror.clone(), "keyledger-projector", Fallback::Sql);
    append(&*log, "a", 50).await;
    settled(&*log, &mirror).await;
    let backup = place.back_up(&log, "backup.db").await;

    let load = Load::start(&log, "load");
    let mut seen: Vec<Recorded> = Vec::new();
    for round in 0..60 {
        let after = seen.last().map_or(0, |event| event.position);
        seen.extend(tail.next_after(after, 20, PATIENCE).await.unwrap());
        match round {
            20 => nats.kill(),
            30 => nats.start_again(),
            _ => {}
        }
    }
    let count = load.stop().await as u64;
    assert_eq!(settled(&*log, &mirror).await, 50 + count);
    let events = all(&*log).await;
    assert_eq!(seen, events[..seen.len()]);
    let mut after = 50 + count;
    let mut number = 0;
    until(async || {
        number += 1;
        append(&*log, &format!("more_{number}"), 1).await;
        after = tail.next_after(after, 20, PATIENCE).await.unwrap().last().unwrap().position;
        tail.mirrored() > 0
    })
    .await;
    settled(&*log, &mirror).await;

    let (events, head) = (all(&*log).await, log.head().await.unwrap());
    first.stop().await;
    log.close().await;
    place.restore(&backup);
    let log = place.open().await;
    let second = relay(nats.url(), &log, "relay").await;
    until(async || log.head().await.unwrap() == head).await;
    assert_eq!(all(&*log).await, events);
    second.stop().await;
    assert_eq!(said(&*log).await, [""; 0]);
}
