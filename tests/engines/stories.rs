//! All stories with each engine, in both versions, while a fifth of all calls fails and the process is killed at random:
//! in the end each paid unit has exactly one license at the engine, as long as here, and nothing is there that nobody paid for.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::deployment::{Deployment, Service};
use crate::engine::{AtEngine, Engine, Kind};
use crate::support::client::Caller;
use crate::support::random::Random;
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, all};
use crate::support::wait::until;
use crate::told::{told_today, without_other_keys};

/// What failed before the faults ended is tried again by the table: 1 s, 5 s, 30 s, 2 min.
const SETTLES_WITHIN: Duration = Duration::from_mins(4);

/// How long a process lives, in milliseconds.
const LIVES_MS: std::ops::Range<u64> = 400..2500;

/// How often the process is killed.
const KILLS: usize = 6;

/// The units that the stories pay for. In e and f the money goes back: whether their licenses were ever made depends on what
/// was killed when.
const PAID: usize = 12;
const MONEY_WENT_BACK: usize = 2;

#[tokio::test]
async fn cryptlex_holds_one_license_for_each_paid_unit_old_version() {
    each_paid_unit_has_one_license(Kind::Cryptlex, VERSIONS[0], 11).await;
}

#[tokio::test]
async fn cryptlex_holds_one_license_for_each_paid_unit_new_version() {
    each_paid_unit_has_one_license(Kind::Cryptlex, VERSIONS[1], 12).await;
}

#[tokio::test]
async fn cryptolens_holds_one_license_for_each_paid_unit_old_version() {
    each_paid_unit_has_one_license(Kind::Cryptolens, VERSIONS[0], 13).await;
}

#[tokio::test]
async fn cryptolens_holds_one_license_for_each_paid_unit_new_version() {
    each_paid_unit_has_one_license(Kind::Cryptolens, VERSIONS[1], 14).await;
}

#[tokio::test]
async fn keygen_holds_one_license_for_each_paid_unit_old_version() {
    each_paid_unit_has_one_license(Kind::Keygen, VERSIONS[0], 15).await;
}

#[tokio::test]
async fn keygen_holds_one_license_for_each_paid_unit_new_version() {
    each_paid_unit_has_one_license(Kind::Keygen, VERSIONS[1], 16).await;
}

async fn each_paid_unit_has_one_license(kind: Kind, version: &str, seed: u64) {
    let engine = Engine::start(kind).await;
    engine.misbehave(seed);
    let deployment = Deployment::new(&Setup { settings: engine.settings(), ..Setup::default() });
    let mut random = Random::new(seed);
    let mut bodies: Vec<Vec<u8>> =
        all().iter().flat_map(|story| without_other_keys(told_today(story, version))).collect();
    bodies.chunks_mut(6).for_each(|near| random.shuffle(near));
    let portion = bodies.len().div_ceil(KILLS);
    for part in bodies.chunks(portion) {
        let service = deployment.up().await;
        // Stripe sends again what was not answered.
        let caller = service.client.clone();
        let lives = Duration::from_millis(random.within(LIVES_MS));
        let killed = async {
            tokio::time::sleep(lives).await;
            service.kill().await;
        };
        tokio::join!(killed, async {
            for body in part {
                _ = caller.try_post("default", body).await;
            }
        });
    }

    engine.behave();
    let service = deployment.up().await;
    service.post_all("default", &bodies).await;
    settled(&service, &engine).await;
    let licenses = service.list("/licenses?mode=live").await;
    assert_eq!(licenses.len(), PAID + MONEY_WENT_BACK, "{licenses:#?}");
    is_as_here(&engine, &licenses);
    assert_eq!(service.open_cases("surplus_key").await, Vec::<Value>::new());
    deployment.finish(service).await;
    engine.stop().await;
}

/// Waits until every paid unit has its license, and nothing is in doubt. Asks for another try of what waits.
async fn settled(service: &Service, engine: &Engine) {
    until("settling", SETTLES_WITHIN, async || {
        let mut open = Vec::new();
        for kind in ["no_key", "not_extended", "free_without_key"] {
            open.extend(service.open_cases(kind).await);
        }
        for case in &open {
            retry(service, case["id"].as_str().unwrap()).await;
        }
        let rows = service.list("/licenses?mode=live").await;
        let known = rows.iter().filter(|row| row["provider_id"].is_string()).count();
        let made = engine.licenses().len();
        let stopped = rows.iter().filter(|row| row["state"] == "revoked").count();
        if open.is_empty() && known == made && stopped == MONEY_WENT_BACK {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        Err(format!("{} open, {known} known of {made} made, {stopped} stopped: {open:#?}", open.len()))
    })
    .await;
    service.caught_up().await;
}

pub async fn retry(caller: &Caller, case: &str) {
    let url = format!("{}/api/v1/cases/{case}/retry", caller.api);
    let request = caller.http.post(url).bearer_auth(crate::support::setup::TOKEN).json(&json!({}));
    // It may have been closed meanwhile.
    request.send().await.unwrap();
}

/// Every license of ours stands once at the engine, as it stands here, and nothing else does.
fn is_as_here(engine: &Engine, licenses: &[Value]) {
    let mut there: BTreeMap<String, Vec<AtEngine>> = BTreeMap::new();
    for license in engine.licenses() {
        let reference = license.reference.clone().unwrap_or_else(|| panic!("nobody's: {license:?}"));
        there.entry(reference).or_default().push(license);
    }
    for license in licenses.iter().filter(|license| license["provider_id"].is_string()) {
        let id = license["id"].as_str().unwrap();
        let reference = format!("kl-{}", id.replace('-', ""));
        let held = there.remove(&reference).unwrap_or_default();
        let [held] = held.as_slice() else { panic!("{} of {reference}: {held:#?}", held.len()) };
        assert_eq!(held.id, license["provider_id"], "{license:#}");
        if license["state"] == "revoked" {
            assert!(!held.works, "{license:#}\n{held:?}");
            continue;
        }
        assert!(held.works, "{license:#}\n{held:?}");
        assert_eq!(held.seats, license["seats"].as_u64(), "{license:#}");
        let ours: Option<Timestamp> = license["expires_at"].as_str().map(|at| at.parse().unwrap());
        match (held.expires_at, ours) {
            (Some(held), Some(ours)) => {
                let beyond = held.duration_since(ours);
                let allowed = jiff::SignedDuration::try_from(engine.expiry_beyond()).unwrap();
                assert!(!beyond.is_negative() && beyond <= allowed, "{held} there, {ours} here: {license:#}");
            }
            (held, ours) => assert_eq!(held, ours, "{license:#}"),
        }
    }
    assert!(there.is_empty(), "nobody paid for {there:#?}");
}
