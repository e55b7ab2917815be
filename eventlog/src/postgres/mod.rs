//! The log in a PostgreSQL database: [`PostgresLog`].
//!
//! One task per process writes, over one connection, a group of appends per transaction; a pool of its own reads. Other
//! processes do the same: the lock of the row that says where the log ends puts their transactions in order, so that
//! positions have no gap and are visible as soon as they are given.
//!
//! It is ours to come back by itself: after a lost connection, a restarted server, a network that carries nothing. Until
//! then appends and reads fail within [`Options::timeout`], never later.

mod clock;
#[cfg(test)]
mod faults;
mod listen;
mod memory;
mod read;
mod schema;
mod session;
mod url;
mod write;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::{Hash, Position, Recorded, Version};
use keyledger_schemas::ids::{EventId, StreamId};
use sqlx::PgPool;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use clock::DatabaseClock;

use crate::group::{Request, unanswered};
use crate::log::{Append, AppendError, EventLog, Head, LogError, Placed, RestoreError};
use memory::{Memory, Seen};
use session::Server;
use writer::Writer;

/// How the database is used. The defaults suit several processes on one server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Appends that may wait for the writer; further callers wait for a place. Default 1024.
    pub queue: usize,
    /// Appends committed together at most. Default 256.
    pub group: usize,
    /// Reading connections at most. Default 8. Beside them a process has one that writes and one that listens.
    pub readers: u32,
    /// How long connecting may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a page or a transaction may take, the wait for other writers included. Default 10 s.
    pub timeout: Duration,
    /// How long nothing is appended after the server was switched over, so that what is missing can be put back from the
    /// mirror first. Default 10 s.
    pub pause: Duration,
    /// The id of a log that is being made, when it is to be a copy of another; one by chance when there is none. A log
    /// that is there keeps its own, and is refused when it is not this.
    pub log_id: Option<Uuid>,
}

impl Default for Options {
    fn default() -> Self {
        let (connect_timeout, timeout) = (Duration::from_secs(5), Duration::from_secs(10));
        Self { queue: 1024, group: 256, readers: 8, connect_timeout, timeout, pause: timeout, log_id: None }
    }
}

/// The log in a PostgreSQL database. Clones are the same log.
#[derive(Clone)]
pub struct PostgresLog(Arc<Shared>);

struct Shared {
    log_id: Uuid,
    readers: PgPool,
    seen: Seen,
    timeout: Duration,
    requests: mpsc::Sender<Request>,
    wake: watch::Receiver<Position>,
    closing: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    #[cfg(test)]
    faults: faults::Faults,
}

impl PostgresLog {
    /// Opens the log at a `postgres:` URL, and makes its tables when there are none. The database must exist.
    ///
    /// # Errors
    ///
    /// [`LogError::Unsafe`] when the tables are not ours, were made by a newer keyledger, or the server would not keep
    /// what it acknowledges; the reason says what to do. [`LogError::Database`] when it cannot be reached now.
    pub async fn open(url: &str, clock: Arc<dyn Clock>, options: Options) -> Result<Self, LogError> {
        let server = Server::new(url::parse(url)?, &options);
        let log_id = schema::open(&server, clock.now(), options.log_id).await?;
        let readers = server.readers(options.readers);
        let seen = Seen::default();
        let newest = match read::head(&readers).await {
            Ok(head) => {
                seen.note(head);
                head.position
            }
            // It opens, so that `verify` can say what is wrong; nothing can be appended after a damaged head.
            Err(LogError::Damaged { position, .. }) => position,
            Err(error) => return Err(error),
        };
        let (requests, queue) = mpsc::channel(options.queue.max(1));
        let (wake_sender, wake) = watch::channel(newest);
        let closing = CancellationToken::new();
        let listening = tokio::spawn(listen::run(server.clone(), seen.clone(), wake_sender.clone(), closing.clone()));
        let memory = Memory::new(log_id, seen.clone(), options.pause);
        let writer = Writer::new(server, memory, clock, wake_sender, options.group.max(1), queue, closing.clone());
        #[cfg(test)]
        let faults = writer.faults.clone();
        let tasks = Mutex::new(vec![tokio::spawn(writer.run()), listening]);
        Ok(Self(Arc::new(Shared {
            log_id,
            readers,
            seen,
            timeout: options.timeout,
            requests,
            wake,
            closing,
            tasks,
            #[cfg(test)]
            faults,
        })))
    }

    /// Whether there is a log in the database. Makes nothing.
    ///
    /// # Errors
    ///
    /// [`LogError::Database`] when the server cannot be asked now; [`LogError::Unsafe`] when the URL is none.
    pub async fn exists(url: &str) -> Result<bool, LogError> {
        schema::exists(&Server::new(url::parse(url)?, &Options::default())).await
    }
}

/// Without its connections: those know the password.
impl fmt::Debug for PostgresLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PostgresLog").field("log_id", &self.0.log_id).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    /// The writer ends with its last handle by itself; who listens is told.
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

#[async_trait]
impl EventLog for PostgresLog {
    fn log_id(&self) -> Uuid {
        self.0.log_id
    }

    async fn append(&self, append: Append) -> Result<Vec<Placed>, AppendError> {
        let append = Arc::new(append);
        let (reply, answer) = oneshot::channel();
        let request = Request::Append { append: Arc::clone(&append), reply };
        if self.0.requests.send(request).await.is_err() {
            return Err(AppendError::Unavailable(LogError::Closed));
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => unanswered::append(self, &append).await,
        }
    }

    async fn restore(&self, events: &[Recorded]) -> Result<Head, RestoreError> {
        let events: Arc<[Recorded]> = events.into();
        let (reply, answer) = oneshot::channel();
        let request = Request::Restore { events: Arc::clone(&events), reply };
        if self.0.requests.send(request).await.is_err() {
            return Err(RestoreError::Unavailable(LogError::Closed));
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => unanswered::restore(self, &events).await,
        }
    }

    async fn read_after(&self, after: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        let page = self.within(read::after(&self.0.readers, after, limit)).await?;
        if let Some(last) = page.last() {
            self.0.seen.note(Head { position: last.position, chain: last.chain });
        }
        Ok(page)
    }

    async fn read_stream(&self, stream: &StreamId, after: Version, limit: usize) -> Result<Vec<Recorded>, LogError> {
        self.within(read::stream(&self.0.readers, stream, after, limit)).await
    }

    async fn find(&self, id: &EventId) -> Result<Option<Recorded>, LogError> {
        self.within(read::find(&self.0.readers, id)).await
    }

    async fn chain_at(&self, position: Position) -> Result<Option<Hash>, LogError> {
        let chain = self.within(read::chain_at(&self.0.readers, position)).await?;
        // Whoever follows a mirror compares here what was read there.
        if let Some(chain) = chain {
            self.0.seen.note(Head { position, chain });
        }
        Ok(chain)
    }

    async fn head(&self) -> Result<Head, LogError> {
        let head = self.within(read::head(&self.0.readers)).await?;
        self.0.seen.note(head);
        Ok(head)
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.0.wake.clone()
    }

    async fn close(&self) {
        self.0.closing.cancel();
        for task in self.0.tasks.lock().await.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(error = &error as &dyn std::error::Error, "a task of the log did not end by itself");
            }
        }
        self.0.readers.close().await;
    }
}

impl PostgresLog {
    /// Gives up after the time that a page may take: a server that hangs is as good as none.
    async fn within<T>(&self, reading: impl Future<Output = Result<T, LogError>>) -> Result<T, LogError> {
        session::within(self.0.timeout, reading).await
    }
}

#[cfg(test)]
mod tests;
