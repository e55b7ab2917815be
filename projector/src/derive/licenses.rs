//! License rows: every license a unit ever had, and units that were stopped before one was made.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_schemas::event::{RevokeReason, SealedKey, SuspendReason};
use keyledger_schemas::ids::LicenseId;

use super::purchase::PurchaseRows;
use super::units::{PaidUntil, Standing, Unit};
use crate::facts::{Stored, UnitLicense};

/// A license as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenseRow {
    /// The license.
    pub id: LicenseId,
    /// The item it was sold with.
    pub item: String,
    /// The unit's number.
    pub number: u32,
    /// The unit's 1st, 2nd … license.
    pub generation: u32,
    /// `active`, `suspended` or `revoked`.
    pub state: &'static str,
    /// Why it is suspended or revoked.
    pub reason: Option<&'static str>,
    /// `made`, `found`, `adopted`, or `none` where no license was made.
    pub origin: String,
    /// The engine, its id there, and the engine's product.
    pub provider: Option<(String, String, Option<String>)>,
    /// Other ids that the engine has for it, by the engine's own words for them.
    pub also: BTreeMap<String, String>,
    /// The key, sealed.
    pub key: Option<SealedKey>,
    /// What it allows.
    pub terms: Terms,
    /// When it was made or adopted.
    pub issued_at: Option<Timestamp>,
}

/// What a listed license allows. What works, or was replaced, shows what was last confirmed. What should stand still
/// shows what the facts give, so that a license stopped after it was made reads like one that was never made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// `None` when nothing is paid any more.
    pub paid_until: Option<Timestamp>,
    /// `None` when nothing is paid any more.
    pub expires_at: Option<Timestamp>,
    /// It never expires.
    pub perpetual: bool,
    /// `None` where no license was made and nothing says what the sale means.
    pub seats: Option<u32>,
    /// What the engine was told to switch on.
    pub features: BTreeSet<String>,
}

impl Terms {
    fn confirmed(unit: &Unit, license: &UnitLicense) -> Self {
        let is_over = license.is_revoked() && unit.paid_until == PaidUntil::None;
        let date = |date: Option<Timestamp>| date.filter(|_| !is_over);
        Self {
            paid_until: date(license.terms.paid_until),
            expires_at: date(license.terms.expires_at),
            perpetual: !license.is_revoked() && license.terms.expires_at.is_none(),
            seats: Some(license.terms.seats),
            features: license.terms.features.clone(),
        }
    }

    fn of_facts(unit: &Unit) -> Self {
        let lives = unit.standing != Standing::Revoked;
        Self {
            paid_until: unit.paid_until.date().filter(|_| lives),
            expires_at: unit.expires_at.filter(|_| lives),
            perpetual: lives && unit.expires_at.is_none(),
            seats: unit.seats,
            features: unit.features.clone(),
        }
    }
}

/// The licenses of all units, by item, number and generation.
pub fn licenses(rows: &PurchaseRows<'_>, units: &[Unit]) -> Vec<LicenseRow> {
    let mut listed = Vec::new();
    for unit in units {
        listed.extend(unit.facts.licenses.values().map(|license| made(unit, license)));
        if unit.facts.licenses.is_empty() && unit.standing != Standing::Active {
            listed.push(never_made(rows, unit));
        }
    }
    listed
}

fn made(unit: &Unit, license: &UnitLicense) -> LicenseRow {
    let (state, mut reason) = match license.stored {
        Stored::Suspended { reason, .. } if !license.is_active() => ("suspended", Some(suspend_word(reason))),
        Stored::Active | Stored::Suspended { .. } => ("active", None),
        Stored::Revoked { reason } => ("revoked", Some(revoke_word(reason))),
    };
    let was_replaced = license.stored == Stored::Revoked { reason: RevokeReason::Replaced };
    // Without any period there are no facts to show: a guess was taken back, and its license stays as it is.
    let stands_as_it_should = state == unit.standing.as_str() && unit.has_periods && !was_replaced;
    let terms = if stands_as_it_should && unit.standing != Standing::Active {
        reason = stopped_word(unit);
        let facts = Terms::of_facts(unit);
        Terms { seats: facts.seats.or(Some(license.terms.seats)), ..facts }
    } else {
        Terms::confirmed(unit, license)
    };
    LicenseRow {
        id: license.license,
        item: unit.item.clone(),
        number: unit.number,
        generation: license.generation,
        state,
        reason,
        origin: license.origin.clone(),
        provider: Some((license.provider.to_string(), license.provider_id.clone(), license.product.clone())),
        also: license.also.clone(),
        key: license.key.clone(),
        terms,
        issued_at: Some(license.issued_at),
    }
}

fn never_made(rows: &PurchaseRows<'_>, unit: &Unit) -> LicenseRow {
    LicenseRow {
        id: rows.id.unit(&unit.item, unit.number).license(1),
        item: unit.item.clone(),
        number: unit.number,
        generation: 1,
        state: unit.standing.as_str(),
        reason: stopped_word(unit),
        origin: "none".to_owned(),
        provider: None,
        also: BTreeMap::new(),
        key: None,
        terms: Terms::of_facts(unit),
        issued_at: None,
    }
}

/// Why a unit's license should not work.
fn stopped_word(unit: &Unit) -> Option<&'static str> {
    match unit.standing {
        Standing::Active => None,
        Standing::Suspended => unit.suspended_by.map(suspend_word),
        Standing::Revoked if unit.facts.revoked_by_person => Some(revoke_word(RevokeReason::Operator)),
        Standing::Revoked => Some(revoke_word(RevokeReason::MoneyGone)),
    }
}

fn suspend_word(reason: SuspendReason) -> &'static str {
    match reason {
        SuspendReason::Paused => "paused",
        SuspendReason::Unpaid => "unpaid",
        SuspendReason::Disputed => "disputed",
        SuspendReason::QuantityReduced => "quantity_reduced",
        SuspendReason::Lapsed => "lapsed",
        SuspendReason::Operator => "operator",
    }
}

fn revoke_word(reason: RevokeReason) -> &'static str {
    match reason {
        RevokeReason::MoneyGone => "money_gone",
        RevokeReason::Replaced => "replaced",
        RevokeReason::Operator => "operator",
    }
}
