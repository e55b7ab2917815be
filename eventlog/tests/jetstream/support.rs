//! A log in a file, a nats-server, and what runs between them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyledger_eventlog::jetstream::compare::compare;
use keyledger_eventlog::jetstream::relay::{self, Relay, State, Status};
use keyledger_eventlog::jetstream::{Client, Mirror, Options, connect};
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::sqlite::{self, SqliteLog};
use keyledger_eventlog::testing::event;
use keyledger_schemas::clock::SystemClock;
use keyledger_schemas::envelope::{NewEvent, Position, Recorded};
use keyledger_schemas::event::Event;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for anything to happen; a test that works never waits for it.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A folder with a log in it.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("log.db")
    }

    pub async fn open(&self) -> Arc<SqliteLog> {
        Arc::new(open(&self.file()).await)
    }

    /// Puts a copy of the log in its place, as a restored backup would be. Nobody has it open.
    pub fn restore(&self, copy: &Path) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.file().display()));
        }
        std::fs::copy(copy, self.file()).unwrap();
    }

    /// A backup of `log`, as it is now.
    pub async fn back_up(&self, log: &SqliteLog, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        log.copy_to(&path).await.unwrap();
        path
    }
}

async fn open(path: &Path) -> SqliteLog {
    SqliteLog::open(&path.to_string_lossy(), Arc::new(SystemClock), sqlite::Options::default()).await.unwrap()
}

/// Fails soon, so that tests are short.
pub fn options(url: impl Into<String>) -> Options {
    Options { request_timeout: Duration::from_secs(2), connect_timeout: Duration::from_secs(2), ..Options::at(url) }
}

pub async fn client(url: impl Into<String>) -> Client {
    connect(&options(url)).await.unwrap()
}

/// The mirror of `log` at `url`, over a connection of its own.
pub async fn mirror(url: impl Into<String>, log: &dyn EventLog) -> Mirror {
    Mirror::new(client(url).await, log.log_id())
}

/// A relay that runs until it is stopped or killed.
pub struct Running {
    pub status: watch::Receiver<Status>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts a relay that takes over quickly and looks often.
    pub fn start(log: Arc<dyn EventLog>, mirror: Mirror, holder: &str) -> Self {
        let options = relay::Options {
            lease_ttl: Duration::from_secs(2),
            look_every: Duration::from_millis(300),
            ack_timeout: Duration::from_secs(2),
            ..relay::Options::of(holder)
        };
        let relay = Relay::new(log, mirror, Arc::new(SystemClock), options);
        let (status, stop) = (relay.status(), CancellationToken::new());
        let task = tokio::spawn(relay.run(stop.clone()));
        Self { status, stop, task }
    }

    /// As SIGTERM does.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// As SIGKILL does.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until the state's word is this, and gives the state.
    pub async fn wait_for(&mut self, word: &str) -> State {
        let reached = self.status.wait_for(|status| status.state.word() == word);
        let reached = tokio::time::timeout(PATIENCE, reached).await.map(|status| status.unwrap().state.clone());
        reached.unwrap_or_else(|_| panic!("the relay is {:?}, not {word}", *self.status.borrow()))
    }
}

/// A relay from `log` to the server at `url`, over a connection of its own.
pub async fn relay(url: impl Into<String>, log: &Arc<SqliteLog>, holder: &str) -> Running {
    let log: Arc<dyn EventLog> = log.clone();
    Running::start(log.clone(), mirror(url, &*log).await, holder)
}

/// An event such as Stripe sends, with a body of this size or a little more.
pub fn sale(id: &str, size: usize) -> NewEvent {
    let body = format!("{{\"id\": \"{id}\", \"filler\": \"{}\"}}", "x".repeat(size));
    NewEvent { kind: "stripe.invoice.paid".to_owned(), ..event(id, &format!("stripe:{id}"), body) }
}

/// Appends `count` events `<name>_0`, `<name>_1`, … one by one, several at a time.
pub async fn append(log: &dyn EventLog, name: &str, count: usize) {
    let ids: Vec<String> = (0..count).map(|number| format!("{name}_{number}")).collect();
    for ids in ids.chunks(32) {
        let appends = ids.iter().map(|id| log.append(Append::events(vec![sale(id, 300)])));
        for placed in futures::future::join_all(appends).await {
            placed.unwrap();
        }
    }
}

/// Appends for as long as it is held: `<name>_0`, `<name>_1`, …
pub struct Load {
    stop: CancellationToken,
    task: JoinHandle<usize>,
}

impl Load {
    pub fn start(log: &Arc<SqliteLog>, name: &str) -> Self {
        let (stop, log, name) = (CancellationToken::new(), Arc::clone(log), name.to_owned());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut round = 0;
            while !stopped.is_cancelled() {
                append(&*log, &format!("{name}_{round}"), 8).await;
                round += 1;
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
            round * 8
        });
        Self { stop, task }
    }

    /// Ends, and gives how many events were appended.
    pub async fn stop(self) -> usize {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// Waits until the mirror has everything that the log has, and asserts that it is the same: id for id, byte for byte.
#[track_caller]
pub fn settled<'a>(log: &'a dyn EventLog, mirror: &'a Mirror) -> impl Future<Output = Position> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            if let Ok(found) = compare(log, mirror, |_| ()).await
                && found.mirror == log.head().await.unwrap().position
                && found.problem.is_none()
            {
                assert_eq!(found.events, found.mirror);
                return found.events;
            }
            if began.elapsed() > PATIENCE {
                let found = compare(log, mirror, |_| ()).await;
                panic!("{caller}: the mirror did not become the log's: {found:?}, {:?}", log.head().await);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Everything in the log.
pub async fn all(log: &dyn EventLog) -> Vec<Recorded> {
    let mut events: Vec<Recorded> = Vec::new();
    loop {
        let page = log.read_after(events.last().map_or(0, |event| event.position), 256).await.unwrap();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// What the log says about the mirror, in order: kind, fault and position.
pub async fn said(log: &dyn EventLog) -> Vec<String> {
    let events = log.read_stream(&"mirror:KL_LOG".into(), 0, 100).await.unwrap();
    let said = events.iter().map(|event| match Event::decode(&event.kind, &event.data).unwrap().unwrap() {
        Event::MirrorDiverged(it) => format!("{:?} {:?}", it.fault, it.position),
        Event::MirrorMended(_) => "mended".to_owned(),
        other => panic!("{other:?}"),
    });
    said.collect()
}

/// Waits until `is_so`.
#[track_caller]
pub fn until(mut is_so: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        while !is_so().await {
            assert!(began.elapsed() < PATIENCE, "{caller}: it did not come");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
