//! Looking ahead: what a batch will most likely need is loaded by a few questions before its first event. A server takes as
//! long to answer one about many rows as one about a single row, and asking for a row of a file costs more than the row. What
//! was not foreseen is loaded when it is needed, so nothing depends on what is foreseen here.

use std::collections::BTreeSet;

use super::ScopeSet;
use crate::db::Db;
use crate::facts::{Kind, Node};
use crate::sql::ViewsError;
use crate::store::bulk;

/// How far the links of what is named are followed: from a refund to its charge, its intent and its invoice.
const ROUNDS: usize = 4;

/// What the events of a batch name in one scope.
#[derive(Debug, Default)]
pub struct Named {
    /// Objects.
    pub nodes: BTreeSet<Node>,
    /// Purchases, by our own events.
    pub purchases: BTreeSet<String>,
    /// Customers.
    pub customers: BTreeSet<String>,
}

impl ScopeSet {
    /// Loads what is named, what it hangs together with, and the purchases it belongs to.
    pub async fn look_ahead(&mut self, db: &mut Db, named: &Named) -> Result<(), ViewsError> {
        let mut next = named.nodes.clone();
        for _ in 0..ROUNDS {
            next.retain(|node| !self.graph.objects.contains_key(node) && !self.absent.contains(node));
            if next.is_empty() {
                break;
            }
            self.load_many(db, &next).await?;
            let open = next.iter().filter(|node| named.nodes.contains(*node) || self.graph.is_waiting(node));
            next = open.flat_map(|node| self.graph.neighbors(node)).collect();
        }
        let of_objects = self.graph.objects.values().filter_map(|object| object.purchase.clone());
        let subscriptions =
            named.nodes.iter().filter(|node| node.kind == Kind::Subscription).map(|node| node.id.clone());
        let purchases = named.purchases.iter().cloned().chain(of_objects).chain(subscriptions).collect();
        self.open_ahead(db, purchases).await?;
        if !named.customers.is_empty() {
            let mut found = bulk::customers(db, &self.key, &named.customers).await?;
            for id in &named.customers {
                match found.remove(id) {
                    Some((facts, first)) => drop(self.customers.entry(id.clone()).or_insert((facts, first, first))),
                    None => drop(self.no_customers.insert(id.clone())),
                }
            }
        }
        Ok(())
    }

    /// Loads the rows of purchases that will be opened.
    pub async fn open_ahead(&mut self, db: &mut Db, mut purchases: BTreeSet<String>) -> Result<(), ViewsError> {
        purchases.retain(|id| !self.purchases.contains_key(id) && !self.ahead.contains_key(id));
        if !purchases.is_empty() {
            self.ahead.extend(bulk::purchases(db, &self.key, &purchases).await?);
        }
        Ok(())
    }

    async fn load_many(&mut self, db: &mut Db, nodes: &BTreeSet<Node>) -> Result<(), ViewsError> {
        self.absent.extend(nodes.iter().cloned());
        for object in bulk::objects(db, &self.key, nodes).await? {
            self.absent.remove(&object.node);
            self.graph.objects.insert(object.node.clone(), object);
        }
        let parents = nodes.iter().filter(|node| is_followed(node) && !self.graph.children.contains_key(*node));
        let parents: BTreeSet<Node> = parents.cloned().collect();
        self.graph.children.extend(bulk::all_children(db, &self.key, &parents).await?);
        Ok(())
    }
}

/// What hangs on a subscription was routed when it was linked, and may be thousands of invoices.
pub(super) fn is_followed(node: &Node) -> bool {
    node.kind != Kind::Subscription
}
