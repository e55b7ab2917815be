//! License rows: every license a unit ever had, and units that were stopped before one was made.

use jiff::Timestamp;
use keyledger_schemas::event::{LicenseTerms, RevokeReason, SealedKey, SuspendReason};
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
    /// The key, sealed.
    pub key: Option<SealedKey>,
    /// What was last confirmed; `None` where no license was made.
    pub terms: Option<LicenseTerms>,
    /// Shown as paid until; `None` when nothing is paid any more.
    pub paid_until: Option<Timestamp>,
    /// Shown as expiring; `None` when nothing is paid any more.
    pub expires_at: Option<Timestamp>,
    /// It never expires.
    pub perpetual: bool,
    /// When it was made or adopted.
    pub issued_at: Option<Timestamp>,
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
    let (state, reason) = match license.stored {
        _ if license.is_active() => ("active", None),
        Stored::Active => ("active", None),
        Stored::Suspended { reason, .. } => ("suspended", Some(suspend_word(reason))),
        Stored::Revoked { reason } => ("revoked", Some(revoke_word(reason))),
    };
    let is_over = license.is_revoked() && unit.paid_until == PaidUntil::None;
    let date = |date: Option<Timestamp>| date.filter(|_| !is_over);
    LicenseRow {
        id: license.license,
        item: unit.item.clone(),
        number: unit.number,
        generation: license.generation,
        state,
        reason,
        origin: license.origin.clone(),
        provider: Some((license.provider.to_string(), license.provider_id.clone(), license.product.clone())),
        key: license.key.clone(),
        paid_until: date(license.terms.paid_until),
        expires_at: date(license.terms.expires_at),
        perpetual: !license.is_revoked() && license.terms.expires_at.is_none(),
        terms: Some(license.terms.clone()),
        issued_at: Some(license.issued_at),
    }
}

fn never_made(rows: &PurchaseRows<'_>, unit: &Unit) -> LicenseRow {
    let reason = match unit.standing {
        Standing::Active | Standing::Suspended => None,
        Standing::Revoked if unit.facts.revoked_by_person => Some(RevokeReason::Operator),
        Standing::Revoked => Some(RevokeReason::MoneyGone),
    };
    LicenseRow {
        id: rows.id.unit(&unit.item, unit.number).license(1),
        item: unit.item.clone(),
        number: unit.number,
        generation: 1,
        state: unit.standing.as_str(),
        reason: reason.map(revoke_word),
        origin: "none".to_owned(),
        provider: None,
        key: None,
        terms: None,
        paid_until: None,
        expires_at: None,
        perpetual: false,
        issued_at: None,
    }
}

fn suspend_word(reason: SuspendReason) -> &'static str {
    match reason {
        SuspendReason::Paused => "paused",
        SuspendReason::Unpaid => "unpaid",
        SuspendReason::Disputed => "disputed",
        SuspendReason::QuantityReduced => "quantity_reduced",
        SuspendReason::Lapsed => "lapsed",
    }
}

fn revoke_word(reason: RevokeReason) -> &'static str {
    match reason {
        RevokeReason::MoneyGone => "money_gone",
        RevokeReason::Replaced => "replaced",
        RevokeReason::Operator => "operator",
    }
}
