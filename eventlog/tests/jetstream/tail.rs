//! The tail and its durable consumer: what comes from the mirror, what from the log, and what is not believed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::{self, Context};
use keyledger_eventlog::jetstream::Mirror;
use keyledger_eventlog::jetstream::message::encode;
use keyledger_eventlog::jetstream::tail::{Fallback, JetStreamTail};
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::tail::Tail;
use keyledger_schemas::envelope::{Position, Recorded, content_hash};
use keyledger_test_servers::Nats;

use crate::support::{Load, PATIENCE, Place, Running, all, append, mirror, relay, sale, settled, until};

const NAME: &str = "keyledger-issuer";

/// A log with a mirror, a relay between them, and a way to look at the server.
struct Bench {
    nats: Nats,
    place: Place,
    log: Arc<dyn EventLog>,
    relay: Running,
    mirror: Mirror,
    context: Context,
}

impl Bench {
    async fn new() -> Self {
        let (nats, place) = (Nats::start(), Place::new());
        let log = place.open().await;
        let relay = relay(nats.url(), &log, "relay").await;
        let mirror = mirror(nats.url(), &*log).await;
        let context = jetstream::new(mirror.client().nats().clone());
        Self { nats, place, log, relay, mirror, context }
    }

    async fn tail(&self, fallback: Fallback) -> JetStreamTail {
        let mirror = mirror(self.nats.url(), &*self.log).await;
        JetStreamTail::new(self.log.clone(), mirror, NAME, fallback)
    }

    /// A tail whose consumer is there.
    async fn warm(&self, fallback: Fallback) -> JetStreamTail {
        let tail = self.tail(fallback).await;
        append(&*self.log, "warm", 1).await;
        settled(&*self.log, &self.mirror).await;
        let after = self.log.head().await.unwrap().position;
        until(async || {
            let _ = tail.next_after(after, 9, Duration::from_millis(10)).await.unwrap();
            self.context.get_consumer_from_stream::<Config, _, _>(NAME, "KL_LOG").await.is_ok()
        })
        .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        tail
    }

    /// What the server says of the consumer: acknowledged up to, and not delivered yet.
    async fn lag(&self) -> (Position, u64) {
        let consumer = self.context.get_consumer_from_stream::<Config, _, _>(NAME, "KL_LOG").await.unwrap();
        let info = consumer.cached_info();
        (info.ack_floor.stream_sequence, info.num_pending + info.num_ack_pending as u64)
    }
}

/// Everything after `after` up to `end`, in pages.
async fn read(tail: &dyn Tail, after: Position, end: Position) -> Vec<Recorded> {
    let mut seen: Vec<Recorded> = Vec::new();
    loop {
        let last = seen.last().map_or(after, |event| event.position);
        if last >= end {
            return seen;
        }
        let page = tail.next_after(last, 64, PATIENCE).await.unwrap();
        assert!(!page.is_empty(), "after {last}");
        seen.extend(page);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_from_the_mirror_and_at_once() {
    let bench = Bench::new().await;
    let tail = bench.warm(Fallback::Wait).await;
    let mut slowest = Duration::ZERO;
    for number in 0..50_u64 {
        let began = Instant::now();
        let waiting = tail.next_after(number + 1, 9, PATIENCE);
        let append = bench.log.append(Append::events(vec![sale(&format!("{number}"), 300)]));
        let (page, placed) = tokio::join!(waiting, append);
        assert_eq!((page.unwrap().len(), placed.unwrap().len()), (1, 1));
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_millis(700), "{slowest:?}: that is a poll and not an arrival");
    assert!(tail.mirrored() > 40, "{}", tail.mirrored());
    bench.relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_shows_how_far_the_reader_is() {
    let bench = Bench::new().await;
    let tail = bench.warm(Fallback::Sql).await;
    append(&*bench.log, "a", 200).await;
    settled(&*bench.log, &bench.mirror).await;
    let seen = read(&tail, 1, 120).await;
    let handled = seen.last().unwrap().position;
    // What was handed out is not done: only what the reader asks after is.
    tail.next_after(100, 1, Duration::from_millis(1)).await.unwrap();
    until(async || bench.lag().await == (100, 101)).await;
    tail.next_after(handled, 1, Duration::from_millis(1)).await.unwrap();
    until(async || bench.lag().await == (handled, 201 - handled)).await;
    bench.relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_or_a_stream_that_is_deleted_skips_nothing() {
    let bench = Bench::new().await;
    let tail = bench.warm(Fallback::Sql).await;
    let load = Load::start(&bench.place.open().await, "load");
    let mut after = 1;
    for round in 0..30 {
        after = read(&tail, after, after + 5).await.last().unwrap().position;
        match round {
            8 => drop(bench.context.delete_consumer_from_stream(NAME, "KL_LOG").await.unwrap()),
            16 => drop(bench.mirror.remove().await.unwrap()),
            _ => {}
        }
    }
    let count = load.stop().await as u64;
    let end = settled(&*bench.log, &bench.mirror).await;
    assert_eq!(end, count + 1);
    assert_eq!(read(&tail, after, end).await, all(&*bench.log).await[usize::try_from(after).unwrap()..]);
    // It is back on the mirror by itself.
    let before = tail.mirrored();
    let mut number = 0;
    let mut after = end;
    until(async || {
        number += 1;
        append(&*bench.log, &format!("more_{number}"), 1).await;
        after = read(&tail, after, after + 1).await.last().unwrap().position;
        tail.mirrored() > before
    })
    .await;
    bench.relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_skips_nothing() {
    let mut bench = Bench::new().await;
    let tail = bench.warm(Fallback::Sql).await;
    let load = Load::start(&bench.place.open().await, "load");
    let mut after = 1;
    for round in 0..40 {
        after = read(&tail, after, after + 5).await.last().unwrap().position;
        match round {
            10 => bench.nats.kill(),
            20 => bench.nats.start_again(),
            _ => {}
        }
    }
    let count = load.stop().await as u64;
    let end = settled(&*bench.log, &bench.mirror).await;
    assert_eq!(end, count + 1);
    assert_eq!(read(&tail, after, end).await, all(&*bench.log).await[usize::try_from(after).unwrap()..]);
    bench.relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_consumer_both_read_everything() {
    let bench = Bench::new().await;
    let (one, two) = (bench.warm(Fallback::Sql).await, bench.tail(Fallback::Sql).await);
    append(&*bench.log, "a", 500).await;
    let (first, second) = tokio::join!(read(&one, 0, 501), read(&two, 0, 501));
    let events = all(&*bench.log).await;
    assert_eq!((&first, &second), (&events, &events));
    bench.relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waits_for_nats_reads_on_when_it_is_back() {
    let mut bench = Bench::new().await;
    let tail = bench.warm(Fallback::Wait).await;
    append(&*bench.log, "a", 10).await;
    assert_eq!(read(&tail, 1, 11).await.len(), 10);
    bench.nats.kill();
    append(&*bench.log, "b", 10).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(tail.next_after(11, 9, Duration::from_millis(500)).await.unwrap().is_empty());
    // Its checkpoint it sees all the same.
    assert_eq!(tail.next_after(10, 1, Duration::ZERO).await.unwrap()[0].position, 11);
    bench.nats.start_again();
    assert_eq!(read(&tail, 11, 21).await.len(), 10);
    // Going back is not for the mirror.
    assert_eq!(read(&tail, 0, 21).await, all(&*bench.log).await);
    bench.relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_far_behind_a_quiet_mirror_reads_the_log_without_waiting() {
    let bench = Bench::new().await;
    append(&*bench.log, "a", 8000).await;
    settled(&*bench.log, &bench.mirror).await;
    let tail = bench.tail(Fallback::Sql).await;
    // Its consumer is made at the head.
    tail.next_after(8000, 9, Duration::from_secs(1)).await.unwrap();
    let began = Instant::now();
    let mut after = 0;
    while after < 8000 {
        after = tail.next_after(after, 64, Duration::from_millis(500)).await.unwrap().last().unwrap().position;
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?} for 125 pages", began.elapsed());
    bench.relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_nobody_writes_delays_no_reader() {
    for fallback in [Fallback::Sql, Fallback::Wait] {
        let bench = Bench::new().await;
        let tail = bench.warm(fallback).await;
        bench.relay.kill().await;
        let began = Instant::now();
        for number in 0..40_u64 {
            bench.log.append(Append::events(vec![sale(&format!("{number}"), 300)])).await.unwrap();
            let page = tail.next_after(number + 1, 9, PATIENCE).await.unwrap();
            assert_eq!(page[0].position, number + 2);
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{fallback:?}: {:?} for 40 events", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_bodies_come_through() {
    let bench = Bench::new().await;
    let tail = bench.warm(Fallback::Sql).await;
    for number in 0..40 {
        bench.log.append(Append::events(vec![sale(&format!("{number}"), 900_000)])).await.unwrap();
    }
    assert_eq!(read(&tail, 1, 41).await, all(&*bench.log).await[1..]);
    bench.relay.stop().await;
}

/// Publishes an event at `position` that the log does not have there, as good as a liar can.
async fn forge(log: &dyn EventLog, context: &Context, position: Position) {
    let before = log.at(position - 1).await.unwrap().unwrap();
    let mut forged = Recorded { position, id: "forged".into(), data: b"{}".to_vec(), ..before.clone() };
    forged.content_hash = content_hash(&forged.data);
    forged.chain = forged.chain_after(&before.chain);
    let encoded = encode(&forged, 1024 * 1024);
    let sent = context.publish_with_headers(encoded.subject, encoded.headers, encoded.payload).await;
    assert_eq!(sent.unwrap().await.unwrap().sequence, position);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_lies_is_not_believed() {
    let bench = Bench::new().await;
    let tail = bench.warm(Fallback::Sql).await;
    append(&*bench.log, "a", 20).await;
    settled(&*bench.log, &bench.mirror).await;
    assert_eq!(read(&tail, 1, 21).await.len(), 20);
    let fresh = bench.tail(Fallback::Sql).await;
    bench.relay.kill().await;
    // Ahead of the log, then at a place that the log fills otherwise.
    forge(&*bench.log, &bench.context, 22).await;
    assert!(tail.next_after(21, 9, Duration::from_millis(600)).await.unwrap().is_empty());
    append(&*bench.log, "b", 5).await;
    let events = all(&*bench.log).await;
    assert_eq!(read(&tail, 21, 26).await, events[21..]);
    assert_eq!(read(&fresh, 0, 26).await, events);
}
