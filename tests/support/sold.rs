//! What must have come of all that was sold: exactly one license of each paid unit, here and at the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Caller;
use super::histories::History;
use super::state::stripe_id;
use super::stub::Stub;
use super::wait::until;

/// What failed before the faults ended is tried again by the table: 1 s, 5 s, 30 s, 2 min.
const SETTLES_WITHIN: Duration = Duration::from_mins(4);

/// Waits until all money has its key, all refunds have taken theirs back, and nothing is in the making.
pub async fn settled(caller: &Caller, histories: &[History]) {
    let paid = histories.iter().filter(|history| history.is_paid).count();
    until("settling", SETTLES_WITHIN, async || {
        let count = async |kind: &str| caller.open_cases(kind).await.len();
        let open = (count("no_key").await, count("not_extended").await, count("free_without_key").await);
        let rows = caller.list("/licenses?at=2026-08-02T00:00:00Z").await;
        let works = rows.iter().filter(|row| row["state"] == "active").count();
        let revoked = rows.iter().filter(|row| row["state"] == "revoked").count();
        let done = open == (0, 0, 0) && works == paid && revoked == histories.len() - paid;
        if done { Ok(()) } else { Err(format!("open {open:?}, {works} of {paid} work, {revoked} revoked")) }
    })
    .await;
    caller.caught_up().await;
}

/// Waits until every license that the engine made is known here. A create whose answer was lost, for money that went back
/// meanwhile, owes nobody anything, so no case tells of it; it is looked up by the table all the same.
pub async fn doubts_resolved(caller: &Caller, stub: &Stub) {
    until("looking up lost answers", SETTLES_WITHIN, async || {
        let rows = caller.list("/licenses?at=2026-08-02T00:00:00Z").await;
        let known = rows.iter().filter(|row| row["provider_id"].is_string()).count();
        let made = stub.stats().await["licenses"].clone();
        if made == known { Ok(()) } else { Err(format!("{made} were made, {known} are known")) }
    })
    .await;
    caller.caught_up().await;
}

/// The license of each purchase, by the API: exactly one of each that is paid, at most a revoked one of the others.
pub async fn one_each(caller: &Caller, histories: &[History]) -> BTreeMap<String, Value> {
    let mut of_purchase: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in caller.list("/licenses?at=2026-08-02T00:00:00Z").await {
        of_purchase.entry(stripe_id(&row)).or_default().push(row);
    }
    let mut licenses = BTreeMap::new();
    for history in histories {
        let rows = of_purchase.remove(&history.purchase).unwrap_or_default();
        assert_eq!(rows.len(), 1, "{}: {rows:#?}", history.purchase);
        let license = &rows[0];
        assert_eq!(license["generation"], 1, "{license:#}");
        if history.is_paid {
            assert_eq!(
                (&license["state"], &license["seats"]),
                (&"active".into(), &history.seats.into()),
                "{license:#}"
            );
        } else {
            assert_eq!(license["state"], "revoked", "{license:#}");
        }
        if license["provider_id"].is_string() {
            licenses.insert(history.purchase.clone(), license.clone());
        }
    }
    assert!(of_purchase.is_empty(), "licenses of nobody: {of_purchase:#?}");
    assert_eq!(caller.open_cases("surplus_key").await, Vec::<Value>::new());
    licenses
}

/// Each license was recorded as issued once.
pub async fn issued_once(caller: &Caller, count: usize) {
    let issued = caller.list("/events?type=license.issued").await;
    let streams: BTreeSet<_> = issued.iter().map(|event| event["stream"].as_str().unwrap()).collect();
    assert_eq!((issued.len(), streams.len()), (count, count));
}

/// How many calls were announced and never answered, because the process died in between.
pub async fn calls_cut_short(caller: &Caller) -> usize {
    let events = caller.list("/events?type=license.*").await;
    let answered: BTreeSet<_> = events.iter().filter_map(|event| event["causation_id"].as_str()).collect();
    let requested = events.iter().filter(|event| event["type"] == "license.requested");
    requested.filter(|event| !answered.contains(event["id"].as_str().unwrap())).count()
}

/// The engine made these licenses, each once, and they stand there as they stand here.
pub async fn made_once(stub: &Stub, licenses: &BTreeMap<String, Value>) {
    let stats = stub.stats().await;
    let references = stats["creates_by_reference"].as_object().unwrap();
    assert_eq!(stats["creates_per_reference_max"], 1, "a unit was issued twice: {stats:#}");
    assert_eq!((references.len(), &stats["licenses"]), (licenses.len(), &json!(licenses.len())));
    assert_eq!(stats["unlimited"], 0);
    for license in licenses.values() {
        let held = stub.license(license["provider_id"].as_str().unwrap()).await;
        if license["state"] == "revoked" {
            assert_eq!(held["state"], "revoked", "{held:#}");
        } else {
            let terms = |row: &Value| (row["seats"].clone(), row["expires_at"].clone());
            assert_eq!((&held["state"], terms(&held)), (&"active".into(), terms(license)));
        }
    }
}
