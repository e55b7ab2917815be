//! The engines this process can call, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyledger_schemas::ids::ProviderName;

use crate::provider::unmanaged::Unmanaged;
use crate::provider::{Capabilities, Provider};

/// The configured engines.
#[derive(Default)]
pub struct Engines(BTreeMap<ProviderName, Arc<dyn Provider>>);

impl Engines {
    /// These engines, each under its own name.
    pub fn new(engines: impl IntoIterator<Item = Arc<dyn Provider>>) -> Self {
        Self(engines.into_iter().map(|engine| (engine.name().clone(), engine)).collect())
    }

    /// What each can do.
    pub fn capabilities(&self) -> BTreeMap<ProviderName, Capabilities> {
        self.0.iter().map(|(name, engine)| (name.clone(), engine.capabilities())).collect()
    }

    /// Whether the engine is configured.
    pub fn has(&self, name: &ProviderName) -> bool {
        self.0.contains_key(name)
    }

    /// The engine of that name, or one that follows adopted licenses without calls and refuses to make any.
    pub fn get(&self, name: &ProviderName) -> Arc<dyn Provider> {
        self.0.get(name).cloned().unwrap_or_else(|| Arc::new(Unmanaged::new(name.clone())))
    }
}
