//! Money back: refunds and lost disputes, counted against what they were paid for.

use std::collections::BTreeMap;

use keyledger_schemas::ids::InvoiceId;
use keyledger_schemas::settings::{MoneyGone, Policy};
use keyledger_schemas::stripe::fact::ObjectRef;
use keyledger_schemas::stripe::status::DisputeStatus;

use crate::purchase::knowledge::{Knowledge, Session};

/// What was given back, by what it was paid for.
pub(super) struct MoneyBack<'k> {
    knowledge: &'k Knowledge,
    /// Refunds and lost disputes, by payment.
    by_payment: BTreeMap<ObjectRef, i64>,
}

impl<'k> MoneyBack<'k> {
    pub(super) fn new(knowledge: &'k Knowledge, policy: &Policy) -> Self {
        let mut by_payment: BTreeMap<ObjectRef, i64> = BTreeMap::new();
        if policy.refund_full == MoneyGone::Revoke {
            for (payment, refunded) in refunded(knowledge) {
                *by_payment.entry(payment).or_default() += refunded;
            }
        }
        if policy.dispute_lost == MoneyGone::Revoke {
            for dispute in knowledge.disputes.values().filter(|dispute| dispute.status == DisputeStatus::Lost) {
                if let Some(object) = &dispute.payment {
                    *by_payment.entry(knowledge.payment_of(object)).or_default() += dispute.amount_minor;
                }
            }
        }
        Self { knowledge, by_payment }
    }

    /// Whether an invoice's money is still there.
    pub(super) fn counts_invoice(&self, id: &InvoiceId) -> bool {
        let invoice = self.knowledge.invoices.get(id);
        let named = |session: &&Session| session.invoice.as_ref() == Some(id);
        let session = self.knowledge.sessions.values().find(named);
        let paid = match invoice.filter(|invoice| invoice.paid) {
            Some(invoice) => invoice.amount_paid_minor,
            None => session.map_or(0, |session| session.total_minor),
        };
        let parent = ObjectRef::Invoice(id.clone());
        let refunded = self
            .by_payment
            .iter()
            .filter(|(payment, _)| self.belongs(payment, &parent))
            .map(|(_, refunded)| refunded)
            .sum();
        still_there(paid, refunded)
    }

    /// Whether the money of a one-off sale is still there: all its payments are one.
    pub(super) fn counts_whole(&self) -> bool {
        let sessions = self.knowledge.sessions.values().map(|session| session.total_minor);
        let invoices = self.knowledge.invoices.values().map(|invoice| invoice.amount_paid_minor);
        let paid = sessions.chain(invoices).max().unwrap_or(0);
        still_there(paid, self.by_payment.values().sum())
    }

    /// Whether the payment, or a charge of it, is linked to `parent`.
    fn belongs(&self, payment: &ObjectRef, parent: &ObjectRef) -> bool {
        let linked = |object: &ObjectRef| self.knowledge.parents(object).any(|found| found == parent);
        linked(payment) || self.knowledge.links.iter().any(|link| link.parent == *payment && linked(&link.child))
    }
}

/// A period counts unless everything that was paid went back.
fn still_there(paid_minor: i64, refunded_minor: i64) -> bool {
    paid_minor <= 0 || refunded_minor < paid_minor
}

/// Refunds by payment: the sum of refunds that did not come to nothing, or what the charge says, whichever is more.
fn refunded(knowledge: &Knowledge) -> BTreeMap<ObjectRef, i64> {
    let mut sums: BTreeMap<ObjectRef, (i64, i64, i64)> = BTreeMap::new();
    for refund in knowledge.refunds.values() {
        let Some(object) = &refund.payment else { continue };
        let (kept, failed, _) = sums.entry(knowledge.payment_of(object)).or_default();
        let sum = if refund.status.came_to_nothing() { failed } else { kept };
        *sum = sum.saturating_add(refund.amount_minor);
    }
    for (id, charge) in &knowledge.charges {
        let (_, _, said) = sums.entry(knowledge.payment_of(&ObjectRef::Charge(id.clone()))).or_default();
        *said = said.saturating_add(charge.refunded_minor);
    }
    sums.into_iter().map(|(payment, (kept, failed, said))| (payment, kept.max(said - failed).max(0))).collect()
}
