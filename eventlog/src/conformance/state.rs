//! State rows: written with appends, guarded by revisions, found by key and by when they are due.

use jiff::Timestamp;

use super::Factory;
use crate::log::{Append, AppendError, EventLog};
use crate::state::{StateChange, StateRow, StateWrite};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn write(key: &str, expected: Option<u64>, change: StateChange) -> StateWrite {
    StateWrite { namespace: "test".to_owned(), key: key.to_owned(), expected, change }
}

fn value(text: &str) -> StateChange {
    StateChange::Put { value: text.into(), due_at: None }
}

fn due(second: i64) -> StateChange {
    StateChange::Put { value: Vec::new(), due_at: Some(at(second)) }
}

async fn append(log: &dyn EventLog, state: Vec<StateWrite>) -> Result<(), AppendError> {
    log.append(Append { state, ..Append::default() }).await.map(|_| ())
}

fn keys(rows: &[StateRow]) -> Vec<&str> {
    rows.iter().map(|row| row.key.as_str()).collect()
}

/// What is put is there, with the number of writes.
pub async fn a_row_reads_back_and_counts_its_writes(place: &impl Factory) {
    let log = place.open().await;
    assert_eq!(log.state("test", "k").await.unwrap(), None);
    let due_at = Some("2026-11-20T08:09:10.123456789Z".parse().unwrap());
    let bytes: Vec<u8> = (0..=255).collect();
    let change = StateChange::Put { value: bytes.clone(), due_at };
    append(&*log, vec![write("k", Some(0), change)]).await.unwrap();
    let row = log.state("test", "k").await.unwrap().unwrap();
    let expected = StateRow { namespace: "test".to_owned(), key: "k".to_owned(), value: bytes, due_at, revision: 1 };
    assert_eq!(row, expected);
    append(&*log, vec![write("k", None, value("2"))]).await.unwrap();
    let row = log.state("test", "k").await.unwrap().unwrap();
    assert_eq!((row.value.as_slice(), row.due_at, row.revision), (&b"2"[..], None, 2));
}

/// State is as durable as events.
pub async fn rows_are_there_after_a_restart(place: &impl Factory) {
    let log = place.open().await;
    append(&*log, vec![write("k", None, due(5)), write("l", None, value("x"))]).await.unwrap();
    let before = log.state_scan("test", "", "", 10).await.unwrap();
    place.close().await;
    let log = place.open().await;
    assert_eq!(log.state_scan("test", "", "", 10).await.unwrap(), before);
    assert_eq!(before.len(), 2);
}

/// `StaleState` names the row and both revisions.
pub async fn a_stale_revision_is_refused_and_named(place: &impl Factory) {
    let log = place.open().await;
    append(&*log, vec![write("k", Some(0), value("1"))]).await.unwrap();
    for (key, expected, actual) in [("k", 0, 1), ("k", 2, 1), ("absent", 1, 0)] {
        match append(&*log, vec![write(key, Some(expected), value("2"))]).await {
            Err(AppendError::StaleState { namespace, key: said, expected: was, actual: is }) => {
                assert_eq!((namespace.as_str(), said.as_str(), was, is), ("test", key, expected, actual));
            }
            other => panic!("{key} at {expected}: {other:?}"),
        }
    }
    assert_eq!(log.state("test", "k").await.unwrap().unwrap().value, b"1");
}

/// A check writes nothing, and refuses the whole append when it fails.
pub async fn a_check_changes_nothing_and_fences(place: &impl Factory) {
    let log = place.open().await;
    let check = |expected| write("epoch", Some(expected), StateChange::Check);
    append(&*log, vec![check(0)]).await.unwrap();
    assert_eq!(log.state("test", "epoch").await.unwrap(), None);
    append(&*log, vec![write("epoch", None, value("a"))]).await.unwrap();
    append(&*log, vec![check(1), write("k", None, value("1"))]).await.unwrap();
    assert_eq!(log.state("test", "epoch").await.unwrap().unwrap().revision, 1);
    append(&*log, vec![write("epoch", Some(1), value("b"))]).await.unwrap();
    let refused = append(&*log, vec![write("k", None, value("2")), check(1)]).await;
    assert!(matches!(refused, Err(AppendError::StaleState { expected: 1, actual: 2, .. })), "{refused:?}");
    assert_eq!(log.state("test", "k").await.unwrap().unwrap().value, b"1");
}

/// A deleted row is absent, and the next one under its key is a new row.
pub async fn a_deleted_row_is_gone_and_starts_over(place: &impl Factory) {
    let log = place.open().await;
    let delete = |expected| write("k", expected, StateChange::Delete);
    append(&*log, vec![delete(None)]).await.unwrap();
    append(&*log, vec![write("k", None, due(1)), write("k", None, due(2))]).await.unwrap();
    assert!(matches!(append(&*log, vec![delete(Some(1))]).await, Err(AppendError::StaleState { .. })));
    append(&*log, vec![delete(Some(2))]).await.unwrap();
    assert_eq!(log.state("test", "k").await.unwrap(), None);
    assert_eq!(log.state_next_due("test").await.unwrap(), None);
    append(&*log, vec![write("k", Some(0), value("new"))]).await.unwrap();
    assert_eq!(log.state("test", "k").await.unwrap().unwrap().revision, 1);
}

/// Within one append, writes happen in order.
pub async fn writes_to_one_key_build_on_each_other(place: &impl Factory) {
    let log = place.open().await;
    let state = vec![write("k", Some(0), value("1")), write("k", Some(1), value("2"))];
    append(&*log, state).await.unwrap();
    let row = log.state("test", "k").await.unwrap().unwrap();
    assert_eq!((row.value.as_slice(), row.revision), (&b"2"[..], 2));
    let state = vec![write("k", None, StateChange::Delete), write("k", Some(0), value("3"))];
    append(&*log, state).await.unwrap();
    assert_eq!(log.state("test", "k").await.unwrap().unwrap().revision, 1);
}

/// Sorted bytewise, exact prefix (no pattern characters), pages by key.
pub async fn a_scan_is_sorted_by_bytes_and_keeps_its_prefix(place: &impl Factory) {
    let log = place.open().await;
    let sorted = ["", "A", "Z", "a", "a%", "a_b", "aa", "ab", "b", "z", "é", "日"];
    let state = sorted.iter().rev().map(|key| write(key, None, value(key))).collect();
    append(&*log, state).await.unwrap();
    let scan = async |prefix, after, limit| log.state_scan("test", prefix, after, limit).await.unwrap();
    assert_eq!(keys(&scan("", "", 99).await), sorted[1..], "after the empty key come all others");
    assert_eq!(keys(&scan("a", "", 99).await), ["a", "a%", "a_b", "aa", "ab"]);
    assert_eq!(keys(&scan("a", "a%", 2).await), ["a_b", "aa"]);
    assert_eq!(keys(&scan("a_", "", 99).await), ["a_b"]);
    assert_eq!(keys(&scan("a%", "", 99).await), ["a%"]);
    assert_eq!(keys(&scan("a", "b", 99).await), [""; 0]);
    assert_eq!(keys(&scan("é", "", 99).await), ["é"]);
    assert_eq!(keys(&scan("", "", 0).await), [""; 0]);
}

/// Due is `due_at <= now`; rows without a time are never due.
pub async fn due_rows_come_longest_due_first(place: &impl Factory) {
    let log = place.open().await;
    assert_eq!(log.state_next_due("test").await.unwrap(), None);
    let state = vec![
        write("b", None, due(20)),
        write("a", None, due(30)),
        write("never", None, value("")),
        write("d", None, due(10)),
        write("c", None, due(10)),
        write("before 1970", None, due(-5)),
    ];
    append(&*log, state).await.unwrap();
    assert_eq!(keys(&log.state_due("test", at(20), 99).await.unwrap()), ["before 1970", "c", "d", "b"]);
    assert_eq!(keys(&log.state_due("test", at(19), 2).await.unwrap()), ["before 1970", "c"]);
    assert_eq!(log.state_due_count("test", at(20)).await.unwrap(), 4);
    assert_eq!(log.state_due_count("test", at(-6)).await.unwrap(), 0);
    assert_eq!(log.state_next_due("test").await.unwrap(), Some(at(-5)));
    append(&*log, vec![write("before 1970", None, value("done"))]).await.unwrap();
    assert_eq!(log.state_next_due("test").await.unwrap(), Some(at(10)));
}

/// Every question is about one namespace.
pub async fn namespaces_do_not_mix(place: &impl Factory) {
    let log = place.open().await;
    let other = StateWrite { namespace: "test2".to_owned(), ..write("k", Some(0), due(1)) };
    append(&*log, vec![write("k", Some(0), due(2)), other]).await.unwrap();
    assert_eq!(log.state("test", "k").await.unwrap().unwrap().due_at, Some(at(2)));
    assert_eq!(log.state_scan("test", "", "", 9).await.unwrap().len(), 1);
    assert_eq!(log.state_due("test", at(9), 9).await.unwrap().len(), 1);
    assert_eq!(log.state_due_count("test2", at(9)).await.unwrap(), 1);
    assert_eq!(log.state_next_due("test").await.unwrap(), Some(at(2)));
    assert_eq!(log.state_scan("nowhere", "", "", 9).await.unwrap(), []);
}
