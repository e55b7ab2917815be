//! Carrying out one request at a license engine, within a bound of time. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_schemas::clock::Clock;
use keyledger_schemas::event::{Action, LicenseTerms, NotDone};
use keyledger_schemas::ids::UnitId;
use tokio::time::timeout;

use crate::provider::{
    Adopt, CallError, Capabilities, Change, Create, Customer, Held, Person, Provider, ProviderError, Sale, Target,
    Terms,
};
use crate::purchase::owed::Request;

/// How many calls one request makes at the most, and one more: a call is sent only where a whole one still fits, and some of
/// the time passes between announcing and sending. To make a license: look for ours, look for the customer, look for one
/// that another integration made, then make ours or adopt that one. To adopt: look for the customer, then adopt; or look for
/// what a lost call left, then set its terms.
pub fn calls_max(action: Action, engine: &Capabilities) -> u32 {
    let customer = u32::from(engine.keeps_customers);
    let calls = match action {
        Action::Create => 3 + customer,
        Action::Adopt => 2,
        Action::SetTerms | Action::Suspend | Action::Reinstate | Action::Revoke => 1,
    };
    calls + 1
}

/// What named a license that an engine held for the purchase already.
const BY_PURCHASE: &str = "purchase";

/// Whose a license will be at an engine that keeps customers.
#[derive(Debug)]
pub enum Owner {
    /// The engine keeps none, or the license is not made.
    Nobody,
    /// The engine's own id for them, as recorded.
    Known(String),
    /// They are to be found or made there.
    Asked(Person),
}

/// What came of a request, and who was found or made at the engine on the way.
#[derive(Debug)]
pub struct Done {
    /// What came of the request itself.
    pub outcome: Outcome,
    /// Who was found or made, whatever became of the license after it.
    pub customer: Option<Customer>,
}

/// What came of a request.
#[derive(Debug)]
pub enum Outcome {
    /// The license exists now, and is as asked.
    Made {
        /// The license.
        held: Held,
        /// It was there already.
        found: bool,
        /// What named it, where somebody else had made it.
        adopted: Option<String>,
        /// Engine's ids of more licenses with the same reference, or made for the same purchase.
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

/// Asks the engine. Who owns a license that is made or adopted is found out on the way.
pub async fn carry_out(provider: &dyn Provider, request: &Request, owner: Owner, gate: &Gate) -> Done {
    let mut calls = Calls { provider, request, gate, owner, customer: None };
    let outcome = match request.action {
        Action::Create => calls.create().await,
        Action::Adopt => calls.adopt_named().await,
        Action::SetTerms | Action::Suspend | Action::Reinstate | Action::Revoke => {
            change_held(provider, request, gate).await
        }
    };
    Done { outcome, customer: calls.customer }
}

async fn change_held(provider: &dyn Provider, request: &Request, gate: &Gate) -> Outcome {
    let wanted = match request.action {
        Action::Create | Action::Adopt => unreachable!("these make a license"),
        Action::SetTerms => Change::Terms(terms(request)),
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

/// The calls of one request that makes a license.
struct Calls<'a> {
    provider: &'a dyn Provider,
    request: &'a Request,
    gate: &'a Gate,
    owner: Owner,
    customer: Option<Customer>,
}

/// What came of a step: what it gave, or why the request ends here.
type Step<T> = Result<T, Outcome>;

impl Calls<'_> {
    async fn create(&mut self) -> Outcome {
        self.try_create().await.unwrap_or_else(|ended| ended)
    }

    async fn adopt_named(&mut self) -> Outcome {
        self.try_adopt().await.unwrap_or_else(|ended| ended)
    }

    /// Looks for a license with our reference first, always: a lost answer, a crash, or a second process may have left one.
    async fn try_create(&mut self) -> Step<Outcome> {
        let found = self.find().await?;
        if !found.is_empty() {
            // Who made it died before the customer was recorded, if they are not known by now.
            self.owner(false).await?;
            return Ok(mend(self.provider, self.request, found, self.gate).await);
        }
        if !self.request.may_create {
            return Ok(Outcome::NothingMade);
        }
        let owner = self.owner(true).await?;
        if let Some(outcome) = self.adopt_unclaimed(owner.clone()).await? {
            return Ok(outcome);
        }
        let request = self.request;
        let wanted = Create {
            license: request.license,
            reference: reference(request),
            product: request.product.clone(),
            terms: terms(request),
            options: request.mapping.options.clone(),
            sale: sale(request),
            customer: request.customer.as_ref().map(|customer| customer.as_str().to_owned()),
            owner,
        };
        Ok(match self.gate.call(self.provider.create(&wanted)).await {
            Sent::Done(held) => Outcome::Made { held, found: false, adopted: None, surplus: Vec::new() },
            Sent::Failed(error) => Outcome::NotDone { error, nothing_found: true },
            Sent::Not => Outcome::NotSent,
        })
    }

    /// Has the license that was named become ours. It is safe to repeat, so a lost answer is simply asked for again.
    async fn try_adopt(&mut self) -> Step<Outcome> {
        let request = self.request;
        let Some(named) = &request.named else { return Ok(refused("no license was named".to_owned())) };
        if !request.may_create {
            // Without a product nothing was ever sent.
            if request.product.is_empty() {
                return Ok(Outcome::NothingMade);
            }
            let found = self.find().await?;
            if found.is_empty() {
                return Ok(Outcome::NothingMade);
            }
            // Our reference may be all that the lost call wrote.
            return Ok(match mend(self.provider, request, found, self.gate).await {
                Outcome::Made { held, found, surplus, .. } => {
                    Outcome::Made { held, found, adopted: Some(named.by.clone()), surplus }
                }
                ended => ended,
            });
        }
        if request.product.is_empty() {
            return Ok(refused(format!(
                "the price is not mapped to a product at `{0}`, so no license there can be checked: map the price to \
                 `{0}` in the catalog, then try again",
                request.provider
            )));
        }
        let owner = self.owner(false).await?;
        Ok(self.adopt(&named.text, &named.by, owner, Vec::new()).await)
    }

    /// Licenses that carry our reference, in the order of their ids.
    async fn find(&self) -> Step<Vec<Held>> {
        let reference = reference(self.request);
        match self.gate.call(self.provider.find(&reference, &self.request.product)).await {
            Sent::Done(found) => {
                let mut exact: Vec<Held> = found.into_iter().filter(|held| held.reference == reference).collect();
                exact.sort_by(|a, b| a.provider_id.cmp(&b.provider_id));
                Ok(exact)
            }
            Sent::Failed(error) => Err(Outcome::NotDone { error: harmless(error), nothing_found: false }),
            Sent::Not => Err(Outcome::NotSent),
        }
    }

    /// The engine's own id for the customer. While that is not known, no license is made.
    async fn owner(&mut self, nothing_found: bool) -> Step<Option<String>> {
        let person = match &self.owner {
            Owner::Nobody => return Ok(None),
            Owner::Known(id) => return Ok(Some(id.clone())),
            Owner::Asked(person) => person,
        };
        match self.gate.call(self.provider.customer(person)).await {
            Sent::Done(customer) => {
                let id = customer.id.clone();
                self.customer = Some(customer);
                Ok(Some(id))
            }
            Sent::Failed(error) => {
                let settle = self.provider.capabilities().settle;
                Err(Outcome::NotDone { error: asked_again(error, settle), nothing_found })
            }
            Sent::Not => Err(Outcome::NotSent),
        }
    }

    /// A license that another integration made for this sale is taken instead of making one. Only a unit that never had one
    /// takes it: what is left beside a license of ours is for a person.
    async fn adopt_unclaimed(&self, owner: Option<String>) -> Step<Option<Outcome>> {
        if self.request.generation > 1 {
            return Ok(None);
        }
        let (sale, product) = (sale(self.request), &self.request.product);
        let mut unclaimed = match self.gate.call(self.provider.find_unclaimed(&sale, product)).await {
            Sent::Done(unclaimed) => unclaimed,
            Sent::Failed(error) => return Err(Outcome::NotDone { error: harmless(error), nothing_found: true }),
            Sent::Not => return Err(Outcome::NotSent),
        };
        if unclaimed.is_empty() {
            return Ok(None);
        }
        let first = unclaimed.remove(0).provider_id;
        let others = if self.request.alone { unclaimed } else { Vec::new() };
        let surplus = others.into_iter().map(|held| held.provider_id).collect();
        Ok(Some(self.adopt(&first, BY_PURCHASE, owner, surplus).await))
    }

    async fn adopt(&self, named: &str, by: &str, owner: Option<String>, surplus: Vec<String>) -> Outcome {
        let request = self.request;
        let wanted = Adopt {
            named: named.to_owned(),
            license: request.license,
            reference: reference(request),
            product: request.product.clone(),
            terms: terms(request),
            sale: sale(request),
            owner,
        };
        match self.gate.call(self.provider.adopt(&wanted)).await {
            Sent::Done(held) => Outcome::Made { held, found: true, adopted: Some(by.to_owned()), surplus },
            Sent::Failed(error) => Outcome::NotDone { error, nothing_found: false },
            Sent::Not => Outcome::NotSent,
        }
    }
}

fn reference(request: &Request) -> String {
    request.unit.reference(request.generation)
}

fn refused(reason: String) -> Outcome {
    Outcome::NotDone { error: ProviderError::Refused { reason }, nothing_found: false }
}

/// Makes a license that was found as it should be: it was made for an earlier request, which may have asked for something else.
async fn mend(provider: &dyn Provider, request: &Request, mut found: Vec<Held>, gate: &Gate) -> Outcome {
    let held = found.remove(0);
    let surplus = found.into_iter().map(|held| held.provider_id).collect();
    match change(provider, request, &held.provider_id, &Change::Terms(terms(request)), gate).await {
        Sent::Done(()) => Outcome::Made { held, found: true, adopted: None, surplus },
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
        reference: reference(request),
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

fn terms(request: &Request) -> Terms {
    let LicenseTerms { expires_at, seats, features, .. } = &request.terms;
    Terms {
        expires_at: *expires_at,
        seats: (*seats).max(1),
        features: features.clone(),
        max_release: request.mapping.max_release.clone(),
    }
}

fn sale(request: &Request) -> Sale {
    let UnitId { purchase, item, .. } = &request.unit;
    Sale { purchase: purchase.object.clone(), item: item.clone(), payment: request.payment.clone() }
}

/// A customer who may or may not have been made is looked for again, once the engine shows what it made. No license was asked
/// for, so none is in doubt.
fn asked_again(error: ProviderError, settle: Duration) -> ProviderError {
    match error {
        ProviderError::Indeterminate { source } => {
            ProviderError::Unavailable { retry_after: (!settle.is_zero()).then_some(settle), source }
        }
        ProviderError::Refused { .. } | ProviderError::Unavailable { .. } => error,
    }
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
