//! Opening the file for writing, with today's tables.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use keyledger_eventlog::consumer::Checkpoint;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::sql::{self, ViewsError};
use crate::{PROJECTION_VERSION, SCHEMA_VERSION, digest};

/// Which tables and which fold the rows are of.
pub const META: &str = "select schema_version, projection_version from view_meta where id = 1";

const HAS_META: &str = "select count(*) from sqlite_schema where type = 'table' and name = 'view_meta'";
const HAS_CHECKPOINT: &str =
    "select count(*) from sqlite_schema where type = 'table' and name in ('view_meta', 'checkpoint')";
const OTHER_TABLES: &str = "select count(*) from sqlite_schema where type = 'table' and name not like 'sqlite%'";
const PUT_META: &str = "insert into view_meta (id, schema_version, projection_version) values (1, $1, $2)";
const COPY_CHECKPOINT: &str = "insert or replace into main.checkpoint (name, position, chain) select name, position, chain from rebuilt.checkpoint";
const FIRST_CHECKPOINT: &str = "insert into checkpoint (name, position, chain) values ('projector', 0, $1)";

/// How long a writer waits for a lock.
const BUSY: Duration = Duration::from_secs(5);

/// Makes the file readable for its owner alone when it is not there: the views hold names and addresses.
async fn make_private(path: &Path) -> std::io::Result<()> {
    if path.as_os_str().as_encoded_bytes().starts_with(b":memory:") || path.starts_with("file:") {
        return Ok(());
    }
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    match options.open(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens the file, making it when it is not there. Tables of another build are dropped and made anew: what they held
/// is read from the log again.
pub(crate) async fn connect(url: &str) -> Result<SqliteConnection, ViewsError> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .busy_timeout(BUSY)
        .journal_mode(SqliteJournalMode::Wal)
        // A view that lost its last batches in a power cut reads them again: the checkpoint went with them.
        .synchronous(SqliteSynchronous::Normal)
        .disable_statement_logging();
    make_private(options.get_filename()).await.map_err(sqlx::Error::Io)?;
    let mut connection = options.connect().await?;
    match prepare(&mut connection, url).await {
        Ok(()) => Ok(connection),
        Err(error) => sql::closing(connection, Err(error)).await,
    }
}

/// Sees to it that the file holds today's tables.
async fn prepare(connection: &mut SqliteConnection, url: &str) -> Result<(), ViewsError> {
    let mut transaction = connection.begin_with("begin immediate").await?;
    let has_meta: i64 = sqlx::query_scalar(HAS_META).fetch_one(&mut *transaction).await?;
    if has_meta == 0 {
        let tables: i64 = sqlx::query_scalar(OTHER_TABLES).fetch_one(&mut *transaction).await?;
        if tables > 0 {
            let reason = format!("`{url}` is a database of something else; name another file");
            return Err(ViewsError::Unusable { reason });
        }
    }
    let meta: Option<(i64, i64)> = match has_meta {
        0 => None,
        _ => sqlx::query_as(META).fetch_optional(&mut *transaction).await?,
    };
    if meta != Some((SCHEMA_VERSION, PROJECTION_VERSION)) {
        if meta.is_some() {
            tracing::warn!("the views were made by another build and are rebuilt from the log");
        }
        make_anew(&mut transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The checkpoint of views of any build: its table has never changed. `None` where there is no such table.
pub(crate) async fn seen(url: &str) -> Result<Option<Checkpoint>, ViewsError> {
    let options = SqliteConnectOptions::from_str(url)?;
    if !options.get_filename().exists() {
        return Ok(None);
    }
    let options =
        options.create_if_missing(false).busy_timeout(BUSY).pragma("query_only", "on").disable_statement_logging();
    let mut connection = options.connect().await?;
    let read = async {
        let tables: i64 = sqlx::query_scalar(HAS_CHECKPOINT).fetch_one(&mut connection).await?;
        if tables < 2 {
            return Ok(None);
        }
        super::checkpoint(&mut connection).await.map(Some)
    };
    let read = read.await;
    sql::closing(connection, read).await
}

/// Replaces everything in the views at `url` by what the views in the file `from` hold, in one transaction.
pub(crate) async fn take_over(url: &str, from: &Path) -> Result<(), ViewsError> {
    let mut connection = connect(url).await?;
    let taken = copy(&mut connection, from).await;
    sql::closing(connection, taken).await
}

async fn copy(connection: &mut SqliteConnection, from: &Path) -> Result<(), ViewsError> {
    sqlx::query("attach database $1 as rebuilt").bind(from.display().to_string()).execute(&mut *connection).await?;
    let mut transaction = connection.begin_with("begin immediate").await?;
    make_anew(&mut transaction).await?;
    for table in digest::TABLES {
        sqlx::query(table.copy).execute(&mut *transaction).await?;
    }
    sqlx::query(COPY_CHECKPOINT).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Empties the views, back to before the first event.
pub(crate) async fn reset(connection: &mut SqliteConnection) -> Result<(), ViewsError> {
    let mut transaction = connection.begin_with("begin immediate").await?;
    make_anew(&mut transaction).await?;
    transaction.commit().await?;
    Ok(())
}

async fn make_anew(db: &mut SqliteConnection) -> Result<(), ViewsError> {
    sqlx::raw_sql(include_str!("../../migrations/sqlite/reset.sql")).execute(&mut *db).await?;
    sqlx::raw_sql(include_str!("../../migrations/sqlite/0001_views.sql")).execute(&mut *db).await?;
    sqlx::query(PUT_META).bind(SCHEMA_VERSION).bind(PROJECTION_VERSION).execute(&mut *db).await?;
    sqlx::query(FIRST_CHECKPOINT).bind([0_u8; 32].as_slice()).execute(&mut *db).await?;
    Ok(())
}
