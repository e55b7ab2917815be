//! One event at a time: takes its facts into the working set, routes, derives what it touched.

mod ahead;
mod loose;

use std::collections::{BTreeMap, BTreeSet};

use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::event::Event;
use keyledger_schemas::ids::{CaseId, Scope};
use keyledger_schemas::settings::DecidingSettings;
use keyledger_schemas::stripe::fact::Fact;
use keyledger_schemas::stripe::facts;

use crate::casebook::{self, CaseRow};
use crate::db::{Db, Writes};
use crate::facts::unit::unit_of;
use crate::facts::{Kind, Node, ObjectFacts};
use crate::sql::ViewsError;
use crate::store;
use crate::waiting;
use crate::working::{self, ScopeSet};

/// Rows in memory beyond which a change that reaches many purchases is written in between.
const ROWS_MAX: usize = 4096;

/// Purchases taken up at once when a change reaches all of them.
const PAGE: u32 = 256;

/// So many events are looked ahead for even where a question costs little: one about many rows costs less than many.
const MANY: usize = 16;

/// An event as the fold takes it.
pub enum Content {
    /// A Stripe event: the facts that its bytes say.
    Stripe(Vec<Fact>),
    /// An event of ours.
    Own(Box<Event>),
    /// An event of ours that this build does not know: kept, and without effect. A build that gives it one raises the
    /// projection's version, and so folds it then.
    Unknown,
}

/// Reads what the fold needs of an event.
///
/// # Errors
///
/// The reason why it can never be folded: it is set aside with it.
pub fn read(event: &Recorded) -> Result<Content, String> {
    if event.is_stripe() {
        return Ok(Content::Stripe(facts(&event.data)));
    }
    match Event::decode(&event.kind, &event.data) {
        Ok(Some(own)) => Ok(Content::Own(Box::new(own))),
        Ok(None) => Ok(Content::Unknown),
        Err(error) => Err(format!("its data cannot be read: {error}")),
    }
}

/// What a batch works on.
pub struct Fold<'c> {
    db: &'c mut Db,
    settings: DecidingSettings,
    scopes: BTreeMap<String, ScopeSet>,
    /// Cases of no purchase; `None` for one that is not there, or no longer.
    loose: BTreeMap<CaseId, (Scope, Option<CaseRow>)>,
    dirty_loose: BTreeSet<CaseId>,
}

impl<'c> Fold<'c> {
    /// Begins a batch within the transaction that `db` is in.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn begin(db: &'c mut Db, batch: &[(&Recorded, Content)]) -> Result<Self, ViewsError> {
        let settings = store::settings(db).await?;
        let (scopes, loose) = (BTreeMap::new(), BTreeMap::new());
        let mut fold = Self { db, settings, scopes, loose, dirty_loose: BTreeSet::new() };
        if fold.db.is_far() || batch.len() >= MANY {
            fold.look_ahead(batch).await?;
        }
        Ok(fold)
    }

    /// Folds one event.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn apply(&mut self, event: &Recorded, content: &Content) -> Result<(), ViewsError> {
        match content {
            Content::Stripe(facts) => self.stripe(event, facts).await,
            Content::Own(own) => self.own(event, own).await,
            Content::Unknown => {
                tracing::debug!(event.type = event.kind, position = event.position, "an event of another build is passed over");
                Ok(())
            }
        }
    }

    /// Writes everything, within the transaction.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn finish(mut self) -> Result<(), ViewsError> {
        self.write().await
    }

    async fn stripe(&mut self, event: &Recorded, facts: &[Fact]) -> Result<(), ViewsError> {
        if facts.is_empty() {
            return Ok(());
        }
        let set = scope_set(&mut self.scopes, &event.scope);
        let mut touched = BTreeSet::new();
        let mut catalog = Vec::new();
        let mut reachable = Vec::new();
        for fact in facts {
            match fact {
                Fact::PriceSeen(seen) => {
                    set.look_up(self.db, "price", seen.id.as_str()).await?;
                    if set.catalog.prices.entry(seen.id.to_string()).or_default().observe(seen) {
                        catalog.push(("price", seen.id.to_string()));
                    }
                    set.catalog_changed("price", seen.id.as_str());
                }
                Fact::ProductSeen(seen) => {
                    set.look_up(self.db, "product", seen.id.as_str()).await?;
                    if set.catalog.products.entry(seen.id.to_string()).or_default().observe(seen) {
                        catalog.push(("product", seen.id.to_string()));
                    }
                    set.catalog_changed("product", seen.id.as_str());
                }
                Fact::CustomerSeen(seen) => {
                    let customer = set.customer(self.db, seen.id.as_str(), event.position).await?;
                    let had_email = customer.has_email();
                    customer.observe(seen);
                    if customer.has_email() != had_email {
                        reachable.push(seen.id.to_string());
                    }
                }
                _ => touched.extend(observe(set, self.db, fact, event).await?),
            }
        }
        set.expand(self.db, &touched).await?;
        let routed = set.graph.route(&touched);
        let mut purchases = BTreeSet::new();
        for node in &routed {
            purchases.extend(set.routed(self.db, node, event).await?);
        }
        let places = touched.iter().filter_map(|node| set.graph.objects.get(node)?.purchase.clone());
        purchases.extend(places);
        if working::asks_for_email(&self.settings) {
            for customer in &reachable {
                purchases.extend(set.purchases_of(self.db, customer).await?);
            }
        }
        for purchase in &purchases {
            set.derive(self.db, purchase, &self.settings, event).await?;
        }
        let mut waiting = BTreeSet::from_iter(routed);
        waiting.extend(touched.into_iter().filter(|node| set.graph.is_waiting(node)));
        self.note_unrouted(&event.scope, &waiting, event).await?;
        for (kind, id) in catalog {
            self.catalog_changed(kind, &id, event, &purchases).await?;
        }
        Ok(())
    }

    async fn own(&mut self, event: &Recorded, own: &Event) -> Result<(), ViewsError> {
        if let Some(unit) = unit_of(own) {
            let set = scope_set(&mut self.scopes, &unit.purchase.scope);
            let id = unit.purchase.object.as_str();
            let facts = set.unit(self.db, id, (unit.item.clone(), unit.number), event).await?;
            facts.observe(own, event.actor.as_deref(), event.occurred_at);
            return set.derive(self.db, id, &self.settings, event).await;
        }
        match own {
            Event::SettingsChanged(changed) => {
                self.settings = changed.settings.clone();
                store::put_settings(self.db, &self.settings, event.position).await?;
                self.derive_all(event).await?;
                self.look_at_waiting_invoices(None, event).await
            }
            Event::CaseWaived(waived) => self.case_waived(waived, event).await,
            Event::BodyRefused(refused) => self.body_refused(refused, event).await,
            Event::MirrorDiverged(diverged) => self.mirror_diverged(diverged, event).await,
            Event::MirrorMended(mended) => self.mirror_mended(mended, event).await,
            Event::CustomerLinked(linked) => store::put_linked(self.db, linked, event).await,
            Event::CustomerSynced(synced) => store::put_synced(self.db, synced, event).await,
            Event::MetadataRefused(refused) => self.metadata_refused(refused, event).await,
            Event::MetadataWritten(written) => self.metadata_written(written, event).await,
            Event::FetchRefused(refused) => self.fetch_refused(refused, event).await,
            Event::ReconcileCompleted(completed) => store::put_reconciled(self.db, completed, event).await,
            // A key that was shown changes no view; everything else is about a unit.
            _ => Ok(()),
        }
    }

    /// New settings may change what every purchase is owed.
    async fn derive_all(&mut self, event: &Recorded) -> Result<(), ViewsError> {
        self.write().await?;
        self.scopes.clear();
        let mut after = (String::new(), String::new());
        loop {
            let page = store::purchases_after(self.db, &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(last);
            self.open_ahead(&page).await?;
            for (scope, id) in page {
                let scope = crate::sql::parse_scope(&scope)?;
                let set = scope_set(&mut self.scopes, &scope);
                set.derive(self.db, &id, &self.settings, event).await?;
            }
            self.write().await?;
            self.scopes.clear();
        }
    }

    /// A price or product that means something else now reaches every purchase that sells it.
    async fn catalog_changed(
        &mut self,
        kind: &'static str,
        id: &str,
        event: &Recorded,
        done: &BTreeSet<String>,
    ) -> Result<(), ViewsError> {
        let set = scope_set(&mut self.scopes, &event.scope);
        let mut selling = BTreeSet::from_iter(store::purchases_selling(self.db, &set.key, kind, id).await?);
        // What was derived in this batch is newer than the rows.
        for (purchase, held) in &set.purchases {
            if let Some(derived) = &held.derived {
                let sold = if kind == "price" { &derived.prices } else { &derived.products };
                if sold.contains(id) {
                    selling.insert(purchase.clone())
                } else {
                    selling.remove(purchase)
                };
            }
        }
        for purchase in selling.difference(done) {
            let set = scope_set(&mut self.scopes, &event.scope);
            set.derive(self.db, purchase, &self.settings, event).await?;
            if set.len() > ROWS_MAX {
                self.write().await?;
                self.scopes.clear();
            }
        }
        self.look_at_waiting_invoices(Some(&event.scope), event).await
    }

    /// Settings or metadata that name what a waiting invoice sold make it one that a person must see, or no longer.
    async fn look_at_waiting_invoices(&mut self, within: Option<&Scope>, event: &Recorded) -> Result<(), ViewsError> {
        let mut waiting: BTreeMap<String, (Scope, BTreeSet<Node>)> = BTreeMap::new();
        for (key, id) in store::waiting_invoices(self.db, within.map(Scope::key).as_deref()).await? {
            let scope = crate::sql::parse_scope(&key)?;
            waiting.entry(key).or_insert_with(|| (scope, BTreeSet::new())).1.insert(Node::new(Kind::Invoice, id));
        }
        // What this batch saw is newer than the rows.
        for set in self.scopes.values().filter(|set| within.is_none_or(|scope| *scope == set.scope)) {
            let invoices = set.graph.objects.keys().filter(|node| node.kind == Kind::Invoice);
            let invoices = invoices.filter(|node| set.graph.is_waiting(node)).cloned();
            waiting.entry(set.key.clone()).or_insert_with(|| (set.scope.clone(), BTreeSet::new())).1.extend(invoices);
        }
        for (scope, nodes) in waiting.into_values() {
            self.note_unrouted(&scope, &nodes, event).await?;
        }
        Ok(())
    }

    /// Keeps the cases of refunds, disputes, refunded charges and invoices that wait for their link.
    async fn note_unrouted(
        &mut self,
        scope: &Scope,
        nodes: &BTreeSet<Node>,
        event: &Recorded,
    ) -> Result<(), ViewsError> {
        let mut nodes: BTreeSet<Node> = nodes.iter().filter(|node| ahead::may_wait(node)).cloned().collect();
        // A refund that is shown is money which its charge need not show.
        let objects = &scope_set(&mut self.scopes, scope).graph.objects;
        let refunds = nodes.iter().filter(|node| node.kind == Kind::Refund).filter_map(|node| objects.get(node));
        let charges: Vec<Node> = refunds.flat_map(|refund| refund.parents_of(Kind::Charge)).cloned().collect();
        nodes.extend(charges);
        for node in &nodes {
            let set = scope_set(&mut self.scopes, scope);
            set.load_waiting(self.db, node).await?;
            let Some(object) = set.graph.objects.get(node) else { continue };
            let refunds = set.graph.refunds_minor(node);
            let waiting = waiting::waiting(object, refunds, scope, &set.catalog, &self.settings);
            let (subject, id) = unrouted(scope, node);
            let kept = self.loose_case(id, scope).await?;
            let row = casebook::unrouted(kept.clone(), &subject, waiting, event);
            if row != kept {
                self.keep_loose(id, scope.clone(), row);
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), ViewsError> {
        let mut writes = Writes::default();
        for set in self.scopes.values_mut() {
            set.write(&mut writes);
        }
        for id in std::mem::take(&mut self.dirty_loose) {
            match self.loose.get(&id) {
                Some((scope, Some(row))) => store::put_case(&mut writes, scope, None, id, row),
                Some((_, None)) => store::delete_case(&mut writes, id),
                None => {}
            }
        }
        Ok(writes.run(self.db).await?)
    }
}

fn scope_set<'s>(scopes: &'s mut BTreeMap<String, ScopeSet>, scope: &Scope) -> &'s mut ScopeSet {
    scopes.entry(scope.key()).or_insert_with(|| ScopeSet::new(scope.clone()))
}

/// What the case of an object that waits for its link is about, and its id.
fn unrouted(scope: &Scope, node: &Node) -> (String, CaseId) {
    let subject = format!("{scope}:{}", node.id);
    let id = CaseId::derive("unrouted", &subject);
    (subject, id)
}

/// The object that a fact is about, and those that it says it hangs on. `None`: the fact is about none.
fn named(fact: &Fact) -> Option<(Node, Vec<Node>)> {
    let mut links: Vec<Node> = Vec::new();
    let node = match fact {
        Fact::SubscriptionSeen(seen) => Node::new(Kind::Subscription, &seen.id),
        Fact::InvoiceSeen(seen) => {
            links.extend(seen.subscription.as_ref().map(|id| Node::new(Kind::Subscription, id)));
            Node::new(Kind::Invoice, &seen.id)
        }
        Fact::SessionSeen(seen) => {
            links.extend(seen.subscription.as_ref().map(|id| Node::new(Kind::Subscription, id)));
            links.extend(seen.invoice.as_ref().map(|id| Node::new(Kind::Invoice, id)));
            Node::new(Kind::Session, &seen.id)
        }
        Fact::ChargeSeen(seen) => Node::new(Kind::Charge, &seen.id),
        Fact::RefundSeen(seen) => {
            links.extend(seen.payment.as_ref().map(Node::from));
            Node::new(Kind::Refund, &seen.id)
        }
        Fact::DisputeSeen(seen) => {
            links.extend(seen.payment.as_ref().map(Node::from));
            Node::new(Kind::Dispute, &seen.id)
        }
        Fact::Linked(link) => {
            links.push(Node::from(&link.parent));
            Node::from(&link.child)
        }
        // The caller keeps these: they are not part of the graph.
        Fact::CustomerSeen(_) | Fact::PriceSeen(_) | Fact::ProductSeen(_) => return None,
    };
    Some((node, links))
}

/// Takes a fact about an object into its row. Says which objects it named.
async fn observe(set: &mut ScopeSet, db: &mut Db, fact: &Fact, event: &Recorded) -> Result<Vec<Node>, ViewsError> {
    let position = event.position;
    let Some((node, mut links)) = named(fact) else { return Ok(Vec::new()) };
    let object = set.touch(db, &node, position).await?;
    match (fact, &mut object.facts) {
        (Fact::SubscriptionSeen(seen), ObjectFacts::Subscription(facts)) => facts.observe(seen),
        (Fact::InvoiceSeen(seen), ObjectFacts::Invoice(facts)) => facts.observe(seen),
        (Fact::SessionSeen(seen), ObjectFacts::Session(facts)) => facts.observe(seen),
        (Fact::ChargeSeen(seen), ObjectFacts::Charge(facts)) => facts.observe(seen),
        (Fact::RefundSeen(seen), ObjectFacts::Refund(facts)) => facts.observe(seen),
        (Fact::DisputeSeen(seen), ObjectFacts::Dispute(facts)) => facts.observe(seen),
        // A link says nothing about the object itself, and a document is always of its node's kind.
        _ => {}
    }
    for parent in &links {
        set.link(db, &node, parent, position).await?;
    }
    if let Fact::SessionSeen(seen) = fact
        && let Some(intent) = &seen.payment_intent
    {
        let intent = Node::new(Kind::Intent, intent);
        set.link(db, &intent, &node, position).await?;
        links.push(intent);
    }
    links.push(node);
    Ok(links)
}
