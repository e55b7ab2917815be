//! A database that is put back to an older state under a running process.

use super::*;
use crate::lease::{Lease, Taken};
use crate::verify::verify;

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
async fn what_was_only_read_counts_as_seen() {
    let mut server = Postgres::start();
    let (log, other) = (open(&server).await, open(&server).await);
    append(&log, "a").await.unwrap();
    server.stop();
    let backup = server.backup();
    server.start_again();
    append_patiently(&other, "b").await;
    let chain = other.head().await.unwrap().chain;
    // As whoever follows a mirror asks.
    assert_eq!(log.chain_at(2).await.unwrap(), Some(chain));
    log_is_refused_after(server, &backup, &log).await;
}

#[tokio::test]
async fn what_was_only_heard_counts_as_seen() {
    let mut server = Postgres::start();
    let (log, other) = (open(&server).await, open(&server).await);
    append(&log, "a").await.unwrap();
    server.stop();
    let backup = server.backup();
    server.start_again();
    let began = Instant::now();
    let mut wake = log.wake();
    for number in 0.. {
        append_patiently(&other, &number.to_string()).await;
        if tokio::time::timeout(Duration::from_millis(200), wake.changed()).await.is_ok() && *wake.borrow() > 1 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "nothing is heard");
    }
    log_is_refused_after(server, &backup, &log).await;
}

async fn log_is_refused_after(mut server: Postgres, backup: &tempfile::TempDir, log: &PostgresLog) {
    server.stop();
    server.restore(backup);
    server.start_again();
    let refused = append(log, "c").await;
    assert!(is_unsafe(&refused), "{refused:?}");
}

#[tokio::test]
async fn while_something_is_missing_a_lease_is_taken_and_nothing_else() {
    let (server, log, events) = restored().await;
    let refused = log.append(Append::default()).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(LogError::Unsafe { .. }))), "{refused:?}");
    let refused = log.append(Append { state: vec![put("k", "1", None)], ..Append::default() }).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(LogError::Unsafe { .. }))), "{refused:?}");
    let now = Timestamp::UNIX_EPOCH;
    let taken = Lease::acquire(&log, "relay", "me", now, Duration::from_secs(10)).await.unwrap();
    let Taken::Ours(lease) = taken else { panic!("{taken:?}") };
    log.restore(&events[1..]).await.unwrap();
    let append = Append { state: vec![lease.fence()], ..Append::events(vec![event("d", "s", "{}")]) };
    assert_eq!(log.append(append).await.unwrap(), [Placed::Appended(4)]);
    drop(server);
}

#[tokio::test]
async fn the_relay_may_append_what_cannot_be_put_back_in_its_place() {
    let (server, log, events) = restored().await;
    let fresh = open(&server).await;
    append(&fresh, "x").await.unwrap();
    let refused = log.restore(&events[2..]).await;
    assert!(matches!(refused, Err(RestoreError::Broken { position: 3, .. })), "{refused:?}");
    let now = Timestamp::UNIX_EPOCH;
    let mut leases = Vec::new();
    for name in ["relay", "issuer"] {
        let taken = Lease::acquire(&log, name, "me", now, Duration::from_secs(10)).await.unwrap();
        let Taken::Ours(lease) = taken else { panic!("{taken:?}") };
        leases.push(lease);
    }
    let under = |lease: &Lease, id| Append { state: vec![lease.fence()], ..Append::events(vec![event(id, "s", "{}")]) };
    let refused = log.append(under(&leases[1], "b")).await.map(|placed| placed[0]);
    assert!(is_unsafe(&refused), "{refused:?}");
    assert_eq!(log.append(under(&leases[0], "b")).await.unwrap(), [Placed::Appended(3)]);
    assert_eq!(append(&log, "d").await.unwrap(), Placed::Appended(4), "it has grown past what was seen");
    drop(server);
}

#[tokio::test]
async fn once_other_events_have_taken_the_places_the_log_is_gone_on_with() {
    let (server, log, events) = restored().await;
    // A process that was started anew has seen nothing, and goes on.
    let fresh = open(&server).await;
    append(&fresh, "x").await.unwrap();
    let refused = append(&log, "d").await;
    assert!(is_unsafe(&refused), "{refused:?}");
    append(&fresh, "y").await.unwrap();
    assert_eq!(append(&log, "d").await.unwrap(), Placed::Appended(4));
    let refused = log.restore(&events[2..]).await;
    assert!(matches!(refused, Err(RestoreError::NotNext { expected: 5, offered: 3 })), "{refused:?}");
    assert_eq!(verify(&log, |_| ()).await.unwrap().problem, None);
}

#[tokio::test]
async fn a_server_that_was_switched_over_takes_no_events_for_a_while() {
    let mut server = Postgres::start();
    let options = Options { pause: Duration::from_millis(1500), ..options() };
    let log = PostgresLog::open(&server.url(), clock(), options).await.unwrap();
    append(&log, "a").await.unwrap();
    server.stop();
    std::fs::write(server.data_dir().join("standby.signal"), "").unwrap();
    server.start_again();
    let refused = append(&log, "b").await;
    let standby = |reason: &str| reason.contains("standby");
    let right = matches!(&refused, Err(AppendError::Unavailable(LogError::Unsafe { reason })) if standby(reason));
    assert!(right, "{refused:?}");
    server.psql("select pg_promote()");
    let began = Instant::now();
    let refused = loop {
        let refused = append(&log, "b").await.unwrap_err();
        let AppendError::Unavailable(LogError::Unsafe { reason }) = refused else {
            assert!(began.elapsed() < PATIENCE, "{refused:?}");
            continue;
        };
        if !standby(&reason) {
            break reason;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(refused.contains("switched over"), "{refused}");
    let now = Timestamp::UNIX_EPOCH;
    let taken = Lease::acquire(&log, "relay", "me", now, Duration::from_secs(10)).await.unwrap();
    assert!(matches!(taken, Taken::Ours(_)), "{taken:?}");
    assert_eq!(append_patiently(&log, "b").await, Placed::Appended(2));
}

#[tokio::test]
async fn another_log_in_the_place_of_ours_takes_no_appends() {
    let server = Postgres::start();
    let log = open(&server).await;
    append(&log, "a").await.unwrap();
    let events = log.read_after(0, 1).await.unwrap();
    server.psql(
        "drop schema keyledger_log cascade; select pg_terminate_backend(pid) from pg_stat_activity \
         where application_name = 'keyledger' and pid <> pg_backend_pid()",
    );
    let other = open(&server).await;
    let said = |reason: &str| reason.contains("holds the log");
    let refused = append(&log, "b").await;
    let right = matches!(&refused, Err(AppendError::Unavailable(LogError::Unsafe { reason })) if said(reason));
    assert!(right, "{refused:?}");
    let refused = log.restore(&events).await;
    let right = matches!(&refused, Err(RestoreError::Unavailable(LogError::Unsafe { reason })) if said(reason));
    assert!(right, "{refused:?}");
    assert_eq!(other.head().await.unwrap(), Head::default(), "nothing of ours is put into another's");
}
