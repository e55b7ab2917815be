//! A standby takes over from a process that is killed or stopped, and all of them are restarted without a webhook lost.

use std::time::{Duration, Instant};

use crate::deployment::{Deployment, Member, Role, with_short_leases};
use crate::support::histories::histories;
use crate::support::load::Load;
use crate::support::setup::{SELL_EVERYTHING, Setup};
use crate::support::sold::{issued_once, one_each, settled};
use crate::traffic::{Traffic, sell};

/// Beyond what a lease takes, for all that follows on a busy machine.
const SLACK: Duration = Duration::from_secs(20);

/// The roles that have a standby, and one console.
const STANDBYS: [Role; 7] =
    [Role::Ingest, Role::Ingest, Role::Issuer, Role::Issuer, Role::Projector, Role::Projector, Role::Console];

/// Ends the first of each role twice, so that the one that was active is ended at least once. Each time what is sold then
/// must be done and mirrored within `within`, by the other.
async fn the_other_takes_over(setup: &Setup, within: Duration, end: impl AsyncFn(Member)) {
    let histories = histories(35);
    let deployment = Deployment::new(setup);
    let mut service = deployment.up_with(&STANDBYS).await;
    let (first, rest) = histories.split_at(5);
    sell(&service, first).await;
    let twice = [Role::Issuer, Role::Projector, Role::Ingest].into_iter().flat_map(|role| [role, role]);
    for (role, sold) in twice.zip(rest.chunks(5)) {
        let began = Instant::now();
        end(service.take(role)).await;
        sell(&service, sold).await;
        deployment.is_mirrored().await;
        assert!(began.elapsed() < within, "{role:?} took {:?} to be taken over", began.elapsed());
        service.put(deployment.start(role).await);
    }
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}

#[tokio::test]
async fn a_killed_process_is_replaced_within_its_lease() {
    let within = Duration::from_secs(4) + SLACK;
    the_other_takes_over(&with_short_leases(), within, async |member: Member| member.process.kill().await).await;
}

#[tokio::test]
async fn a_process_that_is_stopped_in_order_is_replaced_at_once() {
    let lease = "[issuer]\nlease_ms = 600000\n";
    let setup = Setup { settings: format!("{SELL_EVERYTHING}{lease}"), ..Setup::default() };
    the_other_takes_over(&setup, SLACK, async |member: Member| member.process.stop().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_roles_are_restarted_one_by_one_without_one_webhook_refused() {
    let histories = histories(120);
    let deployment = Deployment::new(&Setup::default());
    let mut service = deployment.up_twice().await;
    let traffic = Traffic::begin(Load::of(&histories, 8), service.entrance());
    for role in [Role::ALL, Role::ALL].concat() {
        traffic.allow(60);
        let old = service.take(role);
        let address = old.address.clone();
        old.process.stop().await;
        let new = deployment.start(role).await;
        if role == Role::Ingest {
            // A load balancer learns of it only now.
            traffic.entrance.close(&address);
            traffic.entrance.open(&new.address);
        }
        service.put(new);
        traffic.flows().await;
    }
    let load = traffic.end().await;
    assert_eq!(load.refused(), 0, "webhooks were refused");
    settled(&service, &histories).await;
    load.is_kept(&service).await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}
