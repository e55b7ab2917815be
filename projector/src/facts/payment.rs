//! What is known of charges, refunds and disputes.

use jiff::Timestamp;
use keyledger_schemas::ids::CustomerId;
use keyledger_schemas::money::Currency;
use keyledger_schemas::stripe::fact::{ChargeSeen, DisputeSeen, RefundSeen};
use keyledger_schemas::stripe::status::{DisputeStatus, RefundStatus};
use serde::{Deserialize, Serialize};

use super::node::Summary;
use super::{earliest, greatest};

/// What is known of a charge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeFacts {
    /// Some sight showed that the money was taken.
    pub paid: bool,
    /// What was charged, in minor units.
    pub amount_minor: i64,
    /// The greatest `amount_refunded` seen, in minor units.
    pub refunded_minor: i64,
    /// The currency of both; `None` while it was only named.
    pub currency: Option<Currency>,
    /// Whose.
    pub customer: Option<CustomerId>,
    /// The first sight.
    pub first_seen: Option<Timestamp>,
}

impl ChargeFacts {
    /// Takes one more sight.
    pub fn observe(&mut self, sight: &ChargeSeen) {
        self.paid |= sight.paid;
        self.amount_minor = self.amount_minor.max(sight.amount_minor);
        self.refunded_minor = self.refunded_minor.max(sight.refunded_minor);
        self.currency = Some(sight.currency.clone());
        self.customer = self.customer.take().or_else(|| sight.customer.clone());
        earliest(&mut self.first_seen, Some(sight.seen.at));
    }

    pub(super) fn summary(&self) -> Summary {
        let word = match (self.paid, self.refunded_minor) {
            (false, _) => "failed",
            (true, 0) => "succeeded",
            (true, refunded) if refunded < self.amount_minor => "partially_refunded",
            (true, _) => "refunded",
        };
        let seen = self.currency.is_some();
        Summary {
            customer: self.customer.as_ref().map(ToString::to_string),
            status: seen.then(|| word.to_owned()),
            amount_minor: seen.then_some(self.amount_minor),
            currency: self.currency.clone(),
            happened_at: self.first_seen,
            ..Summary::default()
        }
    }
}

/// What is known of a refund.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundFacts {
    /// In minor units.
    pub amount_minor: i64,
    /// The currency of the amount.
    pub currency: Option<Currency>,
    /// The greatest seen.
    pub status: Option<RefundStatus>,
    /// The first sight.
    pub first_seen: Option<Timestamp>,
}

impl RefundFacts {
    /// Takes one more sight.
    pub fn observe(&mut self, sight: &RefundSeen) {
        self.amount_minor = self.amount_minor.max(sight.amount_minor);
        self.currency = Some(sight.currency.clone());
        greatest(&mut self.status, &sight.status, |status| matches!(status, RefundStatus::Unknown(_)));
        earliest(&mut self.first_seen, Some(sight.seen.at));
    }

    /// Whether the money did not go back after all.
    pub fn came_to_nothing(&self) -> bool {
        self.status.as_ref().is_some_and(RefundStatus::came_to_nothing)
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            status: self.status.as_ref().map(|status| status.as_str().to_owned()),
            amount_minor: self.currency.is_some().then_some(self.amount_minor),
            currency: self.currency.clone(),
            happened_at: self.first_seen,
            ..Summary::default()
        }
    }
}

/// What is known of a dispute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeFacts {
    /// In minor units.
    pub amount_minor: i64,
    /// The currency of the amount.
    pub currency: Option<Currency>,
    /// The greatest seen.
    pub status: Option<DisputeStatus>,
    /// The first sight.
    pub first_seen: Option<Timestamp>,
}

impl DisputeFacts {
    /// Takes one more sight.
    pub fn observe(&mut self, sight: &DisputeSeen) {
        self.amount_minor = self.amount_minor.max(sight.amount_minor);
        self.currency = Some(sight.currency.clone());
        greatest(&mut self.status, &sight.status, |status| matches!(status, DisputeStatus::Unknown(_)));
        earliest(&mut self.first_seen, Some(sight.seen.at));
    }

    /// Whether money is being fought over.
    pub fn is_open(&self) -> bool {
        self.status.as_ref().is_some_and(DisputeStatus::is_open)
    }

    /// Whether the buyer got the money.
    pub fn is_lost(&self) -> bool {
        self.status == Some(DisputeStatus::Lost)
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            status: self.status.as_ref().map(|status| status.as_str().to_owned()),
            amount_minor: self.currency.is_some().then_some(self.amount_minor),
            currency: self.currency.clone(),
            happened_at: self.first_seen,
            ..Summary::default()
        }
    }
}
