//! The working set: the rows a batch touches, in memory. Loaded when first needed, folded event by event, written once.
//!
//! Because every event is derived by itself, and only writing is put together, the rows do not depend on where batches
//! begin and end.

mod ahead;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_schemas::envelope::{Position, Recorded};
use keyledger_schemas::ids::{CaseId, PurchaseId, Scope};
use keyledger_schemas::mapping;
use keyledger_schemas::settings::DecidingSettings;

use crate::casebook::{self, CaseRow};
use crate::db::{Db, Writes};
use crate::derive::{Catalog, Derived, ItemNames, PurchaseRows, derive};
use crate::facts::{CustomerFacts, Node, Object, ObjectFacts, UnitFacts};
use crate::route::Graph;
use crate::sql::ViewsError;
use crate::store;
use crate::store::bulk::Rows;

pub use ahead::Named;

/// What is kept of a purchase itself.
#[derive(Clone, Debug)]
pub struct PurchaseHead {
    /// Whose.
    pub customer: Option<String>,
    /// Items named by their price first.
    pub names: ItemNames,
    /// When it was first heard of.
    pub opened_at: Timestamp,
    /// The event that opened it.
    pub first_position: Position,
    /// The last event that touched it.
    pub last_position: Position,
}

/// A purchase in the working set.
#[derive(Debug)]
pub struct PurchaseSet {
    /// The purchase itself.
    pub head: PurchaseHead,
    /// The objects that were routed to it.
    pub members: BTreeSet<Node>,
    /// What our own events say about its units.
    pub units: BTreeMap<(String, u32), UnitFacts>,
    /// Its cases.
    pub cases: BTreeMap<CaseId, CaseRow>,
    /// What was derived last, if anything was.
    pub derived: Option<Derived>,
    /// Rows of it are in the database.
    is_kept: bool,
    dirty_units: BTreeSet<(String, u32)>,
    dirty_cases: BTreeSet<CaseId>,
}

/// The rows of one scope.
#[derive(Debug)]
pub struct ScopeSet {
    /// Which.
    pub scope: Scope,
    /// The scope as text.
    pub key: String,
    /// Objects and links.
    pub graph: Graph,
    /// Purchases, by Stripe id.
    pub purchases: BTreeMap<String, PurchaseSet>,
    /// Prices and products that were looked up and found.
    pub catalog: Catalog,
    /// Customers, and the events that first and last changed them.
    pub customers: BTreeMap<String, (CustomerFacts, Position, Position)>,
    looked_up: BTreeSet<(&'static str, String)>,
    /// Looked for, and not there.
    absent: BTreeSet<Node>,
    /// Customers that were looked for, and are not there.
    no_customers: BTreeSet<String>,
    /// Purchases that were loaded before they are opened.
    ahead: BTreeMap<String, Rows>,
    dirty_objects: BTreeSet<Node>,
    dirty_links: BTreeSet<(Node, Node)>,
    dirty_catalog: BTreeSet<(&'static str, String)>,
    dirty_customers: BTreeSet<String>,
}

/// Whether anything may be sold at an engine that makes no license for somebody without an address.
pub fn asks_for_email(settings: &DecidingSettings) -> bool {
    let sold_at = settings.catalog.iter().map(|entry| &entry.provider);
    settings.providers.iter().chain(sold_at).any(mapping::needs_email)
}

impl ScopeSet {
    /// Nothing loaded yet.
    pub fn new(scope: Scope) -> Self {
        Self {
            key: scope.key(),
            scope,
            graph: Graph::default(),
            purchases: BTreeMap::new(),
            catalog: Catalog::default(),
            customers: BTreeMap::new(),
            looked_up: BTreeSet::new(),
            absent: BTreeSet::new(),
            no_customers: BTreeSet::new(),
            ahead: BTreeMap::new(),
            dirty_objects: BTreeSet::new(),
            dirty_links: BTreeSet::new(),
            dirty_catalog: BTreeSet::new(),
            dirty_customers: BTreeSet::new(),
        }
    }

    /// Rows held in memory, roughly.
    pub fn len(&self) -> usize {
        self.graph.objects.len() + self.purchases.len() + self.customers.len() + self.catalog.prices.len()
    }

    /// The object, made when nothing named it before. It counts as changed by this event.
    pub async fn touch(&mut self, db: &mut Db, node: &Node, position: Position) -> Result<&mut Object, ViewsError> {
        self.load(db, node).await?;
        self.dirty_objects.insert(node.clone());
        let object = self.graph.objects.entry(node.clone()).or_insert_with(|| Object::named(node.clone(), position));
        object.last_position = position;
        Ok(object)
    }

    async fn load(&mut self, db: &mut Db, node: &Node) -> Result<(), ViewsError> {
        if !self.graph.objects.contains_key(node)
            && !self.absent.contains(node)
            && let Some(object) = store::object(db, &self.key, node).await?
        {
            self.graph.objects.insert(node.clone(), object);
        }
        Ok(())
    }

    /// Hangs `child` on `parent`. Both count as named by this event.
    pub async fn link(
        &mut self,
        db: &mut Db,
        child: &Node,
        parent: &Node,
        position: Position,
    ) -> Result<(), ViewsError> {
        self.touch(db, parent, position).await?;
        let is_new = self.touch(db, child, position).await?.parents.insert(parent.clone());
        if is_new {
            self.load_children(db, parent).await?;
            self.graph.children.entry(parent.clone()).or_default().insert(child.clone());
            self.dirty_links.insert((child.clone(), parent.clone()));
        }
        Ok(())
    }

    async fn load_children(&mut self, db: &mut Db, node: &Node) -> Result<(), ViewsError> {
        if !ahead::is_followed(node) || self.graph.children.contains_key(node) {
            return Ok(());
        }
        let children = store::children(db, &self.key, node).await?;
        self.graph.children.insert(node.clone(), children);
        Ok(())
    }

    /// Loads everything that routing `touched` may look at.
    pub async fn expand(&mut self, db: &mut Db, touched: &BTreeSet<Node>) -> Result<(), ViewsError> {
        let mut reached = touched.clone();
        let mut queue: Vec<Node> = touched.iter().cloned().collect();
        while let Some(node) = queue.pop() {
            self.load(db, &node).await?;
            let is_routed = self.graph.objects.get(&node).is_some_and(|object| object.purchase.is_some());
            if is_routed && !touched.contains(&node) {
                continue;
            }
            self.load_children(db, &node).await?;
            for neighbor in self.graph.neighbors(&node) {
                if reached.insert(neighbor.clone()) {
                    queue.push(neighbor);
                }
            }
        }
        Ok(())
    }

    /// Notes that routing gave an object its purchase.
    pub async fn routed(&mut self, db: &mut Db, node: &Node, event: &Recorded) -> Result<Option<String>, ViewsError> {
        let Some(purchase) = self.graph.objects.get(node).and_then(|object| object.purchase.clone()) else {
            return Ok(None);
        };
        if let Some(object) = self.graph.objects.get_mut(node) {
            object.last_position = event.position;
        }
        self.dirty_objects.insert(node.clone());
        self.open(db, &purchase, event).await?.members.insert(node.clone());
        Ok(Some(purchase))
    }

    /// The purchase, opened by this event when it was not known before.
    pub async fn open(&mut self, db: &mut Db, id: &str, event: &Recorded) -> Result<&mut PurchaseSet, ViewsError> {
        if !self.purchases.contains_key(id) {
            let rows = match self.ahead.remove(id) {
                Some(rows) => rows,
                None => store::rows(db, &self.key, id).await?,
            };
            let mut members = BTreeSet::new();
            if rows.head.is_some() {
                for object in rows.objects {
                    members.insert(object.node.clone());
                    // What is in memory already is newer than the row.
                    self.graph.objects.entry(object.node.clone()).or_insert(object);
                }
            }
            let set = PurchaseSet {
                is_kept: rows.head.is_some(),
                units: rows.units,
                cases: rows.cases,
                head: rows.head.unwrap_or_else(|| PurchaseHead {
                    customer: None,
                    names: ItemNames::default(),
                    opened_at: event.occurred_at,
                    first_position: event.position,
                    last_position: event.position,
                }),
                members,
                derived: None,
                dirty_units: BTreeSet::new(),
                dirty_cases: BTreeSet::new(),
            };
            self.purchases.insert(id.to_owned(), set);
        }
        self.purchases.get_mut(id).ok_or_else(|| ViewsError::damaged("the working set", "a purchase went missing"))
    }

    /// The price or product of the catalogue, if it is known.
    pub async fn look_up(&mut self, db: &mut Db, kind: &'static str, id: &str) -> Result<(), ViewsError> {
        if !self.looked_up.insert((kind, id.to_owned())) {
            return Ok(());
        }
        if kind == "price" {
            if let Some(price) = store::price(db, &self.key, id).await? {
                self.catalog.prices.insert(id.to_owned(), price);
            }
        } else if let Some(product) = store::product(db, &self.key, id).await? {
            self.catalog.products.insert(id.to_owned(), product);
        }
        Ok(())
    }

    /// Notes that the catalogue changed.
    pub fn catalog_changed(&mut self, kind: &'static str, id: &str) {
        self.dirty_catalog.insert((kind, id.to_owned()));
    }

    /// The customer, made when nothing named them before. They count as changed by this event.
    pub async fn customer(
        &mut self,
        db: &mut Db,
        id: &str,
        position: Position,
    ) -> Result<&mut CustomerFacts, ViewsError> {
        if !self.customers.contains_key(id) {
            let kept = if self.no_customers.contains(id) { None } else { store::customer(db, &self.key, id).await? };
            let (facts, first) = kept.unwrap_or((CustomerFacts::default(), position));
            self.customers.insert(id.to_owned(), (facts, first, position));
        }
        self.dirty_customers.insert(id.to_owned());
        let (facts, _, last) = self
            .customers
            .get_mut(id)
            .ok_or_else(|| ViewsError::damaged("the working set", "a customer went missing"))?;
        *last = position;
        Ok(facts)
    }

    /// Whether the buyer's address is known from the customer. Asked only where settings sell at an engine that wants one.
    async fn customer_has_email(
        &mut self,
        db: &mut Db,
        id: &str,
        settings: &DecidingSettings,
    ) -> Result<bool, ViewsError> {
        if !asks_for_email(settings) {
            return Ok(false);
        }
        let Some(set) = self.purchases.get(id) else { return Ok(false) };
        let mut objects = set.members.iter().filter_map(|node| self.graph.objects.get(node));
        let Some(customer) = objects.find_map(|object| object.facts.summary().customer) else { return Ok(false) };
        let is_new = !self.customers.contains_key(&customer) && self.looked_up.insert(("customer", customer.clone()));
        if is_new && let Some((facts, first)) = store::customer(db, &self.key, &customer).await? {
            self.customers.insert(customer.clone(), (facts, first, first));
        }
        Ok(self.customers.get(&customer).is_some_and(|(facts, ..)| facts.has_email()))
    }

    /// The purchases of a customer, by Stripe id.
    pub async fn purchases_of(&mut self, db: &mut Db, customer: &str) -> Result<BTreeSet<String>, ViewsError> {
        let mut found = BTreeSet::from_iter(store::purchases_of(db, &self.key, customer).await?);
        // What is in memory is newer than the rows.
        for (id, set) in &self.purchases {
            if set.head.customer.as_deref() == Some(customer) {
                found.insert(id.clone());
            } else {
                found.remove(id);
            }
        }
        Ok(found)
    }

    /// What our own events say about a unit. It counts as changed.
    pub async fn unit(
        &mut self,
        db: &mut Db,
        purchase: &str,
        unit: (String, u32),
        event: &Recorded,
    ) -> Result<&mut UnitFacts, ViewsError> {
        let set = self.open(db, purchase, event).await?;
        set.dirty_units.insert(unit.clone());
        Ok(set.units.entry(unit).or_default())
    }

    /// Loads an object that waits for its link, with the refunds of a charge, and the prices and products of an invoice's
    /// lines.
    pub async fn load_waiting(&mut self, db: &mut Db, node: &Node) -> Result<(), ViewsError> {
        self.load(db, node).await?;
        if node.kind == crate::facts::Kind::Charge {
            self.load_children(db, node).await?;
            for child in self.graph.children.get(node).cloned().unwrap_or_default() {
                self.load(db, &child).await?;
            }
        }
        let lines = match self.graph.objects.get(node).map(|object| &object.facts) {
            Some(ObjectFacts::Invoice(invoice)) => invoice.all_lines().to_vec(),
            _ => Vec::new(),
        };
        for price in lines.iter().filter_map(|line| line.price.as_ref()) {
            self.look_up(db, "price", price.id.as_str()).await?;
            let product = price.product.as_ref().or_else(|| self.catalog.product_of(&price.id)).cloned();
            if let Some(product) = product {
                self.look_up(db, "product", product.as_str()).await?;
            }
        }
        Ok(())
    }

    /// Derives a purchase anew after `event`, and brings its cases up to date.
    pub async fn derive(
        &mut self,
        db: &mut Db,
        id: &str,
        settings: &DecidingSettings,
        event: &Recorded,
    ) -> Result<(), ViewsError> {
        self.open(db, id, event).await?;
        self.look_up_catalog(db, id).await?;
        let customer_has_email = self.customer_has_email(db, id, settings).await?;
        let purchase_id = PurchaseId::new(self.scope.clone(), id);
        let Some(set) = self.purchases.get_mut(id) else { return Ok(()) };
        let mut names = set.head.names.clone();
        let objects =
            set.members.iter().filter_map(|node| self.graph.objects.get(node)).map(|object| (&object.node, object));
        let objects: BTreeMap<&Node, &Object> = objects.collect();
        let units = set.units.iter().map(|((item, number), facts)| ((item.as_str(), *number), facts)).collect();
        let mut rows = PurchaseRows {
            id: &purchase_id,
            objects,
            units,
            names: &set.head.names,
            catalog: &self.catalog,
            customer_has_email,
        };
        names.learn(&rows);
        rows.names = &names;
        let derived = derive(&rows, settings);
        set.head.names = names;
        set.head.customer.clone_from(&derived.customer);
        set.head.last_position = event.position;
        let changed = casebook::settle(&mut set.cases, &derived.cases, derived.customer.as_deref(), event);
        set.dirty_cases.extend(changed);
        set.derived = Some(derived);
        Ok(())
    }

    async fn look_up_catalog(&mut self, db: &mut Db, id: &str) -> Result<(), ViewsError> {
        let Some(set) = self.purchases.get(id) else { return Ok(()) };
        let mut prices = BTreeSet::new();
        let mut products = BTreeSet::new();
        let mut note = |price: Option<&keyledger_schemas::stripe::fact::PriceRef>| {
            prices.extend(price.map(|price| price.id.to_string()));
            products.extend(price.and_then(|price| price.product.as_ref()).map(ToString::to_string));
        };
        for object in set.members.iter().filter_map(|node| self.graph.objects.get(node)) {
            match &object.facts {
                ObjectFacts::Subscription(facts) => {
                    let current = facts.register.current();
                    current.iter().flat_map(|snapshot| &snapshot.items).for_each(|item| note(item.price.as_ref()));
                }
                ObjectFacts::Invoice(facts) => facts.all_lines().iter().for_each(|line| note(line.price.as_ref())),
                ObjectFacts::Session(facts) => {
                    let lines = facts.lines.iter().flat_map(|(_, lines)| lines);
                    lines.for_each(|line| note(line.price.as_ref()));
                }
                ObjectFacts::Intent | ObjectFacts::Charge(_) | ObjectFacts::Refund(_) | ObjectFacts::Dispute(_) => {}
            }
        }
        for price in prices {
            self.look_up(db, "price", &price).await?;
            products.extend(self.catalog.prices.get(&price).and_then(|p| p.product.as_ref()).map(ToString::to_string));
        }
        for product in products {
            self.look_up(db, "product", &product).await?;
        }
        Ok(())
    }

    /// Notes that a case was changed from outside the derivation.
    pub fn case_changed(&mut self, purchase: &str, id: CaseId) {
        if let Some(set) = self.purchases.get_mut(purchase) {
            set.dirty_cases.insert(id);
        }
    }

    /// Writes everything that changed since the last time.
    pub fn write(&mut self, writes: &mut Writes) {
        for (child, parent) in std::mem::take(&mut self.dirty_links) {
            store::put_link(writes, &self.key, &child, &parent);
        }
        for node in std::mem::take(&mut self.dirty_objects) {
            let Some(object) = self.graph.objects.get(&node) else { continue };
            store::put_object(writes, &self.scope, &self.key, object);
        }
        for (kind, id) in std::mem::take(&mut self.dirty_catalog) {
            if let Some(price) = self.catalog.prices.get(&id).filter(|_| kind == "price") {
                store::put_price(writes, &self.key, &id, price);
            }
            if let Some(product) = self.catalog.products.get(&id).filter(|_| kind == "product") {
                store::put_product(writes, &self.key, &id, product);
            }
        }
        for id in std::mem::take(&mut self.dirty_customers) {
            let Some((facts, first, last)) = self.customers.get(&id) else { continue };
            store::put_customer(writes, &self.scope, &self.key, &id, facts, (*first, *last));
        }
        let kept = self.purchases.iter().filter(|(_, set)| set.is_kept && set.derived.is_some());
        let kept: Vec<String> = kept.map(|(id, _)| id.clone()).collect();
        store::delete_derived(writes, &self.key, &kept);
        for (id, set) in &mut self.purchases {
            let of =
                store::Of { scope: &self.scope, key: &self.key, purchase: id, first_position: set.head.first_position };
            set.write(writes, of);
        }
    }
}

impl PurchaseSet {
    fn write(&mut self, writes: &mut Writes, of: store::Of<'_>) {
        for unit in std::mem::take(&mut self.dirty_units) {
            if let Some(facts) = self.units.get(&unit) {
                store::put_unit(writes, of.key, of.purchase, &unit, facts);
            }
        }
        for id in std::mem::take(&mut self.dirty_cases) {
            if let Some(case) = self.cases.get(&id) {
                store::put_case(writes, of.scope, Some(of.purchase), id, case);
            }
        }
        // Nothing was derived: nothing of what follows changed.
        let Some(derived) = &self.derived else { return };
        self.is_kept = true;
        store::put_purchase(writes, of.scope, of.key, of.purchase, &self.head);
        store::put_derived(writes, of, derived);
    }
}
