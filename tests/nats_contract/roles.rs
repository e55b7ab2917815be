//! Our own code with the rights of its role: it does everything that it is for.

use std::time::{Duration, Instant};

use keyledger_eventlog::jetstream::compare::{Ahead, ahead, compare};
use keyledger_eventlog::jetstream::mirror::Removed;
use keyledger_eventlog::jetstream::tail::{Fallback, JetStreamTail};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::Tail;
use keyledger_test_servers::{CURRENT, OLDEST};

use crate::fed::{Fed, PATIENCE, mirror, of_kind};
use crate::server;

const EVENTS: u64 = 500;

#[tokio::test]
async fn the_relay_writes_and_the_others_follow() {
    for version in [CURRENT, OLDEST] {
        let nats = server::start(version);
        let mut fed = Fed::start(&nats).await;
        let events = (1..=EVENTS).map(|n| of_kind(n, "stripe.invoice.paid", "{}")).collect();
        let mut last = fed.append(events).await;
        assert_eq!(last, EVENTS);

        for user in ["issuer", "projector"] {
            let mirror = mirror(&nats, user, &*fed.log).await;
            let tail = JetStreamTail::new(fed.log.clone(), mirror, format!("keyledger-{user}"), Fallback::Wait);
            let began = Instant::now();
            let mut after = 0;
            while after < last {
                assert!(began.elapsed() < PATIENCE, "{user} on {version} stands at {after}");
                let page = tail.next_after(after, 100, Duration::from_secs(1)).await.unwrap();
                after = page.last().map_or(after, |event| event.position);
            }
            // What was there may be read from the log; what comes while it is followed comes by the mirror.
            while tail.mirrored() == 0 {
                assert!(began.elapsed() < PATIENCE, "{user} on {version} read the log alone");
                last = fed.append(vec![of_kind(last + 1, "stripe.invoice.paid", "{}")]).await;
                let page = tail.next_after(after, 100, Duration::from_secs(1)).await.unwrap();
                after = page.last().map_or(after, |event| event.position);
            }
        }
        for user in ["ingest", "issuer", "projector", "console"] {
            let mirror = mirror(&nats, user, &*fed.log).await;
            assert_eq!(ahead(&*fed.log, &mirror, PATIENCE).await.unwrap(), Ahead::No, "{user} on {version}");
            let compared = compare(&*fed.log, &mirror, |_| ()).await.unwrap();
            assert_eq!((compared.events, compared.problem), (last, None), "{user} on {version}");
        }
    }
}

#[tokio::test]
async fn the_relay_cannot_remove_a_stream_and_makes_it_anew_once_a_person_has() {
    let nats = server::start(CURRENT);
    let mut fed = Fed::start(&nats).await;
    fed.append((1..=9).map(|n| of_kind(n, "stripe.invoice.paid", "{}")).collect()).await;
    let ingest = mirror(&nats, "ingest", &*fed.log).await;
    assert_eq!(ingest.remove().await.unwrap(), Removed::NotAllowed);
    assert_eq!(ingest.position().await.unwrap(), Some(9));

    let operator = mirror(&nats, "operator", &*fed.log).await;
    assert_eq!(operator.remove().await.unwrap(), Removed::Yes);
    let began = Instant::now();
    while ingest.position().await.unwrap() != Some(9) {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fed.log.head().await.unwrap().position, 9);
}
