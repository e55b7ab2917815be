//! The URL of a database, read without ever showing its password.

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::log::LogError;
use crate::open::redacted;

/// What may stand behind the `?`. Everything else would be passed over, and its value shown.
const PARAMETERS: [&str; 11] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// How to connect to `url`. Statements are not logged: they hold what customers told us.
pub(super) fn parse(url: &str) -> Result<PgConnectOptions, LogError> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for key in query.split('&').filter_map(|pair| pair.split('=').next()) {
        // Only what looks like a name is shown: the rest may be a password that was not escaped.
        if key.is_empty() || PARAMETERS.contains(&key) {
            continue;
        }
        if key.chars().all(|char| char.is_ascii_alphabetic()) {
            let reason = format!("the log's URL has the parameter `{key}`, which means nothing here; leave it out");
            return Err(LogError::Unsafe { reason });
        }
        return Err(unreadable(url));
    }
    // What the parser says may hold parts of a password: it is not passed on.
    let options: PgConnectOptions = url.parse().map_err(|_| unreadable(url))?;
    let named = options.get_application_name().is_some();
    let options = if named { options } else { options.application_name("keyledger") };
    Ok(options.disable_statement_logging())
}

fn unreadable(url: &str) -> LogError {
    let reason = format!(
        "`{}` is not a URL such as `postgres://user@host/database?sslmode=require`; in a password, `/`, `?`, `@`, `#` and \
         `%` are written as `%2F`, `%3F`, `%40`, `%23` and `%25`",
        redacted(url)
    );
    LogError::Unsafe { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_would_be_passed_over_is_refused_without_its_value() {
        let error = parse("postgres://ana@host/db?pasword=s3cret").unwrap_err().to_string();
        assert!(error.contains("`pasword`") && !error.contains("s3cret"), "{error}");
        for url in [
            "postgres://ana:s3cret@host/db?sslmode=sometimes",
            "postgres://ana:s3cret@host:port/db",
            "postgres://ana:a?s3cret@host/db",
            "postgres://ana:a/s3cret@host/db",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains("postgres://user@host/database") && !error.contains("s3cret"), "{error}");
        }
    }
}
