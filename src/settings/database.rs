//! Where a database is: a file of SQLite, or a PostgreSQL server. It never shows a password.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use keyledger_schemas::secret::Secret;

/// Bytes of a password that stand for themselves in a URL.
const UNRESERVED: &[u8] = b"-._~";

/// A database by its URL.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// `sqlite:` and a file.
    File(PathBuf),
    /// `postgres:`, a server and a database on it.
    Server(Server),
}

/// A database on a PostgreSQL server.
#[derive(Clone)]
pub struct Server {
    /// As it stands in a URL: percent-encoded.
    user: String,
    password: Option<Secret>,
    /// Host and port.
    place: String,
    database: String,
    /// What stands after `?`.
    query: String,
}

impl Database {
    /// The database that a URL names.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that do not repeat it: there may be a password in it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        if let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) {
            return Server::parse(rest).map(Self::Server);
        }
        match url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path)) {
            Some(path) if !path.trim().is_empty() && !path.contains(['?', ':']) => Ok(Self::File(path.into())),
            _ => Err("must be \"sqlite:\" and a file, or \"postgres://user@host/database\""),
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Server(_) => None,
        }
    }

    /// The server, if it is on one.
    pub fn server(&self) -> Option<&Server> {
        match self {
            Self::File(_) => None,
            Self::Server(server) => Some(server),
        }
    }

    /// Its URL, for whoever connects to it; the password is in it.
    pub fn url(&self) -> Secret {
        match self {
            Self::File(path) => Secret::new(format!("sqlite:{}", path.display())),
            Self::Server(server) => Secret::new(server.url(true)),
        }
    }
}

impl Server {
    fn parse(rest: &str) -> Result<Self, &'static str> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        if query.split('&').any(|pair| pair.starts_with("password=")) {
            return Err("has a password among its parameters, where logs may show it: put it into a file");
        }
        if user.is_empty() {
            return Err("names no user: write \"postgres://user@host/database\"");
        }
        if database.is_empty() || database.contains('/') {
            return Err("names no database: write \"postgres://user@host/database\"");
        }
        if place.is_empty() && !query.split('&').any(|pair| pair.starts_with("host=")) {
            return Err("names no host: write \"postgres://user@host/database\"");
        }
        Ok(Self {
            user: user.to_owned(),
            password: password.map(Secret::new),
            place: place.to_owned(),
            database: database.to_owned(),
            query: query.to_owned(),
        })
    }

    /// The password as it stands in the URL.
    pub(super) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// The same database, reached with `password`.
    #[must_use]
    pub fn with_password(mut self, password: &Secret) -> Self {
        self.password = Some(Secret::new(encoded(password.expose())));
        self
    }

    /// The password of `other`, where both are one user of one server.
    #[must_use]
    pub fn or_password_of(mut self, other: &Self) -> Self {
        if self.password.is_none() && self.user == other.user && self.place == other.place {
            self.password.clone_from(&other.password);
        }
        self
    }

    /// Whether it is on this machine: what goes there is not seen on any network.
    pub fn is_local(&self) -> bool {
        self.place.is_empty() || is_local(&self.place)
    }

    /// Whether the connection is refused unless it is encrypted.
    pub fn requires_tls(&self) -> bool {
        let modes = ["sslmode=require", "sslmode=verify-ca", "sslmode=verify-full"];
        self.query.split('&').any(|pair| modes.contains(&pair))
    }

    fn url(&self, with_password: bool) -> String {
        let Self { user, password, place, database, query } = self;
        let password = password.as_ref().filter(|_| with_password);
        let password = password.map_or_else(String::new, |password| format!(":{}", password.expose()));
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        format!("postgres://{user}{password}@{place}/{database}{query}")
    }
}

/// Whether a host, with or without a port, is this machine by its name alone.
pub(super) fn is_local(place: &str) -> bool {
    let host = match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Text as it stands in the user part of a URL.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        self.url(false) == other.url(false)
    }
}

impl Eq for Server {}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(server) => f.write_str(&server.url(false)),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.url(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Database::parse(url).unwrap().server().unwrap().clone()
    }

    #[test]
    fn a_password_is_in_the_url_and_nowhere_else() {
        let database = Database::parse("postgres://kl:planted@db:5433/keyledger?sslmode=require").unwrap();
        assert_eq!(database.url().expose(), "postgres://kl:planted@db:5433/keyledger?sslmode=require");
        for shown in [database.to_string(), format!("{database:?}"), format!("{:?}", database.server())] {
            assert!(shown.contains("postgres://kl@db:5433/keyledger") && !shown.contains("planted"), "{shown}");
        }
    }

    #[test]
    fn a_password_from_elsewhere_may_hold_any_character() {
        let with = server("postgres://kl@db/keyledger").with_password(&Secret::new("a/b@c:ü%"));
        assert_eq!(with.url(true), "postgres://kl:a%2Fb%40c%3A%C3%BC%25@db/keyledger");
    }

    #[test]
    fn one_user_of_one_server_has_one_password() {
        let log = server("postgres://kl:planted@db/log");
        assert!(server("postgres://kl@db/views").or_password_of(&log).password().is_some());
        assert!(server("postgres://kl@elsewhere/views").or_password_of(&log).password().is_none());
        assert!(server("postgres://other@db/views").or_password_of(&log).password().is_none());
    }

    #[test]
    fn what_names_no_database_is_refused_without_repeating_it() {
        for bad in [
            "postgres://planted",
            "postgres://db/planted",
            "postgres://planted@db",
            "postgres://planted@/db",
            "postgres://kl@db/keyledger?password=planted",
            "mysql://planted",
            "sqlite:",
            "",
        ] {
            let said = Database::parse(bad).unwrap_err();
            assert!(!said.contains("planted"), "{bad}: {said}");
        }
        Database::parse("postgresql://kl@/keyledger?host=/var/run/postgresql").unwrap();
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for local in ["localhost", "localhost:5432", "127.0.0.1:5432", "[::1]:5432", "[::1]"] {
            assert!(is_local(local), "{local}");
        }
        for far in ["db", "10.0.0.1:5432", "[fe80::1]:1", "localhost.example.com"] {
            assert!(!is_local(far), "{far}");
        }
    }
}
