//! Live and test, connected accounts, and sources are never mixed, though the ids are the same.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};

/// A subscription that is paid once, with these fields of each event set otherwise.
fn paid_with(field: &str, value: &Value) -> Vec<Vec<u8>> {
    let change = |body: Vec<u8>| {
        let mut event: Value = serde_json::from_slice(&body).unwrap();
        event[field] = value.clone();
        serde_json::to_vec(&event).unwrap()
    };
    story("a").between(VERSIONS[1], 1, 10).into_iter().map(change).collect()
}

#[tokio::test]
async fn what_happens_in_test_mode_is_kept_and_shown_and_issues_nothing() {
    let deployment = Deployment::new(&Setup::default());
    let service = deployment.up().await;
    service.post_all("default", &paid_with("livemode", &json!(false))).await;
    service.caught_up().await;
    assert_eq!(service.list("/customers?mode=test").await.len(), 1);
    assert_eq!(service.list("/subscriptions?mode=test").await.len(), 1);
    assert_eq!(service.list("/events?mode=test&type=stripe.*").await.len(), 10);
    for nothing in ["/customers?mode=live", "/subscriptions?mode=live", "/licenses?mode=live", "/licenses?mode=test"] {
        assert_eq!(service.list(nothing).await, Vec::<Value>::new(), "{nothing}");
    }
    for mode in ["live", "test"] {
        let open = service.list(&format!("/cases?mode={mode}&kind=no_key&status=open")).await;
        assert_eq!(open, Vec::<Value>::new(), "{mode}");
    }
    // The same ids in live mode are another purchase.
    service.post_all("default", &paid_with("livemode", &json!(true))).await;
    service.caught_up().await;
    assert_eq!(service.list("/licenses?mode=live").await.len(), 1);
    assert_eq!(service.list("/licenses?mode=test").await, Vec::<Value>::new());
    deployment.finish(service).await;
}

#[tokio::test]
async fn the_same_ids_of_two_accounts_and_two_sources_are_four_purchases_with_four_keys() {
    let sources = ["default", "shop"].map(str::to_owned).to_vec();
    let deployment = Deployment::new(&Setup { sources: sources.clone(), ..Setup::default() });
    let service = deployment.up().await;
    for source in &sources {
        for account in ["acct_1NorthSea", "acct_1SouthSea"] {
            service.post_all(source, &paid_with("account", &json!(account))).await;
        }
    }
    service.caught_up().await;
    let mut keys: Vec<String> = Vec::new();
    for row in service.list("/licenses?").await {
        let shown = service.get(&format!("/licenses/{}?reveal=true", row["id"].as_str().unwrap())).await;
        keys.push(shown["key"].as_str().unwrap().to_owned());
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4, "each has a key of its own");
    for source in &sources {
        assert_eq!(service.list(&format!("/licenses?source={source}")).await.len(), 2);
    }
    let theirs = paid_with("account", &json!("acct_1NorthSea"));
    let refused = service.try_post("shop", &theirs[0]).await.unwrap();
    assert_eq!(refused, StatusCode::CONFLICT, "an event that another source has shows that both are one account");
    service.caught_up().await;
    deployment.finish(service).await;
}
