//! What a purchase knows of Stripe's facts: sets, maxima and registers, so that arrival order does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use keyledger_schemas::ids::{
    ChargeId, CustomerId, DisputeId, InvoiceId, PaymentIntentId, PriceId, RefundId, SessionId, SubscriptionId,
    SubscriptionItemId,
};
use keyledger_schemas::money::Currency;
use keyledger_schemas::stripe::fact::{
    ChargeSeen, DisputeSeen, Fact, InvoiceLine, InvoiceSeen, Link, Metadata, ObjectRef, RefundSeen, Seen, SessionLine,
    SessionSeen, SubscriptionSeen,
};
use keyledger_schemas::stripe::register::SubscriptionRegister;
use keyledger_schemas::stripe::status::{DisputeStatus, PaymentStatus, RefundStatus, SessionMode, SubscriptionStatus};
use serde::{Deserialize, Serialize};

/// Everything that Stripe's events said about one purchase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knowledge {
    /// Whose it is: the least id seen, should there be several.
    pub customer: Option<CustomerId>,
    /// How its invoices and sessions call the buyer: for sales without a customer, and before the customer was seen.
    #[serde(default)]
    pub contacts: Contacts,
    /// The snapshots that count.
    pub subscription: SubscriptionRegister,
    /// Every item period that a snapshot showed.
    pub item_periods: BTreeSet<ItemPeriod>,
    /// The latest trial end that a trialing snapshot showed, by item.
    pub trials: BTreeMap<SubscriptionItemId, Timestamp>,
    /// Every item that a snapshot showed, with each price it ever had.
    pub sold: BTreeSet<(SubscriptionItemId, Option<PriceId>)>,
    /// Items that some snapshot or line showed as metered.
    pub metered: BTreeSet<SubscriptionItemId>,
    /// The greatest quantity that a snapshot showed, by item; snapshots of a first payment that never came aside.
    pub quantities: BTreeMap<SubscriptionItemId, u64>,
    /// Invoices by id.
    pub invoices: BTreeMap<InvoiceId, Invoice>,
    /// Sessions by id.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Charges by id.
    pub charges: BTreeMap<ChargeId, Charge>,
    /// Refunds by id.
    pub refunds: BTreeMap<RefundId, Refund>,
    /// Disputes by id.
    pub disputes: BTreeMap<DisputeId, Dispute>,
    /// What belongs to what.
    pub links: BTreeSet<Link>,
}

/// How somebody is called. Personal: never logged, never put into an event.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Their address, if it is not blank.
    pub email: Option<String>,
    /// Their name, if it is not blank.
    pub name: Option<String>,
}

impl Contact {
    /// With blank texts left out.
    pub fn of(email: Option<&str>, name: Option<&str>) -> Self {
        let kept = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        Self { email: kept(email), name: kept(name) }
    }

    /// With what is missing taken from `other`.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let first = |a: &Option<String>, b: &Option<String>| a.clone().or_else(|| b.clone());
        Self { email: first(&self.email, &other.email), name: first(&self.name, &other.name) }
    }
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact").finish_non_exhaustive()
    }
}

/// How a purchase's invoices and sessions call the buyer: of each, what the newest sight said that said something. Personal:
/// never logged, never put into an event.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contacts {
    /// The address.
    pub email: Option<(Seen, String)>,
    /// The name.
    pub name: Option<(Seen, String)>,
}

impl Contacts {
    fn learn(&mut self, seen: &Seen, email: Option<&str>, name: Option<&str>) {
        let newest = |known: &mut Option<(Seen, String)>, said: Option<&str>| {
            let said = said.map(str::trim).filter(|said| !said.is_empty());
            let sight = said.map(|said| (seen.clone(), said.to_owned()));
            *known = known.take().max(sight);
        };
        newest(&mut self.email, email);
        newest(&mut self.name, name);
    }

    /// Without when it was said.
    pub fn contact(&self) -> Contact {
        let said = |known: &Option<(Seen, String)>| known.as_ref().map(|(_, said)| said.clone());
        Contact { email: said(&self.email), name: said(&self.name) }
    }
}

impl fmt::Debug for Contacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contacts").finish_non_exhaustive()
    }
}

/// A period of a subscription item as a snapshot showed it. Not proof of payment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ItemPeriod {
    /// The item.
    pub item: SubscriptionItemId,
    /// Its start.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
}

/// An invoice, from all its sights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Some sight of it was paid.
    pub paid: bool,
    /// The earliest moment it was known to be paid.
    pub paid_at: Option<Timestamp>,
    /// Its date.
    pub created: Option<Timestamp>,
    /// The greatest total seen, in minor units.
    pub total_minor: i64,
    /// The greatest amount paid through Stripe, in minor units.
    pub amount_paid_minor: i64,
    /// The currency of its amounts.
    pub currency: Currency,
    /// It bills a subscription.
    pub subscription: Option<SubscriptionId>,
    /// The sight that the lines below are from.
    pub lines_seen: Seen,
    /// Its lines: of a paid sight, else of the newest.
    pub lines: Vec<InvoiceLine>,
    /// It has more lines than shown.
    pub lines_truncated: bool,
    /// The subscription's metadata at the time.
    pub subscription_metadata: Metadata,
}

/// A Checkout session, from all its sights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The newest sight.
    pub seen: Seen,
    /// What it was for.
    pub mode: SessionMode,
    /// The furthest it got.
    pub payment_status: PaymentStatus,
    /// The earliest event that showed it settled.
    pub settled_at: Option<Timestamp>,
    /// The greatest total seen, in minor units.
    pub total_minor: i64,
    /// The currency of the total.
    pub currency: Option<Currency>,
    /// The invoice it named.
    pub invoice: Option<InvoiceId>,
    /// Its metadata, from the newest sight.
    pub metadata: Metadata,
    /// What was sold, where some sight carried it.
    pub lines: Option<Vec<SessionLine>>,
}

/// A charge, from all its sights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The money was taken.
    pub paid: bool,
    /// What was given back: the greatest seen, in minor units.
    pub refunded_minor: i64,
}

/// A refund, from all its sights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// What it gives back money of.
    pub payment: Option<ObjectRef>,
    /// The greatest amount seen, in minor units.
    pub amount_minor: i64,
    /// The furthest it got.
    pub status: RefundStatus,
}

/// A dispute, from all its sights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// What is disputed.
    pub payment: Option<ObjectRef>,
    /// The greatest amount seen, in minor units.
    pub amount_minor: i64,
    /// The highest rank seen.
    pub status: DisputeStatus,
}

impl Knowledge {
    /// Takes one more fact. Total, and the same whatever the order and the repeats.
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::SubscriptionSeen(seen) => self.learn_subscription(seen),
            Fact::InvoiceSeen(seen) => self.learn_invoice(seen),
            Fact::SessionSeen(seen) => self.learn_session(seen),
            Fact::ChargeSeen(seen) => self.learn_charge(&seen),
            Fact::RefundSeen(seen) => self.learn_refund(seen),
            Fact::DisputeSeen(seen) => self.learn_dispute(seen),
            Fact::Linked(link) => {
                self.links.insert(link);
            }
            // Not about one purchase.
            Fact::CustomerSeen(_) | Fact::PriceSeen(_) | Fact::ProductSeen(_) => {}
        }
    }

    fn learn_customer(&mut self, customer: Option<CustomerId>) {
        let known = self.customer.take();
        self.customer = known.into_iter().chain(customer).min();
    }

    fn learn_subscription(&mut self, seen: SubscriptionSeen) {
        self.learn_customer(seen.customer.clone());
        if !seen.status.is_unknown() {
            let began = !matches!(seen.status, SubscriptionStatus::Incomplete | SubscriptionStatus::IncompleteExpired);
            for item in &seen.items {
                self.sold.insert((item.id.clone(), item.price.as_ref().map(|price| price.id.clone())));
                if item.metered {
                    self.metered.insert(item.id.clone());
                }
                if began {
                    let greatest = self.quantities.entry(item.id.clone()).or_default();
                    *greatest = item.quantity.unwrap_or(1).max(*greatest);
                }
                if let (Some(start), Some(end)) = (item.period_start, item.period_end) {
                    self.item_periods.insert(ItemPeriod { item: item.id.clone(), start, end });
                }
                let trial_end = seen.trial_end.or(item.period_end);
                if let (SubscriptionStatus::Trialing, Some(end)) = (&seen.status, trial_end) {
                    let latest = self.trials.entry(item.id.clone()).or_insert(end);
                    *latest = end.max(*latest);
                }
            }
        }
        self.subscription.observe(seen);
    }

    fn learn_invoice(&mut self, seen: InvoiceSeen) {
        self.learn_customer(seen.customer.clone());
        self.contacts.learn(&seen.seen, seen.customer_email.as_deref(), seen.customer_name.as_deref());
        self.metered.extend(seen.lines.iter().filter(|line| line.metered).filter_map(|line| line.item.clone()));
        let Some(known) = self.invoices.get_mut(&seen.id) else {
            self.invoices.insert(seen.id.clone(), Invoice::first(seen));
            return;
        };
        known.learn(seen);
    }

    fn learn_session(&mut self, seen: SessionSeen) {
        self.learn_customer(seen.customer.clone());
        self.contacts.learn(&seen.seen, seen.customer_email.as_deref(), seen.customer_name.as_deref());
        let Some(known) = self.sessions.get_mut(&seen.id) else {
            self.sessions.insert(seen.id.clone(), Session::first(seen));
            return;
        };
        known.learn(seen);
    }

    fn learn_charge(&mut self, seen: &ChargeSeen) {
        self.learn_customer(seen.customer.clone());
        let charge = self.charges.entry(seen.id.clone()).or_default();
        charge.paid |= seen.paid;
        charge.refunded_minor = charge.refunded_minor.max(seen.refunded_minor);
    }

    fn learn_refund(&mut self, seen: RefundSeen) {
        let refund = self.refunds.entry(seen.id).or_insert_with(|| Refund {
            payment: seen.payment.clone(),
            amount_minor: seen.amount_minor,
            status: seen.status.clone(),
        });
        refund.payment = least(refund.payment.take(), seen.payment);
        refund.amount_minor = refund.amount_minor.max(seen.amount_minor);
        refund.status = refund.status.clone().furthest(seen.status);
    }

    fn learn_dispute(&mut self, seen: DisputeSeen) {
        let dispute = self.disputes.entry(seen.id).or_insert_with(|| Dispute {
            payment: seen.payment.clone(),
            amount_minor: seen.amount_minor,
            status: seen.status.clone(),
        });
        dispute.payment = least(dispute.payment.take(), seen.payment);
        dispute.amount_minor = dispute.amount_minor.max(seen.amount_minor);
        dispute.status = dispute.status.clone().furthest(seen.status);
    }

    /// The intent that a charge belongs to, where a link says: the payment that refunds and disputes are counted under.
    pub fn payment_of(&self, object: &ObjectRef) -> ObjectRef {
        self.parents(object)
            .find(|parent| matches!(parent, ObjectRef::PaymentIntent(_)))
            .cloned()
            .unwrap_or_else(|| object.clone())
    }

    /// What `child` belongs to, in the order of the links.
    pub fn parents<'k>(&'k self, child: &ObjectRef) -> impl Iterator<Item = &'k ObjectRef> {
        self.links.iter().filter(move |link| link.child == *child).map(|link| &link.parent)
    }

    /// The payment of a one-off sale, where a link says: the least, should there be several.
    pub fn sale_payment(&self) -> Option<PaymentIntentId> {
        if !self.is_one_off() {
            return None;
        }
        let payments =
            self.links.iter().flat_map(|link| [&link.child, &link.parent]).filter_map(|object| match object {
                ObjectRef::PaymentIntent(id) => Some(id),
                ObjectRef::Charge(_) | ObjectRef::Invoice(_) | ObjectRef::Session(_) | ObjectRef::Subscription(_) => {
                    None
                }
            });
        payments.min().cloned()
    }

    /// The subscription's metadata: of the snapshot that counts, else of the newest paid invoice that carries any.
    pub fn subscription_metadata(&self) -> Option<&Metadata> {
        if let Some(current) = self.subscription.current() {
            return Some(&current.metadata);
        }
        self.invoices
            .values()
            .filter(|invoice| invoice.paid && !invoice.subscription_metadata.is_empty())
            .max_by_key(|invoice| &invoice.lines_seen)
            .map(|invoice| &invoice.subscription_metadata)
    }

    /// The metadata of the purchase's first session.
    pub fn session_metadata(&self) -> Option<&Metadata> {
        self.sessions
            .iter()
            .min_by_key(|(id, session)| (session.settled_at.is_none(), session.settled_at, *id))
            .map(|(_, session)| &session.metadata)
    }

    /// Whether an open dispute is known.
    pub fn has_open_dispute(&self) -> bool {
        self.disputes.values().any(|dispute| dispute.status.is_open())
    }

    /// Whether it is a one-off sale: nothing in it names a subscription.
    pub fn is_one_off(&self) -> bool {
        let subscription_session = |session: &Session| session.mode == SessionMode::Subscription;
        self.subscription.current().is_none()
            && self.subscription.skipped().is_none()
            && self.invoices.values().all(|invoice| invoice.subscription.is_none())
            && !self.sessions.values().any(subscription_session)
    }
}

impl Invoice {
    fn first(seen: InvoiceSeen) -> Self {
        Self {
            paid: seen.paid,
            paid_at: seen.paid_at.filter(|_| seen.paid),
            created: seen.created,
            total_minor: seen.total_minor,
            amount_paid_minor: seen.amount_paid_minor,
            currency: seen.currency,
            subscription: seen.subscription,
            lines_seen: seen.seen,
            lines: seen.lines,
            lines_truncated: seen.lines_truncated,
            subscription_metadata: seen.subscription_metadata,
        }
    }

    fn learn(&mut self, seen: InvoiceSeen) {
        // Lines are frozen once paid; before that the newest sight knows best. One that shows all of them (they were fetched)
        // knows better than any that shows ten.
        let rank = (seen.paid, !seen.lines_truncated, &seen.seen);
        if rank > (self.paid, !self.lines_truncated, &self.lines_seen) {
            self.lines = seen.lines;
            self.lines_truncated = seen.lines_truncated;
            self.lines_seen = seen.seen;
            if !seen.subscription_metadata.is_empty() {
                self.subscription_metadata = seen.subscription_metadata;
            }
        } else if self.subscription_metadata.is_empty() {
            self.subscription_metadata = seen.subscription_metadata;
        }
        if seen.paid {
            self.paid = true;
            self.paid_at = self.paid_at.into_iter().chain(seen.paid_at).min();
        }
        self.created = self.created.into_iter().chain(seen.created).min();
        self.total_minor = self.total_minor.max(seen.total_minor);
        self.amount_paid_minor = self.amount_paid_minor.max(seen.amount_paid_minor);
        self.subscription = self.subscription.take().into_iter().chain(seen.subscription).min();
    }
}

impl Session {
    fn first(seen: SessionSeen) -> Self {
        let settled_at = seen.payment_status.settles().then_some(seen.seen.at);
        Self {
            seen: seen.seen,
            mode: seen.mode,
            payment_status: seen.payment_status,
            settled_at,
            total_minor: seen.total_minor,
            currency: seen.currency,
            invoice: seen.invoice,
            metadata: seen.metadata,
            lines: seen.lines,
        }
    }

    fn learn(&mut self, seen: SessionSeen) {
        if seen.payment_status.settles() {
            self.settled_at = self.settled_at.into_iter().chain([seen.seen.at]).min();
        }
        self.payment_status = self.payment_status.clone().furthest(seen.payment_status);
        self.total_minor = self.total_minor.max(seen.total_minor);
        self.currency = self.currency.take().or(seen.currency);
        self.invoice = self.invoice.take().into_iter().chain(seen.invoice).min();
        if seen.seen > self.seen {
            self.seen = seen.seen;
            self.metadata = seen.metadata;
            if seen.lines.is_some() {
                self.lines = seen.lines;
            }
        } else if self.lines.is_none() {
            self.lines = seen.lines;
        }
    }

    /// Whether what it sold may be delivered.
    pub fn settles(&self) -> bool {
        self.payment_status.settles()
    }
}

/// The lesser of two where both are known: any rule that does not depend on order will do.
fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.into_iter().chain(b).min()
}
