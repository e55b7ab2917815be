//! Calls to the world outside: one HTTP client for all, and for each service its own limits.
//!
//! A request is sent once. What its loss means differs by service, so nothing here tries again: whether a call is repeated
//! is decided from the log (design §5).

use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::provider::{CallError, ProviderError};

/// A longer answer is not read on.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A longer reason is cut: it is shown in a case.
const REASON_CHARS_MAX: usize = 200;

/// The longest that a service keeps us away by one answer.
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// How hard one service is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long one request may take, in milliseconds. Default 10000.
    pub timeout_ms: u64,
    /// Requests in a second, on average; bursts are no larger. Default 8.
    pub requests_per_second: u32,
    /// Requests at once. Default 4.
    pub requests_at_once: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout_ms: 10_000, requests_per_second: 8, requests_at_once: 4 }
    }
}

/// An address or a limit that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address cannot be used.
    #[error("`{0}` is not an http or https address without query and password")]
    Address(String),
    /// Nothing could ever be sent.
    #[error("`{0}` must be at least 1")]
    Zero(&'static str),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[from] reqwest::Error),
}

/// The one HTTP client. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Http {
    /// Checks servers by the system's certificates.
    secure: Client,
    /// For `http:` addresses, which need no certificates: a machine without any can still use them.
    plain: Client,
}

impl Http {
    /// Makes the client. Connecting may take `connect_timeout`.
    ///
    /// # Errors
    ///
    /// When the system's certificates cannot be read: install `ca-certificates`.
    pub fn new(connect_timeout: Duration) -> Result<Self, BuildError> {
        install_tls();
        let builder = || {
            Client::builder()
                .connect_timeout(connect_timeout)
                // A create must never be sent twice by a client that means well.
                .retry(reqwest::retry::never())
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("keyledger/", env!("CARGO_PKG_VERSION")))
        };
        let plain = builder().tls_certs_only([]).no_proxy().build()?;
        // Where there are no certificates, only what needs them fails, and says so.
        let secure = builder().build().unwrap_or_else(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot read the system's certificates, so no https address can be called: install ca-certificates"
            );
            plain.clone()
        });
        Ok(Self { secure, plain })
    }
}

/// Has TLS use the one implementation that this build contains. Doing it again changes nothing.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that the program has chosen one already.
        _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// One service: its address, the client, and its limits. Clones share the limits.
#[derive(Clone, Debug)]
pub struct Outbound {
    base: Url,
    http: Client,
    timeout: Duration,
    rate: Arc<DefaultDirectRateLimiter>,
    at_once: Arc<Semaphore>,
    /// Until when the service asked us to stay away.
    paused: Arc<Mutex<Option<Instant>>>,
}

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Outbound {
    /// The service at `base_url` (a path is kept and is where requests begin), called within `limits`.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting to mend.
    pub fn new(http: &Http, base_url: &str, limits: &Limits) -> Result<Self, BuildError> {
        let bad = || BuildError::Address(base_url.to_owned());
        let base = Url::parse(base_url).map_err(|_| bad())?;
        let known = ["http", "https"].contains(&base.scheme()) && base.host().is_some();
        let plain = base.query().is_none() && base.fragment().is_none() && base.username().is_empty();
        if !known || !plain || base.password().is_some() {
            return Err(bad());
        }
        let rate = std::num::NonZeroU32::new(limits.requests_per_second);
        let rate = Quota::per_second(rate.ok_or(BuildError::Zero("requests_per_second"))?);
        if limits.requests_at_once == 0 {
            return Err(BuildError::Zero("requests_at_once"));
        }
        if limits.timeout_ms == 0 {
            return Err(BuildError::Zero("timeout_ms"));
        }
        let client = if base.scheme() == "https" { &http.secure } else { &http.plain };
        Ok(Self {
            http: client.clone(),
            base,
            timeout: Duration::from_millis(limits.timeout_ms),
            rate: Arc::new(DefaultDirectRateLimiter::direct(rate)),
            at_once: Arc::new(Semaphore::new(limits.requests_at_once as usize)),
            paused: Arc::default(),
        })
    }

    /// A request to the path of these segments below the address. Each segment is escaped.
    pub fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url)
    }

    /// Sends one request, in its turn, and reads its answer, whatever its status. A 429 keeps the service alone for as long
    /// as it asks.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Unavailable`] when nothing was sent: no turn came in time, the service asked us to stay away, or it
    /// cannot be reached. [`ProviderError::Indeterminate`] when it was sent and no answer could be read.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, ProviderError> {
        if let Some(wait) = self.paused_for() {
            return Err(ProviderError::Unavailable { retry_after: Some(wait), source: CallError::Paused });
        }
        let turn = async {
            let permit = self.at_once.acquire().await;
            self.rate.until_ready().await;
            permit
        };
        let Ok(Ok(_permit)) = tokio::time::timeout(self.timeout, turn).await else {
            return Err(ProviderError::Unavailable { retry_after: None, source: CallError::Crowded });
        };
        let response = request.timeout(self.timeout).send().await.map_err(|error| self.not_answered(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status == StatusCode::TOO_MANY_REQUESTS
            && let Some(wait) = retry_after(&headers)
        {
            self.pause(wait);
        }
        let body = self.body(response).await.map_err(|source| ProviderError::Indeterminate { source })?;
        Ok(Answer { status, headers, body })
    }

    /// How long one request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    fn paused_for(&self) -> Option<Duration> {
        let until = *self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        until?.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())
    }

    fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait.min(PAUSE_MAX);
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = (*paused).max(Some(until));
    }

    /// Without a connection nothing was sent; afterward anything may have happened.
    fn not_answered(&self, error: reqwest::Error) -> ProviderError {
        // The address may hold what a search was for, and is said by the setting.
        let error = error.without_url();
        if error.is_connect() {
            ProviderError::Unavailable { retry_after: None, source: CallError::Http(error) }
        } else {
            ProviderError::Indeterminate { source: self.call_error(error) }
        }
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, CallError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.call_error(error.without_url()))? {
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

impl Answer {
    /// Reads the body of a success.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Indeterminate`] when it is not what was promised: the service did something.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ProviderError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // Where it went wrong, without what stood there.
            let reason = format!("at line {}, column {}: {:?}", error.line(), error.column(), error.classify());
            ProviderError::Indeterminate { source: CallError::Unreadable { reason } }
        })
    }

    /// What a status other than success means where HTTP statuses mean what they say. `reason` is what the service said,
    /// without personal data.
    pub fn failure(&self, reason: &str) -> ProviderError {
        let retry_after = retry_after(&self.headers);
        let source = CallError::Status { status: self.status.as_u16() };
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => ProviderError::Unavailable { retry_after, source },
            StatusCode::UNAUTHORIZED => {
                let source = CallError::Credentials { status: self.status.as_u16() };
                ProviderError::Unavailable { retry_after, source }
            }
            // A service that says when to come back has turned the call away; one that fails may have done it.
            StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => {
                ProviderError::Unavailable { retry_after, source }
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => ProviderError::Indeterminate { source },
            refused if refused.is_client_error() => {
                let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
                let said = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                ProviderError::Refused { reason: format!("status {}{said}", refused.as_u16()) }
            }
            _ => ProviderError::Indeterminate { source },
        }
    }
}

/// In seconds; a date is passed over, since reading it would take a clock that agrees with theirs.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> Http {
        Http::new(Duration::from_secs(1)).unwrap()
    }

    fn outbound(base: &str) -> Result<Outbound, BuildError> {
        Outbound::new(&http(), base, &Limits::default())
    }

    #[test]
    fn only_addresses_that_show_no_secret_are_taken() {
        for good in ["http://127.0.0.1:8090", "https://x/", "https://host/v1/accounts/a"] {
            outbound(good).unwrap();
        }
        for bad in ["", "127.0.0.1:8090", "http://x/?a=b", "ftp://x", "http://u:p@x", "http://u@x"] {
            assert!(outbound(bad).is_err(), "{bad}");
        }
        let zero = Limits { requests_per_second: 0, ..Limits::default() };
        assert!(matches!(Outbound::new(&http(), "http://x", &zero), Err(BuildError::Zero("requests_per_second"))));
    }

    #[test]
    fn segments_are_escaped_below_the_address() {
        let request = outbound("https://host/v1").unwrap().request(Method::GET, &["users", "a/b@x"]).build().unwrap();
        assert_eq!(request.url().as_str(), "https://host/v1/users/a%2Fb@x");
    }

    #[tokio::test]
    async fn a_service_that_cannot_be_reached_was_sent_nothing() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let service = outbound(&format!("http://{address}")).unwrap();
        let answer = service.send(service.request(Method::GET, &["x"])).await;
        assert!(matches!(answer, Err(ProviderError::Unavailable { source: CallError::Http(_), .. })));
    }

    #[tokio::test]
    async fn a_service_that_asked_for_it_is_left_alone() {
        let service = outbound("http://127.0.0.1:9").unwrap();
        service.pause(Duration::from_mins(1));
        let answer = service.clone().send(service.request(Method::GET, &["x"])).await;
        let Err(ProviderError::Unavailable { retry_after: Some(wait), source: CallError::Paused }) = answer else {
            panic!("{answer:?}")
        };
        assert!(wait <= Duration::from_mins(1) && wait > Duration::from_secs(50));
    }
}
