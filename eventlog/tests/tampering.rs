//! `verify` against a file that someone changed behind the log's back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use keyledger_eventlog::log::{Append, EventLog, LogError};
use keyledger_eventlog::sqlite::{Options, SqliteLog};
use keyledger_eventlog::testing::event;
use keyledger_eventlog::verify::{Report, verify};
use keyledger_schemas::clock::ManualClock;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

/// A log of 20 events in three streams, closed, changed by `statements`, and opened again.
async fn tampered(statements: &'static str) -> (tempfile::TempDir, SqliteLog) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let log = open(&path).await;
    let events = (0..20).map(|number| event(&format!("evt_{number}"), &format!("s{}", number % 3), number.to_string()));
    log.append(Append::events(events.collect())).await.unwrap();
    log.close().await;

    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let unlock = "drop trigger event_is_never_changed; drop trigger event_is_never_removed";
    sqlx::raw_sql(unlock).execute(&mut connection).await.unwrap();
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let log = open(&path).await;
    (folder, log)
}

async fn open(path: &Path) -> SqliteLog {
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    SqliteLog::open(path.to_str().unwrap(), clock, Options::default()).await.unwrap()
}

async fn report(statements: &'static str) -> Report {
    let (_folder, log) = tampered(statements).await;
    verify(&log, |_| ()).await.unwrap()
}

#[tokio::test]
async fn an_untouched_file_is_sound() {
    let report = report("select 1").await;
    assert_eq!((report.events, report.problem), (20, None));
}

#[tokio::test]
async fn a_changed_byte_is_found_in_whatever_column() {
    let changes = [
        "update event set data = x'00' where position = 7",
        "update event set id = 'evt_x' where position = 7",
        "update event set kind = 'test.happened!' where position = 7",
        "update event set stream = 'other', version = 1 where position = 7",
        "update event set source = 'other' where position = 7",
        "update event set account = 'acct_1' where position = 7",
        "update event set mode = 'test' where position = 7",
        "update event set occurred_at = '1970-01-01T00:00:00.000000001Z' where position = 7",
        "update event set recorded_at = '1970-01-01T00:00:00.000000001Z' where position = 7",
        "update event set causation_id = 'evt_1' where position = 7",
        "update event set correlation_id = 'evt_1' where position = 7",
        "update event set schema_version = 2 where position = 7",
        "update event set actor = 'me' where position = 7",
        "update event set partition = 1 where position = 7",
        "update event set delivery = '{\"signature\":\"\",\"secret\":\"\",\"received_at\":\"1970-01-01T00:00:00Z\"}' \
         where position = 7",
        "update event set content_hash = zeroblob(32) where position = 7",
        "update event set chain = zeroblob(32) where position = 7",
        "update event set key_id = 'k' where position = 7",
        "update event set version = 99 where position = 7",
        "update event set mode = 'neither' where position = 7",
        "update event set content_hash = x'00' where position = 7",
        "update event set occurred_at = 'yesterday' where position = 7",
        "update event set partition = 700 where position = 7",
    ];
    for change in changes {
        let report = report(change).await;
        let position = report.problem.as_ref().map(|problem| problem.position);
        assert_eq!((report.events, position), (6, Some(7)), "{change}: {report:?}");
    }
}

#[tokio::test]
async fn a_byte_and_its_hash_changed_together_break_the_chain() {
    let hash_of_nothing = "update event set data = x'', content_hash = \
         x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' where position = 7";
    let report = report(hash_of_nothing).await;
    assert_eq!(report.problem.unwrap().position, 7);
}

#[tokio::test]
async fn a_removed_row_is_found_and_never_read_past() {
    let (_folder, log) = tampered("delete from event where position = 7").await;
    let report = verify(&log, |_| ()).await.unwrap();
    assert_eq!((report.events, report.problem.unwrap().position), (6, 7));
    assert_eq!(log.read_after(0, 100).await.unwrap().len(), 6);
    assert!(matches!(log.read_after(6, 100).await, Err(LogError::Damaged { position: 7, .. })));
    let stream = log.read_stream(&"s0".into(), 0, 100).await;
    assert!(matches!(stream, Err(LogError::Damaged { .. })), "{stream:?}");
}

#[tokio::test]
async fn a_removed_row_with_the_rest_moved_up_is_found() {
    let report = report(
        "delete from event where position = 7; \
         update event set position = -position where position > 7; \
         update event set position = -position - 1 where position < 0",
    )
    .await;
    assert_eq!((report.events, report.problem.unwrap().position), (6, 7));
}

#[tokio::test]
async fn swapped_rows_are_found() {
    let report = report(
        "update event set position = -1 where position = 7; \
         update event set position = 7 where position = 11; \
         update event set position = 11 where position = -1",
    )
    .await;
    assert_eq!((report.events, report.problem.unwrap().position), (6, 7));
}

#[tokio::test]
async fn an_event_slipped_in_is_found() {
    let report = report(
        "insert into event select 21, 'forged', 's0', 8, kind, source, account, mode, occurred_at, recorded_at, \
         causation_id, correlation_id, schema_version, actor, partition, delivery, data, content_hash, chain, key_id \
         from event where position = 20",
    )
    .await;
    assert_eq!((report.events, report.problem.unwrap().position), (20, 21));
}

#[tokio::test]
async fn damage_at_the_head_does_not_hide_damage_before_it() {
    let report =
        report("update event set chain = x'00' where position = 20; update event set data = x'00' where position = 3")
            .await;
    assert_eq!(report.problem.unwrap().position, 3);
}
