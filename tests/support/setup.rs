//! What a deployment is set up like.

use std::fmt::Write as _;

/// The API's bearer token.
pub const TOKEN: &str = "token-of-the-tests-SqeZk0mXQ4";

/// Everything is sold as licenses of the built-in engine.
pub const SELL_EVERYTHING: &str = "[[catalog]]\nprovider = \"builtin\"\nproduct = \"pro\"\n";

/// What a deployment is set up like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The sources; `default` is always one.
    pub sources: Vec<String>,
    /// More TOML: `[[catalog]]`, `[policy]`, `[issuer]`, `[provider.stub]` …
    pub settings: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self { sources: vec!["default".to_owned()], settings: SELL_EVERYTHING.to_owned() }
    }
}

impl Setup {
    /// The tables of the settings, on free ports.
    pub fn tables(&self) -> String {
        let mut text =
            format!("[ingest]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n");
        for source in &self.sources {
            writeln!(text, "[stripe.{source}]\nwebhook_secrets = [\"{}\"]", secret_of(source)).unwrap();
        }
        text.push_str(&self.settings);
        text
    }
}

/// The signing secret of a source.
pub fn secret_of(source: &str) -> String {
    format!("whsec_of_{source}_9dGq2")
}
