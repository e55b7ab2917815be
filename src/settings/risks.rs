//! What is legal but risky.

use std::path::Path;

use keyledger_schemas::ids::{Mode, SourceName};
use keyledger_schemas::secret::Secret;

use super::secrets::is_open_to_others;
use super::{Nats, Settings, Source};

/// Shorter tokens can be guessed.
const TOKEN_BYTES_MIN: usize = 24;

pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(text);
    if !settings.ingest.listen.ip().is_loopback() {
        warn(format!(
            "ingest listens on {} without TLS: Stripe only delivers over HTTPS, so put a proxy in front of it",
            settings.ingest.listen
        ));
    }
    if !settings.api.listen.ip().is_loopback() {
        warn(format!(
            "the API listens on {} without TLS: whoever can listen on the way sees the token and the keys",
            settings.api.listen
        ));
    }
    if settings.api.allow_loopback_without_token {
        warn("every user and every page open on this machine may use the API: no token is needed".to_owned());
    }
    if settings.api.token.as_ref().is_some_and(|token| token.expose().trim().len() < TOKEN_BYTES_MIN) {
        warn(format!("`api.token` is shorter than {TOKEN_BYTES_MIN} characters: it can be guessed"));
    }
    databases(settings, &mut warn);
    for (name, _) in settings.providers.addresses().filter(|(_, address)| is_in_the_clear(address)) {
        warn(format!("`provider.{name}.base_url` is called without TLS: whoever can listen on the way sees the keys"));
    }
    nats(settings, &mut warn);
    for (name, source) in &settings.sources {
        if let Some(key) = &source.api_key {
            api_key(name, source, key, &mut warn);
        }
        let odd = |secret: &Secret| !secret.expose().starts_with("whsec_");
        if source.webhook_secrets.iter().any(odd) {
            warn(format!("`stripe.{name}.webhook_secrets`: Stripe's secrets begin with whsec_, and one here does not"));
        }
    }
    if let Some(file) = &settings.file
        && holds_secrets(file, settings)
        && is_open_to_others(file)
    {
        warn(format!("{} may be read by other users: run `chmod 600 {}`", file.display(), file.display()));
    }
    if settings.api.token.is_none() && is_open_to_others(&settings.api.token_file) {
        let file = settings.api.token_file.display();
        warn(format!("{file} may be read by other users: run `chmod 600 {file}`"));
    }
    if settings.catalog.is_empty() {
        warn(
            "nothing is mapped to a license: every sale whose metadata does not say what it is waits as a case until \
             [[catalog]] says what its price means"
                .to_owned(),
        );
    }
    warnings
}

/// What is risky where roles are processes of their own, perhaps on several machines.
pub(super) fn warnings_of_roles(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    let files = [("log", &settings.log), ("views", &settings.views)];
    for (name, path) in files.into_iter().filter_map(|(name, database)| Some((name, database.file()?))) {
        warnings.push(format!(
            "`{name}` is the file {}: all roles must run on this machine and share it, on a local disk; for several \
             machines name a PostgreSQL database",
            path.display()
        ));
    }
    warnings
}

fn databases(settings: &Settings, warn: &mut impl FnMut(String)) {
    let mut told = None;
    for (name, database) in [("log", &settings.log), ("views", &settings.views)] {
        let Some(server) = database.server() else { continue };
        if !server.is_local() && !server.requires_tls() && told != Some(server) {
            warn(format!(
                "`{name}` is on another machine, and may be reached without TLS: add `?sslmode=verify-full` unless the \
                 network between is yours alone"
            ));
            told = Some(server);
        }
    }
}

fn nats(settings: &Settings, warn: &mut impl FnMut(String)) {
    let Some(nats) = &settings.nats else { return };
    if nats.is_in_the_clear() {
        warn(format!(
            "`nats.url` leads to {} without TLS: Stripe's events hold names and addresses; use tls:// unless the network \
             between is yours alone",
            nats.server.servers()
        ));
    }
    if nats.is_cluster() && nats.server.replicas == 1 {
        warn(
            "`nats.replicas` is 1 on a cluster: the mirror is away whenever the one server that holds it is; write 3"
                .to_owned(),
        );
    }
}

/// What is risky about a key of Stripe's.
fn api_key(name: &SourceName, source: &Source, key: &Secret, warn: &mut impl FnMut(String)) {
    let key = key.expose();
    if key.starts_with("sk_") {
        warn(format!(
            "`stripe.{name}.api_key` may do everything at Stripe: make a restricted key (rk_…), docs/providers.md says with \
             which permissions"
        ));
    }
    let other = if source.mode == Mode::Live { "_test_" } else { "_live_" };
    if key.get(2..).is_some_and(|rest| rest.starts_with(other)) {
        let mode = other.trim_matches('_');
        warn(format!("`stripe.{name}.api_key` is of {mode} mode, and the source issues in {} mode", source.mode));
    }
    if is_in_the_clear(&source.stripe.api_base) {
        warn(format!("`stripe.{name}.api_base` is called without TLS: whoever can listen on the way sees the key"));
    }
}

/// Whether an address is on another machine, and reached without TLS.
fn is_in_the_clear(address: &str) -> bool {
    let Some(rest) = address.strip_prefix("http://") else { return false };
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    !(["localhost", "127.0.0.1"].contains(&host) || rest.starts_with("[::1]"))
}

/// Whether one of the secrets stands in the file itself, and has not come from elsewhere.
fn holds_secrets(file: &Path, settings: &Settings) -> bool {
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let mut secrets: Vec<&Secret> = settings.sources.values().flat_map(|it| &it.webhook_secrets).collect();
    secrets.extend(settings.sources.values().filter_map(|it| it.api_key.as_ref()).chain(&settings.api.token));
    secrets.extend(settings.providers.tokens());
    secrets.extend([&settings.log, &settings.views].into_iter().filter_map(|it| it.server()?.password()));
    let of_nats = settings.nats.as_ref().and_then(Nats::secret);
    secrets.into_iter().chain(&of_nats).any(|secret| text.contains(secret.expose()))
}
