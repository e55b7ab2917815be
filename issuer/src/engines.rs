//! The engines this process can call, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyledger_schemas::ids::ProviderName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::call;
use crate::provider::unmanaged::Unmanaged;
use crate::provider::{Capabilities, Provider};

/// How many calls one engine gets at once: fewer than there are workers, so that one that hangs does not hold up the others.
pub const CALLS_AT_ONCE: usize = 24;

/// The configured engines. Clones share the places at them.
#[derive(Clone, Default)]
pub struct Engines {
    by_name: BTreeMap<ProviderName, Arc<dyn Provider>>,
    lines: BTreeMap<ProviderName, Arc<Semaphore>>,
    problems: Arc<Mutex<BTreeMap<ProviderName, String>>>,
}

impl Engines {
    /// These engines, each under its own name.
    pub fn new(engines: impl IntoIterator<Item = Arc<dyn Provider>>) -> Self {
        let by_name: BTreeMap<_, _> = engines.into_iter().map(|engine| (engine.name().clone(), engine)).collect();
        let lines = by_name.keys().map(|name| (name.clone(), Arc::new(Semaphore::new(CALLS_AT_ONCE)))).collect();
        Self { by_name, lines, problems: Arc::default() }
    }

    /// Has every engine check what can be checked before any sale, each within `limit`. What is wrong is logged and kept for
    /// [`Engines::problems`]; it stops nobody, since an engine may be mended while we run.
    pub async fn prepare(&self, limit: Duration) {
        for (name, engine) in &self.by_name {
            let wrong = match tokio::time::timeout(limit, engine.prepare()).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => call::not_done(&error).1,
                Err(_) => format!("no answer within {} ms", limit.as_millis()),
            };
            warn!(provider.name = %name, reason = wrong, "a provider is not ready; sales at it wait, and it is asked for each");
            self.problems.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), wrong);
        }
    }

    /// What was wrong with engines when we began, in words for an operator.
    pub fn problems(&self) -> BTreeMap<ProviderName, String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What each can do.
    pub fn capabilities(&self) -> BTreeMap<ProviderName, Capabilities> {
        self.by_name.iter().map(|(name, engine)| (name.clone(), engine.capabilities())).collect()
    }

    /// Whether the engine is configured.
    pub fn has(&self, name: &ProviderName) -> bool {
        self.by_name.contains_key(name)
    }

    /// The engine of that name, or one that follows adopted licenses without calls and refuses to make any.
    pub fn get(&self, name: &ProviderName) -> Arc<dyn Provider> {
        self.by_name.get(name).cloned().unwrap_or_else(|| Arc::new(Unmanaged::new(name.clone())))
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
