//! A license engine in memory that keeps what it made, misbehaves on demand, and does **not** notice that two creates
//! carry one reference.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_issuer::provider::{
    Adopt, CallError, Capabilities, Change, Create, Customer, Held, Person, Provider, ProviderError, Sale, Target,
    Terms,
};
use keyledger_schemas::clock::{Clock, ManualClock};
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::secret::Secret;

/// What a call was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Find,
    Create,
    Change,
    /// Asking for a customer.
    Customer,
    Adopt,
}

/// How a call ends that does not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends well after all: the fault is for a later call.
    Fine,
    /// A definite no.
    Refused,
    /// Nothing done, ask again later.
    Unavailable,
    /// Nothing done, and nobody can tell.
    CallLost,
    /// Done, and nobody can tell.
    AnswerLost,
    /// It never answers; nothing is done.
    Hangs,
}

/// A license as the engine holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub provider_id: String,
    pub reference: String,
    pub product: String,
    pub terms: Terms,
    pub state: &'static str,
    /// Searches see it from here on.
    pub visible_at: Timestamp,
    /// The engine's customer whose it is.
    pub owner: Option<String>,
    /// What it was sold in, and the payment of a one-off sale.
    pub sale: (String, Option<String>),
}

/// A customer as the engine holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub id: String,
    pub stripe: String,
    pub email: Option<String>,
    pub name: String,
}

#[derive(Default)]
struct State {
    licenses: Vec<Made>,
    customers: Vec<Known>,
    /// Whether two customers may not have one address.
    one_address_each: bool,
    /// Looking for a customer takes its turn among others.
    slow_customers: bool,
    /// What is wrong with it before any sale.
    unready: Option<String>,
    calls: Vec<Call>,
    faults: Vec<(Call, Fault)>,
}

/// The engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    name: ProviderName,
    capabilities: Capabilities,
    clock: Arc<Mutex<Option<Arc<ManualClock>>>>,
    state: Arc<Mutex<State>>,
}

/// What an engine can do that can do everything.
pub const ABLE: Capabilities =
    Capabilities { settle: Duration::ZERO, enforces_expiry: true, reinstates_revoked: true, keeps_customers: false };

impl Engine {
    pub fn new(name: &str, capabilities: Capabilities) -> Self {
        Self { name: ProviderName::from(name), capabilities, clock: Arc::default(), state: Arc::default() }
    }

    /// Searches lag by the engine's settle time on this clock.
    pub fn lags_on(&self, clock: &Arc<ManualClock>) {
        *self.clock.lock().unwrap() = Some(clock.clone());
    }

    /// The next call of this kind without a fault yet ends so.
    pub fn fail(&self, call: Call, fault: Fault) {
        self.state().faults.push((call, fault));
    }

    /// The next calls of every kind end so.
    pub fn fail_all(&self, fault: Fault, times: usize) {
        for call in [Call::Find, Call::Create, Call::Change, Call::Customer, Call::Adopt] {
            (0..times).for_each(|_| self.fail(call, fault));
        }
    }

    /// No more faults.
    pub fn recover(&self) {
        self.state().faults.clear();
    }

    /// What it holds.
    pub fn licenses(&self) -> Vec<Made> {
        self.state().licenses.clone()
    }

    /// Whom it knows.
    pub fn customers(&self) -> Vec<Known> {
        self.state().customers.clone()
    }

    /// It tells people apart by address alone.
    pub fn tells_apart_by_address(&self) {
        self.state().one_address_each = true;
    }

    /// Looking for a customer lets others go first.
    pub fn looks_slowly(&self) {
        self.state().slow_customers = true;
    }

    /// It says that it is not ready, and why.
    pub fn is_not_ready(&self, reason: &str) {
        self.state().unready = Some(reason.to_owned());
    }

    /// It holds nobody any more.
    pub fn forgets_customers(&self) {
        self.state().customers.clear();
    }

    /// A license that somebody else made for a sale, in `product`.
    pub fn left(&self, provider_id: &str, product: &str, sale: &str) {
        self.put(Made {
            provider_id: provider_id.to_owned(),
            reference: String::new(),
            product: product.to_owned(),
            terms: Terms { expires_at: None, seats: 1, features: [].into(), max_release: None },
            state: "active",
            visible_at: Timestamp::UNIX_EPOCH,
            owner: None,
            sale: (sale.to_owned(), None),
        });
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// A license that keyledger did not make.
    pub fn put(&self, made: Made) {
        self.state().licenses.push(made);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn now(&self) -> Timestamp {
        self.clock.lock().unwrap().as_ref().map_or(Timestamp::UNIX_EPOCH, |clock| clock.now())
    }

    fn begin(&self, call: Call) -> Option<Fault> {
        let mut state = self.state();
        state.calls.push(call);
        let next = state.faults.iter().position(|(of, _)| *of == call)?;
        Some(state.faults.remove(next).1)
    }

    /// Does `work` unless the next fault prevents it, and answers as the fault says.
    async fn answer<T>(
        &self,
        call: Call,
        work: impl FnOnce(&mut State) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let source = CallError::Timeout { after: Duration::from_secs(1) };
        match self.begin(call) {
            None | Some(Fault::Fine) => work(&mut self.state()),
            Some(Fault::Refused) => Err(ProviderError::Refused { reason: "no".to_owned() }),
            Some(Fault::Unavailable) => Err(ProviderError::Unavailable { retry_after: None, source }),
            Some(Fault::CallLost) => Err(ProviderError::Indeterminate { source }),
            Some(Fault::AnswerLost) => {
                let _ = work(&mut self.state());
                Err(ProviderError::Indeterminate { source })
            }
            Some(Fault::Hangs) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Provider for Engine {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn find(&self, reference: &str, _product: &str) -> Result<Vec<Held>, ProviderError> {
        let now = self.now();
        self.answer(Call::Find, |state| {
            let found = state.licenses.iter().filter(|made| made.reference == reference && made.visible_at <= now);
            Ok(found.map(held).collect())
        })
        .await
    }

    /// Not counted among the calls: it changes nothing, and is asked before every create.
    async fn find_unclaimed(&self, sale: &Sale, product: &str) -> Result<Vec<Held>, ProviderError> {
        let ours = |made: &&Made| made.reference.is_empty() && made.sale.0 == sale.purchase && made.product == product;
        Ok(self.state().licenses.iter().filter(ours).map(held).collect())
    }

    async fn customer(&self, person: &Person) -> Result<Customer, ProviderError> {
        if self.state().slow_customers {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.answer(Call::Customer, |state| {
            let known = |known: &&Known| person.known.as_ref() == Some(&known.id) || known.stripe == person.customer;
            if let Some(found) = state.customers.iter().find(known) {
                return Ok(Customer { id: found.id.clone(), made: false, shared: false });
            }
            let alike = |known: &&Known| state.one_address_each && known.email == person.email;
            if let Some(found) = state.customers.iter().find(alike) {
                return Ok(Customer { id: found.id.clone(), made: false, shared: true });
            }
            let made = Known {
                id: format!("user_{}", state.customers.len() + 1),
                stripe: person.customer.clone(),
                email: person.email.clone(),
                name: person.display_name().to_owned(),
            };
            state.customers.push(made.clone());
            Ok(Customer { id: made.id, made: true, shared: false })
        })
        .await
    }

    async fn update_customer(&self, id: &str, person: &Person) -> Result<(), ProviderError> {
        let mut state = self.state();
        let Some(known) = state.customers.iter_mut().find(|known| known.id == id) else {
            return Err(ProviderError::Refused { reason: "no such customer".to_owned() });
        };
        known.email.clone_from(&person.email);
        person.display_name().clone_into(&mut known.name);
        Ok(())
    }

    async fn prepare(&self) -> Result<(), ProviderError> {
        match self.state().unready.clone() {
            Some(reason) => Err(ProviderError::Refused { reason }),
            None => Ok(()),
        }
    }

    async fn adopt(&self, request: &Adopt) -> Result<Held, ProviderError> {
        self.answer(Call::Adopt, |state| {
            let refused = |reason: &str| Err(ProviderError::Refused { reason: reason.to_owned() });
            let named = |made: &&mut Made| {
                made.provider_id == request.named || format!("globalId={}", global_id(made)) == request.named
            };
            let Some(made) = state.licenses.iter_mut().find(named) else { return refused("there is no such license") };
            if made.product != request.product {
                return refused("it belongs to another product");
            }
            if !made.reference.is_empty() && made.reference != request.reference {
                return refused("it belongs to another purchase");
            }
            made.reference.clone_from(&request.reference);
            made.terms.clone_from(&request.terms);
            made.owner.clone_from(&request.owner);
            Ok(held(made))
        })
        .await
    }

    async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
        let visible_at = match &*self.clock.lock().unwrap() {
            Some(clock) => clock.now().saturating_add(self.capabilities.settle).unwrap(),
            None => Timestamp::UNIX_EPOCH,
        };
        self.answer(Call::Create, |state| {
            let made = Made {
                provider_id: format!("lic_{}", state.licenses.len() + 1),
                reference: request.reference.clone(),
                product: request.product.clone(),
                terms: request.terms.clone(),
                state: "active",
                visible_at,
                owner: request.owner.clone(),
                sale: (request.sale.purchase.clone(), request.sale.payment.clone()),
            };
            state.licenses.push(made.clone());
            Ok(held(&made))
        })
        .await
    }

    async fn change(&self, target: &Target, change: &Change) -> Result<(), ProviderError> {
        let reinstates = self.capabilities.reinstates_revoked;
        self.answer(Call::Change, |state| {
            let found = state.licenses.iter_mut().find(|made| made.provider_id == target.provider_id);
            let Some(made) = found else { return Err(ProviderError::Refused { reason: "no such license".to_owned() }) };
            match change {
                Change::Terms(terms) => made.terms = terms.clone(),
                Change::Suspend => made.state = "suspended",
                Change::Reinstate if made.state == "revoked" && !reinstates => {
                    return Err(ProviderError::Refused { reason: "revoked is final here".to_owned() });
                }
                Change::Reinstate => made.state = "active",
                Change::Revoke => made.state = "revoked",
            }
            Ok(())
        })
        .await
    }
}

/// An id across the account, as some engines have one.
fn global_id(made: &Made) -> String {
    format!("9{}", made.provider_id)
}

fn held(made: &Made) -> Held {
    Held {
        provider_id: made.provider_id.clone(),
        reference: made.reference.clone(),
        key: Some(Secret::new(format!("KEY-{}", made.provider_id))),
        also: [("globalId".to_owned(), global_id(made))].into(),
    }
}
