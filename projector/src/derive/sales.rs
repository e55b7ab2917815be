//! Sales: what was paid with one invoice or session, and how much of the money is still there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_schemas::money::{Currency, Money};
use keyledger_schemas::settings::{MoneyGone, Policy};
use keyledger_schemas::stripe::fact::{InvoiceLine, SessionLine};

use super::purchase::PurchaseRows;
use crate::facts::{InvoiceFacts, Kind, Node, Object, ObjectFacts, SessionFacts};

/// What was sold, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub enum Lines<'a> {
    /// Nothing says.
    Unknown,
    /// An invoice's lines.
    Invoice {
        /// Those shown.
        lines: &'a [InvoiceLine],
        /// There are more.
        truncated: bool,
    },
    /// A session's lines.
    Session(&'a [SessionLine]),
}

/// One paid invoice of a subscription, or the whole of a one-off purchase once it sells.
#[derive(Clone, Debug)]
pub struct Sale<'a> {
    /// The invoice or session it was paid with.
    pub source: String,
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
    /// The invoice's date; else when the session settled.
    pub date: Option<Timestamp>,
    /// What it came to, in minor units.
    pub total_minor: i64,
    /// The currency, where known.
    pub currency: Option<Currency>,
    /// What was sold.
    pub lines: Lines<'a>,
    /// Its money was not given back in full.
    pub counts: bool,
}

impl Sale<'_> {
    /// What it came to.
    pub fn total(&self) -> Option<Money> {
        Some(Money::new(self.total_minor, self.currency.clone()?))
    }

    /// `amount_minor` in its currency.
    pub fn money(&self, amount_minor: i64) -> Option<Money> {
        Some(Money::new(amount_minor, self.currency.clone()?))
    }
}

/// What was paid in a purchase.
#[derive(Clone, Debug, Default)]
pub struct Sales<'a> {
    /// The sales, by source.
    pub sales: Vec<Sale<'a>>,
    /// Money that is there without any known invoice or line: a paid session that names nothing. Its total, and when.
    pub unexplained: Vec<Unexplained>,
    /// When any invoice was last paid.
    pub last_paid_at: Option<Timestamp>,
    /// Some dispute is open.
    pub disputed: bool,
    /// One-off without any known line.
    pub lines_unknown: bool,
}

/// Money without a sale.
#[derive(Clone, Debug)]
pub struct Unexplained {
    /// How much.
    pub total: Option<Money>,
    /// Whether it is more than nothing.
    pub charged: bool,
    /// Since when.
    pub at: Option<Timestamp>,
}

/// The sales of a purchase.
pub fn sales<'a>(rows: &PurchaseRows<'a>, policy: &Policy) -> Sales<'a> {
    let disputed = rows
        .of_kind(Kind::Dispute)
        .any(|object| matches!(&object.facts, ObjectFacts::Dispute(dispute) if dispute.is_open()));
    let refunds = Refunds::of(rows, policy);
    let sales = if rows.is_one_off() { one_off(rows, &refunds) } else { of_subscription(rows, &refunds) };
    Sales { disputed, ..sales }
}

fn of_subscription<'a>(rows: &PurchaseRows<'a>, refunds: &Refunds<'_>) -> Sales<'a> {
    let sessions = rows.sessions();
    let mut all = Sales::default();
    for (object, invoice) in rows.invoices() {
        let named_by = sessions.iter().filter(|(session, facts)| {
            facts.is_subscription() && facts.is_paid() && session.parents.contains(&object.node)
        });
        let named_by: Vec<&SessionFacts> = named_by.map(|(_, facts)| *facts).collect();
        if !invoice.paid && named_by.is_empty() {
            continue;
        }
        let settled_at = named_by.iter().filter_map(|session| session.settled_at).min();
        let session_total = named_by.iter().map(|session| session.total_minor).max().unwrap_or(0);
        // Until the invoice itself is seen paid, only the session says how much came.
        let paid_minor =
            if invoice.paid { invoice.amount_paid_minor } else { invoice.amount_paid_minor.max(session_total) };
        all.sales.push(Sale {
            source: object.node.id.clone(),
            paid_at: invoice.paid_at.or(settled_at),
            date: invoice.created.or(settled_at),
            total_minor: if invoice.is_seen() { invoice.total_minor } else { session_total },
            currency: invoice.currency.clone().or_else(|| named_by.iter().find_map(|session| session.currency.clone())),
            lines: match &invoice.lines {
                Some(sight) if !sight.lines.is_empty() => {
                    Lines::Invoice { lines: &sight.lines, truncated: sight.truncated }
                }
                Some(_) | None => Lines::Unknown,
            },
            counts: !is_gone(refunds.of_invoice(&object.node), paid_minor),
        });
    }
    for (session, facts) in sessions {
        if facts.is_subscription() && facts.is_paid() && session.parents_of(Kind::Invoice).next().is_none() {
            all.unexplained.push(unexplained(facts));
        }
    }
    all.last_paid_at = all.sales.iter().filter_map(|sale| sale.paid_at).max();
    all
}

/// All sessions, invoices and payments of a one-off purchase are one source.
fn one_off<'a>(rows: &PurchaseRows<'a>, refunds: &Refunds<'_>) -> Sales<'a> {
    let sessions: Vec<_> = rows.sessions().into_iter().filter(|(_, facts)| facts.is_payment()).collect();
    let invoices: Vec<(&Object, &InvoiceFacts)> = rows.invoices().collect();
    let session_lines = sessions.iter().find_map(|(_, facts)| facts.lines.as_ref());
    let paid_invoices = || invoices.iter().filter(|(_, invoice)| invoice.paid);
    let invoice_lines =
        paid_invoices().find_map(|(_, invoice)| invoice.lines.as_ref().filter(|sight| !sight.lines.is_empty()));
    let lines = match (session_lines, invoice_lines) {
        (Some((_, lines)), _) => Lines::Session(lines),
        (None, Some(sight)) => Lines::Invoice { lines: &sight.lines, truncated: sight.truncated },
        (None, None) => Lines::Unknown,
    };
    let settled_at =
        sessions.iter().filter(|(_, facts)| facts.settles()).filter_map(|(_, facts)| facts.settled_at).min();
    let paid_at = paid_invoices().filter_map(|(_, invoice)| invoice.paid_at).min();
    let session_totals = sessions.iter().map(|(_, facts)| facts.total_minor);
    let total_minor = session_totals.clone().chain(invoices.iter().map(|(_, invoice)| invoice.total_minor)).max();
    let paid_minor = session_totals.chain(invoices.iter().map(|(_, invoice)| invoice.amount_paid_minor)).max();
    let currency = sessions.iter().find_map(|(_, facts)| facts.currency.clone());
    let currency = currency.or_else(|| invoices.iter().find_map(|(_, invoice)| invoice.currency.clone()));

    let mut all = Sales { last_paid_at: paid_at, ..Sales::default() };
    let counts = !is_gone(refunds.all(), paid_minor.unwrap_or(0));
    // Without a session and without lines nothing says that there is an item at all.
    let has_item = !sessions.is_empty() || !matches!(lines, Lines::Unknown);
    all.lines_unknown = matches!(lines, Lines::Unknown);
    let sold_at = settled_at.into_iter().chain(paid_at).min().filter(|_| has_item);
    all.sales.extend(sold_at.map(|at| Sale {
        source: rows.id.object.clone(),
        paid_at: Some(at),
        date: Some(at),
        total_minor: total_minor.unwrap_or(0),
        currency,
        lines,
        counts,
    }));
    all
}

fn unexplained(session: &SessionFacts) -> Unexplained {
    Unexplained {
        total: session.currency.clone().map(|currency| Money::new(session.total_minor, currency)),
        charged: session.total_minor > 0,
        at: session.settled_at,
    }
}

/// Whether all of what was paid was given back. Money that never came cannot be given back.
fn is_gone(refunded_minor: i64, paid_minor: i64) -> bool {
    paid_minor > 0 && refunded_minor >= paid_minor
}

/// How much was given back, by payment.
#[derive(Debug, Default)]
struct Refunds<'a> {
    /// A payment is an intent with its charges, or a charge without one.
    payments: BTreeMap<&'a Node, Payment<'a>>,
}

#[derive(Debug, Default)]
struct Payment<'a> {
    refunds_minor: i64,
    came_to_nothing_minor: i64,
    amount_refunded_minor: i64,
    lost_minor: i64,
    invoices: BTreeSet<&'a Node>,
}

impl<'a> Refunds<'a> {
    fn of(rows: &PurchaseRows<'a>, policy: &Policy) -> Self {
        let mut refunds = Self::default();
        for object in rows.objects.values() {
            let refunded = policy.refund_full == MoneyGone::Revoke;
            let lost = policy.dispute_lost == MoneyGone::Revoke;
            match &object.facts {
                ObjectFacts::Intent => refunds.place(rows, object),
                ObjectFacts::Charge(charge) => {
                    refunds.place(rows, object);
                    if refunded {
                        refunds.payment(rows, &object.node).amount_refunded_minor += charge.refunded_minor;
                    }
                }
                ObjectFacts::Refund(refund) if refunded => {
                    let Some(paid_with) = object.parents.first() else { continue };
                    let payment = refunds.payment(rows, paid_with);
                    if refund.came_to_nothing() {
                        payment.came_to_nothing_minor += refund.amount_minor;
                    } else {
                        payment.refunds_minor += refund.amount_minor;
                    }
                }
                ObjectFacts::Dispute(dispute) if lost && dispute.is_lost() => {
                    let Some(paid_with) = object.parents.first() else { continue };
                    refunds.payment(rows, paid_with).lost_minor += dispute.amount_minor;
                }
                ObjectFacts::Refund(_)
                | ObjectFacts::Dispute(_)
                | ObjectFacts::Subscription(_)
                | ObjectFacts::Invoice(_)
                | ObjectFacts::Session(_) => {}
            }
        }
        refunds
    }

    /// The payment that an intent or a charge is, or is part of.
    fn payment(&mut self, rows: &PurchaseRows<'a>, node: &'a Node) -> &mut Payment<'a> {
        let object = rows.objects.get(node);
        let intent = object.and_then(|object| object.parents_of(Kind::Intent).next());
        self.payments.entry(intent.unwrap_or(node)).or_default()
    }

    /// Notes which invoices an intent or a charge pays: directly, or through the session that made the invoice.
    fn place(&mut self, rows: &PurchaseRows<'a>, object: &'a Object) {
        let direct = object.parents_of(Kind::Invoice);
        let sessions = object.parents_of(Kind::Session).filter_map(|session| rows.objects.get(session));
        let through_session = sessions.flat_map(|session| session.parents_of(Kind::Invoice));
        let invoices: Vec<&'a Node> = direct.chain(through_session).collect();
        self.payment(rows, &object.node).invoices.extend(invoices);
    }

    fn of_invoice(&self, invoice: &Node) -> i64 {
        self.payments.values().filter(|payment| payment.invoices.contains(invoice)).map(Payment::refunded_minor).sum()
    }

    fn all(&self) -> i64 {
        self.payments.values().map(Payment::refunded_minor).sum()
    }
}

impl Payment<'_> {
    fn refunded_minor(&self) -> i64 {
        let by_charge = self.amount_refunded_minor - self.came_to_nothing_minor;
        self.refunds_minor.max(by_charge).max(0) + self.lost_minor
    }
}
