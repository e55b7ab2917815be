//! Views in a file: opening it for writing, with today's tables.

use std::path::Path;

use keyledger_eventlog::consumer::Checkpoint;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::{Build, FIRST_CHECKPOINT, Filling, META, PUT_META, TODAYS};
use crate::db::{self, Db};
use crate::digest;
use crate::place::Place;
use crate::sql::{self, ViewsError};

const HAS_META: &str = "select count(*) from sqlite_schema where type = 'table' and name = 'view_meta'";
const HAS_CHECKPOINT: &str =
    "select count(*) from sqlite_schema where type = 'table' and name in ('view_meta', 'checkpoint')";
const OTHER_TABLES: &str = "select count(*) from sqlite_schema where type = 'table' and name not like 'sqlite%'";
const INDEXES: &str = "select name, sql from sqlite_schema where type = 'index' and sql is not null order by name";

/// The indexes that the fold finds rows by.
const FOLDED_BY: [&str; 7] = [
    "casefile_purchase",
    "license_name_purchase",
    "license_purchase",
    "object_purchase",
    "object_waiting",
    "purchase_customer",
    "sold_purchase",
];

const COPY_CHECKPOINT: &str = "insert or replace into main.checkpoint (name, position, chain) select name, position, chain from rebuilt.checkpoint";

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
pub(super) async fn connect(options: &SqliteConnectOptions) -> Result<Db, ViewsError> {
    let options = Place::writing(options);
    make_private(options.get_filename()).await.map_err(sqlx::Error::Io)?;
    let mut connection = Db::Sqlite(options.connect().await?);
    match prepare(&mut connection, options.get_filename()).await {
        Ok(()) => Ok(connection),
        Err(error) => sql::closing(connection, Err(error)).await,
    }
}

/// Sees to it that the file holds today's tables.
async fn prepare(db: &mut Db, file: &Path) -> Result<(), ViewsError> {
    db.begin().await?;
    let (has_meta,): (i64,) = db::query(HAS_META).fetch_one(&mut *db).await?;
    if has_meta == 0 {
        let (tables,): (i64,) = db::query(OTHER_TABLES).fetch_one(&mut *db).await?;
        if tables > 0 {
            let reason = format!("`{}` is a database of something else; name another file", file.display());
            return Err(ViewsError::Unusable { reason });
        }
    }
    let meta: Option<Build> = match has_meta {
        0 => None,
        _ => db::query(META).fetch_optional(&mut *db).await?,
    };
    if meta != Some(TODAYS) {
        if meta.is_some() {
            tracing::warn!("the views were made by another build and are rebuilt from the log");
        }
        make_anew(db).await?;
    }
    Ok(db.commit().await?)
}

/// The checkpoint of views of any build: its table has never changed. `None` where there is no such table.
pub(super) async fn seen(options: &SqliteConnectOptions) -> Result<Option<Checkpoint>, ViewsError> {
    if !options.get_filename().exists() {
        return Ok(None);
    }
    let mut connection = Db::Sqlite(Place::reading(options).connect().await?);
    let read = async {
        let (tables,): (i64,) = db::query(HAS_CHECKPOINT).fetch_one(&mut connection).await?;
        if tables < 2 {
            return Ok(None);
        }
        super::checkpoint(&mut connection).await.map(Some)
    };
    let read = read.await;
    sql::closing(connection, read).await
}

/// Replaces everything in the views of one file by what the views in the file `from` hold, in one transaction.
pub(crate) async fn take_over(options: &SqliteConnectOptions, from: &Path) -> Result<(), ViewsError> {
    let mut connection = connect(options).await?;
    let taken = copy(&mut connection, from).await;
    sql::closing(connection, taken).await
}

async fn copy(db: &mut Db, from: &Path) -> Result<(), ViewsError> {
    db::query("attach database $1 as rebuilt").bind(from.display().to_string()).execute(&mut *db).await?;
    db.begin().await?;
    make_anew(db).await?;
    for table in digest::TABLES {
        let name = table.name;
        db.run(AssertSqlSafe(format!("insert into main.{name} select * from rebuilt.{name}"))).await?;
    }
    db::query(COPY_CHECKPOINT).execute(&mut *db).await?;
    Ok(db.commit().await?)
}

/// Takes away the indexes that the fold does not need, and all care for what a crash would leave.
pub(super) async fn begin_filling(db: &mut Db) -> Result<Filling, ViewsError> {
    // Memory for the inner pages of the largest indexes that stay; else each row would be looked for on the disk.
    db.run("pragma synchronous = off; pragma journal_mode = off; pragma cache_size = -65536").await?;
    let indexes: Vec<(String, String)> = db::query(INDEXES).fetch_all(&mut *db).await?;
    let mut filling = Filling::default();
    for (name, text) in indexes {
        if !FOLDED_BY.contains(&name.as_str()) {
            db.run(AssertSqlSafe(format!("drop index {name}"))).await?;
            filling.indexes.push(text);
        }
    }
    Ok(filling)
}

/// Makes the indexes, each from rows that are all there, and leaves a file that survives a power cut.
pub(super) async fn end_filling(db: &mut Db, filling: Filling) -> Result<(), ViewsError> {
    for text in filling.indexes {
        db.run(AssertSqlSafe(text)).await?;
    }
    // What was written without care is on the disk when this one is: it syncs the whole file.
    db.run("pragma synchronous = full; pragma journal_mode = wal").await?;
    Ok(())
}

/// Empties the views, back to before the first event.
pub(super) async fn reset(db: &mut Db) -> Result<(), ViewsError> {
    db.begin().await?;
    make_anew(db).await?;
    Ok(db.commit().await?)
}

async fn make_anew(db: &mut Db) -> Result<(), ViewsError> {
    db.run(include_str!("../../migrations/sqlite/reset.sql")).await?;
    db.run(include_str!("../../migrations/sqlite/0001_views.sql")).await?;
    db::query(PUT_META).bind(TODAYS.0).bind(TODAYS.1).execute(&mut *db).await?;
    db::query(FIRST_CHECKPOINT).bind([0_u8; 32].as_slice()).execute(&mut *db).await?;
    Ok(())
}
