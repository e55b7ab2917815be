//! Appending: durable, all or nothing, gapless, idempotent, checked, chained.

use std::time::Duration;

use jiff::Timestamp;
use keyledger_schemas::envelope::{Delivery, IdReuse, NewEvent, content_hash};
use keyledger_schemas::ids::{Mode, Scope};

use super::{Factory, all, assert_whole, fill};
use crate::log::{Append, AppendError, EventLog, Head, LogError, Placed};
use crate::state::{StateChange, StateWrite};
use crate::testing::event;

fn put(key: &str, expected: Option<u64>) -> StateWrite {
    let change = StateChange::Put { value: b"1".to_vec(), due_at: None };
    StateWrite { namespace: "test".to_owned(), key: key.to_owned(), expected, change }
}

async fn append_one(log: &dyn EventLog, event: NewEvent) -> Result<Placed, AppendError> {
    log.append(Append::events(vec![event])).await.map(|placed| placed[0])
}

/// Durable, as far as an orderly restart shows.
pub async fn acknowledged_events_are_there_after_a_restart(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 5).await;
    let (events, head) = (all(&*log).await, log.head().await.unwrap());
    assert_eq!(events.len(), 5);
    place.close().await;

    let log = place.open().await;
    assert_eq!(all(&*log).await, events);
    assert_eq!(log.head().await.unwrap(), head);
    assert_eq!(*log.wake().borrow(), 5);
    fill(&*log, "b", 1).await;
    assert_whole(&all(&*log).await, log.head().await.unwrap());
}

/// Nothing is rounded, trimmed or reinterpreted on the way.
pub async fn every_field_reads_back_as_it_was_offered(place: &impl Factory) {
    let log = place.open().await;
    let received_at: Timestamp = "2026-11-20T08:09:10.123456789Z".parse().unwrap();
    let full = NewEvent {
        kind: "stripe.invoice.paid".to_owned(),
        scope: Scope { source: "eu-shop_2".parse().unwrap(), account: Some("acct_1".into()), mode: Mode::Test },
        occurred_at: Timestamp::MIN,
        causation_id: Some("évt ♥".into()),
        correlation_id: Some("first".into()),
        schema_version: u32::MAX,
        actor: Some("Ana O'Neil".to_owned()),
        partition: 63,
        delivery: Some(Delivery { signature: "t=1,v1=\"x\"".to_owned(), secret: "whsec-2".to_owned(), received_at }),
        ..event("evt_full", "object: sub_1", (0..=255).collect::<Vec<u8>>())
    };
    let plain = NewEvent { occurred_at: Timestamp::MAX, ..event("evt_plain", "s", "") };
    place.clock().set(received_at);
    log.append(Append::events(vec![full.clone(), plain.clone()])).await.unwrap();
    place.close().await;

    let log = place.open().await;
    let read = log.read_after(0, 10).await.unwrap();
    for (offered, read) in [full, plain].iter().zip(&read) {
        assert_eq!(read.id, offered.id);
        assert_eq!(read.kind, offered.kind);
        assert_eq!(read.scope, offered.scope);
        assert_eq!(read.stream, offered.stream);
        assert_eq!(read.occurred_at, offered.occurred_at);
        assert_eq!(read.recorded_at, received_at);
        assert_eq!(read.causation_id, offered.causation_id);
        assert_eq!(read.correlation_id, offered.correlation_id);
        assert_eq!(read.schema_version, offered.schema_version);
        assert_eq!(read.actor, offered.actor);
        assert_eq!(read.partition, offered.partition);
        assert_eq!(read.delivery, offered.delivery);
        assert_eq!(read.data, offered.data);
        assert_eq!(read.content_hash, content_hash(&offered.data));
        assert_eq!(read.key_id, None);
    }
    assert_whole(&read, log.head().await.unwrap());
}

/// Positions are 1, 2, 3, …; versions too, in each stream apart.
pub async fn positions_and_versions_count_from_one(place: &impl Factory) {
    let log = place.open().await;
    assert_eq!(log.head().await.unwrap(), Head::default());
    let batch = vec![event("1", "a", ""), event("2", "b", ""), event("3", "a", "")];
    let placed = log.append(Append::events(batch)).await.unwrap();
    assert_eq!(placed, [Placed::Appended(1), Placed::Appended(2), Placed::Appended(3)]);
    assert_eq!(append_one(&*log, event("4", "b", "")).await.unwrap(), Placed::Appended(4));
    let versions: Vec<_> = all(&*log).await.iter().map(|event| event.version).collect();
    assert_eq!(versions, [1, 1, 2, 2]);
}

/// An empty append is an ordinary answer.
pub async fn an_append_of_nothing_succeeds(place: &impl Factory) {
    let log = place.open().await;
    assert_eq!(log.append(Append::default()).await.unwrap(), []);
    assert_eq!(log.head().await.unwrap(), Head::default());
}

/// Recorded times come from the clock that the log was given, also when it is set back.
pub async fn the_clock_says_when_an_event_was_recorded(place: &impl Factory) {
    let log = place.open().await;
    for (id, second) in [("1", 100), ("2", 50)] {
        let now = Timestamp::from_second(second).unwrap();
        place.clock().set(now);
        append_one(&*log, event(id, "s", "")).await.unwrap();
        assert_eq!(log.find(&id.into()).await.unwrap().unwrap().recorded_at, now);
    }
}

/// Idempotent for ever: no window, and not only in the process that wrote it.
pub async fn a_twin_days_later_is_a_duplicate_of_the_first(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 3).await;
    let before = all(&*log).await;
    place.clock().advance(Duration::from_hours(24 * 400));
    assert_eq!(append_one(&*log, event("a_1", "a", "1")).await.unwrap(), Placed::Duplicate(2));
    place.close().await;

    let log = place.open().await;
    assert_eq!(append_one(&*log, event("a_1", "a", "1")).await.unwrap(), Placed::Duplicate(2));
    assert_eq!(all(&*log).await, before);
}

/// `IdReused` names the id and where the other event stands, and nothing of the append is written.
pub async fn an_id_used_again_with_other_bytes_is_refused(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 2).await;
    let batch = vec![event("new", "a", ""), event("a_1", "a", "other")];
    let refused = log.append(Append::events(batch)).await;
    assert!(matches!(&refused, Err(AppendError::IdReused { id, position: 2 }) if id.as_str() == "a_1"), "{refused:?}");
    assert_eq!(log.head().await.unwrap().position, 2);
    let twice = vec![event("b", "s", "1"), event("b", "s", "2")];
    let refused = log.append(Append::events(twice)).await;
    assert!(matches!(&refused, Err(AppendError::IdReused { position: 3, .. })), "{refused:?}");
    assert_eq!(log.head().await.unwrap().position, 2);
}

/// `FirstWins` keeps the first bytes.
pub async fn where_the_first_wins_other_bytes_are_a_duplicate(place: &impl Factory) {
    let log = place.open().await;
    let first_wins = |data| NewEvent { on_reuse: IdReuse::FirstWins, ..event("evt_1", "s", data) };
    assert_eq!(append_one(&*log, first_wins("first")).await.unwrap(), Placed::Appended(1));
    assert_eq!(append_one(&*log, first_wins("second")).await.unwrap(), Placed::Duplicate(1));
    assert_eq!(log.find(&"evt_1".into()).await.unwrap().unwrap().data, b"first");
}

/// Within one append the first stands, and what follows closes up.
pub async fn the_same_id_twice_in_one_append_is_a_duplicate_of_the_first(place: &impl Factory) {
    let log = place.open().await;
    let batch = vec![event("1", "s", "x"), event("1", "s", "x"), event("2", "s", "y")];
    let placed = log.append(Append::events(batch)).await.unwrap();
    assert_eq!(placed, [Placed::Appended(1), Placed::Duplicate(1), Placed::Appended(2)]);
    assert_whole(&all(&*log).await, log.head().await.unwrap());
}

/// An append that is all there already succeeds whatever it expects, and writes no state.
pub async fn duplicates_come_before_versions_and_write_no_state(place: &impl Factory) {
    let log = place.open().await;
    let append = Append {
        events: vec![event("1", "s", ""), event("2", "s", "")],
        expected: Some(("s".into(), 0)),
        state: vec![put("k", Some(0))],
    };
    log.append(append.clone()).await.unwrap();
    fill(&*log, "later", 1).await;
    let placed = log.append(append).await.unwrap();
    assert_eq!(placed, [Placed::Duplicate(1), Placed::Duplicate(2)]);
    assert_eq!(log.state("test", "k").await.unwrap().unwrap().revision, 1);
}

/// A new event among duplicates makes the append a new one: expectations count, state is written.
pub async fn an_append_that_is_partly_new_is_checked_and_writes_the_rest(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 1).await;
    let mut append = Append {
        events: vec![event("a_0", "a", "0"), event("new", "a", "")],
        expected: Some(("a".into(), 0)),
        state: vec![put("k", None)],
    };
    let refused = log.append(append.clone()).await;
    assert!(matches!(refused, Err(AppendError::Conflict { actual: 1, .. })), "{refused:?}");
    append.expected = Some(("a".into(), 1));
    assert_eq!(log.append(append).await.unwrap(), [Placed::Duplicate(1), Placed::Appended(2)]);
    assert_eq!(log.find(&"new".into()).await.unwrap().unwrap().version, 2);
    assert!(log.state("test", "k").await.unwrap().is_some());
}

/// `Conflict` carries what the caller needs to see what happened.
pub async fn a_wrong_version_is_a_conflict_that_names_the_right_one(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 2).await;
    for expected in [0, 1, 3] {
        let append =
            Append { events: vec![event("new", "a", "")], expected: Some(("a".into(), expected)), ..Append::default() };
        match log.append(append).await {
            Err(AppendError::Conflict { stream, expected: said, actual: 2 }) => {
                assert_eq!((stream.as_str(), said), ("a", expected));
            }
            other => panic!("expected version {expected}: {other:?}"),
        }
    }
    let append = Append { events: vec![event("new", "a", "")], expected: Some(("a".into(), 2)), ..Append::default() };
    assert_eq!(log.append(append).await.unwrap(), [Placed::Appended(3)]);
}

/// The expectation may be about a stream the append does not write to.
pub async fn a_stream_that_is_not_written_can_be_expected(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 2).await;
    let append = |version, id| Append {
        events: vec![event(id, "b", "")],
        expected: Some(("a".into(), version)),
        ..Append::default()
    };
    assert!(matches!(log.append(append(1, "x")).await, Err(AppendError::Conflict { .. })));
    assert_eq!(log.append(append(2, "x")).await.unwrap(), [Placed::Appended(3)]);
}

/// All or nothing, whichever part is refused.
pub async fn a_refused_append_writes_neither_events_nor_state(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 1).await;
    let refused = [
        Append { state: vec![put("k", None), put("l", Some(7))], ..Append::events(vec![event("new", "a", "")]) },
        Append { events: vec![event("new", "a", "")], expected: Some(("a".into(), 9)), state: vec![put("k", None)] },
        Append { state: vec![put("k", None)], ..Append::events(vec![event("new", "a", ""), event("a_0", "a", "!")]) },
    ];
    for append in refused {
        assert!(log.append(append).await.is_err());
        assert_eq!(log.head().await.unwrap().position, 1);
        assert_eq!(log.find(&"new".into()).await.unwrap(), None);
        assert_eq!(log.state("test", "k").await.unwrap(), None);
    }
    let both = Append { state: vec![put("k", Some(0))], ..Append::events(vec![event("new", "a", "")]) };
    log.append(both).await.unwrap();
    assert!(log.find(&"new".into()).await.unwrap().is_some());
    assert!(log.state("test", "k").await.unwrap().is_some());
}

/// Each chain value covers the one before, across appends and restarts.
pub async fn every_event_hangs_on_the_chain(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 3).await;
    fill(&*log, "b", 1).await;
    place.close().await;
    let log = place.open().await;
    fill(&*log, "c", 2).await;
    assert_whole(&all(&*log).await, log.head().await.unwrap());
}

/// The hint tells of appends of this process.
pub async fn an_append_wakes_who_waits(place: &impl Factory) {
    let log = place.open().await;
    let mut wake = log.wake();
    assert_eq!(*wake.borrow_and_update(), 0);
    fill(&*log, "a", 3).await;
    tokio::time::timeout(Duration::from_secs(10), wake.changed()).await.unwrap().unwrap();
    assert_eq!(*wake.borrow(), 3);
}

/// After closing, an append was surely not written, and a read says why there is none.
pub async fn a_closed_log_takes_and_gives_nothing(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 1).await;
    place.close().await;
    let refused = append_one(&*log, event("new", "a", "")).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(LogError::Closed))), "{refused:?}");
    assert!(matches!(log.head().await, Err(LogError::Closed)));
    assert!(matches!(log.read_after(0, 1).await, Err(LogError::Closed)));
    assert!(matches!(log.read_stream(&"a".into(), 0, 1).await, Err(LogError::Closed)));
    assert!(matches!(log.find(&"a_0".into()).await, Err(LogError::Closed)));
    assert!(matches!(log.state("test", "k").await, Err(LogError::Closed)));
    assert_eq!(place.open().await.head().await.unwrap().position, 1);
}
