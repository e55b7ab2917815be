//! The engines this process can call, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyledger_schemas::ids::ProviderName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::provider::unmanaged::Unmanaged;
use crate::provider::{Capabilities, Provider};

/// How many calls one engine gets at once: fewer than there are workers, so that one that hangs does not hold up the others.
pub const CALLS_AT_ONCE: usize = 24;

/// The configured engines. Clones share the places at them.
#[derive(Clone, Default)]
pub struct Engines {
    engines: BTreeMap<ProviderName, Arc<dyn Provider>>,
    lines: BTreeMap<ProviderName, Arc<Semaphore>>,
}

impl Engines {
    /// These engines, each under its own name.
    pub fn new(engines: impl IntoIterator<Item = Arc<dyn Provider>>) -> Self {
        let engines: BTreeMap<_, _> = engines.into_iter().map(|engine| (engine.name().clone(), engine)).collect();
        let lines = engines.keys().map(|name| (name.clone(), Arc::new(Semaphore::new(CALLS_AT_ONCE)))).collect();
        Self { engines, lines }
    }

    /// What each can do.
    pub fn capabilities(&self) -> BTreeMap<ProviderName, Capabilities> {
        self.engines.iter().map(|(name, engine)| (name.clone(), engine.capabilities())).collect()
    }

    /// Whether the engine is configured.
    pub fn has(&self, name: &ProviderName) -> bool {
        self.engines.contains_key(name)
    }

    /// The engine of that name, or one that follows adopted licenses without calls and refuses to make any.
    pub fn get(&self, name: &ProviderName) -> Arc<dyn Provider> {
        self.engines.get(name).cloned().unwrap_or_else(|| Arc::new(Unmanaged::new(name.clone())))
    }

    /// A place among the engine's calls, for as long as it is held. `None` when all are taken. An engine that is not
    /// configured is never called, and so never crowded.
    pub fn place(&self, name: &ProviderName) -> Option<Place> {
        match self.lines.get(name) {
            Some(line) => line.clone().try_acquire_owned().ok().map(|permit| Place(Some(permit))),
            None => Some(Place(None)),
        }
    }
}

/// A place among an engine's calls.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held, and given back when dropped")] Option<OwnedSemaphorePermit>);
