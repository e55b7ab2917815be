//! What a purchase is owed: a pure function of its rows and the settings (docs/deciding.md §3–§6).
//!
//! Nothing here reads a clock or a database. What depends on the time is left as dates.

pub mod addons;
pub mod cases;
#[cfg(test)]
mod given;
pub mod items;
pub mod licenses;
pub mod periods;
pub mod prices;
pub mod purchase;
pub mod sales;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_elsewhere;
pub mod units;

use std::collections::BTreeSet;

use keyledger_schemas::settings::DecidingSettings;

pub use cases::DerivedCase;
pub use items::ItemNames;
pub use licenses::LicenseRow;
pub use prices::PaidPrice;
pub use purchase::{Catalog, PurchaseRows};
pub use units::{Standing, Unit};

/// All that follows from the rows of one purchase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// Whose.
    pub customer: Option<String>,
    /// Every unit that has periods or ever had a license, by item and number.
    pub units: Vec<Unit>,
    /// Every license, and units whose money was gone before one was made.
    pub licenses: Vec<LicenseRow>,
    /// What is open, or would be if a person had not waived it.
    pub cases: Vec<DerivedCase>,
    /// What was paid for each price, by price and currency.
    pub paid: Vec<PaidPrice>,
    /// Prices that it sells.
    pub prices: BTreeSet<String>,
    /// Stripe's products that it sells.
    pub products: BTreeSet<String>,
}

/// Derives everything.
pub fn derive(rows: &PurchaseRows<'_>, settings: &DecidingSettings) -> Derived {
    let sales = sales::sales(rows, &settings.policy);
    let items = items::items(rows, &sales);
    let periods = periods::periods(rows, &sales, &items, &settings.policy);
    let addons = addons::in_effect(rows, settings, &items, &periods);
    let units = units::units(rows, settings, &sales, &items, &periods, &addons);
    let seen = cases::Seen { sales: &sales, items: &items, periods: &periods, units: &units, addons: &addons };
    Derived {
        customer: rows.customer(),
        licenses: licenses::licenses(rows, &units),
        cases: cases::cases(rows, settings, &seen),
        paid: prices::paid(rows, settings, &sales),
        prices: items.iter().filter_map(|item| item.price.as_ref()).map(ToString::to_string).collect(),
        products: items.iter().filter_map(|item| item.product.as_ref()).map(ToString::to_string).collect(),
        units,
    }
}
