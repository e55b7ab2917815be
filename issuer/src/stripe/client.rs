//! A thin client: one request, its answer or what its failure means. It tries nothing again.
//!
//! A read can always be repeated. A write carries an idempotency key that its caller derives from what is to be done, so
//! that it can be repeated too, for a day (<https://docs.stripe.com/api/idempotent_requests>).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_schemas::clock::Clock;
use keyledger_schemas::ids::{AccountId, CustomerId, SubscriptionId};
use keyledger_schemas::secret::Secret;
use keyledger_schemas::stripe::fetched::{Fetched, is_whole, with_list};
use reqwest::header::{DATE, HeaderMap};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::pages::{Page, collect};
use super::{Options, VERSION};
use crate::outbound::{Answer, BuildError, Http, Outbound, retry_after};
use crate::provider::{CallError, ProviderError};

pub use super::want::Want;

/// An object has no more lines than this for us; one that does is kept with the ten that it shows.
const LINES_MAX: usize = 2_000;

/// Why Stripe did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StripeError {
    /// A definite no: asking again will not help.
    #[error("Stripe refused the request with status {status} ({})", code.as_deref().unwrap_or("no code"))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Stripe's word for it, e.g. `resource_missing`.
        code: Option<String>,
        /// The request's id at Stripe, to be found in its dashboard.
        request_id: Option<String>,
    },
    /// Asking again later may help. A write may have been done: repeat it with the same idempotency key.
    #[error("Stripe's API is unavailable")]
    Unavailable {
        /// How long Stripe asked us to wait.
        retry_after: Option<Duration>,
        /// What happened.
        #[source]
        source: CallError,
    },
}

impl StripeError {
    /// Whether Stripe knows no such object, in the account and the mode of the key.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether the account is not, or no longer, connected.
    pub fn is_not_connected(&self) -> bool {
        matches!(self, Self::Refused { status: 403, .. })
    }
}

impl From<ProviderError> for StripeError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Unavailable { retry_after, source } => Self::Unavailable { retry_after, source },
            ProviderError::Indeterminate { source } => Self::Unavailable { retry_after: None, source },
            ProviderError::Refused { reason } => unreadable(reason),
        }
    }
}

/// What metadata can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A subscription.
    Subscription(SubscriptionId),
    /// A customer.
    Customer(CustomerId),
}

/// Stripe's API with one key, for one account. Clones share limits.
#[derive(Clone)]
pub struct Client {
    outbound: Outbound,
    key: Secret,
    clock: Arc<dyn Clock>,
    account: Option<AccountId>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("account", &self.account).finish_non_exhaustive()
    }
}

/// An answer that can be read.
pub(super) struct Read {
    pub(super) body: Vec<u8>,
    /// When it was so.
    pub(super) at: Timestamp,
}

impl Client {
    /// A client with `key`. Nothing is called yet.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting to mend.
    pub fn new(options: &Options, key: Secret, http: &Http, clock: Arc<dyn Clock>) -> Result<Self, BuildError> {
        let outbound = Outbound::new(http, &options.api_base, &options.limits())?;
        Ok(Self { outbound, key, clock, account: None })
    }

    /// The same for a connected account; `None` is the key's own.
    #[must_use]
    pub fn of(&self, account: Option<&AccountId>) -> Self {
        Self { account: account.cloned(), ..self.clone() }
    }

    /// Asks for something, all of it: lists inside objects are read to their end.
    ///
    /// # Errors
    ///
    /// See [`StripeError`].
    pub async fn fetch(&self, want: &Want) -> Result<Fetched, StripeError> {
        let place = want.place();
        let query = want.query();
        let (answer, at) = if want.is_list() {
            let page = self.page(&place, &[&query[..], &[("limit", "100".to_owned())]].concat()).await?;
            let at = page.at;
            (page.rest(self, &place, &query, LINES_MAX).await?, at)
        } else {
            let read = self.read(&place, &query).await?;
            let object: Value = serde_json::from_slice(&read.body).map_err(|error| unreadable(says(&error)))?;
            (self.complete(want, object).await?, read.at)
        };
        let object = match want {
            Want::Related(_) => answer["object"].as_str().unwrap_or_else(|| want.object()).to_owned(),
            _ => want.object().to_owned(),
        };
        Ok(Fetched { object, about: want.about().to_owned(), at, path: want.path(), answer })
    }

    /// Writes metadata: other keys stay, an empty value takes its key away. Gives the object as it is then.
    ///
    /// # Errors
    ///
    /// See [`StripeError`]. After [`StripeError::Unavailable`] it may have been written: repeat it with the same key.
    pub async fn write_metadata(
        &self,
        holder: &Holder,
        values: &BTreeMap<String, String>,
        idempotency_key: &str,
    ) -> Result<Value, StripeError> {
        let path = match holder {
            Holder::Subscription(id) => format!("/v1/subscriptions/{id}"),
            Holder::Customer(id) => format!("/v1/customers/{id}"),
        };
        let form: Vec<_> = values.iter().map(|(key, value)| (format!("metadata[{key}]"), value.as_str())).collect();
        let request = self.request(Method::POST, &path).header("Idempotency-Key", idempotency_key).form(&form);
        let read = self.send(request).await?;
        serde_json::from_slice(&read.body).map_err(|error| unreadable(says(&error)))
    }

    /// Sends one GET.
    pub(super) async fn read(&self, path: &str, query: &[(&str, String)]) -> Result<Read, StripeError> {
        self.send(self.request(Method::GET, path).query(query)).await
    }

    /// One page of a list.
    pub(super) async fn page(&self, path: &str, query: &[(&str, String)]) -> Result<Page, StripeError> {
        let read = self.read(path, query).await?;
        Page::of(&read).map_err(|error| unreadable(says(&error)))
    }

    /// The object with the lists that Stripe cut.
    async fn complete(&self, want: &Want, object: Value) -> Result<Value, StripeError> {
        let about = || want.about().to_owned();
        let inner = match object["object"].as_str().unwrap_or_default() {
            "checkout.session" => {
                vec![("line_items", format!("/v1/checkout/sessions/{}/line_items", want.about()), vec![])]
            }
            "invoice" => vec![
                ("lines", format!("/v1/invoices/{}/lines", want.about()), vec![]),
                ("payments", "/v1/invoice_payments".to_owned(), vec![("invoice", about())]),
            ],
            "subscription" => vec![("items", "/v1/subscription_items".to_owned(), vec![("subscription", about())])],
            _ => Vec::new(),
        };
        let mut object = object;
        for (name, path, query) in inner {
            // What was not asked for is not there.
            if object.get(name).is_none() || is_whole(&object, name) {
                continue;
            }
            if let Some(all) = collect(self, &path, &query, LINES_MAX).await? {
                object = with_list(object, name, all);
            }
        }
        Ok(object)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let request = self.outbound.request(method, &segments).header("Stripe-Version", VERSION);
        let request = request.bearer_auth(self.key.expose());
        match &self.account {
            Some(account) => request.header("Stripe-Account", account.as_str()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Read, StripeError> {
        // What is true when we ask may change until the answer is here, but not the other way around.
        let asked = self.clock.now();
        let answer = self.outbound.send(request).await?;
        if !answer.status.is_success() {
            return Err(failure(&answer));
        }
        // Stripe's own clock dates its events, so it wins where ours is ahead.
        let at = said_at(&answer.headers).map_or(asked, |said| said.min(asked));
        let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
        Ok(Read { body: answer.body, at })
    }
}

/// When Stripe says that it answered.
fn said_at(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}

/// What an answer other than success means. `Stripe-Should-Retry` has the last word where it is given, except that nobody is
/// turned away for good by an overload or an outage.
fn failure(answer: &Answer) -> StripeError {
    let status = answer.status;
    let word = |name: &str| Some(answer.headers.get(name)?.to_str().ok()?.to_owned());
    let code = serde_json::from_slice::<Problem>(&answer.body).ok().and_then(|problem| problem.error.code);
    let code = code.map(|code| code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect());
    let source = CallError::Status { status: status.as_u16() };
    let later = |source| StripeError::Unavailable { retry_after: retry_after(&answer.headers), source };
    let refused = StripeError::Refused { status: status.as_u16(), code: code.clone(), request_id: word("request-id") };
    // A key that is wrong, or that lacks a permission, is a setting to mend; an account that left is not.
    let of_key = status == StatusCode::UNAUTHORIZED
        || (status == StatusCode::FORBIDDEN && code.as_deref() != Some("account_invalid"));
    if of_key {
        return later(CallError::Credentials { status: status.as_u16() });
    }
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT || !status.is_client_error() {
        return later(source);
    }
    match word("stripe-should-retry").as_deref() {
        Some("true") => later(source),
        Some("false") => refused,
        _ if status == StatusCode::CONFLICT => later(source),
        _ => refused,
    }
}

#[derive(Deserialize)]
struct Problem {
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    code: Option<String>,
}

/// Where it went wrong, without what stood there.
pub(super) fn says(error: &serde_json::Error) -> String {
    format!("at line {}, column {}: {:?}", error.line(), error.column(), error.classify())
}

pub(super) fn unreadable(reason: String) -> StripeError {
    StripeError::Unavailable { retry_after: None, source: CallError::Unreadable { reason } }
}
