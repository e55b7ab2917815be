//! What each unit of a purchase should be like, from facts, settings and what people decided.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_schemas::event::{LicenseTerms, RevokeReason, SuspendReason};
use keyledger_schemas::ids::{CustomerId, PaymentIntentId, PriceId, ProductId, ProviderName, UnitId};
use keyledger_schemas::mapping::{self, Addon, Mapping, Meaning, Sale};
use keyledger_schemas::money::Money;
use keyledger_schemas::settings::{
    CancelPolicy, Count, DecidingSettings, EndedPolicy, Grace, LeftPolicy, StopOrKeep, Term,
};
use keyledger_schemas::stripe::fact::Metadata;
use keyledger_schemas::stripe::status::SubscriptionStatus;

use super::addon::{self, Added};
use super::named::{self, NamedLicense};
use super::period::{self, Item, ItemKind};
use super::state::{Purchase, Standing, Unit};
use crate::provider::Capabilities;

/// What decisions are made with, apart from the purchase.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The settings last recorded in the log.
    pub settings: DecidingSettings,
    /// Prices and products that the purchase's items refer to.
    pub catalogue: Catalogue,
    /// The engines that can be called, and what they can do.
    pub providers: BTreeMap<ProviderName, Capabilities>,
    /// Stripe's customer shows an address.
    pub has_address: bool,
}

/// Metadata of prices and products, as Stripe's catalogue events showed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// By price: its product and its metadata.
    pub prices: BTreeMap<PriceId, (Option<ProductId>, Metadata)>,
    /// By product: its metadata.
    pub products: BTreeMap<ProductId, Metadata>,
}

/// What is paid until: nothing, a date, or for ever. Ordered by how far it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PaidUntil {
    /// No period counts.
    Nothing,
    /// The latest end of the counting periods.
    At(Timestamp),
    /// A counting period has no end.
    Forever,
}

impl PaidUntil {
    /// As events write it: `None` is for ever. `Nothing` has no date either; ask [`PaidUntil::is_owed`] first.
    pub fn date(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::Nothing | Self::Forever => None,
        }
    }

    /// What events wrote.
    pub fn of_date(date: Option<Timestamp>) -> Self {
        date.map_or(Self::Forever, Self::At)
    }

    /// Whether some period counts.
    pub fn is_owed(self) -> bool {
        self != Self::Nothing
    }
}

/// What one unit should be like.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The unit.
    pub unit: UnitId,
    /// Whose it is, where known.
    pub customer: Option<CustomerId>,
    /// `pi_…` of a one-off sale, where a link says.
    pub payment: Option<PaymentIntentId>,
    /// What is paid until.
    pub paid_until: PaidUntil,
    /// Money was taken for a counting period.
    pub charged: bool,
    /// What was paid for the latest charged one.
    pub amount: Option<Money>,
    /// Its number is within what was bought.
    pub number_owed: bool,
    /// Whether its license should work.
    pub standing: Standing,
    /// What the sale means, or why nothing says.
    pub mapping: Result<Mapping, Unmapped>,
    /// What it means by today's settings, whatever its license keeps.
    pub today: Option<Mapping>,
    /// What the purchase's add-ons give to it.
    pub added: Added,
    /// When its license should stop working; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// A license at another engine that the subscription's metadata names for it.
    pub named: Option<NamedLicense>,
    /// Why it gets no license, although one is owed.
    pub held: Option<HeldBack>,
    /// No other unit of the purchase is sold as the same product of the same engine.
    pub alone: bool,
}

/// Why nothing is made for a unit that is owed a license.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// It was never licensed, its engine needs an address, and none is known.
    NoEmail,
    /// Another system left the sale marked, and the policy leaves it to a person.
    LeftToPerson,
}

/// Why a sale means nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// No metadata and no catalog entry matches.
    NoEntry,
    /// Metadata names a product in a way that cannot be used.
    Metadata(mapping::MappingError),
    /// It is more of another item's license.
    Addon(Addon),
    /// The catalog says that it means nothing here.
    Skipped,
}

impl Unmapped {
    /// Whether the catalog says on purpose that it is no license.
    fn is_meant(&self) -> bool {
        match self {
            Self::Addon(_) | Self::Skipped => true,
            Self::NoEntry | Self::Metadata(_) => false,
        }
    }
}

impl Desired {
    /// What its license should be like. `None` without a mapping or without money.
    pub fn terms(&self, quantity: u64) -> Option<LicenseTerms> {
        let mapping = self.mapping.as_ref().ok().filter(|_| self.paid_until.is_owed())?;
        Some(LicenseTerms {
            paid_until: self.paid_until.date(),
            expires_at: self.expires_at,
            seats: mapping.seats_for(quantity).saturating_add(self.added.seats),
            features: mapping.features.union(&self.added.features).cloned().collect(),
        })
    }
}

/// The engine whose ids `skm_key_id` and `skm_key_globalid` are.
pub const CRYPTOLENS: &str = "cryptolens";

/// Every unit of the purchase that is or was owed, by item and number, with the quantity of its item.
pub fn units(purchase: &Purchase, context: &Context) -> Vec<(Desired, u64)> {
    let items = period::items(&purchase.knowledge, &context.settings.policy);
    let sold: Vec<_> = items
        .iter()
        .map(|item| (item, name_of(purchase, item), resolve(purchase, context, item)))
        .filter(|(item, name, base)| is_sold(item, base, counted(purchase, item, name, base)))
        .collect();
    let first = sold.iter().map(|(_, name, _)| name).min().cloned();
    let named = named::license(purchase).filter(|_| !named::is_known(purchase));
    let addons = addon::in_effect(purchase, context, &items);
    let payment = purchase.knowledge.sale_payment();
    let mut units = Vec::new();
    for (item, name, base) in sold {
        let own = purchase.units.get(&name);
        let counted = counted(purchase, item, &name, &base);
        let ever = counted.map_or(1, |mapping| mapping.units_for(item.quantity_max));
        let held = own.and_then(|own| own.iter().rev().find(|(_, unit)| !unit.licenses.is_empty()));
        for number in 1..=ever.max(held.map_or(0, |(number, _)| *number)).max(1) {
            let unit = own.and_then(|own| own.get(&number));
            let named = named.clone().filter(|_| number == 1 && first.as_deref() == Some(&*name));
            let facts = Facts { purchase, context, item, number, named };
            let mut desired = facts.desired(purchase.id.unit(name.clone(), number), unit, &base);
            desired.added = addon::sum(&addons, desired.mapping.as_ref().ok());
            desired.payment.clone_from(&payment);
            units.push((desired, item.quantity));
        }
    }
    let kinds: Vec<_> = units.iter().map(|(desired, _)| kind(desired)).collect();
    for (desired, _) in &mut units {
        let own = kind(desired);
        desired.alone = kinds.iter().filter(|kind| **kind == own).count() == 1;
    }
    units
}

/// Which engine and product a unit is sold as.
fn kind(desired: &Desired) -> Option<(ProviderName, String)> {
    let mapping = desired.mapping.as_ref().ok()?;
    Some((mapping.provider.clone(), mapping.product.clone()))
}

/// The mapping that a unit with a license keeps, while the item's price is the one it was recorded for.
pub(super) fn kept<'u>(unit: &'u Unit, item: &Item) -> Option<&'u Mapping> {
    let price = item.price.as_ref().map(|price| &price.id);
    let recorded = unit.latest().and_then(|(_, license)| license.mapping.as_ref());
    recorded.filter(|recorded| price.is_none() || recorded.price.as_ref() == price)
}

/// The mapping that says how many units an item has: one that a unit with a license keeps, else today's.
fn counted<'m>(
    purchase: &'m Purchase,
    item: &Item,
    name: &str,
    base: &'m Result<Mapping, Unmapped>,
) -> Option<&'m Mapping> {
    let mut units = purchase.units.get(name).into_iter().flat_map(BTreeMap::values);
    units.find_map(|unit| kept(unit, item)).or(base.as_ref().ok())
}

/// Whether the item has units at all: metered usage only with fixed seats, invoice items only where mapped explicitly, and
/// nothing that the catalog skips or makes an add-on, unless a license of it keeps what it was.
fn is_sold(item: &Item, base: &Result<Mapping, Unmapped>, mapping: Option<&Mapping>) -> bool {
    if mapping.is_none() && base.as_ref().is_err_and(Unmapped::is_meant) {
        return false;
    }
    let fixed_seats = mapping.is_some_and(|mapping| matches!(mapping.seats, Count::Fixed(_)));
    (!item.metered || fixed_seats) && (item.kind != ItemKind::Explicit || mapping.is_some())
}

/// The item's first name: one that own events used already, else its own.
pub(super) fn name_of(purchase: &Purchase, item: &Item) -> String {
    let used = |name: &&String| purchase.units.contains_key(*name);
    let names = [&item.name].into_iter().chain(&item.aliases);
    names.into_iter().find(used).unwrap_or(&item.name).clone()
}

/// What the item's sale means by today's settings.
pub(super) fn resolve(purchase: &Purchase, context: &Context, item: &Item) -> Result<Mapping, Unmapped> {
    let known = |price: &PriceId| context.catalogue.prices.get(price);
    let price = item.price.as_ref();
    let product = price.and_then(|price| {
        price.product.as_ref().or_else(|| known(&price.id).and_then(|(product, _)| product.as_ref()))
    });
    let price_metadata = price.and_then(|price| {
        if price.metadata.is_empty() { known(&price.id).map(|(_, metadata)| metadata) } else { Some(&price.metadata) }
    });
    // What a subscription or a session says it sells is not what a set-up fee beside it sells.
    let of_sale = item.kind != ItemKind::Explicit;
    let sale = Sale {
        metadata: [
            purchase.knowledge.session_metadata().filter(|_| of_sale),
            purchase.knowledge.subscription_metadata().filter(|_| of_sale),
            price_metadata,
            product.and_then(|product| context.catalogue.products.get(product)),
        ],
        price: price.map(|price| &price.id),
        product,
        allow_default: of_sale,
    };
    match mapping::resolve(&context.settings, &sale) {
        Ok(Some(Meaning::License(mapping))) => Ok(*mapping),
        Ok(Some(Meaning::Addon(addon))) => Err(Unmapped::Addon(addon)),
        Ok(Some(Meaning::Nothing)) => Err(Unmapped::Skipped),
        Ok(None) => Err(Unmapped::NoEntry),
        Err(error) => Err(Unmapped::Metadata(error)),
    }
}

/// What bears on one unit.
struct Facts<'a> {
    purchase: &'a Purchase,
    context: &'a Context,
    item: &'a Item,
    number: u32,
    named: Option<NamedLicense>,
}

impl Facts<'_> {
    fn desired(self, id: UnitId, unit: Option<&Unit>, base: &Result<Mapping, Unmapped>) -> Desired {
        let mapping = self.mapping(unit, base);
        let owed = mapping.as_ref().map_or(u32::from(self.item.quantity > 0), |m| m.units_for(self.item.quantity));
        let number_owed = self.number <= owed;
        let paid_until = self.paid_until(mapping.as_ref().ok());
        let counting = || self.item.periods.iter().filter(|period| period.counts);
        let latest = counting().filter(|period| period.charged).max_by_key(|period| (period.end, period.start));
        Desired {
            paid_until,
            charged: latest.is_some(),
            amount: latest.and_then(|period| period.amount.clone()),
            number_owed,
            standing: self.standing(unit, paid_until, number_owed),
            expires_at: self.expires_at(unit, mapping.as_ref().ok(), paid_until),
            held: self.held(unit, mapping.as_ref().ok()),
            named: self.named,
            mapping,
            today: base.as_ref().ok().cloned(),
            customer: self.purchase.knowledge.customer.clone(),
            unit: id,
            // What other items say is added by the caller.
            added: Added::default(),
            payment: None,
            alone: false,
        }
    }

    fn held(&self, unit: Option<&Unit>, mapping: Option<&Mapping>) -> Option<HeldBack> {
        if self.no_email(unit, mapping) {
            return Some(HeldBack::NoEmail);
        }
        self.left_to_person(unit).then_some(HeldBack::LeftToPerson)
    }

    /// Whether a first license would be made for somebody whose address its engine needs and nobody knows.
    fn no_email(&self, unit: Option<&Unit>, mapping: Option<&Mapping>) -> bool {
        let licensed = unit.is_some_and(|unit| !unit.licenses.is_empty());
        let known = self.context.has_address || self.purchase.knowledge.contacts.email.is_some();
        !licensed && !known && mapping.is_some_and(|mapping| mapping::needs_email(&mapping.provider))
    }

    /// The recorded mapping while the price is the one it was recorded for; else today's.
    fn mapping(&self, unit: Option<&Unit>, base: &Result<Mapping, Unmapped>) -> Result<Mapping, Unmapped> {
        let recorded = unit.and_then(|unit| kept(unit, self.item));
        let elsewhere = || {
            let license = unit.and_then(Unit::license).map(|(_, license)| license).filter(|license| license.adopted);
            let attached = unit.and_then(|unit| unit.attached.as_ref()).map(|attached| &attached.provider);
            let named = self.named.as_ref().map(|named| &named.provider);
            license.map(|license| &license.provider).or(attached).or(named)
        };
        match (recorded, base) {
            (Some(recorded), _) => Ok(recorded.clone()),
            (None, Err(unmapped)) => match elsewhere() {
                Some(provider) => Ok(Mapping { grace: self.context.settings.policy.grace, ..fallback(provider) }),
                None => Err(unmapped.clone()),
            },
            (None, Ok(mapping)) => Ok(mapping.clone()),
        }
    }

    fn paid_until(&self, mapping: Option<&Mapping>) -> PaidUntil {
        let counting = self.item.periods.iter().filter(|period| period.counts);
        let ends = counting.map(|period| {
            let end = match mapping {
                Some(mapping) if !period.trial => match period.start {
                    Some(start) => mapping.period_end(start, period.end),
                    // A term of some length needs a start to count from.
                    None if mapping.term == Term::Perpetual => None,
                    None => period.end,
                },
                _ => period.end,
            };
            PaidUntil::of_date(end)
        });
        ends.max().unwrap_or(PaidUntil::Nothing)
    }

    fn standing(&self, unit: Option<&Unit>, paid_until: PaidUntil, number_owed: bool) -> Standing {
        if unit.is_some_and(|unit| unit.revoked_by_person) {
            return Standing::Revoked(RevokeReason::Operator);
        }
        if !paid_until.is_owed() {
            return Standing::Revoked(RevokeReason::MoneyGone);
        }
        if unit.is_some_and(|unit| unit.suspended_by_person) {
            return Standing::Suspended(SuspendReason::Operator);
        }
        match self.suspended() {
            Some(reason) => Standing::Suspended(reason),
            None if !number_owed => Standing::Suspended(SuspendReason::QuantityReduced),
            None => Standing::Active,
        }
    }

    fn suspended(&self) -> Option<SuspendReason> {
        let policy = &self.context.settings.policy;
        let knowledge = &self.purchase.knowledge;
        if policy.dispute_open == StopOrKeep::Suspend && knowledge.has_open_dispute() {
            return Some(SuspendReason::Disputed);
        }
        if let Some(current) = knowledge.subscription.current() {
            let paid_later = || {
                let paid = knowledge.invoices.values().filter(|invoice| invoice.paid);
                paid.filter_map(|invoice| invoice.paid_at).any(|paid_at| paid_at > current.seen.at)
            };
            match current.status {
                SubscriptionStatus::Paused if policy.paused == StopOrKeep::Suspend => {
                    return Some(SuspendReason::Paused);
                }
                SubscriptionStatus::Unpaid if policy.unpaid == StopOrKeep::Suspend && !paid_later() => {
                    return Some(SuspendReason::Unpaid);
                }
                _ => {}
            }
        }
        None
    }

    /// By what is paid, or as long as a person said, whichever is later.
    fn expires_at(&self, unit: Option<&Unit>, mapping: Option<&Mapping>, paid_until: PaidUntil) -> Option<Timestamp> {
        let extended = unit.and_then(|unit| unit.extended_until);
        Some(self.expiry(mapping, paid_until)?).max(extended)
    }

    fn expiry(&self, mapping: Option<&Mapping>, paid_until: PaidUntil) -> Option<Timestamp> {
        let PaidUntil::At(paid_until) = paid_until else { return None };
        let policy = &self.context.settings.policy;
        let grace = mapping.map_or(policy.grace, |mapping| mapping.grace);
        let with_grace = grace.after(paid_until);
        let Some(current) = self.purchase.knowledge.subscription.current() else { return Some(with_grace) };
        if let Some(ended) = current.ended() {
            return Some(match policy.ended {
                EndedPolicy::EndedAt => with_grace.min(ended),
                EndedPolicy::PaidUntil => with_grace,
            });
        }
        let canceled = current.cancel_at_period_end || current.cancel_at.is_some_and(|at| at <= paid_until);
        match policy.cancel_scheduled {
            CancelPolicy::PaidUntil if canceled => Some(paid_until),
            CancelPolicy::PaidUntil | CancelPolicy::Grace => Some(with_grace),
        }
    }

    fn left_to_person(&self, unit: Option<&Unit>) -> bool {
        let retried = unit.is_some_and(|unit| unit.retried_at.is_some());
        !retried
            && self.context.settings.policy.left_by_other_system == LeftPolicy::Case
            && named::is_left(self.purchase)
    }
}

/// What a license means that was adopted for a price mapped nowhere: what was bought, as it was paid.
pub fn fallback(provider: &ProviderName) -> Mapping {
    Mapping {
        provider: provider.clone(),
        product: String::new(),
        seats: Count::Quantity,
        units: Count::Fixed(1),
        term: Term::Subscription,
        features: BTreeSet::new(),
        grace: Grace::days(3),
        options: BTreeMap::new(),
        price: None,
        max_release: None,
    }
}

/// The prices and products that the purchase's items refer to: what the shell loads a [`Catalogue`] for.
pub fn prices(purchase: &Purchase) -> BTreeSet<(PriceId, Option<ProductId>)> {
    let items = period::items(&purchase.knowledge, &DecidingSettings::default().policy);
    items.into_iter().filter_map(|item| item.price).map(|price| (price.id, price.product)).collect()
}
