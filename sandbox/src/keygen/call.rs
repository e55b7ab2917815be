//! One call as it came, and what must hold for every call: path, media types, version, token.

use axum::body::Bytes;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;

use super::problem::{MEDIA_TYPE, Problem};
use super::settings::Settings;

/// Versions that exist.
const VERSIONS: [&str; 9] = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8"];

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Its path below the account, decoded: `["licenses", "…"]`.
    pub(super) path: Vec<String>,
    /// The account's part of the path, as it came.
    pub(super) base: String,
    account: Option<String>,
    pub(super) query: Query,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What is behind the question mark, decoded, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl Query {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The filters `metadata[key]=value`.
    pub(super) fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix("metadata[")?.strip_suffix(']')?;
            Some((key, value.as_str()))
        })
    }
}

impl Call {
    /// `None` for a path outside of the API.
    pub(super) fn new(method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Option<Self> {
        let rest = uri.path().strip_prefix("/v1/")?;
        let mut path: Vec<String> = rest.split('/').map(decoded).collect();
        let account = if path.first().is_some_and(|first| first == "accounts") && path.len() > 2 {
            path.remove(0);
            Some(path.remove(0))
        } else {
            None
        };
        let base = account.as_ref().map_or_else(|| "/v1".to_owned(), |account| format!("/v1/accounts/{account}"));
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
        });
        let query = Query(pairs.collect());
        Some(Self { method, path, base, account, query, headers, body })
    }

    /// The API version to answer in.
    pub(super) fn version(&self, settings: &Settings) -> Result<&'static str, Problem> {
        let asked = match self.headers.get("keygen-version") {
            None => settings.default_version.as_str(),
            Some(value) => value.to_str().unwrap_or_default(),
        };
        let known = VERSIONS.into_iter().find(|version| *version == asked);
        known.ok_or_else(|| {
            Problem::bad_request("The requested API version is not supported.").coded("INVALID_API_VERSION")
        })
    }

    /// What must hold for every call.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), Problem> {
        match &self.account {
            Some(account) if *account == settings.account => {}
            None if settings.single_account => {}
            Some(account) => return Err(Problem::not_found("account", account)),
            None => return Err(Problem::not_found("account", "")),
        }
        self.check_media()?;
        self.check_token(settings)
    }

    fn check_media(&self) -> Result<(), Problem> {
        let is = |name, wildcard: bool| {
            let text = self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let mut types = text.split(',').map(|part| part.split(';').next().unwrap_or_default().trim());
            types.any(|media| media == MEDIA_TYPE || (wildcard && media == "*/*"))
        };
        if !self.body.is_empty() && !is(CONTENT_TYPE, false) {
            return Err(unsupported(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        if !is(ACCEPT, true) {
            return Err(unsupported(StatusCode::NOT_ACCEPTABLE));
        }
        Ok(())
    }

    fn check_token(&self, settings: &Settings) -> Result<(), Problem> {
        let Some(given) = self.headers.get(AUTHORIZATION) else {
            return Err(Problem::unauthorized("TOKEN_MISSING", "You must be authenticated to complete the request"));
        };
        let Some(token) = given.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")) else {
            return Err(Problem::unauthorized("TOKEN_FORMAT_INVALID", "Token format is invalid"));
        };
        if token != settings.token {
            return Err(Problem::unauthorized("TOKEN_INVALID", "Token is invalid"));
        }
        if settings.token_expired {
            return Err(Problem::unauthorized("TOKEN_EXPIRED", "Token is expired"));
        }
        Ok(())
    }
}

/// Refused because of its type; which status Keygen gives is not verified, that it refuses is.
fn unsupported(status: StatusCode) -> Problem {
    Problem::bad_request("The content type of the request is not supported").with(status)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
