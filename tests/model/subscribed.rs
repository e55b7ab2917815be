//! What a subscription is owed.

use std::collections::BTreeSet;

use super::catalog::{self, Adds, Beside, Many, Rules};
use super::expected::{Period, Purchase, Scheduled, Sold, Stops, add, lines, of_line, units};
use super::facts::{self, Bill, Payment, Seen};
use super::history::{Happened, Line, Second};

/// A subscription and all that belongs to it.
pub struct Subscribed<'h> {
    id: String,
    history: &'h [Happened],
    rules: &'h Rules,
    snapshots: Vec<Seen<'h>>,
    current: Option<Seen<'h>>,
    bills: Vec<Bill>,
    payments: Vec<Payment>,
}

impl<'h> Subscribed<'h> {
    /// Everything of `history` that is the subscription's.
    pub fn new(history: &'h [Happened], rules: &'h Rules, id: String) -> Self {
        let snapshots = facts::snapshots(history, &id);
        let is_ours = |subscription: &Option<String>| subscription.as_deref() == Some(&*id);
        let bills: Vec<_> = facts::bills(history).into_iter().filter(|bill| is_ours(&bill.subscription)).collect();
        let paid_ours = |payment: &Payment| bills.iter().any(|bill| payment.invoices.contains(&bill.id));
        let payments = facts::payments(history).into_iter().filter(paid_ours).collect();
        Self { current: facts::current(&snapshots), history, rules, snapshots, bills, payments, id }
    }

    /// What it is owed.
    pub fn purchase(&self) -> Purchase {
        let periods = self.periods();
        let stops = self.stops();
        let mut purchase = Purchase { names: [self.id.clone()].into(), ..Purchase::default() };
        for item in self.items() {
            purchase.units.extend(units(&item, &self.sold(&item), &periods, stops, self.rules));
        }
        for line in self.riding_lines() {
            purchase.units.extend(units(&line.id, &of_line(self.rules, line, false), &periods, stops, self.rules));
        }
        add(&mut purchase.units, &self.addons(&periods));
        if self.is_adopted()
            && let Some(first) = purchase.units.values_mut().next()
        {
            first.adoptable = true;
        }
        let hides = |bill: &&Bill| bill.truncated || lines(bill).is_empty();
        let held = self.bills.iter().filter(|bill| bill.paid && self.counts(bill)).filter(hides);
        let charged: Vec<_> = held.map(|bill| bill.total > 0).collect();
        if self.all_periods().is_empty() && !charged.is_empty() {
            purchase.waiting = Some(if charged.contains(&true) { "no_key" } else { "free_without_key" });
        }
        purchase
    }

    /// The subscription items that snapshots and lines name.
    fn items(&self) -> BTreeSet<String> {
        let shown = self.snapshots.iter().flat_map(|seen| seen.now.items.iter().map(|item| item.id.clone()));
        let billed = self.bills.iter().flat_map(|bill| lines(bill).iter().filter_map(|line| line.item.clone()));
        shown.chain(billed).collect()
    }

    /// The add-ons in effect, and how many are bought at present.
    fn addons(&self, periods: &[Period]) -> Vec<(Adds, u64)> {
        let counts = |item: &str| periods.iter().any(|period| period.item == item && period.counts);
        let present = |item: &str, sold: &Sold| match self.current {
            Some(seen) => {
                let shown = seen.now.items.iter().find(|shown| shown.id == item);
                shown.map_or(0, |shown| shown.quantity.unwrap_or(1))
            }
            None => sold.quantity,
        };
        let items = self.items().into_iter().map(|item| {
            let sold = self.sold(&item);
            (present(&item, &sold), item, sold)
        });
        let riding = self.riding_lines().into_iter().map(|line| {
            let sold = of_line(self.rules, line, false);
            (sold.quantity, line.id.clone(), sold)
        });
        let in_effect = items.chain(riding).filter(|(_, item, _)| counts(item));
        in_effect
            .filter_map(|(quantity, _, sold)| match sold.beside() {
                Some(Beside::Adds(adds)) => Some((adds, quantity)),
                Some(Beside::Nothing) | None => None,
            })
            .collect()
    }

    /// Invoice items, each of which is an item of its own.
    fn riding_lines(&self) -> Vec<&Line> {
        let paid = self.bills.iter().filter(|bill| bill.paid);
        paid.flat_map(lines).filter(|line| line.item.is_none() && !line.proration).collect()
    }

    /// Quantity, greatest quantity and meaning of a subscription item.
    fn sold(&self, id: &str) -> Sold {
        let now = self.current.iter().flat_map(|seen| &seen.now.items).find(|item| item.id == id);
        let of_item = |line: &&Line| line.item.as_deref() == Some(id);
        let dated = self.bills.iter().filter(|bill| bill.paid).flat_map(|bill| {
            lines(bill).iter().filter(of_item).map(|line| ((line.end, bill.created, line.id.clone()), line))
        });
        let dated: Vec<_> = dated.collect();
        let greatest_of = |keep: fn(&Line) -> bool| {
            dated.iter().filter(|(_, line)| keep(line)).max_by_key(|(key, _)| key.clone()).map(|(_, line)| *line)
        };
        let latest = greatest_of(|line| !line.proration).or_else(|| greatest_of(is_paid_proration));
        let price = now.map(|item| item.price).or(latest.map(|line| line.price));
        let quantity = now.map_or_else(|| latest.and_then(|line| line.quantity), |item| item.quantity).unwrap_or(1);
        let shown = self
            .snapshots
            .iter()
            .filter(|seen| seen.is_known() && !matches!(seen.now.status, "incomplete" | "incomplete_expired"));
        let shown = shown.flat_map(|seen| &seen.now.items).filter(|item| item.id == id);
        let shown = shown.map(|item| item.quantity.unwrap_or(1));
        let billed = dated.iter().filter(|(_, line)| !line.proration || is_paid_proration(line));
        let billed = billed.map(|(_, line)| line.quantity.unwrap_or(1));
        let greatest = shown.chain(billed).max().unwrap_or(0).max(quantity);
        Sold { price, quantity, greatest, meaning: self.rules.meaning(price, true) }
    }

    /// The periods of what is not measured.
    fn periods(&self) -> Vec<Period> {
        let mut periods = self.all_periods();
        periods.retain(|period| !self.is_measured(&period.item));
        periods
    }

    /// §4, with what counts.
    fn all_periods(&self) -> Vec<Period> {
        let mut periods = Vec::new();
        for bill in self.bills.iter().filter(|bill| bill.paid) {
            let counts = self.counts(bill);
            let full_lines = lines(bill).iter().filter(|line| line.item.is_some() && !line.proration);
            for line in full_lines.clone() {
                periods.push(of(line, line.item.clone().unwrap(), bill, counts)); // a
            }
            if bill.truncated || lines(bill).is_empty() {
                for (item, start, end) in self.periods_seen() {
                    let date = bill.created.unwrap();
                    let has_line = full_lines.clone().any(|line| line.item.as_ref() == Some(&item));
                    if start <= date && date < end && !has_line {
                        let charged = bill.total > 0;
                        periods.push(Period { item, start: Some(start), end: Some(end), charged, counts }); // c
                    }
                }
            }
        }
        let paid_in_full: BTreeSet<_> = periods.iter().map(|period| period.item.clone()).collect();
        for bill in self.bills.iter().filter(|bill| bill.paid) {
            let counts = self.counts(bill);
            for line in lines(bill) {
                match &line.item {
                    Some(item) if is_paid_proration(line) && !paid_in_full.contains(item) => {
                        periods.push(of(line, item.clone(), bill, counts)); // b
                    }
                    None if !line.proration && line.amount >= 0 && self.rules.is_mapped(line.price) => {
                        let period = of(line, line.id.clone(), bill, counts);
                        periods.push(Period { start: bill.paid_at, end: None, ..period }); // f
                    }
                    _ => {}
                }
            }
        }
        if self.rules.trial_issues {
            for seen in self.snapshots.iter().filter(|seen| seen.now.status == "trialing") {
                for item in &seen.now.items {
                    let end = Some(seen.now.trial_end.unwrap_or(seen.now.end));
                    periods.push(Period { item: item.id.clone(), start: None, end, charged: false, counts: true }); // d
                }
            }
        }
        periods
    }

    fn periods_seen(&self) -> BTreeSet<(String, Second, Second)> {
        let known = self.snapshots.iter().filter(|seen| seen.is_known());
        known
            .flat_map(|seen| seen.now.items.iter().map(|item| (item.id.clone(), seen.now.start, seen.now.end)))
            .collect()
    }

    /// Whether usage of the item is measured and its mapping has no fixed number of seats.
    fn is_measured(&self, item: &str) -> bool {
        let mut shown = self.snapshots.iter().flat_map(|seen| &seen.now.items);
        let metered = shown.any(|shown| shown.id == item && catalog::price(shown.price).metered);
        metered && self.sold(item).meaning.is_none_or(|meaning| meaning.seats == Many::Quantity)
    }

    fn counts(&self, bill: &Bill) -> bool {
        let of_bill = self.payments.iter().filter(|payment| payment.invoices.contains(&bill.id));
        let refunded: i64 = of_bill.map(|payment| facts::refunded(self.history, &payment.intent, self.rules)).sum();
        !(bill.amount_paid > 0 && refunded >= bill.amount_paid)
    }

    fn stops(&self) -> Stops {
        let fought = self.payments.iter().any(|payment| facts::is_fought_over(self.history, &payment.intent));
        let mut stops = Stops { suspended: fought && self.rules.dispute_suspends, ..Stops::default() };
        let Some(current) = self.current else { return stops };
        let paid_since = self.bills.iter().any(|bill| bill.paid && bill.paid_at.is_some_and(|paid| paid > current.at));
        stops.suspended |= current.now.status == "paused" && self.rules.pause_suspends;
        stops.suspended |= current.now.status == "unpaid" && self.rules.unpaid_suspends && !paid_since;
        stops.ended = current.ended();
        stops.scheduled =
            Some(Scheduled { at_period_end: current.now.cancel_at_period_end, at: current.now.cancel_at });
        stops
    }

    /// Whether the metadata names another system's license.
    fn is_adopted(&self) -> bool {
        let shown = self.current.map(|seen| &seen.now.metadata);
        shown.is_some_and(|metadata| metadata.get("skm_key_id").is_some_and(|id| !id.is_empty()))
    }
}

fn is_paid_proration(line: &Line) -> bool {
    line.proration && line.amount > 0
}

fn of(line: &Line, item: String, bill: &Bill, counts: bool) -> Period {
    let charged = bill.total > 0 && line.amount > 0;
    Period { item, start: Some(line.start), end: Some(line.end), charged, counts }
}
