//! What is known of customers, prices and products: the newest sight counts.

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyledger_schemas::ids::ProductId;
use keyledger_schemas::stripe::fact::{CustomerSeen, Metadata, PriceSeen, ProductSeen, Seen};
use serde::{Deserialize, Serialize};

/// What is known of a customer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerFacts {
    /// The newest sight, where one that shows them alive comes before the one that shows them deleted.
    pub newest: Option<(bool, Seen)>,
    /// Their address.
    pub email: Option<String>,
    /// Their name.
    pub name: Option<String>,
    /// Their metadata.
    pub metadata: Metadata,
    /// When they were deleted at Stripe: the least seen.
    pub deleted_at: Option<Timestamp>,
    /// Every address they ever showed.
    pub emails: BTreeSet<String>,
}

impl CustomerFacts {
    /// Whether an address is known.
    pub fn has_email(&self) -> bool {
        self.email.as_ref().is_some_and(|email| !email.trim().is_empty())
    }

    /// Takes one more sight. What a deleted customer was called stays as it was.
    pub fn observe(&mut self, sight: &CustomerSeen) {
        let rank = (!sight.deleted, sight.seen.clone());
        if sight.deleted && self.deleted_at.is_none_or(|at| sight.seen.at < at) {
            self.deleted_at = Some(sight.seen.at);
        }
        self.emails.extend(sight.email.clone());
        if self.newest.as_ref().is_none_or(|newest| rank > *newest) {
            self.newest = Some(rank);
            self.email.clone_from(&sight.email);
            self.name.clone_from(&sight.name);
            self.metadata.clone_from(&sight.metadata);
        }
    }
}

/// What is known of a price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceFacts {
    /// The newest sight.
    pub newest: Option<Seen>,
    /// The product it prices.
    pub product: Option<ProductId>,
    /// Its metadata.
    pub metadata: Metadata,
    /// What people call it.
    pub nickname: Option<String>,
}

impl PriceFacts {
    /// Takes one more sight. Says whether what it means for a sale changed.
    pub fn observe(&mut self, sight: &PriceSeen) -> bool {
        if self.newest.as_ref().is_some_and(|newest| sight.seen <= *newest) {
            return false;
        }
        let changed = self.product != sight.product || self.metadata != sight.metadata;
        self.newest = Some(sight.seen.clone());
        self.product.clone_from(&sight.product);
        self.metadata.clone_from(&sight.metadata);
        self.nickname.clone_from(&sight.nickname);
        changed
    }
}

/// What is known of a product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductFacts {
    /// The newest sight.
    pub newest: Option<Seen>,
    /// Its metadata.
    pub metadata: Metadata,
    /// What people call it.
    pub name: Option<String>,
}

impl ProductFacts {
    /// Takes one more sight. Says whether what it means for a sale changed.
    pub fn observe(&mut self, sight: &ProductSeen) -> bool {
        if self.newest.as_ref().is_some_and(|newest| sight.seen <= *newest) {
            return false;
        }
        let changed = self.metadata != sight.metadata;
        self.newest = Some(sight.seen.clone());
        self.metadata.clone_from(&sight.metadata);
        self.name.clone_from(&sight.name);
        changed
    }
}
