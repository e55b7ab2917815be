//! Cases of one purchase: what is owed and not met, and what a person should know (docs/deciding.md §6).

use jiff::Timestamp;
use keyledger_schemas::event::NotDone;
use keyledger_schemas::money::Money;
use keyledger_schemas::settings::{DecidingSettings, LeftPolicy};

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

/// All cases of a purchase.
pub fn cases(
    rows: &PurchaseRows<'_>,
    settings: &DecidingSettings,
    sales: &Sales<'_>,
    items: &[Item],
    periods: &[Period],
    units: &[Unit],
) -> Vec<DerivedCase> {
    let mut cases = Vec::new();
    let left = Left::of(rows, units);
    if settings.issues(&rows.id.scope.source, rows.id.scope.mode) {
        cases.extend(units.iter().filter_map(|unit| unmet(rows, settings, sales, &left, unit)));
        cases.extend(waiting_for_link(rows, sales, items, periods, units));
    }
    cases.extend(surplus(rows, &left, units));
    cases.extend(mapping_errors(rows, units));
    cases.extend(disputes(rows));
    cases.extend(unknown_status(rows));
    cases
}

/// What another system left in the subscription's metadata.
struct Left<'a> {
    /// The license it names.
    license: Option<&'a str>,
    /// It marked the sale as charged without a key.
    marked: bool,
    /// The unit that the named license meets: the first unit of the first item that has periods.
    unit: Option<(&'a str, u32)>,
}

impl<'a> Left<'a> {
    fn of(rows: &PurchaseRows<'a>, units: &'a [Unit]) -> Self {
        let metadata = rows.subscription_metadata();
        let value = |key: &str| metadata?.get(key).map(String::as_str).filter(|value| !value.trim().is_empty());
        let unit = units.iter().find(|unit| unit.has_periods && unit.number == 1);
        Self {
            license: value("skm_key_id").or_else(|| value("skm_key_globalid")),
            marked: metadata.is_some_and(|metadata| metadata.contains_key("skm_temp_var")),
            unit: unit.map(|unit| (unit.item.as_str(), unit.number)),
        }
    }

    /// A person must decide, by policy.
    fn is_held(&self, settings: &DecidingSettings) -> bool {
        settings.policy.left_by_other_system == LeftPolicy::Case && self.marked && self.license.is_none()
    }

    /// The named license meets this unit, and is being adopted.
    fn meets(&self, unit: &Unit) -> bool {
        self.license.is_some() && self.unit == Some((unit.item.as_str(), unit.number))
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
        return (cause, false, Some(answer.reason.clone()));
    }
    if left.is_held(settings) {
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
        let known = unit.facts.licenses.values().any(|license| Some(license.provider_id.as_str()) == left.license);
        if let Some(id) = left.license.filter(|_| left.meets(unit) && !known && unit.facts.license().is_some()) {
            found
                .entry(format!("cryptolens/{id}"))
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

fn mapping_errors(rows: &PurchaseRows<'_>, units: &[Unit]) -> Vec<DerivedCase> {
    let bad = units.iter().filter(|unit| unit.number == 1 && unit.has_periods);
    let case = |unit: &Unit| {
        let detail = unit.mapping_error.as_ref()?.to_string();
        let subject = format!("{}/{}", rows.id, unit.item);
        Some(DerivedCase { detail: Some(detail), ..DerivedCase::about("mapping_error", subject) })
    };
    bad.filter_map(case).collect()
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
