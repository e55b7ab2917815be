//! Who was charged and has no key is in view while nobody issues, and goes by itself.

use std::time::Duration;

use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::support::client::Caller;
use crate::support::setup::Setup;
use crate::support::state::stripe_id;
use crate::support::stories::{VERSIONS, story};
use crate::support::stub::Stub;
use crate::support::wait::{PATIENCE, until};

/// The promise: a person sees it that soon.
const IN_VIEW_WITHIN: Duration = Duration::from_secs(5);

/// The subscription of story a.
const SUBSCRIPTION: &str = "sub_1w95DJB7WZ01zgkWKk3BnmFz";

/// The one open case of a kind, as soon as there is one.
async fn the_case(caller: &Caller, kind: &str, within: Duration) -> Value {
    until(kind, within, async || {
        let mut open = caller.open_cases(kind).await;
        if open.len() == 1 { Ok(open.remove(0)) } else { Err(format!("{} are open", open.len())) }
    })
    .await
}

async fn is_closed(caller: &Caller, id: &Value) {
    until("the case closes", PATIENCE, async || {
        let case = caller.get(&format!("/cases/{}", id.as_str().unwrap())).await;
        if case["status"] == "closed" { Ok(()) } else { Err(case.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_charge_without_key_is_in_view_within_five_seconds_and_closes_when_the_issuer_starts() {
    for version in VERSIONS {
        let deployment = Deployment::new(&Setup::default());
        let service = deployment.up_with(&["--without", "issuer"]).await;
        service.post_all("default", &story("a").between(version, 1, 7)).await;
        let case = the_case(&service, "no_key", IN_VIEW_WITHIN).await;
        assert_eq!(case["cause"], "issuer_behind");
        assert_eq!(stripe_id(&case), SUBSCRIPTION);
        assert_eq!(case["amount"], json!({"amount_minor": 2000, "currency": "usd"}));
        assert_eq!(case["customer"], "cus_flVtZ7z4OIuARq");
        assert!(!case["next"].as_str().unwrap().is_empty());
        assert_eq!(service.list("/licenses?").await, Vec::<Value>::new());
        service.stop().await;

        let service = deployment.up().await;
        is_closed(&service, &case["id"]).await;
        service.caught_up().await;
        assert_eq!(service.list(&format!("/licenses?subscription={SUBSCRIPTION}")).await.len(), 1);
        assert_eq!(service.open_cases("no_key").await, Vec::<Value>::new());
        deployment.finish(service).await;
    }
}

#[tokio::test]
async fn a_renewal_that_the_engine_refuses_is_in_view_and_closes_when_it_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    let deployment = Deployment::new(&Setup { settings: stub.settings(), ..Setup::default() });
    let service = deployment.up().await;
    let (story, version) = (story("a"), VERSIONS[1]);
    service.post_all("default", &story.between(version, 1, 9)).await;
    service.caught_up().await;
    let license = service.list("/licenses?").await.remove(0);
    let at_stub = license["provider_id"].as_str().unwrap();
    assert_eq!(stub.license(at_stub).await["expires_at"], "2026-09-02T09:15:42Z");

    let refusal = json!({"operation": "change", "fault": {"kind": "refuse", "reason": "the plan is locked"}});
    stub.misbehave(&json!({"script": [refusal]})).await;
    service.post_all("default", &story.between(version, 13, 20)).await;
    let case = until("the refusal is in view", IN_VIEW_WITHIN, async || {
        let case = the_case(&service, "not_extended", IN_VIEW_WITHIN).await;
        if case["cause"] == "provider_refused" { Ok(case) } else { Err(case.to_string()) }
    })
    .await;
    assert!(case["detail"].as_str().unwrap().contains("the plan is locked"), "{case:#}");
    assert_eq!(case["next_attempt_at"], Value::Null, "a refusal waits for a person");
    assert_eq!(stripe_id(&case), SUBSCRIPTION);

    stub.behave().await;
    deployment.json(0, &["cases", "retry", case["id"].as_str().unwrap(), "--by", "test"]).await;
    is_closed(&service, &case["id"]).await;
    service.caught_up().await;
    assert_eq!(stub.license(at_stub).await["expires_at"], "2026-10-03T09:15:42Z");
    assert_eq!(stub.stats().await["licenses"], 1);
    deployment.finish(service).await;
    stub.stop().await;
}

#[tokio::test]
async fn a_waived_charge_stays_closed_and_names_who_waived_it() {
    let deployment = Deployment::new(&Setup { settings: String::new(), ..Setup::default() });
    let service = deployment.up().await;
    service.post_all("default", &story("a").between(VERSIONS[1], 1, 9)).await;
    let case = the_case(&service, "no_key", IN_VIEW_WITHIN).await;
    service.caught_up().await;
    let id = case["id"].as_str().unwrap();
    assert_eq!(service.get(&format!("/cases/{id}")).await["cause"], "unmapped_price");
    deployment.json(0, &["cases", "waive", id, "--by", "ana", "--reason", "paid back by hand"]).await;
    until("the waiver is in view", PATIENCE, async || {
        let case = service.get(&format!("/cases/{id}")).await;
        let waived =
            case["status"] == "waived" && case["waived_by"] == "ana" && case["waived_reason"] == "paid back by hand";
        if waived { Ok(()) } else { Err(case.to_string()) }
    })
    .await;
    service.caught_up().await;
    assert_eq!(service.open_cases("no_key").await, Vec::<Value>::new());
    service.stop().await;

    // A catalog mended later does not issue what a person waived.
    deployment.configure(&Setup::default());
    let service = deployment.up().await;
    service.caught_up().await;
    assert_eq!(service.list("/licenses?").await, Vec::<Value>::new());
    deployment.finish(service).await;
}

#[tokio::test]
async fn a_mended_catalog_heals_an_unmapped_price_by_itself() {
    let deployment = Deployment::new(&Setup { settings: String::new(), ..Setup::default() });
    let service = deployment.up().await;
    service.post_all("default", &story("b").bodies(VERSIONS[0])).await;
    service.post_all("default", &story("a").between(VERSIONS[0], 1, 8)).await;
    service.caught_up().await;
    assert_eq!(service.open_cases("no_key").await.len(), 2);
    service.stop().await;
    deployment.configure(&Setup::default());
    let service = deployment.up().await;
    until("both are healed", PATIENCE, async || {
        let open = service.open_cases("no_key").await;
        if open.is_empty() { Ok(()) } else { Err(format!("{open:#?}")) }
    })
    .await;
    service.caught_up().await;
    assert_eq!(service.list("/licenses?").await.len(), 2);
    deployment.finish(service).await;
}
