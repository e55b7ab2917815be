//! The conformance suites on the log in memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_eventlog::conformance::{Factory, TailFactory};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::tail::{SqlTail, Tail};
use keyledger_eventlog::{log_conformance, tail_conformance};
use keyledger_schemas::clock::ManualClock;

/// The events outlive the handles, as a file's would.
struct MemoryPlace {
    clock: Arc<ManualClock>,
    store: MemoryLog,
    opened: Mutex<Vec<MemoryLog>>,
}

impl MemoryPlace {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let store = MemoryLog::new(clock.clone());
        Self { clock, store, opened: Mutex::default() }
    }
}

#[async_trait]
impl Factory for MemoryPlace {
    async fn open(&self) -> Arc<dyn EventLog> {
        let log = self.store.reopen();
        self.opened.lock().unwrap().push(log.clone());
        Arc::new(log)
    }

    async fn close(&self) {
        let opened: Vec<MemoryLog> = self.opened.lock().unwrap().drain(..).collect();
        for log in opened {
            log.close().await;
        }
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

#[async_trait]
impl TailFactory for MemoryPlace {
    async fn tail(&self) -> Arc<dyn Tail> {
        Arc::new(SqlTail::new(self.open().await))
    }
}

log_conformance!(MemoryPlace::new());
tail_conformance!(MemoryPlace::new());
