//! The built-in engine: license keys derived from the deployment's keys, with the log as their only storage.
//!
//! What a license is like, and whether it is suspended or revoked, stands in the log that the issuer writes; whoever
//! asks keyledger, and every license file it signs, is answered from there. So a change has nothing to do here beyond
//! being recorded by the caller.
//!
//! Making a license is a pure computation: the same license id always gives the same key, nothing is stored, and no
//! second license can come of doing it again. Therefore [`Provider::find`] always answers *none*: after a crash between
//! request and outcome the issuer looks up, finds none, and creates once more, which is right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyledger_engine::key::LicenseKey;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_schemas::ids::ProviderName;

use super::{Capabilities, Change, Create, Held, Provider, ProviderError, Target};

/// The name under which the catalog means this engine.
pub const NAME: &str = "builtin";

/// The built-in engine on the keys of this deployment.
#[derive(Clone, Debug)]
pub struct Builtin {
    name: ProviderName,
    keys: Arc<DeploymentKeys>,
}

impl Builtin {
    /// The engine that derives from `keys`.
    pub fn new(keys: Arc<DeploymentKeys>) -> Self {
        Self { name: ProviderName::from(NAME), keys }
    }
}

#[async_trait]
impl Provider for Builtin {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    /// Nothing lags, expiry is in every answer we give, and a revoked license comes back under its old key.
    fn capabilities(&self) -> Capabilities {
        Capabilities { settle: Duration::ZERO, enforces_expiry: true, reinstates_revoked: true, keeps_customers: false }
    }

    /// None: see the module's documentation.
    async fn find(&self, _reference: &str, _product: &str) -> Result<Vec<Held>, ProviderError> {
        Ok(Vec::new())
    }

    /// Derives the key. The engine's own id is our license id.
    async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
        request.terms.check()?;
        Ok(Held {
            provider_id: request.license.to_string(),
            reference: request.reference.clone(),
            key: Some(LicenseKey::derive(&self.keys, request.license).to_secret()),
            also: BTreeMap::new(),
        })
    }

    async fn change(&self, _target: &Target, change: &Change) -> Result<(), ProviderError> {
        match change {
            Change::Terms(terms) => terms.check(),
            Change::Suspend | Change::Reinstate | Change::Revoke => Ok(()),
        }
    }
}
