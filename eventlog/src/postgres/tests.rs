//! What only PostgreSQL can get wrong: the server, its settings, connections that go away, and commits of unknown outcome.

mod outages;
mod refusals;
mod schema;
mod went_back;

use std::time::Instant;

use jiff::Timestamp;
use keyledger_schemas::clock::ManualClock;
use keyledger_test_servers::{Link, Postgres};
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::*;
use crate::state::{StateChange, StateStore, StateWrite};
use crate::testing::event;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Short enough for a test to wait for.
fn options() -> Options {
    let (connect_timeout, timeout) = (Duration::from_secs(2), Duration::from_secs(2));
    Options { connect_timeout, timeout, ..Options::default() }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH))
}

async fn open(server: &Postgres) -> PostgresLog {
    try_open(&server.url()).await.unwrap()
}

async fn try_open(url: &str) -> Result<PostgresLog, LogError> {
    PostgresLog::open(url, clock(), options()).await
}

/// The way to `server` over `link`.
fn through(link: &Link) -> String {
    format!("postgres://keyledger@127.0.0.1:{}/keyledger", link.port())
}

async fn append(log: &PostgresLog, id: &str) -> Result<Placed, AppendError> {
    log.append(Append::events(vec![event(id, "s", "{}")])).await.map(|placed| placed[0])
}

/// Appends until it is taken, as a sender does.
async fn append_patiently(log: &PostgresLog, id: &str) -> Placed {
    let began = Instant::now();
    loop {
        match append(log, id).await {
            Ok(placed) => return placed,
            Err(AppendError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other:?}"),
        }
        assert!(began.elapsed() < PATIENCE, "{id} is not taken");
    }
}

/// A connection as another process has one, with the log's tables in front.
async fn other(server: &Postgres) -> PgConnection {
    let options = url::parse(&server.url()).unwrap();
    let mut other = options.connect().await.unwrap();
    sqlx::query("select set_config('search_path', 'keyledger_log', false)").execute(&mut other).await.unwrap();
    other
}

/// A connection that holds the head, as another process in the middle of an append does.
async fn holding_the_head(server: &Postgres) -> PgConnection {
    let mut other = other(server).await;
    sqlx::query("begin").execute(&mut other).await.unwrap();
    sqlx::query("select position from log_head for update").execute(&mut other).await.unwrap();
    other
}

fn put(key: &str, value: &str, expected: Option<u64>) -> StateWrite {
    let change = StateChange::Put { value: value.into(), due_at: None };
    StateWrite { namespace: "test".to_owned(), key: key.to_owned(), expected, change }
}

/// What went wrong, with all that caused it.
fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text} {error}");
        source = error.source();
    }
    text
}
