//! What the views' routes answer.

use serde_json::{Value, json};

use crate::app::{self, ADMIN, VIEWER, problem_of};
use crate::shop;

#[tokio::test]
async fn status_says_how_far_each_part_is() {
    let app = shop::open().await;
    insta::assert_json_snapshot!(app.get("/api/v1/status").await);
    let response = app.send(app.request("GET", "/api/v1/customers").bearer_auth(ADMIN)).await;
    assert_eq!(response.headers()["keyledger-position"], "10");
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn a_customer_comes_with_all_that_hangs_on_them() {
    let app = shop::open().await;
    insta::assert_json_snapshot!(app.get("/api/v1/customers/cus_ana").await);
}

#[tokio::test]
async fn a_subscription_comes_with_all_that_hangs_on_it() {
    let app = shop::open().await;
    insta::assert_json_snapshot!(app.get("/api/v1/subscriptions/sub_li").await);
}

#[tokio::test]
async fn a_list_shows_what_one_shows() {
    let app = shop::open().await;
    for (list, one) in [
        ("/api/v1/customers?limit=1", "/api/v1/customers/cus_li"),
        ("/api/v1/subscriptions?limit=1", "/api/v1/subscriptions/sub_li"),
    ] {
        assert_eq!(app.get(list).await["data"][0], app.get(one).await);
    }
    let case = format!("/api/v1/cases/{}", shop::no_key());
    assert_eq!(app.get("/api/v1/cases?kind=no_key&status=open").await["data"][0], app.get(&case).await);
}

#[tokio::test]
async fn a_case_says_who_what_since_when_and_why() {
    let app = shop::open().await;
    insta::assert_json_snapshot!(app.get("/api/v1/cases?status=open").await);
}

#[tokio::test]
async fn a_license_shows_its_key_masked() {
    let app = shop::open().await;
    let license = app.get(&format!("/api/v1/licenses/{}", shop::license())).await;
    assert_eq!(license["key"], shop::key().masked());
    insta::assert_json_snapshot!(license);
}

#[tokio::test]
async fn pages_of_every_list_follow_each_other() {
    let app = shop::open().await;
    for (list, count) in [("customers", 2), ("subscriptions", 2), ("licenses", 2), ("cases", 4)] {
        let whole = app.get(&format!("/api/v1/{list}?limit=200")).await;
        assert_eq!((whole["data"].as_array().unwrap().len(), &whole["next"]), (count, &Value::Null), "{list}");
        let mut seen = Vec::new();
        let mut after = String::new();
        for _ in 0..=count {
            let page = app.get(&format!("/api/v1/{list}?limit=1{after}")).await;
            seen.extend(page["data"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(Value::Array(seen), whole["data"], "{list}");
        let problem = app.problem(&format!("/api/v1/{list}?after=made-up")).await;
        assert_eq!(problem["errors"][0]["parameter"], "after", "{list}");
    }
}

#[tokio::test]
async fn licenses_are_found_by_what_support_has_at_hand() {
    let app = shop::open().await;
    for (filter, count) in [
        ("subscription=sub_ana", 2),
        ("customer=cus_ana", 2),
        ("email=Ana@example.com", 2),
        ("provider_id=88121", 1),
        ("customer=cus_ana&provider_id=88121", 1),
        ("subscription=sub_li", 0),
        ("session=cs_none", 0),
    ] {
        let page = app.get(&format!("/api/v1/licenses?{filter}")).await;
        assert_eq!(page["data"].as_array().unwrap().len(), count, "{filter}");
    }
}

#[tokio::test]
async fn states_are_shown_as_of_the_time_asked_about() {
    let app = shop::open().await;
    for (at, state) in
        [("2026-03-31T00:00:00Z", "active"), ("2026-04-01T00:00:00Z", "grace"), ("2026-04-04T00:00:00Z", "expired")]
    {
        let license = app.get(&format!("/api/v1/licenses/{}?at={at}", shop::license())).await;
        assert_eq!(license["state"], state, "{at}");
    }
}

#[tokio::test]
async fn live_and_test_are_never_mixed() {
    let app = shop::open().await;
    let ids = |page: Value| page["data"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(app.get("/api/v1/customers").await), ["cus_li", "cus_ana"]);
    assert_eq!(ids(app.get("/api/v1/customers?mode=test").await), ["cus_bo"]);
    assert_eq!(app.problem("/api/v1/customers/cus_bo").await["code"], "not_found");
}

#[tokio::test]
async fn a_slip_in_a_source_or_a_kind_does_not_read_as_all_is_well() {
    let app = shop::open().await;
    app.append(vec![shop::settings(&json!({}))]).await;
    for path in [
        "customers?source=nope",
        "cases?source=nope",
        "events?source=nope",
        "licenses?source=nope",
        "status?source=nope",
    ] {
        let problem = app.problem(&format!("/api/v1/{path}")).await;
        assert_eq!(problem["errors"][0]["parameter"], "source", "{path}");
        assert_eq!(problem["errors"][0]["detail"], "there is no source `nope`; known are `second`", "{path}");
    }
    let rows = |page: Value| page["data"].as_array().unwrap().len();
    // Configured without a sale, and not configured any more with sales.
    assert_eq!(rows(app.get("/api/v1/customers?source=second").await), 0);
    assert_eq!(rows(app.get("/api/v1/customers?source=default").await), 2);
    let problem = app.problem("/api/v1/cases?kind=no-key").await;
    assert_eq!(problem["errors"][0]["parameter"], "kind");
    assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("`no_key`, `not_extended`"), "{problem}");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let app = shop::open().await;
    for path in ["customers/cus_x", "subscriptions/sub_x", "licenses/x", "licenses/x/file", "cases/x", "events/x"] {
        assert_eq!(app.problem(&format!("/api/v1/{path}")).await["code"], "not_found", "{path}");
    }
}

#[tokio::test]
async fn revealing_a_key_is_recorded_by_name_before_it_is_shown() {
    let app = shop::open().await;
    let path = format!("/api/v1/licenses/{}?reveal=true", shop::license());
    assert_eq!(app.get(&path).await["key"], shop::key().expose());
    assert_eq!(app.get("/api/v1/licenses?reveal=true").await["data"][1]["key"], shop::key().expose());
    let shown = app.get("/api/v1/events?type=operator.key_revealed").await;
    // Each time is an event of its own.
    assert_eq!(shown["data"].as_array().unwrap().len(), 2);
    assert_eq!(shown["data"][0]["actor"], "api");
    let id = shown["data"][0]["id"].as_str().unwrap();
    assert_eq!(app.get(&format!("/api/v1/events/{id}")).await["data"], json!({"license": shop::license()}));
}

#[tokio::test]
async fn a_viewer_sees_no_key_and_leaves_no_trace() {
    let app = shop::open().await;
    let path = format!("/api/v1/licenses/{}?reveal=true", shop::license());
    let response = app.send(app.request("GET", &path).bearer_auth(VIEWER)).await;
    assert_eq!(problem_of(response).await["code"], "forbidden");
    assert_eq!(app.get("/api/v1/events?type=operator.*").await["data"], json!([]));
}

#[tokio::test]
async fn a_license_file_verifies_offline_and_other_engines_have_none() {
    let app = shop::open().await;
    let path = format!("/api/v1/licenses/{}/file", shop::license());
    let response = app.send(app.request("GET", &path).bearer_auth(ADMIN)).await;
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    let text = response.text().await.unwrap();
    let trusted = keyledger_engine::file::VerifyingKeys::of(&app::keys());
    let verified = keyledger_engine::file::verify(&text, &trusted, app::at("2026-03-12T09:30:00Z")).unwrap();
    assert_eq!(verified.payload.license, shop::license());
    assert_eq!((verified.payload.seats, verified.payload.key), (3, shop::key().masked()));
    let adopted = shop::unit("sub_adopted").license(1);
    assert_eq!(app.problem(&format!("/api/v1/licenses/{adopted}/file")).await["code"], "conflict");
}

#[tokio::test]
async fn views_that_a_replay_put_in_place_are_read_at_once() {
    let app = shop::open().await;
    assert_eq!(app.get("/api/v1/customers").await["data"].as_array().unwrap().len(), 2);
    let other = shop::open().await;
    let file = |dir: &std::path::Path| dir.join("views.db");
    let url = app::views_url(&other.dir);
    let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
    let mut db = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("delete from customer where id = 'cus_li'").execute(&mut db).await.unwrap();
    sqlx::Connection::close(db).await.unwrap();
    std::fs::rename(file(other.dir.path()), file(app.dir.path())).unwrap();
    assert_eq!(app.get("/api/v1/customers").await["data"].as_array().unwrap().len(), 1);
}
