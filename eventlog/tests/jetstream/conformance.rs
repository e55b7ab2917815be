//! The tail suite on the mirror, with a relay that keeps it: over each log, unchanged.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_eventlog::conformance::{Factory, TailFactory};
use keyledger_eventlog::jetstream::tail::{Fallback, JetStreamTail};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::open::{Options, open};
use keyledger_eventlog::tail::Tail;
use keyledger_schemas::clock::{ManualClock, SystemClock};
use keyledger_test_servers::{Nats, Postgres};
use tokio::sync::OnceCell;

use crate::support::{Place, Running, mirror};

/// Where the log is.
enum Home {
    File(Place),
    Server(Postgres),
}

impl Home {
    async fn open(&self) -> Arc<dyn EventLog> {
        let clock = Arc::new(SystemClock);
        match self {
            Self::File(place) => place.open().await,
            Self::Server(server) => open(&server.url(), clock, Options::default()).await.unwrap(),
        }
    }
}

/// A log, a nats-server, and a relay that starts with the first handle.
struct Mirrored {
    home: Home,
    nats: Nats,
    relay: OnceCell<Running>,
    clock: ManualClock,
}

impl Mirrored {
    fn of(home: Home) -> Self {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        Self { home, nats: Nats::start(), relay: OnceCell::new(), clock }
    }
}

#[async_trait]
impl Factory for Mirrored {
    async fn open(&self) -> Arc<dyn EventLog> {
        let log = self.home.open().await;
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

    keyledger_eventlog::tail_conformance!(Mirrored::of(Home::File(Place::new())));
}

mod postgres {
    use super::*;

    keyledger_eventlog::tail_conformance!(Mirrored::of(Home::Server(Postgres::start())));
}
