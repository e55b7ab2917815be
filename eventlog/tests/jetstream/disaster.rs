//! Log and mirror that are not where they were: stores wiped and put back, on either side.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use keyledger_eventlog::jetstream::compare::{Ahead, ahead};
use keyledger_eventlog::jetstream::message::{Decoded, encode};
use keyledger_eventlog::jetstream::mirror::Slot;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::testing::event;
use keyledger_eventlog::verify::verify;
use keyledger_schemas::envelope::{NewEvent, Recorded, content_hash};
use keyledger_schemas::ids::EventId;
use keyledger_test_servers::{Nats, Options};

use crate::support::{Load, PATIENCE, Place, all, append, mirror, relay, said, sale, settled, until};

async fn ids(log: &dyn EventLog) -> HashSet<EventId> {
    all(log).await.into_iter().map(|event| event.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_under_load_misses_nothing_and_holds_nothing_twice() {
    let mut nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let relay = relay(nats.url(), &log, "relay").await;
    let load = Load::start(&log, "load");
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(200 + round * 130)).await;
        nats.kill();
        tokio::time::sleep(Duration::from_millis(round * 150)).await;
        nats.start_again();
    }
    let count = load.stop().await as u64;
    assert_eq!(settled(&*log, &mirror(nats.url(), &*log).await).await, count);
    relay.stop().await;
    assert_eq!(said(&*log).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_wiped_or_put_back_from_an_older_backup_is_filled_again() {
    let mut nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let relay = relay(nats.url(), &log, "relay").await;
    let mirror = mirror(nats.url(), &*log).await;
    append(&*log, "a", 100).await;
    settled(&*log, &mirror).await;
    nats.stop();
    let backup = nats.backup();
    nats.start_again();
    append(&*log, "b", 100).await;
    assert_eq!(settled(&*log, &mirror).await, 200);

    let load = Load::start(&log, "load");
    nats.kill();
    nats.restore(&backup);
    nats.start_again();
    until(async || mirror.position().await.is_ok_and(|position| position > Some(200))).await;
    nats.kill();
    nats.wipe();
    nats.start_again();
    let count = load.stop().await as u64;
    assert_eq!(settled(&*log, &mirror).await, 200 + count);
    relay.stop().await;
    assert_eq!(said(&*log).await, [""; 0], "what only lost its end is not worth a person's time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_under_a_quiet_relay_is_made_again() {
    let nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let relay = relay(nats.url(), &log, "relay").await;
    let mirror = mirror(nats.url(), &*log).await;
    append(&*log, "a", 50).await;
    settled(&*log, &mirror).await;
    mirror.remove().await.unwrap();
    assert_eq!(settled(&*log, &mirror).await, 50);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_restored_from_an_old_backup_gets_back_exactly_what_it_had() {
    let nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let first = relay(nats.url(), &log, "relay").await;
    let mirror = mirror(nats.url(), &*log).await;
    append(&*log, "a", 100).await;
    let backup = place.back_up(&log, "backup.db").await;
    append(&*log, "b", 600).await;
    settled(&*log, &mirror).await;
    first.stop().await;
    let (events, head) = (all(&*log).await, log.head().await.unwrap());
    log.close().await;

    place.restore(&backup);
    let log = place.open().await;
    assert_eq!(ahead(&*log, &mirror, PATIENCE).await.unwrap(), Ahead::By { log: 100, mirror: 700 });
    let second = relay(nats.url(), &log, "relay").await;
    until(async || log.head().await.unwrap().position == 700).await;
    assert_eq!(log.head().await.unwrap(), head);
    assert_eq!(all(&*log).await, events);
    assert_eq!(verify(&*log, |_| ()).await.unwrap().problem, None);
    assert_eq!(ahead(&*log, &mirror, PATIENCE).await.unwrap(), Ahead::No);
    append(&*log, "c", 10).await;
    assert_eq!(settled(&*log, &mirror).await, 710);
    second.stop().await;
    assert_eq!(said(&*log).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_lost_altogether_is_imported_into_a_new_one_with_its_id() {
    let nats = Nats::start();
    let (place, backup) = (Place::new(), Place::new());
    let log = place.open().await;
    let empty = place.back_up(&log, "empty.db").await;
    let first = relay(nats.url(), &log, "relay").await;
    append(&*log, "a", 40).await;
    settled(&*log, &mirror(nats.url(), &*log).await).await;
    first.stop().await;
    backup.restore(&empty);
    let again = backup.open().await;
    let second = relay(nats.url(), &again, "relay").await;
    until(async || again.head().await.unwrap().position == 40).await;
    assert_eq!(all(&*again).await, all(&*log).await);
    second.stop().await;
}

/// A log of which the backup was restored and written on, while the mirror kept what came after the backup.
struct Forked {
    place: Place,
    /// What the log had before it was restored.
    before: HashSet<EventId>,
}

/// An event of our own, whose id says what it is about and not what it says.
fn own(id: &str, data: &str) -> NewEvent {
    NewEvent { kind: "license.issued".to_owned(), ..event(id, "purchase", data) }
}

impl Forked {
    async fn new(nats: &Nats) -> Self {
        Self::by(nats, 60).await
    }

    /// `count` events came after the backup, and one of our own.
    async fn by(nats: &Nats, count: usize) -> Self {
        let place = Place::new();
        let log = place.open().await;
        let first = relay(nats.url(), &log, "relay").await;
        append(&*log, "both", 100).await;
        let backup = place.back_up(&log, "backup.db").await;
        append(&*log, "mirror", count).await;
        log.append(Append::events(vec![own("issued", "{\"key\": 1}")])).await.unwrap();
        settled(&*log, &mirror(nats.url(), &*log).await).await;
        first.stop().await;
        let before = ids(&*log).await;
        log.close().await;
        place.restore(&backup);
        Self { place, before }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_another_way_keeps_every_event_and_gets_a_new_mirror() {
    let nats = Nats::start();
    let Forked { place, before } = Forked::new(&nats).await;
    let log = place.open().await;
    append(&*log, "log", 30).await;
    // One of Stripe's that both histories have, at other positions, and with another body in each.
    let twin = sale("mirror_5", 7);
    let hash = content_hash(&twin.data);
    log.append(Append::events(vec![twin])).await.unwrap();
    let mirror = mirror(nats.url(), &*log).await;
    assert_eq!(ahead(&*log, &mirror, PATIENCE).await.unwrap(), Ahead::Diverged);

    let relay = relay(nats.url(), &log, "relay").await;
    until(async || said(&*log).await.len() == 2).await;
    assert_eq!(said(&*log).await, ["OtherBytes Some(101)", "mended"]);
    let after = ids(&*log).await;
    assert!(before.is_subset(&after), "nothing acknowledged is lost");
    // 131 of its own, 60 that only the mirror had, and two that say so.
    assert_eq!(settled(&*log, &mirror).await, 193);
    assert_eq!(log.find(&"mirror_5".into()).await.unwrap().unwrap().content_hash, hash, "the first wins");
    assert_eq!(verify(&*log, |_| ()).await.unwrap().problem, None);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_events_of_ours_under_one_id_are_for_a_person_to_see() {
    let nats = Nats::start();
    let Forked { place, .. } = Forked::new(&nats).await;
    let log = place.open().await;
    append(&*log, "log", 5).await;
    log.append(Append::events(vec![own("issued", "{\"key\": 2}")])).await.unwrap();
    let mirror = mirror(nats.url(), &*log).await;
    let mut relay = relay(nats.url(), &log, "relay").await;
    until(async || said(&*log).await.len() == 1).await;
    assert_eq!(said(&*log).await, ["CannotImport Some(101)"]);
    let state = format!("{:?}", relay.wait_for("diverged").await);
    assert!(state.contains("issued at 161, other than the log's"), "{state}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(mirror.position().await.unwrap(), Some(161), "the other one is nowhere else");
    mirror.remove().await.unwrap();
    until(async || said(&*log).await.len() == 2).await;
    settled(&*log, &mirror).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_while_a_mirror_is_rescued_is_rescued_too() {
    let nats = Nats::start();
    let Forked { place, .. } = Forked::by(&nats, 3000).await;
    let log = place.open().await;
    append(&*log, "log", 5).await;
    let mirror = mirror(nats.url(), &*log).await;
    let relay = relay(nats.url(), &log, "relay").await;
    until(async || log.head().await.unwrap().position > 110).await;
    // A publish that was on its way since before the log was restored.
    let Slot::Event(Decoded::Whole(last)) = mirror.at(3101).await.unwrap() else { panic!() };
    let mut late = Recorded { position: 3102, id: "late".into(), version: 1, stream: "late".into(), ..(*last).clone() };
    late.chain = late.chain_after(&last.chain);
    let message = encode(&late, 1_000_000);
    let context = async_nats::jetstream::new(mirror.client().nats().clone());
    let sent = context.publish_with_headers(message.subject, message.headers, message.payload).await.unwrap();
    assert_eq!(sent.await.unwrap().sequence, 3102);
    assert!(log.head().await.unwrap().position < 3000, "it arrived too late to be of use here");
    until(async || said(&*log).await.last().is_some_and(|last| last == "mended")).await;
    assert!(log.find(&"late".into()).await.unwrap().is_some());
    settled(&*log, &mirror).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_with_unsafe_settings_gives_back_what_it_has_while_it_has_it() {
    let nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let first = relay(nats.url(), &log, "relay").await;
    append(&*log, "a", 50).await;
    let backup = place.back_up(&log, "backup.db").await;
    append(&*log, "b", 50).await;
    let mirror = mirror(nats.url(), &*log).await;
    settled(&*log, &mirror).await;
    first.stop().await;
    let head = log.head().await.unwrap();
    log.close().await;
    place.restore(&backup);
    let context = async_nats::jetstream::new(mirror.client().nats().clone());
    let made = context.get_stream("KL_LOG").await.unwrap().cached_info().config.clone();
    context.update_stream(Config { max_age: Duration::from_hours(1), ..made.clone() }).await.unwrap();
    let log = place.open().await;
    assert_eq!(ahead(&*log, &mirror, PATIENCE).await.unwrap(), Ahead::By { log: 50, mirror: 100 });
    let mut second = relay(nats.url(), &log, "relay").await;
    second.wait_for("diverged").await;
    until(async || said(&*log).await.len() == 1).await;
    assert_eq!(log.chain_at(100).await.unwrap(), Some(head.chain));
    context.update_stream(made).await.unwrap();
    until(async || said(&*log).await.len() == 2).await;
    assert_eq!(said(&*log).await, ["UnsafeSettings None", "mended"]);
    assert_eq!(settled(&*log, &mirror).await, 102);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_may_not_remove_the_stream_waits_for_a_person() {
    let config = "authorization { users: [ \
         {user: admin, password: a}, \
         {user: relay, password: r, permissions: {publish: {deny: \"$JS.API.STREAM.DELETE.>\"}}} ] }";
    let options =
        |login: &str| Options { config: config.to_owned(), login: Some(login.to_owned()), ..Options::default() };
    let nats = Nats::start_with(&options("relay:r"));
    let Forked { place, before } = Forked::new(&nats).await;
    let log = place.open().await;
    append(&*log, "log", 30).await;
    let mut relay = relay(nats.url(), &log, "relay").await;
    relay.wait_for("diverged").await;
    until(async || said(&*log).await.len() == 1).await;
    let head = log.head().await.unwrap().position;
    assert_eq!(head, 100 + 30 + 61 + 1);
    append(&*log, "meanwhile", 10).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(said(&*log).await, ["OtherBytes Some(101)"], "once, however often it is looked at");
    assert!(before.is_subset(&ids(&*log).await));

    let admin = mirror(nats.url().replace("relay:r", "admin:a"), &*log).await;
    admin.remove().await.unwrap();
    until(async || said(&*log).await.len() == 2).await;
    assert_eq!(said(&*log).await, ["OtherBytes Some(101)", "mended"]);
    assert_eq!(settled(&*log, &admin).await, head + 11);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_cannot_be_filled_so_the_mirror_is_made_anew() {
    let nats = Nats::start();
    let place = Place::new();
    let log = place.open().await;
    let mut relay = relay(nats.url(), &log, "relay").await;
    let mirror = mirror(nats.url(), &*log).await;
    append(&*log, "a", 100).await;
    settled(&*log, &mirror).await;
    // Deleting is denied, but whoever may change the stream can make it forget.
    let context = async_nats::jetstream::new(mirror.client().nats().clone());
    let made = context.get_stream("KL_LOG").await.unwrap().cached_info().config.clone();
    let lossy = Config { max_messages: 40, discard: DiscardPolicy::Old, ..made.clone() };
    context.update_stream(lossy).await.unwrap();
    relay.wait_for("diverged").await;
    context.update_stream(made).await.unwrap();
    until(async || said(&*log).await.len() == 3).await;
    assert_eq!(said(&*log).await, ["UnsafeSettings None", "Holes Some(1)", "mended"]);
    relay.stop().await;
    let log: Arc<dyn EventLog> = log;
    settled(&*log, &mirror).await;
}
