//! License engines behind one trait: [`Provider`].
//!
//! The trait is shaped so that every engine we know fits: some let us choose the license's id (a create is then
//! idempotent by nature), some only find it again by a reference written into it; some set an absolute expiry, some only
//! extend; some enforce expiry, some must be told to block.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_schemas::ids::{LicenseId, ProviderName};
use keyledger_schemas::secret::Secret;

pub mod builtin;
pub mod cryptlex;
pub mod cryptolens;
pub mod keygen;
pub mod stub;
pub mod unmanaged;

/// What an engine can do; the issuer plans its calls by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How long after a call of unknown outcome a created license may stay invisible to [`Provider::find`].
    pub settle: Duration,
    /// The engine stops an expired license by itself. Where not, the issuer suspends at expiry.
    pub enforces_expiry: bool,
    /// A revoked license can be reinstated. Where not, the issuer makes the next generation.
    pub reinstates_revoked: bool,
    /// The engine keeps customers: [`Provider::customer`] is asked before a license is made.
    pub keeps_customers: bool,
}

/// What a license should be like. Absolute values only: applying it twice is applying it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When it stops working; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// How many machines or users; at least 1, never 0 (some engines read 0 as unlimited).
    pub seats: u32,
    /// Feature names; adapters translate.
    pub features: BTreeSet<String>,
    /// The greatest release that it allows, where the engine knows releases; `None` leaves that alone.
    pub max_release: Option<String>,
}

impl Terms {
    /// Refuses terms that no adapter may send: 0 seats, which some engines read as unlimited.
    fn check(&self) -> Result<(), ProviderError> {
        if self.seats == 0 {
            return Err(ProviderError::Refused { reason: "a license with 0 seats is never sent".to_owned() });
        }
        Ok(())
    }
}

/// What was sold, for people who search by hand, and for finding what another integration made for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sale {
    /// `sub_…`, `in_…` or `cs_…`.
    pub purchase: String,
    /// The item of the purchase: `si_…`, or a line's name.
    pub item: String,
    /// `pi_…` of a one-off sale, where known.
    pub payment: Option<String>,
}

/// Somebody who bought, as Stripe knows them. Personal: never logged, never put into an event.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// `cus_…`; for a sale without a customer, the purchase.
    pub customer: String,
    /// Their address.
    pub email: Option<String>,
    /// Their name.
    pub name: Option<String>,
    /// The engine's own id for them, where one was recorded.
    pub known: Option<String>,
    /// The engine's own id for them that Stripe's metadata names (`skm_customer_id`), where it does.
    pub named: Option<String>,
    /// How often in a row what they are needed for was not done.
    pub failures: u32,
}

impl Person {
    /// Their name, or what stands for it, the same every time: the part of the address before `@`, else the customer's id.
    pub fn display_name(&self) -> &str {
        let named = self.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let local = || self.email.as_deref().and_then(|email| email.split('@').next()).map(str::trim);
        named.or_else(|| local().filter(|local| !local.is_empty())).unwrap_or(&self.customer)
    }
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Person").field("customer", &self.customer).finish_non_exhaustive()
    }
}

/// A customer as an engine holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// The engine's own id for them.
    pub id: String,
    /// They were made by this call.
    pub made: bool,
    /// Another Stripe customer has the same one: the engine tells people apart by address alone.
    pub shared: bool,
}

/// A license to be made.
#[derive(Clone, Debug)]
pub struct Create {
    /// Our id for it: derived from unit and generation.
    pub license: LicenseId,
    /// Written into the license by the create call itself; [`Provider::find`] finds it by this.
    pub reference: String,
    /// The engine's product.
    pub product: String,
    /// What it should be like.
    pub terms: Terms,
    /// What only the engine understands: a template, an entitlement set, the parameters of `skm`.
    pub options: BTreeMap<String, String>,
    /// What it is for, written beside the reference.
    pub sale: Sale,
    /// `cus_…`, where known. Never a name or an address.
    pub customer: Option<String>,
    /// The engine's own id for the customer, where it keeps customers.
    pub owner: Option<String>,
}

/// A license that somebody else made, to become ours.
#[derive(Clone, Debug)]
pub struct Adopt {
    /// The license as it was named: the engine's own id, or another of its names for it.
    pub named: String,
    /// Our id for it.
    pub license: LicenseId,
    /// Written into it. One that carries another reference of ours is refused.
    pub reference: String,
    /// The engine's product. One of another product is refused.
    pub product: String,
    /// What it should be like from now on. Seats that have no limit are left so: whoever made it meant it.
    pub terms: Terms,
    /// What it is for, written beside the reference.
    pub sale: Sale,
    /// The engine's own id for the customer, where it keeps customers. One that belongs to somebody else is refused.
    pub owner: Option<String>,
}

/// A license that an engine holds, as we address it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Our id for it.
    pub license: LicenseId,
    /// The reference it carries.
    pub reference: String,
    /// The engine's own id.
    pub provider_id: String,
    /// The engine's product.
    pub product: String,
}

/// One change to a license. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set expiry, seats and features to these values.
    Terms(Terms),
    /// Stop it for now.
    Suspend,
    /// Let it work again (from suspended; from revoked where the engine can).
    Reinstate,
    /// Stop it for good.
    Revoke,
}

/// A license as the engine answered.
#[derive(Clone, Debug)]
pub struct Held {
    /// The engine's own id.
    pub provider_id: String,
    /// The reference it carries, exactly; empty for one that carries none.
    pub reference: String,
    /// What the customer types in, where the engine gave it.
    pub key: Option<Secret>,
    /// Other ids that the engine has for it, by the engine's own words for them (`globalId`).
    pub also: BTreeMap<String, String>,
}

/// A license as a sweep over an engine's product shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The engine's own id.
    pub provider_id: String,
    /// Other ids that the engine has for it.
    pub also: BTreeMap<String, String>,
    /// The reference of ours that it carries, if it does.
    pub reference: Option<String>,
    /// `sub_…` or another id of Stripe's that it carries, if it does.
    pub purchase: Option<String>,
    /// The engine's own id for its customer.
    pub owner: Option<String>,
    /// When it stops working; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// Seats; `None` for no limit.
    pub seats: Option<u32>,
    /// It works, until its expiry.
    pub works: bool,
}

/// A page of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Licenses, in the engine's order.
    pub licenses: Vec<Listed>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<String>,
}

/// A customer as a sweep over an engine shows them. No name and no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCustomer {
    /// The engine's own id for them.
    pub id: String,
    /// `cus_…` that they carry, if they do.
    pub customer: Option<String>,
}

/// A page of a sweep over customers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomerListing {
    /// Customers, in the engine's order.
    pub customers: Vec<ListedCustomer>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<String>,
}

/// Why a call did not end in *done*. The fourth answer, `Ok`, is done.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A definite no: nothing was done, and asking again will not help. A person must act.
    #[error("provider refused the request: {reason}")]
    Refused {
        /// What the engine said, without personal data.
        reason: String,
    },
    /// Nothing was done, and asking again later may help.
    #[error("provider is unavailable")]
    Unavailable {
        /// How long the engine asked us to wait.
        retry_after: Option<Duration>,
        /// What happened.
        #[source]
        source: CallError,
    },
    /// It may or may not have been done: look it up before any create.
    #[error("provider may or may not have done it")]
    Indeterminate {
        /// What happened.
        #[source]
        source: CallError,
    },
}

/// What happened on the way to an engine.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection, or the body.
    #[error("the call failed")]
    Http(#[from] reqwest::Error),
    /// An answer with a status that is not success.
    #[error("the provider answered {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The service does not know our token, or it has run out: a setting to mend, after which everything goes on by itself.
    #[error("the service does not accept the access token (status {status}): check it in the settings")]
    Credentials {
        /// The HTTP status, or what stands for it.
        status: u16,
    },
    /// No answer in time.
    #[error("no answer within {after:?}")]
    Timeout {
        /// How long we waited.
        after: Duration,
    },
    /// No turn came in time: too many calls wait for the limits of this engine.
    #[error("too many calls wait for this engine; raise its limits if it allows more")]
    Crowded,
    /// The engine asked us to stay away for a while.
    #[error("the engine asked for fewer calls")]
    Paused,
    /// The engine does not make the customer, and shows nobody who has the address: somebody who has it may have been made a
    /// moment ago.
    #[error("the engine refused the customer, and a search shows nobody with the address yet: {reason}")]
    NotShown {
        /// What the engine said.
        reason: String,
    },
    /// An answer that cannot be read.
    #[error("the answer cannot be read: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
}

/// A license engine.
///
/// Implementations do not retry inside a call, keep no state that matters, and never log keys. The issuer bounds every
/// call by a timeout of its own and treats running out of it as [`ProviderError::Indeterminate`].
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The configured name.
    fn name(&self) -> &ProviderName;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Every license that carries exactly this reference. More than one is trouble the caller surfaces.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; a look-up changes nothing, so `Indeterminate` is answered as `Unavailable`.
    async fn find(&self, reference: &str, product: &str) -> Result<Vec<Held>, ProviderError>;

    /// Licenses of the product that another integration made for this sale, and that carry no reference of ours; the oldest
    /// first. Asked only after [`Provider::find`] found none.
    ///
    /// # Errors
    ///
    /// As [`Provider::find`].
    async fn find_unclaimed(&self, sale: &Sale, product: &str) -> Result<Vec<Held>, ProviderError> {
        _ = (sale, product);
        Ok(Vec::new())
    }

    /// Finds the customer at the engine, or makes them: first the one that was recorded or named, then one that carries
    /// `cus_…`, then, by the engine's rules, one with the address. Asked for one person at a time.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]. After `Indeterminate` it is simply asked again: it looks first.
    async fn customer(&self, person: &Person) -> Result<Customer, ProviderError> {
        _ = person;
        Err(ProviderError::Refused { reason: "this engine keeps no customers".to_owned() })
    }

    /// Brings name and address at the engine up to date. Everything else there is left alone.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; it is safe to repeat.
    async fn update_customer(&self, id: &str, person: &Person) -> Result<(), ProviderError> {
        _ = (id, person);
        Ok(())
    }

    /// Makes one license that carries the reference. Asked only after [`Provider::find`] found none.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    async fn create(&self, request: &Create) -> Result<Held, ProviderError>;

    /// Makes a license ours that somebody else made: checks product, owner and reference, sets owner and terms, lets it work if
    /// it was stopped, and last writes the reference beside whatever else it carries. One that was broken off before is thus
    /// still unclaimed, and adopted again. One that is ours already is brought to the same end.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Refused`] with the reason when it may not be taken; nothing was changed then, unless it is the engine
    /// that refused one of the changes. What is not an id is not repeated: it may be a key. It is safe to repeat.
    async fn adopt(&self, request: &Adopt) -> Result<Held, ProviderError> {
        _ = request;
        Err(ProviderError::Refused { reason: "this engine has no licenses that somebody else made".to_owned() })
    }

    /// Changes one license.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; every change is safe to repeat, so `Indeterminate` may simply be asked again.
    async fn change(&self, target: &Target, change: &Change) -> Result<(), ProviderError>;

    /// One page of all licenses of a product, ours or not. `after` is a former page's `next`.
    ///
    /// # Errors
    ///
    /// As [`Provider::find`].
    async fn list(&self, product: &str, after: Option<&str>) -> Result<Listing, ProviderError> {
        _ = (product, after);
        Ok(Listing::default())
    }

    /// One page of all customers, whoever made them. `after` is a former page's `next`. An engine that keeps none answers none.
    ///
    /// # Errors
    ///
    /// As [`Provider::find`].
    async fn customers(&self, after: Option<&str>) -> Result<CustomerListing, ProviderError> {
        _ = after;
        Ok(CustomerListing::default())
    }

    /// The link by which a customer opens a portal of their own at the engine; with `None`, the one that anybody may use to
    /// sign up. `None` where the engine has no such thing. It lets in whoever has it: show it to the customer alone.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; it is safe to repeat, but an earlier link may end.
    async fn portal_link(&self, customer: Option<&str>) -> Result<Option<Secret>, ProviderError> {
        _ = customer;
        Ok(None)
    }

    /// Checks what can be checked before any sale: that the token works and that the account is one we can serve. Also puts
    /// up what the settings say should stand at the engine.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Refused`] with what to mend.
    async fn prepare(&self) -> Result<(), ProviderError> {
        Ok(())
    }
}
