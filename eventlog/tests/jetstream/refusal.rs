//! Streams that are not the log's mirror, or must not be: the relay keeps off and says so once, and nobody waits for it.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use keyledger_eventlog::jetstream::relay::State;
use keyledger_eventlog::jetstream::tail::{Fallback, JetStreamTail};
use keyledger_eventlog::tail::Tail;
use keyledger_schemas::event::MirrorFault;
use keyledger_test_servers::Nats;

use crate::support::{PATIENCE, Place, append, client, mirror, relay, said, settled, until};

/// Starts a relay on what `nats` holds, which it refuses; intake and consumers go on; and when the stream is gone the
/// mirror is made.
async fn is_refused_and_harms_nobody(nats: &Nats, expected: MirrorFault) {
    let place = Place::new();
    let log = place.open().await;
    append(&*log, "a", 20).await;
    let mirror = mirror(nats.url(), &*log).await;
    let mut running = relay(nats.url(), &log, "relay").await;
    let State::Diverged { fault, reason } = running.wait_for("diverged").await else { panic!() };
    assert_eq!(fault, expected, "{reason}");
    append(&*log, "b", 20).await;
    let tail = JetStreamTail::new(log.clone(), mirror.clone(), "reader", Fallback::Sql);
    let mut after = 0;
    while after < 41 {
        let page = tail.next_after(after, 16, PATIENCE).await.unwrap();
        after = page.last().unwrap().position;
    }
    assert_eq!(tail.mirrored(), 0);
    let context = async_nats::jetstream::new(mirror.client().nats().clone());
    running.stop().await;
    // Another start does not say it again.
    let mut running = relay(nats.url(), &log, "again").await;
    running.wait_for("diverged").await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(said(&*log).await.len(), 1);
    for stream in ["KL_LOG", "OTHER"] {
        let _ = context.delete_stream(stream).await;
    }
    until(async || said(&*log).await.len() == 2).await;
    assert_eq!(said(&*log).await, [format!("{expected:?} None"), "mended".to_owned()]);
    assert_eq!(settled(&*log, &mirror).await, 42);
    running.stop().await;
}

async fn with_stream(config: Config) -> Nats {
    let nats = Nats::start();
    let client = client(nats.url()).await;
    let context = async_nats::jetstream::new(client.nats().clone());
    context.create_stream(config.clone()).await.unwrap();
    for number in 0..5 {
        let subject = config.subjects[0].replace('>', "default.live.00.x");
        context.publish(subject, format!("{number}").into()).await.unwrap().await.unwrap();
    }
    nats
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_of_another_log_is_refused() {
    let nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    append(&*log, "theirs", 10).await;
    let relay = relay(nats.url(), &log, "theirs").await;
    settled(&*log, &mirror(nats.url(), &*log).await).await;
    relay.stop().await;
    is_refused_and_harms_nobody(&nats, MirrorFault::Foreign).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_says_of_no_log_that_it_mirrors_it_is_refused() {
    let config = Config { name: "KL_LOG".to_owned(), subjects: vec!["kl.v1.>".to_owned()], ..Config::default() };
    is_refused_and_harms_nobody(&with_stream(config).await, MirrorFault::Foreign).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_stream_on_our_subjects_is_refused() {
    let config = Config { name: "OTHER".to_owned(), subjects: vec!["kl.>".to_owned()], ..Config::default() };
    is_refused_and_harms_nobody(&with_stream(config).await, MirrorFault::Foreign).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_with_unsafe_settings_is_written_again_once_they_are_mended() {
    let nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let mirror = mirror(nats.url(), &*log).await;
    let mut relay = relay(nats.url(), &log, "relay").await;
    append(&*log, "a", 20).await;
    settled(&*log, &mirror).await;
    let context = async_nats::jetstream::new(mirror.client().nats().clone());
    let made = context.get_stream("KL_LOG").await.unwrap().cached_info().config.clone();
    let unsafe_ = Config { max_age: Duration::from_hours(1), ..made.clone() };
    context.update_stream(unsafe_).await.unwrap();
    let State::Diverged { fault, reason } = relay.wait_for("diverged").await else { panic!() };
    assert_eq!(fault, MirrorFault::UnsafeSettings);
    assert!(reason.contains("a limit of age") && reason.contains("nats stream edit KL_LOG"), "{reason}");
    append(&*log, "b", 20).await;
    context.update_stream(made).await.unwrap();
    until(async || said(&*log).await.len() == 2).await;
    assert_eq!(said(&*log).await, ["UnsafeSettings None", "mended"]);
    assert_eq!(settled(&*log, &mirror).await, 42);
    relay.stop().await;
}
