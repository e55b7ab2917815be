//! Where views are: a file of SQLite's, or a schema of a PostgreSQL database.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::sql::ViewsError;

/// How long SQLite waits for a lock.
const BUSY: Duration = Duration::from_secs(5);

/// Prepared texts kept by one connection: writes come in several lengths.
const STATEMENTS: usize = 300;

/// What a server holds every connection to. Whoever waits longer for a lock, a statement or us is let go, so that one
/// process that hangs does not stop the others.
const BOUNDS: [(&str, &str); 3] =
    [("lock_timeout", "5s"), ("statement_timeout", "20s"), ("idle_in_transaction_session_timeout", "60s")];

/// A schema that views are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// The views in use.
    Live,
    /// Those that a replay makes beside them.
    Rebuild,
}

impl Schema {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "keyledger_views",
            Self::Rebuild => "keyledger_views_rebuild",
        }
    }

    /// Where views go that others took the place of, until their tables are dropped.
    pub(crate) fn aside(self) -> String {
        format!("{}_old", self.name())
    }
}

/// Where views are. Shown without a password.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions, Schema),
}

impl Place {
    /// The place that a `sqlite:` or `postgres:` URL names.
    pub(crate) fn of(url: &str) -> Result<Self, ViewsError> {
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            return Ok(Self::postgres(PgConnectOptions::from_str(url)?, Schema::Live));
        }
        Ok(Self::Sqlite(SqliteConnectOptions::from_str(url)?.statement_cache_capacity(STATEMENTS)))
    }

    /// A schema of a server's database, which unqualified names mean from the first statement on.
    pub(crate) fn postgres(options: PgConnectOptions, schema: Schema) -> Self {
        let path = [("search_path", schema.name())];
        let options = options.options(BOUNDS).options(path).statement_cache_capacity(STATEMENTS);
        Self::Postgres(options.application_name("keyledger").disable_statement_logging(), schema)
    }

    /// The file to write, with SQLite's settings for it.
    pub(crate) fn writing(options: &SqliteConnectOptions) -> SqliteConnectOptions {
        let options = options.clone().create_if_missing(true).busy_timeout(BUSY).journal_mode(SqliteJournalMode::Wal);
        // A view that lost its last batches in a power cut reads them again: the checkpoint went with them.
        options.synchronous(SqliteSynchronous::Normal).disable_statement_logging()
    }

    /// The file to read, with SQLite's settings for it.
    pub(crate) fn reading(options: &SqliteConnectOptions) -> SqliteConnectOptions {
        options
            .clone()
            .create_if_missing(false)
            .busy_timeout(BUSY)
            .pragma("query_only", "on")
            .disable_statement_logging()
    }

    /// A place in a file.
    pub(crate) fn file(path: &Path) -> Self {
        Self::Sqlite(SqliteConnectOptions::new().filename(path).statement_cache_capacity(STATEMENTS))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(options) => write!(f, "sqlite:{}", options.get_filename().display()),
            Self::Postgres(options, schema) => {
                let database = options.get_database().unwrap_or(options.get_username());
                let (user, host, port) = (options.get_username(), options.get_host(), options.get_port());
                write!(f, "postgres://{user}@{host}:{port}/{database}, schema {}", schema.name())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_without_its_password() {
        let place = Place::of("postgres://shop:pa55word@db.example:5433/ledger?sslmode=require").unwrap();
        assert_eq!(place.to_string(), "postgres://shop@db.example:5433/ledger, schema keyledger_views");
        let wrong = Place::of("postgres://shop:pa55word@db.example:notaport/ledger").unwrap_err();
        assert!(!format!("{wrong:?}").contains("pa55word"), "{wrong:?}");
    }

    #[test]
    fn a_file_is_shown_as_it_was_named() {
        assert_eq!(Place::of("sqlite:./data/views.db").unwrap().to_string(), "sqlite:./data/views.db");
    }
}
