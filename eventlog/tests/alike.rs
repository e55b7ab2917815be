//! Whatever is appended, in whatever order: memory, SQLite and PostgreSQL answer alike and hold the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use jiff::Timestamp;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::postgres::{self, PostgresLog};
use keyledger_eventlog::sqlite::{Options, SqliteLog};
use keyledger_eventlog::state::{StateChange, StateWrite};
use keyledger_eventlog::testing::event;
use keyledger_eventlog::verify::verify;
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::envelope::{IdReuse, NewEvent};
use keyledger_test_servers::Postgres;
use proptest::prelude::*;

/// Few ids, bodies, streams and keys, so that they meet often.
fn any_event() -> impl Strategy<Value = NewEvent> {
    (0..12_u8, 0..3_u8, 0..2_u8, any::<bool>()).prop_map(|(id, stream, body, first_wins)| {
        let on_reuse = if first_wins { IdReuse::FirstWins } else { IdReuse::Refused };
        NewEvent { on_reuse, ..event(&format!("e{id}"), &format!("s{stream}"), vec![body]) }
    })
}

fn any_write() -> impl Strategy<Value = StateWrite> {
    let change = prop_oneof![
        3 => (any::<u8>(), proptest::option::of(-3..3_i64)).prop_map(|(value, due)| StateChange::Put {
            value: vec![value],
            due_at: due.map(|second| Timestamp::from_second(second).unwrap()),
        }),
        1 => Just(StateChange::Delete),
        1 => Just(StateChange::Check),
    ];
    (0..3_u8, proptest::option::of(0..4_u64), change).prop_map(|(key, expected, change)| StateWrite {
        namespace: "test".to_owned(),
        key: format!("k{key}"),
        expected,
        change,
    })
}

fn any_append() -> impl Strategy<Value = Append> {
    let expected = proptest::option::weighted(0.4, (0..3_u8, 0..5_u64));
    let events = proptest::collection::vec(any_event(), 0..4);
    let state = proptest::collection::vec(any_write(), 0..3);
    (events, expected, state).prop_map(|(events, expected, state)| Append {
        events,
        expected: expected.map(|(stream, version)| (format!("s{stream}").as_str().into(), version)),
        state,
    })
}

/// Everything that can be read of a log.
async fn contents(log: &dyn EventLog) -> String {
    let now = Timestamp::UNIX_EPOCH;
    let mut parts =
        vec![format!("{:?}", log.head().await.unwrap()), format!("{:?}", log.read_after(0, 1000).await.unwrap())];
    for stream in ["s0", "s1", "s2"] {
        parts.push(format!("{:?}", log.read_stream(&stream.into(), 1, 1000).await.unwrap()));
    }
    parts.push(format!("{:?}", log.state_scan("test", "k", "", 10).await.unwrap()));
    parts.push(format!("{:?}", log.state_due("test", now, 10).await.unwrap()));
    parts.push(format!("{:?}", log.state_due_count("test", now).await.unwrap()));
    parts.push(format!("{:?}", log.state_next_due("test").await.unwrap()));
    parts.join("\n")
}

async fn append_to_both(appends: Vec<Append>, clock: Arc<ManualClock>, log: &dyn EventLog) {
    let memory = MemoryLog::new(clock);
    for append in appends {
        let in_memory = memory.append(append.clone()).await;
        let in_log = log.append(append).await;
        assert_eq!(format!("{in_memory:?}"), format!("{in_log:?}"));
    }
    assert_eq!(contents(&memory).await, contents(log).await);
    assert_eq!(verify(log, |_| ()).await.unwrap().problem, None);
    log.close().await;
}

async fn append_to_sqlite(appends: Vec<Append>) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let path = folder.path().join("log.db");
    let log = SqliteLog::open(path.to_str().unwrap(), clock.clone(), Options::default()).await.unwrap();
    append_to_both(appends, clock, &log).await;
}

async fn append_to_postgres(appends: Vec<Append>) {
    let server = Postgres::start();
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let log = PostgresLog::open(&server.url(), clock.clone(), postgres::Options::default()).await.unwrap();
    append_to_both(appends, clock, &log).await;
}

fn wait_for(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn memory_and_sqlite_answer_alike(appends in proptest::collection::vec(any_append(), 1..25)) {
        wait_for(append_to_sqlite(appends));
    }
}

proptest! {
    // Each case starts a server.
    #![proptest_config(config(6))]

    #[test]
    fn memory_and_postgres_answer_alike(appends in proptest::collection::vec(any_append(), 20..80)) {
        wait_for(append_to_postgres(appends));
    }
}
