//! What an engine brings to be held to the contract, and what all cases use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyledger_issuer::outbound::{Http, Limits};
use keyledger_issuer::provider::{Adopt, Change, Create, Held, Person, Provider, ProviderError, Sale, Target, Terms};
use keyledger_sandbox::faults::{Fault, Rule};
use keyledger_schemas::ids::LicenseId;
use uuid::Uuid;

/// Long enough for a busy machine; only calls that are meant to run out of time take a shorter one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What time stand-ins that have a clock take it to be.
pub const NOW: &str = "2026-12-01T00:00:00Z";

/// The token of every stand-in. It must never be seen in an error.
pub const TOKEN: &str = "tok_zWq8secret";

/// Kinds of calls, to be mapped to a stand-in's operation: the one request of such a call that commits, or for `Find` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The request that makes a license.
    Create,
    /// A request that looks for licenses by reference.
    Find,
    /// The request that sets expiry.
    Change,
    /// The request that makes a customer.
    Customer,
}

/// A license that a person makes at the engine.
#[derive(Clone, Debug, Default)]
pub struct Hand {
    /// The engine's product.
    pub product: String,
    /// It carries this where we write our reference.
    pub reference: Option<String>,
    /// It carries this in a place that is like the one of our reference but is not it.
    pub elsewhere: Option<String>,
    /// It carries this as the vendor's own integration writes the subscription.
    pub subscription: Option<String>,
    /// It belongs to this customer (the engine's id).
    pub owner: Option<String>,
    /// `None` for no limit.
    pub seats: Option<u32>,
    /// Something a person wrote into its notes or metadata.
    pub note: Option<String>,
    /// It is suspended, or blocked.
    pub stopped: bool,
}

/// A license as the engine holds it, in neutral words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The engine's own id, as providers give it.
    pub id: String,
    /// What stands where we write our reference.
    pub reference: Option<String>,
    /// Our names for the features it allows, beside what its product gives anyway.
    pub features: BTreeSet<String>,
    /// `None` for never.
    pub expires_at: Option<Timestamp>,
    /// `None` for no limit.
    pub seats: Option<u32>,
    /// It works until it expires: neither suspended nor revoked nor blocked.
    pub works: bool,
    /// The engine's id for its customer.
    pub owner: Option<String>,
    /// What [`Hand::note`] said, if it is still there, exactly.
    pub note: Option<String>,
}

/// A customer as the engine holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPerson {
    /// The engine's own id.
    pub id: String,
    /// The name, all of it.
    pub name: String,
    /// The address; empty for none.
    pub email: String,
}

/// An engine over its stand-in, or the built-in one by itself. Constants say what kind of engine it is; a case that an engine
/// has no use for passes at once.
pub trait Subject: Sized {
    /// It is called over HTTP, so that calls can fail. Without: the cases about failing pass.
    const WIRE: bool;
    /// Our choice of id makes two creates for one reference impossible.
    const ATOMIC: bool;
    /// Licenses that others made can be adopted and swept.
    const ADOPTS: bool;
    /// How much later than asked an expiry may be.
    const LATE_MAX: SignedDuration = SignedDuration::ZERO;
    /// An expiry can be moved to an earlier time.
    const SHORTENS: bool = true;
    /// It tells customers apart by address alone.
    const SHARES_BY_ADDRESS: bool = false;
    /// A customer without an address cannot be made.
    const NEEDS_ADDRESS: bool = true;
    /// Its customers can be swept.
    const LISTS_CUSTOMERS: bool = false;
    /// An unknown owner is refused when a license is made.
    const CHECKS_OWNER: bool = true;
    /// Products and features it does not know are refused.
    const KNOWS_PRODUCTS: bool = true;
    /// Statuses that say no.
    const REFUSALS: &'static [u16] = &[400, 403, 404, 422];
    /// What `prepare` names when the token is bad, so that a person knows what to mend; empty for an engine without one.
    const SETTING: &'static str;

    /// A fresh stand-in, served.
    async fn start() -> Self;

    /// Stops it, and serves it again with what it held, at the same or another address.
    async fn restart(&mut self);

    /// Stops it.
    async fn stop(&mut self);

    /// The provider that calls it; one request may take `timeout`. Settle time: 600 ms at least.
    fn provider(&self, timeout: Duration) -> Arc<dyn Provider>;

    /// A product to sell.
    fn product(&self) -> String;

    /// Another product, at which a license is not of ours.
    fn other_product(&self) -> String;

    /// Two feature names that its settings know.
    fn features(&self) -> [&'static str; 2];

    /// It does this at the next call of that kind.
    async fn misbehave(&self, call: Call, fault: Fault);

    /// So many calls of any kind go well from now on, and the next does this. Asked only where licenses can be adopted.
    async fn break_off_after(&self, calls: u32, fault: Fault) {
        _ = (calls, fault);
    }

    /// From now on it does these with these probabilities, at all calls.
    async fn mix(&self, faults: &[(f64, Fault)]);

    /// New licenses stay invisible to searches for so long.
    async fn lag(&self, lag: Duration);

    /// Its token has run out.
    async fn expire_token(&self);

    /// How many requests it was asked.
    async fn calls(&self) -> u64;

    /// All licenses it holds. The built-in engine holds none.
    async fn held(&self) -> Vec<Seen>;

    /// How many licenses were ever made by calls for this reference.
    async fn creates(&self, reference: &str) -> u64;

    /// All customers it holds.
    async fn people(&self) -> Vec<SeenPerson>;

    /// A person makes a license. Gives the name by which a person would attach it.
    async fn make_by_hand(&self, hand: &Hand) -> String;
}

/// So many calls that go well, and one that does not.
pub fn well_and_then(calls: u32, fault: Fault) -> Vec<Rule> {
    let rule = |count, fault| Rule { operation: "any".to_owned(), about: None, count: Some(count), fault };
    vec![rule(calls, Fault::Slow { delay_ms: 0 }), rule(1, fault)]
}

/// Limits that never hold up a test.
pub fn limits(timeout: Duration) -> Limits {
    Limits {
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap(),
        requests_per_second: 10_000,
        requests_at_once: 64,
    }
}

/// The HTTP client.
pub fn http() -> Http {
    Http::new(Duration::from_secs(5)).unwrap()
}

/// A client for what a stand-in answers to a test itself.
pub fn client() -> reqwest::Client {
    keyledger_issuer::outbound::install_tls();
    reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap()
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn terms(expires_at: Option<&str>, seats: u32, features: &[&str]) -> Terms {
    Terms {
        expires_at: expires_at.map(at),
        seats,
        features: features.iter().map(|&name| name.to_owned()).collect(),
        max_release: None,
    }
}

/// Somebody with a name and an address of their own.
pub fn person(number: u32) -> Person {
    Person {
        customer: format!("cus_{number}"),
        email: Some(format!("buyer{number}@example.com")),
        name: Some(format!("Buyer {number}")),
        known: None,
        named: None,
        failures: 0,
    }
}

/// A license to be made: three seats, one feature, until 4 January 2027, for customer 1, who is made where the engine keeps
/// customers.
pub async fn request<S: Subject>(subject: &S, provider: &dyn Provider, number: u128) -> Create {
    let license = LicenseId(Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes()));
    let owner = if provider.capabilities().keeps_customers {
        Some(provider.customer(&person(1)).await.unwrap().id)
    } else {
        None
    };
    Create {
        license,
        reference: format!("kl-{}", license.0.simple()),
        product: subject.product(),
        terms: terms(Some("2027-01-04T00:00:00Z"), 3, &[subject.features()[0]]),
        options: BTreeMap::new(),
        sale: Sale { purchase: format!("sub_{number}"), item: format!("si_{number}"), payment: None },
        customer: Some("cus_1".to_owned()),
        owner,
    }
}

pub fn target(request: &Create, held: &Held) -> Target {
    Target {
        license: request.license,
        reference: request.reference.clone(),
        provider_id: held.provider_id.clone(),
        product: request.product.clone(),
    }
}

/// Adopting what a person made, for what `request` would have made.
pub fn adopting(request: &Create, named: &str) -> Adopt {
    Adopt {
        named: named.to_owned(),
        license: request.license,
        reference: request.reference.clone(),
        product: request.product.clone(),
        terms: request.terms.clone(),
        sale: request.sale.clone(),
        owner: request.owner.clone(),
    }
}

/// Has the license made as the issuer does: look first, make or bring up to date, and after an unknown outcome wait for the
/// settle time before looking again.
pub async fn ensure(provider: &dyn Provider, request: &Create) -> Held {
    let asking = async {
        loop {
            let failed = match provider.find(&request.reference, &request.product).await {
                Ok(found) => match found.into_iter().find(|held| held.reference == request.reference) {
                    Some(held) => {
                        let change = Change::Terms(request.terms.clone());
                        match provider.change(&target(request, &held), &change).await {
                            Ok(()) => return held,
                            Err(error) => error,
                        }
                    }
                    None => match provider.create(request).await {
                        Ok(held) => return held,
                        Err(error) => error,
                    },
                },
                Err(error) => error,
            };
            match failed {
                ProviderError::Refused { reason } => panic!("refused: {reason}"),
                ProviderError::Unavailable { retry_after, .. } => {
                    tokio::time::sleep(retry_after.unwrap_or(Duration::from_millis(10))).await;
                }
                ProviderError::Indeterminate { .. } => tokio::time::sleep(provider.capabilities().settle).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap()
}

/// Asks for a change until it is done.
pub async fn change(provider: &dyn Provider, target: &Target, wanted: Change) {
    provider.change(target, &wanted).await.unwrap();
}

/// The one license that carries the reference. `None` only at an engine that holds nothing.
pub async fn seen<S: Subject>(subject: &S, reference: &str) -> Option<Seen> {
    if !holds::<S>() {
        return None;
    }
    let mut found = subject.held().await;
    found.retain(|license| license.reference.as_deref() == Some(reference));
    assert_eq!(found.len(), 1, "{found:?}");
    found.pop()
}

/// Whether the engine holds what can be looked at.
pub fn holds<S: Subject>() -> bool {
    S::WIRE
}

/// The expiry is what was asked for, or later as far as the engine cannot do better.
#[track_caller]
pub fn assert_expiry<S: Subject>(seen: &Seen, wanted: Option<&str>) {
    let wanted = wanted.map(at);
    match (seen.expires_at, wanted) {
        (None, None) => {}
        (Some(is), Some(wanted)) => {
            assert!(is >= wanted && is.duration_since(wanted) <= S::LATE_MAX, "{is} instead of {wanted}");
        }
        (is, wanted) => panic!("{is:?} instead of {wanted:?}"),
    }
}

/// Waits until `count` licenses are held: a call that nobody waits for is done at its own pace.
pub async fn settles_at<S: Subject>(subject: &S, count: usize) {
    let asking = async {
        while subject.held().await.len() != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap();
}

/// How a call ended, in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    Refused,
    Unavailable,
    Indeterminate,
}

/// How a call ended. No error shows the token.
#[track_caller]
pub fn ended<T>(result: &Result<T, ProviderError>) -> Ended {
    let Err(error) = result else { return Ended::Done };
    let shown = format!("{error:?} {error}");
    assert!(!shown.contains(TOKEN) && !shown.contains("@example.com"), "{shown}");
    match error {
        ProviderError::Refused { .. } => Ended::Refused,
        ProviderError::Unavailable { .. } => Ended::Unavailable,
        ProviderError::Indeterminate { .. } => Ended::Indeterminate,
    }
}
