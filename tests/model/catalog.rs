//! What the seller's prices mean, and the rules: the same table for the model and for the settings in the log.

use std::fmt;

use keyledger_schemas::settings::{CatalogEntry, Policy};
use serde_json::{Value, json};

use super::history::{DAY, Second};

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// What was bought.
    Quantity,
    /// Always this many.
    Fixed(u32),
}

impl Many {
    /// The number when `quantity` was bought.
    pub fn of(self, quantity: u64) -> u32 {
        match self {
            Self::Quantity => u32::try_from(quantity).unwrap(),
            Self::Fixed(number) => number,
        }
    }
}

/// How long one payment lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Its period.
    Subscription,
    /// For ever.
    Perpetual,
    /// So many days.
    Days(i64),
}

/// What a price means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub product: &'static str,
    pub seats: Many,
    pub units: Many,
    pub term: Term,
    pub feature: Option<&'static str>,
    pub grace: Second,
}

/// What an add-on gives to the licenses of a product in the same purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adds {
    pub to: &'static str,
    pub feature: &'static str,
    pub seats: Option<Many>,
}

/// What an entry says that sells no license of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    Adds(Adds),
    Nothing,
}

const SEATS: Meaning = Meaning {
    product: "pro",
    seats: Many::Quantity,
    units: Many::Fixed(1),
    term: Term::Subscription,
    feature: None,
    grace: 3 * DAY,
};

/// A price of the seller's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Price {
    pub id: &'static str,
    pub product: &'static str,
    /// In minor units, for each.
    pub amount: i64,
    pub metered: bool,
    /// What an entry of its own says, if there is one.
    pub own: Option<Meaning>,
    /// What the entry of its product says, if there is one.
    pub of_product: Option<Meaning>,
    /// It sells no license of its own.
    pub beside: Option<Beside>,
}

impl fmt::Debug for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

const PLAIN: Price = Price {
    id: "price_pro",
    product: "prod_pro",
    amount: 1000,
    metered: false,
    own: Some(SEATS),
    of_product: None,
    beside: None,
};

/// One license, quantity is seats.
pub const PRO: Price = PLAIN;
/// The same license, with a feature, mapped by its product alone.
pub const PRO_PLUS: Price = Price {
    id: "price_pro_plus",
    product: "prod_plus",
    amount: 1500,
    own: None,
    of_product: Some(Meaning { feature: Some("f1"), ..SEATS }),
    ..PLAIN
};
/// Another license: a new generation.
pub const MAX: Price = Price {
    id: "price_max",
    product: "prod_max",
    amount: 3000,
    own: Some(Meaning { product: "max", seats: Many::Fixed(7), grace: 5 * DAY, ..SEATS }),
    ..PLAIN
};
/// As many licenses as were bought.
pub const TEAM: Price = Price {
    id: "price_team",
    product: "prod_team",
    amount: 400,
    own: Some(Meaning { product: "team", seats: Many::Fixed(1), units: Many::Quantity, ..SEATS }),
    ..PLAIN
};
/// As many of other licenses.
pub const TEAM_PLUS: Price = Price {
    id: "price_team_plus",
    product: "prod_team",
    amount: 700,
    own: Some(Meaning { product: "team-plus", seats: Many::Fixed(2), units: Many::Quantity, ..SEATS }),
    ..PLAIN
};
/// Sold for good.
pub const LIFE: Price = Price {
    id: "price_life",
    product: "prod_life",
    amount: 9000,
    own: Some(Meaning { product: "life", term: Term::Perpetual, ..SEATS }),
    ..PLAIN
};
/// Forty-five days for each payment.
pub const DAYS: Price = Price {
    id: "price_days",
    product: "prod_days",
    amount: 800,
    own: Some(Meaning { product: "pro", term: Term::Days(45), ..SEATS }),
    ..PLAIN
};
/// Measured usage, with a fixed number of seats.
pub const METERED: Price = Price {
    id: "price_metered",
    product: "prod_metered",
    amount: 100,
    metered: true,
    own: Some(Meaning { product: "metered", seats: Many::Fixed(5), ..SEATS }),
    ..PLAIN
};
/// Measured usage that opens nothing.
pub const METERED_OPEN: Price = Price {
    id: "price_metered_open",
    product: "prod_metered",
    amount: 100,
    metered: true,
    own: Some(Meaning { product: "metered", ..SEATS }),
    ..PLAIN
};
/// In no entry but the default one, where there is one.
pub const STRANGE: Price = Price { id: "price_strange", product: "prod_strange", amount: 500, own: None, ..PLAIN };

/// A feature more for the license of `PRO`, `PRO_PLUS` and `DAYS`, and two seats for each that was bought.
pub const EXTRA: Price = Price {
    id: "price_extra",
    product: "prod_extra",
    amount: 300,
    own: None,
    beside: Some(Beside::Adds(Adds { to: "pro", feature: "extra", seats: Some(Many::Quantity) })),
    ..PLAIN
};
/// A feature more for each license of `TEAM`.
pub const EXTRA_TEAM: Price = Price {
    id: "price_extra_team",
    product: "prod_extra_team",
    amount: 200,
    own: None,
    beside: Some(Beside::Adds(Adds { to: "team", feature: "more", seats: None })),
    ..PLAIN
};
/// Sells nothing that is ours.
pub const SUPPORT: Price = Price {
    id: "price_support",
    product: "prod_support",
    amount: 5000,
    own: None,
    beside: Some(Beside::Nothing),
    ..PLAIN
};

/// All prices.
pub const PRICES: [Price; 13] =
    [PRO, PRO_PLUS, MAX, TEAM, TEAM_PLUS, LIFE, DAYS, METERED, METERED_OPEN, STRANGE, EXTRA, EXTRA_TEAM, SUPPORT];

/// The price with that id.
pub fn price(id: &str) -> Price {
    *PRICES.iter().find(|price| price.id == id).unwrap()
}

/// The rules that the model decides by.
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether there is a default entry.
    pub default_entry: bool,
    pub trial_issues: bool,
    pub refund_revokes: bool,
    pub lost_revokes: bool,
    pub dispute_suspends: bool,
    pub pause_suspends: bool,
    pub unpaid_suspends: bool,
    pub scheduled_cuts_grace: bool,
    pub end_cuts: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            default_entry: false,
            trial_issues: true,
            refund_revokes: true,
            lost_revokes: true,
            dispute_suspends: true,
            pause_suspends: true,
            unpaid_suspends: true,
            scheduled_cuts_grace: true,
            end_cuts: true,
        }
    }
}

impl Rules {
    /// What the default entry means.
    const FALLBACK: Meaning = Meaning { product: "default", ..SEATS };

    /// What a sale of `price` means: its own entry, its product's, the default one where that is allowed.
    pub fn meaning(&self, price: Option<&str>, allow_default: bool) -> Option<Meaning> {
        let priced = price.map(self::price);
        if priced.is_some_and(|price| price.beside.is_some()) {
            return None;
        }
        let own = priced.and_then(|price| price.own);
        let of_product = priced.and_then(|price| price.of_product);
        own.or(of_product).or_else(|| (allow_default && self.default_entry).then_some(Self::FALLBACK))
    }

    /// Whether an entry names the price or its product.
    pub fn is_mapped(&self, price: &str) -> bool {
        self.meaning(Some(price), false).is_some() || self::price(price).beside.is_some()
    }

    /// The rules as settings.
    pub fn policy(&self) -> Policy {
        let keep = |acts: bool, word: &str| if acts { word.to_owned() } else { "keep".to_owned() };
        let policy = json!({
            "trial": if self.trial_issues { "issue" } else { "ignore" },
            "refund_full": keep(self.refund_revokes, "revoke"),
            "dispute_lost": keep(self.lost_revokes, "revoke"),
            "dispute_open": keep(self.dispute_suspends, "suspend"),
            "paused": keep(self.pause_suspends, "suspend"),
            "unpaid": keep(self.unpaid_suspends, "suspend"),
            "cancel_scheduled": if self.scheduled_cuts_grace { "paid_until" } else { "grace" },
            "ended": if self.end_cuts { "ended_at" } else { "paid_until" },
        });
        serde_json::from_value(policy).unwrap()
    }

    /// The catalog as settings.
    pub fn catalog(&self) -> Vec<CatalogEntry> {
        let own = PRICES.iter().filter_map(|price| Some(entry("price", price.id, price.own?)));
        let of_product =
            PRICES.iter().filter_map(|price| Some(entry("stripe_product", price.product, price.of_product?)));
        let beside = PRICES.iter().filter_map(|price| Some(beside(price.id, price.beside?)));
        let fallback = self.default_entry.then(|| entry("stripe_product", "", Self::FALLBACK));
        own.chain(of_product).chain(beside).chain(fallback).collect()
    }
}

fn beside(price: &str, beside: Beside) -> CatalogEntry {
    let entry = match beside {
        Beside::Nothing => json!({"price": price, "skip": true}),
        Beside::Adds(Adds { to, feature, seats }) => {
            let mut entry = json!({"price": price, "addon_of": to, "features": [feature]});
            if let Some(seats) = seats {
                entry["seats"] = many(seats);
            }
            entry
        }
    };
    serde_json::from_value(entry).unwrap()
}

fn many(many: Many) -> Value {
    match many {
        Many::Quantity => json!("quantity"),
        Many::Fixed(number) => json!(number),
    }
}

fn entry(key: &str, id: &str, meaning: Meaning) -> CatalogEntry {
    let term = match meaning.term {
        Term::Subscription => "subscription".to_owned(),
        Term::Perpetual => "perpetual".to_owned(),
        Term::Days(days) => format!("P{days}D"),
    };
    let mut entry = json!({
        "provider": "builtin",
        "product": meaning.product,
        "seats": many(meaning.seats),
        "units": many(meaning.units),
        "term": term,
        "features": Vec::from_iter(meaning.feature),
        "grace": format!("{}s", meaning.grace),
    });
    if !id.is_empty() {
        entry[key] = Value::from(id);
    }
    serde_json::from_value(entry).unwrap()
}
