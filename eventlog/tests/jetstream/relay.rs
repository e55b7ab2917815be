//! The relay while nothing is wrong with the mirror: it follows, takes over, and stops; and is killed at random.

use std::sync::Arc;
use std::time::Duration;

use keyledger_eventlog::jetstream::relay::State;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_schemas::envelope::{Delivery, NewEvent};
use keyledger_schemas::ids::{Mode, Scope, SourceName};
use keyledger_test_servers::{Nats, OLDEST, Options};

use crate::support::{Load, Place, append, mirror, relay, said, sale, settled};

/// An event with everything that an event can have.
fn full() -> NewEvent {
    let mut scope = Scope::new(SourceName::default(), Mode::Test);
    scope.account = Some("acct_1".into());
    let received_at = "2026-11-20T08:09:10.123456789Z".parse().unwrap();
    NewEvent {
        scope,
        causation_id: Some("evt_0".into()),
        correlation_id: Some("evt_0".into()),
        actor: Some("Zoë, \"on call\"\r\n100 %".to_owned()),
        partition: 63,
        delivery: Some(Delivery { signature: "t=1,v1=a b".to_owned(), secret: "first".to_owned(), received_at }),
        ..sale("evt_full", 2000)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_the_log_gets_into_the_mirror() {
    for version in [OLDEST, keyledger_test_servers::CURRENT] {
        let nats = Nats::start_with(&Options { version, ..Options::default() });
        let place = Place::new();
        let log = place.open().await;
        append(&*log, "before", 300).await;
        log.append(Append::events(vec![full(), sale("no body", 0)])).await.unwrap();
        let mut relay = relay(nats.url(), &log, "relay").await;
        let mirror = mirror(nats.url(), &*log).await;
        assert_eq!(settled(&*log, &mirror).await, 302, "{version}");
        append(&*log, "after", 700).await;
        assert_eq!(settled(&*log, &mirror).await, 1002, "{version}");
        assert_eq!(relay.wait_for("following").await, State::Following);
        assert_eq!((relay.status.borrow().position, relay.status.borrow().lag()), (Some(1002), 0));
        relay.stop().await;
        assert_eq!(said(&*log).await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_relay_that_stops_and_from_one_that_is_killed() {
    let nats = Nats::start();
    let place = Place::new();
    let (log, other) = (place.open().await, place.open().await);
    let mirror = mirror(nats.url(), &*log).await;
    let load = Load::start(&log, "load");
    let mut first = relay(nats.url(), &log, "first").await;
    first.wait_for("following").await;
    let mut second = relay(nats.url(), &other, "second").await;
    assert_eq!(second.wait_for("standby").await, State::Standby { holder: "first".to_owned() });
    first.stop().await;
    second.wait_for("following").await;
    let mut third = relay(nats.url(), &log, "third").await;
    third.wait_for("standby").await;
    second.kill().await;
    third.wait_for("following").await;
    let count = load.stop().await as u64;
    assert_eq!(settled(&*log, &mirror).await, count);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_that_both_believe_to_be_the_one_write_nothing_twice() {
    let nats = Nats::start();
    let place = Place::new();
    let (log, other) = (place.open().await, place.open().await);
    let mirror = mirror(nats.url(), &*log).await;
    // One holder's name: each takes the lease from the other again and again.
    let (first, second) = (relay(nats.url(), &log, "same").await, relay(nats.url(), &other, "same").await);
    let load = Load::start(&log, "load");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let count = load.stop().await as u64;
    assert_eq!(settled(&*log, &mirror).await, count);
    first.stop().await;
    second.stop().await;
    assert_eq!(said(&*log).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_at_random_goes_on_where_the_mirror_ends() {
    let nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let mirror = mirror(nats.url(), &*log).await;
    let load = Load::start(&log, "load");
    for round in 0..15_u64 {
        let relay = relay(nats.url(), &log, "relay").await;
        tokio::time::sleep(Duration::from_millis(20 + round * 37 % 120)).await;
        relay.kill().await;
    }
    let count = load.stop().await as u64;
    let relay = relay(nats.url(), &log, "relay").await;
    assert_eq!(settled(&*log, &mirror).await, count);
    relay.stop().await;
    assert_eq!(said(&*log).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_stops_no_relay_for_good() {
    let nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    append(&*log, "a", 10).await;
    let mut relay = relay(nats.url(), &log, "relay").await;
    relay.wait_for("following").await;
    log.close().await;
    relay.wait_for("unreachable").await;
    relay.stop().await;
    let log = place.open().await;
    append(&*log, "b", 10).await;
    let again = crate::support::relay(nats.url(), &log, "relay").await;
    let log: Arc<dyn EventLog> = log;
    assert_eq!(settled(&*log, &mirror(nats.url(), &*log).await).await, 20);
    again.stop().await;
}
