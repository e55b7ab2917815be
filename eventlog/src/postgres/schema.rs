//! The tables: are they ours, are they today's, and which log is in them.

use jiff::Timestamp;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::session::{OPEN_PATIENCE, SCHEMA, Server, refuse, within};
use crate::log::LogError;
use crate::sql;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Several processes may open the same database at once: one looks, makes and changes at a time. "klog".
const LOCK: &str = "select pg_advisory_lock(1802268519)";

const SCHEMA_EXISTS: &str = "select exists (select from pg_namespace where nspname = $1)";
const MAKE_SCHEMA: &str = "create schema keyledger_log";
/// Whether it has our table, and how many of anybody's.
const OWNER: &str = "select to_regclass('keyledger_log.log_meta') is not null, \
     (select count(*) from pg_class join pg_namespace on pg_namespace.oid = relnamespace \
      where nspname = 'keyledger_log' and relkind in ('r', 'p', 'v', 'm') and relname <> '_sqlx_migrations')";
const NAME_LOG: &str = "insert into log_meta (id, log_id, created_at) values (1, $1, $2) on conflict (id) do nothing";
const LOG_ID: &str = "select log_id from log_meta where id = 1";

/// "May not": the user lacks a privilege.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Brings the tables up to date, making them when there are none, and gives the log's id.
pub(super) async fn open(server: &Server, now: Timestamp, wanted: Option<Uuid>) -> Result<Uuid, LogError> {
    let mut connection = server.for_opening().await?;
    within(OPEN_PATIENCE * 2, make_schema(&mut connection)).await?;
    // Without a bound: a new index on a large table takes as long as it takes.
    // Not `run`: its future over a borrowed connection is not `Send` to the compiler.
    MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(refuse_migration)?;
    let log_id = within(server.timeout, name_log(&mut connection, now, wanted)).await?;
    // The lock goes with the connection.
    within(server.timeout, async { Ok(connection.close().await?) }).await?;
    match wanted.filter(|wanted| *wanted != log_id) {
        Some(wanted) => refuse(format!("the database holds the log {log_id}, not {wanted}; name an empty database")),
        None => Ok(log_id),
    }
}

/// Makes the schema where there is none, once nobody else does.
async fn make_schema(connection: &mut PgConnection) -> Result<(), LogError> {
    sqlx::query(LOCK).execute(&mut *connection).await?;
    let exists: bool = sqlx::query_scalar(SCHEMA_EXISTS).bind(SCHEMA).fetch_one(&mut *connection).await?;
    if !exists {
        sqlx::query(MAKE_SCHEMA).execute(&mut *connection).await.map_err(refuse_schema)?;
    }
    let (ours, tables): (bool, i64) = sqlx::query_as(OWNER).fetch_one(connection).await?;
    if !ours && tables > 0 {
        return refuse(format!("the schema `{SCHEMA}` has tables, but no log of keyledger; name another database"));
    }
    Ok(())
}

/// Whether our tables are there.
pub(super) async fn exists(server: &Server) -> Result<bool, LogError> {
    let mut connection = server.for_asking().await?;
    within(server.timeout, async {
        let (ours, _): (bool, i64) = sqlx::query_as(OWNER).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(ours)
    })
    .await
}

/// The id of the log in the tables as they are.
pub(super) async fn log_id(connection: &mut PgConnection) -> Result<Uuid, LogError> {
    let text: String = sqlx::query_scalar(LOG_ID).fetch_one(connection).await?;
    parse_log_id(&text)
}

async fn name_log(connection: &mut PgConnection, now: Timestamp, wanted: Option<Uuid>) -> Result<Uuid, LogError> {
    let named: Option<String> = sqlx::query_scalar(LOG_ID).fetch_optional(&mut *connection).await?;
    if let Some(text) = named {
        return parse_log_id(&text);
    }
    let log_id = sql::new_log_id(wanted)?;
    sqlx::query(NAME_LOG).bind(log_id.to_string()).bind(sql::time(now)).execute(connection).await?;
    Ok(log_id)
}

fn parse_log_id(text: &str) -> Result<Uuid, LogError> {
    let reason = || format!("the log's id `{text}` is not a UUID; restore the database from a backup");
    text.parse().map_err(|_| LogError::Unsafe { reason: reason() })
}

fn refuse_schema(error: sqlx::Error) -> LogError {
    let may_not =
        error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(INSUFFICIENT_PRIVILEGE));
    if !may_not {
        return error.into();
    }
    let reason = format!(
        "the user may not make the schema `{SCHEMA}`; run `grant create on database … to …`, or make the schema for it \
         with `create schema {SCHEMA} authorization …`"
    );
    LogError::Unsafe { reason }
}

fn refuse_migration(error: MigrateError) -> LogError {
    let reason = match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => return error.into(),
        MigrateError::VersionMissing(version) => {
            format!("`{SCHEMA}` has schema {version}, made by a newer keyledger; run that one")
        }
        MigrateError::VersionMismatch(version) => {
            format!("`{SCHEMA}` has another schema {version} than this keyledger knows; run the keyledger that made it")
        }
        other => format!("the schema `{SCHEMA}` cannot be brought up to date: {other}"),
    };
    LogError::Unsafe { reason }
}
