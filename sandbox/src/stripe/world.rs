//! What the account holds: objects and events, by connected account and mode.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// How many elements of a list stand in the object itself.
const SHOWN_MAX: usize = 10;

/// Lists inside objects that may be longer than what the object shows. `line_items` only shows when asked for.
const LISTS: [(&str, &str); 3] = [("invoice", "lines"), ("subscription", "items"), ("checkout.session", "line_items")];

/// Where an id is unique: a connected account, or the account itself, and a mode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Realm {
    /// `acct_…`, for objects of a connected account.
    pub account: Option<String>,
    /// Live or test.
    pub live: bool,
}

impl Realm {
    /// The account's own objects, live or test.
    pub fn own(live: bool) -> Self {
        Self { account: None, live }
    }
}

/// What cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLoad {
    /// It lacks what every object has.
    #[error("not an object of Stripe's: `{0}` is missing")]
    Lacks(&'static str),
}

#[derive(Clone, Debug)]
struct Held {
    value: Value,
    /// Lists that are longer than shown, or not shown.
    lists: BTreeMap<&'static str, Vec<Value>>,
    /// `created` of the event that showed it so.
    as_of: i64,
    /// Tells apart what was created in one second.
    order: u64,
    deleted: bool,
}

#[derive(Clone, Debug)]
struct Happened {
    event: Value,
    order: u64,
    delivered: bool,
}

/// Everything, in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    objects: BTreeMap<Realm, BTreeMap<String, Held>>,
    events: BTreeMap<Realm, BTreeMap<String, Happened>>,
    thin: BTreeMap<Realm, BTreeMap<String, Value>>,
    loaded: u64,
}

impl World {
    /// Keeps an object as it is. One that has `deleted: true` stands for one that is gone.
    pub(super) fn load_object(&mut self, realm: &Realm, object: Value) -> Result<(), BadLoad> {
        let as_of = object["created"].as_i64().unwrap_or(0);
        self.keep(realm, object, as_of.max(0), false)
    }

    /// Keeps an event and the object that it shows, unless a later event showed it otherwise. Of two renderings of one
    /// event, the one in `api_version` stays, else the first.
    pub(super) fn load_event(&mut self, event: Value, api_version: &str) -> Result<(), BadLoad> {
        let id = event["id"].as_str().ok_or(BadLoad::Lacks("id"))?.to_owned();
        let live = event["livemode"].as_bool().ok_or(BadLoad::Lacks("livemode"))?;
        let kind = event["type"].as_str().ok_or(BadLoad::Lacks("type"))?.to_owned();
        let thin = event["object"] == "v2.core.event";
        let account = event["account"].as_str().or_else(|| event["context"].as_str().filter(|_| thin));
        let realm = Realm { account: account.map(str::to_owned), live };
        if thin {
            self.thin.entry(realm).or_default().insert(id, event);
            return Ok(());
        }
        let created = event["created"].as_i64().ok_or(BadLoad::Lacks("created"))?;
        let object = event["data"]["object"].clone();
        if object["id"].is_string() {
            let gone = kind.ends_with(".deleted") && kind != "customer.subscription.deleted";
            self.keep(&realm, object, created, gone)?;
        }
        self.loaded += 1;
        let order = self.loaded;
        let events = self.events.entry(realm).or_default();
        let preferred = event["api_version"] == api_version;
        match events.get_mut(&id) {
            Some(known) if preferred => known.event = event,
            Some(_) => {}
            None => {
                events.insert(id, Happened { event, order, delivered: true });
            }
        }
        Ok(())
    }

    fn keep(&mut self, realm: &Realm, mut object: Value, as_of: i64, gone: bool) -> Result<(), BadLoad> {
        let id = object["id"].as_str().ok_or(BadLoad::Lacks("id"))?.to_owned();
        let kind = object["object"].as_str().ok_or(BadLoad::Lacks("object"))?.to_owned();
        let deleted = gone || object["deleted"] == true;
        if kind == "invoice"
            && let Some(payments) = object["payments"]["data"].as_array().cloned()
        {
            for payment in payments {
                self.load_object(realm, payment)?;
            }
        }
        self.loaded += 1;
        let order = self.loaded;
        let objects = self.objects.entry(realm.clone()).or_default();
        let mut lists = objects.get(&id).map(|held| held.lists.clone()).unwrap_or_default();
        for (_, name) in LISTS.iter().filter(|(of, _)| *of == kind) {
            let Some(shown) = object[*name]["data"].as_array() else { continue };
            // A list that was cut says less than what is known already.
            let known = lists.get(name).map_or(0, Vec::len);
            if object[*name]["has_more"] != true || shown.len() > known {
                lists.insert(name, shown.clone());
            }
        }
        if kind == "checkout.session"
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("line_items");
        }
        let held = Held { value: object, lists, as_of, order, deleted };
        match objects.get_mut(&id) {
            Some(known) if known.as_of > as_of => known.lists = held.lists,
            Some(known) => *known = Held { order: known.order, deleted: known.deleted || held.deleted, ..held },
            None => {
                objects.insert(id, held);
            }
        }
        Ok(())
    }

    /// An object as the API shows it.
    pub(super) fn object(&self, realm: &Realm, kind: &str, id: &str) -> Option<Value> {
        let held = self.held(realm, kind, id)?;
        if held.deleted {
            let gone = json!({"id": id, "object": kind, "deleted": true});
            return (kind == "customer").then_some(gone);
        }
        Some(render(kind, held))
    }

    pub(super) fn is_deleted(&self, realm: &Realm, kind: &str, id: &str) -> bool {
        self.held(realm, kind, id).is_some_and(|held| held.deleted)
    }

    /// All objects of a kind, newest first.
    pub(super) fn all(&self, realm: &Realm, kind: &str) -> Vec<Value> {
        let objects = self.objects.get(realm).into_iter().flat_map(BTreeMap::values);
        let mut found: Vec<_> = objects.filter(|held| held.value["object"] == kind && !held.deleted).collect();
        found.sort_by_key(|held| std::cmp::Reverse((held.value["created"].as_i64().unwrap_or(0), held.order)));
        found.into_iter().map(|held| render(kind, held)).collect()
    }

    /// All elements of a list in an object.
    pub(super) fn list(&self, realm: &Realm, kind: &str, id: &str, name: &str) -> Option<Vec<Value>> {
        let held = self.held(realm, kind, id).filter(|held| !held.deleted)?;
        Some(held.lists.get(name).cloned().unwrap_or_default())
    }

    /// Payments of invoices, newest first. Invoices of before basil name theirs themselves.
    pub(super) fn invoice_payments(&self, realm: &Realm) -> Vec<Value> {
        let mut payments = self.all(realm, "invoice_payment");
        let named: Vec<Value> = self
            .all(realm, "invoice")
            .iter()
            .filter(|invoice| !payments.iter().any(|payment| payment["invoice"] == invoice["id"]))
            .filter_map(payment_named_by)
            .collect();
        payments.extend(named);
        payments.sort_by_key(|payment| std::cmp::Reverse(payment["created"].as_i64().unwrap_or(0)));
        payments
    }

    /// Events, newest first, each with whether it was delivered everywhere.
    pub(super) fn events(&self, realm: &Realm) -> Vec<(&Value, bool)> {
        let mut found: Vec<_> = self.events.get(realm).into_iter().flat_map(BTreeMap::values).collect();
        found.sort_by_key(|held| std::cmp::Reverse((held.event["created"].as_i64().unwrap_or(0), held.order)));
        found.into_iter().map(|held| (&held.event, held.delivered)).collect()
    }

    pub(super) fn event(&self, realm: &Realm, id: &str) -> Option<&Value> {
        self.events.get(realm)?.get(id).map(|held| &held.event)
    }

    pub(super) fn thin_event(&self, realm: &Realm, id: &str) -> Option<&Value> {
        self.thin.get(realm)?.get(id)
    }

    /// An event and whose it is, whatever the account and mode.
    pub(super) fn find_event(&self, id: &str) -> Option<(Realm, Value)> {
        let thin = |realm: &Realm| self.thin_event(realm, id);
        let found = |realm: &Realm| Some((realm.clone(), self.event(realm, id).or_else(|| thin(realm))?.clone()));
        self.events.keys().chain(self.thin.keys()).find_map(found)
    }

    /// Says whether an event was delivered to every endpoint. False if there is no such event.
    pub(super) fn set_delivered(&mut self, id: &str, delivered: bool) -> bool {
        let mut found = self.events.values_mut().filter_map(|events| events.get_mut(id));
        found.next().is_some_and(|held| {
            held.delivered = delivered;
            true
        })
    }

    /// Whether anything of this account is held.
    pub(super) fn knows(&self, account: &str) -> bool {
        let of = |realm: &Realm| realm.account.as_deref() == Some(account);
        self.objects.keys().any(of) || self.events.keys().any(of) || self.thin.keys().any(of)
    }

    /// Merges metadata: an empty value takes its key away. Gives the old value of each key that changed.
    pub(super) fn write_metadata(
        &mut self,
        realm: &Realm,
        id: &str,
        entries: &BTreeMap<String, String>,
    ) -> BTreeMap<String, Value> {
        let held = self.objects.get_mut(realm).and_then(|objects| objects.get_mut(id));
        let Some(held) = held else { return BTreeMap::new() };
        if !held.value["metadata"].is_object() {
            held.value["metadata"] = json!({});
        }
        let mut old = BTreeMap::new();
        let Some(metadata) = held.value["metadata"].as_object_mut() else { return old };
        for (key, value) in entries {
            let before =
                if value.is_empty() { metadata.remove(key) } else { metadata.insert(key.clone(), json!(value)) };
            if before.as_ref().and_then(Value::as_str).unwrap_or_default() != value {
                old.insert(key.clone(), before.unwrap_or(Value::Null));
            }
        }
        old
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.objects.values().map(BTreeMap::len).sum(), self.events.values().map(BTreeMap::len).sum())
    }

    /// All objects of a kind, whosever they are.
    pub(super) fn everywhere(&self, kind: &str) -> Vec<Value> {
        self.objects.keys().flat_map(|realm| self.all(realm, kind)).collect()
    }

    fn held(&self, realm: &Realm, kind: &str, id: &str) -> Option<&Held> {
        self.objects.get(realm)?.get(id).filter(|held| held.value["object"] == kind)
    }
}

/// The object with the first elements of its lists, as in every answer.
fn render(kind: &str, held: &Held) -> Value {
    let mut value = held.value.clone();
    for (_, name) in LISTS.iter().filter(|(of, name)| *of == kind && *name != "line_items") {
        if let Some(all) = held.lists.get(name) {
            value[*name]["data"] = json!(all[..all.len().min(SHOWN_MAX)]);
            value[*name]["has_more"] = json!(all.len() > SHOWN_MAX);
        }
    }
    if kind == "invoice"
        && let Some(fields) = value.as_object_mut()
    {
        fields.remove("payments");
    }
    value
}

fn payment_named_by(invoice: &Value) -> Option<Value> {
    if invoice["status"] != "paid" {
        return None;
    }
    let payment = match (invoice["payment_intent"].as_str(), invoice["charge"].as_str()) {
        (Some(intent), _) => json!({"type": "payment_intent", "payment_intent": intent}),
        (None, Some(charge)) => json!({"type": "charge", "charge": charge}),
        (None, None) => return None,
    };
    Some(json!({
        "id": format!("inpay_of_{}", invoice["id"].as_str()?),
        "object": "invoice_payment",
        "amount_paid": invoice["amount_paid"],
        "amount_requested": invoice["amount_due"],
        "created": invoice["status_transitions"]["paid_at"],
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": true,
        "livemode": invoice["livemode"],
        "payment": payment,
        "status": "paid",
        "status_transitions": {"canceled_at": null, "paid_at": invoice["status_transitions"]["paid_at"]},
    }))
}
