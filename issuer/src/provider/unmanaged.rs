//! An engine that is not configured, whose licenses we know of.
//!
//! A license that another system made there can be adopted: it meets a unit, with no call ever made. Its engine's own
//! rules go on deciding how it behaves; what keyledger records of it is what should be so. Nothing can be made here,
//! and every change is answered *done* without a call, so that an adopted license never holds its purchase up.

use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::ids::ProviderName;

use super::{Capabilities, Change, Create, Held, Provider, ProviderError, Target};

/// An engine by its name only.
#[derive(Clone, Debug)]
pub struct Unmanaged {
    name: ProviderName,
}

impl Unmanaged {
    /// The engine called `name`, for which there are no settings.
    pub fn new(name: ProviderName) -> Self {
        Self { name }
    }
}

#[async_trait]
impl Provider for Unmanaged {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    /// Such that no call is planned which would not be made: no blocking at expiry, no next generation.
    fn capabilities(&self) -> Capabilities {
        Capabilities { settle: Duration::ZERO, enforces_expiry: true, reinstates_revoked: true, keeps_customers: false }
    }

    /// None: we cannot look.
    async fn find(&self, _reference: &str, _product: &str) -> Result<Vec<Held>, ProviderError> {
        Ok(Vec::new())
    }

    /// Always refused.
    async fn create(&self, _request: &Create) -> Result<Held, ProviderError> {
        Err(ProviderError::Refused { reason: format!("provider `{}` is not configured", self.name) })
    }

    /// Done without a call.
    async fn change(&self, _target: &Target, _change: &Change) -> Result<(), ProviderError> {
        Ok(())
    }
}
