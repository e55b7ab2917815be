//! Add-ons: items that are sold as no license of their own, but as more of another item's (docs/deciding.md §5).

use keyledger_schemas::mapping::{Addon, MappingError, Meaning};
use keyledger_schemas::settings::{Count, DecidingSettings};

use super::items::Item;
use super::periods::Period;
use super::purchase::PurchaseRows;
use super::units::{Unit, kept_mapping, meaning};

/// An add-on that is paid and still bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InEffect {
    /// The item.
    pub item: String,
    /// What it adds.
    pub addon: Addon,
    /// How many are bought now.
    pub quantity: u64,
}

impl InEffect {
    /// That there is no license in the purchase that it could add to, if there is none.
    pub fn without_base(&self, units: &[Unit]) -> Option<MappingError> {
        let belongs = |unit: &Unit| unit.mapping.as_ref().is_some_and(|mapping| self.addon.belongs_to(mapping));
        let has_base = units.iter().any(|unit| unit.has_periods && belongs(unit));
        (!has_base).then(|| MappingError {
            key: "addon_of".to_owned(),
            reason: format!(
                "nothing in this purchase is a license of `{}` at `{}`",
                self.addon.of, self.addon.provider
            ),
        })
    }
}

/// The add-ons of a purchase that count now. One whose units have licenses by an earlier catalog is no add-on.
pub fn in_effect(
    rows: &PurchaseRows<'_>,
    settings: &DecidingSettings,
    items: &[Item],
    periods: &[Period],
) -> Vec<InEffect> {
    let counts = |item: &Item| {
        let Ok(Some(Meaning::Addon(addon))) = meaning(rows, settings, item) else { return None };
        let mut of_item = rows.units.iter().filter(|((name, _), _)| *name == item.name);
        let was_a_license = of_item.any(|(_, facts)| kept_mapping(facts, item).is_some());
        let measured = item.metered && !matches!(addon.seats, Some(Count::Fixed(_)));
        let is_paid = periods.iter().any(|period| period.item == item.name && period.counts);
        let counts = !was_a_license && !measured && is_paid && item.present > 0;
        counts.then(|| InEffect { item: item.name.clone(), addon, quantity: item.present })
    };
    items.iter().filter_map(counts).collect()
}

/// Adds to a unit what belongs to it.
pub fn add(unit: &mut Unit, addons: &[InEffect]) {
    let Some(mapping) = &unit.mapping else { return };
    for InEffect { addon, quantity, .. } in addons.iter().filter(|one| one.addon.belongs_to(mapping)) {
        unit.features.extend(addon.features.iter().cloned());
        unit.seats = unit.seats.map(|seats| seats.saturating_add(addon.seats_for(*quantity)));
    }
}
