//! The conformance suites on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_eventlog::conformance::{Factory, TailFactory};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::postgres::{Options, PostgresLog};
use keyledger_eventlog::tail::{SqlTail, Tail};
use keyledger_eventlog::{log_conformance, tail_conformance};
use keyledger_schemas::clock::ManualClock;
use keyledger_test_servers::Postgres;

/// A server of its own. Every handle has connections of its own, as another process would.
struct PostgresPlace {
    server: Postgres,
    clock: Arc<ManualClock>,
    opened: Mutex<Vec<PostgresLog>>,
}

impl PostgresPlace {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        Self { server: Postgres::start(), clock, opened: Mutex::default() }
    }
}

#[async_trait]
impl Factory for PostgresPlace {
    async fn open(&self) -> Arc<dyn EventLog> {
        let log = PostgresLog::open(&self.server.url(), self.clock.clone(), Options::default()).await.unwrap();
        self.opened.lock().unwrap().push(log.clone());
        Arc::new(log)
    }

    async fn close(&self) {
        let opened: Vec<PostgresLog> = self.opened.lock().unwrap().drain(..).collect();
        for log in opened {
            log.close().await;
        }
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

#[async_trait]
impl TailFactory for PostgresPlace {
    async fn tail(&self) -> Arc<dyn Tail> {
        Arc::new(SqlTail::new(self.open().await))
    }
}

log_conformance!(PostgresPlace::new());
tail_conformance!(PostgresPlace::new());
