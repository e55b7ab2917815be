//! Customers, subscriptions, and what hangs on them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyledger_projector::read;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Amount, Case, License, PurchaseRef};

/// A customer with what hangs on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Customer {
    /// `cus_…`
    pub id: String,
    /// The source that delivered them.
    pub source: String,
    /// The connected Stripe account.
    pub account: Option<String>,
    /// `live` or `test`.
    pub mode: String,
    /// Their name.
    pub name: Option<String>,
    /// Their address.
    pub email: Option<String>,
    /// When they were deleted at Stripe.
    pub deleted_at: Option<Timestamp>,
    /// The customer's metadata at Stripe.
    pub metadata: BTreeMap<String, String>,
    /// Where else they are known.
    pub cross_links: Vec<CrossLink>,
    /// Who they are at license engines, by engine.
    pub provider_customers: Vec<ProviderCustomer>,
    /// What they bought.
    pub purchases: Vec<Purchase>,
    /// Ids of their subscriptions.
    pub subscriptions: Vec<String>,
    /// Their licenses.
    pub licenses: Vec<License>,
    /// Money, newest first.
    pub payments: Vec<Payment>,
    /// Their cases, open ones first.
    pub cases: Vec<Case>,
}

impl From<read::CustomerDetail> for Customer {
    fn from(detail: read::CustomerDetail) -> Self {
        let customer = detail.customer;
        Self {
            id: customer.id.to_string(),
            source: customer.source.to_string(),
            account: customer.account.map(|account| account.to_string()),
            mode: customer.mode.to_string(),
            name: customer.name,
            email: customer.email,
            deleted_at: customer.deleted_at,
            metadata: customer.metadata,
            cross_links: all(detail.cross_links),
            provider_customers: all(detail.provider_customers),
            purchases: all(detail.purchases),
            subscriptions: detail.subscriptions.iter().map(|subscription| subscription.id.to_string()).collect(),
            licenses: all(detail.licenses),
            payments: all(detail.payments),
            cases: all(detail.cases),
        }
    }
}

/// Who a customer is at a license engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProviderCustomer {
    /// The engine.
    #[schema(example = "cryptolens")]
    pub provider: String,
    /// The engine's own id for them.
    #[schema(example = "8812")]
    pub id: String,
    /// They were made there for this customer, not found.
    pub made: bool,
    /// Another Stripe customer is the same one there: the engine tells people apart by address alone.
    pub shared: bool,
    /// Those, as far as they are known.
    pub shared_with: Vec<String>,
    /// Since when.
    pub linked_at: Timestamp,
    /// When the engine was last told of a name or an address.
    pub synced_at: Option<Timestamp>,
    /// What it said then, if it did not take them.
    pub refused: Option<String>,
}

impl From<read::ProviderCustomer> for ProviderCustomer {
    fn from(linked: read::ProviderCustomer) -> Self {
        Self {
            provider: linked.provider.to_string(),
            id: linked.id,
            made: linked.made,
            shared: linked.shared,
            shared_with: linked.shared_with,
            linked_at: linked.linked_at,
            synced_at: linked.synced_at,
            refused: linked.refused,
        }
    }
}

/// The same thing elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CrossLink {
    /// `stripe`, or a license engine.
    pub system: String,
    /// The other system's id.
    pub id: String,
    /// Its page there, where there is one.
    pub url: Option<String>,
}

impl From<read::CrossLink> for CrossLink {
    fn from(link: read::CrossLink) -> Self {
        Self { system: link.system, id: link.id, url: link.url }
    }
}

/// What decisions are made for: one subscription, one one-off invoice, or one Checkout session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Purchase {
    /// As keyledger names it: `source:account:mode:id`.
    pub id: String,
    /// `sub_…`, `in_…` or `cs_…`
    pub stripe_id: String,
    /// The Stripe customer.
    pub customer: Option<String>,
    /// When it was first heard of.
    pub opened_at: Timestamp,
    /// What is owed for it.
    pub obligations: Vec<Obligation>,
}

impl From<read::Purchase> for Purchase {
    fn from(purchase: read::Purchase) -> Self {
        Self {
            id: purchase.id.to_string(),
            stripe_id: purchase.stripe_id,
            customer: purchase.customer.map(|customer| customer.to_string()),
            opened_at: purchase.opened_at,
            obligations: all(purchase.obligations),
        }
    }
}

/// One license owed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Obligation {
    /// The unit: `purchase/item/number`.
    pub unit: String,
    /// Paid until; null for ever (see `perpetual`), or when nothing is paid any more.
    pub paid_until: Option<Timestamp>,
    /// Paid for good.
    pub perpetual: bool,
    /// Money was taken for it.
    pub charged: bool,
    /// What its license should be: `active`, `suspended` or `revoked`.
    pub standing: String,
    /// The kind of its open case; null when it is met.
    pub open: Option<String>,
    /// Why it is open.
    pub cause: Option<String>,
    /// The Stripe price, where known.
    pub price: Option<String>,
}

impl From<read::Obligation> for Obligation {
    fn from(obligation: read::Obligation) -> Self {
        Self {
            unit: obligation.unit.to_string(),
            paid_until: obligation.paid_until,
            perpetual: obligation.for_ever,
            charged: obligation.charged,
            standing: obligation.standing,
            open: obligation.open,
            cause: obligation.cause,
            price: obligation.price,
        }
    }
}

/// Money: an invoice, a session, a charge, a refund or a dispute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Payment {
    /// `invoice`, `session`, `intent`, `charge`, `refund` or `dispute`.
    pub kind: String,
    /// Stripe's id.
    pub id: String,
    /// The purchase it belongs to; null while that is not known.
    pub purchase: Option<PurchaseRef>,
    /// The Stripe customer.
    pub customer: Option<String>,
    /// Stripe's word for where it stands.
    pub status: Option<String>,
    /// How much.
    pub amount: Option<Amount>,
    /// The number on the invoice.
    pub number: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
}

impl From<read::Payment> for Payment {
    fn from(payment: read::Payment) -> Self {
        Self {
            kind: payment.kind,
            id: payment.id,
            purchase: payment.purchase.map(PurchaseRef::from),
            customer: payment.customer.map(|customer| customer.to_string()),
            status: payment.status,
            amount: payment.amount.map(Amount::from),
            number: payment.number,
            at: payment.at,
        }
    }
}

/// A subscription with what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Subscription {
    /// `sub_…`
    pub id: String,
    /// The source that delivered it.
    pub source: String,
    /// The connected Stripe account.
    pub account: Option<String>,
    /// `live` or `test`.
    pub mode: String,
    /// Stripe's status; null while no snapshot was seen.
    pub status: Option<String>,
    /// The Stripe customer.
    pub customer: Option<String>,
    /// What is subscribed to.
    pub items: Vec<SubscriptionItem>,
    /// The latest date that any of its units is paid until; null for ever, or when nothing is paid any more.
    pub paid_until: Option<Timestamp>,
    /// Scheduled to be canceled then.
    pub cancel_at: Option<Timestamp>,
    /// Scheduled to be canceled when the period ends.
    pub cancel_at_period_end: bool,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The end of the trial.
    pub trial_end: Option<Timestamp>,
    /// What is owed for it.
    pub obligations: Vec<Obligation>,
    /// Its licenses.
    pub licenses: Vec<License>,
    /// Its money, newest first.
    pub payments: Vec<Payment>,
    /// Its cases, open ones first.
    pub cases: Vec<Case>,
    /// The subscription's metadata at Stripe.
    pub metadata: BTreeMap<String, String>,
}

impl From<read::SubscriptionDetail> for Subscription {
    fn from(detail: read::SubscriptionDetail) -> Self {
        let subscription = detail.subscription;
        Self {
            id: subscription.id.to_string(),
            source: subscription.source.to_string(),
            account: subscription.account.map(|account| account.to_string()),
            mode: subscription.mode.to_string(),
            status: subscription.status,
            customer: subscription.customer.map(|customer| customer.to_string()),
            items: all(subscription.items),
            paid_until: subscription.paid_until,
            cancel_at: subscription.cancel_at,
            cancel_at_period_end: subscription.cancel_at_period_end,
            ended_at: subscription.ended_at,
            trial_end: subscription.trial_end,
            obligations: all(detail.obligations),
            licenses: all(detail.licenses),
            payments: all(detail.payments),
            cases: all(detail.cases),
            metadata: subscription.metadata,
        }
    }
}

/// One item of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SubscriptionItem {
    /// `si_…`
    pub id: String,
    /// The Stripe price.
    pub price: Option<String>,
    /// The Stripe product.
    pub product: Option<String>,
    /// How many.
    pub quantity: Option<u64>,
    /// The end of the current period. Not proof of payment.
    pub period_end: Option<Timestamp>,
}

impl From<read::SubscriptionItem> for SubscriptionItem {
    fn from(item: read::SubscriptionItem) -> Self {
        Self {
            id: item.id,
            price: item.price,
            product: item.product,
            quantity: item.quantity,
            period_end: item.period_end,
        }
    }
}

fn all<R, T: From<R>>(rows: Vec<R>) -> Vec<T> {
    rows.into_iter().map(T::from).collect()
}
