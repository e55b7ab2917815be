//! The tail suite on the mirror, with a relay that keeps it: over each log, unchanged.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_eventlog::conformance::{Factory, TailFactory};
use keyledger_eventlog::jetstream::tail::{Fallback, JetStreamTail};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::Tail;
use keyledger_schemas::clock::ManualClock;
use keyledger_test_servers::Nats;
use tokio::sync::OnceCell;

use crate::support::{Place, Running, mirror};

/// A log, a server, and a relay that starts with the first handle.
struct Mirrored {
    place: Place,
    nats: Nats,
    relay: OnceCell<Running>,
    clock: ManualClock,
}

impl Mirrored {
    fn new() -> Self {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        Self { place: Place::new(), nats: Nats::start(), relay: OnceCell::new(), clock }
    }
}

#[async_trait]
impl Factory for Mirrored {
    async fn open(&self) -> Arc<dyn EventLog> {
        let log: Arc<dyn EventLog> = self.place.open().await;
        let relay = async || Running::start(log.clone(), mirror(self.nats.url(), &*log).await, "relay");
        self.relay.get_or_init(relay).await;
        log
    }

    async fn close(&self) {}

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

#[async_trait]
impl TailFactory for Mirrored {
    async fn tail(&self) -> Arc<dyn Tail> {
        let log = self.open().await;
        let mirror = mirror(self.nats.url(), &*log).await;
        Arc::new(JetStreamTail::new(log, mirror, "conformance", Fallback::Sql))
    }
}

mod sqlite {
    use super::*;

    keyledger_eventlog::tail_conformance!(Mirrored::new());
}
