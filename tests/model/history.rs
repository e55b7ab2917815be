//! What happened in a seller's world, as plain data: one element for each event that Stripe would send.
//!
//! Times are whole seconds since 1970, amounts are minor units of one currency.

use std::collections::BTreeMap;

/// Seconds since 1970.
pub type Second = i64;

/// One day.
pub const DAY: Second = 86_400;

/// An event of Stripe's, in no rendering yet.
#[derive(Clone, Debug)]
pub struct Happened {
    /// `evt_…`.
    pub event: String,
    /// `created`.
    pub at: Second,
    /// Stripe's type.
    pub kind: &'static str,
    /// What it shows.
    pub what: What,
}

/// The object that an event shows.
#[derive(Clone, Debug)]
pub enum What {
    /// A subscription, and what it was like before an update.
    Subscription { now: Subscription, before: Option<Subscription> },
    /// An invoice.
    Invoice(Invoice),
    /// Which payment paid an invoice. Exists in the new shape alone.
    InvoicePayment { invoice: String, intent: String },
    /// A Checkout session.
    Session(Session),
    /// A charge.
    Charge(Charge),
    /// A payment intent, and the charge that it ended in.
    Intent { id: String, charge: String, invoice: Option<String> },
    /// A refund.
    Refund(Refund),
    /// A dispute.
    Dispute(Dispute),
    /// A customer.
    Customer { id: String },
    /// A price of the catalogue.
    Price { id: &'static str, product: &'static str },
    /// A product of the catalogue.
    Product { id: &'static str },
}

/// A subscription at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub id: String,
    pub customer: String,
    pub status: &'static str,
    pub items: Vec<Item>,
    /// All items share one period: the old shape knows no other.
    pub start: Second,
    pub end: Second,
    pub metadata: BTreeMap<&'static str, String>,
    pub cancel_at: Option<Second>,
    pub cancel_at_period_end: bool,
    pub ended_at: Option<Second>,
    pub trial_end: Option<Second>,
}

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub id: String,
    pub price: &'static str,
    /// Absent where usage is measured.
    pub quantity: Option<u64>,
}

/// An invoice at a moment.
#[derive(Clone, Debug)]
pub struct Invoice {
    pub id: String,
    pub customer: String,
    pub subscription: Option<String>,
    pub status: &'static str,
    pub created: Second,
    pub paid_at: Option<Second>,
    pub total: i64,
    pub out_of_band: bool,
    /// The lines that the payload shows.
    pub lines: Vec<Line>,
    /// There are more than it shows.
    pub truncated: bool,
    /// The subscription's metadata.
    pub metadata: BTreeMap<&'static str, String>,
    pub intent: Option<String>,
    pub charge: Option<String>,
}

impl Invoice {
    /// Whether the money is in.
    pub fn is_paid(&self) -> bool {
        self.status == "paid"
    }
}

/// A line of an invoice or of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub id: String,
    /// The subscription item that it bills; none for an invoice item and for a one-off sale.
    pub item: Option<String>,
    pub price: &'static str,
    pub amount: i64,
    pub quantity: Option<u64>,
    pub start: Second,
    pub end: Second,
    pub proration: bool,
}

/// A Checkout session at a moment.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: String,
    pub customer: Option<String>,
    pub mode: &'static str,
    pub status: &'static str,
    pub payment_status: &'static str,
    pub subscription: Option<String>,
    pub invoice: Option<String>,
    pub intent: Option<String>,
    pub total: i64,
    /// What was sold, where the payload says.
    pub lines: Option<Vec<Line>>,
}

/// A charge at a moment.
#[derive(Clone, Debug)]
pub struct Charge {
    pub id: String,
    pub intent: String,
    /// The old shape says it.
    pub invoice: Option<String>,
    pub paid: bool,
    pub amount: i64,
    pub refunded: i64,
}

/// A refund at a moment.
#[derive(Clone, Debug)]
pub struct Refund {
    pub id: String,
    pub charge: String,
    pub intent: String,
    pub amount: i64,
    pub status: &'static str,
}

/// A dispute at a moment.
#[derive(Clone, Debug)]
pub struct Dispute {
    pub id: String,
    pub charge: String,
    pub intent: String,
    pub amount: i64,
    pub status: &'static str,
}
