//! Views in a schema of a PostgreSQL database: opening it for writing, with today's tables, and putting others in its
//! place.
//!
//! Whoever puts other tables under the schema's name locks the checkpoint of the old ones first. Every batch moves it
//! before all else, so no batch is written to the old tables in part and to the new ones in part.

use keyledger_eventlog::consumer::Checkpoint;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::{Build, FIRST_CHECKPOINT, META, PUT_META, TODAYS};
use crate::db::{self, Db, answered};
use crate::digest;
use crate::place::Schema;
use crate::sql::{self, ViewsError};

/// One process at a time makes or replaces tables: "klviews" in ASCII.
const LOCK: &str = "select pg_advisory_xact_lock(30237078338238323)";

const ENCODING: &str = "select pg_encoding_to_char(encoding)::text from pg_database where datname = current_database()";
const OID: &str = "select cast(oid as bigint) from pg_namespace where nspname = $1";
const HAS_SCHEMA: &str = "select count(*) from pg_namespace where nspname = $1";
const HAS_TABLE: &str = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')";
const TABLES: &str = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f')";

/// What a server says of a role that may not do this.
const NOT_ALLOWED: &str = "42501";

/// What it says when a lock was waited for too long, or two waited for each other.
const IN_THE_WAY: [&str; 2] = ["55P03", "40P01"];

/// Whether somebody else was at the same rows or tables for too long.
pub(crate) fn is_in_the_way(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| IN_THE_WAY.contains(&&*code))
}

/// A connection whose unqualified names mean the schema, whether or not it is there.
pub(crate) async fn open(options: &PgConnectOptions) -> Result<Db, ViewsError> {
    Ok(Db::Postgres(answered(options.connect()).await?))
}

/// Opens the schema, making it when it is not there. Tables of an older build are replaced by empty ones: what they held
/// is read from the log again. Those of a newer one are left alone: while machines are updated one by one, both run.
pub(super) async fn connect(options: &PgConnectOptions, schema: Schema) -> Result<Db, ViewsError> {
    let mut connection = open(options).await?;
    let ready = async {
        // What is built beside is lost as a whole or, when it takes over, kept as a whole. The views in use must keep what
        // was committed: a projector that waits for the next event would not notice that its last batch is gone.
        if schema == Schema::Rebuild {
            connection.run("set synchronous_commit = off").await?;
        }
        prepare(&mut connection, options, schema).await
    };
    match ready.await {
        Ok(()) => Ok(connection),
        Err(error) => sql::closing(connection, Err(error)).await,
    }
}

/// Sees to it that the schema holds today's tables.
async fn prepare(db: &mut Db, options: &PgConnectOptions, schema: Schema) -> Result<(), ViewsError> {
    // The ordinary case needs no lock, and so waits for nobody.
    if has_table(db, schema, "view_meta").await? && meta(db).await? == Some(TODAYS) {
        return Ok(());
    }
    db.begin().await?;
    db.run(LOCK).await?;
    let made = async {
        require_unicode(db).await?;
        let ours = require_ours(db, schema).await?;
        let meta = if ours { meta(db).await? } else { None };
        if meta > Some(TODAYS) && schema == Schema::Live {
            return Err(ViewsError::Newer);
        }
        if meta != Some(TODAYS) {
            if meta.is_some() {
                tracing::warn!("the views were made by another build and are rebuilt from the log");
            }
            make_anew(db, schema).await?;
        }
        Ok(())
    };
    made.await.map_err(|error| allowed(error, options))?;
    db.commit().await?;
    drop_aside(db, schema).await;
    Ok(())
}

/// Refuses a database that cannot hold every name.
async fn require_unicode(db: &mut Db) -> Result<(), ViewsError> {
    let (encoding,): (String,) = db::query(ENCODING).fetch_one(db).await?;
    if encoding == "UTF8" {
        return Ok(());
    }
    let reason = format!("the database's encoding is {encoding}; make one with encoding UTF8");
    Err(ViewsError::Unusable { reason })
}

/// Whether views are in the schema; refuses tables of something else.
async fn require_ours(db: &mut Db, schema: Schema) -> Result<bool, ViewsError> {
    let ours = has_table(db, schema, "view_meta").await?;
    if !ours && count(db, TABLES, &[schema.name()]).await? > 0 {
        let reason = format!("the schema `{}` holds tables of something else; name another database", schema.name());
        return Err(ViewsError::Unusable { reason });
    }
    Ok(ours)
}

async fn meta(db: &mut Db) -> Result<Option<Build>, ViewsError> {
    Ok(db::query(META).fetch_optional(db).await?)
}

async fn count(db: &mut Db, text: &'static str, values: &[&str]) -> Result<i64, ViewsError> {
    let query = values.iter().fold(db::query(text), |query, value| query.bind(*value));
    let (count,): (i64,) = query.fetch_one(db).await?;
    Ok(count)
}

/// Whether there is a schema of this name.
pub(crate) async fn has_schema(db: &mut Db, name: &str) -> Result<bool, ViewsError> {
    Ok(count(db, HAS_SCHEMA, &[name]).await? > 0)
}

async fn has_table(db: &mut Db, schema: Schema, table: &str) -> Result<bool, ViewsError> {
    Ok(count(db, HAS_TABLE, &[schema.name(), table]).await? > 0)
}

/// Says what to do about a role that may not make schemas.
fn allowed(error: ViewsError, options: &PgConnectOptions) -> ViewsError {
    match &error {
        ViewsError::Database(sqlx::Error::Database(inner)) if inner.code().as_deref() == Some(NOT_ALLOWED) => {
            let user = options.get_username();
            let database = options.get_database().unwrap_or(user);
            let reason = format!(
                "the role `{user}` may not make its schema: {inner}; as an administrator: grant create on database \
                 \"{database}\" to \"{user}\""
            );
            ViewsError::Unusable { reason }
        }
        _ => error,
    }
}

/// What stands under the schema's name: tables that were made anew are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The schema itself, whatever its name. `None`: there is none.
    oid: Option<i64>,
    /// Which build's its tables are, where they say.
    build: Option<Build>,
}

impl Standing {
    /// Whether a newer build made them.
    pub(crate) fn is_newer(self) -> bool {
        self.build > Some(TODAYS)
    }

    /// Whether others stand there now.
    pub(crate) fn is_other(self, now: Self) -> bool {
        self.oid != now.oid
    }
}

/// What stands under the schema's name now.
pub(crate) async fn standing(db: &mut Db, schema: Schema) -> Result<Standing, ViewsError> {
    let row: Option<(i64,)> = db::query(OID).bind(schema.name()).fetch_optional(&mut *db).await?;
    let build = if has_table(db, schema, "view_meta").await? { meta(db).await? } else { None };
    Ok(Standing { oid: row.map(|(oid,)| oid), build })
}

/// The checkpoint of views of any build: its table has never changed. `None` where there is no such table.
pub(super) async fn seen(options: &PgConnectOptions, schema: Schema) -> Result<Option<Checkpoint>, ViewsError> {
    let mut connection = open(options).await?;
    let read = async {
        for table in ["view_meta", "checkpoint"] {
            if !has_table(&mut connection, schema, table).await? {
                return Ok(None);
            }
        }
        super::checkpoint(&mut connection).await.map(Some)
    };
    let read = read.await;
    sql::closing(connection, read).await
}

/// Empties the views, back to before the first event.
pub(super) async fn reset(db: &mut Db, schema: Schema) -> Result<(), ViewsError> {
    db.begin().await?;
    db.run(LOCK).await?;
    make_anew(db, schema).await?;
    db.commit().await?;
    drop_aside(db, schema).await;
    Ok(())
}

/// Puts empty tables under the schema's name, within a transaction. What was there is put aside.
async fn make_anew(db: &mut Db, schema: Schema) -> Result<(), ViewsError> {
    put_aside(db, schema).await?;
    let name = schema.name();
    // A schema that was made for us beforehand is taken as it is: we may not be allowed to make one.
    if !has_schema(db, name).await? {
        db.run(AssertSqlSafe(format!("create schema {name}"))).await?;
    }
    db.run(include_str!("../../migrations/postgres/0001_views.sql")).await?;
    db::query(PUT_META).bind(TODAYS.0).bind(TODAYS.1).execute(&mut *db).await?;
    db::query(FIRST_CHECKPOINT).bind([0_u8; 32].as_slice()).execute(&mut *db).await?;
    Ok(())
}

/// Renames the schema, if it holds views. Dropping its tables here would wait for readers, and they for us.
async fn put_aside(db: &mut Db, schema: Schema) -> Result<(), ViewsError> {
    if !has_table(db, schema, "view_meta").await? {
        return Ok(());
    }
    let aside = schema.aside();
    db.run(AssertSqlSafe(format!("drop schema if exists {aside} cascade"))).await?;
    rename(db, schema, &aside).await
}

/// Gives the schema another name, within a transaction, when no batch is being written to it.
async fn rename(db: &mut Db, schema: Schema, to: &str) -> Result<(), ViewsError> {
    let name = schema.name();
    if has_table(db, schema, "checkpoint").await? {
        db.run(AssertSqlSafe(format!("lock table {name}.checkpoint in access exclusive mode"))).await?;
    }
    Ok(db.run(AssertSqlSafe(format!("alter schema {name} rename to {to}"))).await?)
}

/// Gives the schema another name for good. `false`: another one stands there now than was `seen`.
pub(super) async fn rename_for_good(
    db: &mut Db,
    schema: Schema,
    to: &str,
    seen: Option<Standing>,
) -> Result<bool, ViewsError> {
    db.begin().await?;
    db.run(LOCK).await?;
    let row: Option<(i64,)> = db::query(OID).bind(schema.name()).fetch_optional(&mut *db).await?;
    let oid = row.map(|(oid,)| oid);
    if seen.is_some_and(|seen| seen.oid != oid) {
        db.rollback().await?;
        return Ok(false);
    }
    rename(db, schema, to).await?;
    db.commit().await?;
    Ok(true)
}

/// Drops what was put aside, if it can be done now; else whoever puts something aside next does it. One table at a time:
/// a reader that is still at one of them has no other that we wait for.
async fn drop_aside(db: &mut Db, schema: Schema) {
    let aside = schema.aside();
    let dropped = async { if has_schema(db, &aside).await? { drop_schema(db, &aside).await } else { Ok(()) } };
    if let Err(error) = dropped.await {
        tracing::debug!("{aside} is dropped later: {error}");
    }
}

async fn drop_schema(db: &mut Db, name: &str) -> Result<(), ViewsError> {
    for table in digest::TABLES.iter().map(|table| table.name).chain(["checkpoint", "view_meta"]) {
        db.run(AssertSqlSafe(format!("drop table if exists {name}.{table}"))).await?;
    }
    Ok(db.run(AssertSqlSafe(format!("drop schema if exists {name} cascade"))).await?)
}

/// Drops what a rebuild left.
pub(crate) async fn drop_rebuild(db: &mut Db) -> Result<(), ViewsError> {
    if has_schema(db, Schema::Rebuild.name()).await? {
        drop_schema(db, Schema::Rebuild.name()).await?;
    }
    Ok(())
}

/// Puts the rebuilt views under the name of those in use, in one transaction. Readers go on: what they ask next is
/// answered by the new tables.
pub(crate) async fn take_over(db: &mut Db) -> Result<(), ViewsError> {
    // Without it the new tables are read as if they were empty.
    for table in digest::TABLES {
        db.run(AssertSqlSafe(format!("analyze {}.{}", Schema::Rebuild.name(), table.name))).await?;
    }
    db.begin().await?;
    db.run("set local synchronous_commit = on").await?;
    db.run(LOCK).await?;
    require_ours(db, Schema::Live).await?;
    put_aside(db, Schema::Live).await?;
    // An empty schema that someone made for us is in the way.
    let (live, rebuild) = (Schema::Live.name(), Schema::Rebuild.name());
    db.run(AssertSqlSafe(format!("drop schema if exists {live}; alter schema {rebuild} rename to {live}"))).await?;
    db.commit().await?;
    drop_aside(db, Schema::Live).await;
    Ok(())
}
