//! What the views' routes answer.

use serde_json::{Value, json};

use crate::app::{self, ADMIN, App, VIEWER, problem_of};
use crate::{on_both, shop};

on_both! {
    status_says_how_far_each_part_is,
    a_customer_comes_with_all_that_hangs_on_them,
    a_subscription_comes_with_all_that_hangs_on_it,
    a_list_shows_what_one_shows,
    a_case_says_who_what_since_when_and_why,
    a_license_shows_its_key_masked,
    pages_of_every_list_follow_each_other,
    licenses_are_found_by_what_support_has_at_hand,
    customers_that_share_one_at_an_engine_are_shown,
    prices_that_mean_nothing_are_listed_with_their_money,
    the_last_comparison_with_stripe_is_shown,
    states_are_shown_as_of_the_time_asked_about,
    live_and_test_are_never_mixed,
    a_slip_in_a_source_or_a_kind_does_not_read_as_all_is_well,
    what_is_not_there_is_not_found,
    revealing_a_key_is_recorded_by_name_before_it_is_shown,
    a_viewer_sees_no_key_and_leaves_no_trace,
    a_license_file_verifies_offline_and_other_engines_have_none,
}

async fn status_says_how_far_each_part_is(app: App) {
    insta::assert_json_snapshot!("status_says_how_far_each_part_is", app.get("/api/v1/status").await);
    let response = app.send(app.request("GET", "/api/v1/customers").bearer_auth(ADMIN)).await;
    assert_eq!(response.headers()["keyledger-position"], "10");
    assert_eq!(response.headers()["cache-control"], "no-store");
}

async fn a_customer_comes_with_all_that_hangs_on_them(app: App) {
    insta::assert_json_snapshot!(
        "a_customer_comes_with_all_that_hangs_on_them",
        app.get("/api/v1/customers/cus_ana").await
    );
}

async fn a_subscription_comes_with_all_that_hangs_on_it(app: App) {
    insta::assert_json_snapshot!(
        "a_subscription_comes_with_all_that_hangs_on_it",
        app.get("/api/v1/subscriptions/sub_li").await
    );
}

async fn a_list_shows_what_one_shows(app: App) {
    for (list, one) in [
        ("/api/v1/customers?limit=1", "/api/v1/customers/cus_li"),
        ("/api/v1/subscriptions?limit=1", "/api/v1/subscriptions/sub_li"),
    ] {
        assert_eq!(app.get(list).await["data"][0], app.get(one).await);
    }
    let case = format!("/api/v1/cases/{}", shop::no_key());
    assert_eq!(app.get("/api/v1/cases?kind=no_key&status=open").await["data"][0], app.get(&case).await);
}

async fn a_case_says_who_what_since_when_and_why(app: App) {
    insta::assert_json_snapshot!("a_case_says_who_what_since_when_and_why", app.get("/api/v1/cases?status=open").await);
}

async fn a_license_shows_its_key_masked(app: App) {
    let license = app.get(&format!("/api/v1/licenses/{}", shop::license())).await;
    assert_eq!(license["key"], shop::key().masked());
    insta::assert_json_snapshot!("a_license_shows_its_key_masked", license);
}

async fn pages_of_every_list_follow_each_other(app: App) {
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

async fn licenses_are_found_by_what_support_has_at_hand(app: App) {
    for (filter, count) in [
        ("subscription=sub_ana", 2),
        ("customer=cus_ana", 2),
        ("email=Ana@example.com", 2),
        ("provider_id=88121", 1),
        ("provider_id=812345", 1),
        ("provider_id=8123", 0),
        ("customer=cus_ana&provider_id=88121", 1),
        ("subscription=sub_li", 0),
        ("session=cs_none", 0),
    ] {
        let page = app.get(&format!("/api/v1/licenses?{filter}")).await;
        assert_eq!(page["data"].as_array().unwrap().len(), count, "{filter}");
    }
}

async fn customers_that_share_one_at_an_engine_are_shown(app: App) {
    let linked = app.get("/api/v1/customers/cus_ana").await["provider_customers"].clone();
    let [ana] = &linked.as_array().unwrap()[..] else { panic!("{linked}") };
    assert_eq!((&ana["provider"], &ana["id"], &ana["shared"]), (&json!("cryptolens"), &json!("9001"), &json!(true)));
    assert_eq!(ana["shared_with"], json!(["cus_twin"]));
    assert_eq!(app.get("/api/v1/customers/cus_li").await["provider_customers"], json!([]));
}

async fn prices_that_mean_nothing_are_listed_with_their_money(app: App) {
    let prices = app.get("/api/v1/catalog/unmapped").await;
    let expected = json!([{
        "source": "default", "account": null, "mode": "live", "price": "price_other", "product": "prod_9", "times": 3,
        "amounts": [{"amount_minor": 2000, "currency": "eur"}, {"amount_minor": 500, "currency": "usd"}],
        "since": "2026-03-01T00:00:00Z", "cases_open": 0,
    }]);
    assert_eq!(prices, expected);
    shop::run(&app, "update obligation set cause = 'unmapped_price', price = 'price_other' where purchase = 'sub_li'")
        .await;
    assert_eq!(app.get("/api/v1/catalog/unmapped").await[0]["cases_open"], 1);
    assert_eq!(app.get("/api/v1/catalog/unmapped?mode=test").await, json!([]));
}

async fn the_last_comparison_with_stripe_is_shown(app: App) {
    let last = app.get("/api/v1/status").await["reconciled"][0].clone();
    assert_eq!((&last["source"], &last["at"]), (&json!("default"), &json!("2026-03-11T00:00:00Z")));
    assert_eq!((&last["events_seen"], &last["events_appended"]), (&json!(9), &json!(1)));
    assert_eq!(app.get("/api/v1/status?mode=test").await["reconciled"], json!([]));
}

async fn states_are_shown_as_of_the_time_asked_about(app: App) {
    for (at, state) in
        [("2026-03-31T00:00:00Z", "active"), ("2026-04-01T00:00:00Z", "grace"), ("2026-04-04T00:00:00Z", "expired")]
    {
        let license = app.get(&format!("/api/v1/licenses/{}?at={at}", shop::license())).await;
        assert_eq!(license["state"], state, "{at}");
    }
}

async fn live_and_test_are_never_mixed(app: App) {
    let ids = |page: Value| page["data"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(app.get("/api/v1/customers").await), ["cus_li", "cus_ana"]);
    assert_eq!(ids(app.get("/api/v1/customers?mode=test").await), ["cus_bo"]);
    assert_eq!(app.problem("/api/v1/customers/cus_bo").await["code"], "not_found");
}

async fn a_slip_in_a_source_or_a_kind_does_not_read_as_all_is_well(app: App) {
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

async fn what_is_not_there_is_not_found(app: App) {
    for path in ["customers/cus_x", "subscriptions/sub_x", "licenses/x", "licenses/x/file", "cases/x", "events/x"] {
        assert_eq!(app.problem(&format!("/api/v1/{path}")).await["code"], "not_found", "{path}");
    }
}

async fn revealing_a_key_is_recorded_by_name_before_it_is_shown(app: App) {
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

async fn a_viewer_sees_no_key_and_leaves_no_trace(app: App) {
    let path = format!("/api/v1/licenses/{}?reveal=true", shop::license());
    let response = app.send(app.request("GET", &path).bearer_auth(VIEWER)).await;
    assert_eq!(problem_of(response).await["code"], "forbidden");
    assert_eq!(app.get("/api/v1/events?type=operator.*").await["data"], json!([]));
}

async fn a_license_file_verifies_offline_and_other_engines_have_none(app: App) {
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
    shop::run(&other, "delete from customer where id = 'cus_li'").await;
    std::fs::rename(file(other.dir.path()), file(app.dir.path())).unwrap();
    assert_eq!(app.get("/api/v1/customers").await["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_schema_of_views_may_come_and_go_and_be_another_builds() {
    let app = shop::open_on_postgres().await;
    let ready = async || app.send(app.request("GET", "/health/ready")).await.status().as_u16();
    assert_eq!((ready().await, app.get("/api/v1/customers").await["data"].as_array().unwrap().len()), (200, 2));
    shop::run(&app, "alter schema keyledger_views rename to keyledger_views_old").await;
    assert_eq!((ready().await, app.problem("/api/v1/customers").await["code"].as_str()), (503, Some("not_ready")));
    assert_eq!(app.get("/api/v1/status").await["projector"]["position"], 0);
    shop::run(&app, "alter schema keyledger_views_old rename to keyledger_views").await;
    assert_eq!((ready().await, app.get("/api/v1/customers").await["data"].as_array().unwrap().len()), (200, 2));
    shop::run(&app, "update view_meta set projection_version = 0").await;
    assert_eq!((ready().await, app.problem("/api/v1/customers").await["code"].as_str()), (503, Some("not_ready")));
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_waited_for() {
    let mut app = shop::open_on_postgres().await;
    assert_eq!(app.get("/api/v1/customers").await["data"].as_array().unwrap().len(), 2);
    app.server.as_mut().unwrap().kill();
    assert_eq!(app.problem("/api/v1/customers").await["code"], "not_ready");
    assert_eq!(app.send(app.request("GET", "/health/ready")).await.status(), 503);
    assert_eq!(app.send(app.request("GET", "/health/live")).await.status(), 200);
    app.server.as_mut().unwrap().start_again();
    assert_eq!(app.get("/api/v1/customers").await["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn health_and_metrics_are_shown_without_a_token_and_name_nobody() {
    let app = app::start().await;
    let text = async |path: &str| {
        let response = app.send(app.request("GET", path)).await;
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(text("/health/live").await, (200, "{\"live\":true}".to_owned()));
    let missing = r#"{"ready":false,"checks":[{"name":"log","ok":true},{"name":"views","ok":false,"reason":"there are none of this version yet"}]}"#;
    assert_eq!(text("/health/ready").await, (503, missing.to_owned()));
    assert_eq!(text("/metrics").await, (200, "keyledger_test 1\n".to_owned()));
}

#[tokio::test]
async fn the_mirrors_position_is_the_one_that_was_handed_in() {
    let app = app::start_mirrored(|| Some(9)).await;
    assert_eq!(app.get("/api/v1/status").await["mirror"], json!({"position": 9}));
    let app = app::start_mirrored(|| None).await;
    assert_eq!(app.get("/api/v1/status").await["mirror"], Value::Null);
}
