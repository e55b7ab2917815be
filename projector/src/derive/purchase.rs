//! The rows of one purchase, as the pure functions take them.

use std::collections::BTreeMap;

use keyledger_schemas::ids::{PriceId, ProductId, PurchaseId};
use keyledger_schemas::stripe::fact::Metadata;

use super::items::ItemNames;
use crate::facts::{
    InvoiceFacts, Kind, Node, Object, ObjectFacts, PriceFacts, ProductFacts, SessionFacts, SubscriptionFacts, UnitFacts,
};

/// What the catalogue says, for the prices and products of a purchase.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// By price id.
    pub prices: BTreeMap<String, PriceFacts>,
    /// By product id.
    pub products: BTreeMap<String, ProductFacts>,
}

impl Catalog {
    /// The product that a price prices.
    pub fn product_of(&self, price: &PriceId) -> Option<&ProductId> {
        self.prices.get(price.as_str())?.product.as_ref()
    }

    /// The metadata of a price.
    pub fn price_metadata(&self, price: &PriceId) -> Option<&Metadata> {
        self.prices.get(price.as_str()).map(|price| &price.metadata)
    }

    /// The metadata of a product.
    pub fn product_metadata(&self, product: &ProductId) -> Option<&Metadata> {
        self.products.get(product.as_str()).map(|product| &product.metadata)
    }
}

/// Everything that is known of one purchase.
#[derive(Clone, Debug)]
pub struct PurchaseRows<'a> {
    /// Which.
    pub id: &'a PurchaseId,
    /// The objects that were routed to it, by kind and id.
    pub objects: BTreeMap<&'a Node, &'a Object>,
    /// What our own events say about its units, by item and number.
    pub units: BTreeMap<(&'a str, u32), &'a UnitFacts>,
    /// Items that were named by their price first.
    pub names: &'a ItemNames,
    /// What its prices and products are.
    pub catalog: &'a Catalog,
    /// Its customer has an address.
    pub customer_has_email: bool,
}

impl<'a> PurchaseRows<'a> {
    /// The subscription, unless this is a one-off purchase.
    pub fn subscription(&self) -> Option<&'a SubscriptionFacts> {
        self.objects.values().find_map(|object| match &object.facts {
            ObjectFacts::Subscription(facts) if object.node.id == self.id.object => Some(&**facts),
            _ => None,
        })
    }

    /// Whether it is a one-off purchase.
    pub fn is_one_off(&self) -> bool {
        self.subscription().is_none()
    }

    /// Its invoices, by id.
    pub fn invoices(&self) -> impl Iterator<Item = (&'a Object, &'a InvoiceFacts)> {
        self.objects.values().filter_map(|object| match &object.facts {
            ObjectFacts::Invoice(facts) => Some((*object, &**facts)),
            _ => None,
        })
    }

    /// Its sessions that were seen: those that settled first, by when they did.
    pub fn sessions(&self) -> Vec<(&'a Object, &'a SessionFacts)> {
        let mut sessions: Vec<_> = self
            .objects
            .values()
            .filter_map(|object| match &object.facts {
                ObjectFacts::Session(facts) if facts.mode.is_some() => Some((*object, &**facts)),
                _ => None,
            })
            .collect();
        sessions.sort_by_key(|(object, facts)| (facts.settled_at.is_none(), facts.settled_at, &object.node.id));
        sessions
    }

    /// Its objects of one kind, by id.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'a Object> {
        self.objects.values().filter(move |object| object.node.kind == kind).copied()
    }

    /// Whose: as the subscription says, else a session, an invoice or a charge.
    pub fn customer(&self) -> Option<String> {
        self.objects.values().find_map(|object| object.facts.summary().customer)
    }

    /// Whether anything says where to write to its buyer: the customer, or a session or an invoice of the purchase.
    pub fn has_email(&self) -> bool {
        let shown = || self.objects.values().flat_map(|object| object.facts.summary().emails);
        self.customer_has_email || shown().any(|email| !email.trim().is_empty())
    }

    /// The metadata of its first session.
    pub fn session_metadata(&self) -> Option<&'a Metadata> {
        let (_, first) = *self.sessions().first()?;
        first.metadata.as_ref().map(|(_, metadata)| metadata)
    }

    /// The metadata of the current snapshot; without one that of the newest paid invoice that carries any.
    pub fn subscription_metadata(&self) -> Option<&'a Metadata> {
        if let Some(current) = self.subscription()?.register.current() {
            return Some(&current.metadata);
        }
        let carrying = self.invoices().filter(|(_, invoice)| invoice.paid && invoice.metadata.is_some());
        let newest = carrying.max_by_key(|(object, invoice)| (invoice.created, &object.node.id));
        newest.and_then(|(_, invoice)| invoice.metadata.as_ref()).map(|(_, metadata)| metadata)
    }
}
