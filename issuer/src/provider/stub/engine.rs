//! The licenses of the stub: what its calls do when nothing is made to go wrong.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::faults::{Fault, Faults, Matching, Operation};
use super::journal::{Entry, Journal, JournalError};
use super::wire::{License, NewLicense, Patch, State, Stats};

/// Licenses, the faults to come, and what was counted.
#[derive(Debug)]
pub(super) struct Engine {
    journal: Journal,
    /// By id; ids are numbered, so this is the order in which they were made.
    licenses: BTreeMap<String, License>,
    /// When licenses made by this process were made; only look-ups that lag ask.
    made_at: HashMap<String, Instant>,
    pub(super) faults: Faults,
    calls: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Why the engine itself does not do a call.
#[derive(Debug)]
pub(super) enum No {
    /// There is no such license.
    Unknown,
    /// It is against the engine's rules.
    Forbidden(&'static str),
    /// The disk failed: it may or may not be done.
    Disk(io::Error),
}

impl Engine {
    pub(super) fn open(dir: &Path) -> Result<Self, JournalError> {
        let (journal, entries) = Journal::open(dir)?;
        let mut licenses = BTreeMap::new();
        for entry in entries {
            let (Entry::Made(license) | Entry::Changed(license)) = entry;
            licenses.insert(license.id.clone(), license);
        }
        Ok(Self { journal, licenses, made_at: HashMap::new(), faults: Faults::default(), calls: BTreeMap::new() })
    }

    /// Makes a license, whether or not there is one with this reference.
    pub(super) fn create(&mut self, new: NewLicense) -> Result<License, No> {
        let id = format!("stub-{:06}", self.licenses.len() + 1);
        let license = License {
            key: key_of(&id, &new.reference),
            id: id.clone(),
            reference: new.reference,
            product: new.product,
            purchase: new.purchase,
            customer: new.customer,
            expires_at: new.expires_at,
            seats: limited(new.seats),
            features: new.features,
            state: State::Active,
        };
        self.journal.append(&Entry::Made(license.clone())).map_err(No::Disk)?;
        self.made_at.insert(id.clone(), Instant::now());
        self.licenses.insert(id, license.clone());
        Ok(license)
    }

    /// Those with the reference that a look-up can see by now.
    pub(super) fn find(&self, reference: &str) -> Vec<License> {
        let lag = Duration::from_millis(self.faults.search.lag_ms);
        let visible = |license: &&License| self.made_at.get(&license.id).is_none_or(|made| made.elapsed() >= lag);
        let hit = |license: &&License| match self.faults.search.matching {
            Matching::Exact => license.reference == reference,
            Matching::Contains => license.reference.contains(reference),
        };
        self.licenses.values().filter(hit).filter(visible).cloned().collect()
    }

    pub(super) fn read(&self, id: &str) -> Result<License, No> {
        self.licenses.get(id).cloned().ok_or(No::Unknown)
    }

    pub(super) fn change(&mut self, id: &str, patch: Patch) -> Result<License, No> {
        let mut license = self.read(id)?;
        if let Some(state) = patch.state {
            if self.faults.revoked_is_final && license.state == State::Revoked && state != State::Revoked {
                return Err(No::Forbidden("a revoked license stays revoked"));
            }
            license.state = state;
        }
        license.expires_at = patch.expires_at.unwrap_or(license.expires_at);
        license.seats = patch.seats.map_or(license.seats, limited);
        license.features = patch.features.unwrap_or(license.features);
        self.journal.append(&Entry::Changed(license.clone())).map_err(No::Disk)?;
        self.licenses.insert(license.id.clone(), license.clone());
        Ok(license)
    }

    /// The fault for the next call about license `id`, or about a license of `product` still to be made.
    pub(super) fn draw(&mut self, operation: Operation, id: Option<&str>, product: Option<&str>) -> Option<Fault> {
        let of_license = id.and_then(|id| self.licenses.get(id)).map(|license| license.product.as_str());
        self.faults.draw(operation, product.or(of_license))
    }

    pub(super) fn count(&mut self, operation: Operation, ending: String) {
        *self.calls.entry(operation.as_str().to_owned()).or_default().entry(ending).or_default() += 1;
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats { calls: self.calls.clone(), ..Stats::default() };
        for license in self.licenses.values() {
            stats.licenses += 1;
            stats.unlimited += u64::from(license.seats.is_none());
            let creates = stats.creates_by_reference.entry(license.reference.clone()).or_default();
            *creates += 1;
            stats.creates_per_reference_max = stats.creates_per_reference_max.max(*creates);
        }
        stats
    }
}

/// 0 is unlimited here, as in some engines.
fn limited(seats: u32) -> Option<u32> {
    (seats > 0).then_some(seats)
}

/// Looks unlike our own keys, and is no secret: whoever knows id and reference can tell it.
fn key_of(id: &str, reference: &str) -> String {
    let digest = Sha256::digest(format!("{id}\n{reference}"));
    let groups: Vec<String> = digest[..8].chunks(2).map(|pair| format!("{:02X}{:02X}", pair[0], pair[1])).collect();
    format!("STUB-{}", groups.join("-"))
}
