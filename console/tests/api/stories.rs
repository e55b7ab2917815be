//! Stripe's fixture stories, folded by the projector itself, through the API. No issuer runs: nobody has a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use keyledger_eventlog::consumer::{Consumer, Options};
use keyledger_eventlog::tail::SqlTail;
use keyledger_eventlog::testing::event;
use keyledger_projector::Projector;
use keyledger_schemas::envelope::{IdReuse, NewEvent, derived_id};
use keyledger_schemas::event::{Event, SettingsChanged};
use keyledger_schemas::ids::{Mode, Scope, SourceName};
use serde_json::{Value, json};

use crate::app::{self, App};

const VERSION: &str = "2024-06-20";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/testdata/stripe")
}

fn delivered(file: &str) -> NewEvent {
    let body = std::fs::read(fixtures().join(file)).unwrap();
    let read: Value = serde_json::from_slice(&body).unwrap();
    let scope = Scope::new(SourceName::default(), Mode::of_livemode(read["livemode"].as_bool().unwrap()));
    let id = format!("{scope}:{}:{VERSION}", read["id"].as_str().unwrap());
    NewEvent {
        kind: format!("stripe.{}", read["type"].as_str().unwrap()),
        occurred_at: Timestamp::from_second(read["created"].as_i64().unwrap()).unwrap(),
        on_reuse: IdReuse::FirstWins,
        scope,
        ..event(&id, &format!("stripe:{id}"), body)
    }
}

/// A running API over every story, and the mode that the stories are in.
async fn told() -> (App, Mode) {
    let app = app::start().await;
    let settings = json!({
        "catalog": [{"product": "pro"}], "sources": {"default": {"mode": "live"}}, "providers": ["builtin"],
    });
    let changed = Event::SettingsChanged(SettingsChanged { settings: serde_json::from_value(settings).unwrap() });
    let id = derived_id("start", changed.kind(), "settings");
    let plain = event(id.as_str(), "settings", changed.encode());
    app.append(vec![NewEvent { kind: changed.kind().to_owned(), ..plain }]).await;
    let manifest: Value = serde_json::from_slice(&std::fs::read(fixtures().join("manifest.json")).unwrap()).unwrap();
    let stories = manifest["stories"].as_array().unwrap().iter();
    let steps = stories.flat_map(|story| story["steps"].as_array().unwrap());
    let events: Vec<_> = steps.filter_map(|step| step["files"][VERSION].as_str()).map(delivered).collect();
    let mode = events[0].scope.mode;
    app.append(events).await;
    let projector = Projector::open(&app::views_url(&app.dir)).await.unwrap();
    let tail = Arc::new(SqlTail::new(Arc::new(app.log.clone())));
    Consumer::new(projector, tail, Options::default()).run_until_idle().await.unwrap();
    (app, mode)
}

/// Every row of a list, page by page.
async fn all(app: &App, list: &str, mode: Mode) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut after = String::new();
    for _ in 0..1000 {
        let page = app.get(&format!("/api/v1/{list}?mode={mode}&limit=7{after}")).await;
        rows.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { return rows };
        after = format!("&after={next}");
    }
    panic!("{list} does not end");
}

#[tokio::test]
async fn every_answer_over_every_story_is_as_documented_and_leads_on() {
    let (app, mode) = told().await;
    let status = app.get(&format!("/api/v1/status?mode={mode}")).await;
    assert_eq!(status["projector"]["position"], status["log"]["position"]);
    // Each answer is checked against its schema by `get`.
    for (list, path) in
        [("customers", "customers"), ("subscriptions", "subscriptions"), ("cases", "cases"), ("events", "events")]
    {
        let rows = all(&app, list, mode).await;
        assert!(rows.len() > 7, "{list} has {} rows", rows.len());
        for row in rows.iter().take(20) {
            let id = row["id"].as_str().unwrap();
            let one = app.get(&format!("/api/v1/{path}/{id}?mode={mode}")).await;
            assert_eq!(one["id"], row["id"]);
            let found = app.get(&format!("/api/v1/search?mode={mode}&q={id}")).await;
            assert_eq!(found["exact"]["id"], row["id"], "{found}");
        }
    }
}

#[tokio::test]
async fn who_was_charged_and_has_no_key_is_a_search_and_a_list() {
    let (app, mode) = told().await;
    let cases = all(&app, "cases", mode).await;
    let open = cases.iter().filter(|case| case["kind"] == "no_key" && case["status"] == "open");
    let mut listed: Vec<_> = open.map(|case| case["id"].as_str().unwrap().to_owned()).collect();
    let found = app.get(&format!("/api/v1/search?mode={mode}&q=is:no-key")).await;
    let hits = found["groups"][0]["hits"].as_array().unwrap().iter();
    let searched: Vec<_> = hits.map(|hit| hit["id"].as_str().unwrap().to_owned()).collect();
    listed.sort();
    assert!(!listed.is_empty());
    assert_eq!(listed, searched);
}
