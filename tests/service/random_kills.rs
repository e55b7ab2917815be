//! `kill -9` at random moments, under load, with an engine that misbehaves: each paid unit has exactly one license.

use std::time::Duration;

use crate::deployment::Deployment;
use crate::support::faults;
use crate::support::histories::histories;
use crate::support::load::Load;
use crate::support::random::Random;
use crate::support::setup::Setup;
use crate::support::sold::{calls_cut_short, doubts_resolved, issued_once, made_once, one_each, settled};
use crate::support::stub::Stub;

/// How many senders post at once.
const SENDERS: usize = 8;

/// How long a process lives after it is ready, in milliseconds.
const LIVES_MS: std::ops::Range<u64> = 100..1200;

/// How long one lives that is killed while it starts, in milliseconds.
const STARTS_MS: std::ops::Range<u64> = 1..250;

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

#[tokio::test]
async fn each_paid_unit_has_one_license_at_the_engine_whatever_is_killed_and_whatever_fails() {
    let histories = histories(150);
    let load = Load::of(&histories, 1);
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    stub.misbehave(&faults::faults()).await;
    let deployment = Deployment::new(&Setup { settings: stub.settings(), ..Setup::default() });
    rounds(&deployment, &load, 20, 30, 2).await;

    stub.behave().await;
    load.release_all();
    let service = deployment.up().await;
    load.deliver(&service.client, SENDERS).await;
    assert!(load.is_done());
    settled(&service, &histories).await;
    doubts_resolved(&service, &stub).await;

    load.is_kept(&service).await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    let cut_short = calls_cut_short(&service).await;
    assert!(cut_short > 0, "no kill hit a call in hand: the test proves little");
    made_once(&stub, &licenses).await;
    faults::all_happened(&stub).await;
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
    load.deliver(&service.client, SENDERS).await;
    assert!(load.is_done());
    settled(&service, &histories).await;
    load.is_kept(&service).await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}
