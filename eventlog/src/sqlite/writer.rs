//! The group commit: one task that writes whatever appends are waiting in one transaction.
//!
//! ```text
//!   append ──┐                 ┌─ begin immediate ─ head ─ look up ─┬─ plan ─┐
//!   append ──┼─▶ queue ─▶ group┤                                    ├─ plan ─┼─ write ─ commit ─▶ answers, wake-up
//!   restore ─┘                 └────────────────────────────────────┴─ plan: refused
//! ```
//!
//! No request is answered before the commit that holds it. A request that is refused writes nothing, and the others
//! of its group go on.

use std::sync::Arc;
use std::time::Duration;

use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::{Position, Recorded};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Sqlite, SqliteConnection, Transaction};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[cfg(test)]
use super::faults::Faults;
use super::schema::{self, Opened};
use super::write;
use crate::group::{self, Failed, Request, Witness, Written};
use crate::log::LogError;
use crate::plan::Known;

/// Pauses between look-ups after a commit of unknown outcome; the last one repeats.
const SETTLE_PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(5)];

/// The task that owns the one writing connection.
pub(super) struct Writer {
    pub log_id: Uuid,
    connect: SqliteConnectOptions,
    /// `None` after a failure: the next transaction begins on a new one.
    connection: Option<SqliteConnection>,
    /// Whether this writer has committed anything. What it found in the file when it began may have been written by
    /// a process that was killed before it synced; its first commit syncs that too.
    has_synced: bool,
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
        opened: Opened,
        clock: Arc<dyn Clock>,
        wake: watch::Sender<Position>,
        group: usize,
        requests: mpsc::Receiver<Request>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            log_id: opened.log_id,
            connect: opened.connect,
            connection: Some(opened.connection),
            has_synced: false,
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
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the log's file did not close cleanly");
        }
    }

    /// Writes one group and answers each of its requests.
    async fn write(&mut self, group: Vec<Request>) {
        match self.transact(&group).await {
            Ok(written) => self.answer(group, written),
            // One of them made the transaction fail: each on its own, so that the others go on.
            Err(Failed::Statement(_)) if group.len() > 1 => {
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
            None => schema::connect(&self.connect).await.map_err(Failed::Begin)?,
        };
        // The connection is put back only when all is well: one that failed is not trusted again.
        let connection = self.connection.insert(connection);
        let result = transact(
            connection,
            group,
            &*self.clock,
            self.has_synced,
            #[cfg(test)]
            &self.faults,
        )
        .await;
        match &result {
            Ok(_) => self.has_synced = true,
            Err(_) => self.connection = None,
        }
        result
    }

    /// Finds out whether a failed commit is in the file, and answers then.
    ///
    /// There is nothing true to say before, so it tries until it knows or the log is closed; in that case the requests
    /// stay unanswered, and [`super::SqliteLog`] looks for itself.
    async fn settle(&mut self, group: Vec<Request>, error: sqlx::Error, written: Written) {
        tracing::error!(error = &error as &dyn std::error::Error, "a commit failed; looking up what it left");
        for attempt in 0.. {
            match write::look(&self.connect, &written.witness).await {
                Ok(true) => return self.answer(group, written),
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
    connection: &mut SqliteConnection,
    group: &[Request],
    clock: &dyn Clock,
    has_synced: bool,
    #[cfg(test)] faults: &Faults,
) -> Result<Written, Failed> {
    let begun = connection.begin_with("begin immediate").await;
    let mut transaction = begun.map_err(|error| Failed::Begin(error.into()))?;
    let written = write_all(&mut transaction, group, clock).await.map_err(Failed::Statement)?;
    if written.witness.is_nothing() && !has_synced {
        // A duplicate is acknowledged too, and must be on the disk by then.
        write::touch(&mut transaction).await.map_err(Failed::Statement)?;
    } else if written.witness.is_nothing() {
        // Nothing was written, so there is nothing that a failure could leave in doubt.
        transaction.rollback().await.map_err(|error| Failed::Statement(error.into()))?;
        return Ok(written);
    }
    #[cfg(test)]
    let transaction = match faults.before_commit(transaction).await {
        Ok(transaction) => transaction,
        Err(error) => return Err(Failed::Commit(error, written)),
    };
    match transaction.commit().await {
        Ok(()) => Ok(written),
        Err(error) => Err(Failed::Commit(error, written)),
    }
}

async fn write_all(
    transaction: &mut Transaction<'_, Sqlite>,
    requests: &[Request],
    clock: &dyn Clock,
) -> Result<Written, LogError> {
    let mut known = Known::at(write::head(transaction).await?);
    // All at once, before the first is planned: the transaction holds the lock, so nothing of it can change.
    write::learn(transaction, &mut known, group::needs(requests)).await?;
    let mut answers = Vec::with_capacity(requests.len());
    let mut witness = Witness::default();
    let mut events: Vec<Recorded> = Vec::new();
    for request in requests {
        let (plan, answer) = request.plan(&mut known, clock.now());
        witness.note(&plan);
        events.extend(plan.events);
        answers.push(answer);
    }
    write::apply(transaction, &events, &witness.rows).await?;
    Ok(Written { answers, witness, head: known.head })
}
