//! Carrying out one request at a license engine, within a bound of time. Decides nothing.

use std::time::Duration;

use keyledger_schemas::event::{Action, LicenseTerms, NotDone};
use tokio::time::timeout;

use crate::provider::{CallError, Change, Create, Held, Provider, ProviderError, Target, Terms};
use crate::purchase::owed::Request;

/// How many calls one request makes at the most: look up, make or mend.
pub const CALLS_MAX: u32 = 2;

/// What came of a request.
#[derive(Debug)]
pub enum Outcome {
    /// The license exists now, and is as asked.
    Made {
        /// The license.
        held: Held,
        /// It was there already.
        found: bool,
        /// Engine's ids of more licenses with the same reference.
        surplus: Vec<String>,
    },
    /// The change was made.
    Changed,
    /// It was not done.
    NotDone {
        /// The engine's answer.
        error: ProviderError,
        /// The engine was searched and holds no license with our reference.
        nothing_found: bool,
    },
}

/// Asks the engine, waiting up to `limit` for each call.
pub async fn carry_out(provider: &dyn Provider, request: &Request, limit: Duration) -> Outcome {
    let done = match (request.action, &request.provider_id) {
        (Action::Create, _) => return create(provider, request, limit).await,
        (Action::SetTerms, Some(id)) => {
            change(provider, request, id, Change::Terms(terms(&request.terms)), limit).await
        }
        (Action::Suspend, Some(id)) => change(provider, request, id, Change::Suspend, limit).await,
        (Action::Reinstate, Some(id)) => change(provider, request, id, Change::Reinstate, limit).await,
        (Action::Revoke, Some(id)) => change(provider, request, id, Change::Revoke, limit).await,
        (_, None) => Err(ProviderError::Refused { reason: "the license has no id at the engine".to_owned() }),
    };
    match done {
        Ok(()) => Outcome::Changed,
        Err(error) => Outcome::NotDone { error, nothing_found: false },
    }
}

/// Looks for a license with our reference first, always: a lost answer, a crash, or a second process may have left one.
async fn create(provider: &dyn Provider, request: &Request, limit: Duration) -> Outcome {
    let reference = request.unit.reference(request.generation);
    let found = match within(limit, provider.find(&reference, &request.product)).await {
        Ok(found) => found,
        Err(error) => return Outcome::NotDone { error: harmless(error), nothing_found: false },
    };
    let mut exact: Vec<Held> = found.into_iter().filter(|held| held.reference == reference).collect();
    exact.sort_by(|a, b| a.provider_id.cmp(&b.provider_id));
    if !exact.is_empty() {
        let held = exact.remove(0);
        let surplus = exact.into_iter().map(|held| held.provider_id).collect();
        // It was made for an earlier request, which may have asked for something else.
        let wanted = Change::Terms(terms(&request.terms));
        return match change(provider, request, &held.provider_id, wanted, limit).await {
            Ok(()) => Outcome::Made { held, found: true, surplus },
            Err(error) => Outcome::NotDone { error, nothing_found: false },
        };
    }
    if !request.may_create {
        let reason = "no license was made, and none is owed any more".to_owned();
        return Outcome::NotDone { error: ProviderError::Refused { reason }, nothing_found: true };
    }
    let wanted = Create {
        license: request.license,
        reference,
        product: request.product.clone(),
        terms: terms(&request.terms),
        purchase: request.unit.purchase.object.clone(),
        customer: request.customer.as_ref().map(|customer| customer.as_str().to_owned()),
    };
    match within(limit, provider.create(&wanted)).await {
        Ok(held) => Outcome::Made { held, found: false, surplus: Vec::new() },
        Err(error) => Outcome::NotDone { error, nothing_found: true },
    }
}

async fn change(
    provider: &dyn Provider,
    request: &Request,
    provider_id: &str,
    change: Change,
    limit: Duration,
) -> Result<(), ProviderError> {
    let target = Target {
        license: request.license,
        reference: request.unit.reference(request.generation),
        provider_id: provider_id.to_owned(),
        product: request.product.clone(),
    };
    within(limit, provider.change(&target, &change)).await
}

/// Running out of time leaves open what was done.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
    match timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(ProviderError::Indeterminate { source: CallError::Timeout { after: limit } }),
    }
}

/// A look-up changes nothing: not knowing its answer is as good as none.
fn harmless(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Indeterminate { source } => ProviderError::Unavailable { retry_after: None, source },
        ProviderError::Refused { .. } | ProviderError::Unavailable { .. } => error,
    }
}

fn terms(terms: &LicenseTerms) -> Terms {
    Terms { expires_at: terms.expires_at, seats: terms.seats.max(1), features: terms.features.clone() }
}

/// How an engine's answer is recorded: which of the three it was, what was said, and how long to wait.
pub fn not_done(error: &ProviderError) -> (NotDone, String, Option<Duration>) {
    match error {
        ProviderError::Refused { reason } => (NotDone::Refused, reason.clone(), None),
        ProviderError::Unavailable { retry_after, source } => (NotDone::Unavailable, source.to_string(), *retry_after),
        ProviderError::Indeterminate { source } => (NotDone::Indeterminate, source.to_string(), None),
    }
}
