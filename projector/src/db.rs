//! One way to ask two engines: a query is a text and its values, and runs on SQLite or PostgreSQL alike.
//!
//! Values are text, integers and bytes, each possibly null; columns have the same types in both, so that one text and one
//! row type serve both. What an engine does in its own way is in [`crate::store`].

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Connection, FromRow, SqlSafeStr, SqlStr};

/// How long a server may take to answer. It ends its own statements before that, so one that takes longer is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

/// A row that can be read from both engines.
pub(crate) trait Readable: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin> Readable for T {}

/// A value that is bound.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Bytes(Vec<u8>),
    /// Many texts: a list for PostgreSQL, the JSON of one for SQLite.
    Texts(Vec<String>),
}

impl Value {
    fn text(text: Option<String>) -> Self {
        Self::Text(text.map(printable))
    }
}

/// PostgreSQL's text cannot hold the character NUL. It is kept from SQLite too, so that both show the same.
fn printable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::text(Some(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::text(Some(text.clone()))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(Some(text.to_owned()))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::text(text.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::text(text)
    }
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Self::Integer(Some(integer))
    }
}

impl From<Option<i64>> for Value {
    fn from(integer: Option<i64>) -> Self {
        Self::Integer(integer)
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts.into_iter().map(printable).collect())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

/// A connection of one of the engines.
#[derive(Debug)]
pub(crate) enum Db {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Where a query runs.
pub(crate) enum On<'c> {
    Sqlite(&'c mut SqliteConnection),
    SqlitePool(&'c SqlitePool),
    Postgres(&'c mut PgConnection),
    PostgresPool(&'c PgPool),
}

impl<'c> From<&'c mut Db> for On<'c> {
    fn from(db: &'c mut Db) -> Self {
        match db {
            Db::Sqlite(db) => Self::Sqlite(db),
            Db::Postgres(db) => Self::Postgres(db),
        }
    }
}

impl<'c> From<&'c mut SqliteConnection> for On<'c> {
    fn from(db: &'c mut SqliteConnection) -> Self {
        Self::Sqlite(db)
    }
}

/// Connections for reading.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    /// Closes all connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            // A server that is gone need not be waited for.
            Self::Postgres(pool) => drop(tokio::time::timeout(Duration::from_secs(1), pool.close()).await),
        }
    }
}

impl<'c> From<&'c Pool> for On<'c> {
    fn from(pool: &'c Pool) -> Self {
        match pool {
            Pool::Sqlite(pool) => Self::SqlitePool(pool),
            Pool::Postgres(pool) => Self::PostgresPool(pool),
        }
    }
}

impl Db {
    /// Whether a question costs a way to a server and back, so that one about many things is better than many.
    pub(crate) fn is_far(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Begins a transaction that writes. The connection must be closed when it comes to neither of its ends.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        match self {
            // At once as a writer: one that begins as a reader may find that it cannot become one.
            Self::Sqlite(_) => self.run("begin immediate").await,
            Self::Postgres(_) => self.run("begin").await,
        }
    }

    /// Begins a transaction that reads, and sees everything as it is now until its end.
    pub(crate) async fn begin_reading(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => self.run("begin deferred").await,
            Self::Postgres(_) => self.run("begin isolation level repeatable read read only").await,
        }
    }

    /// Keeps what was written.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.run("commit").await
    }

    /// Ends the transaction without a trace.
    pub(crate) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.run("rollback").await
    }

    /// Runs statements without values.
    pub(crate) async fn run(&mut self, statements: impl SqlSafeStr) -> Result<(), sqlx::Error> {
        let statements = sqlx::raw_sql(statements);
        match self {
            Self::Sqlite(db) => statements.execute(db).await.map(drop),
            Self::Postgres(db) => answered(statements.execute(db)).await.map(drop),
        }
    }

    /// Closes it, so that its locks are gone.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(db) => db.close().await,
            Self::Postgres(db) => {
                // The server ends what was begun; one that is gone need not be told.
                drop(tokio::time::timeout(Duration::from_secs(1), db.close()).await);
                Ok(())
            }
        }
    }
}

/// The same to ask each engine about a list: they take lists in ways of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    pub postgres: &'static str,
    pub sqlite: &'static str,
}

impl Listed {
    /// The query in the engine's own words.
    pub(crate) fn query(self, db: &Db) -> Query {
        query(if db.is_far() { self.postgres } else { self.sqlite })
    }
}

/// A query: a text, and values for its `$1`, `$2`, ….
pub(crate) struct Query {
    text: &'static str,
    values: Vec<Value>,
}

/// A query of this text.
pub(crate) fn query(text: &'static str) -> Query {
    Query { text, values: Vec::new() }
}

impl Query {
    /// Binds the next value.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it. Says how many rows it changed.
    pub(crate) async fn execute(self, on: impl Into<On<'_>>) -> Result<u64, sqlx::Error> {
        execute(self.text.into_sql_str(), self.values, on.into()).await
    }

    /// All rows.
    pub(crate) async fn fetch_all<T: Readable>(self, on: impl Into<On<'_>>) -> Result<Vec<T>, sqlx::Error> {
        let Self { text, values } = self;
        match on.into() {
            On::Sqlite(db) => sqlx::query_as_with(text, sqlite(values)?).fetch_all(db).await,
            On::SqlitePool(pool) => sqlx::query_as_with(text, sqlite(values)?).fetch_all(pool).await,
            On::Postgres(db) => answered(sqlx::query_as_with(text, postgres(values)?).fetch_all(db)).await,
            On::PostgresPool(pool) => {
                let mut connection = pool.acquire().await?;
                let rows = answered(sqlx::query_as_with(text, postgres(values)?).fetch_all(&mut *connection)).await;
                if matches!(rows, Err(sqlx::Error::Io(_))) {
                    // It may answer yet, and then answers the wrong question.
                    drop(connection.detach());
                }
                rows
            }
        }
    }

    /// The row, if there is one. The text asks for one at most.
    pub(crate) async fn fetch_optional<T: Readable>(self, on: impl Into<On<'_>>) -> Result<Option<T>, sqlx::Error> {
        Ok(self.fetch_all(on).await?.pop())
    }

    /// The row.
    pub(crate) async fn fetch_one<T: Readable>(self, on: impl Into<On<'_>>) -> Result<T, sqlx::Error> {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Leaves it to be run with others of the same text.
    pub(crate) fn later(self, writes: &mut Writes) {
        match writes.groups.iter_mut().find(|(text, _)| *text == self.text) {
            Some((_, rows)) => rows.push(self.values),
            None => writes.groups.push((self.text, vec![self.values])),
        }
    }
}

/// Rows to be written, put together by text: a server far away is asked once for many of them.
///
/// Each text has one `values (…)`, which is repeated. Texts run in the order in which they first came; so within one set
/// no row may be written twice. Whole lists that are deleted come before all of it.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    first: Vec<(Listed, Vec<Value>)>,
    groups: Vec<(&'static str, Vec<Vec<Value>>)>,
}

/// Rows written by one statement at most: as many values as both engines take. Fewer are written by powers of two, so
/// that there are few texts to prepare.
const ROWS_MAX: usize = 64;

impl Writes {
    /// To be run before all that is written row by row.
    pub(crate) fn first(&mut self, texts: Listed, values: Vec<Value>) {
        self.first.push((texts, values));
    }

    /// Writes them all.
    pub(crate) async fn run(self, db: &mut Db) -> Result<(), sqlx::Error> {
        for (texts, values) in self.first {
            Query { values, ..texts.query(db) }.execute(&mut *db).await?;
        }
        for (text, rows) in self.groups {
            // SQLite looks one row up in its index, and several by reading the whole table.
            let most = if text.starts_with("delete") && !db.is_far() { 1 } else { ROWS_MAX };
            let mut rows = rows.into_iter().peekable();
            while rows.peek().is_some() {
                let count = 1_usize << rows.len().min(most).ilog2();
                let values: Vec<Value> = rows.by_ref().take(count).flatten().collect();
                let text = if count == 1 { text.into_sql_str() } else { repeated(text, count, db.is_far()) };
                execute(text, values, (&mut *db).into()).await?;
            }
        }
        Ok(())
    }
}

/// `text` with its `values (…)` for so many rows. Every parameter stands there once and in order, so SQLite need not have them
/// numbered: it would look each number up among all the others.
fn repeated(text: &'static str, rows: usize, numbered: bool) -> SqlStr {
    let Some((before, rest)) = text.split_once("values (") else { return text.into_sql_str() };
    let Some((row, after)) = rest.split_once(')') else { return text.into_sql_str() };
    let columns = row.split(',').count();
    let values = if numbered {
        let row = |row: usize| {
            let values: Vec<String> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
            format!("({})", values.join(", "))
        };
        (0..rows).map(row).collect::<Vec<_>>().join(", ")
    } else {
        let row = format!("({})", vec!["?"; columns].join(", "));
        vec![row.as_str(); rows].join(", ")
    };
    AssertSqlSafe(format!("{before}values {values}{after}")).into_sql_str()
}

async fn execute(text: SqlStr, values: Vec<Value>, on: On<'_>) -> Result<u64, sqlx::Error> {
    match on {
        On::Sqlite(db) => Ok(sqlx::query_with(text, sqlite(values)?).execute(db).await?.rows_affected()),
        On::SqlitePool(pool) => Ok(sqlx::query_with(text, sqlite(values)?).execute(pool).await?.rows_affected()),
        On::Postgres(db) => Ok(answered(sqlx::query_with(text, postgres(values)?).execute(db)).await?.rows_affected()),
        On::PostgresPool(pool) => {
            Ok(answered(sqlx::query_with(text, postgres(values)?).execute(pool)).await?.rows_affected())
        }
    }
}

/// What a server answers, if it does in time.
pub(crate) async fn answered<T>(asking: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    answered_within(ANSWER_WITHIN, asking).await
}

/// As [`answered`], in this time.
pub(crate) async fn answered_within<T>(
    within: Duration,
    asking: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(within, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the database server does not answer",
        ))),
    }
}

fn sqlite(values: Vec<Value>) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Value::Text(text) => arguments.add(text),
            Value::Integer(integer) => arguments.add(integer),
            Value::Bytes(bytes) => arguments.add(bytes),
            Value::Texts(texts) => arguments.add(crate::sql::json(&texts)),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn postgres(values: Vec<Value>) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::Text(text) => arguments.add(text),
            Value::Integer(integer) => arguments.add(integer),
            Value::Bytes(bytes) => arguments.add(bytes),
            Value::Texts(texts) => arguments.add(texts),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sqlite_finds_many_rows_by_an_index() {
        let mut db = Db::Sqlite(SqliteConnection::connect("sqlite::memory:").await.unwrap());
        db.run(include_str!("../migrations/sqlite/0001_views.sql")).await.unwrap();
        for texts in crate::store::DELETE.into_iter().chain(crate::store::bulk::ALL) {
            let plan = AssertSqlSafe(format!("explain query plan {}", texts.sqlite));
            let Db::Sqlite(connection) = &mut db else { panic!() };
            let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(plan).fetch_all(connection).await.unwrap();
            assert!(steps[0].3.starts_with("SEARCH "), "{}: {steps:?}", texts.sqlite);
        }
    }

    #[test]
    fn a_text_is_repeated_for_many_rows() {
        let text = "insert into t (a, b) values ($1, $2) on conflict (a) do update set b = excluded.b";
        let twice = "insert into t (a, b) values ($1, $2), ($3, $4) on conflict (a) do update set b = excluded.b";
        assert_eq!(repeated(text, 2, true).as_str(), twice);
        let plain = "insert into t (a, b) values (?, ?), (?, ?) on conflict (a) do update set b = excluded.b";
        assert_eq!(repeated(text, 2, false).as_str(), plain);
        let text = "delete from t where (a, b) in (values ($1, $2))";
        assert_eq!(repeated(text, 2, true).as_str(), "delete from t where (a, b) in (values ($1, $2), ($3, $4))");
    }
}
