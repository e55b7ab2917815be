//! Where the issuer keeps its state: rows beside the log, written in the transaction of the append.
//!
//! All of it can be rebuilt from the log. [`WorkingSet`] holds the rows that one batch reads and changes, and turns the
//! changes into [`StateWrite`]s that expect the revisions that were read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use keyledger_eventlog::log::{EventLog, LogError};
use keyledger_eventlog::state::{StateChange, StateRow, StateWrite};
use keyledger_schemas::ids::{ProductId, PurchaseId, Scope};
use keyledger_schemas::settings::DecidingSettings;
use keyledger_schemas::stripe::fact::{Fact, Metadata, ObjectRef, Seen};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::customer::{self, CUSTOMERS, CustomerRow, PURCHASES_OF};
use crate::engines::Engines;
use crate::purchase::Purchase;
use crate::purchase::desired::{self, Catalogue, Context};

/// Purchases by id. Their `due_at` is when they want attention.
pub const PURCHASES: &str = "issuer.purchase";
/// Objects of Stripe's and what they belong to, by scope and id.
pub const LINKS: &str = "issuer.link";
/// Prices and products, by scope and id.
pub const CATALOGUE: &str = "issuer.catalogue";
/// The settings last recorded in the log, under the key `current`.
pub const SETTINGS: &str = "issuer.settings";
/// Purchases still to be looked at again after settings or the catalogue changed.
pub const SWEEP: &str = "issuer.sweep";

/// How many keys are read at a time.
const PAGE: usize = 256;

/// An object of Stripe's on the way from money to sale.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The purchase it belongs to, once known: the object part of its id.
    pub purchase: Option<String>,
    /// What it belongs to.
    pub parents: BTreeSet<ObjectRef>,
    /// What belongs to it.
    pub children: BTreeSet<ObjectRef>,
    /// What it may be a purchase of its own as.
    pub sale: Option<Sale>,
    /// Facts that wait until its purchase is known.
    pub waiting: Vec<Fact>,
}

/// What makes an object a sale in its own right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sale {
    /// An invoice without a subscription, not paid yet.
    OneOffInvoice,
    /// An invoice without a subscription, paid through Stripe: it waits for the payment's link.
    PaidInvoice,
    /// An invoice without a subscription, paid without a payment of Stripe's.
    SettledInvoice,
    /// A payment-mode session.
    Session,
}

/// How far a sweep over all purchases has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// The last key that was marked.
    pub after: String,
    /// It was ordered again meanwhile, and starts over once it is through.
    pub again: bool,
}

/// A price or product as the catalogue events showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueRow {
    /// The newest sight.
    pub seen: Seen,
    /// A price's product.
    pub product: Option<ProductId>,
    /// Its metadata.
    pub metadata: Metadata,
}

/// A state row that cannot be read back, or a database that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The log's database failed; try again.
    #[error("cannot read the issuer's state")]
    Log(#[from] LogError),
    /// A row was written by another build, or damaged. Rebuild the issuer's state from the log.
    #[error("the issuer's state row `{key}` cannot be read")]
    Row {
        /// The row's key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// One row as it was read (or would be when new), and as it is now. Revision 0 is a row that is not there.
struct Entry<T> {
    revision: u64,
    read: T,
    now: T,
    due_read: Option<Timestamp>,
    due_at: Option<Timestamp>,
}

/// The rows that one batch reads and changes.
pub struct WorkingSet {
    log: Arc<dyn EventLog>,
    purchases: BTreeMap<PurchaseId, Entry<Purchase>>,
    /// Purchases to be looked at although nothing was learned about them.
    touched: BTreeSet<PurchaseId>,
    nodes: BTreeMap<String, Entry<Node>>,
    catalogue: HashMap<String, Entry<Option<CatalogueRow>>>,
    customers: BTreeMap<String, Entry<CustomerRow>>,
    extra: Vec<StateWrite>,
}

impl WorkingSet {
    /// An empty set over `log`.
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self {
            log,
            purchases: BTreeMap::new(),
            touched: BTreeSet::new(),
            nodes: BTreeMap::new(),
            catalogue: HashMap::new(),
            customers: BTreeMap::new(),
            extra: Vec::new(),
        }
    }

    /// The purchase, new if it was not there, to be changed.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn purchase(&mut self, id: &PurchaseId) -> Result<&mut Purchase, StoreError> {
        self.load_purchase(id).await?;
        let entry = self.purchases.get_mut(id).unwrap_or_else(|| unreachable!("it was just loaded"));
        Ok(&mut entry.now)
    }

    async fn load_purchase(&mut self, id: &PurchaseId) -> Result<(), StoreError> {
        if !self.purchases.contains_key(id) {
            let row = self.log.state(PURCHASES, &id.to_string()).await?;
            self.purchases.insert(id.clone(), entry(row, || Purchase::new(id.clone()))?);
        }
        Ok(())
    }

    /// The purchases that were changed since they were read.
    pub fn changed_purchases(&self) -> Vec<PurchaseId> {
        let changed =
            self.purchases.iter().filter(|(id, entry)| entry.read != entry.now && !self.touched.contains(*id));
        changed.map(|(id, _)| id.clone()).collect()
    }

    /// Has the purchase looked at soon, although nothing was learned about it.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn touch(&mut self, id: &PurchaseId, now: Timestamp) -> Result<(), StoreError> {
        self.load_purchase(id).await?;
        self.touched.insert(id.clone());
        self.set_due(id, Some(now));
        Ok(())
    }

    /// Sets when the purchase wants attention next.
    pub fn set_due(&mut self, id: &PurchaseId, due_at: Option<Timestamp>) {
        if let Some(entry) = self.purchases.get_mut(id) {
            entry.due_at = due_at;
        }
    }

    /// The node of an object, new if it was not there, to be changed.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn node(&mut self, scope: &Scope, object: &ObjectRef) -> Result<&mut Node, StoreError> {
        let key = object_key(scope, object.id());
        if !self.nodes.contains_key(&key) {
            let row = self.log.state(LINKS, &key).await?;
            self.nodes.insert(key.clone(), entry(row, Node::default)?);
        }
        let entry = self.nodes.get_mut(&key).unwrap_or_else(|| unreachable!("it was just loaded"));
        Ok(&mut entry.now)
    }

    /// The catalogue row of a price or product, to be changed.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn catalogue_row(&mut self, scope: &Scope, id: &str) -> Result<&mut Option<CatalogueRow>, StoreError> {
        let key = object_key(scope, id);
        if !self.catalogue.contains_key(&key) {
            let row = self.log.state(CATALOGUE, &key).await?;
            self.catalogue.insert(key.clone(), entry(row, || None)?);
        }
        let entry = self.catalogue.get_mut(&key).unwrap_or_else(|| unreachable!("it was just loaded"));
        Ok(&mut entry.now)
    }

    /// The part of the catalogue that a purchase's items refer to.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn catalogue_of(&mut self, purchase: &Purchase) -> Result<Catalogue, StoreError> {
        let mut catalogue = Catalogue::default();
        for (price, product) in desired::prices(purchase) {
            let row = self.catalogue_row(&purchase.id.scope, price.as_str()).await?.clone();
            let product = product.or_else(|| row.as_ref().and_then(|row| row.product.clone()));
            if let Some(product) = &product
                && let Some(found) = self.catalogue_row(&purchase.id.scope, product.as_str()).await?
            {
                catalogue.products.insert(product.clone(), found.metadata.clone());
            }
            let metadata = row.map(|row| row.metadata).unwrap_or_default();
            catalogue.prices.insert(price, (product, metadata));
        }
        Ok(catalogue)
    }

    /// The row of a customer, new if it was not there, to be changed.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn customer(&mut self, scope: &Scope, id: &str) -> Result<&mut CustomerRow, StoreError> {
        let key = customer::key(scope, id);
        if !self.customers.contains_key(&key) {
            let row = self.log.state(CUSTOMERS, &key).await?;
            self.customers.insert(key.clone(), entry(row, CustomerRow::default)?);
        }
        let entry = self.customers.get_mut(&key).unwrap_or_else(|| unreachable!("it was just loaded"));
        Ok(&mut entry.now)
    }

    /// The purchases of a customer, those of this batch among them.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn purchases_of(&self, scope: &Scope, id: &str) -> Result<BTreeSet<PurchaseId>, StoreError> {
        let prefix = format!("{}:", customer::key(scope, id));
        let of_batch = self.purchases.iter().filter(|(purchase, entry)| {
            purchase.scope == *scope && entry.now.knowledge.customer.as_ref().is_some_and(|of| of.as_str() == id)
        });
        let mut found: BTreeSet<PurchaseId> = of_batch.map(|(purchase, _)| purchase.clone()).collect();
        let mut after = String::new();
        loop {
            let page = self.log.state_scan(PURCHASES_OF, &prefix, &after, PAGE).await?;
            let objects = page.iter().filter_map(|row| row.key.strip_prefix(&prefix));
            found.extend(objects.map(|object| PurchaseId::new(scope.clone(), object)));
            match page.last() {
                Some(last) if page.len() == PAGE => after.clone_from(&last.key),
                _ => return Ok(found),
            }
        }
    }

    /// Everything that decisions about a purchase are made with.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn context_of(
        &mut self,
        purchase: &Purchase,
        settings: DecidingSettings,
        engines: &Engines,
    ) -> Result<Context, StoreError> {
        let catalogue = self.catalogue_of(purchase).await?;
        let row = self.customer(&purchase.id.scope, customer::of(purchase)).await?;
        let has_address = row.contact.email.is_some();
        Ok(Context { settings, catalogue, providers: engines.capabilities(), has_address })
    }

    /// One more write for the same transaction.
    pub fn write(&mut self, write: StateWrite) {
        self.extra.push(write);
    }

    /// Every change, each expecting the revision that was read.
    pub fn into_writes(self, now: Timestamp) -> Vec<StateWrite> {
        let mut writes = self.extra;
        for (key, mut entry) in self.customers {
            if entry.read != entry.now {
                entry.due_at = customer::due_at(&entry.now, now);
            }
            writes.extend(write_of(CUSTOMERS, &key, &entry));
        }
        for (id, entry) in self.purchases {
            if entry.read.knowledge.customer != entry.now.knowledge.customer
                && let Some(customer) = &entry.now.knowledge.customer
            {
                writes.push(StateWrite {
                    namespace: PURCHASES_OF.to_owned(),
                    key: format!("{}:{}", customer::key(&id.scope, customer.as_str()), id.object),
                    expected: None,
                    change: StateChange::Put { value: encode(&()), due_at: None },
                });
            }
            writes.extend(write_of(PURCHASES, &id.to_string(), &entry));
        }
        for (key, entry) in self.nodes {
            writes.extend(write_of(LINKS, &key, &entry));
        }
        for (key, entry) in self.catalogue {
            writes.extend(write_of(CATALOGUE, &key, &entry));
        }
        writes
    }
}

/// The key of an object in its scope.
pub fn object_key(scope: &Scope, id: &str) -> String {
    format!("{}:{id}", scope.key())
}

/// A row's value as JSON.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("state is plain data with text keys: {error}"))
}

/// Reads a row's value.
///
/// # Errors
///
/// [`StoreError::Row`] when it was written by another build, or damaged.
pub fn decode<T: DeserializeOwned>(row: &StateRow) -> Result<T, StoreError> {
    serde_json::from_slice(&row.value).map_err(|source| StoreError::Row { key: row.key.clone(), source })
}

/// The settings last recorded in the log.
///
/// # Errors
///
/// See [`StoreError`].
pub async fn settings(log: &dyn EventLog) -> Result<DecidingSettings, StoreError> {
    log.state(SETTINGS, "current").await?.as_ref().map_or_else(|| Ok(DecidingSettings::default()), decode)
}

fn entry<T: DeserializeOwned + Clone>(row: Option<StateRow>, new: impl FnOnce() -> T) -> Result<Entry<T>, StoreError> {
    let (revision, value, due_at) = match row {
        Some(row) => (row.revision, decode(&row)?, row.due_at),
        None => (0, new(), None),
    };
    Ok(Entry { revision, read: value.clone(), now: value, due_read: due_at, due_at })
}

fn write_of<T: Serialize + PartialEq>(namespace: &str, key: &str, entry: &Entry<T>) -> Option<StateWrite> {
    if entry.read == entry.now && entry.due_at == entry.due_read {
        return None;
    }
    Some(StateWrite {
        namespace: namespace.to_owned(),
        key: key.to_owned(),
        expected: Some(entry.revision),
        change: StateChange::Put { value: encode(&entry.now), due_at: entry.due_at },
    })
}
