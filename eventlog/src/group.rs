//! What waits for the writer of a SQL adapter, and what it is told once its group is committed.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use keyledger_schemas::envelope::{Hash, Position, Recorded};
use tokio::sync::oneshot;

use crate::log::{Append, AppendError, Head, LogError, Placed, RestoreError};
use crate::plan::{self, Known, Needs, Plan, RowChange, StateKey};
use crate::restore;
use crate::state::StateRow;

/// One call that waits for its answer.
#[derive(Debug)]
pub(crate) enum Request {
    /// New events.
    Append { append: Arc<Append>, reply: oneshot::Sender<Result<Vec<Placed>, AppendError>> },
    /// Events that another copy of the log recorded.
    Restore { events: Arc<[Recorded]>, reply: oneshot::Sender<Result<Head, RestoreError>> },
}

/// What a request is to be told.
pub(crate) enum Answer {
    Append(Result<Vec<Placed>, AppendError>),
    Restore(Result<Head, RestoreError>),
}

impl Request {
    /// Decides what it writes, on top of what `known` says.
    pub(crate) fn plan(&self, known: &mut Known, now: Timestamp) -> (Plan, Answer) {
        match self {
            Self::Append { append, .. } => match plan::plan(append, known, now) {
                Ok(mut plan) => {
                    let placed = std::mem::take(&mut plan.placed);
                    (plan, Answer::Append(Ok(placed)))
                }
                Err(refused) => (Plan::default(), Answer::Append(Err(refused))),
            },
            Self::Restore { events, .. } => match restore::plan(events, known) {
                Ok(plan) => (plan, Answer::Restore(Ok(known.head))),
                Err(refused) => (Plan::default(), Answer::Restore(Err(refused))),
            },
        }
    }

    /// Tells it. A caller that no longer waits has dropped its receiver, and loses nothing it was promised.
    pub(crate) fn answer(self, answer: Answer) {
        match (self, answer) {
            (Self::Append { reply, .. }, Answer::Append(answer)) => drop(reply.send(answer)),
            (Self::Restore { reply, .. }, Answer::Restore(answer)) => drop(reply.send(answer)),
            // Dropped unanswered: the caller then looks for itself.
            (Self::Append { .. }, Answer::Restore(_)) | (Self::Restore { .. }, Answer::Append(_)) => {
                debug_assert!(false, "a request is given an answer of its kind");
            }
        }
    }

    /// The answer that it is not possible now.
    pub(crate) fn refused(&self, error: LogError) -> Answer {
        match self {
            Self::Append { .. } => Answer::Append(Err(AppendError::Unavailable(error))),
            Self::Restore { .. } => Answer::Restore(Err(RestoreError::Unavailable(error))),
        }
    }
}

/// What must be read before `group` can be planned.
pub(crate) fn needs(group: &[Request]) -> Needs {
    let mut needs = Needs::default();
    for request in group {
        match request {
            Request::Append { append, .. } => needs.of_append(append),
            Request::Restore { events, .. } => needs.of_restore(events),
        }
    }
    needs
}

/// Tells every request of `group` that nothing was written.
pub(crate) fn refuse(group: Vec<Request>, error: LogError) {
    let error = Arc::new(error);
    for request in group {
        let answer = request.refused(shared(&error));
        request.answer(answer);
    }
}

/// One failure as several requests are told of it. Its kind stays, where a caller goes by it.
fn shared(error: &Arc<LogError>) -> LogError {
    match &**error {
        LogError::Unsafe { reason } => LogError::Unsafe { reason: reason.clone() },
        LogError::Damaged { position, reason } => LogError::Damaged { position: *position, reason: reason.clone() },
        LogError::Closed => LogError::Closed,
        LogError::Database(_) => {
            LogError::Database(sqlx::Error::AnyDriverError(Box::new(GroupFailed(Arc::clone(error)))))
        }
    }
}

/// One failure that several requests are told of.
#[derive(Debug, thiserror::Error)]
#[error("the group of appends was not committed")]
struct GroupFailed(#[source] Arc<LogError>);

/// What proves that a transaction is in the database. It was written as one, so one part proves the whole.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// The last new event: its chain value covers all before it and the moment of recording.
    pub event: Option<(Position, Hash)>,
    /// The last change of each state row; asked only where there is no event.
    pub rows: HashMap<StateKey, Option<StateRow>>,
}

impl Witness {
    /// Adds what `plan` wrote.
    pub(crate) fn note(&mut self, plan: &Plan) {
        if let Some(event) = plan.events.last() {
            self.event = Some((event.position, event.chain));
        }
        for change in &plan.state {
            match change {
                RowChange::Put(row) => {
                    self.rows.insert((row.namespace.clone(), row.key.clone()), Some(row.clone()));
                }
                RowChange::Delete(key) => {
                    self.rows.insert(key.clone(), None);
                }
            }
        }
    }

    /// Whether the transaction wrote nothing at all.
    pub(crate) fn is_nothing(&self) -> bool {
        self.event.is_none() && self.rows.is_empty()
    }
}

/// What a transaction wrote, and what its requests are to be told once it is committed.
pub(crate) struct Written {
    pub answers: Vec<Answer>,
    pub witness: Witness,
    pub head: Head,
}

/// Why a group was not committed, or may not have been.
pub(crate) enum Failed {
    /// No transaction could be begun.
    Begin(LogError),
    /// A statement failed; everything was rolled back.
    Statement(LogError),
    /// The commit failed, and what it left in the database is unknown.
    Commit(sqlx::Error, Written),
}

/// What became of a call whose writer went away without an answer, as far as the database shows.
pub(crate) mod unanswered {
    use super::{Append, AppendError, Head, LogError, Placed, Recorded, RestoreError};
    use crate::log::EventLog;

    /// As an append: its events are all there, or it was not written.
    pub(crate) async fn append<L: EventLog>(log: &L, append: &Append) -> Result<Vec<Placed>, AppendError> {
        let mut placed = Vec::with_capacity(append.events.len());
        for event in &append.events {
            match log.find(&event.id).await.map_err(AppendError::Unavailable)? {
                Some(found) => placed.push(Placed::Duplicate(found.position)),
                None => return Err(AppendError::Unavailable(LogError::Closed)),
            }
        }
        if placed.is_empty() { Err(AppendError::Unavailable(LogError::Closed)) } else { Ok(placed) }
    }

    /// As events put back: the last of them is where it was offered, or none is.
    pub(crate) async fn restore<L: EventLog>(log: &L, events: &[Recorded]) -> Result<Head, RestoreError> {
        let Some(last) = events.last() else { return Err(RestoreError::Unavailable(LogError::Closed)) };
        let chain = log.chain_at(last.position).await.map_err(RestoreError::Unavailable)?;
        if chain == Some(last.chain) {
            return Ok(Head { position: last.position, chain: last.chain });
        }
        Err(RestoreError::Unavailable(LogError::Closed))
    }
}
