//! `kill -9` at random moments, under load, with an engine that misbehaves: each paid unit has exactly one license.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Caller;
use crate::support::deployment::{Deployment, Setup};
use crate::support::histories::{History, histories};
use crate::support::load::Load;
use crate::support::random::Random;
use crate::support::state::stripe_id;
use crate::support::stub::Stub;
use crate::support::wait::until;

/// How many senders post at once.
const SENDERS: usize = 8;

/// How long a process lives after it is ready, in milliseconds.
const LIVES_MS: std::ops::Range<u64> = 100..1200;

/// How long one lives that is killed while it starts, in milliseconds.
const STARTS_MS: std::ops::Range<u64> = 1..250;

/// What failed before the faults ended is tried again by the table: 1 s, 5 s, 30 s, 2 min.
const SETTLES_WITHIN: Duration = Duration::from_mins(4);

/// Everything but refusals, which wait for a person.
fn faults() -> Value {
    let fault = |operation: &str, probability: f64, fault: Value| json!({"operation": operation, "probability": probability, "fault": fault});
    json!({
        "mix": {"seed": 20_261_120, "faults": [
            fault("create", 0.06, json!({"kind": "commit_then_hang"})),
            fault("create", 0.06, json!({"kind": "commit_then_drop"})),
            fault("create", 0.05, json!({"kind": "commit_then_fail", "status": 500})),
            fault("create", 0.04, json!({"kind": "commit_then_garble"})),
            // Longer than the caller waits, and shorter than what it allows for afterwards.
            fault("create", 0.04, json!({"kind": "slow", "delay_ms": 550})),
            fault("change", 0.06, json!({"kind": "commit_then_drop"})),
            fault("any", 0.03, json!({"kind": "drop"})),
            fault("any", 0.03, json!({"kind": "fail", "status": 503})),
            fault("any", 0.03, json!({"kind": "fail", "status": 429, "retry_after_s": 1})),
            fault("any", 0.04, json!({"kind": "slow", "delay_ms": 120})),
        ]},
        "search": {"lag_ms": 300, "matching": "contains"},
    })
}

/// Kills a deployment again and again while it is loaded.
async fn rounds(deployment: &Deployment, load: &Load, rounds: usize, each: usize, seed: u64) {
    let mut random = Random::new(seed);
    for round in 0..rounds {
        load.release(each);
        if round % 5 == 4 {
            deployment.up_for(Duration::from_millis(random.within(STARTS_MS))).await;
        }
        let service = deployment.up().await;
        let lives = Duration::from_millis(random.within(LIVES_MS));
        let caller = service.client.clone();
        let killed = async {
            tokio::time::sleep(lives).await;
            service.kill().await;
        };
        tokio::join!(killed, load.deliver(&caller, SENDERS));
    }
    assert!(load.taken() > 0, "nothing was ever taken");
}

/// Waits until all money has its key, all refunds have taken theirs back, and nothing is in the making.
async fn settled(caller: &Caller, histories: &[History]) {
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
async fn doubts_resolved(caller: &Caller, stub: &Stub) {
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
async fn one_each(caller: &Caller, histories: &[History]) -> BTreeMap<String, Value> {
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
async fn issued_once(caller: &Caller, count: usize) {
    let issued = caller.list("/events?type=license.issued").await;
    let streams: BTreeSet<_> = issued.iter().map(|event| event["stream"].as_str().unwrap()).collect();
    assert_eq!((issued.len(), streams.len()), (count, count));
}

/// How many calls were announced and never answered, because the process died in between.
async fn calls_cut_short(caller: &Caller) -> usize {
    let events = caller.list("/events?type=license.*").await;
    let answered: BTreeSet<_> = events.iter().filter_map(|event| event["causation_id"].as_str()).collect();
    let requested = events.iter().filter(|event| event["type"] == "license.requested");
    requested.filter(|event| !answered.contains(event["id"].as_str().unwrap())).count()
}

#[tokio::test]
async fn each_paid_unit_has_one_license_at_the_engine_whatever_is_killed_and_whatever_fails() {
    let histories = histories(150);
    let load = Load::of(&histories, 1);
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    stub.misbehave(&faults()).await;
    let deployment = Deployment::new(&Setup { settings: stub.settings(), ..Setup::default() });
    rounds(&deployment, &load, 20, 30, 2).await;

    stub.behave().await;
    load.release_all();
    let service = deployment.up().await;
    load.deliver(&service, SENDERS).await;
    assert!(load.is_done());
    settled(&service, &histories).await;
    doubts_resolved(&service, &stub).await;

    load.is_kept(&service).await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    let cut_short = calls_cut_short(&service).await;
    assert!(cut_short > 0, "no kill hit a call in hand: the test proves little");
    let stats = stub.stats().await;
    let references = stats["creates_by_reference"].as_object().unwrap();
    assert_eq!(stats["creates_per_reference_max"], 1, "a unit was issued twice: {stats:#}");
    assert_eq!((references.len(), &stats["licenses"]), (licenses.len(), &json!(licenses.len())));
    assert_eq!(stats["unlimited"], 0);
    for fault in
        ["commit_then_hang", "commit_then_drop", "commit_then_fail", "commit_then_garble", "slow", "drop", "fail"]
    {
        assert!(stats["calls"]["create"][fault].as_u64() > Some(0), "there was no {fault}: {stats:#}");
    }
    for license in licenses.values() {
        let held = stub.license(license["provider_id"].as_str().unwrap()).await;
        if license["state"] == "revoked" {
            assert_eq!(held["state"], "revoked", "{held:#}");
        } else {
            let terms = |row: &Value| (row["seats"].clone(), row["expires_at"].clone());
            assert_eq!((&held["state"], terms(&held)), (&"active".into(), terms(license)));
        }
    }
    deployment.finish(service).await;
    stub.stop().await;
}

#[tokio::test]
async fn each_paid_unit_has_one_built_in_license_whatever_is_killed() {
    let histories = histories(60);
    let load = Load::of(&histories, 3);
    let deployment = Deployment::new(&Setup::default());
    rounds(&deployment, &load, 8, 40, 4).await;

    load.release_all();
    let service = deployment.up().await;
    load.deliver(&service, SENDERS).await;
    assert!(load.is_done());
    settled(&service, &histories).await;
    load.is_kept(&service).await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}
