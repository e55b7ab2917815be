//! What a batch will need of the database, asked for before its first event.

use std::collections::{BTreeMap, BTreeSet};

use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::ids::{CaseId, Scope};
use keyledger_schemas::stripe::fact::Fact;

use super::{Content, Fold, named, scope_set};
use crate::facts::unit::unit_of;
use crate::facts::{Kind, Node};
use crate::sql::{self, ViewsError};
use crate::store::bulk;
use crate::working::Named;

impl Fold<'_> {
    /// Loads what the events of the batch name.
    pub(super) async fn look_ahead(&mut self, batch: &[(&Recorded, Content)]) -> Result<(), ViewsError> {
        let mut scopes: BTreeMap<String, (Scope, Named)> = BTreeMap::new();
        for (event, content) in batch {
            match content {
                Content::Stripe(facts) => {
                    let named = &mut entry(&mut scopes, &event.scope).1;
                    for fact in facts {
                        note(named, fact);
                    }
                }
                Content::Own(own) => {
                    if let Some(unit) = unit_of(own) {
                        let named = &mut entry(&mut scopes, &unit.purchase.scope).1;
                        named.purchases.insert(unit.purchase.object.clone());
                    }
                }
                Content::Unknown => {}
            }
        }
        let mut cases = BTreeMap::new();
        for (scope, named) in scopes.values() {
            scope_set(&mut self.scopes, scope).look_ahead(self.db, named).await?;
            let waiting = named.nodes.iter().filter(|node| may_wait(node));
            cases.extend(waiting.map(|node| (super::unrouted(scope, node).1, scope.clone())));
        }
        self.loose_ahead(cases).await
    }

    /// Loads the purchases of a page, which may be of many scopes.
    pub(super) async fn open_ahead(&mut self, page: &[(String, String)]) -> Result<(), ViewsError> {
        let mut scopes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (scope, id) in page {
            scopes.entry(scope).or_default().insert(id.clone());
        }
        for (scope, purchases) in scopes {
            let scope = sql::parse_scope(scope)?;
            scope_set(&mut self.scopes, &scope).open_ahead(self.db, purchases).await?;
        }
        Ok(())
    }

    /// Loads cases of no purchase, or that there is none.
    async fn loose_ahead(&mut self, cases: BTreeMap<CaseId, Scope>) -> Result<(), ViewsError> {
        if cases.is_empty() {
            return Ok(());
        }
        let mut found = bulk::loose_cases(self.db, &cases.keys().copied().collect()).await?;
        for (id, scope) in cases {
            let kept = match found.remove(&id) {
                Some((place, case)) => (sql::parse_scope(&place)?, Some(case)),
                None => (scope, None),
            };
            self.loose.entry(id).or_insert(kept);
        }
        Ok(())
    }
}

fn entry<'s>(scopes: &'s mut BTreeMap<String, (Scope, Named)>, scope: &Scope) -> &'s mut (Scope, Named) {
    scopes.entry(scope.key()).or_insert_with(|| (scope.clone(), Named::default()))
}

fn note(all: &mut Named, fact: &Fact) {
    if let Fact::CustomerSeen(seen) = fact {
        all.customers.insert(seen.id.to_string());
    }
    if let Fact::SessionSeen(seen) = fact {
        all.nodes.extend(seen.payment_intent.as_ref().map(|intent| Node::new(Kind::Intent, intent)));
    }
    if let Some((node, links)) = named(fact) {
        all.nodes.insert(node);
        all.nodes.extend(links);
    }
}

/// Whether an object of this kind is a case while it waits for its link.
pub(super) fn may_wait(node: &Node) -> bool {
    matches!(node.kind, Kind::Refund | Kind::Dispute | Kind::Charge | Kind::Invoice)
}
