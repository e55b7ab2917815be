//! Failures of the commit itself, which no server makes on demand. For tests alone.

use std::sync::{Arc, Mutex};

use sqlx::{Postgres, Transaction};

/// What the next commit does.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Option<Fault>>>);

#[derive(Debug)]
enum Fault {
    CommitLost,
    AnswerLost,
}

impl Faults {
    /// The next commit happens, and its answer is lost.
    pub(super) fn lose_the_answer(&self) {
        *self.0.lock().unwrap() = Some(Fault::AnswerLost);
    }

    /// The next commit does not happen, and its answer is lost.
    pub(super) fn lose_the_commit(&self) {
        *self.0.lock().unwrap() = Some(Fault::CommitLost);
    }

    pub(super) async fn before_commit<'c>(
        &self,
        transaction: Transaction<'c, Postgres>,
    ) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
        let next = self.0.lock().unwrap().take();
        match next {
            None => return Ok(transaction),
            Some(Fault::CommitLost) => transaction.rollback().await?,
            Some(Fault::AnswerLost) => transaction.commit().await?,
        }
        Err(sqlx::Error::WorkerCrashed)
    }
}
