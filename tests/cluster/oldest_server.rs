//! The oldest nats-server that is supported carries the same stories.

use keyledger_test_servers::OLDEST;

use crate::deployment::{Deployment, nats_with_rights};
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};

#[tokio::test]
async fn a_subscription_is_sold_and_mirrored_on_the_oldest_server() {
    let mut deployment = Deployment::on(vec![nats_with_rights(OLDEST)], &Setup::default());
    let service = deployment.up().await;
    service.post_all("default", &story("a").between(VERSIONS[1], 1, 12)).await;
    service.caught_up().await;
    deployment.is_mirrored().await;
    deployment.nats[0].kill();
    deployment.nats[0].start_again();
    service.post_all("default", &story("a").between(VERSIONS[1], 13, 37)).await;
    service.caught_up().await;
    let licenses = service.list("/licenses?at=2026-10-15T00:00:00Z").await;
    assert_eq!(licenses.len(), 1);
    assert_eq!(licenses[0]["state"], "active");
    deployment.finish(service).await;
}
