//! Settings, and what is wrong with them.

use keyledger_schemas::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::outbound::{self, Limits};

/// The shortest time that counts as never ending, in days.
const NEVER_DAYS_MIN: u32 = 3650;

/// The engine's dates have years of four digits, and a hundred years are enough.
const NEVER_DAYS_MAX: u32 = 36_500;

/// Settings of Cryptolens, `[provider.cryptolens]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where its API is, without `/api`. Default `https://api.cryptolens.io`.
    pub base_url: String,
    /// How long one request may take, in milliseconds. Default 10000.
    pub timeout_ms: u64,
    /// Requests in a second, on average; bursts are no larger. Default 8.
    pub requests_per_second: u32,
    /// Requests at once. Default 4.
    pub requests_at_once: u32,
    /// How long a license made by a call of unknown outcome may stay invisible to its searches, in milliseconds. Default
    /// 5000.
    pub settle_ms: u64,
    /// How long a license is left as it is after days were added with unknown outcome, in milliseconds: what was sent may
    /// still arrive. Default 30000.
    pub unknown_wait_ms: u64,
    /// For how many days a license that never ends is made; at least 3650. Default 36500.
    pub never_ends_days: u32,
    /// Whether the reference is written into a data object too, so that it outlives edits of the notes. The token then needs
    /// `AddDataObject` with key lock -1. Default true.
    pub data_objects: bool,
    /// Whether new customers get an association link, by which they open a portal of their own. Default true.
    pub association_links: bool,
    /// The seller's terms of use, shown in the engine's payment forms and portals: an http or https address, put up at the
    /// start. Default none: what stands there is left alone.
    pub terms_of_use_url: Option<String>,
    /// The seller's generic sign-up link, as the engine's dashboard makes it, for customers without a link of their own.
    /// Default none.
    pub sign_up_link: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        let Limits { timeout_ms, requests_per_second, requests_at_once } = Limits::default();
        Self {
            base_url: "https://api.cryptolens.io".to_owned(),
            timeout_ms,
            requests_per_second,
            requests_at_once,
            settle_ms: 5_000,
            unknown_wait_ms: 30_000,
            never_ends_days: 36_500,
            data_objects: true,
            association_links: true,
            terms_of_use_url: None,
            sign_up_link: None,
        }
    }
}

/// A setting of Cryptolens to mend.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address, or a limit.
    #[error("cannot call Cryptolens")]
    Outbound(#[from] outbound::BuildError),
    /// No token.
    #[error("the access token of Cryptolens is empty: make one under Account Settings, Access Tokens")]
    Token,
    /// A link that is none.
    #[error("`{0}` must be an http or https address")]
    Link(&'static str),
    /// Too short to be never.
    #[error("`never_ends_days` must be from {NEVER_DAYS_MIN} to {NEVER_DAYS_MAX}")]
    Never,
}

impl Options {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            timeout_ms: self.timeout_ms,
            requests_per_second: self.requests_per_second,
            requests_at_once: self.requests_at_once,
        }
    }

    /// Checks what the types cannot.
    pub(super) fn check(&self, token: &Secret) -> Result<(), BuildError> {
        if token.is_blank() {
            return Err(BuildError::Token);
        }
        for (name, link) in [("terms_of_use_url", &self.terms_of_use_url), ("sign_up_link", &self.sign_up_link)] {
            let url = link.as_ref().map(|link| reqwest::Url::parse(link));
            if !url.is_none_or(|url| url.is_ok_and(|url| ["http", "https"].contains(&url.scheme()))) {
                return Err(BuildError::Link(name));
            }
        }
        if !(NEVER_DAYS_MIN..=NEVER_DAYS_MAX).contains(&self.never_ends_days) {
            return Err(BuildError::Never);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        let token = Secret::new("t");
        assert!(Options::default().check(&token).is_ok());
        assert!(matches!(Options::default().check(&Secret::new(" ")), Err(BuildError::Token)));
        for bad in ["", "example.com/terms", "ftp://example.com", "javascript:alert(1)"] {
            let options = Options { terms_of_use_url: Some(bad.to_owned()), ..Options::default() };
            assert!(matches!(options.check(&token), Err(BuildError::Link("terms_of_use_url"))), "{bad}");
        }
        let options = Options { never_ends_days: 365, ..Options::default() };
        assert!(matches!(options.check(&token), Err(BuildError::Never)));
    }
}
