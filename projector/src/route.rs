//! Routing: which purchase an object belongs to (docs/deciding.md §1). Pure, over the part of the graph that was loaded.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::{Kind, Node, Object, ObjectFacts, SessionFacts};

/// The part of a scope's link graph that matters now: every object that is not routed yet and was touched, with all its
/// neighbors.
#[derive(Debug, Default)]
pub struct Graph {
    /// The objects.
    pub objects: BTreeMap<Node, Object>,
    /// The children of each object that was expanded.
    pub children: BTreeMap<Node, BTreeSet<Node>>,
}

impl Graph {
    /// Routes what can be routed, beginning with `touched`. Says what was newly routed, in order.
    ///
    /// An object once routed keeps its purchase. Every object newly routed may let its neighbors be.
    pub fn route(&mut self, touched: &BTreeSet<Node>) -> Vec<Node> {
        let mut routed = Vec::new();
        let mut waiting = self.unrouted_near(touched);
        loop {
            let mut progress = false;
            for node in &waiting {
                if let Some(purchase) = self.place(node)
                    && let Some(object) = self.objects.get_mut(node).filter(|object| object.purchase.is_none())
                {
                    object.purchase = Some(purchase);
                    routed.push(node.clone());
                    progress = true;
                }
            }
            if !progress {
                return routed;
            }
            waiting.retain(|node| self.purchase(node).is_none());
        }
    }

    /// The objects without a purchase among `touched`, and all that hang together with them.
    fn unrouted_near(&self, touched: &BTreeSet<Node>) -> BTreeSet<Node> {
        let mut found = BTreeSet::new();
        let mut reached = touched.clone();
        let mut queue: Vec<Node> = touched.iter().cloned().collect();
        while let Some(node) = queue.pop() {
            let is_routed = self.purchase(&node).is_some();
            if !is_routed {
                found.insert(node.clone());
            }
            if is_routed && !touched.contains(&node) {
                continue;
            }
            for neighbor in self.neighbors(&node) {
                if reached.insert(neighbor.clone()) {
                    queue.push(neighbor);
                }
            }
        }
        found
    }

    /// What an object hangs on, and what hangs on it.
    pub fn neighbors(&self, node: &Node) -> Vec<Node> {
        let parents = self.objects.get(node).into_iter().flat_map(|object| object.parents.iter());
        parents.chain(self.children(node)).cloned().collect()
    }

    /// Whether an object is known and belongs to no purchase.
    pub fn is_waiting(&self, node: &Node) -> bool {
        self.objects.get(node).is_some_and(|object| object.purchase.is_none())
    }

    /// What the known refunds of a charge come to, whatever became of them.
    pub fn refunds_minor(&self, charge: &Node) -> i64 {
        let refunds = self.children_of(charge, Kind::Refund).filter_map(|node| self.objects.get(node));
        refunds.fold(0, |sum, object| match &object.facts {
            ObjectFacts::Refund(refund) => sum.saturating_add(refund.amount_minor),
            _ => sum,
        })
    }

    fn children(&self, node: &Node) -> impl Iterator<Item = &Node> {
        self.children.get(node).into_iter().flatten()
    }

    fn children_of(&self, node: &Node, kind: Kind) -> impl Iterator<Item = &Node> {
        self.children(node).filter(move |child| child.kind == kind)
    }

    fn purchase(&self, node: &Node) -> Option<&String> {
        self.objects.get(node)?.purchase.as_ref()
    }

    fn session(&self, node: &Node) -> Option<&SessionFacts> {
        match &self.objects.get(node)?.facts {
            ObjectFacts::Session(facts) => Some(facts),
            _ => None,
        }
    }

    /// The purchase of an object, if it can be told now.
    fn place(&self, node: &Node) -> Option<String> {
        let object = self.objects.get(node)?;
        match &object.facts {
            ObjectFacts::Subscription(_) => Some(node.id.clone()),
            ObjectFacts::Invoice(invoice) => {
                if let Some(subscription) = object.parents_of(Kind::Subscription).next() {
                    return Some(subscription.id.clone());
                }
                if let Some(subscription) = self.subscription_of_sessions(node) {
                    return Some(subscription);
                }
                self.one_off_beside(node).or_else(|| {
                    let moved = self.children_of(node, Kind::Intent).chain(self.children_of(node, Kind::Charge));
                    let came = moved.count() > 0 || invoice.amount_paid_minor == 0;
                    (invoice.is_one_off() && invoice.paid && came).then(|| node.id.clone())
                })
            }
            ObjectFacts::Session(session) if session.is_payment() => Some(self.place_payment_session(object)),
            ObjectFacts::Session(session) if session.is_subscription() => {
                let subscription = object.parents_of(Kind::Subscription).next().map(|parent| parent.id.clone());
                subscription.or_else(|| self.first_routed(object.parents_of(Kind::Invoice)))
            }
            ObjectFacts::Session(_) => None,
            ObjectFacts::Intent => self
                .first_routed(object.parents_of(Kind::Invoice))
                .or_else(|| self.first_routed(object.parents_of(Kind::Session))),
            ObjectFacts::Charge(_) => self
                .first_routed(object.parents_of(Kind::Intent))
                .or_else(|| self.first_routed(object.parents_of(Kind::Invoice))),
            ObjectFacts::Refund(_) | ObjectFacts::Dispute(_) => self.first_routed(object.parents.iter()),
        }
    }

    /// The invoice's purchase, which the session opens if it must; else that of the invoice which shares its intent;
    /// else its own.
    fn place_payment_session(&self, session: &Object) -> String {
        if let Some(invoice) = session.parents_of(Kind::Invoice).next() {
            return self.purchase(invoice).unwrap_or(&invoice.id).clone();
        }
        let intents = || self.children_of(&session.node, Kind::Intent);
        let charges = intents().flat_map(|intent| self.children_of(intent, Kind::Charge));
        let sharing = intents().chain(charges).filter_map(|node| self.objects.get(node));
        let mut invoices = sharing.flat_map(|object| object.parents_of(Kind::Invoice));
        let shared = invoices.find_map(|invoice| self.purchase(invoice).filter(|purchase| **purchase == invoice.id));
        shared.unwrap_or(&session.node.id).clone()
    }

    /// The subscription that a subscription-mode session names beside this invoice.
    fn subscription_of_sessions(&self, invoice: &Node) -> Option<String> {
        let sessions = self.children_of(invoice, Kind::Session);
        let sessions = sessions.filter(|session| self.session(session).is_some_and(SessionFacts::is_subscription));
        let mut named = sessions.filter_map(|session| self.objects.get(session)?.parents_of(Kind::Subscription).next());
        named.next().map(|subscription| subscription.id.clone())
    }

    /// The one-off purchase that an invoice without a subscription joins: that of a payment-mode session which made it
    /// or shares a payment with it.
    fn one_off_beside(&self, invoice: &Node) -> Option<String> {
        let is_one_off = match &self.objects.get(invoice)?.facts {
            ObjectFacts::Invoice(facts) => facts.subscription.is_none(),
            _ => false,
        };
        if !is_one_off {
            return None;
        }
        let made_by = self.children_of(invoice, Kind::Session);
        let made_by = made_by.filter(|session| self.session(session).is_some_and(SessionFacts::is_payment));
        if let Some(purchase) = self.first_routed(made_by) {
            return Some(purchase);
        }
        let charges = || self.children_of(invoice, Kind::Charge);
        let of_charges = charges().filter_map(|charge| self.objects.get(charge));
        let of_charges = of_charges.flat_map(|charge| charge.parents_of(Kind::Intent));
        self.first_routed(self.children_of(invoice, Kind::Intent))
            .or_else(|| self.first_routed(charges()))
            .or_else(|| self.first_routed(of_charges))
    }

    fn first_routed<'n>(&self, mut nodes: impl Iterator<Item = &'n Node>) -> Option<String> {
        nodes.find_map(|node| self.purchase(node)).cloned()
    }
}
