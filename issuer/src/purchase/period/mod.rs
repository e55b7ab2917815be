//! Which periods a purchase's items have, and whether their money is still there.

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyledger_schemas::money::Money;
use keyledger_schemas::settings::Policy;
use keyledger_schemas::stripe::fact::PriceRef;

use super::knowledge::Knowledge;

mod subscription;

mod one_off;

mod money;

pub use subscription::sold_unseen;

/// A period of an item, before its mapping's term is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// Where it starts, where known: a term counts from here.
    pub start: Option<Timestamp>,
    /// Where it ends; `None` for sales without a period.
    pub end: Option<Timestamp>,
    /// Money was taken for it.
    pub charged: bool,
    /// What was paid for it.
    pub amount: Option<Money>,
    /// The money is still there.
    pub counts: bool,
    /// It is a trial, which ends when it ends, whatever the sale's term.
    pub trial: bool,
}

/// What kind of sale an item is: it decides which catalog entries may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// An item of the subscription.
    Subscription,
    /// A line of a session's one-off sale.
    OneOff,
    /// An invoice item, or a line of an invoice without a session: sold only where mapped explicitly.
    Explicit,
}

/// One sold thing, with everything that bears on it.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name before aliases: `si_…`, a price id, a line id, or an index.
    pub name: String,
    /// Other names it has been known by.
    pub aliases: BTreeSet<String>,
    /// What kind of sale it is.
    pub kind: ItemKind,
    /// What it sells, where known.
    pub price: Option<PriceRef>,
    /// How many.
    pub quantity: u64,
    /// The greatest quantity it ever had: units beyond today's are stopped, not forgotten.
    pub quantity_max: u64,
    /// Usage is billed afterward.
    pub metered: bool,
    /// Its periods, counting or not.
    pub periods: Vec<Period>,
}

/// The items of a purchase that have any period.
pub fn items(knowledge: &Knowledge, policy: &Policy) -> Vec<Item> {
    let money = money::MoneyBack::new(knowledge, policy);
    let mut items = if knowledge.is_one_off() {
        one_off::items(knowledge, &money)
    } else {
        let mut items = subscription::items(knowledge, policy, &money);
        items.extend(one_off::invoice_items(knowledge, &money));
        items
    };
    items.retain(|item| !item.periods.is_empty());
    items
}
