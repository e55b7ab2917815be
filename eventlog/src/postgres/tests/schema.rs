//! The tables: made once, whoever comes first, and guarded against accidents.

use super::*;
use crate::verify::verify;

#[tokio::test]
async fn many_processes_may_make_the_tables_at_once() {
    let server = Postgres::start();
    assert!(!PostgresLog::exists(&server.url()).await.unwrap());
    let opening: Vec<_> = (0..8)
        .map(|number| {
            let url = server.url();
            tokio::spawn(async move {
                let log = try_open(&url).await.unwrap();
                append(&log, &number.to_string()).await.unwrap();
                log.log_id()
            })
        })
        .collect();
    let mut ids = Vec::new();
    for handle in opening {
        ids.push(handle.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert!(PostgresLog::exists(&server.url()).await.unwrap());
    assert_eq!(verify(&open(&server).await, |_| ()).await.unwrap().events, 8);
}

#[tokio::test]
async fn an_event_row_cannot_be_changed_or_removed_by_accident() {
    let server = Postgres::start();
    let log = open(&server).await;
    append(&log, "a").await.unwrap();
    let mut other = other(&server).await;
    for text in ["update event set kind = 'x'", "delete from event", "truncate event"] {
        let refused = sqlx::query(text).execute(&mut other).await.unwrap_err();
        assert!(refused.to_string().contains("never changed or removed"), "{text}: {refused}");
    }
    assert_eq!(log.head().await.unwrap().position, 1);
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let server = Postgres::start();
    let log = open(&server).await;
    assert!(sqlx::query("delete from state").execute(&log.0.readers).await.is_err());
}

#[tokio::test]
async fn bodies_are_packed_fast_or_not_at_all() {
    let server = Postgres::start();
    let log = open(&server).await;
    log.append(Append::events(vec![event("a", "s", vec![b'x'; 100_000])])).await.unwrap();
    let stored = server.psql("select coalesce(pg_column_compression(data), 'none') from keyledger_log.event");
    assert!(stored == "lz4" || stored == "none", "{stored}");
    assert_eq!(log.find(&"a".into()).await.unwrap().unwrap().data.len(), 100_000);
}

#[tokio::test]
async fn a_changed_row_is_found_and_stops_who_would_append_after_it() {
    let server = Postgres::start();
    let log = open(&server).await;
    for number in 0..20 {
        append(&log, &number.to_string()).await.unwrap();
    }
    log.close().await;
    let changes = [
        ("update event set data = '{ }' where position = 7", 7),
        ("update event set chain = '\\x00' where position = 20", 20),
        ("delete from event where position = 20", 20),
    ];
    for (change, position) in changes {
        let mut other = other(&server).await;
        sqlx::query("begin").execute(&mut other).await.unwrap();
        sqlx::query("set local session_replication_role = replica").execute(&mut other).await.unwrap();
        sqlx::query(change).execute(&mut other).await.unwrap();
        sqlx::query("commit").execute(&mut other).await.unwrap();
        other.close().await.unwrap();
        let log = open(&server).await;
        let report = verify(&log, |_| ()).await.unwrap();
        if position == 7 {
            assert_eq!(report.problem.unwrap().position, 7, "{change}");
        } else {
            let refused = append(&log, "new").await;
            assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{change}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn text_that_cannot_be_stored_does_not_take_its_group_along() {
    let server = Postgres::start();
    let log = open(&server).await;
    let mut holder = holding_the_head(&server).await;
    let mut tasks = Vec::new();
    // The first holds the writer until the lock is gone; the others are one group.
    for id in ["first", "a", "nul\0", "b"] {
        let log = log.clone();
        tasks.push(tokio::spawn(async move { append(&log, id).await }));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sqlx::query("commit").execute(&mut holder).await.unwrap();
    let mut placed = Vec::new();
    for task in tasks {
        placed.push(task.await.unwrap().ok());
    }
    assert_eq!(placed, [Some(Placed::Appended(1)), Some(Placed::Appended(2)), None, Some(Placed::Appended(3))]);
}
