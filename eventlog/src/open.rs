//! Opening a log by its URL: `sqlite:` or `postgres:`.

use std::sync::Arc;

use keyledger_schemas::clock::Clock;
use uuid::Uuid;

use crate::log::{EventLog, LogError};
use crate::postgres::{self, DatabaseClock, PostgresLog};
use crate::sqlite::{self, SqliteLog};

/// How a log is opened, whatever it is in.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The id of a log that is being made, when it is to be a copy of another; one by chance when there is none. A log
    /// that is there keeps its own, and is refused when it is not this.
    pub log_id: Option<Uuid>,
}

/// What a URL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// One file, at a path or `sqlite:` URL.
    Sqlite,
    /// A database on a server, at a `postgres:` or `postgresql:` URL.
    Postgres,
}

/// Which engine `url` names. What has no scheme is the path of a file.
pub fn engine(url: &str) -> Engine {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme.to_ascii_lowercase().as_str() {
        "postgres" | "postgresql" => Engine::Postgres,
        _ => Engine::Sqlite,
    }
}

/// Opens the log at `url`, and makes it when there is none.
///
/// # Errors
///
/// [`LogError::Unsafe`] when it is not a log of ours, was made by a newer keyledger, or would not keep what it
/// acknowledges; the reason says what to do. [`LogError::Database`] when it cannot be opened now.
pub async fn open(url: &str, clock: Arc<dyn Clock>, options: Options) -> Result<Arc<dyn EventLog>, LogError> {
    match engine(url) {
        Engine::Sqlite => {
            let options = sqlite::Options { log_id: options.log_id, ..sqlite::Options::default() };
            Ok(Arc::new(SqliteLog::open(url, clock, options).await?))
        }
        Engine::Postgres => {
            let options = postgres::Options { log_id: options.log_id, ..postgres::Options::default() };
            Ok(Arc::new(PostgresLog::open(url, clock, options).await?))
        }
    }
}

/// Whether there is a log at `url`. Makes nothing.
///
/// # Errors
///
/// [`LogError::Database`] when the server cannot be asked now; [`LogError::Unsafe`] when `url` cannot name a log.
pub async fn exists(url: &str) -> Result<bool, LogError> {
    match engine(url) {
        Engine::Sqlite => SqliteLog::exists(url).await,
        Engine::Postgres => PostgresLog::exists(url).await,
    }
}

/// The clock by which the users of the log at `url` agree: the server's, where there is one, else `local`.
///
/// # Errors
///
/// As [`exists`].
pub async fn clock(url: &str, local: Arc<dyn Clock>) -> Result<Arc<dyn Clock>, LogError> {
    match engine(url) {
        Engine::Sqlite => Ok(local),
        Engine::Postgres => Ok(Arc::new(DatabaseClock::start(url, local).await?)),
    }
}

/// `url` as it may be shown: with `***` in the place of its password.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A password may hold any character that should have been escaped: the last `@` ends it.
    let (before, place) = rest.rsplit_once('@').map_or(("", rest), |(credentials, place)| (credentials, place));
    let user = before.split_once(':').map_or(before, |(user, _)| user);
    let password = if before.contains(':') { ":***" } else { "" };
    let at = if before.is_empty() { "" } else { "@" };
    let pairs = place.split_inclusive(['?', '&']).map(|pair| match pair.split_once('=') {
        Some((key, value)) if key.eq_ignore_ascii_case("password") => {
            format!("{key}=***{}", if value.ends_with('&') { "&" } else { "" })
        }
        _ => pair.to_owned(),
    });
    format!("{scheme}://{user}{password}{at}{}", pairs.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_names_the_engine() {
        for url in ["postgres://u@h/d", "postgresql://h", "POSTGRES://h/d"] {
            assert_eq!(engine(url), Engine::Postgres, "{url}");
        }
        for url in ["sqlite:data/log.db", "sqlite:///var/log.db", "data/log.db", "/var/postgres/log.db"] {
            assert_eq!(engine(url), Engine::Sqlite, "{url}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("postgres://ana:s3cret@host:5432/db", "postgres://ana:***@host:5432/db"),
            ("postgres://ana:s3@c:re/t@host/db", "postgres://ana:***@host/db"),
            ("postgres://ana:s3?c/r&e=t@host/db?sslmode=require", "postgres://ana:***@host/db?sslmode=require"),
            ("postgres://:s3cret@host", "postgres://:***@host"),
            ("postgres://ana@host/db?sslmode=require", "postgres://ana@host/db?sslmode=require"),
            ("postgres://host/db?user=ana&password=s3cret&port=1", "postgres://host/db?user=ana&password=***&port=1"),
            ("sqlite:data/log.db", "sqlite:data/log.db"),
            ("sqlite:///data/log@2.db", "sqlite:///data/log@2.db"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
