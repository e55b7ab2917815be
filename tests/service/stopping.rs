//! SIGTERM under load: what is in hand is finished, nothing that was answered is lost, and the process leaves in peace.

use std::time::Duration;

use crate::deployment::Deployment;
use crate::support::histories::histories;
use crate::support::load::Load;
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};
use crate::support::wait::{PATIENCE, until};

#[tokio::test]
async fn a_service_that_is_told_to_stop_under_load_leaves_in_peace_and_loses_nothing() {
    let histories = histories(300);
    let load = Load::of(&histories, 5);
    load.release_all();
    let deployment = Deployment::new(&Setup::default());
    for enough in [40, 120, 200] {
        let service = deployment.up().await;
        let (caller, refused) = (service.client.clone(), load.refused());
        let stopping =
            async {
                until("some load", PATIENCE, async || {
                    if load.taken() >= enough { Ok(()) } else { Err(load.taken().to_string()) }
                })
                .await;
                service.stop().await;
            };
        tokio::join!(stopping, load.deliver(&caller, 16));
        assert!(load.refused() > refused, "there was no load left to stop under");
        // Nothing is left unread: issuer and views have come to the end of the log, and agree.
        deployment.audit().await;
    }
    let service = deployment.up().await;
    load.is_kept(&service).await;
    load.deliver(&service.client, 16).await;
    assert!(load.is_done());
    service.caught_up().await;
    load.is_kept(&service).await;
    let works = service.list("/licenses?at=2026-08-02T00:00:00Z").await;
    let works = works.iter().filter(|row| row["state"] == "active").count();
    assert_eq!(works, histories.iter().filter(|history| history.is_paid).count());
    deployment.finish(service).await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let deployment = Deployment::new(&Setup::default());
    let service = deployment.up().await;
    // A sender that never finishes keeps the first stop waiting.
    let address = service.ingest.trim_start_matches("http://").to_owned();
    let mut slow = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = "POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(&mut slow, head.as_bytes()).await.unwrap();
    service.post_all("default", &story("b").bodies(VERSIONS[0])).await;
    service.process.ask_to_stop().await;
    until("the stop begins", PATIENCE, async || {
        if deployment.said().contains("finishing what is in hand") { Ok(()) } else { Err(deployment.said()) }
    })
    .await;
    service.process.ask_to_stop().await;
    let began = std::time::Instant::now();
    let status = service.process.left().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(status.code(), Some(1), "a stop that dropped something is not a success");

    let service = deployment.up().await;
    service.caught_up().await;
    assert_eq!(service.list("/licenses?").await.len(), 1);
    deployment.finish(service).await;
}
