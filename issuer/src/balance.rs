//! The issuer's side of the trial balance: which obligations are open by its own state.

use std::sync::Arc;

use jiff::Timestamp;
use keyledger_eventlog::log::EventLog;
use keyledger_schemas::ids::{LicenseId, ProviderName, UnitId};

use crate::engines::Engines;
use crate::purchase::Purchase;
use crate::purchase::desired::{self, Context, Desired, PaidUntil};
use crate::purchase::period;
use crate::purchase::state::{License, Standing, Unit};
use crate::store::{self, PURCHASES, StoreError, WorkingSet};

/// How many purchases are read at a time.
const PAGE: usize = 256;

/// What is wrong about a paid unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpenKind {
    /// Charged, and never licensed.
    NoKey,
    /// Not charged, and never licensed.
    FreeWithoutKey,
    /// Licensed, but short, suspended or revoked.
    NotExtended,
}

impl OpenKind {
    /// The kind of the case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::FreeWithoutKey => "free_without_key",
            Self::NotExtended => "not_extended",
        }
    }
}

/// An obligation that is open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Open {
    /// What is wrong.
    pub kind: OpenKind,
    /// The unit, or the purchase where its items are unknown.
    pub subject: String,
}

/// Every open obligation, by the issuer's state alone, in the order of the purchases.
///
/// # Errors
///
/// See [`StoreError`].
pub async fn open_obligations(log: &Arc<dyn EventLog>, engines: &Engines) -> Result<Vec<Open>, StoreError> {
    let settings = store::settings(&**log).await?;
    let mut open = Vec::new();
    let mut after = String::new();
    loop {
        let page = log.state_scan(PURCHASES, "", &after, PAGE).await?;
        for row in &page {
            let purchase: Purchase = store::decode(row)?;
            let context = WorkingSet::new(log.clone()).context_of(&purchase, settings.clone(), engines).await?;
            open.extend(open_in(&purchase, &context));
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after.clone_from(&last.key),
            _ => break,
        }
    }
    open.sort();
    Ok(open)
}

/// The open obligations of one purchase.
pub fn open_in(purchase: &Purchase, context: &Context) -> Vec<Open> {
    if !context.settings.issues(&purchase.id.scope.source, purchase.id.scope.mode) {
        return Vec::new();
    }
    let units = desired::units(purchase, context);
    let mut open: Vec<_> = units
        .iter()
        .filter_map(|(desired, _)| {
            let unit = purchase.unit(&desired.unit.item, desired.unit.number).cloned().unwrap_or_default();
            Some(Open { kind: open_kind(&unit, desired)?, subject: desired.unit.to_string() })
        })
        .collect();
    if let Some(charged) = period::sold_unseen(&purchase.knowledge, &context.settings.policy) {
        let kind = if charged { OpenKind::NoKey } else { OpenKind::FreeWithoutKey };
        open.push(Open { kind, subject: purchase.id.to_string() });
    }
    open
}

fn open_kind(unit: &Unit, desired: &Desired) -> Option<OpenKind> {
    let waived = unit.waived.is_some_and(|waived| PaidUntil::of_date(waived.through) >= desired.paid_until);
    let owed = desired.number_owed && desired.standing == Standing::Active && desired.paid_until.is_owed();
    if !owed || waived {
        return None;
    }
    match unit.license() {
        Some((_, license)) if crate::purchase::decide::is_met(license, desired) => None,
        Some(_) => Some(OpenKind::NotExtended),
        None if !unit.licenses.is_empty() => Some(OpenKind::NotExtended),
        None if desired.charged => Some(OpenKind::NoKey),
        None => Some(OpenKind::FreeWithoutKey),
    }
}

/// One license as the issuer's state has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenseLine {
    /// The unit it is or was for.
    pub unit: UnitId,
    /// The unit's 1st, 2nd … license.
    pub generation: u32,
    /// The license.
    pub license: LicenseId,
    /// The engine that holds it.
    pub provider: ProviderName,
    /// The engine's own id.
    pub provider_id: String,
    /// `active`, `suspended` or `revoked`.
    pub standing: &'static str,
    /// What is paid until; `None` for ever.
    pub paid_until: Option<Timestamp>,
    /// When it stops working; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// Seats.
    pub seats: u32,
}

/// A page of purchases' licenses, by purchase: those of up to `limit` purchases after the key `after`, and the key to go
/// on from. No key means that there are no more.
///
/// # Errors
///
/// See [`StoreError`].
pub async fn licenses(
    log: &Arc<dyn EventLog>,
    after: &str,
    limit: usize,
) -> Result<(Vec<LicenseLine>, Option<String>), StoreError> {
    let page = log.state_scan(PURCHASES, "", after, limit).await?;
    let mut lines = Vec::new();
    for row in &page {
        let purchase: Purchase = store::decode(row)?;
        for (item, units) in &purchase.units {
            for (number, unit) in units {
                let id = purchase.id.unit(item.clone(), *number);
                lines.extend(unit.licenses.iter().map(|(generation, license)| line(&id, *generation, license)));
            }
        }
    }
    Ok((lines, page.last().map(|row| row.key.clone())))
}

fn line(unit: &UnitId, generation: u32, license: &License) -> LicenseLine {
    LicenseLine {
        unit: unit.clone(),
        generation,
        license: license.id,
        provider: license.provider.clone(),
        provider_id: license.provider_id.clone(),
        standing: match license.standing {
            Standing::Active => "active",
            Standing::Suspended(_) => "suspended",
            Standing::Revoked(_) => "revoked",
        },
        paid_until: license.terms.paid_until,
        expires_at: license.terms.expires_at,
        seats: license.terms.seats,
    }
}
