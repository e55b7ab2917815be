//! What only SQLite can get wrong: the file, its settings, and commits of unknown outcome.

use jiff::Timestamp;
use keyledger_schemas::clock::ManualClock;
use sqlx::SqliteConnection;

use super::*;
use crate::state::{StateChange, StateStore, StateWrite};
use crate::testing::event;

struct Place {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)) }
    }

    fn path(&self) -> String {
        self.folder.path().join("log.db").to_str().unwrap().to_owned()
    }

    async fn open(&self) -> SqliteLog {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<SqliteLog, LogError> {
        let options = Options { busy_timeout: Duration::from_millis(500), ..Options::default() };
        SqliteLog::open(&self.path(), self.clock.clone(), options).await
    }

    /// A connection as another process has one, in a writing transaction.
    async fn lock(&self) -> SqliteConnection {
        let mut other =
            schema::open(&self.path(), Timestamp::UNIX_EPOCH, &Options::default()).await.unwrap().connection;
        sqlx::query("begin immediate").execute(&mut other).await.unwrap();
        other
    }
}

/// Starts appends of one event each, in this order, and gives them time to queue up.
async fn queue(log: &SqliteLog, ids: &[&str]) -> Vec<JoinHandle<Result<Vec<Placed>, AppendError>>> {
    let mut tasks = Vec::new();
    for id in ids {
        let (log, event) = (log.clone(), event(id, "s", "{}"));
        tasks.push(tokio::spawn(async move { log.append(Append::events(vec![event])).await }));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tasks
}

fn put(key: &str, value: &str, expected: Option<u64>) -> StateWrite {
    let change = StateChange::Put { value: value.into(), due_at: None };
    StateWrite { namespace: "test".to_owned(), key: key.to_owned(), expected, change }
}

#[tokio::test]
async fn an_append_reads_back_after_reopen() {
    let place = Place::new();
    let log = place.open().await;
    let placed = log.append(Append::events(vec![event("a", "s", "1"), event("b", "s", "2")])).await.unwrap();
    assert_eq!(placed, [Placed::Appended(1), Placed::Appended(2)]);
    let before = log.read_after(0, 10).await.unwrap();
    let log_id = log.log_id();
    log.close().await;

    let log = place.open().await;
    assert_eq!(log.read_after(0, 10).await.unwrap(), before);
    assert_eq!(log.log_id(), log_id);
    assert_eq!(*log.wake().borrow(), 2);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_in_the_file() {
    let place = Place::new();
    let log = place.open().await;
    log.append(Append::events(vec![event("a", "s", "1")])).await.unwrap();
    log.0.faults.lose_the_answer();
    let placed = log.append(Append::events(vec![event("b", "s", "2")])).await.unwrap();
    assert_eq!(placed, [Placed::Appended(2)]);
    assert_eq!(log.head().await.unwrap().position, 2);
}

#[tokio::test]
async fn a_commit_that_did_not_happen_is_unavailable_and_the_next_append_takes_its_place() {
    let place = Place::new();
    let log = place.open().await;
    log.0.faults.lose_the_commit();
    let refused = log.append(Append::events(vec![event("a", "s", "1")])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert_eq!(log.head().await.unwrap(), Head::default());
    let placed = log.append(Append::events(vec![event("a", "s", "1")])).await.unwrap();
    assert_eq!(placed, [Placed::Appended(1)]);
}

#[tokio::test]
async fn a_lost_answer_to_state_alone_is_found_by_comparing_rows() {
    let place = Place::new();
    let log = place.open().await;
    log.0.faults.lose_the_answer();
    let state = vec![put("k", "1", Some(0))];
    assert_eq!(log.append(Append { state, ..Append::default() }).await.unwrap(), []);
    log.0.faults.lose_the_commit();
    let state = vec![put("k", "2", Some(1))];
    let refused = log.append(Append { state, ..Append::default() }).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert_eq!(log.state("test", "k").await.unwrap().unwrap().value, b"1");
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused_and_left_alone() {
    let place = Place::new();
    let text = "a letter to a friend, not a database; ".repeat(100);
    std::fs::write(place.path(), &text).unwrap();
    let refused = place.try_open().await;
    assert!(matches!(&refused, Err(LogError::Unsafe { reason }) if reason.contains("not a log")), "{refused:?}");
    assert_eq!(std::fs::read_to_string(place.path()).unwrap(), text);
}

#[tokio::test]
async fn a_database_of_someone_else_is_refused_and_left_alone() {
    use sqlx::{ConnectOptions, Connection};
    let place = Place::new();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path()).create_if_missing(true);
    let mut other = options.connect().await.unwrap();
    sqlx::query("create table letter (body text)").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let before = std::fs::read(place.path()).unwrap();
    let refused = place.try_open().await;
    assert!(matches!(&refused, Err(LogError::Unsafe { reason }) if reason.contains("not a log")), "{refused:?}");
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
}

#[tokio::test]
async fn a_log_with_another_schema_than_ours_is_refused() {
    use sqlx::{ConnectOptions, Connection};
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
         values (9999, 'from the future', 1, x'00', 0)";
    let edited = "update _sqlx_migrations set checksum = x'00' where version = 1";
    for (change, said) in [(newer, "newer keyledger"), (edited, "another schema 1")] {
        let place = Place::new();
        place.open().await.close().await;
        let mut other = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path()).connect().await.unwrap();
        sqlx::query(change).execute(&mut other).await.unwrap();
        other.close().await.unwrap();
        let refused = place.try_open().await;
        assert!(matches!(&refused, Err(LogError::Unsafe { reason }) if reason.contains(said)), "{refused:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_safe_log_is_refused_with_a_reason() {
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    for path in [":memory:", "sqlite::memory:", "sqlite:", "sqlite:log.db?mode=memory", "/no/such/folder/log.db"] {
        let refused = SqliteLog::open(path, clock.clone(), Options::default()).await;
        assert!(matches!(refused, Err(LogError::Unsafe { .. })), "{path}: {refused:?}");
    }
}

#[tokio::test]
async fn the_file_keeps_what_it_acknowledges() {
    let place = Place::new();
    let log = place.open().await;
    let journal_mode: String = sqlx::query_scalar("pragma journal_mode").fetch_one(&log.0.readers).await.unwrap();
    assert_eq!(journal_mode, "wal");
    let opened = schema::open(&place.path(), Timestamp::UNIX_EPOCH, &Options::default()).await.unwrap();
    let mut writer = opened.connection;
    let synchronous: i64 = sqlx::query_scalar("pragma synchronous").fetch_one(&mut writer).await.unwrap();
    assert_eq!(synchronous, 2);
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let place = Place::new();
    let log = place.open().await;
    let refused = sqlx::query("delete from state").execute(&log.0.readers).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn an_event_row_cannot_be_changed_or_removed_by_accident() {
    let place = Place::new();
    let log = place.open().await;
    log.append(Append::events(vec![event("a", "s", "1")])).await.unwrap();
    let opened = schema::open(&place.path(), Timestamp::UNIX_EPOCH, &Options::default()).await.unwrap();
    let mut other = opened.connection;
    for text in ["update event set kind = 'x'", "delete from event"] {
        assert!(sqlx::query(text).execute(&mut other).await.is_err(), "{text}");
    }
    assert_eq!(log.head().await.unwrap().position, 1);
}

#[tokio::test]
async fn many_handles_may_make_the_same_file_at_once() {
    let place = Arc::new(Place::new());
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let place = place.clone();
            tokio::spawn(async move { place.open().await.log_id() })
        })
        .collect();
    let mut ids = Vec::new();
    for handle in opening {
        ids.push(handle.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn an_append_waits_for_another_process_that_is_writing() {
    let place = Place::new();
    let log = place.open().await;
    let mut other = place.lock().await;
    let tasks = queue(&log, &["a"]).await;
    sqlx::query("commit").execute(&mut other).await.unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), [Placed::Appended(1)]);
    }
}

#[tokio::test]
async fn a_file_locked_for_too_long_is_unavailable_and_nothing_is_written_later() {
    let place = Place::new();
    let log = place.open().await;
    let mut other = place.lock().await;
    for task in queue(&log, &["a", "b"]).await {
        let refused = task.await.unwrap();
        assert!(matches!(refused, Err(AppendError::Unavailable(LogError::Database(_)))), "{refused:?}");
    }
    sqlx::query("commit").execute(&mut other).await.unwrap();
    let placed = log.append(Append::events(vec![event("c", "s", "")])).await.unwrap();
    assert_eq!(placed, [Placed::Appended(1)]);
}

#[tokio::test]
async fn an_append_that_the_database_refuses_does_not_take_its_group_along() {
    let place = Place::new();
    let log = place.open().await;
    let mut other = place.lock().await;
    let trap = "create trigger trap before insert on event when new.id = 'bad' \
         begin select raise(abort, 'the disk said no'); end";
    sqlx::query(trap).execute(&mut other).await.unwrap();
    // The first holds the writer until the lock is gone; the others are one group.
    let mut tasks = queue(&log, &["first", "a", "bad", "b"]).await.into_iter();
    sqlx::query("commit").execute(&mut other).await.unwrap();
    let mut next = async || tasks.next().unwrap().await.unwrap();
    assert_eq!(next().await.unwrap(), [Placed::Appended(1)]);
    assert_eq!(next().await.unwrap(), [Placed::Appended(2)]);
    let refused = next().await;
    assert!(matches!(refused, Err(AppendError::Unavailable(LogError::Database(_)))), "{refused:?}");
    assert_eq!(next().await.unwrap(), [Placed::Appended(3)]);
}

#[tokio::test]
async fn closing_finishes_what_is_queued() {
    let place = Place::new();
    let log = place.open().await;
    let mut other = place.lock().await;
    let tasks = queue(&log, &["a", "b", "c"]).await;
    let closing = tokio::spawn(async move { log.close().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    sqlx::query("commit").execute(&mut other).await.unwrap();
    closing.await.unwrap();
    for (index, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap().unwrap(), [Placed::Appended(index as u64 + 1)]);
    }
    assert_eq!(place.open().await.head().await.unwrap().position, 3);
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_answered_only_once_it_is_known() {
    let place = Place::new();
    let log = place.open().await;
    log.0.faults.lose_the_answer_and_lock(&place.path());
    let tasks = queue(&log, &["a"]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!tasks[0].is_finished(), "nothing true can be said yet");
    log.0.faults.unlock().await;
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), [Placed::Appended(1)]);
    }
}

#[tokio::test]
async fn when_the_writer_is_gone_the_caller_looks_for_itself() {
    let place = Place::new();
    let log = place.open().await;
    log.append(Append::events(vec![event("there", "s", "{}")])).await.unwrap();
    let there = unanswered::append(&log, &Append::events(vec![event("there", "s", "{}")])).await.unwrap();
    assert_eq!(there, [Placed::Duplicate(1)]);

    let mut other = place.lock().await;
    let tasks = queue(&log, &["a"]).await;
    log.0.writer.lock().await.as_ref().unwrap().abort();
    for task in tasks {
        let refused = task.await.unwrap();
        assert!(matches!(refused, Err(AppendError::Unavailable(LogError::Closed))), "{refused:?}");
    }
    sqlx::query("commit").execute(&mut other).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let log = place.open().await;
    log.append(Append::events(vec![event("a", "s", "{}")])).await.unwrap();
    for file in std::fs::read_dir(place.folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
    }
}

#[tokio::test]
async fn a_duplicate_of_what_another_process_left_is_synced_before_it_is_acknowledged() {
    let place = Place::new();
    let append = || Append::events(vec![event("evt_1", "s", "{}")]);
    let log = place.open().await;
    log.append(append()).await.unwrap();
    log.close().await;

    let log = place.open().await;
    let settled =
        async || -> i64 { sqlx::query_scalar("select settled from log_meta").fetch_one(&log.0.readers).await.unwrap() };
    let before = settled().await;
    for _ in 0..2 {
        assert_eq!(log.append(append()).await.unwrap(), [Placed::Duplicate(1)]);
        assert_eq!(settled().await, before + 1, "the first commits something, the second has nothing to sync");
    }
    log.close().await;
}

#[tokio::test]
async fn what_takes_several_statements_is_written_whole_and_in_order() {
    let place = Place::new();
    let log = place.open().await;
    // Every size of a statement occurs, and one event is too large to go with others.
    let count = 64 + 2 * 16 + 3 * 4 + 3;
    let large = " ".repeat(17 * 1024 * 1024);
    let data = |number| if number == 70 { large.as_str() } else { "{}" };
    let events =
        |count| (0..count).map(|number| event(&number.to_string(), &format!("s{}", number % 40), data(number)));
    let state = (0..count).map(|number| put(&number.to_string(), "1", Some(0))).collect();
    log.append(Append { events: events(count).collect(), state, ..Append::default() }).await.unwrap();
    let mut ids = Vec::new();
    loop {
        let page = log.read_after(ids.len() as u64, 50).await.unwrap();
        if page.is_empty() {
            break;
        }
        ids.extend(page.into_iter().map(|event| event.id.as_str().to_owned()));
    }
    assert_eq!(ids, (0..count).map(|number| number.to_string()).collect::<Vec<_>>());

    // All of it is known by the next append, which offers one more.
    let gone = |number: usize| StateWrite {
        expected: Some(1),
        change: StateChange::Delete,
        ..put(&number.to_string(), "", None)
    };
    let state = (1..count).map(gone).collect();
    let placed = log.append(Append { events: events(count + 1).collect(), state, ..Append::default() }).await.unwrap();
    assert!(placed[..count].iter().all(|place| matches!(place, Placed::Duplicate(_))));
    assert_eq!(placed[count], Placed::Appended(count as u64 + 1));
    let left = log.state_scan("test", "", "", 10).await.unwrap();
    assert_eq!(left.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["0"]);
    log.close().await;
}
