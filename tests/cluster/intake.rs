//! Intake needs PostgreSQL and nothing else: without NATS webhooks are taken, without PostgreSQL they are refused in time.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::deployment::Deployment;
use crate::support::histories::histories;
use crate::support::setup::Setup;
use crate::support::sold::{issued_once, one_each};
use crate::traffic::{sell, taken_in_the_end};

/// How soon it must be known that PostgreSQL is gone, or back.
const KNOWN_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn webhooks_are_taken_and_licenses_made_while_nats_is_away() {
    let histories = histories(15);
    let mut deployment = Deployment::new(&Setup::default());
    deployment.nats[0].stop();
    let service = deployment.up().await;
    sell(&service, &histories[..5]).await;
    deployment.nats[0].start_again();
    deployment.is_mirrored().await;

    deployment.nats[0].kill();
    sell(&service, &histories[5..10]).await;
    deployment.nats[0].start_again();
    deployment.is_mirrored().await;

    // It is there and does not answer.
    deployment.nats[0].freeze();
    sell(&service, &histories[10..]).await;
    deployment.nats[0].thaw();
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}

#[tokio::test]
async fn without_postgresql_webhooks_get_503_and_all_heals_by_itself() {
    let histories = histories(15);
    let mut deployment = Deployment::new(&Setup::default());
    let mut service = deployment.up().await;
    sell(&service, &histories[..5]).await;
    for (index, sold) in histories[5..].chunks(5).enumerate() {
        if index == 0 {
            deployment.postgres.kill();
        } else {
            deployment.postgres.stop();
        }
        let began = Instant::now();
        let refused = service.try_post("default", &sold[0].bodies[0]).await.unwrap();
        assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
        assert!(began.elapsed() < KNOWN_WITHIN, "answered after {:?}", began.elapsed());
        service.are_ready(false, KNOWN_WITHIN).await;

        deployment.postgres.start_again();
        service.are_ready(true, KNOWN_WITHIN).await;
        service.all_run();
        taken_in_the_end(&service, &sold[0].bodies[0]).await;
        sell(&service, sold).await;
    }
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}
