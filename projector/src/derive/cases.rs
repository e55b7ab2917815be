//! Cases of one purchase: what is owed and not met, and what a person should know (docs/deciding.md §6).

use jiff::Timestamp;
use keyledger_schemas::event::NotDone;
use keyledger_schemas::mapping::{self, MappingError};
use keyledger_schemas::money::Money;
use keyledger_schemas::settings::{DecidingSettings, LeftPolicy};

use super::addons::InEffect;
use super::items::{Item, ItemKind};
use super::periods::Period;
use super::purchase::PurchaseRows;
use super::sales::{Lines, Sale, Sales};
use super::units::{PaidUntil, Standing, Unit};
use crate::facts::{Kind, ObjectFacts, Waiver};

/// A case as the rows show it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedCase {
    /// `no_key`, `not_extended`, …
    pub kind: &'static str,
    /// What it is about, in words that stay the same: a unit, the purchase, an object.
    pub subject: String,
    /// The unit, where it is about one.
    pub unit: Option<(String, u32)>,
    /// How much money.
    pub amount: Option<Money>,
    /// Since when, where the facts say; else the event that showed it.
    pub since: Option<Timestamp>,
    /// Why.
    pub cause: Option<&'static str>,
    /// On reading, the cause is `issuer_behind` while the issuer has not seen the last event.
    pub awaits_issuer: bool,
    /// More about why.
    pub detail: Option<String>,
    /// How often a provider was asked.
    pub attempts: u32,
    /// When it is tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// A person closed it.
    pub waived: Option<Waiver>,
}

impl DerivedCase {
    pub(crate) fn about(kind: &'static str, subject: impl Into<String>) -> Self {
        Self {
            kind,
            subject: subject.into(),
            unit: None,
            amount: None,
            since: None,
            cause: None,
            awaits_issuer: false,
            detail: None,
            attempts: 0,
            next_attempt_at: None,
            waived: None,
        }
    }
}

/// What was derived before the cases.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What was paid.
    pub sales: &'a Sales<'a>,
    /// What was sold.
    pub items: &'a [Item],
    /// For how long.
    pub periods: &'a [Period],
    /// What is owed.
    pub units: &'a [Unit],
    /// What was sold as more of something else.
    pub addons: &'a [InEffect],
}

/// All cases of a purchase.
pub fn cases(rows: &PurchaseRows<'_>, settings: &DecidingSettings, seen: &Seen<'_>) -> Vec<DerivedCase> {
    let mut cases = Vec::new();
    let left = Left::of(rows, settings, seen.units);
    if settings.issues(&rows.id.scope.source, rows.id.scope.mode) {
        cases.extend(seen.units.iter().filter_map(|unit| unmet(rows, settings, seen.sales, &left, unit)));
        cases.extend(waiting_for_link(rows, seen.sales, seen.items, seen.periods, seen.units));
        cases.extend(no_email(rows, seen.units));
        cases.extend(seen.units.iter().filter_map(|unit| not_adopted(rows, unit)));
    }
    cases.extend(surplus(rows, &left, seen.units));
    cases.extend(mapping_errors(rows, seen));
    cases.extend(disputes(rows));
    cases.extend(unknown_status(rows));
    cases
}

/// The engine whose ids `skm_key_id` and `skm_key_globalid` are.
const CRYPTOLENS: &str = "cryptolens";

/// What marks of our own begin with: they say that we are at work, not that somebody else was.
const OWN_MARK: &str = "keyledger:";

/// What another system left in the subscription's metadata.
struct Left<'a> {
    /// The license it names, where that is none that a unit of the purchase has.
    license: Option<&'a str>,
    /// It marked the sale as charged without a key, and names none.
    marked: bool,
    /// The unit that the named license meets: the first unit of the first item that has periods.
    unit: Option<(&'a str, u32)>,
    /// The named license is looked at before it is taken: its engine is configured.
    is_asked_for: bool,
}

impl<'a> Left<'a> {
    fn of(rows: &PurchaseRows<'a>, settings: &DecidingSettings, units: &'a [Unit]) -> Self {
        let metadata = rows.subscription_metadata();
        let value = |key: &str| metadata?.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
        let (id, global) = (value("skm_key_id"), value("skm_key_globalid"));
        let named = id.or(global);
        let is_known = units.iter().flat_map(|unit| unit.facts.licenses.values()).any(|license| {
            id.is_some_and(|id| license.provider_id == id) || global.is_some_and(|id| license.has_global_id(id))
        });
        let unit = units.iter().find(|unit| unit.has_periods && unit.number == 1);
        Self {
            license: named.filter(|_| !is_known),
            marked: named.is_none() && value("skm_temp_var").is_some_and(|mark| !mark.starts_with(OWN_MARK)),
            unit: unit.map(|unit| (unit.item.as_str(), unit.number)),
            is_asked_for: settings.providers.iter().any(|provider| provider.as_str() == CRYPTOLENS),
        }
    }

    /// A person must decide, by policy, and none has.
    fn is_held(&self, settings: &DecidingSettings, unit: &Unit) -> bool {
        self.marked && settings.policy.left_by_other_system == LeftPolicy::Case && !unit.facts.retried
    }

    /// The named license is this unit's, if it is anyone's.
    fn names_for(&self, unit: &Unit) -> bool {
        self.license.is_some() && self.unit == Some((unit.item.as_str(), unit.number))
    }

    /// The named license meets this unit: nobody is asked, so it is adopted as soon as the issuer sees it.
    fn meets(&self, unit: &Unit) -> bool {
        self.names_for(unit) && !self.is_asked_for
    }
}

/// The case of a unit that is owed a license and not met.
fn unmet(
    rows: &PurchaseRows<'_>,
    settings: &DecidingSettings,
    sales: &Sales<'_>,
    left: &Left<'_>,
    unit: &Unit,
) -> Option<DerivedCase> {
    let kind = open_kind(unit).filter(|kind| *kind == "not_extended" || !left.meets(unit))?;
    let (cause, awaits_issuer, detail) = cause(rows, settings, sales, left, unit);
    let subject = rows.id.unit(&unit.item, unit.number).to_string();
    Some(DerivedCase {
        unit: Some((unit.item.clone(), unit.number)),
        amount: unit.amount.clone(),
        since: if kind == "not_extended" { unit.last_paid_at } else { unit.first_paid_at },
        cause: Some(cause),
        awaits_issuer,
        detail,
        attempts: unit.facts.attempts,
        next_attempt_at: unit.facts.answer.as_ref().and_then(|answer| answer.next_attempt_at),
        waived: unit.facts.waiver.clone().filter(|_| unit.is_waived()),
        ..DerivedCase::about(kind, subject)
    })
}

/// What is open about a unit, whether or not a person waived it. A unit that should stand still is not open.
pub fn open_kind(unit: &Unit) -> Option<&'static str> {
    if !unit.is_owed_by_number || unit.standing != Standing::Active {
        return None;
    }
    if unit.facts.licenses.is_empty() {
        return Some(if unit.charged { "no_key" } else { "free_without_key" });
    }
    let met = unit
        .facts
        .license()
        .is_some_and(|license| license.is_active() && PaidUntil::of_terms(license.terms.paid_until) >= unit.paid_until);
    (!met).then_some("not_extended")
}

/// The first cause that applies, whether the issuer may be behind instead, and more about it.
fn cause(
    rows: &PurchaseRows<'_>,
    settings: &DecidingSettings,
    sales: &Sales<'_>,
    left: &Left<'_>,
    unit: &Unit,
) -> (&'static str, bool, Option<String>) {
    if let Some(answer) = &unit.facts.answer {
        let cause = match answer.answer {
            NotDone::Refused => "provider_refused",
            NotDone::Unavailable => "provider_unavailable",
            NotDone::Indeterminate => "indeterminate",
        };
        let adopting = answer.named.as_ref().map(|named| not_taken(named, &answer.reason));
        return (cause, false, Some(adopting.unwrap_or_else(|| answer.reason.clone())));
    }
    if left.is_held(settings, unit) {
        return ("left_by_other_system", false, None);
    }
    if unit.mapping.is_none() {
        if rows.is_one_off() && sales.lines_unknown {
            return ("lines_unknown", false, None);
        }
        let named = unit.price.as_ref().map(ToString::to_string);
        let detail = unit.mapping_error.as_ref().map(ToString::to_string).or(named);
        return ("unmapped_price", false, detail);
    }
    if lacks_email(rows, unit) {
        return ("no_email", false, None);
    }
    if left.marked {
        return ("left_by_other_system", true, None);
    }
    ("issuing", true, None)
}

/// Money that is there in a subscription purchase, and nothing that says what for. A one-off sale always has an item.
fn waiting_for_link(
    rows: &PurchaseRows<'_>,
    sales: &Sales<'_>,
    items: &[Item],
    periods: &[Period],
    units: &[Unit],
) -> Option<DerivedCase> {
    let beside = |item: &str| items.iter().any(|other| other.name == item && other.kind == ItemKind::InvoiceItem);
    if rows.is_one_off()
        || units.iter().any(|unit| unit.has_periods)
        || periods.iter().any(|period| !beside(&period.item))
    {
        return None;
    }
    // An invoice whose lines are all shown says what was sold, even if that is nothing we make licenses for.
    let hidden = |sale: &&Sale<'_>| match sale.lines {
        Lines::Unknown => true,
        Lines::Invoice { truncated, .. } => truncated,
        Lines::Session(_) => false,
    };
    let waiting = sales.sales.iter().filter(|sale| sale.counts).filter(hidden);
    let waiting = waiting.map(|sale| (sale.total(), sale.total_minor > 0, sale.paid_at));
    let unexplained = sales.unexplained.iter().map(|money| (money.total.clone(), money.charged, money.at));
    let money: Vec<(Option<Money>, bool, Option<Timestamp>)> = waiting.chain(unexplained).collect();
    let (amount, charged, _) = money.iter().max_by_key(|(_, charged, at)| (*charged, *at))?;
    let kind = if *charged { "no_key" } else { "free_without_key" };
    Some(DerivedCase {
        amount: amount.clone(),
        since: money.iter().filter(|(_, also, _)| also == charged).filter_map(|(.., at)| *at).min(),
        cause: Some("waiting_for_link"),
        ..DerivedCase::about(kind, rows.id.to_string())
    })
}

/// Licenses that nobody paid for: found by the issuer, or named by another system beside ours.
fn surplus(rows: &PurchaseRows<'_>, left: &Left<'_>, units: &[Unit]) -> Vec<DerivedCase> {
    let mut cases = Vec::new();
    for unit in units {
        let mut found = unit.facts.surplus.clone();
        if let Some(id) = left.license.filter(|_| left.names_for(unit) && unit.facts.license().is_some()) {
            found
                .entry(format!("{CRYPTOLENS}/{id}"))
                .or_insert_with(|| "the subscription's metadata names it".to_owned());
        }
        for (license, reason) in found {
            let subject = format!("{}/{license}", rows.id.unit(&unit.item, unit.number));
            cases.push(DerivedCase {
                unit: Some((unit.item.clone(), unit.number)),
                detail: Some(format!("{license}: {reason}")),
                ..DerivedCase::about("surplus_key", subject)
            });
        }
    }
    cases
}

/// Whether the unit's license cannot be made because its engine wants to know whose it is, and nothing says.
fn lacks_email(rows: &PurchaseRows<'_>, unit: &Unit) -> bool {
    let wants = unit.mapping.as_ref().is_some_and(|mapping| mapping::needs_email(&mapping.provider));
    wants && unit.facts.licenses.is_empty() && !rows.has_email()
}

/// That an address is missing before a license can be made.
fn no_email(rows: &PurchaseRows<'_>, units: &[Unit]) -> Option<DerivedCase> {
    let waits = |unit: &&Unit| open_kind(unit).is_some() && !unit.is_waived() && lacks_email(rows, unit);
    let unit = units.iter().find(waits)?;
    let provider = unit.mapping.as_ref().map(|mapping| mapping.provider.to_string()).unwrap_or_default();
    Some(DerivedCase {
        amount: unit.amount.clone(),
        since: unit.first_paid_at,
        detail: Some(format!("{provider} makes no license for somebody without an address")),
        ..DerivedCase::about("no_email", rows.id.to_string())
    })
}

/// That an engine does not give a license that was taken before it could be asked: what it holds is not known.
fn not_adopted(rows: &PurchaseRows<'_>, unit: &Unit) -> Option<DerivedCase> {
    let license = unit.facts.license().filter(|license| license.origin == "adopted")?;
    let refused = unit.facts.answer.as_ref().filter(|answer| answer.answer == NotDone::Refused)?;
    let named = refused.named.as_ref().filter(|_| open_kind(unit).is_none())?;
    Some(DerivedCase {
        unit: Some((unit.item.clone(), unit.number)),
        cause: Some("provider_refused"),
        detail: Some(not_taken(named, &refused.reason)),
        attempts: unit.facts.attempts,
        ..DerivedCase::about("not_adopted", format!("{}/{}", rows.id.unit(&unit.item, unit.number), license.generation))
    })
}

fn not_taken(named: &str, reason: &str) -> String {
    format!("license {named} is not taken: {reason}")
}

fn mapping_errors(rows: &PurchaseRows<'_>, seen: &Seen<'_>) -> Vec<DerivedCase> {
    let bad = seen.units.iter().filter(|unit| unit.number == 1 && unit.has_periods);
    let bad = bad.filter_map(|unit| Some((&unit.item, unit.mapping_error.clone()?)));
    let stray = seen.addons.iter().filter_map(|addon| Some((&addon.item, addon.without_base(seen.units)?)));
    let case = |(item, error): (&String, MappingError)| DerivedCase {
        detail: Some(error.to_string()),
        ..DerivedCase::about("mapping_error", format!("{}/{item}", rows.id))
    };
    bad.chain(stray).map(case).collect()
}

fn disputes(rows: &PurchaseRows<'_>) -> Vec<DerivedCase> {
    let case = |object: &crate::facts::Object| {
        let ObjectFacts::Dispute(dispute) = &object.facts else { return None };
        let status = dispute.status.as_ref().filter(|status| status.concerns())?;
        Some(DerivedCase {
            amount: dispute.currency.clone().map(|currency| Money::new(dispute.amount_minor, currency)),
            since: dispute.first_seen,
            cause: None,
            detail: Some(format!("{} is {}", object.node.id, status.as_str())),
            ..DerivedCase::about("disputed", format!("{}:{}", rows.id.scope, object.node.id))
        })
    };
    rows.of_kind(Kind::Dispute).filter_map(case).collect()
}

fn unknown_status(rows: &PurchaseRows<'_>) -> Option<DerivedCase> {
    let skipped = rows.subscription()?.register.skipped()?;
    Some(DerivedCase {
        since: Some(skipped.seen.at),
        detail: Some(skipped.status.as_str().to_owned()),
        ..DerivedCase::about("unknown_status", rows.id.to_string())
    })
}
