//! Stripe objects as nodes of the link graph, each with its document.

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyledger_schemas::envelope::Position;
use keyledger_schemas::money::Currency;
use keyledger_schemas::stripe::fact::ObjectRef;
use serde::{Deserialize, Serialize};

use super::{ChargeFacts, DisputeFacts, InvoiceFacts, RefundFacts, SessionFacts, SubscriptionFacts};

/// What kind of object, from the sale to the money: routing looks at them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `sub_…`
    Subscription,
    /// `in_…`
    Invoice,
    /// `cs_…`
    Session,
    /// `pi_…`
    Intent,
    /// `ch_…`
    Charge,
    /// `re_…`
    Refund,
    /// `dp_…`
    Dispute,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Subscription, Self::Invoice, Self::Session, Self::Intent, Self::Charge, Self::Refund, Self::Dispute];

    /// The word in the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
            Self::Invoice => "invoice",
            Self::Session => "session",
            Self::Intent => "intent",
            Self::Charge => "charge",
            Self::Refund => "refund",
            Self::Dispute => "dispute",
        }
    }

    /// The kind that the tables' word means.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One object of the link graph, within a scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Stripe's id.
    pub id: String,
}

impl Node {
    /// The object `id` of a kind.
    pub fn new(kind: Kind, id: impl AsRef<str>) -> Self {
        Self { kind, id: id.as_ref().to_owned() }
    }
}

impl From<&ObjectRef> for Node {
    fn from(object: &ObjectRef) -> Self {
        let kind = match object {
            ObjectRef::Charge(_) => Kind::Charge,
            ObjectRef::PaymentIntent(_) => Kind::Intent,
            ObjectRef::Invoice(_) => Kind::Invoice,
            ObjectRef::Session(_) => Kind::Session,
            ObjectRef::Subscription(_) => Kind::Subscription,
        };
        Self::new(kind, object.id())
    }
}

/// An object with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Which.
    pub node: Node,
    /// The purchase it was routed to, by its Stripe id. Set once.
    pub purchase: Option<String>,
    /// What it hangs on.
    pub parents: BTreeSet<Node>,
    /// What was seen.
    pub facts: ObjectFacts,
    /// The event that first named it.
    pub first_position: Position,
    /// The event that last changed it.
    pub last_position: Position,
}

impl Object {
    /// An object that was only named so far.
    pub fn named(node: Node, position: Position) -> Self {
        let facts = ObjectFacts::empty(node.kind);
        Self {
            node,
            purchase: None,
            parents: BTreeSet::new(),
            facts,
            first_position: position,
            last_position: position,
        }
    }

    /// The parents of one kind, in the order of their ids.
    pub fn parents_of(&self, kind: Kind) -> impl Iterator<Item = &Node> {
        self.parents.iter().filter(move |parent| parent.kind == kind)
    }
}

/// What was seen of an object; all empty while it was only named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ObjectFacts {
    /// Of a subscription.
    Subscription(Box<SubscriptionFacts>),
    /// Of an invoice.
    Invoice(Box<InvoiceFacts>),
    /// Of a Checkout session.
    Session(Box<SessionFacts>),
    /// A payment intent says nothing by itself.
    Intent,
    /// Of a charge.
    Charge(ChargeFacts),
    /// Of a refund.
    Refund(RefundFacts),
    /// Of a dispute.
    Dispute(DisputeFacts),
}

/// What lists show of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whose.
    pub customer: Option<String>,
    /// Stripe's word for where it stands.
    pub status: Option<String>,
    /// How much, in minor units.
    pub amount_minor: Option<i64>,
    /// The currency of the amount.
    pub currency: Option<Currency>,
    /// The number on the paper.
    pub number: Option<String>,
    /// When.
    pub happened_at: Option<Timestamp>,
    /// Addresses it showed.
    pub emails: BTreeSet<String>,
    /// Ids of its items or lines.
    pub parts: BTreeSet<String>,
}

impl ObjectFacts {
    /// Nothing seen yet.
    pub fn empty(kind: Kind) -> Self {
        match kind {
            Kind::Subscription => Self::Subscription(Box::default()),
            Kind::Invoice => Self::Invoice(Box::default()),
            Kind::Session => Self::Session(Box::default()),
            Kind::Intent => Self::Intent,
            Kind::Charge => Self::Charge(ChargeFacts::default()),
            Kind::Refund => Self::Refund(RefundFacts::default()),
            Kind::Dispute => Self::Dispute(DisputeFacts::default()),
        }
    }

    /// What lists show of it.
    pub fn summary(&self) -> Summary {
        match self {
            Self::Subscription(facts) => facts.summary(),
            Self::Invoice(facts) => facts.summary(),
            Self::Session(facts) => facts.summary(),
            Self::Intent => Summary::default(),
            Self::Charge(facts) => facts.summary(),
            Self::Refund(facts) => facts.summary(),
            Self::Dispute(facts) => facts.summary(),
        }
    }
}
