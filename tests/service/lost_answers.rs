//! A license that was made though its answer was lost is found again, whatever happened meanwhile.

use serde_json::json;

use crate::deployment::Deployment;
use crate::support::histories::histories;
use crate::support::setup::Setup;
use crate::support::stub::Stub;
use crate::support::wait::{PATIENCE, until};

#[tokio::test]
async fn a_license_whose_money_went_back_while_its_answer_was_lost_is_found_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    let lost = json!({"operation": "create", "count": 1, "fault": {"kind": "commit_then_drop"}});
    stub.misbehave(&json!({"script": [lost]})).await;
    let deployment = Deployment::new(&Setup { settings: stub.settings(), ..Setup::default() });
    let service = deployment.up().await;
    let refunded = histories(5).into_iter().find(|history| !history.is_paid).unwrap();
    let (refund, before) = refunded.bodies.split_last().unwrap();
    service.post_all("default", before).await;
    until("the license is made", PATIENCE, async || {
        let stats = stub.stats().await;
        if stats["licenses"] == 1 { Ok(()) } else { Err(stats.to_string()) }
    })
    .await;
    service.post_all("default", std::slice::from_ref(refund)).await;

    let found = until("the license is found and revoked", PATIENCE, async || {
        let rows = service.list("/licenses?").await;
        let found = rows.iter().find(|row| row["state"] == "revoked" && row["provider_id"].is_string());
        found.cloned().ok_or_else(|| format!("{rows:#?}"))
    })
    .await;
    service.caught_up().await;
    let held = stub.license(found["provider_id"].as_str().unwrap()).await;
    assert_eq!(held["state"], "revoked");
    let stats = stub.stats().await;
    assert_eq!((&stats["licenses"], &stats["calls"]["create"]["commit_then_drop"]), (&json!(1), &json!(1)));
    deployment.finish(service).await;
    stub.stop().await;
}
