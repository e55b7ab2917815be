//! The group commit: one task that writes whatever appends are waiting in one transaction.
//!
//! ```text
//!   append ──┐                 ┌─ begin ─ lock head ─ look up ─┬─ plan ─┐
//!   append ──┼─▶ queue ─▶ group┤                               ├─ plan ─┼─ write ─ commit ─▶ answers, wake-up
//!   restore ─┘                 └───────────────────────────────┴─ plan: refused
//! ```
//!
//! No request is answered before the commit that holds it. A request that is refused writes nothing, and the others
//! of its group go on.

use std::sync::Arc;
use std::time::Duration;

use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::{Position, Recorded};
use sqlx::{Connection, PgConnection, Postgres, Transaction};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[cfg(test)]
use super::faults::Faults;
use super::memory::{Found, Memory};
use super::session::{self, Server, within};
use super::write;
use crate::group::{self, Failed, Request, Witness, Written};
use crate::log::{Head, LogError};
use crate::plan::{Known, Plan};

/// Pauses between look-ups after a commit of unknown outcome; the last one repeats.
const SETTLE_PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(5)];

/// How long, after each failure in a row to reach the server, appends are refused without another try; the last one
/// repeats.
const DOWN_PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1)];

/// The task that owns the one writing connection.
pub(super) struct Writer {
    server: Server,
    connection: Option<PgConnection>,
    memory: Memory,
    /// Failures in a row to reach the server, and until when none is added.
    down: Option<(usize, Instant)>,
    clock: Arc<dyn Clock>,
    wake: watch::Sender<Position>,
    group: usize,
    requests: mpsc::Receiver<Request>,
    closing: CancellationToken,
    #[cfg(test)]
    pub faults: Faults,
}

impl Writer {
    pub(super) fn new(
        server: Server,
        memory: Memory,
        clock: Arc<dyn Clock>,
        wake: watch::Sender<Position>,
        group: usize,
        requests: mpsc::Receiver<Request>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            server,
            connection: None,
            memory,
            down: None,
            clock,
            wake,
            group,
            requests,
            closing,
            #[cfg(test)]
            faults: Faults::default(),
        }
    }

    /// Writes until the log is closed or its last handle is gone.
    pub(super) async fn run(mut self) {
        let mut waiting = Vec::with_capacity(self.group);
        let mut open = true;
        loop {
            tokio::select! {
                taken = self.requests.recv_many(&mut waiting, self.group) => {
                    if taken == 0 {
                        break;
                    }
                }
                () = self.closing.cancelled(), if open => {
                    // What is queued already is still written.
                    self.requests.close();
                    open = false;
                    continue;
                }
            }
            self.write(std::mem::take(&mut waiting)).await;
        }
        if let Some(connection) = self.connection.take() {
            // The server notices soon enough by itself.
            let _ = within(self.server.timeout, async { Ok(connection.close().await?) }).await;
        }
    }

    /// Writes one group and answers each of its requests.
    async fn write(&mut self, group: Vec<Request>) {
        let was_connected = self.connection.is_some();
        let mut result = self.transact(&group).await;
        if let Err(Failed::Begin(error) | Failed::Statement(error)) = &result
            && was_connected
            && session::is_lost(error)
        {
            // A connection that was lost since its last use says little about the server, and nothing was committed.
            tracing::warn!(error = error as &dyn std::error::Error, "the log's connection was lost; connecting again");
            result = self.transact(&group).await;
        }
        match result {
            Ok(written) => self.answer(group, written),
            // One of them made the transaction fail: each on its own, so that the others go on.
            Err(Failed::Statement(error)) if group.len() > 1 && is_of_one(&error) => {
                for request in group {
                    Box::pin(self.write(vec![request])).await;
                }
            }
            Err(Failed::Begin(error) | Failed::Statement(error)) => group::refuse(group, error),
            Err(Failed::Commit(error, written)) => self.settle(group, error, written).await,
        }
    }

    fn answer(&self, group: Vec<Request>, written: Written) {
        self.wake.send_if_modified(|newest| {
            let grew = written.head.position > *newest;
            *newest = written.head.position.max(*newest);
            grew
        });
        for (request, answer) in group.into_iter().zip(written.answers) {
            request.answer(answer);
        }
    }

    async fn transact(&mut self, group: &[Request]) -> Result<Written, Failed> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await.map_err(Failed::Begin)?,
        };
        // The connection is put back only when all is well: one that failed is not trusted again.
        let connection = self.connection.insert(connection);
        let result = transact(
            connection,
            group,
            &*self.clock,
            &mut self.memory,
            self.server.timeout,
            #[cfg(test)]
            &self.faults,
        )
        .await;
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    /// A new connection; at most one try within each pause, so that callers are told at once while the server is away.
    async fn connect(&mut self) -> Result<PgConnection, LogError> {
        let failures = match self.down {
            Some((_, until)) if Instant::now() < until => {
                let message = "the database could not be reached a moment ago";
                return Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::NotConnected, message)).into());
            }
            Some((failures, _)) => failures,
            None => 0,
        };
        let connected = self.for_writing().await;
        self.down = match &connected {
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(error = error as &dyn std::error::Error, "the log's database cannot be reached");
                Some((failures + 1, Instant::now() + DOWN_PAUSES[DOWN_PAUSES.len().min(failures + 1) - 1]))
            }
        };
        connected
    }

    async fn for_writing(&mut self) -> Result<PgConnection, LogError> {
        let mut connection = self.server.for_writing().await?;
        within(self.server.timeout, self.memory.connected(&mut connection)).await?;
        Ok(connection)
    }

    /// Finds out whether a failed commit is in the database, and answers then.
    ///
    /// There is nothing true to say before, so it tries until it knows or the log is closed; in that case the requests
    /// stay unanswered, and [`super::PostgresLog`] looks for itself.
    async fn settle(&mut self, group: Vec<Request>, error: sqlx::Error, written: Written) {
        tracing::error!(error = &error as &dyn std::error::Error, "a commit failed; looking up what it left");
        for attempt in 0.. {
            match write::look(&self.server, &written.witness).await {
                Ok(true) => {
                    self.memory.committed(written.head);
                    return self.answer(group, written);
                }
                Ok(false) => return group::refuse(group, error.into()),
                Err(error) => {
                    tracing::warn!(attempt, error = &error as &dyn std::error::Error, "cannot look yet");
                }
            }
            if self.closing.is_cancelled() {
                return;
            }
            let pause = SETTLE_PAUSES[SETTLE_PAUSES.len().min(attempt + 1) - 1];
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.closing.cancelled() => {}
            }
        }
    }
}

async fn transact(
    connection: &mut PgConnection,
    group: &[Request],
    clock: &dyn Clock,
    memory: &mut Memory,
    timeout: Duration,
    #[cfg(test)] faults: &Faults,
) -> Result<Written, Failed> {
    let seen = memory.seen();
    let begun = within(timeout, begin(connection, seen)).await;
    let (mut transaction, found) = begun.map_err(Failed::Begin)?;
    let written = within(timeout, write_all(&mut transaction, group, clock, memory, found)).await;
    let written = written.map_err(Failed::Statement)?;
    if written.witness.is_nothing() {
        // Nothing was written, so there is nothing that a failure could leave in doubt. What was found is on the disk:
        // PostgreSQL shows no transaction to others before it is.
        within(timeout, async { Ok(transaction.rollback().await?) }).await.map_err(Failed::Statement)?;
        return Ok(written);
    }
    #[cfg(test)]
    let transaction = match faults.before_commit(transaction).await {
        Ok(transaction) => transaction,
        Err(error) => return Err(Failed::Commit(error, written)),
    };
    let committed = match tokio::time::timeout(timeout, transaction.commit()).await {
        Ok(committed) => committed,
        Err(_) => Err(session::timed_out(timeout)),
    };
    match committed {
        Ok(()) => {
            memory.committed(written.head);
            Ok(written)
        }
        Err(error) => Err(Failed::Commit(error, written)),
    }
}

async fn begin(connection: &mut PgConnection, seen: Head) -> Result<(Transaction<'_, Postgres>, Found), LogError> {
    let mut transaction = connection.begin().await?;
    let (head, chain_seen) = write::lock_head(&mut transaction, seen.position).await?;
    Ok((transaction, Found { head, seen, chain_seen }))
}

async fn write_all(
    transaction: &mut Transaction<'_, Postgres>,
    requests: &[Request],
    clock: &dyn Clock,
    memory: &mut Memory,
    found: Found,
) -> Result<Written, LogError> {
    let head = found.head;
    let doubt = memory.doubt(transaction, found).await?;
    let mut known = Known::at(head);
    // All at once, before the first is planned: the transaction holds the lock, so nothing of it can change.
    write::learn(transaction, &mut known, group::needs(requests)).await?;
    let mut answers = Vec::with_capacity(requests.len());
    let mut witness = Witness::default();
    let mut events: Vec<Recorded> = Vec::new();
    for request in requests {
        let (plan, answer) = match doubt.as_ref().and_then(|doubt| doubt.refuses(request)) {
            Some(refused) => (Plan::default(), refused),
            None => request.plan(&mut known, clock.now()),
        };
        witness.note(&plan);
        events.extend(plan.events);
        answers.push(answer);
    }
    if !witness.is_nothing() {
        write::apply(transaction, &events, &witness.rows, known.head).await?;
    }
    Ok(Written { answers, witness, head: known.head })
}

/// Whether a single request may be to blame: data that cannot be stored, a broken constraint, a limit, a trigger.
fn is_of_one(error: &LogError) -> bool {
    let LogError::Database(sqlx::Error::Database(error)) = error else { return false };
    let Some(code) = error.code() else { return false };
    ["22", "23", "54", "P0"].iter().any(|class| code.starts_with(class))
}
