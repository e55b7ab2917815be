//! The log as the API shows it.

use keyledger_eventlog::testing::event;
use keyledger_schemas::envelope::{Delivery, NewEvent};
use keyledger_schemas::ids::{Mode, Scope, SourceName};
use serde_json::{Value, json};

use crate::app::{self, ADMIN, App};

fn stripe(number: u32, kind: &str, mode: Mode) -> NewEvent {
    let scope = Scope::new(SourceName::default(), mode);
    let id = format!("{scope}:evt_{number}:2024-06-20");
    let data = format!("{{\n  \"id\": \"evt_{number}\"\n}}");
    NewEvent { kind: kind.to_owned(), scope, ..event(&id, &format!("stripe:{number}"), data) }
}

async fn with_events() -> App {
    let app = app::start().await;
    let kinds = ["stripe.invoice.paid", "stripe.customer.created", "license.issued"];
    let events = (0..30).map(|number| stripe(number, kinds[number as usize % 3], Mode::Live));
    app.append(events.collect()).await;
    app.append(vec![stripe(100, "stripe.invoice.paid", Mode::Test)]).await;
    app
}

fn positions(page: &Value) -> Vec<u64> {
    page["data"].as_array().unwrap().iter().map(|event| event["position"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let app = with_events().await;
    let mut after = String::new();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let page = app.get(&format!("/api/v1/events?limit=7{after}")).await;
        seen.extend(positions(&page));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (1..=30).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_full_last_page_has_no_next() {
    let app = with_events().await;
    let page = app.get("/api/v1/events?limit=30").await;
    assert_eq!(page["data"].as_array().unwrap().len(), 30);
    // The test-mode event behind it is no reason for another page.
    assert_eq!(page["next"], Value::Null);
}

#[tokio::test]
async fn types_streams_and_modes_filter() {
    let app = with_events().await;
    assert_eq!(positions(&app.get("/api/v1/events?type=license.issued&limit=200").await).len(), 10);
    assert_eq!(positions(&app.get("/api/v1/events?type=stripe.*").await).len(), 20);
    assert_eq!(positions(&app.get("/api/v1/events?type=stripe.invoice.paid&after=20").await), [22, 25, 28]);
    assert_eq!(positions(&app.get("/api/v1/events?stream=stripe:4").await), [5]);
    assert_eq!(positions(&app.get("/api/v1/events?stream=stripe:4&after=5").await), [] as [u64; 0]);
    assert_eq!(positions(&app.get("/api/v1/events?mode=test").await), [31]);
    assert_eq!(positions(&app.get("/api/v1/events?source=other").await), [] as [u64; 0]);
}

#[tokio::test]
async fn one_event_shows_its_data_and_its_exact_bytes() {
    let app = with_events().await;
    let event = app.get("/api/v1/events/default:-:live:evt_3:2024-06-20").await;
    insta::assert_json_snapshot!(event);
    let path = "/api/v1/events/default%3A-%3Alive%3Aevt_3%3A2024-06-20/raw";
    let response = app.send(app.request("GET", path).bearer_auth(ADMIN)).await;
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    assert_eq!(response.headers()["keyledger-content-sha256"], event["content_hash"].as_str().unwrap());
    assert_eq!(response.text().await.unwrap(), "{\n  \"id\": \"evt_3\"\n}");
}

#[tokio::test]
async fn an_event_of_the_other_mode_is_not_found() {
    let app = with_events().await;
    assert_eq!(app.problem("/api/v1/events/default:-:test:evt_100:2024-06-20").await["code"], "not_found");
    app.get("/api/v1/events/default:-:test:evt_100:2024-06-20?mode=test").await;
}

#[tokio::test]
async fn an_event_says_how_it_came_into_the_log() {
    let app = app::start().await;
    let delivered = Delivery {
        signature: "t=1,v1=x".to_owned(),
        secret: "default".to_owned(),
        received_at: app::at("2026-03-01T00:00:00Z"),
    };
    let reconciled = Delivery::reconciled(app::at("2026-03-01T00:00:00Z"));
    let events = [
        ("stripe.invoice.paid", Some(delivered)),
        ("stripe.invoice.paid", Some(reconciled.clone())),
        ("stripe.fetched.invoice", None),
        ("stripe.fetched.customer", Some(reconciled)),
        ("license.issued", None),
    ];
    let events = events.into_iter().zip(1..);
    let events = events.map(|((kind, delivery), number)| NewEvent { delivery, ..stripe(number, kind, Mode::Live) });
    app.append(events.collect()).await;
    let page = app.get("/api/v1/events").await;
    let origins: Vec<Value> = page["data"].as_array().unwrap().iter().map(|event| event["origin"].clone()).collect();
    assert_eq!(origins, [json!("webhook"), json!("reconcile"), json!("fetched"), json!("reconcile"), Value::Null]);
}
