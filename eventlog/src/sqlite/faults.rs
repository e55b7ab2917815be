//! Failures of the commit itself, which no file system makes on demand. For tests alone.

use std::sync::{Arc, Mutex};

use sqlx::{ConnectOptions, Sqlite, SqliteConnection, Transaction};

/// What the next commit does.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: Option<Fault>,
    lock: Option<SqliteConnection>,
}

#[derive(Debug)]
enum Fault {
    CommitLost,
    AnswerLost,
    AnswerLostAndLocked(String),
}

impl Faults {
    /// The next commit happens, and its answer is lost.
    pub(super) fn lose_the_answer(&self) {
        self.0.lock().unwrap().next = Some(Fault::AnswerLost);
    }

    /// The next commit does not happen, and its answer is lost.
    pub(super) fn lose_the_commit(&self) {
        self.0.lock().unwrap().next = Some(Fault::CommitLost);
    }

    /// The next commit happens, its answer is lost, and then the file cannot be written until [`Faults::unlock`].
    pub(super) fn lose_the_answer_and_lock(&self, path: &str) {
        self.0.lock().unwrap().next = Some(Fault::AnswerLostAndLocked(path.to_owned()));
    }

    /// Lets the file be written again.
    pub(super) async fn unlock(&self) {
        let mut lock = self.0.lock().unwrap().lock.take().unwrap();
        sqlx::query("rollback").execute(&mut lock).await.unwrap();
    }

    pub(super) async fn before_commit<'c>(
        &self,
        transaction: Transaction<'c, Sqlite>,
    ) -> Result<Transaction<'c, Sqlite>, sqlx::Error> {
        let next = self.0.lock().unwrap().next.take();
        match next {
            None => return Ok(transaction),
            Some(Fault::CommitLost) => transaction.rollback().await?,
            Some(Fault::AnswerLost) => transaction.commit().await?,
            Some(Fault::AnswerLostAndLocked(path)) => {
                transaction.commit().await?;
                let mut lock = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await?;
                sqlx::query("begin immediate").execute(&mut lock).await?;
                self.0.lock().unwrap().lock = Some(lock);
            }
        }
        Err(sqlx::Error::WorkerCrashed)
    }
}
