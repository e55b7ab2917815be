//! Carrying out one request at a license engine, within a bound of time. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_schemas::clock::Clock;
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
    /// An earlier create had made nothing, and a new one is not wanted.
    NothingMade,
    /// The engine is not configured, so nobody was asked.
    Unconfigured,
    /// Time ran out before the call was sent: somebody else may be asking by now.
    NotSent,
    /// It was not done.
    NotDone {
        /// The engine's answer.
        error: ProviderError,
        /// The engine was searched and holds no license with our reference.
        nothing_found: bool,
    },
}

/// Bounds calls: how long each may take, and until when one may be sent at all.
pub struct Gate {
    /// Where it reads the time.
    pub clock: Arc<dyn Clock>,
    /// From here on another worker may ask about the unit.
    pub until: Timestamp,
    /// How long one call may take.
    pub limit: Duration,
}

impl Gate {
    /// Whether a call that is sent now is over in time. A process that slept between announcing and sending must not send.
    fn is_open(&self) -> bool {
        self.clock.now().saturating_add(self.limit).is_ok_and(|over| over <= self.until)
    }

    /// Runs one call; running out of time leaves open what was done.
    async fn call<T>(&self, call: impl Future<Output = Result<T, ProviderError>>) -> Sent<T> {
        if !self.is_open() {
            return Sent::Not;
        }
        match timeout(self.limit, call).await {
            Ok(Ok(done)) => Sent::Done(done),
            Ok(Err(error)) => Sent::Failed(error),
            Err(_) => Sent::Failed(ProviderError::Indeterminate { source: CallError::Timeout { after: self.limit } }),
        }
    }
}

/// What became of one call.
enum Sent<T> {
    Done(T),
    Failed(ProviderError),
    Not,
}

/// Asks the engine.
pub async fn carry_out(provider: &dyn Provider, request: &Request, gate: &Gate) -> Outcome {
    let wanted = match request.action {
        Action::Create => return create(provider, request, gate).await,
        Action::SetTerms => Change::Terms(terms(&request.terms)),
        Action::Suspend => Change::Suspend,
        Action::Reinstate => Change::Reinstate,
        Action::Revoke => Change::Revoke,
    };
    let Some(id) = &request.provider_id else {
        let error = ProviderError::Refused { reason: "the license has no id at the engine".to_owned() };
        return Outcome::NotDone { error, nothing_found: false };
    };
    match change(provider, request, id, &wanted, gate).await {
        Sent::Done(()) => Outcome::Changed,
        Sent::Failed(error) => Outcome::NotDone { error, nothing_found: false },
        Sent::Not => Outcome::NotSent,
    }
}

/// Looks for a license with our reference first, always: a lost answer, a crash, or a second process may have left one.
async fn create(provider: &dyn Provider, request: &Request, gate: &Gate) -> Outcome {
    let reference = request.unit.reference(request.generation);
    let found = match gate.call(provider.find(&reference, &request.product)).await {
        Sent::Done(found) => found,
        Sent::Failed(error) => return Outcome::NotDone { error: harmless(error), nothing_found: false },
        Sent::Not => return Outcome::NotSent,
    };
    let mut exact: Vec<Held> = found.into_iter().filter(|held| held.reference == reference).collect();
    exact.sort_by(|a, b| a.provider_id.cmp(&b.provider_id));
    if !exact.is_empty() {
        return mend(provider, request, exact, gate).await;
    }
    if !request.may_create {
        return Outcome::NothingMade;
    }
    let wanted = Create {
        license: request.license,
        reference,
        product: request.product.clone(),
        terms: terms(&request.terms),
        purchase: request.unit.purchase.object.clone(),
        customer: request.customer.as_ref().map(|customer| customer.as_str().to_owned()),
    };
    match gate.call(provider.create(&wanted)).await {
        Sent::Done(held) => Outcome::Made { held, found: false, surplus: Vec::new() },
        Sent::Failed(error) => Outcome::NotDone { error, nothing_found: true },
        Sent::Not => Outcome::NotSent,
    }
}

/// Makes a license that was found as it should be: it was made for an earlier request, which may have asked for something else.
async fn mend(provider: &dyn Provider, request: &Request, mut found: Vec<Held>, gate: &Gate) -> Outcome {
    let held = found.remove(0);
    let surplus = found.into_iter().map(|held| held.provider_id).collect();
    match change(provider, request, &held.provider_id, &Change::Terms(terms(&request.terms)), gate).await {
        Sent::Done(()) => Outcome::Made { held, found: true, surplus },
        Sent::Failed(error) => Outcome::NotDone { error, nothing_found: false },
        Sent::Not => Outcome::NotSent,
    }
}

async fn change(
    provider: &dyn Provider,
    request: &Request,
    provider_id: &str,
    change: &Change,
    gate: &Gate,
) -> Sent<()> {
    let target = Target {
        license: request.license,
        reference: request.unit.reference(request.generation),
        provider_id: provider_id.to_owned(),
        product: request.product.clone(),
    };
    gate.call(provider.change(&target, change)).await
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

#[cfg(test)]
mod tests {
    use keyledger_schemas::clock::ManualClock;

    use super::*;

    fn gate(now: &str) -> Gate {
        let clock = Arc::new(ManualClock::at(now.parse().unwrap()));
        Gate { clock, until: "2026-01-01T00:00:20Z".parse().unwrap(), limit: Duration::from_secs(10) }
    }

    #[tokio::test]
    async fn a_call_is_sent_only_while_it_ends_in_time() {
        let sent = |now: &str| {
            let gate = gate(now);
            async move { matches!(gate.call(async { Ok(()) }).await, Sent::Done(())) }
        };
        assert!(sent("2026-01-01T00:00:10Z").await);
        // The process slept between announcing and sending: somebody else may be asking by now.
        assert!(!sent("2026-01-01T00:00:11Z").await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_leaves_open_what_was_done() {
        let answer = gate("2026-01-01T00:00:00Z").call(std::future::pending::<Result<(), ProviderError>>()).await;
        assert!(matches!(answer, Sent::Failed(ProviderError::Indeterminate { .. })));
    }
}
