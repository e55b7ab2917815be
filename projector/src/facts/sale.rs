//! What is known of subscriptions, invoices and Checkout sessions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_schemas::ids::{CustomerId, PriceId, SubscriptionId};
use keyledger_schemas::money::Currency;
use keyledger_schemas::stripe::fact::{
    InvoiceLine, InvoiceSeen, LineKind, Metadata, Seen, SessionLine, SessionSeen, SubscriptionSeen,
};
use keyledger_schemas::stripe::register::SubscriptionRegister;
use keyledger_schemas::stripe::status::{PaymentStatus, SessionMode, SubscriptionStatus};
use serde::{Deserialize, Serialize};

use super::node::Summary;
use super::{earliest, greatest};

/// A period of an item that some snapshot showed. Not proof of payment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ItemPeriod {
    /// `si_…`.
    pub item: String,
    /// From.
    pub start: Timestamp,
    /// To, excluded.
    pub end: Timestamp,
}

/// What was ever said of an item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemSeen {
    /// Every price it ever had.
    pub prices: BTreeSet<PriceId>,
    /// Whether any snapshot with a known status said that its usage is measured.
    pub metered: bool,
    /// The greatest quantity in a snapshot with a known status that was not incomplete; absent means 1.
    pub greatest_quantity: u64,
}

/// What is known of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionFacts {
    /// The snapshots that matter.
    pub register: SubscriptionRegister,
    /// Every item period seen in a snapshot with a known status.
    pub periods: BTreeSet<ItemPeriod>,
    /// Every trial ever seen: item and end.
    pub trials: BTreeSet<(String, Timestamp)>,
    /// Every item ever named by a snapshot.
    pub items: BTreeMap<String, ItemSeen>,
    /// Whose, as last seen.
    pub customer: Option<(Seen, CustomerId)>,
}

impl SubscriptionFacts {
    /// Takes one more snapshot.
    pub fn observe(&mut self, snapshot: &SubscriptionSeen) {
        for item in &snapshot.items {
            let id = item.id.as_str().to_owned();
            let seen = self.items.entry(id.clone()).or_default();
            seen.prices.extend(item.price.as_ref().map(|price| price.id.clone()));
            seen.metered |= item.metered && !snapshot.status.is_unknown();
            if is_in_force(&snapshot.status) {
                seen.greatest_quantity = seen.greatest_quantity.max(item.quantity.unwrap_or(1));
            }
            if let (false, Some(start), Some(end)) = (snapshot.status.is_unknown(), item.period_start, item.period_end)
            {
                self.periods.insert(ItemPeriod { item: id.clone(), start, end });
            }
            if snapshot.status == SubscriptionStatus::Trialing {
                self.trials.extend(snapshot.trial_end.or(item.period_end).map(|end| (id, end)));
            }
        }
        newest(&mut self.customer, &snapshot.seen, snapshot.customer.as_ref());
        self.register.observe(snapshot.clone());
    }

    pub(super) fn summary(&self) -> Summary {
        let current = self.register.current();
        let shown = current.or_else(|| self.register.skipped());
        Summary {
            customer: self.customer.as_ref().map(|(_, customer)| customer.to_string()),
            status: shown.map(|snapshot| snapshot.status.as_str().to_owned()),
            happened_at: shown.map(|snapshot| snapshot.seen.at),
            parts: self.items.keys().cloned().collect(),
            ..Summary::default()
        }
    }
}

/// Whether what a snapshot shows was ever more than an attempt.
fn is_in_force(status: &SubscriptionStatus) -> bool {
    match status {
        SubscriptionStatus::Incomplete | SubscriptionStatus::IncompleteExpired | SubscriptionStatus::Unknown(_) => {
            false
        }
        SubscriptionStatus::Trialing
        | SubscriptionStatus::Active
        | SubscriptionStatus::PastDue
        | SubscriptionStatus::Unpaid
        | SubscriptionStatus::Paused
        | SubscriptionStatus::Canceled => true,
    }
}

/// The lines of an invoice in the sight of it that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinesSight {
    /// The sight showed it paid.
    pub paid: bool,
    /// Which sight.
    pub seen: Seen,
    /// The lines, in Stripe's order.
    pub lines: Vec<InvoiceLine>,
    /// There are more than these.
    pub truncated: bool,
}

impl LinesSight {
    /// Whether it shows every line. A payload without any does not.
    fn is_whole(&self) -> bool {
        !self.truncated && !self.lines.is_empty()
    }
}

/// What is known of an invoice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceFacts {
    /// The newest sight, and the status in it; `None` while it was only named.
    pub newest: Option<(Seen, String)>,
    /// The subscription it bills, once any sight says so.
    pub subscription: Option<SubscriptionId>,
    /// Some sight showed it paid.
    pub paid: bool,
    /// When it was paid: the least seen.
    pub paid_at: Option<Timestamp>,
    /// Its date.
    pub created: Option<Timestamp>,
    /// The greatest total seen, in minor units.
    pub total_minor: i64,
    /// The greatest amount paid seen, in minor units.
    pub amount_paid_minor: i64,
    /// The currency of its amounts.
    pub currency: Option<Currency>,
    /// The number on the paper.
    pub number: Option<String>,
    /// The lines of a paid sight, of one that shows all of them if there is one, else of the newest sight.
    pub lines: Option<LinesSight>,
    /// The subscription's metadata in the newest paid sight that carried any.
    pub metadata: Option<(Seen, Metadata)>,
    /// Whose.
    pub customer: Option<(Seen, CustomerId)>,
    /// Addresses it showed.
    pub emails: BTreeSet<String>,
}

impl InvoiceFacts {
    /// Takes one more sight.
    pub fn observe(&mut self, sight: &InvoiceSeen) {
        let status = sight.status.as_str().to_owned();
        if self.newest.as_ref().is_none_or(|(seen, _)| sight.seen > *seen) {
            self.newest = Some((sight.seen.clone(), status));
        }
        self.total_minor =
            if self.currency.is_none() { sight.total_minor } else { self.total_minor.max(sight.total_minor) };
        self.amount_paid_minor = self.amount_paid_minor.max(sight.amount_paid_minor);
        self.currency = Some(sight.currency.clone());
        self.subscription = self.subscription.take().or_else(|| sight.subscription.clone());
        self.paid |= sight.paid;
        earliest(&mut self.paid_at, sight.paid_at.filter(|_| sight.paid));
        earliest(&mut self.created, sight.created);
        self.number = self.number.take().or_else(|| sight.number.clone());
        // What was fetched shows all lines; a delivery that came later shows the first ten.
        let rank = |sight: &LinesSight| (sight.paid, sight.is_whole(), sight.seen.clone(), sight.lines.len());
        let lines = LinesSight {
            paid: sight.paid,
            seen: sight.seen.clone(),
            lines: sight.lines.clone(),
            truncated: sight.lines_truncated,
        };
        if self.lines.as_ref().is_none_or(|held| rank(&lines) > rank(held)) {
            self.lines = Some(lines);
        }
        if sight.paid && !sight.subscription_metadata.is_empty() {
            newest(&mut self.metadata, &sight.seen, Some(&sight.subscription_metadata));
        }
        newest(&mut self.customer, &sight.seen, sight.customer.as_ref());
        self.emails.extend(sight.customer_email.clone());
    }

    /// Whether any event showed it, rather than only naming it.
    pub fn is_seen(&self) -> bool {
        self.newest.is_some()
    }

    /// Whether it was seen, and bills no subscription.
    pub fn is_one_off(&self) -> bool {
        self.is_seen() && self.subscription.is_none()
    }

    /// Its lines that bill a subscription's items.
    pub fn subscription_lines(&self) -> impl Iterator<Item = &InvoiceLine> {
        self.all_lines().iter().filter(|line| line.kind == LineKind::Subscription)
    }

    /// Its lines, as far as they are shown.
    pub fn all_lines(&self) -> &[InvoiceLine] {
        self.lines.as_ref().map_or(&[], |sight| &sight.lines)
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            customer: self.customer.as_ref().map(|(_, customer)| customer.to_string()),
            status: if self.paid { Some("paid".to_owned()) } else { self.newest.as_ref().map(|(_, s)| s.clone()) },
            amount_minor: self.is_seen().then_some(self.total_minor),
            currency: self.currency.clone(),
            number: self.number.clone(),
            happened_at: self.paid_at.or(self.created),
            emails: self.emails.clone(),
            parts: self.all_lines().iter().map(|line| line.id.to_string()).collect(),
        }
    }
}

/// What is known of a Checkout session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFacts {
    /// What it was for; `None` while it was only named.
    pub mode: Option<SessionMode>,
    /// The greatest seen.
    pub payment_status: Option<PaymentStatus>,
    /// The least `created` of an event that showed it settled.
    pub settled_at: Option<Timestamp>,
    /// The least `created` of an event that showed it at all.
    pub first_seen: Option<Timestamp>,
    /// What it came to, in minor units: the greatest seen.
    pub total_minor: i64,
    /// The currency of the amount.
    pub currency: Option<Currency>,
    /// The metadata of the newest sight.
    pub metadata: Option<(Seen, Metadata)>,
    /// Its lines in the newest sight that carried them.
    pub lines: Option<(Seen, Vec<SessionLine>)>,
    /// Open, complete or expired in the newest sight.
    pub status: Option<(Seen, String)>,
    /// Whose.
    pub customer: Option<(Seen, CustomerId)>,
    /// Addresses it showed.
    pub emails: BTreeSet<String>,
}

impl SessionFacts {
    /// Takes one more sight.
    pub fn observe(&mut self, sight: &SessionSeen) {
        self.mode = Some(sight.mode.clone());
        let is_unknown = |status: &PaymentStatus| matches!(status, PaymentStatus::Unknown(_));
        greatest(&mut self.payment_status, &sight.payment_status, is_unknown);
        earliest(&mut self.settled_at, sight.payment_status.settles().then_some(sight.seen.at));
        earliest(&mut self.first_seen, Some(sight.seen.at));
        self.total_minor = self.total_minor.max(sight.total_minor);
        self.currency = self.currency.take().or_else(|| sight.currency.clone());
        newest(&mut self.metadata, &sight.seen, Some(&sight.metadata));
        newest(&mut self.lines, &sight.seen, sight.lines.as_ref());
        newest(&mut self.status, &sight.seen, Some(&sight.status.as_str().to_owned()));
        newest(&mut self.customer, &sight.seen, sight.customer.as_ref());
        self.emails.extend(sight.customer_email.clone());
    }

    /// Whether it sells once.
    pub fn is_payment(&self) -> bool {
        self.mode == Some(SessionMode::Payment)
    }

    /// Whether it starts a subscription.
    pub fn is_subscription(&self) -> bool {
        self.mode == Some(SessionMode::Subscription)
    }

    /// Whether money came.
    pub fn is_paid(&self) -> bool {
        self.payment_status == Some(PaymentStatus::Paid)
    }

    /// Whether a one-off sale may be delivered.
    pub fn settles(&self) -> bool {
        self.payment_status.as_ref().is_some_and(PaymentStatus::settles)
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            customer: self.customer.as_ref().map(|(_, customer)| customer.to_string()),
            status: match &self.status {
                Some((_, status)) if status == "complete" => {
                    self.payment_status.as_ref().map(|s| s.as_str().to_owned())
                }
                Some((_, status)) => Some(status.clone()),
                None => None,
            },
            amount_minor: self.mode.as_ref().map(|_| self.total_minor),
            currency: self.currency.clone(),
            number: None,
            happened_at: self.settled_at.or(self.first_seen),
            emails: self.emails.clone(),
            parts: BTreeSet::new(),
        }
    }
}

/// Keeps the value of the newest sight that has one. Two renderings of one event say the same; the first stays.
fn newest<T: Clone>(held: &mut Option<(Seen, T)>, seen: &Seen, offered: Option<&T>) {
    if let Some(offered) = offered
        && held.as_ref().is_none_or(|(held, _)| seen > held)
    {
        *held = Some((seen.clone(), offered.clone()));
    }
}
