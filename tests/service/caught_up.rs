//! The status is what people and programs wait on: when it says that all is caught up, all is done.

use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::support::client::Caller;
use crate::support::histories::{History, histories};
use crate::support::setup::Setup;
use crate::support::stub::Stub;

/// Asks without a pause until the status says that all is caught up, as of the first time it does.
async fn at_once_caught_up(caller: &Caller) {
    loop {
        let status = caller.get("/status").await;
        let position = |part: &str| status[part]["position"].clone();
        let is_level = position("log") == position("issuer") && position("log") == position("projector");
        if is_level && status["issuer"]["due_now"] == 0 {
            return;
        }
    }
}

/// Sells one thing after the other. Each time the status says so, the license is there.
async fn sells(caller: &Caller, histories: &[History]) {
    for history in histories {
        caller.post_together("default", &history.bodies, 4).await;
        at_once_caught_up(caller).await;
        let rows = caller.list("/licenses?at=2026-08-02T00:00:00Z").await;
        let row = rows.iter().find(|row| row["purchase"]["stripe_id"] == history.purchase.as_str());
        let row = row.unwrap_or_else(|| panic!("{} has no license yet", history.purchase));
        let expected = if history.is_paid { "active" } else { "revoked" };
        assert_eq!(row["state"], expected, "{row:#}");
        assert_eq!(caller.open_cases("no_key").await, Vec::<Value>::new());
        assert_eq!(caller.open_cases("not_extended").await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn caught_up_means_that_every_key_is_there() {
    let deployment = Deployment::new(&Setup::default());
    let service = deployment.up().await;
    sells(&service, &histories(60)).await;
    deployment.finish(service).await;
}

#[tokio::test]
async fn caught_up_means_that_no_call_is_in_hand() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    let slow = json!({"operation": "any", "fault": {"kind": "slow", "delay_ms": 80}});
    stub.misbehave(&json!({"script": [slow]})).await;
    let deployment = Deployment::new(&Setup { settings: stub.settings(), ..Setup::default() });
    let service = deployment.up().await;
    sells(&service, &histories(15)).await;
    deployment.finish(service).await;
    stub.stop().await;
}
