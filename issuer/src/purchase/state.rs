//! The state of one purchase: facts learned, and the fold of its own events.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_schemas::envelope::{Position, Version};
use keyledger_schemas::event::{Action, LicenseTerms, NotDone, RevokeReason, SuspendReason};
use keyledger_schemas::ids::{EventId, LicenseId, ProviderName, PurchaseId, UnitId};
use keyledger_schemas::mapping::Mapping;
use serde::{Deserialize, Serialize};

use super::knowledge::Knowledge;

/// One purchase. A snapshot that can be rebuilt from the log.
///
/// Its two cursors are never compared: `consumed` counts the log's positions and says how far Stripe's facts were read;
/// `version` counts the purchase's own stream and says which of its own events are folded in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purchase {
    /// Its identity.
    pub id: PurchaseId,
    /// The last position whose facts were learned. Facts are idempotent: this only tells people how fresh it is.
    pub consumed: Position,
    /// The version of its own stream that is folded in.
    pub version: Version,
    /// The last Stripe event that was about it: what its decisions name as their cause.
    pub cause: Option<EventId>,
    /// What Stripe's events said.
    pub knowledge: Knowledge,
    /// Units that own events were about, by item and number.
    pub units: BTreeMap<String, BTreeMap<u32, Unit>>,
}

/// What our own events say about one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `obligation.opened` was recorded.
    pub opened: bool,
    /// The last `obligation.met`.
    pub met: Option<Met>,
    /// A person closed it without a license.
    pub waived: Option<Waived>,
    /// A person revoked its license, which is final until a person takes it back.
    pub revoked_by_person: bool,
    /// A person stopped its license for now.
    #[serde(default)]
    pub suspended_by_person: bool,
    /// A person gave its license time until then, whatever is paid.
    #[serde(default)]
    pub extended_until: Option<Timestamp>,
    /// The license that a person had replaced by the next generation.
    #[serde(default)]
    pub reissue: Option<LicenseId>,
    /// When a person last asked to go on with it: from then on a mark of another system no longer holds it.
    #[serde(default)]
    pub retried_at: Option<Timestamp>,
    /// A person named the license that meets it, and it is not adopted yet.
    pub attached: Option<Attached>,
    /// Its licenses by generation.
    pub licenses: BTreeMap<u32, License>,
    /// A call whose outcome is not recorded.
    pub pending: Option<Asked>,
    /// The last answers that were not *done*, one for each license and action: a parked one does not hold up another.
    pub not_done: Vec<Answered>,
    /// Calls that may or may not have been done: lost answers, and requests whose caller died.
    pub doubts: Vec<Doubt>,
    /// Calls so far.
    pub attempts: u32,
    /// Licenses beside its own that came to light.
    pub surplus: BTreeSet<(ProviderName, String)>,
}

/// The last time a unit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// By which license.
    pub license: LicenseId,
    /// Until when; `None` for ever.
    pub until: Option<Timestamp>,
}

/// A unit closed by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    /// Money for periods that end later opens it again; `None` closes it for ever.
    pub through: Option<Timestamp>,
}

/// A license that a person named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The engine that holds it.
    pub provider: ProviderName,
    /// The engine's own id, or another of its names for it.
    pub provider_id: String,
}

/// A license as something named it that is no event of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The engine's own id, or another of its names for it.
    pub text: String,
    /// What named it: a metadata key, `operator` or `purchase`.
    pub by: String,
}

/// One license of a unit, as its events left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct License {
    /// Our id for it.
    pub id: LicenseId,
    /// The engine that holds it.
    pub provider: ProviderName,
    /// The engine's own id.
    pub provider_id: String,
    /// Other ids that the engine has for it, by the engine's own words for them.
    #[serde(default)]
    pub also: BTreeMap<String, String>,
    /// The engine's product; empty for one that was adopted without asking the engine.
    pub product: String,
    /// We did not make it.
    pub adopted: bool,
    /// What it was adopted by, where the engine was not asked.
    #[serde(default)]
    pub named: Option<Named>,
    /// What the sale meant when it was made or last changed.
    pub mapping: Option<Mapping>,
    /// What it is like.
    pub terms: LicenseTerms,
    /// Whether it works.
    pub standing: Standing,
    /// The expiry for which `license.lapsed` was recorded.
    pub lapsed_at: Option<Timestamp>,
}

/// Whether a license works, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It does, until its expiry.
    Active,
    /// Stopped for now.
    Suspended(SuspendReason),
    /// Stopped for good.
    Revoked(RevokeReason),
}

/// A call that was announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Counts the calls for the unit.
    pub attempt: u32,
    /// Which license it is about.
    pub generation: u32,
    /// What was asked.
    pub action: Action,
    /// What the license should be like.
    pub terms: LicenseTerms,
    /// What the sale means.
    pub mapping: Mapping,
    /// The license to adopt, as it was named.
    #[serde(default)]
    pub named: Option<String>,
    /// When it was announced.
    pub asked_at: Timestamp,
    /// Nobody else looks up or creates before this.
    pub wait_until: Timestamp,
}

/// A call that was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// What was asked.
    pub asked: Asked,
    /// The answer.
    pub answer: NotDone,
    /// When it is tried again; `None` when it waits for a person.
    pub next_attempt_at: Option<Timestamp>,
    /// How often in a row the provider did not do it.
    pub in_a_row: u32,
    /// Nobody was asked: the engine was not configured.
    pub unconfigured: bool,
}

/// A call that may or may not have been done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// What was asked, the first time.
    pub asked: Asked,
    /// Since when it is not known.
    pub since: Timestamp,
}

impl Purchase {
    /// A purchase of which nothing is known.
    pub fn new(id: PurchaseId) -> Self {
        Self { id, consumed: 0, version: 0, cause: None, knowledge: Knowledge::default(), units: BTreeMap::new() }
    }

    /// What own events say about a unit, if they were about it.
    pub fn unit(&self, item: &str, number: u32) -> Option<&Unit> {
        self.units.get(item)?.get(&number)
    }

    /// The unit to fold an event into.
    pub fn unit_mut(&mut self, unit: &UnitId) -> &mut Unit {
        self.units.entry(unit.item.clone()).or_default().entry(unit.number).or_default()
    }
}

impl Unit {
    /// The license that meets it: the latest generation that is not revoked.
    pub fn license(&self) -> Option<(u32, &License)> {
        let standing = self.licenses.iter().rev().find(|(_, license)| !license.is_revoked());
        standing.map(|(generation, license)| (*generation, license))
    }

    /// The latest generation, revoked or not.
    pub fn latest(&self) -> Option<(u32, &License)> {
        self.licenses.last_key_value().map(|(generation, license)| (*generation, license))
    }

    /// The last answer to `action` on the license of `generation`, if it was not *done*.
    pub fn answered(&self, generation: u32, action: Action) -> Option<&Answered> {
        self.not_done.iter().find(|answered| answered.asked.is_about(generation, action))
    }

    /// A call of `action` on the license of `generation` that may or may not have been done.
    pub fn in_doubt(&self, generation: u32, action: Action) -> bool {
        self.open_calls().any(|asked| asked.is_about(generation, action))
    }

    /// An earlier call that may have made a license, or made one ours, of which nobody has heard yet.
    pub fn making_in_doubt(&self) -> Option<&Asked> {
        self.open_calls().find(|asked| matches!(asked.action, Action::Create | Action::Adopt))
    }

    fn open_calls(&self) -> impl Iterator<Item = &Asked> {
        self.doubts.iter().map(|doubt| &doubt.asked).chain(&self.pending)
    }
}

impl Asked {
    /// Whether it asked for `action` on the license of `generation`.
    pub fn is_about(&self, generation: u32, action: Action) -> bool {
        self.generation == generation && self.action == action
    }
}

impl License {
    /// Whether it was adopted without asking the engine: its product is not known, so it cannot be addressed there.
    pub fn is_unchecked(&self) -> bool {
        self.adopted && self.product.is_empty()
    }

    /// Whether it was stopped for good.
    pub fn is_revoked(&self) -> bool {
        matches!(self.standing, Standing::Revoked(_))
    }
}
