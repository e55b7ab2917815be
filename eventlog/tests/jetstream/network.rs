//! Servers and networks that go away without saying so, and a cluster that loses a leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyledger_eventlog::jetstream::tail::{Fallback, JetStreamTail};
use keyledger_eventlog::jetstream::{Mirror, Options, connect};
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::tail::Tail;
use keyledger_schemas::envelope::Recorded;
use keyledger_test_servers::{Link, Nats, NatsCluster};

use crate::support::{
    Load, PATIENCE, Place, Running, all, append, client, mirror, options, relay, said, sale, settled, until,
};

/// Reads the whole log by `tail` and asserts that it is the log.
async fn reads_all(tail: &dyn Tail, log: &dyn EventLog) {
    let expected = all(log).await;
    let mut seen: Vec<Recorded> = Vec::new();
    while seen.len() < expected.len() {
        let after = seen.last().map_or(0, |event| event.position);
        let page = tail.next_after(after, 200, PATIENCE).await.unwrap();
        assert!(!page.is_empty(), "after {after} of {}", expected.len());
        seen.extend(page);
    }
    // More may have come meanwhile.
    assert_eq!(seen[..expected.len()], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_delays_nobody_and_is_filled_when_it_goes_on() {
    let nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let mut running = relay(nats.url(), &log, "relay").await;
    let mirror = mirror(nats.url(), &*log).await;
    let tail = JetStreamTail::new(log.clone(), mirror.clone(), "reader", Fallback::Sql);
    append(&*log, "a", 50).await;
    settled(&*log, &mirror).await;
    reads_all(&tail, &*log).await;
    let load = Load::start(&log, "load");
    nats.freeze();
    running.wait_for("unreachable").await;
    let began = Instant::now();
    log.append(Append::events(vec![sale("while it hangs", 100)])).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "intake waited for the mirror");
    reads_all(&tail, &*log).await;
    nats.thaw();
    let count = load.stop().await as u64;
    assert_eq!(settled(&*log, &mirror).await, 51 + count);
    running.stop().await;
    assert_eq!(said(&*log).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_cut_or_goes_silent_heals_by_itself() {
    let nats = Nats::start();
    let link = Link::to(nats.port()).await;
    let place = Place::new();
    let log = place.open().await;
    let far = format!("nats://127.0.0.1:{}", link.port());
    let mut running = relay(far, &log, "relay").await;
    let mirror = mirror(nats.url(), &*log).await;
    let load = Load::start(&log, "load");
    for silent in [false, true, false] {
        running.wait_for("following").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        if silent {
            link.silence();
        } else {
            link.cut();
        }
        running.wait_for("unreachable").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        link.mend();
    }
    running.wait_for("following").await;
    let count = load.stop().await as u64;
    assert_eq!(settled(&*log, &mirror).await, count);
    running.stop().await;
    assert_eq!(said(&*log).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_reaches_no_server_leaves_the_work_to_one_that_does() {
    let nats = Nats::start();
    let link = Link::to(nats.port()).await;
    let place = Place::new();
    let log = place.open().await;
    let mirror = mirror(nats.url(), &*log).await;
    let mut first = relay(format!("nats://127.0.0.1:{}", link.port()), &log, "first").await;
    first.wait_for("following").await;
    let mut second = relay(nats.url(), &place.open().await, "second").await;
    second.wait_for("standby").await;
    link.cut();
    append(&*log, "a", 50).await;
    second.wait_for("following").await;
    assert_eq!(settled(&*log, &mirror).await, 50);
    link.mend();
    first.wait_for("standby").await;
    second.stop().await;
    first.wait_for("following").await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_yet_stops_no_start() {
    let mut nats = Nats::start();
    nats.stop();
    let place = Place::new();
    let log = place.open().await;
    let mut running = relay(nats.url(), &log, "relay").await;
    let mirror = mirror(nats.url(), &*log).await;
    let tail = JetStreamTail::new(log.clone(), mirror.clone(), "reader", Fallback::Sql);
    append(&*log, "a", 30).await;
    running.wait_for("unreachable").await;
    reads_all(&tail, &*log).await;
    nats.start_again();
    assert_eq!(settled(&*log, &mirror).await, 30);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_stops_at_once_though_the_server_is_away() {
    let mut nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let mut running = relay(nats.url(), &log, "relay").await;
    running.wait_for("following").await;
    nats.stop();
    append(&*log, "a", 300).await;
    running.wait_for("unreachable").await;
    let began = Instant::now();
    running.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_its_leader_under_load_has_no_gap_and_no_double() {
    let mut cluster = NatsCluster::start();
    let place = Place::new();
    let log: Arc<dyn EventLog> = place.open().await;
    let options = Options { replicas: 3, ..options(cluster.url()) };
    let at = async || Mirror::new(connect(&options).await.unwrap(), log.log_id());
    let mut relay = Running::start(log.clone(), at().await, "relay");
    relay.wait_for("following").await;
    let (mirror, observer) = (at().await, client(cluster.url()).await);
    let context = async_nats::jetstream::new(observer.nats().clone());
    let tail = JetStreamTail::new(log.clone(), at().await, "reader", Fallback::Sql);
    let load = Load::start(&place.open().await, "load");
    for _ in 0..2 {
        let info = context.get_stream("KL_LOG").await.unwrap().cached_info().clone();
        assert_eq!(info.config.num_replicas, 3);
        let leader: usize = info.cluster.unwrap().leader.unwrap().trim_start_matches('n').parse().unwrap();
        let before = mirror.position().await.unwrap().unwrap();
        cluster.nodes[leader].kill();
        until(async || mirror.position().await.is_ok_and(|position| position > Some(before + 50))).await;
        cluster.nodes[leader].start_again();
        until(async || context.get_stream("KL_LOG").await.is_ok()).await;
    }
    let count = load.stop().await as u64;
    assert_eq!(settled(&*log, &mirror).await, count);
    reads_all(&tail, &*log).await;
    relay.stop().await;
    assert_eq!(said(&*log).await, [""; 0]);
}
