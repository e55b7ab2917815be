//! What every purchase is owed once everything that happened is known: `docs/deciding.md` §3 to §6, word by word.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{self, Adds, Beside, Meaning, Rules, Term};
use super::facts::Bill;
use super::history::{DAY, Happened, Line, Second, What};
use super::one_off::one_offs;
use super::subscribed::Subscribed;

/// How long a unit is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// No period counts.
    Nothing,
    /// To this second.
    At(Second),
    /// For good.
    Forever,
}

/// Whether a unit's license should work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Active,
    Suspended,
    Revoked,
}

/// What is expected of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub until: Until,
    pub charged: bool,
    pub number_owed: bool,
    pub standing: Standing,
    /// None without a mapping, and for good.
    pub expires: Option<Second>,
    pub seats: u32,
    pub features: BTreeSet<&'static str>,
    pub meaning: Option<Meaning>,
    /// Another system's license may meet it.
    pub adoptable: bool,
}

impl Unit {
    /// Whether it must have a license now: engines that never fail made it.
    pub fn is_licensed(&self) -> bool {
        self.is_due() && (self.meaning.is_some() || self.adoptable)
    }

    /// The case that is open for it.
    pub fn open_case(&self) -> Option<&'static str> {
        (self.is_due() && !self.is_licensed()).then_some(if self.charged { "no_key" } else { "free_without_key" })
    }

    fn is_due(&self) -> bool {
        self.number_owed && self.until != Until::Nothing && self.standing == Standing::Active
    }
}

/// What is expected of a purchase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purchase {
    /// Its Stripe id. One-off sales have several: which one it goes by is up to what arrives first.
    pub names: BTreeSet<String>,
    /// By item and number.
    pub units: BTreeMap<(String, u32), Unit>,
    /// It holds money for things unknown: the kind of the one case about it.
    pub waiting: Option<&'static str>,
}

/// Everything that is expected of a history.
pub fn expected(history: &[Happened], rules: &Rules) -> Vec<Purchase> {
    let mut subscriptions = BTreeSet::new();
    for happened in history {
        match &happened.what {
            What::Subscription { now, .. } => subscriptions.extend([now.id.clone()]),
            What::Invoice(invoice) => subscriptions.extend(invoice.subscription.clone()),
            What::Session(session) => subscriptions.extend(session.subscription.clone()),
            _ => {}
        }
    }
    let of_subscriptions = subscriptions.into_iter().map(|id| Subscribed::new(history, rules, id).purchase());
    of_subscriptions.chain(one_offs(history).into_iter().map(|sale| sale.purchase(history, rules))).collect()
}

/// A paid period of an item.
#[derive(Clone, Debug)]
pub(super) struct Period {
    pub item: String,
    pub start: Option<Second>,
    /// None is without end.
    pub end: Option<Second>,
    pub charged: bool,
    pub counts: bool,
}

/// What is known of an item beside its periods.
#[derive(Clone, Debug)]
pub(super) struct Sold {
    pub price: Option<&'static str>,
    pub quantity: u64,
    pub greatest: u64,
    pub meaning: Option<Meaning>,
}

/// What stops all units of a purchase, and what ends them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stops {
    pub suspended: bool,
    pub scheduled: Option<Scheduled>,
    pub ended: Option<Second>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Scheduled {
    pub at_period_end: bool,
    pub at: Option<Second>,
}

impl Sold {
    /// It sells no license of its own.
    pub fn beside(&self) -> Option<Beside> {
        self.price.map(catalog::price).and_then(|price| price.beside)
    }
}

/// Gives every license what the add-ons in effect add to it, each with how many of it are bought at present.
pub(super) fn add(units: &mut BTreeMap<(String, u32), Unit>, addons: &[(Adds, u64)]) {
    for unit in units.values_mut() {
        let Some(meaning) = unit.meaning else { continue };
        for (adds, quantity) in addons.iter().filter(|(adds, quantity)| adds.to == meaning.product && *quantity > 0) {
            unit.features.insert(adds.feature);
            unit.seats += adds.seats.map_or(0, |seats| seats.of(*quantity));
        }
    }
}

/// §5: the units of one item that has periods.
pub(super) fn units(
    item: &str,
    sold: &Sold,
    periods: &[Period],
    stops: Stops,
    rules: &Rules,
) -> Vec<((String, u32), Unit)> {
    let of_item: Vec<_> = periods.iter().filter(|period| period.item == item).collect();
    if of_item.is_empty() || sold.beside().is_some() {
        return Vec::new();
    }
    let counting: Vec<_> = of_item.iter().filter(|period| period.counts).collect();
    let until = counting.iter().map(|period| end(period, sold.meaning)).max().unwrap_or(Until::Nothing);
    let units_for = |quantity: u64| match sold.meaning {
        _ if quantity == 0 => 0,
        Some(meaning) => meaning.units.of(quantity),
        None => 1,
    };
    let mut units = Vec::new();
    for number in 1..=units_for(sold.greatest).max(1) {
        let number_owed = number <= units_for(sold.quantity);
        let standing = if until == Until::Nothing {
            Standing::Revoked
        } else if stops.suspended || !number_owed {
            Standing::Suspended
        } else {
            Standing::Active
        };
        let unit = Unit {
            until,
            charged: counting.iter().any(|period| period.charged),
            number_owed,
            standing,
            expires: sold.meaning.and_then(|meaning| expiry(until, meaning, stops, rules)),
            seats: sold.meaning.map_or(1, |meaning| meaning.seats.of(sold.quantity).max(1)),
            features: sold.meaning.and_then(|meaning| meaning.feature).into_iter().collect(),
            meaning: sold.meaning,
            adoptable: false,
        };
        units.push(((item.to_owned(), number), unit));
    }
    units
}

fn end(period: &Period, meaning: Option<Meaning>) -> Until {
    let term = meaning.map_or(Term::Subscription, |meaning| meaning.term);
    match (term, period.start, period.end) {
        // A trial has no start, and keeps its end.
        (_, None, Some(end)) => Until::At(end),
        (Term::Perpetual, _, _) => Until::Forever,
        (Term::Days(days), Some(start), _) => Until::At(start + days * DAY),
        (_, _, Some(end)) => Until::At(end),
        (_, _, None) => Until::Forever,
    }
}

fn expiry(until: Until, meaning: Meaning, stops: Stops, rules: &Rules) -> Option<Second> {
    let Until::At(until) = until else { return None };
    let with_grace = until + meaning.grace;
    if let Some(ended) = stops.ended {
        return Some(if rules.end_cuts { with_grace.min(ended) } else { with_grace });
    }
    let ends_with_period =
        stops.scheduled.is_some_and(|scheduled| scheduled.at_period_end || scheduled.at.is_some_and(|at| at <= until));
    Some(if ends_with_period && rules.scheduled_cuts_grace { until } else { with_grace })
}

/// The lines of a bill that are known.
pub(super) fn lines(bill: &Bill) -> &[Line] {
    bill.lines.as_deref().unwrap_or_default()
}

/// A line that is an item of its own.
pub(super) fn of_line(rules: &Rules, line: &Line, allow_default: bool) -> Sold {
    let quantity = line.quantity.unwrap_or(1);
    let meaning = rules.meaning(Some(line.price), allow_default);
    Sold { price: Some(line.price), quantity, greatest: quantity, meaning }
}
