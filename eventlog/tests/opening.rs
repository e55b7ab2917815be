//! Opening a log by its URL, whichever engine it names; and moving one from the one to the other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use jiff::Timestamp;
use keyledger_eventlog::log::{Append, EventLog, LogError};
use keyledger_eventlog::open::{Options, clock, exists, open};
use keyledger_eventlog::testing::event;
use keyledger_eventlog::verify::verify;
use keyledger_schemas::clock::{Clock, ManualClock};
use keyledger_test_servers::Postgres;
use uuid::Uuid;

fn manual() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH))
}

async fn opened(url: &str, log_id: Option<Uuid>) -> Result<Arc<dyn EventLog>, LogError> {
    open(url, manual(), Options { log_id }).await
}

/// Makes nothing by asking; gives a new log the id that is wanted, and refuses to take another's place.
async fn is_opened_by_url(url: &str) {
    assert!(!exists(url).await.unwrap());
    assert!(!exists(url).await.unwrap(), "asking made nothing");
    let log_id = Uuid::from_u128(7);
    let log = opened(url, Some(log_id)).await.unwrap();
    assert!(exists(url).await.unwrap());
    assert_eq!(log.log_id(), log_id);
    log.append(Append::events(vec![event("a", "s", "{}")])).await.unwrap();
    log.close().await;
    let refused = opened(url, Some(Uuid::from_u128(8))).await;
    assert!(matches!(refused, Err(LogError::Unsafe { .. })));
    let log = opened(url, None).await.unwrap();
    assert_eq!((log.log_id(), log.head().await.unwrap().position), (log_id, 1));
    log.close().await;
}

#[tokio::test]
async fn a_file_is_opened_by_url() {
    let folder = tempfile::tempdir().unwrap();
    is_opened_by_url(&format!("sqlite:{}", folder.path().join("log.db").display())).await;
    assert!(!exists("sqlite:/no/such/folder/log.db").await.unwrap());
}

#[tokio::test]
async fn a_database_is_opened_by_url() {
    let server = Postgres::start();
    is_opened_by_url(&server.url()).await;
    assert!(matches!(exists(&server.url_of("nowhere")).await, Err(LogError::Database(_))));
}

#[tokio::test]
async fn a_log_on_a_server_takes_the_servers_time_and_a_file_the_machines() {
    let server = Postgres::start();
    let machines = manual();
    assert_eq!(clock("sqlite:log.db", machines.clone()).await.unwrap().now(), Timestamp::UNIX_EPOCH);
    assert!(clock(&server.url(), machines).await.unwrap().now() > Timestamp::UNIX_EPOCH);
}

#[tokio::test]
async fn a_log_is_moved_from_a_file_to_a_server_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = Postgres::start();
    let file = opened(&format!("sqlite:{}", folder.path().join("log.db").display()), None).await.unwrap();
    let events = (0..700).map(|number| event(&format!("e{number}"), &format!("s{}", number % 9), number.to_string()));
    file.append(Append::events(events.collect())).await.unwrap();

    let moved = opened(&server.url(), Some(file.log_id())).await.unwrap();
    loop {
        let page = file.read_after(moved.head().await.unwrap().position, 256).await.unwrap();
        if page.is_empty() {
            break;
        }
        moved.restore(&page).await.unwrap();
    }
    assert_eq!(moved.log_id(), file.log_id());
    assert_eq!(moved.head().await.unwrap(), file.head().await.unwrap());
    assert_eq!(moved.read_after(0, 1000).await.unwrap(), file.read_after(0, 1000).await.unwrap());
    assert_eq!(verify(&*moved, |_| ()).await.unwrap().problem, None);
}
