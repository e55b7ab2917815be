//! The provider that talks to the stub engine over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::secret::Secret;
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::wire::{Found, License, NewLicense, Patch, Problem, State};
use crate::outbound::{BuildError, Http, Limits, Outbound};
use crate::provider::{CallError, Capabilities, Change, Create, Held, Provider, ProviderError, Target, Terms};

/// Settings of a stub provider, `[provider.stub]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where the stub engine listens. Default `http://127.0.0.1:8090`.
    pub base_url: String,
    /// How long a call may take, in milliseconds. Default 10000.
    pub timeout_ms: u64,
    /// Requests in a second, on average. Default 1000.
    pub requests_per_second: u32,
    /// Requests at once. Default 24.
    pub requests_at_once: u32,
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
            requests_per_second: 1_000,
            requests_at_once: 24,
            settle_ms: 1_000,
            enforces_expiry: true,
            reinstates_revoked: true,
        }
    }
}

/// A stub engine as a provider.
#[derive(Clone, Debug)]
pub struct Stub {
    name: ProviderName,
    engine: Outbound,
    capabilities: Capabilities,
}

impl Stub {
    /// The provider `name` at the address in `options`. Nothing is called yet.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting to mend.
    pub fn new(name: ProviderName, options: &Options, http: &Http) -> Result<Self, BuildError> {
        let limits = Limits {
            timeout_ms: options.timeout_ms,
            requests_per_second: options.requests_per_second,
            requests_at_once: options.requests_at_once,
        };
        let capabilities = Capabilities {
            settle: Duration::from_millis(options.settle_ms),
            enforces_expiry: options.enforces_expiry,
            reinstates_revoked: options.reinstates_revoked,
            keeps_customers: false,
        };
        Ok(Self { name, engine: Outbound::new(http, &options.base_url, &limits)?, capabilities })
    }

    /// Sends one request and reads its answer.
    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ProviderError> {
        let answer = self.engine.send(request).await?;
        if !answer.status.is_success() {
            let problem = serde_json::from_slice::<Problem>(&answer.body);
            return Err(answer.failure(&problem.map(|problem| problem.message).unwrap_or_default()));
        }
        answer.json()
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
        let request = self.engine.request(Method::GET, &["licenses"]).query(&[("reference", reference)]);
        let found: Found = self.call(request).await.map_err(of_a_look_up)?;
        // Searches may find more than what was asked for; only exact hits are ours.
        Ok(found.data.into_iter().filter(|license| license.reference == reference).map(held).collect())
    }

    async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
        let Terms { expires_at, seats, features, .. } = &request.terms;
        request.terms.check()?;
        let body = NewLicense {
            reference: request.reference.clone(),
            product: request.product.clone(),
            purchase: request.sale.purchase.clone(),
            customer: request.customer.clone(),
            expires_at: *expires_at,
            seats: *seats,
            features: features.clone(),
        };
        let made: License = self.call(self.engine.request(Method::POST, &["licenses"]).json(&body)).await?;
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
        self.call::<License>(self.engine.request(Method::PATCH, &["licenses", id]).json(&patch)).await?;
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
    Held {
        provider_id: license.id,
        reference: license.reference,
        key: Some(Secret::new(license.key)),
        also: BTreeMap::new(),
    }
}

/// A look-up changes nothing: one of unknown outcome may simply be asked again.
fn of_a_look_up(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Indeterminate { source } => ProviderError::Unavailable { retry_after: None, source },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn terms_are_sent_whole_and_never_expiring_as_null() {
        let terms = Terms { expires_at: None, seats: 2, features: ["a".to_owned()].into(), max_release: None };
        let sent = serde_json::to_value(patch(&Change::Terms(terms)).unwrap()).unwrap();
        assert_eq!(sent, serde_json::json!({"expires_at": null, "seats": 2, "features": ["a"]}));
    }

    #[test]
    fn zero_seats_are_never_sent() {
        let terms = Terms { expires_at: None, seats: 0, features: BTreeSet::new(), max_release: None };
        assert!(matches!(patch(&Change::Terms(terms)), Err(ProviderError::Refused { .. })));
    }
}
