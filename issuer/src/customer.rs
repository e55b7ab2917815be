//! Customers: how they are called, and who they are at the engines that keep customers.
//!
//! A row is folded from `customer.*` events of Stripe's and from our own `customer.linked` and `customer.synced`. It is the one
//! place where the issuer holds names and addresses: events and log lines have ids only.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::state::{StateChange, StateWrite};
use keyledger_schemas::event::{CustomerLinked, CustomerSynced};
use keyledger_schemas::ids::{ProviderName, Scope, StreamId};
use keyledger_schemas::stripe::fact::{CustomerSeen, Metadata, Seen};
use serde::{Deserialize, Serialize};

use crate::provider::Person;
use crate::purchase::Purchase;
use crate::purchase::desired::CRYPTOLENS;
pub use crate::purchase::knowledge::Contact;
use crate::store::{self, StoreError};

/// Customers by scope and id. Those of which an engine holds something older are due.
pub const CUSTOMERS: &str = "issuer.customer";

/// Which purchases are whose, by scope, customer and purchase: an address that arrives late wakes them.
pub const PURCHASES_OF: &str = "issuer.customer.purchase";

/// One customer of Stripe's, or one sale without a customer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerRow {
    /// The newest sight, where one that shows them alive comes before every one that shows them deleted.
    pub seen: Option<(bool, Seen)>,
    /// How that sight calls them.
    pub contact: Contact,
    /// Their metadata in it.
    pub metadata: Metadata,
    /// Who they are at the engines that keep customers.
    pub linked: BTreeMap<ProviderName, Linked>,
}

/// A customer at one engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// The engine's own id for them.
    pub id: String,
    /// When it was found out.
    pub since: Timestamp,
    /// The engine has the same one for another customer of Stripe's: it is not renamed by either.
    pub shared: bool,
    /// What the engine was told last, as far as that is known.
    pub holds: Option<Contact>,
    /// Why the engine did not take it, where it refused.
    pub refused: Option<String>,
}

impl CustomerRow {
    /// Takes one more sight. The same whatever the order and the repeats.
    pub fn observe(&mut self, seen: &CustomerSeen) {
        let rank = (!seen.deleted, seen.seen.clone());
        if self.seen.as_ref().is_none_or(|newest| rank > *newest) {
            self.seen = Some(rank);
            self.contact = Contact::of(seen.email.as_deref(), seen.name.as_deref());
            self.metadata.clone_from(&seen.metadata);
        }
    }

    /// They were found or made at an engine, as they are called now. A link that is older than the one known changes nothing.
    pub fn link(&mut self, link: &CustomerLinked, at: Timestamp) {
        let known = self.linked.get(&link.provider);
        if known.is_some_and(|known| known.id == link.provider_customer_id || known.since > at) {
            return;
        }
        let linked = Linked {
            id: link.provider_customer_id.clone(),
            since: at,
            shared: link.shared,
            holds: self.seen.as_ref().map(|_| self.contact.clone()),
            refused: None,
        };
        self.linked.insert(link.provider.clone(), linked);
    }

    /// An engine was told how they are called, or refused to hear it.
    pub fn synced(&mut self, synced: &CustomerSynced) {
        if self.sight() != Some(synced.seen.as_str()) {
            return;
        }
        let contact = self.contact.clone();
        if let Some(linked) = self.linked.get_mut(&synced.provider).filter(|l| l.id == synced.provider_customer_id) {
            linked.holds = Some(contact);
            linked.refused.clone_from(&synced.refused);
        }
    }

    /// Whether they were deleted at Stripe.
    pub fn is_deleted(&self) -> bool {
        self.seen.as_ref().is_some_and(|(alive, _)| !alive)
    }

    /// The Stripe event that shows them as they are.
    pub fn sight(&self) -> Option<&str> {
        self.seen.as_ref().map(|(_, seen)| seen.event.as_str())
    }

    /// The engines that hold something older, with the engine's ids for them.
    pub fn to_sync(&self) -> Vec<(ProviderName, String)> {
        if self.seen.is_none() || self.is_deleted() {
            return Vec::new();
        }
        let older = |linked: &Linked| !linked.shared && linked.holds.as_ref() != Some(&self.contact);
        let older = self.linked.iter().filter(|(_, linked)| older(linked));
        older.map(|(provider, linked)| (provider.clone(), linked.id.clone())).collect()
    }

    /// The engine's own id for them that Stripe's metadata names.
    pub fn named(&self, provider: &ProviderName) -> Option<String> {
        let named = || self.metadata.get("skm_customer_id").map(|id| id.trim()).filter(|id| !id.is_empty());
        (provider.as_str() == CRYPTOLENS).then(named).flatten().map(str::to_owned)
    }

    /// As an engine is asked for them; what Stripe's customer does not say, `fallback` does.
    pub fn person(&self, customer: &str, provider: &ProviderName, fallback: &Contact) -> Person {
        let Contact { email, name } = self.contact.or(fallback);
        Person {
            customer: customer.to_owned(),
            email,
            name,
            known: self.linked.get(provider).map(|linked| linked.id.clone()),
            named: self.named(provider),
            failures: 0,
        }
    }
}

/// Whose a purchase is: `cus_…`, or for a sale without a customer the purchase.
pub fn of(purchase: &Purchase) -> &str {
    purchase.knowledge.customer.as_ref().map_or(purchase.id.object.as_str(), |customer| customer.as_str())
}

/// The stream of what is recorded about a customer.
pub fn stream(scope: &Scope, customer: &str) -> StreamId {
    StreamId::new(format!("customer:{}", key(scope, customer)))
}

/// The key of a customer's row: `customer` is `cus_…`, or for a sale without a customer the purchase.
pub fn key(scope: &Scope, customer: &str) -> String {
    store::object_key(scope, customer)
}

/// The row with its revision, if it is there.
///
/// # Errors
///
/// See [`StoreError`].
pub async fn load(log: &dyn EventLog, scope: &Scope, customer: &str) -> Result<Option<(CustomerRow, u64)>, StoreError> {
    let row = log.state(CUSTOMERS, &key(scope, customer)).await?;
    row.map(|row| Ok((store::decode(&row)?, row.revision))).transpose()
}

/// The write of a row that was loaded with `revision` (0 if it was not there).
pub fn write(scope: &Scope, customer: &str, row: &CustomerRow, revision: u64, now: Timestamp) -> StateWrite {
    StateWrite {
        namespace: CUSTOMERS.to_owned(),
        key: key(scope, customer),
        expected: Some(revision),
        change: StateChange::Put { value: store::encode(row), due_at: due_at(row, now) },
    }
}

/// When an engine should be told how they are called: now, if one holds something older.
pub fn due_at(row: &CustomerRow, now: Timestamp) -> Option<Timestamp> {
    (!row.to_sync().is_empty()).then_some(now)
}

#[cfg(test)]
mod tests {
    use keyledger_schemas::stripe::fact::Change;

    use super::*;

    fn sight(second: i64, event: &str, email: &str, name: &str) -> CustomerSeen {
        let at = Timestamp::from_second(1_790_000_000 + second).unwrap();
        CustomerSeen {
            seen: Seen { at, change: Change::Updated, event: event.into() },
            id: "cus_1".into(),
            email: Some(email.to_owned()),
            name: Some(name.to_owned()),
            metadata: Metadata::default(),
            deleted: false,
        }
    }

    fn linked(shared: bool) -> CustomerLinked {
        CustomerLinked {
            provider: "stub".into(),
            customer: "cus_1".to_owned(),
            provider_customer_id: "user_1".to_owned(),
            made: true,
            shared,
        }
    }

    fn row(sights: &[CustomerSeen]) -> CustomerRow {
        let mut row = CustomerRow::default();
        for seen in sights {
            row.observe(seen);
        }
        row
    }

    #[test]
    fn the_newest_sight_that_shows_them_alive_counts_in_any_order() {
        let old = sight(1, "evt_1", "a@example.com", "A");
        let new = sight(2, "evt_2", "b@example.com", " ");
        let gone = CustomerSeen { deleted: true, ..sight(3, "evt_3", "c@example.com", "C") };
        let sights = [old, new, gone];
        let expected = row(&sights);
        assert_eq!(expected.contact, Contact::of(Some("b@example.com"), None));
        for [a, b, c] in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            assert_eq!(row(&[sights[a].clone(), sights[b].clone(), sights[c].clone()]), expected);
        }
    }

    #[test]
    fn an_engine_is_told_once_about_each_change() {
        let mut row = row(&[sight(1, "evt_1", "a@example.com", "A")]);
        row.link(&linked(false), Timestamp::UNIX_EPOCH);
        assert_eq!(row.to_sync(), [], "it was told when they were made there");
        row.observe(&sight(2, "evt_2", "a@example.com", "A"));
        assert_eq!(row.to_sync(), [], "nothing that an engine holds has changed");
        row.observe(&sight(3, "evt_3", "b@example.com", "A"));
        assert_eq!(row.to_sync(), [("stub".into(), "user_1".to_owned())]);
        let synced = |seen: &str| CustomerSynced {
            provider: "stub".into(),
            customer: "cus_1".to_owned(),
            provider_customer_id: "user_1".to_owned(),
            seen: seen.to_owned(),
            refused: None,
        };
        row.synced(&synced("evt_2"));
        assert_eq!(row.to_sync().len(), 1, "that was about an older sight");
        row.synced(&synced("evt_3"));
        assert_eq!(row.to_sync(), []);
    }

    #[test]
    fn who_shares_a_customer_at_an_engine_does_not_rename_it() {
        let mut row = row(&[sight(1, "evt_1", "a@example.com", "A")]);
        row.link(&linked(true), Timestamp::UNIX_EPOCH);
        row.observe(&sight(2, "evt_2", "b@example.com", "B"));
        assert_eq!(row.to_sync(), []);
    }

    #[test]
    fn a_sale_before_its_customer_is_told_later() {
        let mut row = CustomerRow::default();
        row.link(&linked(false), Timestamp::UNIX_EPOCH);
        assert_eq!(row.to_sync(), []);
        row.observe(&sight(1, "evt_1", "a@example.com", "A"));
        assert_eq!(row.to_sync().len(), 1);
    }

    #[test]
    fn nobody_s_name_shows_in_a_debug_line() {
        let row = row(&[sight(1, "evt_1", "a@example.com", "Ada")]);
        let shown = format!("{row:?} {:?}", row.person("cus_1", &"stub".into(), &Contact::default()));
        assert!(!shown.contains("Ada") && !shown.contains("example.com"), "{shown}");
    }
}
