//! License engines behind one trait: [`Provider`].
//!
//! The trait is shaped so that every engine we know fits: some let us choose the license's id (a create is then
//! idempotent by nature), some only find it again by a reference written into it; some set an absolute expiry, some only
//! extend; some enforce expiry, some must be told to block.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_schemas::ids::{LicenseId, ProviderName};
use keyledger_schemas::secret::Secret;

pub mod builtin;
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
    /// `sub_…`, `in_…` or `cs_…`, written beside the reference for people who search by hand.
    pub purchase: String,
    /// `cus_…`, where known. Never a name or an address.
    pub customer: Option<String>,
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
    /// The reference it carries, exactly.
    pub reference: String,
    /// What the customer types in, where the engine gave it.
    pub key: Option<Secret>,
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
    /// No answer in time.
    #[error("no answer within {after:?}")]
    Timeout {
        /// How long we waited.
        after: Duration,
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

    /// Makes one license that carries the reference. Asked only after [`Provider::find`] found none.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`].
    async fn create(&self, request: &Create) -> Result<Held, ProviderError>;

    /// Changes one license.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]; every change is safe to repeat, so `Indeterminate` may simply be asked again.
    async fn change(&self, target: &Target, change: &Change) -> Result<(), ProviderError>;
}
