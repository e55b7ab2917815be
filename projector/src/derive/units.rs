//! Units: how many licenses an item is owed, until when, and what each should be like (docs/deciding.md §5).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_schemas::event::SuspendReason;
use keyledger_schemas::ids::PriceId;
use keyledger_schemas::mapping::{self, Mapping, MappingError, Meaning};
use keyledger_schemas::money::Money;
use keyledger_schemas::settings::{CancelPolicy, Count, DecidingSettings, EndedPolicy, Policy, StopOrKeep, Term};
use keyledger_schemas::stripe::fact::Metadata;
use keyledger_schemas::stripe::status::SubscriptionStatus;

use super::addons::{self, InEffect};
use super::items::{Item, ItemKind};
use super::periods::Period;
use super::purchase::PurchaseRows;
use super::sales::Sales;
use crate::facts::UnitFacts;

/// What a unit's license should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Working, as far as its expiry lets it.
    Active,
    /// Stopped for now.
    Suspended,
    /// Stopped for good.
    Revoked,
}

impl Standing {
    /// The word in the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }
}

/// How long a unit is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PaidUntil {
    /// No period counts.
    None,
    /// To the latest end.
    At(Timestamp),
    /// For good.
    ForEver,
}

impl PaidUntil {
    /// As license terms write it: `None` for ever.
    pub fn of_terms(paid_until: Option<Timestamp>) -> Self {
        paid_until.map_or(Self::ForEver, Self::At)
    }

    /// The date, where there is one.
    pub fn date(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::None | Self::ForEver => None,
        }
    }
}

/// One unit of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The item's name.
    pub item: String,
    /// From 1.
    pub number: u32,
    /// D.
    pub paid_until: PaidUntil,
    /// Some counting period is charged.
    pub charged: bool,
    /// As many are bought.
    pub is_owed_by_number: bool,
    /// What its license should be.
    pub standing: Standing,
    /// Why, where it is suspended.
    pub suspended_by: Option<SuspendReason>,
    /// E: when its license should stop working; `None` for never, and where nothing counts.
    pub expires_at: Option<Timestamp>,
    /// Seats of its license, add-ons included, where something says what the sale means.
    pub seats: Option<u32>,
    /// Features of its license, add-ons included.
    pub features: BTreeSet<String>,
    /// What the sale means, where something says.
    pub mapping: Option<Mapping>,
    /// Why the sale's metadata cannot be used.
    pub mapping_error: Option<MappingError>,
    /// The price, where known.
    pub price: Option<PriceId>,
    /// Whether the item has periods at all.
    pub has_periods: bool,
    /// The amount of the latest charged counting period, else of the latest counting one.
    pub amount: Option<Money>,
    /// When the first counting charged period was paid, else the first counting one.
    pub first_paid_at: Option<Timestamp>,
    /// When the period that reaches furthest was paid.
    pub last_paid_at: Option<Timestamp>,
    /// What our own events say.
    pub facts: UnitFacts,
}

impl Unit {
    /// Whether a person closed it as far as it is paid now.
    pub fn is_waived(&self) -> bool {
        let Some(waiver) = &self.facts.waiver else { return false };
        self.paid_until <= PaidUntil::of_terms(waiver.through)
    }
}

/// The units of all items, by item and number.
pub fn units(
    rows: &PurchaseRows<'_>,
    settings: &DecidingSettings,
    sales: &Sales<'_>,
    items: &[Item],
    periods: &[Period],
    addons: &[InEffect],
) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut items: Vec<Item> = items.to_vec();
    // A license whose item nothing names any more is still shown, as a unit that nothing pays for.
    let named: BTreeSet<&str> = items.iter().map(|item| item.name.as_str()).collect();
    let licensed = rows.units.iter().filter(|(_, facts)| !facts.licenses.is_empty()).map(|((item, _), _)| *item);
    let orphans: BTreeSet<&str> = licensed.filter(|item| !named.contains(item)).collect();
    let orphans: Vec<Item> = orphans.into_iter().map(orphan).collect();
    items.extend(orphans);
    for item in &items {
        let of_item: Vec<&Period> = periods.iter().filter(|period| period.item == item.name).collect();
        units.extend(of_one_item(rows, settings, sales, item, &of_item));
    }
    for unit in &mut units {
        addons::add(unit, addons);
    }
    units.sort_by(|a, b| (&a.item, a.number).cmp(&(&b.item, b.number)));
    units
}

fn orphan(name: &str) -> Item {
    Item {
        name: name.to_owned(),
        kind: ItemKind::Subscription,
        quantity: 1,
        present: 1,
        greatest_quantity: 1,
        price: None,
        product: None,
        price_metadata: Metadata::new(),
        metered: false,
        explicit_only: false,
    }
}

fn of_one_item(
    rows: &PurchaseRows<'_>,
    settings: &DecidingSettings,
    sales: &Sales<'_>,
    item: &Item,
    periods: &[&Period],
) -> Vec<Unit> {
    let own = |number: u32| rows.units.get(&(item.name.as_str(), number)).copied();
    let of_item = rows.units.iter().filter(|((name, _), _)| *name == item.name);
    let kept = of_item.clone().find_map(|(_, facts)| kept_mapping(facts, item));
    let (anew, no_license, mapping_error) = match meaning(rows, settings, item) {
        Ok(Some(Meaning::License(mapping))) => (Some(*mapping), false, None),
        Ok(Some(Meaning::Addon(_) | Meaning::Nothing)) => (None, true, None),
        Ok(None) => (None, false, None),
        Err(error) => (None, false, Some(error)),
    };
    // What is sold as no license of its own opens nothing. A license that was made before stays as it is.
    let periods = if no_license && kept.is_none() { &[] } else { periods };
    let adopted = || of_item.clone().find_map(|(_, facts)| adopted_mapping(facts, settings));
    // How many units there are is counted by one mapping for all of them.
    let shared = kept.cloned().or_else(|| anew.clone()).or_else(adopted);
    let licensed = of_item.clone().filter(|(_, facts)| !facts.licenses.is_empty());
    let licensed = licensed.map(|((_, number), _)| *number).max().unwrap_or(0);
    // Quantity 0 still shows the units there were, as ones that are not owed.
    let shown = match &shared {
        _ if periods.is_empty() || !sells(item, shared.as_ref()) => 0,
        Some(mapping) => mapping.units_for(item.greatest_quantity).max(1),
        None => 1,
    };
    let mut units = Vec::new();
    for number in 1..=shown.max(licensed) {
        let facts = own(number).cloned().unwrap_or_default();
        let mapping = kept_mapping(&facts, item).cloned().or_else(|| anew.clone());
        let mapping = mapping.or_else(|| adopted_mapping(&facts, settings));
        let sold: &[&Period] = if sells(item, mapping.as_ref()) { periods } else { &[] };
        let paid = Paid::of(sold, mapping.as_ref().map(|mapping| &mapping.term));
        let owed = match &mapping {
            Some(mapping) => number <= mapping.units_for(item.quantity),
            None => number == 1 && item.quantity > 0,
        };
        let suspended_by = suspended_by(rows, &settings.policy, sales, &facts, owed);
        units.push(Unit {
            item: item.name.clone(),
            number,
            standing: standing(&facts, paid.until, suspended_by),
            suspended_by,
            expires_at: extended(expires_at(rows, &settings.policy, mapping.as_ref(), paid.until), &facts),
            seats: mapping.as_ref().map(|mapping| mapping.seats_for(item.quantity)),
            features: mapping.as_ref().map(|mapping| mapping.features.clone()).unwrap_or_default(),
            paid_until: paid.until,
            charged: paid.charged,
            is_owed_by_number: owed,
            mapping_error: match &mapping {
                Some(mapping) => mapping.too_many(item.quantity),
                None => mapping_error.clone(),
            },
            mapping,
            price: item.price.clone(),
            has_periods: !sold.is_empty(),
            amount: paid.amount,
            first_paid_at: paid.first_paid_at,
            last_paid_at: paid.last_paid_at,
            facts,
        });
    }
    units
}

/// The mapping that a unit with a license keeps: the one recorded with its latest, as long as the price is the one it
/// was found for or none is known. A unit without a license keeps nothing: a mended catalog heals it.
pub(super) fn kept_mapping<'f>(facts: &'f UnitFacts, item: &Item) -> Option<&'f Mapping> {
    let (_, latest) = facts.licenses.last_key_value()?;
    let recorded = latest.mapping.as_ref()?;
    (item.price.is_none() || recorded.price == item.price).then_some(recorded)
}

/// What an adopted license means whose price is mapped nowhere.
fn adopted_mapping(facts: &UnitFacts, settings: &DecidingSettings) -> Option<Mapping> {
    let license = facts.license().filter(|license| license.origin == "adopted")?;
    Some(Mapping {
        provider: license.provider.clone(),
        product: license.product.clone().unwrap_or_default(),
        seats: Count::Quantity,
        units: Count::Fixed(1),
        term: Term::Subscription,
        features: BTreeSet::new(),
        grace: settings.policy.grace,
        options: BTreeMap::new(),
        price: None,
        max_release: None,
    })
}

/// What the item means by today's settings and metadata.
pub(super) fn meaning(
    rows: &PurchaseRows<'_>,
    settings: &DecidingSettings,
    item: &Item,
) -> Result<Option<Meaning>, MappingError> {
    let catalog_price = || item.price.as_ref().and_then(|price| rows.catalog.price_metadata(price));
    let price = Some(&item.price_metadata).filter(|metadata| !metadata.is_empty()).or_else(catalog_price);
    let product = item.product.as_ref().and_then(|product| rows.catalog.product_metadata(product));
    // What is sold beside a subscription is not what the subscription's or session's metadata names.
    let (session, subscription) = match item.kind {
        ItemKind::InvoiceItem => (None, None),
        ItemKind::Subscription | ItemKind::OneOff => (rows.session_metadata(), rows.subscription_metadata()),
    };
    let sale = mapping::Sale {
        metadata: [session, subscription, price, product],
        price: item.price.as_ref(),
        product: item.product.as_ref(),
        allow_default: !item.explicit_only,
    };
    mapping::resolve(settings, &sale)
}

/// Whether the item's periods open units at all.
fn sells(item: &Item, mapping: Option<&Mapping>) -> bool {
    let measured = item.metered && !mapping.is_some_and(|mapping| matches!(mapping.seats, Count::Fixed(_)));
    let not_meant = item.explicit_only && mapping.is_none();
    !measured && !not_meant
}

/// What a unit's periods come to.
struct Paid {
    until: PaidUntil,
    charged: bool,
    amount: Option<Money>,
    first_paid_at: Option<Timestamp>,
    last_paid_at: Option<Timestamp>,
}

impl Paid {
    fn of(periods: &[&Period], term: Option<&Term>) -> Self {
        let counting: Vec<(PaidUntil, &Period)> =
            periods.iter().filter(|period| period.counts).map(|period| (end(period, term), *period)).collect();
        let charged: Vec<(PaidUntil, &Period)> =
            counting.iter().filter(|(_, period)| period.charged).copied().collect();
        let telling = if charged.is_empty() { &counting } else { &charged };
        let latest = telling.iter().max_by_key(|(end, period)| (*end, period.paid_at));
        let furthest = counting.iter().max_by_key(|(end, period)| (*end, period.paid_at));
        Self {
            until: furthest.map_or(PaidUntil::None, |(end, _)| *end),
            charged: !charged.is_empty(),
            amount: latest.and_then(|(_, period)| period.amount.clone()),
            first_paid_at: telling.iter().filter_map(|(_, period)| period.paid_at).min(),
            last_paid_at: furthest.and_then(|(_, period)| period.paid_at),
        }
    }
}

/// The end that the mapping's term gives a period. A duration needs a start to count from.
fn end(period: &Period, term: Option<&Term>) -> PaidUntil {
    let end = match (term, period.start) {
        _ if period.is_trial => period.end,
        (None | Some(Term::Subscription), _) | (Some(Term::Lasting(_)), None) => period.end,
        (Some(Term::Perpetual), _) => None,
        (Some(term @ Term::Lasting(_)), Some(start)) => term.end(start, period.end),
    };
    PaidUntil::of_terms(end)
}

fn standing(facts: &UnitFacts, paid_until: PaidUntil, suspended_by: Option<SuspendReason>) -> Standing {
    if facts.revoked_by_person || paid_until == PaidUntil::None {
        return Standing::Revoked;
    }
    if suspended_by.is_some() { Standing::Suspended } else { Standing::Active }
}

/// Why a unit's license should stand still, if it should.
fn suspended_by(
    rows: &PurchaseRows<'_>,
    policy: &Policy,
    sales: &Sales<'_>,
    facts: &UnitFacts,
    owed: bool,
) -> Option<SuspendReason> {
    if facts.suspended_by_person {
        return Some(SuspendReason::Operator);
    }
    if sales.disputed && policy.dispute_open == StopOrKeep::Suspend {
        return Some(SuspendReason::Disputed);
    }
    stopped_by_status(rows, policy, sales).or((!owed).then_some(SuspendReason::QuantityReduced))
}

/// Whether the subscription's status stops its licenses.
fn stopped_by_status(rows: &PurchaseRows<'_>, policy: &Policy, sales: &Sales<'_>) -> Option<SuspendReason> {
    let current = rows.subscription()?.register.current()?;
    match current.status {
        SubscriptionStatus::Paused => (policy.paused == StopOrKeep::Suspend).then_some(SuspendReason::Paused),
        SubscriptionStatus::Unpaid => {
            let paid_since = sales.last_paid_at.is_some_and(|paid_at| paid_at > current.seen.at);
            (policy.unpaid == StopOrKeep::Suspend && !paid_since).then_some(SuspendReason::Unpaid)
        }
        SubscriptionStatus::Incomplete
        | SubscriptionStatus::IncompleteExpired
        | SubscriptionStatus::Trialing
        | SubscriptionStatus::Active
        | SubscriptionStatus::PastDue
        | SubscriptionStatus::Canceled
        | SubscriptionStatus::Unknown(_) => None,
    }
}

/// E, at least until when a person wants it. What does not expire needs no more time.
fn extended(expires_at: Option<Timestamp>, facts: &UnitFacts) -> Option<Timestamp> {
    expires_at.map(|at| facts.extended_until.map_or(at, |until| at.max(until)))
}

/// E, as far as it is paid. What is paid for ever does not expire, whatever becomes of the subscription.
fn expires_at(
    rows: &PurchaseRows<'_>,
    policy: &Policy,
    mapping: Option<&Mapping>,
    paid_until: PaidUntil,
) -> Option<Timestamp> {
    let paid_until = paid_until.date()?;
    let with_grace = mapping.map_or(policy.grace, |mapping| mapping.grace).after(paid_until);
    let Some(current) = rows.subscription().and_then(|subscription| subscription.register.current()) else {
        return Some(with_grace);
    };
    let ends = match current.ended() {
        Some(ended) if policy.ended == EndedPolicy::EndedAt => with_grace.min(ended),
        Some(_) => with_grace,
        None => {
            let cancels = current.cancel_at_period_end || current.cancel_at.is_some_and(|at| at <= paid_until);
            if cancels && policy.cancel_scheduled == CancelPolicy::PaidUntil { paid_until } else { with_grace }
        }
    };
    Some(ends)
}
