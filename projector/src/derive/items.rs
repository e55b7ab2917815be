//! Items: what is sold in a purchase, under which name, in which quantity and at which price.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_schemas::ids::{LineId, PriceId, ProductId};
use keyledger_schemas::stripe::fact::{InvoiceLine, LineKind, Metadata, PriceRef, SubscriptionItem};
use serde::{Deserialize, Serialize};

use super::purchase::PurchaseRows;
use super::sales::{Lines, Sales};

/// Items that were named by their price because no `si_…` was known, with the `si_…` learned since. The first name stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemNames {
    /// Price id to `si_…`.
    pub by_price: BTreeMap<String, Option<String>>,
}

impl ItemNames {
    /// The name of the subscription item `id`.
    pub fn name<'n>(&'n self, id: &'n str) -> &'n str {
        let first = self.by_price.iter().find(|(_, learned)| learned.as_deref() == Some(id));
        first.map_or(id, |(price, _)| price)
    }

    /// Takes in what the rows name by now. Says whether anything was learned.
    pub fn learn(&mut self, rows: &PurchaseRows<'_>) -> bool {
        let before = self.clone();
        let known = known_items(rows);
        for (_, invoice) in rows.invoices() {
            for line in invoice.subscription_lines().filter(|line| line.item.is_none()) {
                let Some(price) = &line.price else { continue };
                if !known.values().any(|prices| prices.contains(&price.id)) {
                    self.by_price.entry(price.id.to_string()).or_default();
                }
            }
        }
        let mut taken: BTreeSet<String> = self.by_price.values().flatten().cloned().collect();
        for (price, learned) in self.by_price.iter_mut().filter(|(_, learned)| learned.is_none()) {
            let bears = |prices: &BTreeSet<&PriceId>| prices.iter().any(|known| known.as_str() == price);
            let bearer = known.iter().find(|(id, prices)| !taken.contains(**id) && bears(prices));
            *learned = bearer.map(|(id, _)| (*id).to_owned());
            taken.extend(learned.clone());
        }
        *self != before
    }
}

/// Every `si_…` known, with every price it ever had.
fn known_items<'a>(rows: &PurchaseRows<'a>) -> BTreeMap<&'a str, BTreeSet<&'a PriceId>> {
    let mut known: BTreeMap<&str, BTreeSet<&PriceId>> = BTreeMap::new();
    for (id, seen) in rows.subscription().iter().flat_map(|subscription| &subscription.items) {
        known.entry(id).or_default().extend(&seen.prices);
    }
    for (_, invoice) in rows.invoices() {
        for line in invoice.subscription_lines() {
            if let Some(item) = &line.item {
                known.entry(item.as_str()).or_default().extend(line.price.as_ref().map(|price| &price.id));
            }
        }
    }
    known
}

/// What kind of item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// Of a subscription.
    Subscription,
    /// An invoice item line on a subscription's invoice: sold once.
    InvoiceItem,
    /// A line of a one-off sale.
    OneOff,
}

/// One sold thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its first name.
    pub name: String,
    /// What kind.
    pub kind: ItemKind,
    /// How many are bought now.
    pub quantity: u64,
    /// As `quantity`, but 0 for what the current snapshot does not name any more.
    pub present: u64,
    /// The most that were ever bought: as many units are shown.
    pub greatest_quantity: u64,
    /// Its price, where known.
    pub price: Option<PriceId>,
    /// Stripe's product, where known.
    pub product: Option<ProductId>,
    /// The price's metadata, as embedded where it was seen.
    pub price_metadata: Metadata,
    /// Usage is measured.
    pub metered: bool,
    /// Sells only where price or product is mapped explicitly.
    pub explicit_only: bool,
}

/// The items of a purchase, by name.
pub fn items(rows: &PurchaseRows<'_>, sales: &Sales<'_>) -> Vec<Item> {
    if rows.is_one_off() { one_off(rows, sales) } else { of_subscription(rows, sales) }
}

/// The item that a subscription line belongs to.
pub fn item_of_line(rows: &PurchaseRows<'_>, line: &InvoiceLine) -> Option<String> {
    if let Some(item) = &line.item {
        return Some(rows.names.name(item.as_str()).to_owned());
    }
    let known = known_items(rows);
    let Some(price) = &line.price else {
        // Nothing says which: the first item there is, so that a renewal is not a second sale.
        return known.keys().next().map(|id| rows.names.name(id).to_owned());
    };
    if rows.names.by_price.contains_key(price.id.as_str()) {
        return Some(price.id.to_string());
    }
    let bearer = known.iter().find(|(_, prices)| prices.contains(&price.id));
    Some(bearer.map_or_else(|| price.id.to_string(), |(id, _)| rows.names.name(id).to_owned()))
}

fn of_subscription(rows: &PurchaseRows<'_>, sales: &Sales<'_>) -> Vec<Item> {
    let mut names: BTreeSet<String> = rows.names.by_price.keys().cloned().collect();
    names.extend(known_items(rows).keys().map(|id| rows.names.name(id).to_owned()));
    for (_, invoice) in rows.invoices() {
        names.extend(invoice.subscription_lines().filter_map(|line| item_of_line(rows, line)));
    }
    let paid_lines: Vec<PaidLine<'_>> = paid_lines(rows, sales);
    let mut items: Vec<Item> = names.into_iter().map(|name| subscription_item(rows, &paid_lines, name)).collect();
    for paid in &paid_lines {
        let line = paid.line;
        if line.kind == LineKind::InvoiceItem && !line.proration && line.amount_minor >= 0 {
            items.push(sold_once(
                rows,
                line.id.to_string(),
                ItemKind::InvoiceItem,
                line.price.as_ref(),
                line.quantity,
                true,
            ));
        }
    }
    items.sort_by(|a, b| a.name.cmp(&b.name));
    items.dedup_by(|a, b| a.name == b.name);
    items
}

struct PaidLine<'a> {
    line: &'a InvoiceLine,
    item: Option<String>,
    created: Option<Timestamp>,
}

fn paid_lines<'a>(rows: &PurchaseRows<'a>, sales: &Sales<'a>) -> Vec<PaidLine<'a>> {
    let mut paid = Vec::new();
    for sale in &sales.sales {
        if let Lines::Invoice { lines, .. } = sale.lines {
            paid.extend(lines.iter().map(|line| PaidLine {
                line,
                item: (line.kind == LineKind::Subscription).then(|| item_of_line(rows, line)).flatten(),
                created: sale.date,
            }));
        }
    }
    paid
}

fn subscription_item(rows: &PurchaseRows<'_>, paid_lines: &[PaidLine<'_>], name: String) -> Item {
    let subscription = rows.subscription();
    let current = subscription.and_then(|subscription| subscription.register.current());
    let shown: Option<&SubscriptionItem> =
        current.and_then(|snapshot| snapshot.items.iter().find(|item| rows.names.name(item.id.as_str()) == name));
    let latest = latest_line(paid_lines, &name);
    let price = shown.and_then(|item| item.price.as_ref()).or_else(|| latest.and_then(|line| line.price.as_ref()));
    let quantity = match shown {
        Some(item) => item.quantity,
        None => latest.and_then(|line| line.quantity),
    };
    let quantity = quantity.unwrap_or(1);
    let in_snapshots = subscription.into_iter().flat_map(|subscription| &subscription.items);
    let in_snapshots =
        in_snapshots.filter(|(id, _)| rows.names.name(id) == name).map(|(_, seen)| seen.greatest_quantity);
    let on_lines = paid_lines.iter().filter(|paid| paid.item.as_deref() == Some(name.as_str()));
    let on_lines = on_lines.filter(|paid| !paid.line.proration || paid.line.amount_minor > 0);
    let on_lines = on_lines.map(|paid| paid.line.quantity.unwrap_or(1));
    let is_gone = shown.is_none() && current.is_some_and(|snapshot| !snapshot.items_truncated);
    Item {
        kind: ItemKind::Subscription,
        quantity,
        present: if is_gone { 0 } else { quantity },
        greatest_quantity: in_snapshots.chain(on_lines).chain([quantity]).max().unwrap_or(quantity),
        price: price.map(|price| price.id.clone()),
        product: product_of(rows, price),
        price_metadata: price.map(|price| price.metadata.clone()).unwrap_or_default(),
        metered: is_metered(rows, &name),
        explicit_only: false,
        name,
    }
}

/// Whether anything ever showed that the item's usage is measured: what a payload does not say, another may.
fn is_metered(rows: &PurchaseRows<'_>, name: &str) -> bool {
    let mut in_snapshots = rows.subscription().into_iter().flat_map(|subscription| &subscription.items);
    let on_line = |line: &InvoiceLine| line.metered && item_of_line(rows, line).as_deref() == Some(name);
    in_snapshots.any(|(id, seen)| seen.metered && rows.names.name(id) == name)
        || rows.invoices().any(|(_, invoice)| invoice.subscription_lines().any(on_line))
}

/// The line that speaks for an item which the current snapshot does not name.
fn latest_line<'a>(paid_lines: &[PaidLine<'a>], name: &str) -> Option<&'a InvoiceLine> {
    let rank = |paid: &&PaidLine<'_>| -> (Option<Timestamp>, Option<Timestamp>, LineId) {
        (paid.line.period_end, paid.created, paid.line.id.clone())
    };
    let of_item = || paid_lines.iter().filter(|paid| paid.item.as_deref() == Some(name));
    let whole = of_item().filter(|paid| !paid.line.proration).max_by_key(rank);
    let part = || of_item().filter(|paid| paid.line.proration && paid.line.amount_minor > 0).max_by_key(rank);
    whole.or_else(part).map(|paid| paid.line)
}

fn one_off(rows: &PurchaseRows<'_>, sales: &Sales<'_>) -> Vec<Item> {
    let explicit_only = rows.sessions().is_empty();
    let Some(sale) = sales.sales.first() else { return Vec::new() };
    let item = |index: usize, price: Option<&PriceRef>, quantity| {
        sold_once(rows, index.to_string(), ItemKind::OneOff, price, quantity, explicit_only)
    };
    match sale.lines {
        Lines::Unknown => vec![item(0, None, None)],
        Lines::Invoice { lines, .. } => {
            lines.iter().enumerate().map(|(index, line)| item(index, line.price.as_ref(), line.quantity)).collect()
        }
        Lines::Session(lines) => {
            lines.iter().enumerate().map(|(index, line)| item(index, line.price.as_ref(), line.quantity)).collect()
        }
    }
}

pub(super) fn sold_once(
    rows: &PurchaseRows<'_>,
    name: String,
    kind: ItemKind,
    price: Option<&PriceRef>,
    quantity: Option<u64>,
    explicit_only: bool,
) -> Item {
    Item {
        name,
        kind,
        quantity: quantity.unwrap_or(1),
        present: quantity.unwrap_or(1),
        greatest_quantity: quantity.unwrap_or(1),
        price: price.map(|price| price.id.clone()),
        product: product_of(rows, price),
        price_metadata: price.map(|price| price.metadata.clone()).unwrap_or_default(),
        metered: false,
        explicit_only,
    }
}

/// The product as the price says where it was embedded, else as the catalogue says.
fn product_of(rows: &PurchaseRows<'_>, price: Option<&PriceRef>) -> Option<ProductId> {
    let price = price?;
    price.product.clone().or_else(|| rows.catalog.product_of(&price.id).cloned())
}
