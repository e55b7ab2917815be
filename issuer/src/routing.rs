//! Which purchase a fact is about (deciding.md §1): the link table, and the facts that wait in it.
//!
//! Links and facts arrive in any order. Every object is a [`Node`]; walking from it toward the sale finds its purchase. A
//! fact whose object has no purchase yet waits at its node, and is routed when a link or a sale makes one known.

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyledger_schemas::envelope::{Position, Recorded};
use keyledger_schemas::ids::{ProductId, PurchaseId, Scope};
use keyledger_schemas::settings::DecidingSettings;
use keyledger_schemas::stripe::fact::{CustomerSeen, Fact, InvoiceSeen, Link, ObjectRef, SessionSeen};
use keyledger_schemas::stripe::status::SessionMode;

use crate::store::{CatalogueRow, Node, Sale, StoreError, WorkingSet};

/// How many objects one fact may lead to before we stop walking: far more than a sale has.
const WALK_MAX: usize = 512;

/// Takes the facts of one Stripe event. Says whether prices or products changed.
///
/// # Errors
///
/// See [`StoreError`]; nothing was written.
pub async fn take(
    set: &mut WorkingSet,
    event: &Recorded,
    facts: Vec<Fact>,
    settings: &DecidingSettings,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let router = Router { scope: &event.scope, position: event.position, event, settings, now };
    let mut catalogue_changed = false;
    // What belongs to what comes first: a sale must not be taken for one of its own before its invoice is known.
    let (links, others): (Vec<_>, Vec<_>) = facts.into_iter().partition(|fact| matches!(fact, Fact::Linked(_)));
    for fact in links.into_iter().chain(others) {
        catalogue_changed |= router.fact(set, fact).await?;
    }
    Ok(catalogue_changed)
}

struct Router<'a> {
    scope: &'a Scope,
    position: Position,
    event: &'a Recorded,
    settings: &'a DecidingSettings,
    now: Timestamp,
}

impl Router<'_> {
    async fn fact(&self, set: &mut WorkingSet, fact: Fact) -> Result<bool, StoreError> {
        match &fact {
            Fact::SubscriptionSeen(seen) => {
                let purchase = PurchaseId::new(self.scope.clone(), seen.id.as_str());
                self.learn(set, &purchase, [fact]).await?;
            }
            Fact::InvoiceSeen(seen) => self.invoice(set, seen.clone()).await?,
            Fact::SessionSeen(seen) => self.session(set, seen.clone()).await?,
            Fact::ChargeSeen(seen) => self.wait(set, ObjectRef::Charge(seen.id.clone()), fact).await?,
            Fact::RefundSeen(seen) => {
                if let Some(payment) = seen.payment.clone() {
                    self.wait(set, payment, fact).await?;
                }
            }
            Fact::DisputeSeen(seen) => {
                if let Some(payment) = seen.payment.clone() {
                    self.wait(set, payment, fact).await?;
                }
            }
            Fact::Linked(link) => self.link(set, link.clone()).await?,
            Fact::PriceSeen(seen) => {
                let row = CatalogueRow {
                    seen: seen.seen.clone(),
                    product: seen.product.clone(),
                    metadata: seen.metadata.clone(),
                };
                return self.keep_newest(set, seen.id.as_str(), row).await;
            }
            Fact::ProductSeen(seen) => {
                let row = CatalogueRow { seen: seen.seen.clone(), product: None, metadata: seen.metadata.clone() };
                return self.keep_newest(set, seen.id.as_str(), row).await;
            }
            Fact::CustomerSeen(seen) => self.customer(set, seen).await?,
        }
        Ok(false)
    }

    /// An address that was not known before may be what a sale waits for.
    async fn customer(&self, set: &mut WorkingSet, seen: &CustomerSeen) -> Result<(), StoreError> {
        let row = set.customer(self.scope, seen.id.as_str()).await?;
        let nobody = row.contact.email.is_none();
        row.observe(seen);
        if nobody && row.contact.email.is_some() {
            for purchase in set.purchases_of(self.scope, seen.id.as_str()).await? {
                set.touch(&purchase, self.now).await?;
            }
        }
        Ok(())
    }

    async fn invoice(&self, set: &mut WorkingSet, seen: InvoiceSeen) -> Result<(), StoreError> {
        let object = ObjectRef::Invoice(seen.id.clone());
        let node = set.node(self.scope, &object).await?;
        if let Some(subscription) = &seen.subscription {
            node.parents.insert(ObjectRef::Subscription(subscription.clone()));
        } else {
            let sale = match (seen.paid, seen.amount_paid_minor) {
                (false, _) => Sale::OneOffInvoice,
                (true, 0) => Sale::SettledInvoice,
                (true, _) => Sale::PaidInvoice,
            };
            node.sale = node.sale.max(Some(sale));
        }
        self.wait(set, object, Fact::InvoiceSeen(seen)).await
    }

    async fn session(&self, set: &mut WorkingSet, seen: SessionSeen) -> Result<(), StoreError> {
        let object = ObjectRef::Session(seen.id.clone());
        match seen.mode {
            SessionMode::Payment => set.node(self.scope, &object).await?.sale = Some(Sale::Session),
            SessionMode::Subscription | SessionMode::Unknown(_) => {}
            SessionMode::Setup => return Ok(()),
        }
        if let Some(subscription) = &seen.subscription {
            set.node(self.scope, &object).await?.parents.insert(ObjectRef::Subscription(subscription.clone()));
        }
        self.wait(set, object, Fact::SessionSeen(seen)).await
    }

    async fn link(&self, set: &mut WorkingSet, link: Link) -> Result<(), StoreError> {
        set.node(self.scope, &link.child).await?.parents.insert(link.parent.clone());
        // A subscription is where every walk ends: it needs no list of all that ever belonged to it.
        if !matches!(link.parent, ObjectRef::Subscription(_)) {
            set.node(self.scope, &link.parent).await?.children.insert(link.child.clone());
        }
        self.wait(set, link.child.clone(), Fact::Linked(link)).await
    }

    /// Leaves the fact at its object's node, then routes whatever can be routed from there.
    async fn wait(&self, set: &mut WorkingSet, object: ObjectRef, fact: Fact) -> Result<(), StoreError> {
        let node = set.node(self.scope, &object).await?;
        if !node.waiting.contains(&fact) {
            node.waiting.push(fact);
        }
        self.route(set, object).await
    }

    /// Walks the objects around `from` until no more of them finds a purchase.
    async fn route(&self, set: &mut WorkingSet, from: ObjectRef) -> Result<(), StoreError> {
        loop {
            let mut settled = false;
            for object in self.around(set, &from).await? {
                let node = set.node(self.scope, &object).await?.clone();
                let found = match &node.purchase {
                    Some(purchase) => Some(purchase.clone()),
                    None => self.purchase_of(set, &object, &node).await?,
                };
                let Some(purchase) = found else { continue };
                if node.purchase.is_none() || !node.waiting.is_empty() {
                    let waiting = std::mem::take(&mut set.node(self.scope, &object).await?.waiting);
                    set.node(self.scope, &object).await?.purchase = Some(purchase.clone());
                    let id = PurchaseId::new(self.scope.clone(), purchase);
                    self.learn(set, &id, waiting).await?;
                    settled |= node.purchase.is_none();
                }
            }
            if !settled {
                return Ok(());
            }
        }
    }

    /// `from` and every object reachable from it through objects without a purchase.
    async fn around(&self, set: &mut WorkingSet, from: &ObjectRef) -> Result<Vec<ObjectRef>, StoreError> {
        let mut seen = BTreeSet::from([from.clone()]);
        let mut found = vec![from.clone()];
        let mut next = 0;
        while next < found.len() && found.len() < WALK_MAX {
            let object = found[next].clone();
            next += 1;
            if matches!(object, ObjectRef::Subscription(_)) {
                continue;
            }
            let node = set.node(self.scope, &object).await?;
            if node.purchase.is_some() && object != *from {
                continue;
            }
            let neighbors: Vec<_> = node.parents.iter().chain(&node.children).cloned().collect();
            found.extend(neighbors.into_iter().filter(|neighbor| seen.insert(neighbor.clone())));
        }
        found.retain(|object| !matches!(object, ObjectRef::Subscription(_)));
        Ok(found)
    }

    /// The purchase that an unrouted object belongs to, by its own links.
    async fn purchase_of(
        &self,
        set: &mut WorkingSet,
        object: &ObjectRef,
        node: &Node,
    ) -> Result<Option<String>, StoreError> {
        for parent in &node.parents {
            if let ObjectRef::Subscription(subscription) = parent {
                return Ok(Some(subscription.as_str().to_owned()));
            }
            if let Some(purchase) = set.node(self.scope, parent).await?.purchase.clone() {
                return Ok(Some(purchase));
            }
        }
        match object {
            ObjectRef::Invoice(id) => self.one_off_invoice(set, id.as_str(), node).await,
            ObjectRef::Session(id) => self.payment_session(set, id.as_str(), node).await,
            ObjectRef::Charge(_) | ObjectRef::PaymentIntent(_) | ObjectRef::Subscription(_) => Ok(None),
        }
    }

    /// A one-off invoice joins what its payments belong to already; else it is a sale of its own once that is certain.
    async fn one_off_invoice(&self, set: &mut WorkingSet, id: &str, node: &Node) -> Result<Option<String>, StoreError> {
        if node.sale.is_none() {
            return Ok(None);
        }
        if let Some(purchase) = self.shared(set, node).await? {
            return Ok(Some(purchase));
        }
        let certain = match node.sale {
            Some(Sale::SettledInvoice) => true,
            Some(Sale::PaidInvoice) => !node.children.is_empty(),
            Some(Sale::OneOffInvoice | Sale::Session) | None => false,
        };
        Ok(certain.then(|| id.to_owned()))
    }

    /// A payment-mode session is its invoice's sale, or that of its payment; else its own.
    async fn payment_session(&self, set: &mut WorkingSet, id: &str, node: &Node) -> Result<Option<String>, StoreError> {
        if node.sale != Some(Sale::Session) {
            return Ok(None);
        }
        let invoice = node.parents.iter().find(|parent| matches!(parent, ObjectRef::Invoice(_)));
        if let Some(invoice) = invoice {
            return Ok(Some(invoice.id().to_owned()));
        }
        Ok(Some(self.shared(set, node).await?.unwrap_or_else(|| id.to_owned())))
    }

    /// The purchase that an object's payments or sessions belong to already.
    async fn shared(&self, set: &mut WorkingSet, node: &Node) -> Result<Option<String>, StoreError> {
        for child in &node.children {
            let child = set.node(self.scope, child).await?.clone();
            if child.purchase.is_some() {
                return Ok(child.purchase);
            }
            for parent in &child.parents {
                if let Some(purchase) = set.node(self.scope, parent).await?.purchase.clone() {
                    return Ok(Some(purchase));
                }
            }
        }
        Ok(None)
    }

    async fn learn(
        &self,
        set: &mut WorkingSet,
        id: &PurchaseId,
        facts: impl IntoIterator<Item = Fact>,
    ) -> Result<(), StoreError> {
        let purchase = set.purchase(id).await?;
        let before = purchase.knowledge.clone();
        for fact in facts {
            purchase.knowledge.learn(fact);
        }
        if purchase.knowledge != before {
            purchase.consumed = purchase.consumed.max(self.position);
            purchase.cause = Some(self.event.id.clone());
        }
        Ok(())
    }

    /// Keeps the newest sight of a price or product. Says whether a sale known already may mean something else now: not for
    /// one that is new and plain, which a shop with prices made on the fly has by the thousand.
    async fn keep_newest(&self, set: &mut WorkingSet, id: &str, row: CatalogueRow) -> Result<bool, StoreError> {
        let product = row.product.as_ref().map(ProductId::as_str);
        let mapped = || self.settings.catalog.iter().any(|entry| entry.matched_product() == product);
        let known = set.catalogue_row(self.scope, id).await?;
        let matters = match known {
            Some(known) if known.seen >= row.seen => return Ok(false),
            Some(known) => known.metadata != row.metadata || known.product != row.product,
            None => !row.metadata.is_empty() || (product.is_some() && mapped()),
        };
        *known = Some(row);
        Ok(matters)
    }
}
