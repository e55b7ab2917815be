//! The state that every order of the same history must end in (design §3.5): units, seats, paid-until, license states,
//! and who is without a key. Not the same keys, and not the same own events.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::client::Caller;

/// What a reader sees of one source at some times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndState {
    /// By subscription: Stripe's status, paid-until, quantities.
    pub subscriptions: BTreeMap<String, Vec<String>>,
    /// By time and purchase: the licenses, one for each unit.
    pub licenses: BTreeMap<(String, String), Vec<String>>,
    /// Open cases about keys: kind and purchase.
    pub cases: BTreeSet<(String, String)>,
}

/// Kinds of case that any order must end in alike.
const PROMISED: [&str; 3] = ["no_key", "not_extended", "free_without_key"];

/// Reads the end state of a source as of each of `times`.
pub async fn end_state(caller: &Caller, source: &str, times: &[&str]) -> EndState {
    let mut subscriptions = BTreeMap::new();
    for row in caller.list(&format!("/subscriptions?source={source}")).await {
        let quantities = row["items"].as_array().unwrap().iter().map(|item| item["quantity"].to_string());
        let mut shown = vec![row["status"].to_string(), row["paid_until"].to_string()];
        shown.extend(quantities);
        subscriptions.insert(row["id"].as_str().unwrap().to_owned(), shown);
    }
    let mut licenses = BTreeMap::new();
    for time in times {
        for (purchase, shown) in licenses_at(caller, source, time).await {
            licenses.insert(((*time).to_owned(), purchase), shown);
        }
    }
    let mut cases = BTreeSet::new();
    for kind in PROMISED {
        for case in caller.list(&format!("/cases?source={source}&kind={kind}&status=open")).await {
            cases.insert((kind.to_owned(), stripe_id(&case)));
        }
    }
    EndState { subscriptions, licenses, cases }
}

async fn licenses_at(caller: &Caller, source: &str, time: &str) -> BTreeMap<String, Vec<String>> {
    // Of each unit, the license that counts: its latest generation.
    let mut of_unit: BTreeMap<(String, String), (u64, String)> = BTreeMap::new();
    for row in caller.list(&format!("/licenses?source={source}&at={time}")).await {
        let shown = ["state", "seats", "paid_until", "expires_at", "perpetual"].map(|field| row[field].to_string());
        let generation = row["generation"].as_u64().unwrap();
        let unit = (stripe_id(&row), row["unit"].as_str().unwrap().to_owned());
        let latest = of_unit.entry(unit).or_default();
        if generation >= latest.0 {
            *latest = (generation, shown.join(" "));
        }
    }
    let mut of_purchase: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((purchase, _), (_, shown)) in of_unit {
        of_purchase.entry(purchase).or_default().push(shown);
    }
    // The name of an item may depend on what was seen of it first.
    for shown in of_purchase.values_mut() {
        shown.sort();
    }
    of_purchase
}

/// The purchase that a license or a case is about, as Stripe names it.
pub fn stripe_id(row: &Value) -> String {
    row["purchase"]["stripe_id"].as_str().unwrap_or_default().to_owned()
}
