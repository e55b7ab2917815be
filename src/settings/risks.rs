//! What is legal but risky.

use std::path::Path;

use keyledger_schemas::secret::Secret;

use super::Settings;
use super::secrets::is_open_to_others;

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
    for (name, source) in &settings.sources {
        if source.api_key.is_some() {
            warn(format!("`stripe.{name}.api_key` is not used: this version does not call Stripe"));
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

/// Whether one of the secrets stands in the file itself, and has not come from elsewhere.
fn holds_secrets(file: &Path, settings: &Settings) -> bool {
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let of_sources = settings.sources.values().flat_map(|it| it.webhook_secrets.iter().chain(&it.api_key));
    of_sources.chain(&settings.api.token).any(|secret| text.contains(secret.expose()))
}
