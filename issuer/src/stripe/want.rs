//! What Stripe can be asked for: pure.

use keyledger_schemas::ids::{
    ChargeId, CustomerId, DisputeId, InvoiceId, PaymentIntentId, PriceId, ProductId, RefundId, SessionId,
    SubscriptionId,
};

/// Something to ask Stripe for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// A Checkout session with all that it sold.
    Session(SessionId),
    /// The sessions that a payment intent belongs to.
    SessionsOfIntent(PaymentIntentId),
    /// An invoice with all of its lines and its payments.
    Invoice(InvoiceId),
    /// The payments of an invoice.
    PaymentsOfInvoice(InvoiceId),
    /// The invoices that a payment intent paid.
    PaymentsOfIntent(PaymentIntentId),
    /// A subscription with all of its items.
    Subscription(SubscriptionId),
    /// A customer.
    Customer(CustomerId),
    /// A charge.
    Charge(ChargeId),
    /// A payment intent.
    PaymentIntent(PaymentIntentId),
    /// A refund.
    Refund(RefundId),
    /// A dispute.
    Dispute(DisputeId),
    /// A price.
    Price(PriceId),
    /// A product.
    Product(ProductId),
    /// Whatever a thin event names: the `url` of its object.
    Related(String),
}

/// Kinds of objects by the path of their list.
const KINDS: [(&str, &str); 11] = [
    ("/v1/checkout/sessions/", "checkout.session"),
    ("/v1/invoices/", "invoice"),
    ("/v1/invoice_payments/", "invoice_payment"),
    ("/v1/subscriptions/", "subscription"),
    ("/v1/customers/", "customer"),
    ("/v1/charges/", "charge"),
    ("/v1/payment_intents/", "payment_intent"),
    ("/v1/refunds/", "refund"),
    ("/v1/disputes/", "dispute"),
    ("/v1/prices/", "price"),
    ("/v1/products/", "product"),
];

impl Want {
    /// The id of the object that the answer is about.
    pub fn about(&self) -> &str {
        match self {
            Self::Session(id) => id.as_str(),
            Self::Invoice(id) | Self::PaymentsOfInvoice(id) => id.as_str(),
            Self::SessionsOfIntent(id) | Self::PaymentsOfIntent(id) | Self::PaymentIntent(id) => id.as_str(),
            Self::Subscription(id) => id.as_str(),
            Self::Customer(id) => id.as_str(),
            Self::Charge(id) => id.as_str(),
            Self::Refund(id) => id.as_str(),
            Self::Dispute(id) => id.as_str(),
            Self::Price(id) => id.as_str(),
            Self::Product(id) => id.as_str(),
            Self::Related(url) => url.rsplit('/').next().unwrap_or_default(),
        }
    }

    /// The kind of object that is asked for, as Stripe's `object` says it.
    pub fn object(&self) -> &'static str {
        match self {
            Self::Session(_) | Self::SessionsOfIntent(_) => "checkout.session",
            Self::Invoice(_) => "invoice",
            Self::PaymentsOfInvoice(_) | Self::PaymentsOfIntent(_) => "invoice_payment",
            Self::Subscription(_) => "subscription",
            Self::Customer(_) => "customer",
            Self::Charge(_) => "charge",
            Self::PaymentIntent(_) => "payment_intent",
            Self::Refund(_) => "refund",
            Self::Dispute(_) => "dispute",
            Self::Price(_) => "price",
            Self::Product(_) => "product",
            Self::Related(url) => {
                KINDS.iter().find(|(path, _)| url.starts_with(path)).map_or("object", |(_, kind)| kind)
            }
        }
    }

    /// What is asked: path and query.
    pub fn path(&self) -> String {
        let place = self.place();
        let query: Vec<String> = self.query().iter().map(|(name, value)| format!("{name}={value}")).collect();
        if query.is_empty() { place } else { format!("{place}?{}", query.join("&")) }
    }

    /// The path alone.
    pub(super) fn place(&self) -> String {
        match self {
            Self::SessionsOfIntent(_) => "/v1/checkout/sessions".to_owned(),
            Self::PaymentsOfInvoice(_) | Self::PaymentsOfIntent(_) => "/v1/invoice_payments".to_owned(),
            Self::Related(url) => url.clone(),
            one => {
                let kind = one.object();
                let list = KINDS.iter().find(|(_, of)| *of == kind).map_or("/v1/", |(path, _)| path);
                format!("{list}{}", one.about())
            }
        }
    }

    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let own = |name: &'static str| vec![(name, self.about().to_owned())];
        match self {
            Self::Session(_) => vec![("expand[]", "line_items".to_owned())],
            Self::Invoice(_) => vec![("expand[]", "payments".to_owned())],
            Self::SessionsOfIntent(_) => own("payment_intent"),
            Self::PaymentsOfInvoice(_) => own("invoice"),
            Self::PaymentsOfIntent(_) => {
                [vec![("payment[type]", "payment_intent".to_owned())], own("payment[payment_intent]")].concat()
            }
            Self::Subscription(_)
            | Self::Customer(_)
            | Self::Charge(_)
            | Self::PaymentIntent(_)
            | Self::Refund(_)
            | Self::Dispute(_)
            | Self::Price(_)
            | Self::Product(_)
            | Self::Related(_) => Vec::new(),
        }
    }

    /// Whether the answer is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::SessionsOfIntent(_) | Self::PaymentsOfInvoice(_) | Self::PaymentsOfIntent(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_said_as_a_path() {
        let session = Want::Session("cs_1".into());
        assert_eq!(session.path(), "/v1/checkout/sessions/cs_1?expand[]=line_items");
        assert_eq!((session.about(), session.object()), ("cs_1", "checkout.session"));
        let payments = Want::PaymentsOfIntent("pi_1".into());
        let path = "/v1/invoice_payments?payment[type]=payment_intent&payment[payment_intent]=pi_1";
        assert_eq!((payments.path().as_str(), payments.about()), (path, "pi_1"));
        assert_eq!(Want::Price("price_1".into()).path(), "/v1/prices/price_1");
        let related = Want::Related("/v1/subscriptions/sub_1".to_owned());
        assert_eq!(
            (related.about(), related.object(), related.path().as_str()),
            ("sub_1", "subscription", "/v1/subscriptions/sub_1")
        );
        assert_eq!(Want::Related("/v1/coupons/x".to_owned()).object(), "object");
    }
}
