//! Opening the file: is it ours, will it keep what it acknowledges, and does it have today's tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::Options;
use crate::log::LogError;
use crate::sql;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// What the first migration writes into the header of the file: "klog".
const APPLICATION_ID: i64 = 1_802_268_519;

/// SQLite before this can lose committed pages when a checkpoint and a writer restart the WAL at the same moment.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// The result code for a file that does not begin as a database does.
const SQLITE_NOTADB: &str = "26";

/// Two processes may make the same file at the same moment; the loser of each race tries again.
const OPEN_TRIES: u32 = 20;
const OPEN_PAUSE: Duration = Duration::from_millis(50);

const SQLITE_VERSION: &str = "select sqlite_version()";
const GET_JOURNAL_MODE: &str = "pragma journal_mode";
const GET_SYNCHRONOUS: &str = "pragma synchronous";
/// Both in one statement: another process may be making the file between two.
const OWNER: &str = "select application_id, \
     (select count(*) from sqlite_schema where name not like '\\_sqlx\\_%' escape '\\' and name not like 'sqlite%') \
     from pragma_application_id";
const NAME_LOG: &str = "insert into log_meta (id, log_id, created_at, settled) values (1, $1, $2, 0) \
     on conflict (id) do nothing";
const LOG_ID: &str = "select log_id from log_meta where id = 1";

/// A file that has been checked and has today's tables.
pub(super) struct Opened {
    pub connect: SqliteConnectOptions,
    pub connection: SqliteConnection,
    pub log_id: Uuid,
}

/// Opens the file for writing, making it when it is not there.
pub(super) async fn open(path_or_url: &str, now: Timestamp, options: &Options) -> Result<Opened, LogError> {
    let path = path_of(path_or_url)?;
    check_folder(&path)?;
    let plain = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(false)
        .busy_timeout(options.busy_timeout)
        .disable_statement_logging();
    create(&path).await.map_err(sqlx::Error::Io)?;
    let mut tries = 1;
    loop {
        match try_open(&path, &plain, now, options.log_id).await {
            Err(LogError::Database(error)) if tries < OPEN_TRIES && lost_a_race(&error) => tries += 1,
            Err(LogError::Database(error)) if not_a_database(&error) => return Err(foreign(&path)),
            result => return result,
        }
        tokio::time::sleep(OPEN_PAUSE).await;
    }
}

/// The pool that reads. It cannot write, whatever text it is given.
pub(super) fn readers(connect: &SqliteConnectOptions, options: &Options) -> SqlitePool {
    let connect = connect.clone().pragma("query_only", "on");
    // A file needs no asking whether it is still there: that would cost as much as the query.
    let pool = SqlitePoolOptions::new().max_connections(options.readers.max(1)).test_before_acquire(false);
    pool.connect_lazy_with(connect)
}

/// A further writing connection to an opened file, with its settings read back.
pub(super) async fn connect(connect: &SqliteConnectOptions) -> Result<SqliteConnection, LogError> {
    let mut connection = connect.connect().await?;
    check_settings(&mut connection).await?;
    Ok(connection)
}

async fn try_open(
    path: &Path,
    plain: &SqliteConnectOptions,
    now: Timestamp,
    wanted: Option<Uuid>,
) -> Result<Opened, LogError> {
    // Looked at with nothing set, so that a file of someone else's stays as it is.
    let mut probe = plain.connect().await?;
    check_version(&mut probe).await?;
    check_owner(path, &mut probe).await?;
    probe.close().await?;

    let connect = plain
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // Where a plain fsync leaves data in the drive's cache (macOS), ask for the one that does not.
        .pragma("fullfsync", "on")
        .pragma("checkpoint_fullfsync", "on");
    let mut connection = connect.connect().await?;
    check_settings(&mut connection).await?;
    // Not `run`: its future over a borrowed connection is not `Send` to the compiler.
    let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await;
    migrated.map_err(|error| refuse_migration(path, error))?;
    let log_id = name_log(&mut connection, now, wanted).await?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != log_id) {
        return refuse(format!(
            "`{}` is the log {log_id}, not {wanted}; name a file that is not there",
            path.display()
        ));
    }
    Ok(Opened { connect, connection, log_id })
}

pub(super) fn path_of(path_or_url: &str) -> Result<PathBuf, LogError> {
    let url_path = path_or_url.strip_prefix("sqlite://").or_else(|| path_or_url.strip_prefix("sqlite:"));
    let path = url_path.unwrap_or(path_or_url);
    if path.is_empty() || path.starts_with(":memory:") {
        return refuse("a log in memory would not keep what it acknowledges; name a file, e.g. `sqlite:data/log.db`");
    }
    if url_path.is_some() && path.contains('?') {
        return refuse(format!("`{path_or_url}` has parameters after `?`; the log sets what it needs: leave them out"));
    }
    Ok(PathBuf::from(path))
}

fn check_folder(path: &Path) -> Result<(), LogError> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            refuse(format!("the folder `{}` does not exist; make it first", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Makes an empty file that only its owner can read, when there is none: it will hold the data of customers. SQLite
/// gives the files beside it the same mode.
async fn create(path: &Path) -> std::io::Result<()> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    match options.open(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

async fn check_version(connection: &mut SqliteConnection) -> Result<(), LogError> {
    let version: String = sqlx::query_scalar(SQLITE_VERSION).fetch_one(connection).await?;
    if parse_version(&version).is_some_and(|version| version >= OLDEST_SQLITE) {
        return Ok(());
    }
    let (major, minor, patch) = OLDEST_SQLITE;
    refuse(format!(
        "SQLite {version} can lose committed data; build with SQLite {major}.{minor}.{patch} or newer (the bundled one)"
    ))
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next()?))
}

/// Ours is what carries our application id, or has no table yet.
async fn check_owner(path: &Path, connection: &mut SqliteConnection) -> Result<(), LogError> {
    let (application_id, other_tables): (i64, i64) = sqlx::query_as(OWNER).fetch_one(connection).await?;
    let ours = application_id == APPLICATION_ID;
    let empty = application_id == 0 && other_tables == 0;
    if ours || empty { Ok(()) } else { Err(foreign(path)) }
}

async fn check_settings(connection: &mut SqliteConnection) -> Result<(), LogError> {
    let journal_mode: String = sqlx::query_scalar(GET_JOURNAL_MODE).fetch_one(&mut *connection).await?;
    if journal_mode != "wal" {
        return refuse(format!(
            "journal_mode is `{journal_mode}`, not `wal`; put the file on a local disk that supports shared memory"
        ));
    }
    let synchronous: i64 = sqlx::query_scalar(GET_SYNCHRONOUS).fetch_one(connection).await?;
    if synchronous < 2 {
        return refuse(format!(
            "synchronous is {synchronous}, not 2 (FULL), so that a power cut would lose acknowledged events; use a \
             SQLite build that lets it be set"
        ));
    }
    Ok(())
}

fn refuse_migration(path: &Path, error: MigrateError) -> LogError {
    let path = path.display();
    let reason = match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => return error.into(),
        MigrateError::VersionMissing(version) => {
            format!("`{path}` has schema {version}, made by a newer keyledger; run that one")
        }
        MigrateError::VersionMismatch(version) => {
            format!("`{path}` has another schema {version} than this keyledger knows; run the keyledger that made it")
        }
        other => format!("the schema of `{path}` cannot be brought up to date: {other}"),
    };
    LogError::Unsafe { reason }
}

async fn name_log(connection: &mut SqliteConnection, now: Timestamp, wanted: Option<Uuid>) -> Result<Uuid, LogError> {
    let named: Option<String> = sqlx::query_scalar(LOG_ID).fetch_optional(&mut *connection).await?;
    let text = if let Some(text) = named {
        text
    } else {
        let log_id = sql::new_log_id(wanted)?;
        sqlx::query(NAME_LOG).bind(log_id.to_string()).bind(sql::time(now)).execute(&mut *connection).await?;
        // Read back: another process may have been first.
        sqlx::query_scalar(LOG_ID).fetch_one(connection).await?
    };
    text.parse().or_else(|_| refuse(format!("the log's id `{text}` is not a UUID; restore the file from a backup")))
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, LogError> {
    Err(LogError::Unsafe { reason: reason.into() })
}

/// Busy, locked, or a table or migration row that another process made in between.
fn lost_a_race(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    let code = database.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0);
    let busy_or_locked = matches!(code & 0xff, 5 | 6);
    busy_or_locked || database.is_unique_violation() || database.message().contains("already exists")
}

fn not_a_database(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|database| database.code().as_deref() == Some(SQLITE_NOTADB))
}

fn foreign(path: &Path) -> LogError {
    LogError::Unsafe { reason: format!("`{}` is not a log of keyledger; name another file", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(parse_version("3.51.3"), Some(OLDEST_SQLITE));
        assert!(parse_version("3.9.20") < Some(OLDEST_SQLITE));
        assert!(parse_version("3.100.0") > Some(OLDEST_SQLITE));
        assert_eq!(parse_version("unknown"), None);
    }
}
