//! Add-ons: items that are no license of their own, but more of another item's.

use std::collections::{BTreeMap, BTreeSet};

use keyledger_schemas::mapping::{Addon, Mapping};
use keyledger_schemas::settings::Count;

use super::desired::{self, Context, Unmapped};
use super::period::{Item, ItemKind};
use super::state::Purchase;

/// What add-ons give to a license.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Features beside those of its mapping.
    pub features: BTreeSet<String>,
    /// Seats beside those of its mapping.
    pub seats: u32,
}

/// The add-ons in effect, with how many of each were bought: those that some counting period pays for.
pub(super) fn in_effect(purchase: &Purchase, context: &Context, items: &[Item]) -> Vec<(Addon, u64)> {
    let effective = |item: &Item| {
        let name = desired::name_of(purchase, item);
        let Err(Unmapped::Addon(addon)) = desired::resolve(purchase, context, item) else { return None };
        let kept =
            purchase.units.get(&name).into_iter().flat_map(BTreeMap::values).any(|u| desired::kept(u, item).is_some());
        let measured = item.metered && !matches!(addon.seats, Some(Count::Fixed(_)));
        let paid = item.periods.iter().any(|period| period.counts);
        let quantity = if is_gone(purchase, item) { 0 } else { item.quantity };
        (!kept && !measured && paid && quantity > 0).then_some((addon, quantity))
    };
    items.iter().filter_map(effective).collect()
}

/// Whether the snapshot that counts shows the whole subscription, and not this item of it any more.
fn is_gone(purchase: &Purchase, item: &Item) -> bool {
    let Some(current) = purchase.knowledge.subscription.current() else { return false };
    let whole = item.kind == ItemKind::Subscription && !current.items_truncated;
    whole && !current.items.iter().any(|shown| shown.id.as_str() == item.name)
}

/// What the add-ons of a license under this mapping come to.
pub(super) fn sum(addons: &[(Addon, u64)], mapping: Option<&Mapping>) -> Added {
    let mut sum = Added::default();
    let Some(mapping) = mapping else { return sum };
    for (addon, quantity) in addons.iter().filter(|(addon, _)| addon.belongs_to(mapping)) {
        sum.features.extend(addon.features.iter().cloned());
        sum.seats = sum.seats.saturating_add(addon.seats_for(*quantity));
    }
    sum
}
