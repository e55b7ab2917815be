//! `[nats]`: where the log's mirror is, and how consumers follow it.

use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;
use keyledger_eventlog::jetstream::Options;
use keyledger_eventlog::jetstream::options::Login;
use keyledger_schemas::secret::Secret;
use serde::{Deserialize, Serialize};

use super::database::is_local;
use super::read::Reader;
use super::secrets;

/// JetStream keeps no more copies than this.
const REPLICAS_MAX: usize = 5;

/// What a stream's name may not hold.
const NOT_IN_NAMES: [char; 6] = ['.', '*', '>', '/', '\\', ' '];

/// The log's mirror on JetStream.
#[derive(Clone, Debug)]
pub struct Nats {
    /// Where it is, and how it is reached.
    pub server: Options,
    /// What consumers do while NATS is away. Default: they read SQL.
    pub fallback: Fallback,
}

/// What consumers do while NATS is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// Go on from the log's database.
    #[default]
    Sql,
    /// Wait for it.
    Wait,
}

impl Nats {
    /// What must not be shown of it, if something.
    pub(super) fn secret(&self) -> Option<Secret> {
        match &self.server.login {
            Login::Password { password: secret, .. } | Login::Token(secret) | Login::Nkey(secret) => {
                Some(secret.clone())
            }
            Login::None | Login::CredentialsFile(_) => {
                Some(&self.server.url).filter(|url| url.contains('@')).map(Secret::new)
            }
        }
    }

    /// Whether several servers are named.
    pub(super) fn is_cluster(&self) -> bool {
        self.server.url.contains(',')
    }

    /// Whether what goes there can be read on the way.
    pub(super) fn is_in_the_clear(&self) -> bool {
        let is_clear = |server: &str| {
            let (scheme, rest) = server.trim().split_once("://").unwrap_or(("nats", server.trim()));
            !["tls", "wss"].contains(&scheme) && !is_local(place(rest))
        };
        self.server.tls_ca_file.is_none() && self.server.url.split(',').any(is_clear)
    }
}

/// Host and port, without a login.
fn place(rest: &str) -> &str {
    rest.rsplit_once('@').map_or(rest, |(_, place)| place)
}

/// `[nats]` as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Table {
    url: Option<Secret>,
    stream: Option<String>,
    replicas: Option<usize>,
    user: Option<String>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    token: Option<Secret>,
    token_file: Option<PathBuf>,
    nkey_file: Option<PathBuf>,
    credentials_file: Option<PathBuf>,
    tls_ca_file: Option<PathBuf>,
    connect_timeout_ms: Option<u64>,
    fallback: Fallback,
}

/// The mirror, if there is to be one.
pub(super) fn read(reader: &mut Reader<'_>, value: Option<Value>) -> Option<Nats> {
    let value = value?;
    let mut table = reader.table(&["nats"], Some(value));
    reader.choose_twin(&["nats"], &mut table, "password");
    reader.choose_twin(&["nats"], &mut table, "token");
    let mut read: Table = reader.section(&["nats"], table)?;
    let problems_before = reader.problems.len();
    let url = read.url.take().unwrap_or_else(|| Secret::new(""));
    if url.is_blank() {
        reader.problem("`nats.url` is not set: write \"nats://127.0.0.1:4222\", or leave [nats] out to go without");
    } else if !url.expose().split(',').all(is_url) {
        reader.problem("`nats.url` must be \"nats://host:4222\", or several separated by commas");
    }
    let mut server = Options::at(url.expose());
    let stream = read.stream.take().unwrap_or_else(|| server.stream.clone());
    if stream.is_empty() || stream.contains(NOT_IN_NAMES) || stream.contains(char::is_whitespace) {
        reader.problem("`nats.stream` must be a name without dots, blanks, slashes, `*` and `>`");
    }
    let replicas = read.replicas.unwrap_or(server.replicas);
    if !(1..=REPLICAS_MAX).contains(&replicas) {
        reader.problem(format!("`nats.replicas` must be from 1 to {REPLICAS_MAX}"));
    }
    let connect_timeout = read.connect_timeout_ms.map_or(server.connect_timeout, Duration::from_millis);
    if connect_timeout.is_zero() {
        reader.problem("`nats.connect_timeout_ms` must be at least 1");
    }
    let tls_ca_file = read.tls_ca_file.take();
    if let Some(file) = tls_ca_file.as_ref().filter(|file| !file.is_file()) {
        reader.problem(format!("`nats.tls_ca_file`: {} is not there", file.display()));
    }
    let fallback = read.fallback;
    server = Options { stream, replicas, connect_timeout, tls_ca_file, login: login(reader, read), ..server };
    (reader.problems.len() == problems_before).then_some(Nats { server, fallback })
}

fn is_url(server: &str) -> bool {
    let server = server.trim();
    let schemes = ["nats", "tls", "ws", "wss"];
    let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
    schemes.contains(&scheme) && !place(rest).is_empty() && !place(rest).contains('/')
}

/// The one way to prove who we are. Several are a problem: nobody could say which counts.
fn login(reader: &mut Reader<'_>, table: Table) -> Login {
    let ways = [
        ("user", table.user.is_some()),
        ("token", table.token.is_some() || table.token_file.is_some()),
        ("nkey_file", table.nkey_file.is_some()),
        ("credentials_file", table.credentials_file.is_some()),
    ];
    let set: Vec<&str> = ways.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    if set.len() > 1 {
        reader.problem(format!("`nats`: {} are all set: one of them proves who we are", set.join(", ")));
        return Login::None;
    }
    let password = secret(reader, "password", table.password, table.password_file);
    if let Some(user) = table.user {
        let Some(password) = password else {
            reader.problem("`nats.user` needs `nats.password` or `nats.password_file`");
            return Login::None;
        };
        return Login::Password { user, password };
    }
    if password.is_some() {
        reader.problem("`nats.password` needs `nats.user`");
    }
    if let Some(token) = secret(reader, "token", table.token, table.token_file) {
        return Login::Token(token);
    }
    if let Some(seed) = secret(reader, "nkey", None, table.nkey_file) {
        return Login::Nkey(seed);
    }
    match table.credentials_file {
        Some(file) if !file.is_file() => {
            reader.problem(format!("`nats.credentials_file`: {} is not there", file.display()));
            Login::None
        }
        Some(file) => Login::CredentialsFile(file),
        None => Login::None,
    }
}

/// A secret that stands in the settings or in a file. A blank one is a problem.
fn secret(reader: &mut Reader<'_>, name: &str, plain: Option<Secret>, file: Option<PathBuf>) -> Option<Secret> {
    if plain.as_ref().is_some_and(Secret::is_blank) {
        reader.problem(format!("`nats.{name}` is blank: leave it out to go without"));
        return None;
    }
    match file.map(|file| secrets::read_token(&file)) {
        None => plain,
        Some(Ok(secret)) => Some(secret),
        Some(Err(error)) => {
            reader.problem(format!("`nats.{name}_file`: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_machine_unencrypted_is_in_the_clear() {
        for (url, is_clear) in [
            ("nats://127.0.0.1:4222", false),
            ("localhost:4222", false),
            ("tls://nats.example.com", false),
            ("nats://kl:x@nats.example.com", true),
            ("nats://127.0.0.1:4222,nats.example.com", true),
        ] {
            let nats = Nats { server: Options::at(url), fallback: Fallback::Sql };
            assert_eq!(nats.is_in_the_clear(), is_clear, "{url}");
        }
    }
}
