//! A nats-server with the users of `deploy/nats/permissions.conf`.

use keyledger_test_servers::{Nats, Options};

const PERMISSIONS: &str = include_str!("../../deploy/nats/permissions.conf");

/// The users that `permissions.conf` makes.
pub(crate) const USERS: [&str; 6] = ["ingest", "issuer", "projector", "console", "licenses", "operator"];

/// What each user logs in with.
pub(crate) fn password(user: &str) -> String {
    format!("the-password-of-{user}")
}

/// A server of this version with an empty store, as `deploy/nats` sets it up. The URL has the operator's login.
pub(crate) fn start(version: &'static str) -> Nats {
    let passwords: Vec<String> =
        USERS.iter().map(|user| format!("{}_PASSWORD: {:?}", user.to_uppercase(), password(user))).collect();
    let include = "include ./passwords.conf";
    assert!(PERMISSIONS.contains(include));
    let config = PERMISSIONS.replace(include, &passwords.join("\n"));
    let login = format!("operator:{}", password("operator"));
    Nats::start_with(&Options { version, config, login: Some(login) })
}
