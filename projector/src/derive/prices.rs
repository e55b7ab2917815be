//! What was paid for each price, and what that price means here: how a person sees what a catalog leaves out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyledger_schemas::ids::{PriceId, ProductId};
use keyledger_schemas::mapping::Meaning;
use keyledger_schemas::money::Currency;
use keyledger_schemas::settings::DecidingSettings;
use keyledger_schemas::stripe::fact::{LineKind, PriceRef};

use super::items::{ItemKind, sold_once};
use super::purchase::PurchaseRows;
use super::sales::{Lines, Sale, Sales};
use super::units::meaning;

/// What was paid for one price in one purchase, in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidPrice {
    /// The price.
    pub price: PriceId,
    /// Stripe's product, where known.
    pub product: Option<ProductId>,
    /// The currency of the amount.
    pub currency: Currency,
    /// Lines that were paid for.
    pub times: u64,
    /// What they came to, in minor units.
    pub amount_minor: i64,
    /// When the first was.
    pub first_paid_at: Option<Timestamp>,
    /// `license`, `addon`, `skip`, `unusable` (metadata that cannot be used), or `nothing`.
    pub means: &'static str,
}

/// One line that money was taken for.
struct Line<'a> {
    kind: ItemKind,
    price: &'a PriceRef,
    amount_minor: i64,
}

/// What was paid and not given back, by price and currency.
pub fn paid(rows: &PurchaseRows<'_>, settings: &DecidingSettings, sales: &Sales<'_>) -> Vec<PaidPrice> {
    let mut paid: BTreeMap<(PriceId, Currency), PaidPrice> = BTreeMap::new();
    for sale in sales.sales.iter().filter(|sale| sale.counts) {
        let Some(currency) = &sale.currency else { continue };
        for line in lines(rows, sale) {
            let key = (line.price.id.clone(), currency.clone());
            let row = paid.entry(key).or_insert_with(|| new(rows, settings, &line, currency));
            row.times += 1;
            row.amount_minor = row.amount_minor.saturating_add(line.amount_minor);
            row.first_paid_at = row.first_paid_at.into_iter().chain(sale.paid_at).min();
        }
    }
    paid.into_values().collect()
}

fn new(rows: &PurchaseRows<'_>, settings: &DecidingSettings, line: &Line<'_>, currency: &Currency) -> PaidPrice {
    let explicit_only = match line.kind {
        ItemKind::Subscription => false,
        ItemKind::InvoiceItem => true,
        ItemKind::OneOff => rows.sessions().is_empty(),
    };
    let item = sold_once(rows, String::new(), line.kind, Some(line.price), None, explicit_only);
    PaidPrice {
        price: line.price.id.clone(),
        means: match meaning(rows, settings, &item) {
            Ok(Some(Meaning::License(_))) => "license",
            Ok(Some(Meaning::Addon(_))) => "addon",
            Ok(Some(Meaning::Nothing)) => "skip",
            Ok(None) => "nothing",
            Err(_) => "unusable",
        },
        product: item.product,
        currency: currency.clone(),
        times: 0,
        amount_minor: 0,
        first_paid_at: None,
    }
}

fn lines<'a>(rows: &PurchaseRows<'_>, sale: &Sale<'a>) -> Vec<Line<'a>> {
    let one_off = rows.is_one_off();
    let mut all = Vec::new();
    match sale.lines {
        Lines::Unknown => {}
        Lines::Invoice { lines, .. } => all.extend(lines.iter().map(|line| {
            let kind = match (one_off, line.kind) {
                (true, _) => ItemKind::OneOff,
                (false, LineKind::Subscription) => ItemKind::Subscription,
                (false, LineKind::InvoiceItem) => ItemKind::InvoiceItem,
            };
            (kind, line.price.as_ref(), line.amount_minor)
        })),
        Lines::Session(lines) => {
            all.extend(lines.iter().map(|line| (ItemKind::OneOff, line.price.as_ref(), line.amount_minor)));
        }
    }
    let charged = |(kind, price, amount_minor): (ItemKind, Option<&'a PriceRef>, i64)| {
        (amount_minor > 0).then_some(Line { kind, price: price?, amount_minor })
    };
    all.into_iter().filter_map(charged).collect()
}
