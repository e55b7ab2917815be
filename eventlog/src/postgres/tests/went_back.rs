//! A database that is put back to an older state under a running process.

use super::*;

/// A log of three events, and the last two of them once more after a backup of the first.
async fn restored() -> (Postgres, PostgresLog, Vec<Recorded>) {
    let mut server = Postgres::start();
    let log = open(&server).await;
    append(&log, "a").await.unwrap();
    server.stop();
    let backup = server.backup();
    server.start_again();
    append_patiently(&log, "b").await;
    append(&log, "c").await.unwrap();
    let events = log.read_after(0, 10).await.unwrap();
    server.stop();
    server.restore(&backup);
    server.start_again();
    (server, log, events)
}

fn is_unsafe(refused: &Result<Placed, AppendError>) -> bool {
    matches!(refused, Err(AppendError::Unavailable(LogError::Unsafe { reason })) if reason.contains("older state"))
}

#[tokio::test]
async fn nothing_is_appended_to_a_database_that_went_back_until_what_is_missing_is_put_back() {
    let (server, log, events) = restored().await;
    assert_eq!(log.head().await.unwrap().position, 1, "it can be read");
    let refused = append(&log, "d").await;
    assert!(is_unsafe(&refused), "{refused:?}");
    log.0.faults.lose_the_answer();
    log.restore(&events[1..2]).await.unwrap();
    let refused = append(&log, "d").await;
    assert!(is_unsafe(&refused), "one is still missing: {refused:?}");
    log.restore(&events[2..]).await.unwrap();
    assert_eq!(append(&log, "d").await.unwrap(), Placed::Appended(4));
    assert_eq!(log.read_after(0, 3).await.unwrap(), events);
    drop(server);
}

#[tokio::test]
async fn another_event_at_a_position_that_was_seen_is_noticed() {
    let (server, log, events) = restored().await;
    // A process that was started anew has seen nothing, and goes on.
    let fresh = open(&server).await;
    for id in ["x", "y", "z"] {
        append(&fresh, id).await.unwrap();
    }
    let refused = append(&log, "d").await;
    assert!(is_unsafe(&refused), "{refused:?}");
    let refused = log.restore(&events[2..]).await;
    assert!(matches!(refused, Err(RestoreError::NotNext { expected: 5, offered: 3 })), "{refused:?}");
    assert_eq!(append(&fresh, "more").await.unwrap(), Placed::Appended(5));
}

#[tokio::test]
async fn another_log_in_the_place_of_ours_takes_no_appends() {
    let mut server = Postgres::start();
    let log = open(&server).await;
    append(&log, "a").await.unwrap();
    server.psql(
        "drop schema keyledger_log cascade; select pg_terminate_backend(pid) from pg_stat_activity \
         where application_name = 'keyledger' and pid <> pg_backend_pid()",
    );
    open(&server).await;
    let refused = append(&log, "b").await;
    let said = |reason: &str| reason.contains("holds the log");
    let right = matches!(&refused, Err(AppendError::Unavailable(LogError::Unsafe { reason })) if said(reason));
    assert!(right, "{refused:?}");
    server.stop();
}
