//! What can be read off a list of happenings, by looking at all of it: the newest snapshot, what is linked, what was
//! given back.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Rules;
use super::history::{Happened, Invoice, Line, Second, Session, Subscription, What};

/// The statuses that this build of keyledger knows.
const KNOWN: [&str; 8] =
    ["incomplete", "incomplete_expired", "trialing", "active", "past_due", "unpaid", "paused", "canceled"];

/// A refund's statuses by how far it got.
const REFUND_RANKS: [&str; 5] = ["pending", "requires_action", "succeeded", "canceled", "failed"];

/// A dispute's statuses by rank.
const DISPUTE_RANKS: [&str; 10] = [
    "prevented",
    "warning_needs_response",
    "warning_under_review",
    "warning_closed",
    "needs_response",
    "under_review",
    "lost",
    "appeal_needs_response",
    "appeal_under_review",
    "won",
];

/// A subscription snapshot with its event.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'h> {
    pub event: &'h str,
    pub at: Second,
    pub kind: &'h str,
    pub now: &'h Subscription,
    pub before: Option<&'h Subscription>,
}

impl Seen<'_> {
    /// Whether keyledger knows the status.
    pub fn is_known(&self) -> bool {
        KNOWN.contains(&self.now.status)
    }

    /// When the subscription ended, if this shows that it did.
    pub fn ended(&self) -> Option<Second> {
        let over = matches!(self.now.status, "canceled" | "incomplete_expired");
        self.now.ended_at.or(over.then_some(self.at))
    }

    fn strength(&self) -> u8 {
        match self.kind.rsplit('.').next() {
            Some("deleted") => 2,
            Some("created") => 0,
            _ => 1,
        }
    }

    /// Whether the old values that this names are those that `other` shows.
    fn names(&self, other: &Seen<'_>) -> bool {
        let (Some(before), now, shown) = (self.before, self.now, other.now) else { return false };
        let terms = |of: &Subscription| (of.items.clone(), of.end);
        let mut named = Vec::new();
        if before.status != now.status {
            named.push(before.status == shown.status);
        }
        if before.cancel_at != now.cancel_at {
            named.push(before.cancel_at == shown.cancel_at);
        }
        if before.cancel_at_period_end != now.cancel_at_period_end {
            named.push(before.cancel_at_period_end == shown.cancel_at_period_end);
        }
        if terms(before) != terms(now) {
            named.push(terms(before) == terms(shown));
        }
        let keys: BTreeSet<_> = before.metadata.keys().chain(now.metadata.keys()).collect();
        for key in keys {
            if before.metadata.get(key) != now.metadata.get(key) {
                named.push(before.metadata.get(key) == shown.metadata.get(key));
            }
        }
        !named.is_empty() && named.iter().all(|named| *named)
    }
}

/// Every sight of a subscription.
pub fn snapshots<'h>(history: &'h [Happened], id: &str) -> Vec<Seen<'h>> {
    let mut seen = Vec::new();
    for happened in history {
        if let What::Subscription { now, before } = &happened.what
            && now.id == id
        {
            let Happened { event, at, kind, .. } = happened;
            seen.push(Seen { event, at: *at, kind, now, before: before.as_ref() });
        }
    }
    seen
}

/// The snapshot that counts: design §3.5.
pub fn current<'h>(seen: &[Seen<'h>]) -> Option<Seen<'h>> {
    let ended: Vec<_> = seen.iter().copied().filter(|seen| seen.ended().is_some()).collect();
    let known: Vec<_> = seen.iter().copied().filter(|seen| seen.ended().is_none() && seen.is_known()).collect();
    newest(&ended).or_else(|| newest(&known))
}

fn newest<'h>(seen: &[Seen<'h>]) -> Option<Seen<'h>> {
    let at = seen.iter().map(|seen| seen.at).max()?;
    let tied: Vec<_> = seen.iter().filter(|seen| seen.at == at).collect();
    let strength = tied.iter().map(|seen| seen.strength()).max()?;
    let tied: Vec<_> = tied.into_iter().filter(|seen| seen.strength() == strength).collect();
    let is_past = |seen: &Seen<'_>| tied.iter().any(|other| other.names(seen) && !seen.names(other));
    let left: Vec<_> = tied.iter().filter(|seen| !is_past(seen)).collect();
    let pool = if left.is_empty() { tied.iter().collect() } else { left };
    pool.into_iter().max_by_key(|seen| seen.event).map(|seen| **seen)
}

/// All that was ever seen of one invoice.
#[derive(Clone, Debug)]
pub struct Bill {
    pub id: String,
    pub subscription: Option<String>,
    pub paid: bool,
    pub paid_at: Option<Second>,
    pub created: Option<Second>,
    pub total: i64,
    pub amount_paid: i64,
    /// None where only a session told of it.
    pub lines: Option<Vec<Line>>,
    pub truncated: bool,
    pub metadata: BTreeMap<&'static str, String>,
}

/// Every invoice that was seen, or that a paid subscription-mode session names.
pub fn bills(history: &[Happened]) -> Vec<Bill> {
    let mut bills: BTreeMap<String, Bill> = BTreeMap::new();
    let mut sights: Vec<(&Happened, &Invoice)> = history.iter().filter_map(invoice).collect();
    // The newest sight last, and paid ones after all others: the last one says what the lines are.
    sights.sort_by_key(|(happened, invoice)| (invoice.is_paid(), happened.at));
    for (_, invoice) in sights {
        let bill = bills.entry(invoice.id.clone()).or_insert_with(|| unseen(&invoice.id));
        bill.subscription.clone_from(&invoice.subscription);
        bill.paid |= invoice.is_paid();
        bill.paid_at = [bill.paid_at, invoice.paid_at].into_iter().flatten().min();
        bill.created = Some(invoice.created);
        bill.total = bill.total.max(invoice.total);
        if invoice.is_paid() && !invoice.out_of_band {
            bill.amount_paid = invoice.total.max(0);
        }
        bill.lines = Some(invoice.lines.clone());
        bill.truncated = invoice.truncated;
        bill.metadata.clone_from(&invoice.metadata);
    }
    for session in sessions(history) {
        if session.mode == "subscription"
            && session.payment_status == "paid"
            && let (Some(id), Some(_)) = (&session.invoice, &session.subscription)
        {
            let bill = bills.entry(id.clone()).or_insert_with(|| unseen(id));
            bill.paid = true;
            bill.subscription.clone_from(&session.subscription);
            if bill.lines.is_none() {
                bill.total = session.total;
                bill.created = Some(settled_at(history, &session.id).unwrap());
            }
        }
    }
    bills.into_values().collect()
}

fn unseen(id: &str) -> Bill {
    Bill {
        id: id.to_owned(),
        subscription: None,
        paid: false,
        paid_at: None,
        created: None,
        total: 0,
        amount_paid: 0,
        lines: None,
        truncated: false,
        metadata: BTreeMap::new(),
    }
}

fn invoice(happened: &Happened) -> Option<(&Happened, &Invoice)> {
    if let What::Invoice(invoice) = &happened.what { Some((happened, invoice)) } else { None }
}

/// Every session once, with its greatest payment status and whatever any sight of it shows.
pub fn sessions(history: &[Happened]) -> Vec<Session> {
    let mut sessions: BTreeMap<&str, Session> = BTreeMap::new();
    for happened in history {
        let What::Session(sight) = &happened.what else { continue };
        let session = sessions.entry(&sight.id).or_insert_with(|| sight.clone());
        if settles(sight) {
            session.payment_status = sight.payment_status;
        }
        session.invoice = session.invoice.clone().or_else(|| sight.invoice.clone());
        session.intent = session.intent.clone().or_else(|| sight.intent.clone());
        session.lines = session.lines.clone().or_else(|| sight.lines.clone());
    }
    sessions.into_values().collect()
}

/// Whether the sight shows that the sale is settled.
pub fn settles(session: &Session) -> bool {
    matches!(session.payment_status, "paid" | "no_payment_required")
}

/// The first sight of the session that shows it settled.
pub fn settled_at(history: &[Happened], id: &str) -> Option<Second> {
    let sights = history.iter().filter_map(|happened| match &happened.what {
        What::Session(session) if session.id == id && settles(session) => Some(happened.at),
        _ => None,
    });
    sights.min()
}

/// An intent: its invoices and sessions, as any event links them, by whatever way.
#[derive(Clone, Debug, Default)]
pub struct Payment {
    pub intent: String,
    pub invoices: BTreeSet<String>,
    pub sessions: BTreeSet<String>,
}

/// Every intent. Every charge of a history has one.
pub fn payments(history: &[Happened]) -> Vec<Payment> {
    let mut payments: BTreeMap<&str, Payment> = BTreeMap::new();
    for happened in history {
        let (intent, invoice, session) = match &happened.what {
            What::Invoice(invoice) => (invoice.intent.as_ref(), Some(&invoice.id), None),
            What::InvoicePayment { invoice, intent } => (Some(intent), Some(invoice), None),
            What::Session(session) if session.mode == "payment" => (session.intent.as_ref(), None, Some(&session.id)),
            What::Charge(charge) => (Some(&charge.intent), charge.invoice.as_ref(), None),
            What::Intent { id, invoice, .. } => (Some(id), invoice.as_ref(), None),
            What::Refund(refund) => (Some(&refund.intent), None, None),
            What::Dispute(dispute) => (Some(&dispute.intent), None, None),
            _ => continue,
        };
        let Some(intent) = intent else { continue };
        let payment = payments.entry(intent).or_default();
        payment.intent.clone_from(intent);
        payment.invoices.extend(invoice.cloned());
        payment.sessions.extend(session.cloned());
    }
    payments.into_values().collect()
}

/// What of an intent's money is gone, as far as the rules count it.
pub fn refunded(history: &[Happened], intent: &str, rules: &Rules) -> i64 {
    let mut greatest = 0;
    let mut refunds: BTreeMap<&str, (i64, usize)> = BTreeMap::new();
    for happened in history {
        match &happened.what {
            What::Charge(charge) if charge.intent == intent => greatest = greatest.max(charge.refunded),
            What::Refund(refund) if refund.intent == intent => {
                let rank = REFUND_RANKS.iter().position(|rank| *rank == refund.status).unwrap();
                let entry = refunds.entry(&refund.id).or_default();
                *entry = (refund.amount, entry.1.max(rank));
            }
            _ => {}
        }
    }
    let came_to_nothing = |rank: usize| rank >= 3;
    let given: i64 = refunds.values().filter(|(_, rank)| !came_to_nothing(*rank)).map(|(amount, _)| amount).sum();
    let nothing: i64 = refunds.values().filter(|(_, rank)| came_to_nothing(*rank)).map(|(amount, _)| amount).sum();
    let refunds = if rules.refund_revokes { given.max(greatest - nothing).max(0) } else { 0 };
    let lost = disputes(history, intent).into_iter().filter(|(_, status)| *status == "lost");
    let lost = if rules.lost_revokes { lost.map(|(amount, _)| amount).sum() } else { 0 };
    refunds + lost
}

/// Whether a dispute of the intent is open.
pub fn is_fought_over(history: &[Happened], intent: &str) -> bool {
    let open = ["needs_response", "under_review", "appeal_needs_response", "appeal_under_review"];
    disputes(history, intent).iter().any(|(_, status)| open.contains(status))
}

/// The disputes of an intent: amount and greatest status.
fn disputes(history: &[Happened], intent: &str) -> Vec<(i64, &'static str)> {
    let mut disputes: BTreeMap<&str, (i64, usize)> = BTreeMap::new();
    for happened in history {
        if let What::Dispute(dispute) = &happened.what
            && dispute.intent == intent
        {
            let rank = DISPUTE_RANKS.iter().position(|rank| *rank == dispute.status).unwrap();
            let entry = disputes.entry(&dispute.id).or_default();
            *entry = (dispute.amount, entry.1.max(rank));
        }
    }
    disputes.into_values().map(|(amount, rank)| (amount, DISPUTE_RANKS[rank])).collect()
}
