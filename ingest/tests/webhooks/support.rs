//! A running service on a free port, and the senders that talk to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_eventlog::log::{Append, AppendError, EventLog, Head, LogError, Placed, RestoreError};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::state::{StateRow, StateStore};
use keyledger_ingest::options::{Options, Source};
use keyledger_ingest::server::{self, Ingest};
use keyledger_ingest::signature;
use keyledger_schemas::clock::{Clock, ManualClock};
use keyledger_schemas::envelope::{Position, Recorded, Version};
use keyledger_schemas::ids::{EventId, Mode, StreamId};
use keyledger_schemas::secret::Secret;
use reqwest::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const SECRET: &str = "whsec_default_1";

/// Bound of everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn start_of_test() -> Timestamp {
    Timestamp::from_second(1_785_402_950).unwrap()
}

/// Options for tests: any port.
pub fn options() -> Options {
    Options { listen: "127.0.0.1:0".parse().unwrap(), ..Options::default() }
}

pub fn source(name: &str, secrets: &[&str]) -> Source {
    let secrets = secrets.iter().copied().map(Secret::new).collect();
    Source::new(name.parse().unwrap(), Mode::Live, secrets).unwrap()
}

pub struct Service {
    pub address: std::net::SocketAddr,
    pub log: Arc<SwitchLog>,
    pub clock: Arc<ManualClock>,
    pub stop: CancellationToken,
    pub client: reqwest::Client,
    pub serving: JoinHandle<()>,
}

impl Service {
    pub async fn start() -> Self {
        Self::with(options(), vec![source("default", &[SECRET])]).await
    }

    pub async fn with(options: Options, sources: Vec<Source>) -> Self {
        Self::built(options, sources, |ingest| ingest).await
    }

    pub async fn built(options: Options, sources: Vec<Source>, build: impl FnOnce(Ingest) -> Ingest) -> Self {
        let clock = Arc::new(ManualClock::at(start_of_test()));
        let log = Arc::new(SwitchLog::new(Arc::clone(&clock)));
        let listener = TcpListener::bind(options.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let as_log: Arc<dyn EventLog> = Arc::<SwitchLog>::clone(&log);
        let as_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let ingest = build(Ingest::new(options, sources, as_log, as_clock).unwrap());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server::serve(listener, Arc::new(ingest), stop.clone()));
        let client = keyledger_test_servers::http::builder().timeout(PATIENCE).build().unwrap();
        Self { address, log, clock, stop, client, serving }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The header that Stripe would send now.
    pub fn signed(&self, body: &[u8]) -> String {
        signature::sign(&Secret::new(SECRET), body, self.clock.now())
    }

    /// Posts `body` to the source `default`, signed with its secret.
    pub async fn post(&self, body: &[u8]) -> StatusCode {
        self.post_to("/webhooks/stripe", SECRET, body).await
    }

    pub async fn post_to(&self, path: &str, secret: &str, body: &[u8]) -> StatusCode {
        let header = signature::sign(&Secret::new(secret), body, self.clock.now());
        self.post_with(path, &header, body.to_vec()).await.status()
    }

    pub async fn post_with(&self, path: &str, signature: &str, body: Vec<u8>) -> reqwest::Response {
        let request = self.client.post(self.url(path)).header(signature::HEADER, signature).body(body);
        request.send().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    /// Everything in the log.
    pub async fn events(&self) -> Vec<Recorded> {
        self.log.kept.read_after(0, 1_000_000).await.unwrap()
    }

    pub async fn kinds(&self) -> Vec<String> {
        self.events().await.into_iter().map(|event| event.kind).collect()
    }

    /// The events of a kind, once there are `count` of them.
    pub async fn wait_for(&self, kind: &str, count: usize) -> Vec<Recorded> {
        let found = async {
            loop {
                let mut events = self.events().await;
                events.retain(|event| event.kind == kind);
                if events.len() >= count {
                    return events;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the event comes in time")
    }

    /// Stops, and waits until it has.
    pub async fn stopped(&mut self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, &mut self.serving).await.expect("stops in time").unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A small event of Stripe's, as it would be delivered.
pub fn event(id: &str, kind: &str) -> Vec<u8> {
    event_with(id, kind, &serde_json::json!({}))
}

/// As [`event`], with fields added or replaced.
pub fn event_with(id: &str, kind: &str, more: &serde_json::Value) -> Vec<u8> {
    let mut event = serde_json::json!({
        "id": id,
        "object": "event",
        "api_version": "2024-06-20",
        "created": 1_785_402_940,
        "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_1"}},
        "livemode": true,
        "pending_webhooks": 1,
        "type": kind,
    });
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    serde_json::to_vec_pretty(&event).unwrap()
}

/// A log that can be made to fail.
pub struct SwitchLog {
    pub kept: MemoryLog,
    state: AtomicU8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Switch {
    Well,
    /// Answers at once that it cannot.
    Down,
    /// Can be read, and takes nothing.
    ReadOnly,
    /// Never answers.
    Hangs,
    /// Appends after a while.
    Slow,
    /// A bug.
    Panics,
}

impl SwitchLog {
    fn new(clock: Arc<ManualClock>) -> Self {
        Self { kept: MemoryLog::new(clock), state: AtomicU8::new(Switch::Well as u8) }
    }

    pub fn switch(&self, to: Switch) {
        self.state.store(to as u8, Ordering::SeqCst);
    }

    fn is(&self, state: Switch) -> bool {
        self.state.load(Ordering::SeqCst) == state as u8
    }

    async fn gate(&self) -> Result<(), LogError> {
        if self.is(Switch::Hangs) {
            std::future::pending::<()>().await;
        }
        if self.is(Switch::Slow) {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(!self.is(Switch::Panics), "the log panics, as it was told to");
        if self.is(Switch::Down) { Err(LogError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl EventLog for SwitchLog {
    fn log_id(&self) -> Uuid {
        self.kept.log_id()
    }

    async fn append(&self, append: Append) -> Result<Vec<Placed>, AppendError> {
        self.gate().await.map_err(AppendError::Unavailable)?;
        if self.is(Switch::ReadOnly) {
            return Err(AppendError::Unavailable(LogError::Closed));
        }
        self.kept.append(append).await
    }

    async fn restore(&self, events: &[Recorded]) -> Result<Head, RestoreError> {
        self.gate().await.map_err(RestoreError::Unavailable)?;
        self.kept.restore(events).await
    }

    async fn read_after(&self, after: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        self.gate().await?;
        self.kept.read_after(after, limit).await
    }

    async fn read_stream(&self, stream: &StreamId, after: Version, limit: usize) -> Result<Vec<Recorded>, LogError> {
        self.gate().await?;
        self.kept.read_stream(stream, after, limit).await
    }

    async fn find(&self, id: &EventId) -> Result<Option<Recorded>, LogError> {
        self.gate().await?;
        self.kept.find(id).await
    }

    async fn head(&self) -> Result<Head, LogError> {
        self.gate().await?;
        self.kept.head().await
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.kept.wake()
    }

    async fn close(&self) {
        self.kept.close().await;
    }
}

#[async_trait]
impl StateStore for SwitchLog {
    async fn state(&self, namespace: &str, key: &str) -> Result<Option<StateRow>, LogError> {
        self.kept.state(namespace, key).await
    }

    async fn state_scan(
        &self,
        namespace: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<StateRow>, LogError> {
        self.kept.state_scan(namespace, prefix, after, limit).await
    }

    async fn state_due(&self, namespace: &str, now: Timestamp, limit: usize) -> Result<Vec<StateRow>, LogError> {
        self.kept.state_due(namespace, now, limit).await
    }

    async fn state_due_count(&self, namespace: &str, now: Timestamp) -> Result<u64, LogError> {
        self.kept.state_due_count(namespace, now).await
    }

    async fn state_next_due(&self, namespace: &str) -> Result<Option<Timestamp>, LogError> {
        self.kept.state_next_due(namespace).await
    }
}
