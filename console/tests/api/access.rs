//! Who is let in.

use serde_json::json;

use crate::app::{self, ADMIN, VIEWER, problem_of};

#[tokio::test]
async fn every_route_needs_a_token() {
    let app = app::start().await;
    for (method, path) in [
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/customers"),
        ("GET", "/api/v1/customers/cus_1"),
        ("GET", "/api/v1/subscriptions"),
        ("GET", "/api/v1/subscriptions/sub_1"),
        ("GET", "/api/v1/licenses"),
        ("GET", "/api/v1/licenses/x"),
        ("GET", "/api/v1/licenses/x/file"),
        ("GET", "/api/v1/cases"),
        ("GET", "/api/v1/cases/x"),
        ("POST", "/api/v1/cases/x/retry"),
        ("POST", "/api/v1/cases/x/waive"),
        ("POST", "/api/v1/cases/x/attach"),
        ("GET", "/api/v1/events"),
        ("GET", "/api/v1/events/x"),
        ("GET", "/api/v1/events/x/raw"),
        ("GET", "/api/v1/search?q=x"),
    ] {
        let response = app.send(app.request(method, path)).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"keyledger\"", "{path}");
        assert_eq!(problem_of(response).await["code"], "unauthorized", "{path}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_told_that_it_is_wrong() {
    let app = app::start().await;
    let response = app.send(app.request("GET", "/api/v1/events").bearer_auth("guess")).await;
    let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert!(challenge.contains("invalid_token"), "{challenge}");
    assert_eq!(problem_of(response).await["status"], 401);
}

#[tokio::test]
async fn the_document_and_the_problem_pages_are_for_everybody() {
    let app = app::start().await;
    for path in ["/api/v1/openapi.json", "/problems/not_found"] {
        assert_eq!(app.send(app.request("GET", path)).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_viewer_may_read_and_not_repair() {
    let app = app::start().await;
    assert_eq!(app.send(app.request("GET", "/api/v1/events").bearer_auth(VIEWER)).await.status(), 200);
    for (path, body) in [
        ("retry", json!({})),
        ("waive", json!({"name": "Ana", "reason": "test"})),
        ("attach", json!({"provider": "cryptolens", "provider_id": "1", "reason": "test"})),
    ] {
        let request = app.request("POST", &format!("/api/v1/cases/kl_cas_{:032}/{path}", 1)).bearer_auth(VIEWER);
        let response = app.send(request.header("content-type", "application/json").body(body.to_string())).await;
        assert_eq!(problem_of(response).await["code"], "forbidden", "{path}");
    }
}

#[tokio::test]
async fn this_machine_goes_without_a_token_where_it_is_allowed_but_web_pages_do_not() {
    let app = app::start_with(keyledger_console::access::Access::with_loopback).await;
    assert_eq!(app.send(app.request("GET", "/api/v1/events")).await.status(), 200);
    let page = app.request("GET", "/api/v1/events").header("origin", "https://elsewhere.example");
    assert_eq!(app.send(page).await.status(), 401);
    let rebound = app.request("GET", "/api/v1/events").header("host", "elsewhere.example");
    assert_eq!(app.send(rebound).await.status(), 401);
    let proxied = app.request("GET", "/api/v1/events").header("x-forwarded-for", "203.0.113.9");
    assert_eq!(app.send(proxied).await.status(), 401);
    assert_eq!(app.send(app.request("GET", "/api/v1/events").bearer_auth(ADMIN)).await.status(), 200);
}
