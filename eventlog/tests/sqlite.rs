//! The conformance suites on SQLite.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_eventlog::conformance::{Factory, TailFactory};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::sqlite::{Options, SqliteLog};
use keyledger_eventlog::tail::{SqlTail, Tail};
use keyledger_eventlog::{log_conformance, tail_conformance};
use keyledger_schemas::clock::ManualClock;

/// A file in a folder of its own. Every handle has connections of its own, as another process would.
struct SqlitePlace {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    opened: Mutex<Vec<SqliteLog>>,
}

impl SqlitePlace {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        Self { folder: tempfile::tempdir().unwrap(), clock, opened: Mutex::default() }
    }
}

#[async_trait]
impl Factory for SqlitePlace {
    async fn open(&self) -> Arc<dyn EventLog> {
        let url = format!("sqlite:{}", self.folder.path().join("log.db").display());
        let log = SqliteLog::open(&url, self.clock.clone(), Options::default()).await.unwrap();
        self.opened.lock().unwrap().push(log.clone());
        Arc::new(log)
    }

    async fn close(&self) {
        let opened: Vec<SqliteLog> = self.opened.lock().unwrap().drain(..).collect();
        for log in opened {
            log.close().await;
        }
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

#[async_trait]
impl TailFactory for SqlitePlace {
    async fn tail(&self) -> Arc<dyn Tail> {
        Arc::new(SqlTail::new(self.open().await))
    }
}

log_conformance!(SqlitePlace::new());
tail_conformance!(SqlitePlace::new());
