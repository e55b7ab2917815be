//! What is sold once: a session's or a one-off invoice's lines, and invoice items on a subscription's invoices.

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyledger_schemas::ids::LineId;
use keyledger_schemas::money::Money;
use keyledger_schemas::stripe::fact::{InvoiceLine, LineKind, PriceRef};
use keyledger_schemas::stripe::status::SessionMode;

use super::money::MoneyBack;
use super::{Item, ItemKind, Period};
use crate::purchase::knowledge::{Invoice, Knowledge};

/// The lines of a one-off sale in order, or the session itself while they are unknown.
pub(super) fn items(knowledge: &Knowledge, money: &MoneyBack<'_>) -> Vec<Item> {
    let counts = money.counts_whole();
    let settled = knowledge
        .sessions
        .values()
        .filter(|session| session.mode == SessionMode::Payment && session.settles())
        .min_by_key(|session| session.settled_at);
    let paid = knowledge.invoices.values().filter(|invoice| invoice.paid).min_by_key(|invoice| invoice.paid_at);
    let has_session = knowledge.sessions.values().any(|session| session.mode == SessionMode::Payment);
    let start = match (settled.and_then(|session| session.settled_at), paid.and_then(|invoice| invoice.paid_at)) {
        (Some(a), Some(b)) => a.min(b),
        (Some(at), None) | (None, Some(at)) => at,
        (None, None) => return Vec::new(),
    };
    let total_minor =
        settled.map_or(0, |session| session.total_minor).max(paid.map_or(0, |invoice| invoice.total_minor));
    let currency = settled.and_then(|s| s.currency.clone()).or_else(|| paid.map(|invoice| invoice.currency.clone()));
    let kind = if has_session { ItemKind::OneOff } else { ItemKind::Explicit };
    let item = |index: usize, price: Option<PriceRef>, quantity: Option<u64>, amount_minor: i64| Item {
        name: index.to_string(),
        aliases: BTreeSet::new(),
        kind,
        price,
        quantity: quantity.unwrap_or(1),
        quantity_max: quantity.unwrap_or(1),
        metered: false,
        periods: vec![Period {
            start: Some(start),
            end: None,
            charged: total_minor > 0 && amount_minor > 0,
            amount: currency.clone().map(|currency| Money::new(amount_minor, currency)),
            counts,
            trial: false,
        }],
    };
    if let Some(lines) = settled.and_then(|session| session.lines.as_ref()) {
        let sold = lines.iter().enumerate().filter(|(_, line)| line.amount_minor >= 0);
        return sold.map(|(i, line)| item(i, line.price.clone(), line.quantity, line.amount_minor)).collect();
    }
    if let Some(invoice) = paid.filter(|invoice| !invoice.lines.is_empty()) {
        let sold = invoice.lines.iter().enumerate().filter(|(_, line)| line.amount_minor >= 0);
        return sold.map(|(i, line)| item(i, line.price.clone(), line.quantity, line.amount_minor)).collect();
    }
    if settled.is_some() { vec![item(0, None, None, total_minor)] } else { Vec::new() }
}

/// Invoice items on a subscription's invoices: each sold once, by its own line.
pub(super) fn invoice_items(knowledge: &Knowledge, money: &MoneyBack<'_>) -> Vec<Item> {
    let paid = knowledge.invoices.iter().filter(|(_, invoice)| invoice.paid);
    paid.flat_map(|(id, invoice)| {
        let counts = money.counts_invoice(id);
        invoice
            .lines
            .iter()
            .filter(|line| line.kind == LineKind::InvoiceItem && !line.proration && line.amount_minor >= 0)
            .map(move |line| line_item(&line.id, line, invoice, counts))
    })
    .collect()
}

fn line_item(name: &LineId, line: &InvoiceLine, invoice: &Invoice, counts: bool) -> Item {
    let start = invoice.paid_at.or(invoice.created).unwrap_or(Timestamp::UNIX_EPOCH);
    Item {
        name: name.as_str().to_owned(),
        aliases: BTreeSet::new(),
        kind: ItemKind::Explicit,
        price: line.price.clone(),
        quantity: line.quantity.unwrap_or(1),
        quantity_max: line.quantity.unwrap_or(1),
        metered: false,
        periods: vec![Period {
            start: Some(start),
            end: None,
            charged: invoice.total_minor > 0 && line.amount_minor > 0,
            amount: Some(Money::new(line.amount_minor, invoice.currency.clone())),
            counts,
            trial: false,
        }],
    }
}
