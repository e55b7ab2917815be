//! The facts that Stripe's events state, in one shape for every API version.
//!
//! A fact says what was seen, not what follows from it. Facts about one object are idempotent: seeing the same
//! one twice, in any order, in any rendering, changes nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::{
    DisputeStatus, InvoiceStatus, PaymentStatus, RefundStatus, SessionMode, SessionStatus, SubscriptionStatus,
};
use crate::ids::{
    ChargeId, CustomerId, DisputeId, InvoiceId, LineId, PaymentIntentId, PriceId, ProductId, RefundId, SessionId,
    StripeEventId, SubscriptionId, SubscriptionItemId,
};
use crate::money::Currency;

/// Stripe's metadata: always text to text.
pub type Metadata = BTreeMap<String, String>;

/// Something that a Stripe event states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// A subscription as it was.
    SubscriptionSeen(SubscriptionSeen),
    /// An invoice as it was, paid or not.
    InvoiceSeen(InvoiceSeen),
    /// A Checkout session as it was.
    SessionSeen(SessionSeen),
    /// A charge as it was.
    ChargeSeen(ChargeSeen),
    /// A refund as it was.
    RefundSeen(RefundSeen),
    /// A dispute as it was.
    DisputeSeen(DisputeSeen),
    /// One object belongs to another.
    Linked(Link),
    /// A customer as they were.
    CustomerSeen(CustomerSeen),
    /// A price as it was.
    PriceSeen(PriceSeen),
    /// A product as it was.
    ProductSeen(ProductSeen),
}

/// When and how a snapshot was seen: what decides between two snapshots of one object (see [`super::register`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// The event's `created`, whole seconds.
    pub at: Timestamp,
    /// What kind of change the event's name says.
    pub change: Change,
    /// The event, to break a last tie.
    pub event: StripeEventId,
}

/// What kind of change an event's name says. Later variants win over earlier ones within one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// `….created`.
    Created,
    /// `….updated`, `paused`, `resumed`, `pending_update_…`, and every other name.
    Updated,
    /// `….deleted`.
    Deleted,
}

/// A subscription as one event showed it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionSeen {
    /// When and how.
    pub seen: Seen,
    /// `sub_…`.
    pub id: SubscriptionId,
    /// Whose (`cus_…`, or `acct_…` under Accounts v2).
    pub customer: Option<CustomerId>,
    /// Stripe's status.
    pub status: SubscriptionStatus,
    /// What is subscribed to.
    pub items: Vec<SubscriptionItem>,
    /// The payload said that there are more items than it shows.
    pub items_truncated: bool,
    /// The subscription's metadata.
    pub metadata: Metadata,
    /// Scheduled to be canceled at this time.
    pub cancel_at: Option<Timestamp>,
    /// Scheduled to be canceled when the current period ends.
    pub cancel_at_period_end: bool,
    /// When it ended, if it did.
    pub ended_at: Option<Timestamp>,
    /// The end of the trial, past or future.
    pub trial_end: Option<Timestamp>,
    /// What the event said had been different just before.
    pub previous: PreviousSubscription,
}

impl SubscriptionSeen {
    /// Whether it is over for good.
    pub fn has_ended(&self) -> bool {
        self.ended_at.is_some() || self.status.is_ended()
    }

    /// When it ended: `ended_at`, or for an ended one that does not say, when it was seen so.
    pub fn ended(&self) -> Option<Timestamp> {
        self.has_ended().then(|| self.ended_at.unwrap_or(self.seen.at))
    }
}

/// The old values in an event's `previous_attributes` that order two snapshots of the same second.
/// `None` means that the event did not name the attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct PreviousSubscription {
    /// The status before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SubscriptionStatus>,
    /// `cancel_at_period_end` before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_at_period_end: Option<bool>,
    /// `cancel_at` before; the inner `None` is Stripe's null.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "double_option")]
    #[schemars(with = "Option<Timestamp>")]
    pub cancel_at: Option<Option<Timestamp>>,
    /// Price and quantity of each item before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<PreviousItem>>,
    /// Metadata keys that changed, with their old values; `None` for a key that was not there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Option<String>>,
}

/// One item before a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct PreviousItem {
    /// `si_…`.
    pub id: SubscriptionItemId,
    /// Its price before.
    pub price: Option<PriceId>,
    /// Its quantity before.
    pub quantity: Option<u64>,
    /// The end of its period before.
    pub period_end: Option<Timestamp>,
}

/// One item of a subscription snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionItem {
    /// `si_…`; for subscriptions older than items, the price id.
    pub id: SubscriptionItemId,
    /// What it sells.
    pub price: Option<PriceRef>,
    /// How many; absent for metered prices.
    pub quantity: Option<u64>,
    /// Usage is measured and billed afterward.
    pub metered: bool,
    /// Start of the current period.
    pub period_start: Option<Timestamp>,
    /// End of the current period. Not proof of payment.
    pub period_end: Option<Timestamp>,
}

/// A price as another object refers to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct PriceRef {
    /// `price_…`, or a legacy plan's id.
    pub id: PriceId,
    /// `prod_…`, where the payload says.
    pub product: Option<ProductId>,
    /// The price's metadata, where the payload embeds the whole price.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// An invoice as one event showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoiceSeen {
    /// When and how.
    pub seen: Seen,
    /// `in_…`.
    pub id: InvoiceId,
    /// The subscription it bills; `None` on a one-off invoice.
    pub subscription: Option<SubscriptionId>,
    /// Whose.
    pub customer: Option<CustomerId>,
    /// The customer's address, as the invoice has it.
    pub customer_email: Option<String>,
    /// The customer's name, as the invoice has it.
    pub customer_name: Option<String>,
    /// Stripe's status.
    pub status: InvoiceStatus,
    /// `status = paid`, or `paid = true` on old accounts.
    pub paid: bool,
    /// When it was paid, as the invoice says; else the event's `created`. `None` unless paid.
    pub paid_at: Option<Timestamp>,
    /// The invoice's date.
    pub created: Option<Timestamp>,
    /// What it came to, in minor units.
    pub total_minor: i64,
    /// What was paid through Stripe (newer versions include money from elsewhere), in minor units.
    pub amount_paid_minor: i64,
    /// The currency of all its amounts.
    pub currency: Currency,
    /// The number on the paper.
    pub number: Option<String>,
    /// The first ten or so lines, in Stripe's order.
    pub lines: Vec<InvoiceLine>,
    /// There are more lines than shown.
    pub lines_truncated: bool,
    /// The subscription's metadata as it was when the invoice was finalized, where the payload carries it.
    pub subscription_metadata: Metadata,
}

/// One line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoiceLine {
    /// `il_…`; very old lines carry another object's id.
    pub id: LineId,
    /// The subscription item it bills, where the payload says.
    pub item: Option<SubscriptionItemId>,
    /// What it sells.
    pub price: Option<PriceRef>,
    /// In minor units of the invoice's currency; negative for credits.
    pub amount_minor: i64,
    /// How many; absent for metered prices.
    pub quantity: Option<u64>,
    /// Start of what it pays for.
    pub period_start: Option<Timestamp>,
    /// End of what it pays for.
    pub period_end: Option<Timestamp>,
    /// An adjustment within a period, not a period of its own.
    pub proration: bool,
    /// Usage is measured and billed afterward, where the payload says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metered: bool,
    /// Whether it bills a subscription's item or stands alone.
    pub kind: LineKind,
}

/// What a line bills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// A subscription's item, prorations of one included.
    Subscription,
    /// A one-off invoice item.
    InvoiceItem,
}

/// A Checkout session as one event showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionSeen {
    /// When and how.
    pub seen: Seen,
    /// `cs_…`.
    pub id: SessionId,
    /// What the session was for.
    pub mode: SessionMode,
    /// Open, complete or expired.
    pub status: SessionStatus,
    /// Whether money came. `async_payment_succeeded` counts as paid whatever the field says.
    pub payment_status: PaymentStatus,
    /// Whose; `None` for guests.
    pub customer: Option<CustomerId>,
    /// The address typed at checkout.
    pub customer_email: Option<String>,
    /// The name typed at checkout.
    pub customer_name: Option<String>,
    /// The seller's own reference.
    pub client_reference_id: Option<String>,
    /// The subscription it started.
    pub subscription: Option<SubscriptionId>,
    /// The invoice it paid.
    pub invoice: Option<InvoiceId>,
    /// The payment behind it.
    pub payment_intent: Option<PaymentIntentId>,
    /// What it came to, in minor units.
    pub total_minor: i64,
    /// The currency of the amount.
    pub currency: Option<Currency>,
    /// The session's metadata.
    pub metadata: Metadata,
    /// What was sold, where the payload carries it (webhooks do not, fetched sessions may).
    pub lines: Option<Vec<SessionLine>>,
}

/// One line of a Checkout session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionLine {
    /// `li_…`.
    pub id: LineId,
    /// What it sells.
    pub price: Option<PriceRef>,
    /// In minor units.
    pub amount_minor: i64,
    /// How many.
    pub quantity: Option<u64>,
}

/// A charge as one event showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChargeSeen {
    /// When and how.
    pub seen: Seen,
    /// `ch_…`.
    pub id: ChargeId,
    /// Whose.
    pub customer: Option<CustomerId>,
    /// Whether the money was taken.
    pub paid: bool,
    /// What was charged, in minor units.
    pub amount_minor: i64,
    /// What was given back so far, in minor units: a maximum, never a sum of events.
    pub refunded_minor: i64,
    /// The currency of both.
    pub currency: Currency,
}

/// A refund as one event showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefundSeen {
    /// When and how.
    pub seen: Seen,
    /// `re_…`.
    pub id: RefundId,
    /// What it gives back money of.
    pub payment: Option<ObjectRef>,
    /// In minor units.
    pub amount_minor: i64,
    /// The currency of the amount.
    pub currency: Currency,
    /// How far it got. Only ever grows (see [`RefundStatus`]).
    pub status: RefundStatus,
}

/// A dispute as one event showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DisputeSeen {
    /// When and how.
    pub seen: Seen,
    /// `dp_…` or `du_…`.
    pub id: DisputeId,
    /// What is disputed.
    pub payment: Option<ObjectRef>,
    /// In minor units.
    pub amount_minor: i64,
    /// The currency of the amount.
    pub currency: Currency,
    /// How far it got. The highest rank seen counts (see [`DisputeStatus`]).
    pub status: DisputeStatus,
}

/// An object that payments, invoices and sales hang on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", content = "id", rename_all = "snake_case")]
pub enum ObjectRef {
    /// A charge, or Stripe's record of a payment made elsewhere.
    Charge(ChargeId),
    /// A payment intent.
    PaymentIntent(PaymentIntentId),
    /// An invoice.
    Invoice(InvoiceId),
    /// A Checkout session.
    Session(SessionId),
    /// A subscription.
    Subscription(SubscriptionId),
}

impl ObjectRef {
    /// The Stripe id, whose prefix tells the kind.
    pub fn id(&self) -> &str {
        match self {
            Self::Charge(id) => id.as_str(),
            Self::PaymentIntent(id) => id.as_str(),
            Self::Invoice(id) => id.as_str(),
            Self::Session(id) => id.as_str(),
            Self::Subscription(id) => id.as_str(),
        }
    }
}

/// `child` belongs to `parent`: a charge to its intent, an intent to its invoice or session, an invoice to its
/// subscription, a session to the subscription or invoice it made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// The object nearer to the money.
    pub child: ObjectRef,
    /// The object nearer to the sale.
    pub parent: ObjectRef,
}

/// A customer as one event showed them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CustomerSeen {
    /// When and how.
    pub seen: Seen,
    /// `cus_…`.
    pub id: CustomerId,
    /// Their address.
    pub email: Option<String>,
    /// Their name.
    pub name: Option<String>,
    /// The customer's metadata.
    pub metadata: Metadata,
    /// Deleted at Stripe.
    pub deleted: bool,
}

/// A price as one event showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceSeen {
    /// When and how.
    pub seen: Seen,
    /// `price_…`.
    pub id: PriceId,
    /// The product it prices.
    pub product: Option<ProductId>,
    /// The price's metadata.
    pub metadata: Metadata,
    /// What people call it.
    pub nickname: Option<String>,
    /// Deleted at Stripe.
    pub deleted: bool,
}

/// A product as one event showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProductSeen {
    /// When and how.
    pub seen: Seen,
    /// `prod_…`.
    pub id: ProductId,
    /// The product's metadata.
    pub metadata: Metadata,
    /// What people call it.
    pub name: Option<String>,
    /// Deleted at Stripe.
    pub deleted: bool,
}

/// `Some(None)` is written as null and `None` is left out.
mod double_option {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::option_option, clippy::ref_option, reason = "null and absent are different answers")]
    pub fn serialize<S: Serializer>(value: &Option<Option<Timestamp>>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(Option::as_ref).serialize(to)
    }

    #[expect(clippy::option_option, reason = "null and absent are different answers")]
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Timestamp>>, D::Error> {
        Option::<Timestamp>::deserialize(from).map(Some)
    }
}
