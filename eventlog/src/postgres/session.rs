//! Connections: how they are set up, and what the server must promise before it is trusted with an append.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection, PgPool};

use super::Options;
use crate::log::LogError;

/// Where the log's tables are: beside those of others in the same database.
pub(super) const SCHEMA: &str = "keyledger_log";

/// Before this, a partition or an index may be read wrongly in ways that nobody mends any more.
const OLDEST_SERVER: u32 = 130_000;

/// How long opening may wait for another process that makes or changes the tables.
pub(super) const OPEN_PATIENCE: Duration = Duration::from_mins(1);

/// Everything a session depends on is said, whatever the server, the database or the user has as a default.
/// `remote_apply` is the one level that waits for more than `on`. Where a table is small the planner would rather read
/// all of it, and keep to that while it grows. A peer that is gone is noticed, so that its lock is not kept.
const SET_UP: &str = "select set_config('search_path', $1, false), \
     set_config('synchronous_commit', \
         case current_setting('synchronous_commit') when 'remote_apply' then 'remote_apply' else 'on' end, false), \
     set_config('default_transaction_isolation', 'read committed', false), \
     set_config('lock_timeout', $2, false), \
     set_config('statement_timeout', $3, false), \
     set_config('idle_in_transaction_session_timeout', $4, false), \
     set_config('enable_seqscan', 'off', false), \
     set_config('jit', 'off', false), \
     set_config('tcp_keepalives_idle', '10', false), \
     set_config('tcp_keepalives_interval', '5', false), \
     set_config('tcp_keepalives_count', '3', false)";

const READ_ONLY: &str = "select set_config('default_transaction_read_only', 'on', false)";

const PROMISES: &str = "select current_setting('server_version_num'), pg_is_in_recovery(), \
     current_setting('transaction_read_only'), current_setting('server_encoding'), current_setting('fsync', true), \
     current_setting('full_page_writes', true), current_setting('synchronous_commit')";

/// A server, and how it is talked to. It knows the password: never shown.
#[derive(Clone)]
pub(super) struct Server {
    connect: PgConnectOptions,
    connect_timeout: Duration,
    pub timeout: Duration,
}

/// How long a session may wait for a lock, take for a statement, and leave a transaction alone.
struct Limits {
    lock: Duration,
    statement: Duration,
    idle: Duration,
}

impl Server {
    pub(super) fn new(connect: PgConnectOptions, options: &Options) -> Self {
        Self { connect, connect_timeout: options.connect_timeout, timeout: options.timeout }
    }

    /// A connection that makes or changes tables.
    pub(super) async fn for_opening(&self) -> Result<PgConnection, LogError> {
        // Making an index on a large table may take as long as it takes.
        let limits = Limits { lock: OPEN_PATIENCE, statement: Duration::ZERO, idle: OPEN_PATIENCE };
        self.checked(&limits).await
    }

    /// A connection that appends.
    pub(super) async fn for_writing(&self) -> Result<PgConnection, LogError> {
        self.checked(&self.limits()).await
    }

    /// A connection that only asks; nothing is asked of the server.
    pub(super) async fn for_asking(&self) -> Result<PgConnection, LogError> {
        within(self.connect_timeout, async { Ok(self.connect.connect().await?) }).await
    }

    /// A pool of one connection, which listens.
    pub(super) async fn for_listening(&self) -> Result<PgPool, LogError> {
        let options = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        Ok(options.acquire_timeout(self.connect_timeout).connect_with(self.connect.clone()).await?)
    }

    /// The pool that reads. It cannot write, whatever text it is given.
    pub(super) fn readers(&self, connections: u32) -> PgPool {
        let limits = self.limits();
        let options = PgPoolOptions::new().max_connections(connections.max(1)).acquire_timeout(self.connect_timeout);
        let options = options.after_connect(move |connection, _| {
            let texts = limits.texts();
            Box::pin(async move {
                set_up(connection, &texts).await?;
                sqlx::query(READ_ONLY).execute(connection).await?;
                Ok(())
            })
        });
        options.connect_lazy_with(self.connect.clone())
    }

    async fn checked(&self, limits: &Limits) -> Result<PgConnection, LogError> {
        within(self.connect_timeout, async {
            let mut connection = self.connect.connect().await?;
            // Asked before anything is set: what an old server does not know is then no riddle.
            let mut promises: Promises = sqlx::query_as(PROMISES).fetch_one(&mut connection).await?;
            promises.check_server()?;
            set_up(&mut connection, &limits.texts()).await?;
            promises = sqlx::query_as(PROMISES).fetch_one(&mut connection).await?;
            promises.check_session()?;
            Ok(connection)
        })
        .await
    }

    fn limits(&self) -> Limits {
        // A wait for the head row must end before the transaction is given up as a whole.
        Limits { lock: self.timeout / 2, statement: self.timeout, idle: self.timeout }
    }
}

impl Limits {
    fn texts(&self) -> [String; 3] {
        [self.lock, self.statement, self.idle].map(|limit| format!("{}ms", limit.as_millis()))
    }
}

async fn set_up(connection: &mut PgConnection, limits: &[String; 3]) -> Result<(), sqlx::Error> {
    let [lock, statement, idle] = limits;
    sqlx::query(SET_UP).bind(SCHEMA).bind(lock).bind(statement).bind(idle).execute(connection).await?;
    Ok(())
}

/// Ends what takes longer than `limit`. Whatever it used must then be thrown away.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, LogError>>) -> Result<T, LogError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(LogError::Database(timed_out(limit))),
    }
}

pub(super) fn timed_out(limit: Duration) -> sqlx::Error {
    let message = format!("the database did not answer within {} ms", limit.as_millis());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, message))
}

/// Whether the connection is to blame rather than what was asked: another connection may do.
pub(super) fn is_lost(error: &LogError) -> bool {
    let LogError::Database(error) = error else { return false };
    match error {
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::TimedOut,
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => true,
        // The server is going down or coming up, or ended the session.
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| code.starts_with("57P0") || code.starts_with("08") || code == "25P03")
        }
        _ => false,
    }
}

/// What the server said of itself.
#[derive(sqlx::FromRow)]
struct Promises(String, bool, String, String, Option<String>, Option<String>, String);

impl Promises {
    /// What only the server's owner can change.
    fn check_server(&self) -> Result<(), LogError> {
        let Self(version, is_standby, read_only, encoding, fsync, full_page_writes, _) = self;
        if version.parse::<u32>().is_ok_and(|version| version < OLDEST_SERVER) {
            return refuse(format!("PostgreSQL {version} is too old; use version 13 or newer"));
        }
        if *is_standby {
            return refuse("the server is a standby, which takes no appends; name the primary".to_owned());
        }
        if read_only == "on" {
            return refuse(
                "the server takes no changes (`default_transaction_read_only` is on); set it to `off` for this \
                 database and user"
                    .to_owned(),
            );
        }
        if encoding != "UTF8" {
            return refuse(format!(
                "the database has the encoding {encoding}, which cannot hold every event; make one with \
                 `create database … encoding 'UTF8' template template0`"
            ));
        }
        for (name, value, what) in [
            ("fsync", fsync, "lose or damage acknowledged events"),
            ("full_page_writes", full_page_writes, "damage pages of acknowledged events"),
        ] {
            match value.as_deref() {
                Some("on") => {}
                Some(other) => {
                    return refuse(format!(
                        "`{name}` is `{other}` on the server, so that a power cut could {what}; set `{name} = on` in \
                         postgresql.conf and reload it"
                    ));
                }
                None => tracing::warn!("the server does not say whether `{name}` is on; see to it that it is"),
            }
        }
        Ok(())
    }

    /// What was set for this session, read back.
    fn check_session(&self) -> Result<(), LogError> {
        let Self(.., synchronous_commit) = self;
        if matches!(synchronous_commit.as_str(), "on" | "remote_apply") {
            return Ok(());
        }
        refuse(format!(
            "`synchronous_commit` is `{synchronous_commit}` and cannot be set, so that a power cut would lose \
             acknowledged events; connect without a pooler that refuses it"
        ))
    }
}

pub(super) fn refuse<T>(reason: String) -> Result<T, LogError> {
    Err(LogError::Unsafe { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Promises);

    fn promises(change: Change) -> Result<(), LogError> {
        let on = || "on".to_owned();
        let mut promises =
            Promises("150004".to_owned(), false, "off".to_owned(), "UTF8".to_owned(), Some(on()), Some(on()), on());
        change(&mut promises);
        promises.check_server().and_then(|()| promises.check_session())
    }

    #[test]
    fn what_a_server_cannot_promise_is_named() {
        promises(|_| ()).unwrap();
        promises(|said| said.4 = None).unwrap();
        promises(|said| said.6 = "remote_apply".to_owned()).unwrap();
        let refused: [(&str, Change); 7] = [
            ("too old", |said| said.0 = "120019".to_owned()),
            ("standby", |said| said.1 = true),
            ("default_transaction_read_only", |said| said.2 = "on".to_owned()),
            ("LATIN1", |said| said.3 = "LATIN1".to_owned()),
            ("`fsync` is `off`", |said| said.4 = Some("off".to_owned())),
            ("`full_page_writes` is `off`", |said| said.5 = Some("off".to_owned())),
            ("`synchronous_commit` is `local`", |said| said.6 = "local".to_owned()),
        ];
        for (named, change) in refused {
            let error = promises(change).unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
