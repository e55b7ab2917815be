//! Every refusal is a problem that says what is wrong.

use serde_json::json;

use crate::app::{self, ADMIN, problem_of};

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let app = app::start().await;
    assert_eq!(app.problem("/api/v1/nothing").await["code"], "not_found");
    assert_eq!(app.problem("/").await["code"], "not_found");
    let response = app.send(app.request("DELETE", "/api/v1/status").bearer_auth(ADMIN)).await;
    assert!(response.headers()["allow"].to_str().unwrap().contains("GET"));
    assert_eq!(problem_of(response).await["code"], "method_not_allowed");
}

#[tokio::test]
async fn every_wrong_parameter_is_named_at_once() {
    let app = app::start().await;
    let problem = app.problem("/api/v1/licenses?mode=prod&at=noon&limit=201&subcription=sub_1&reveal=yes").await;
    assert_eq!(problem["code"], "validation_failed");
    insta::assert_json_snapshot!(problem["errors"]);
}

#[tokio::test]
async fn cursors_that_were_made_up_are_refused() {
    let app = app::start().await;
    for path in ["customers", "subscriptions", "licenses", "cases", "events"] {
        // Without views the views' routes would answer 503, so the log's route stands for all here.
        let problem = app.problem(&format!("/api/v1/{path}?after=made-up")).await;
        let expected = if path == "events" { "validation_failed" } else { "not_ready" };
        assert_eq!(problem["code"], expected, "{path}");
    }
}

#[tokio::test]
async fn an_address_longer_than_any_search_is_refused() {
    let app = app::start().await;
    let problem = app.problem(&format!("/api/v1/search?q={}", "a".repeat(9000))).await;
    assert_eq!(problem["code"], "address_too_long");
    let problem = app.problem(&format!("/api/v1/search?q={}", "a".repeat(2000))).await;
    assert_eq!(problem["code"], "validation_failed");
}

#[tokio::test]
async fn a_search_that_cannot_be_read_is_pointed_at() {
    let app = app::start().await;
    let problem = app.problem("/api/v1/search?q=ana%20emial%3Ax").await;
    assert_eq!(problem["errors"][0]["column"], 5);
    assert_eq!(problem["errors"][0]["suggestion"], "email");
    assert_eq!(app.problem("/api/v1/search").await["errors"][0]["parameter"], "q");
}

#[tokio::test]
async fn bodies_must_be_json_of_the_right_shape_and_size() {
    let app = app::start().await;
    let path = format!("/api/v1/cases/kl_cas_{:032}/waive", 1);
    let send = async |body: String, kind: &str| {
        let request = app.request("POST", &path).bearer_auth(ADMIN).header("content-type", kind).body(body);
        problem_of(app.send(request).await).await
    };
    let whole = json!({"name": "Ana", "reason": "paid twice"}).to_string();
    assert_eq!(send(whole.clone(), "text/plain").await["code"], "unsupported_media_type");
    assert_eq!(send("{".to_owned(), "application/json").await["code"], "validation_failed");
    assert_eq!(send(json!({"name": "Ana"}).to_string(), "application/json").await["code"], "validation_failed");
    assert_eq!(send(json!({"name": "A", "reason": "b", "x": 1}).to_string(), "application/json").await["status"], 400);
    assert_eq!(send(" ".repeat(70_000) + &whole, "application/json").await["code"], "too_large");
    let blank = send(json!({"name": " ", "reason": ""}).to_string(), "application/json; charset=utf-8").await;
    assert_eq!(blank["errors"][0]["pointer"], "/name");
    assert_eq!(blank["errors"][1]["pointer"], "/reason");
}

#[tokio::test]
async fn missing_views_are_not_ready_and_say_when_to_ask_again() {
    let app = app::start().await;
    let response = app.send(app.request("GET", "/api/v1/cases").bearer_auth(ADMIN)).await;
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(problem_of(response).await["code"], "not_ready");
}

#[tokio::test]
async fn before_there_are_views_the_status_says_that_the_projector_is_at_the_start() {
    let app = app::start().await;
    app.append(vec![keyledger_eventlog::testing::event("e1", "s", "{}")]).await;
    let status = app.get("/api/v1/status").await;
    assert_eq!((&status["log"]["position"], &status["projector"]["position"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn no_problem_page_is_missing() {
    let app = app::start().await;
    for (code, _) in keyledger_console::problem::CODES {
        let response = app.send(app.request("GET", &format!("/problems/{code}"))).await;
        assert!(response.text().await.unwrap().starts_with(code));
    }
    let response = app.send(app.request("GET", "/problems/other")).await;
    assert_eq!(problem_of(response).await["code"], "not_found");
}
