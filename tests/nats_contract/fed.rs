//! A log, and the relay that feeds its mirror, with no more rights than `deploy/nats` gives.

use std::sync::Arc;
use std::time::Duration;

use keyledger_eventlog::jetstream::relay::{self, Relay, Status};
use keyledger_eventlog::jetstream::{Mirror, Options, connect, options::Login};
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::testing::event;
use keyledger_schemas::clock::SystemClock;
use keyledger_schemas::envelope::{NewEvent, Position};
use keyledger_schemas::secret::Secret;
use keyledger_test_servers::Nats;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::server;

/// Long enough for anything to happen; a test that works never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A log whose events are mirrored by a relay that logs in as `ingest`.
pub(crate) struct Fed {
    pub(crate) log: Arc<MemoryLog>,
    status: watch::Receiver<Status>,
    _relay: Running,
}

/// A task that ends with the test.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Fed {
    pub(crate) async fn start(nats: &Nats) -> Self {
        let log = Arc::new(MemoryLog::new(Arc::new(SystemClock)));
        let options = relay::Options { look_every: Duration::from_millis(100), ..relay::Options::of("a test") };
        let mirror = mirror(nats, "ingest", &*log).await;
        let relay = Relay::new(log.clone(), mirror, Arc::new(SystemClock), options);
        let status = relay.status();
        Self { log, status, _relay: Running(tokio::spawn(relay.run(CancellationToken::new()))) }
    }

    /// Appends, and waits until the mirror has it.
    pub(crate) async fn append(&mut self, events: Vec<NewEvent>) -> Position {
        let placed = self.log.append(Append::events(events)).await.unwrap();
        let last = placed.last().unwrap().position();
        let mirrored = self.status.wait_for(|status| status.position >= Some(last));
        let mirrored = tokio::time::timeout(PATIENCE, mirrored).await.map(|status| status.is_ok());
        assert!(mirrored.is_ok(), "the mirror does not get there: {:?}", *self.status.borrow());
        last
    }
}

/// The mirror of `log`, as this user sees it.
pub(crate) async fn mirror(nats: &Nats, user: &str, log: &dyn EventLog) -> Mirror {
    let login = Login::Password { user: user.to_owned(), password: Secret::new(server::password(user)) };
    let url = format!("nats://127.0.0.1:{}", nats.port());
    let options = Options { login, request_timeout: Duration::from_secs(2), ..Options::at(url) };
    Mirror::new(connect(&options).await.unwrap(), log.log_id())
}

/// An event of this kind in partition 7, with this data.
pub(crate) fn of_kind(id: impl std::fmt::Display, kind: &str, data: impl Into<Vec<u8>>) -> NewEvent {
    NewEvent { kind: kind.to_owned(), partition: 7, ..event(&id.to_string(), &format!("stream of {id}"), data) }
}
