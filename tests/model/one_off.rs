//! What one-off sales are owed.

use super::catalog::{Beside, Rules};
use super::expected::{Period, Purchase, Sold, Stops, add, lines, of_line, units};
use super::facts::{self, Bill, Payment};
use super::history::{Happened, Session};

/// A one-off sale: a payment-mode session, its invoice, or both.
pub struct OneOff {
    session: Option<Session>,
    bill: Option<Bill>,
    /// An invoice that the session names and that nobody has seen.
    named: Option<String>,
    payments: Vec<Payment>,
}

/// Every one-off sale of a history.
pub fn one_offs(history: &[Happened]) -> Vec<OneOff> {
    let payments = facts::payments(history);
    let mut bills: Vec<_> = facts::bills(history).into_iter().filter(|bill| bill.subscription.is_none()).collect();
    let mut sales = Vec::new();
    for session in facts::sessions(history).into_iter().filter(|session| session.mode == "payment") {
        let shares = |bill: &Bill| {
            let both =
                |payment: &Payment| payment.sessions.contains(&session.id) && payment.invoices.contains(&bill.id);
            session.invoice.as_ref() == Some(&bill.id) || payments.iter().any(both)
        };
        let bill = bills.iter().position(shares).map(|at| bills.remove(at));
        let of_sale = |payment: &&Payment| {
            let of_bill = bill.as_ref().is_some_and(|bill| payment.invoices.contains(&bill.id));
            payment.sessions.contains(&session.id) || of_bill
        };
        let payments = payments.iter().filter(of_sale).cloned().collect();
        sales.push(OneOff { named: session.invoice.clone(), session: Some(session), bill, payments });
    }
    for bill in bills {
        let payments: Vec<_> = payments.iter().filter(|payment| payment.invoices.contains(&bill.id)).cloned().collect();
        if bill.paid && (!payments.is_empty() || bill.amount_paid == 0) {
            sales.push(OneOff { session: None, bill: Some(bill), named: None, payments });
        }
    }
    sales
}

impl OneOff {
    /// What it is owed.
    pub fn purchase(&self, history: &[Happened], rules: &Rules) -> Purchase {
        let session = self.session.as_ref();
        let paid_bill = self.bill.as_ref().filter(|bill| bill.paid);
        let by_session = session.and_then(|session| session.lines.as_deref());
        let sold_lines = by_session.or(paid_bill.map(lines));
        let settled = session.and_then(|session| facts::settled_at(history, &session.id));
        let start = settled.into_iter().chain(paid_bill.and_then(|bill| bill.paid_at)).min();
        let total = session.map_or(0, |session| session.total).max(self.bill.as_ref().map_or(0, |bill| bill.total));
        let counts = self.counts(history, rules);
        let fought = self.payments.iter().any(|payment| facts::is_fought_over(history, &payment.intent));
        let stops = Stops { suspended: fought && rules.dispute_suspends, ..Stops::default() };

        let mut items = Vec::new();
        if sold_lines.is_none() {
            let sold = Sold { price: None, quantity: 1, greatest: 1, meaning: rules.meaning(None, true) };
            items.push(("0".to_owned(), sold, total > 0));
        }
        for (index, line) in sold_lines.unwrap_or_default().iter().enumerate().filter(|(_, line)| line.amount >= 0) {
            let sold = of_line(rules, line, session.is_some());
            if session.is_some() || rules.is_mapped(line.price) {
                items.push((index.to_string(), sold, total > 0 && line.amount > 0));
            }
        }
        let mut purchase = Purchase::default();
        purchase.names.extend(session.map(|session| session.id.clone()));
        purchase.names.extend(self.bill.as_ref().map(|bill| bill.id.clone()).or_else(|| self.named.clone()));
        let mut addons = Vec::new();
        for (item, sold, charged) in items {
            if let Some(Beside::Adds(adds)) = sold.beside()
                && start.is_some()
                && counts
            {
                addons.push((adds, sold.quantity));
            }
            let period = |start| Period { item: item.clone(), start: Some(start), end: None, charged, counts };
            let periods: Vec<_> = start.map(period).into_iter().collect();
            purchase.units.extend(units(&item, &sold, &periods, stops, rules));
        }
        add(&mut purchase.units, &addons);
        purchase
    }

    fn counts(&self, history: &[Happened], rules: &Rules) -> bool {
        let of_session = self.session.as_ref().map_or(0, |session| session.total);
        let paid = self.bill.as_ref().map_or(0, |bill| bill.amount_paid).max(of_session);
        let refunded: i64 = self.payments.iter().map(|payment| facts::refunded(history, &payment.intent, rules)).sum();
        !(paid > 0 && refunded >= paid)
    }
}
