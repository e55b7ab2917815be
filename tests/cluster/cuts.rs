//! The network between ingest and its servers is cut, or carries nothing: all heals by itself.

use std::time::{Duration, Instant};

use keyledger_test_servers::Link;
use reqwest::StatusCode;

use crate::deployment::{Deployment, Member, Role, Service};
use crate::support::histories::histories;
use crate::support::setup::Setup;
use crate::support::sold::{issued_once, one_each};
use crate::support::wait::until;
use crate::traffic::{sell, taken_in_the_end};

/// How soon a webhook is answered that cannot be kept.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);

/// All roles, of which ingest has one setting otherwise.
async fn up_with_ingest(deployment: &Deployment, setting: &str, value: String) -> Service {
    let mut command = deployment.command(&["ingest"]);
    Role::Ingest.tell(&mut command);
    command.env(setting, value);
    let mut members = vec![Member::new(Role::Ingest, deployment.folder.start(command).await.unwrap())];
    for role in [Role::Issuer, Role::Projector, Role::Console] {
        members.push(deployment.start(role).await);
    }
    Service::new(members)
}

#[tokio::test]
async fn a_cut_between_ingest_and_nats_heals_by_itself() {
    let histories = histories(20);
    let deployment = Deployment::new(&Setup::default());
    let link = Link::to(deployment.nats[0].port()).await;
    let url = format!("nats://127.0.0.1:{}", link.port());
    let service = up_with_ingest(&deployment, "KEYLEDGER_NATS__URL", url).await;
    sell(&service, &histories[..5]).await;
    deployment.is_mirrored().await;
    for (cut, sold) in [Link::cut, Link::silence, Link::cut].into_iter().zip(histories[5..].chunks(5)) {
        cut(&link);
        // The others reach NATS, where nothing arrives any more.
        sell(&service, sold).await;
        link.mend();
        deployment.is_mirrored().await;
    }
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}

#[tokio::test]
async fn a_cut_between_ingest_and_postgresql_is_answered_with_503_and_heals_by_itself() {
    let histories = histories(15);
    let deployment = Deployment::new(&Setup::default());
    let link = Link::to(deployment.postgres.port()).await;
    let url = deployment.postgres.url().replace(&deployment.postgres.port().to_string(), &link.port().to_string());
    let mut service = up_with_ingest(&deployment, "KEYLEDGER_LOG", url).await;
    sell(&service, &histories[..5]).await;
    for (cut, sold) in [Link::cut, Link::silence].into_iter().zip(histories[5..].chunks(5)) {
        cut(&link);
        let began = Instant::now();
        let status = service.try_post("default", &sold[0].bodies[0]).await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(began.elapsed() < REFUSED_WITHIN, "answered after {:?}", began.elapsed());
        until("ingest says that it is not ready", REFUSED_WITHIN, async || {
            if service.first(Role::Ingest).is_well("ready").await { Err("it is".to_owned()) } else { Ok(()) }
        })
        .await;
        link.mend();
        taken_in_the_end(&service, &sold[0].bodies[0]).await;
        service.all_run();
        sell(&service, sold).await;
    }
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}
