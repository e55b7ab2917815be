//! PostgreSQL was restored from an older backup: what it lost is in the mirror, and comes back from there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use keyledger_test_servers::{Nats, Postgres};
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

use crate::deployment::{Deployment, Role, Service, with_short_leases};
use crate::mirror::{Row, STREAM, context, head, rows};
use crate::support::histories::{History, histories};
use crate::support::load::Load;
use crate::support::setup::Setup;
use crate::support::sold::{doubts_resolved, issued_once, made_once, one_each, settled};
use crate::support::stub::Stub;
use crate::support::wait::{PATIENCE, until};
use crate::traffic::{Traffic, sell, taken_in_the_end};

/// How long it is looked at that something does not happen.
const A_WHILE: Duration = Duration::from_secs(3);

/// Sells the first half, backs PostgreSQL up, and sells the other. Gives the backup and what stands in the log then.
async fn sold_after_a_backup(
    deployment: &mut Deployment,
    service: &Service,
    histories: &[History],
) -> (TempDir, Vec<Row>) {
    let (before, after) = histories.split_at(histories.len() / 2);
    sell(service, before).await;
    deployment.postgres.stop();
    let older = deployment.postgres.backup();
    deployment.postgres.start_again();
    service.are_ready(true, PATIENCE).await;
    taken_in_the_end(service, &after[0].bodies[0]).await;
    sell(service, after).await;
    deployment.is_mirrored().await;
    (older, rows(&deployment.postgres.url()).await)
}

fn put_back(postgres: &mut Postgres, older: &TempDir) {
    postgres.stop();
    postgres.restore(older);
    postgres.start_again();
}

/// Waits until the log begins with exactly these events again.
async fn has_again(deployment: &Deployment, lost: &[Row]) {
    let url = deployment.postgres.url();
    until("the events come back", PATIENCE, async || {
        let head = head(&url).await;
        if head >= u64::try_from(lost.len()).unwrap() { Ok(()) } else { Err(format!("{head} of {}", lost.len())) }
    })
    .await;
    let found = rows(&url).await;
    for (found, lost) in found.iter().zip(lost) {
        assert_eq!(found, lost, "it came back otherwise");
    }
}

#[tokio::test]
async fn a_log_restored_while_nothing_ran_gets_back_what_its_mirror_holds() {
    let histories = histories(30);
    let mut deployment = Deployment::new(&with_short_leases());
    let service = deployment.up().await;
    let (older, lost) = sold_after_a_backup(&mut deployment, &service, &histories[..20]).await;
    service.stop().await;
    put_back(&mut deployment.postgres, &older);
    assert!(head(&deployment.postgres.url()).await < u64::try_from(lost.len()).unwrap());

    let service = deployment.up().await;
    has_again(&deployment, &lost).await;
    taken_in_the_end(&service, &histories[20].bodies[0]).await;
    sell(&service, &histories[20..]).await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_restored_under_running_roles_gets_back_what_its_mirror_holds() {
    let histories = histories(60);
    let mut deployment = Deployment::new(&with_short_leases());
    let service = deployment.up_twice().await;
    let (older, _) = sold_after_a_backup(&mut deployment, &service, &histories[..20]).await;
    let traffic = Traffic::begin(Load::of(&histories[20..], 6), service.entrance());
    traffic.allow(10);
    traffic.flows().await;
    // What the mirror does not hold yet would be lost with the database, and running processes would wait for it.
    service.caught_up().await;
    deployment.is_mirrored().await;
    let lost = rows(&deployment.postgres.url()).await;
    tokio::task::block_in_place(|| deployment.postgres.stop());
    traffic.allow(100);
    tokio::task::block_in_place(|| put_back(&mut deployment.postgres, &older));
    has_again(&deployment, &lost).await;
    traffic.flows().await;
    let load = traffic.end().await;
    assert!(load.refused() > 0, "nothing was refused while the log was behind");
    service.are_ready(true, PATIENCE).await;
    settled(&service, &histories).await;
    load.is_kept(&service).await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}

/// What is recorded as issued is `count` licenses. One may be recorded twice: by the history that was lost, and by the one
/// that went on, whose issuer found it at the engine before its record came back.
fn each_names_one_license(rows: &[Row], count: usize) {
    let mut issued: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.kind == "license.issued") {
        let data: Value = serde_json::from_slice(&row.data).unwrap();
        issued.entry(&row.stream).or_default().insert(format!("{} {}", data["license"], data["provider_id"]));
    }
    assert_eq!(issued.len(), count);
    for (stream, licenses) in issued {
        assert_eq!(licenses.len(), 1, "{stream}: {licenses:?}");
    }
}

/// Looks for a while that nothing is written.
async fn nothing_is_written(deployment: &Deployment) {
    let url = deployment.postgres.url();
    let (began, before) = (Instant::now(), head(&url).await);
    while began.elapsed() < A_WHILE {
        assert_eq!(head(&url).await, before, "something was written to a log that is behind");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_issuer_decides_nothing_on_a_log_that_is_behind_its_mirror() {
    let histories = histories(10);
    let mut deployment = Deployment::new(&with_short_leases());
    let mut service = deployment.up_with(&[Role::Ingest, Role::Projector, Role::Console]).await;
    for history in &histories {
        service.post_together("default", &history.bodies, 4).await;
    }
    deployment.is_mirrored().await;
    service.stop().await;
    deployment.postgres.stop();
    let older = deployment.postgres.backup();
    deployment.postgres.start_again();

    // The backup owes licenses that were made later.
    service = deployment.up().await;
    service.caught_up().await;
    deployment.is_mirrored().await;
    let lost = rows(&deployment.postgres.url()).await;
    service.stop().await;
    put_back(&mut deployment.postgres, &older);
    let mut members = Vec::new();
    for role in [Role::Issuer, Role::Projector, Role::Console] {
        members.push(deployment.start(role).await);
    }
    nothing_is_written(&deployment).await;
    members.push(deployment.start(Role::Ingest).await);
    let service = Service::new(members);
    has_again(&deployment, &lost).await;
    service.caught_up().await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}

#[tokio::test]
async fn webhooks_are_refused_while_the_log_is_behind_its_views_and_its_mirror_is_away() {
    let histories = histories(20);
    let setup = with_short_leases();
    let mut deployment = Deployment::new(&setup);
    let views = Postgres::start();
    deployment.ways.views = views.url();
    deployment.configure(&setup);
    let service = deployment.up().await;
    let (older, lost) = sold_after_a_backup(&mut deployment, &service, &histories[..10]).await;
    service.stop().await;
    put_back(&mut deployment.postgres, &older);
    deployment.nats[0].stop();

    let mut service = deployment.up().await;
    for _ in 0..5 {
        let status = service.try_post("default", &histories[10].bodies[0]).await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
    nothing_is_written(&deployment).await;
    let status = service.try_post("default", &histories[10].bodies[0]).await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    service.all_run();
    deployment.nats[0].start_again();
    has_again(&deployment, &lost).await;
    taken_in_the_end(&service, &histories[10].bodies[0]).await;
    sell(&service, &histories[10..]).await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}

/// Loses events, and gets others in their place while NATS is away; then NATS comes back. `removed` is done to the mirror.
async fn went_another_way(mut deployment: Deployment, stub: &Stub, removed: impl AsyncFn(&Deployment, &Service)) {
    let histories = histories(35);
    let service = deployment.up().await;
    let (older, lost) = sold_after_a_backup(&mut deployment, &service, &histories[..20]).await;
    service.stop().await;
    put_back(&mut deployment.postgres, &older);
    deployment.nats[0].stop();

    // Nothing tells that events are missing, and intake never depends on NATS: new ones take their positions.
    let service = deployment.up().await;
    taken_in_the_end(&service, &histories[20].bodies[0]).await;
    sell(&service, &histories[20..30]).await;

    deployment.nats[0].start_again();
    let url = deployment.postgres.url();
    until("every event comes back", PATIENCE, async || {
        let kept: BTreeSet<String> = rows(&url).await.into_iter().map(|row| row.id).collect();
        let missing: Vec<_> = lost.iter().filter(|row| !kept.contains(&row.id)).map(|row| &row.id).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{} are missing: {missing:?}", missing.len())) }
    })
    .await;
    // All goes on, whatever becomes of the mirror.
    sell(&service, &histories[30..]).await;
    removed(&deployment, &service).await;
    settled(&service, &histories).await;
    doubts_resolved(&service, stub).await;
    until("the mirror is mended", PATIENCE, async || {
        let told = (service.list("/events?type=mirror.*").await, service.open_cases("mirror_diverged").await);
        let kinds: Vec<_> = told.0.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let is_mended = kinds.contains(&"mirror.diverged") && kinds.contains(&"mirror.mended") && told.1.is_empty();
        if is_mended { Ok(()) } else { Err(format!("{told:#?}")) }
    })
    .await;
    deployment.is_mirrored().await;
    let licenses = one_each(&service, &histories).await;
    each_names_one_license(&rows(&url).await, licenses.len());
    made_once(stub, &licenses).await;
    deployment.finish(service).await;
}

#[tokio::test]
async fn a_log_that_went_another_way_while_nats_was_away_gets_back_every_event_that_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    let setup = Setup { settings: stub.settings(), ..Setup::default() };
    // Here the relay may remove the stream, and does.
    let deployment = Deployment::on(vec![Nats::start()], &setup);
    went_another_way(deployment, &stub, async |_: &Deployment, _: &Service| {}).await;
    stub.stop().await;
}

#[tokio::test]
async fn a_mirror_of_another_history_waits_for_a_person_where_no_role_may_remove_it() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    let deployment = Deployment::new(&Setup { settings: stub.settings(), ..Setup::default() });
    went_another_way(deployment, &stub, async |deployment: &Deployment, service: &Service| {
        until("the case of the mirror", PATIENCE, async || {
            let open = service.open_cases("mirror_diverged").await;
            if open.len() == 1 { Ok(()) } else { Err(format!("{open:#?}")) }
        })
        .await;
        context(&deployment.nats_url()).await.unwrap().delete_stream(STREAM).await.unwrap();
    })
    .await;
    stub.stop().await;
}
