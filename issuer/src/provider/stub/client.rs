//! The provider that talks to the stub engine over HTTP.

use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::secret::Secret;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::wire::{Found, License, NewLicense, Patch, Problem, State};
use crate::provider::{CallError, Capabilities, Change, Create, Held, Provider, ProviderError, Target, Terms};

/// A longer answer is not read on.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A longer reason is cut: it is shown in a case.
const REASON_CHARS_MAX: usize = 200;

/// Settings of a stub provider, `[provider.stub]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where the stub engine listens. Default `http://127.0.0.1:8090`.
    pub base_url: String,
    /// How long a call may take, in milliseconds. Default 10000.
    pub timeout_ms: u64,
    /// How long connecting may take, in milliseconds. Default 3000.
    pub connect_timeout_ms: u64,
    /// How long a license made by a call of unknown outcome may stay invisible to look-ups, in milliseconds; at least
    /// the stub's `search.lag_ms`. Default 1000.
    pub settle_ms: u64,
    /// Whether the engine counts as one that stops expired licenses by itself. Default true.
    pub enforces_expiry: bool,
    /// Whether the engine counts as one that can reinstate a revoked license. Default true.
    pub reinstates_revoked: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            base_url: "http://127.0.0.1:8090".to_owned(),
            timeout_ms: 10_000,
            connect_timeout_ms: 3_000,
            settle_ms: 1_000,
            enforces_expiry: true,
            reinstates_revoked: true,
        }
    }
}

/// Why there is no stub provider.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address cannot be used.
    #[error("`base_url` of the stub provider is not an http address without path and query: `{0}`")]
    BaseUrl(String),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[from] reqwest::Error),
}

/// A stub engine as a provider.
#[derive(Clone, Debug)]
pub struct Stub {
    name: ProviderName,
    base_url: Url,
    http: Client,
    timeout: Duration,
    capabilities: Capabilities,
}

impl Stub {
    /// The provider `name` at the address in `options`. Nothing is called yet.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting to mend.
    pub fn new(name: ProviderName, options: &Options) -> Result<Self, BuildError> {
        let base_url = base_url(&options.base_url)?;
        let timeout = Duration::from_millis(options.timeout_ms);
        let http = Client::builder()
            .connect_timeout(Duration::from_millis(options.connect_timeout_ms))
            .timeout(timeout)
            // A create must never be sent twice by a client that means well.
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let capabilities = Capabilities {
            settle: Duration::from_millis(options.settle_ms),
            enforces_expiry: options.enforces_expiry,
            reinstates_revoked: options.reinstates_revoked,
        };
        Ok(Self { name, base_url, http, timeout, capabilities })
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base_url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url)
    }

    /// Sends one request and reads its answer.
    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ProviderError> {
        let response = request.send().await.map_err(|error| self.not_answered(error))?;
        if !response.status().is_success() {
            return Err(self.not_success(response).await);
        }
        let body = self.body(response).await.map_err(|source| ProviderError::Indeterminate { source })?;
        serde_json::from_slice(&body).map_err(|error| ProviderError::Indeterminate {
            source: CallError::Unreadable { reason: error.to_string() },
        })
    }

    /// Without a connection nothing was sent; afterwards anything may have happened.
    fn not_answered(&self, error: reqwest::Error) -> ProviderError {
        if error.is_connect() {
            ProviderError::Unavailable { retry_after: None, source: CallError::Http(error) }
        } else {
            ProviderError::Indeterminate { source: self.call_error(error) }
        }
    }

    async fn not_success(&self, response: Response) -> ProviderError {
        let status = response.status();
        let retry_after = retry_after(&response);
        let source = CallError::Status { status: status.as_u16() };
        match status {
            StatusCode::TOO_MANY_REQUESTS => ProviderError::Unavailable { retry_after, source },
            // An engine that says when to come back has turned the call away; one that fails may have done it.
            StatusCode::SERVICE_UNAVAILABLE if response.headers().contains_key(RETRY_AFTER) => {
                ProviderError::Unavailable { retry_after, source }
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => ProviderError::Indeterminate { source },
            refused if refused.is_client_error() => {
                ProviderError::Refused { reason: self.reason(refused, response).await }
            }
            _ => ProviderError::Indeterminate { source },
        }
    }

    async fn reason(&self, status: StatusCode, response: Response) -> String {
        let body = self.body(response).await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => {
                let message: String = problem.message.chars().take(REASON_CHARS_MAX).collect();
                format!("{}: {message}", status.as_u16())
            }
            Err(_) => format!("status {}", status.as_u16()),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, CallError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.call_error(error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(CallError::Unreadable { reason: format!("it is longer than {ANSWER_BYTES_MAX} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn call_error(&self, error: reqwest::Error) -> CallError {
        if error.is_timeout() { CallError::Timeout { after: self.timeout } } else { CallError::Http(error) }
    }
}

#[async_trait]
impl Provider for Stub {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Looks in all products: a reference is of one license, and a hit elsewhere is trouble to be seen.
    async fn find(&self, reference: &str, _product: &str) -> Result<Vec<Held>, ProviderError> {
        let request = self.request(Method::GET, &["licenses"]).query(&[("reference", reference)]);
        let found: Found = self.call(request).await.map_err(of_a_look_up)?;
        // Searches may find more than what was asked for; only exact hits are ours.
        Ok(found.data.into_iter().filter(|license| license.reference == reference).map(held).collect())
    }

    async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
        let Terms { expires_at, seats, features } = &request.terms;
        request.terms.check()?;
        let body = NewLicense {
            reference: request.reference.clone(),
            product: request.product.clone(),
            purchase: request.purchase.clone(),
            customer: request.customer.clone(),
            expires_at: *expires_at,
            seats: *seats,
            features: features.clone(),
        };
        let made: License = self.call(self.request(Method::POST, &["licenses"]).json(&body)).await?;
        if made.reference != request.reference {
            let reason = format!("it is about `{}`, not `{}`", made.reference, request.reference);
            return Err(ProviderError::Indeterminate { source: CallError::Unreadable { reason } });
        }
        Ok(held(made))
    }

    async fn change(&self, target: &Target, change: &Change) -> Result<(), ProviderError> {
        let id = &target.provider_id;
        // Also keeps `.` and `..` out of the path, which would address another thing.
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(ProviderError::Refused { reason: format!("`{id}` is not an id of this engine") });
        }
        let patch = patch(change)?;
        self.call::<License>(self.request(Method::PATCH, &["licenses", id]).json(&patch)).await?;
        Ok(())
    }
}

fn patch(change: &Change) -> Result<Patch, ProviderError> {
    let state = |state| Patch { state: Some(state), ..Patch::default() };
    match change {
        Change::Suspend => Ok(state(State::Suspended)),
        Change::Reinstate => Ok(state(State::Active)),
        Change::Revoke => Ok(state(State::Revoked)),
        Change::Terms(terms) => {
            terms.check()?;
            Ok(Patch {
                expires_at: Some(terms.expires_at),
                seats: Some(terms.seats),
                features: Some(terms.features.clone()),
                state: None,
            })
        }
    }
}

fn held(license: License) -> Held {
    Held { provider_id: license.id, reference: license.reference, key: Some(Secret::new(license.key)) }
}

/// A look-up changes nothing: one of unknown outcome may simply be asked again.
fn of_a_look_up(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Indeterminate { source } => ProviderError::Unavailable { retry_after: None, source },
        other => other,
    }
}

/// In seconds; a date is passed over, since reading it would take a clock that agrees with theirs.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn base_url(text: &str) -> Result<Url, BuildError> {
    let url = Url::parse(text).map_err(|_| BuildError::BaseUrl(text.to_owned()))?;
    let plain = url.scheme() == "http" && url.host().is_some() && url.path() == "/" && url.query().is_none();
    if plain { Ok(url) } else { Err(BuildError::BaseUrl(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_are_taken() {
        for good in ["http://127.0.0.1:8090", "http://stub:1/"] {
            base_url(good).unwrap();
        }
        for bad in ["", "127.0.0.1:8090", "https://x", "http://x/v3", "http://x/?a=b", "ftp://x"] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn terms_are_sent_whole_and_never_expiring_as_null() {
        let terms = Terms { expires_at: None, seats: 2, features: ["a".to_owned()].into() };
        let sent = serde_json::to_value(patch(&Change::Terms(terms)).unwrap()).unwrap();
        assert_eq!(sent, serde_json::json!({"expires_at": null, "seats": 2, "features": ["a"]}));
    }

    #[test]
    fn zero_seats_are_never_sent() {
        let terms = Terms { expires_at: None, seats: 0, features: std::collections::BTreeSet::new() };
        assert!(matches!(patch(&Change::Terms(terms)), Err(ProviderError::Refused { .. })));
    }
}
