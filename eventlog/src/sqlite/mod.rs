//! The log in one SQLite file: [`SqliteLog`].
//!
//! One task writes, over one connection, a group of appends per transaction; a pool of its own reads. Other processes
//! may have the same file open and write too: SQLite's lock puts their transactions in order.

#[cfg(test)]
mod faults;
mod read;
mod schema;
mod write;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::{Hash, Position, Recorded, Version};
use keyledger_schemas::ids::{EventId, StreamId};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqlitePool};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::group::{Request, unanswered};
use crate::log::{Append, AppendError, EventLog, Head, LogError, Placed, RestoreError};
use writer::Writer;

/// How the file is used. The defaults suit one machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Appends that may wait for the writer; further callers wait for a place. Default 1024.
    pub queue: usize,
    /// Appends committed together at most. Default 256.
    pub group: usize,
    /// Reading connections at most. Default 4.
    pub readers: u32,
    /// How long to wait for another process that is writing. Default 5 s.
    pub busy_timeout: Duration,
    /// The id of a log that is being made, when it is to be a copy of another; one by chance when there is none. A log
    /// that is there keeps its own, and is refused when it is not this.
    pub log_id: Option<Uuid>,
}

impl Default for Options {
    fn default() -> Self {
        Self { queue: 1024, group: 256, readers: 4, busy_timeout: Duration::from_secs(5), log_id: None }
    }
}

/// The log in one SQLite file. Clones are the same log.
#[derive(Clone, Debug)]
pub struct SqliteLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log_id: Uuid,
    connect: SqliteConnectOptions,
    readers: SqlitePool,
    requests: mpsc::Sender<Request>,
    wake: watch::Receiver<Position>,
    closing: CancellationToken,
    writer: Mutex<Option<JoinHandle<()>>>,
    #[cfg(test)]
    faults: faults::Faults,
}

/// A copy by SQLite itself: the one way that is safe beside a writer.
const COPY: &str = "vacuum into $1";

impl SqliteLog {
    /// Opens the log at a path or `sqlite:` URL, and makes it when it is not there. The folder must exist.
    ///
    /// # Errors
    ///
    /// [`LogError::Unsafe`] when the file is not a log of ours, was made by a newer keyledger, or would not keep what it
    /// acknowledges; the reason says what to do. [`LogError::Database`] when it cannot be opened now.
    pub async fn open(path_or_url: &str, clock: Arc<dyn Clock>, options: Options) -> Result<Self, LogError> {
        let opened = schema::open(path_or_url, clock.now(), &options).await?;
        let readers = schema::readers(&opened.connect, &options);
        let connect = opened.connect.clone();
        let newest = match read::head(&readers).await {
            Ok(head) => head.position,
            // It opens, so that `verify` can say what is wrong; nothing can be appended after a damaged head.
            Err(LogError::Damaged { position, .. }) => position,
            Err(error) => return Err(error),
        };
        let (requests, queue) = mpsc::channel(options.queue.max(1));
        let (wake_sender, wake) = watch::channel(newest);
        let closing = CancellationToken::new();
        let writer = Writer::new(opened, clock, wake_sender, options.group.max(1), queue, closing.clone());
        #[cfg(test)]
        let faults = writer.faults.clone();
        Ok(Self(Arc::new(Shared {
            log_id: writer.log_id,
            connect,
            readers,
            requests,
            wake,
            closing,
            writer: Mutex::new(Some(tokio::spawn(writer.run()))),
            #[cfg(test)]
            faults,
        })))
    }

    /// Whether there is a file at a path or `sqlite:` URL. Makes nothing.
    ///
    /// # Errors
    ///
    /// [`LogError::Unsafe`] when it cannot name a log; [`LogError::Database`] when the folder cannot be looked into.
    pub async fn exists(path_or_url: &str) -> Result<bool, LogError> {
        let path = schema::path_of(path_or_url)?;
        Ok(tokio::fs::try_exists(path).await.map_err(sqlx::Error::Io)?)
    }

    /// Writes a consistent copy of the whole log to `path`, which must not be there, while others go on reading and
    /// appending. What is appended meanwhile is not in it.
    ///
    /// # Errors
    ///
    /// [`LogError::Database`] when the copy cannot be written; whatever is at `path` then is not a copy.
    pub async fn copy_to(&self, path: &Path) -> Result<(), LogError> {
        let path = path.to_string_lossy().into_owned();
        // A connection of its own: readers may not write anywhere.
        let mut connection = self.0.connect.clone().connect().await?;
        let copied = sqlx::query(COPY).bind(path).execute(&mut connection).await;
        connection.close().await?;
        Ok(copied.map(|_| ())?)
    }
}

#[async_trait]
impl EventLog for SqliteLog {
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
        read::after(&self.0.readers, after, limit).await
    }

    async fn read_stream(&self, stream: &StreamId, after: Version, limit: usize) -> Result<Vec<Recorded>, LogError> {
        read::stream(&self.0.readers, stream, after, limit).await
    }

    async fn find(&self, id: &EventId) -> Result<Option<Recorded>, LogError> {
        read::find(&self.0.readers, id).await
    }

    async fn chain_at(&self, position: Position) -> Result<Option<Hash>, LogError> {
        read::chain_at(&self.0.readers, position).await
    }

    async fn head(&self) -> Result<Head, LogError> {
        read::head(&self.0.readers).await
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.0.wake.clone()
    }

    async fn close(&self) {
        self.0.closing.cancel();
        let writer = self.0.writer.lock().await.take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "the log's writer did not end by itself");
        }
        self.0.readers.close().await;
    }
}

#[cfg(test)]
mod tests;
