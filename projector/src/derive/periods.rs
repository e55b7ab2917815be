//! Paid periods: for which item, from when to when, with which money (docs/deciding.md §4).

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyledger_schemas::money::Money;
use keyledger_schemas::settings::{Policy, TrialPolicy};
use keyledger_schemas::stripe::fact::{InvoiceLine, LineKind};

use super::items::{Item, item_of_line};
use super::purchase::PurchaseRows;
use super::sales::{Lines, Sale, Sales};

/// A period that an item was paid for, or that a trial gives, before its mapping's term is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// The item.
    pub item: String,
    /// From, where known.
    pub start: Option<Timestamp>,
    /// To; `None` is for ever.
    pub end: Option<Timestamp>,
    /// Money was taken for it.
    pub charged: bool,
    /// The line's amount, or the sale's where lines are unknown; `None` for a trial.
    pub amount: Option<Money>,
    /// When it was paid; `None` for a trial.
    pub paid_at: Option<Timestamp>,
    /// Its money was not given back.
    pub counts: bool,
    /// It is a trial, which ends when it ends, whatever the mapping's term.
    pub is_trial: bool,
}

/// The periods of all items.
pub fn periods(rows: &PurchaseRows<'_>, sales: &Sales<'_>, items: &[Item], policy: &Policy) -> Vec<Period> {
    if rows.is_one_off() {
        return sales.sales.iter().flat_map(|sale| of_one_off(sale, items)).collect();
    }
    let mut periods = Vec::new();
    for sale in &sales.sales {
        periods.extend(of_lines(rows, sale));
        periods.extend(of_hidden_lines(rows, sale));
    }
    // Part of a period opens one only where nothing else did.
    let whole: BTreeSet<String> = periods.iter().map(|period| period.item.clone()).collect();
    for sale in &sales.sales {
        periods.extend(of_prorations(rows, sale).filter(|period| !whole.contains(&period.item)));
        periods.extend(of_invoice_items(sale));
    }
    if policy.trial == TrialPolicy::Issue {
        periods.extend(of_trials(rows));
    }
    periods
}

/// Rule *a*.
fn of_lines<'a>(rows: &'a PurchaseRows<'a>, sale: &'a Sale<'a>) -> impl Iterator<Item = Period> + 'a {
    whole_lines(sale).filter_map(move |line| line_period(rows, sale, line))
}

/// Rule *b*, for any item.
fn of_prorations<'a>(rows: &'a PurchaseRows<'a>, sale: &'a Sale<'a>) -> impl Iterator<Item = Period> + 'a {
    let part = |line: &&InvoiceLine| line.kind == LineKind::Subscription && line.proration && line.amount_minor > 0;
    invoice_lines(sale).iter().filter(part).filter_map(move |line| line_period(rows, sale, line))
}

/// Rule *c*.
fn of_hidden_lines(rows: &PurchaseRows<'_>, sale: &Sale<'_>) -> Vec<Period> {
    let hidden = matches!(sale.lines, Lines::Unknown | Lines::Invoice { truncated: true, .. });
    let (true, Some(date)) = (hidden, sale.date) else { return Vec::new() };
    let shown: BTreeSet<String> = whole_lines(sale)
        .filter(|line| line.period_end.is_some())
        .filter_map(|line| item_of_line(rows, line))
        .collect();
    let seen = rows.subscription().into_iter().flat_map(|subscription| &subscription.periods);
    let of_date = seen.filter(|period| period.start <= date && date < period.end);
    let hidden = of_date.map(|period| Period {
        item: rows.names.name(&period.item).to_owned(),
        start: Some(period.start),
        end: Some(period.end),
        charged: sale.total_minor > 0,
        amount: sale.total(),
        paid_at: sale.paid_at,
        counts: sale.counts,
        is_trial: false,
    });
    hidden.filter(|period| !shown.contains(&period.item)).collect()
}

/// Rule *d*.
fn of_trials(rows: &PurchaseRows<'_>) -> Vec<Period> {
    let trials = rows.subscription().into_iter().flat_map(|subscription| &subscription.trials);
    let period = |(item, end): &(String, Timestamp)| Period {
        item: rows.names.name(item).to_owned(),
        start: None,
        end: Some(*end),
        charged: false,
        amount: None,
        paid_at: None,
        counts: true,
        is_trial: true,
    };
    trials.map(period).collect()
}

/// Rule *e*.
fn of_one_off(sale: &Sale<'_>, items: &[Item]) -> Vec<Period> {
    let amounts: Vec<Option<i64>> = match sale.lines {
        Lines::Unknown => vec![None],
        Lines::Invoice { lines, .. } => lines.iter().map(|line| Some(line.amount_minor)).collect(),
        Lines::Session(lines) => lines.iter().map(|line| Some(line.amount_minor)).collect(),
    };
    let sold = items.iter().zip(amounts).filter(|(_, amount)| amount.is_none_or(|amount| amount >= 0));
    let period = |(item, amount): (&Item, Option<i64>)| Period {
        item: item.name.clone(),
        start: sale.paid_at,
        end: None,
        charged: sale.total_minor > 0 && amount.is_none_or(|amount| amount > 0),
        amount: amount.map_or_else(|| sale.total(), |amount| sale.money(amount)),
        paid_at: sale.paid_at,
        counts: sale.counts,
        is_trial: false,
    };
    sold.map(period).collect()
}

/// Rule *f*.
fn of_invoice_items<'a>(sale: &'a Sale<'a>) -> impl Iterator<Item = Period> + 'a {
    let sold = |line: &&InvoiceLine| line.kind == LineKind::InvoiceItem && !line.proration && line.amount_minor >= 0;
    invoice_lines(sale).iter().filter(sold).map(|line| Period {
        item: line.id.to_string(),
        start: sale.paid_at,
        end: None,
        charged: sale.total_minor > 0 && line.amount_minor > 0,
        amount: sale.money(line.amount_minor),
        paid_at: sale.paid_at,
        counts: sale.counts,
        is_trial: false,
    })
}

fn invoice_lines<'a>(sale: &Sale<'a>) -> &'a [InvoiceLine] {
    match sale.lines {
        Lines::Invoice { lines, .. } => lines,
        Lines::Unknown | Lines::Session(_) => &[],
    }
}

fn whole_lines<'a>(sale: &Sale<'a>) -> impl Iterator<Item = &'a InvoiceLine> {
    invoice_lines(sale).iter().filter(|line| line.kind == LineKind::Subscription && !line.proration)
}

/// A line without an end pays for no period that anyone could name.
fn line_period(rows: &PurchaseRows<'_>, sale: &Sale<'_>, line: &InvoiceLine) -> Option<Period> {
    Some(Period {
        item: item_of_line(rows, line)?,
        start: line.period_start,
        end: Some(line.period_end?),
        charged: sale.total_minor > 0 && line.amount_minor > 0,
        amount: sale.money(line.amount_minor),
        paid_at: sale.paid_at,
        counts: sale.counts,
        is_trial: false,
    })
}
