//! The three repairs: what they record, and that asking twice records once.

use keyledger_schemas::ids::CaseId;
use serde_json::{Value, json};

use crate::app::{ADMIN, App};
use crate::shop;

fn path(case: CaseId, verb: &str) -> String {
    format!("/api/v1/cases/{case}/{verb}")
}

async fn recorded(app: &App) -> Vec<Value> {
    let mut events = Vec::new();
    for kind in ["operator.*", "obligation.*"] {
        let page = app.get(&format!("/api/v1/events?type={kind}")).await;
        for event in page["data"].as_array().unwrap() {
            events.push(app.get(&format!("/api/v1/events/{}", event["id"].as_str().unwrap())).await);
        }
    }
    events
}

async fn with_key(app: &App, path: &str, key: &str, body: Value) -> (u16, Value) {
    let request = app.request("POST", path).bearer_auth(ADMIN).header("idempotency-key", key);
    let response = app.send(request.header("content-type", "application/json").body(body.to_string())).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn retry_asks_for_the_unit_on_the_purchases_stream() {
    let app = shop::open().await;
    let (status, answer) = app.post(&path(shop::no_key(), "retry"), json!({"name": "Ana"})).await;
    assert_eq!((status, &answer["type"]), (200, &json!("operator.retry_requested")));
    let [event] = &recorded(&app).await[..] else { panic!() };
    assert_eq!(event["data"], json!({"unit": shop::unit("sub_li")}));
    assert_eq!((&event["stream"], &event["actor"]), (&json!("purchase:default:-:live:sub_li"), &json!("Ana")));
}

#[tokio::test]
async fn a_double_click_records_once() {
    let app = shop::open().await;
    let path = path(shop::no_key(), "retry");
    let first = app.post(&path, json!({})).await.1;
    let second = app.post(&path, json!({})).await.1;
    assert_eq!((&first["event"], &first["repeated"]), (&second["event"], &json!(false)));
    assert_eq!(second["repeated"], true);
    assert_eq!(recorded(&app).await.len(), 1);
    assert_eq!(recorded(&app).await[0]["actor"], "api");
}

#[tokio::test]
async fn another_idempotency_key_is_another_request_and_the_same_with_another_body_is_refused() {
    let app = shop::open().await;
    let retry = path(shop::no_key(), "retry");
    for (key, repeated) in [("a", false), ("b", false), ("a", true)] {
        let (status, answer) = with_key(&app, &retry, key, json!({})).await;
        assert_eq!((status, &answer["repeated"]), (200, &json!(repeated)), "{key}");
    }
    let attach = path(shop::no_key(), "attach");
    let body = |id: &str| json!({"provider": "cryptolens", "provider_id": id, "reason": "made by hand"});
    assert_eq!(with_key(&app, &attach, "a", body("1")).await.0, 200);
    let (status, problem) = with_key(&app, &attach, "a", body("2")).await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_mismatch")));
    assert_eq!(with_key(&app, &attach, " ", body("2")).await.0, 400);
    let waive = path(shop::no_key(), "waive");
    let by = |name: &str| json!({"name": name, "reason": "test"});
    assert_eq!(with_key(&app, &waive, "a", by("Ana")).await.0, 200);
    assert_eq!(with_key(&app, &waive, "a", by("Li")).await.0, 422);
}

#[tokio::test]
async fn waiving_an_owed_unit_closes_it_through_what_is_paid() {
    let app = shop::open().await;
    let body = json!({"name": "Ana", "reason": "paid back by bank"});
    let (status, answer) = app.post(&path(shop::no_key(), "waive"), body).await;
    assert_eq!((status, &answer["type"]), (200, &json!("obligation.waived")));
    let [event] = &recorded(&app).await[..] else { panic!() };
    let data = json!({"unit": shop::unit("sub_li"), "through": "2026-04-01T00:00:00Z", "reason": "paid back by bank"});
    assert_eq!((&event["data"], &event["actor"]), (&data, &json!("Ana")));
}

#[tokio::test]
async fn waiving_an_advisory_case_names_the_case() {
    let app = shop::open().await;
    let body = json!({"name": "Ana", "reason": "not a license sale"});
    let (status, answer) = app.post(&path(shop::unrouted(), "waive"), body).await;
    assert_eq!((status, &answer["type"]), (200, &json!("operator.case_waived")));
    let [event] = &recorded(&app).await[..] else { panic!() };
    assert_eq!(event["stream"], format!("case:{}", shop::unrouted()));
    assert_eq!(event["data"]["kind"], "unrouted");
}

#[tokio::test]
async fn attaching_names_the_license_that_meets_the_unit() {
    let app = shop::open().await;
    let body = json!({"provider": "cryptolens", "provider_id": "88121", "reason": "made by hand", "name": "Ana"});
    assert_eq!(app.post(&path(shop::no_key(), "attach"), body).await.0, 200);
    let [event] = &recorded(&app).await[..] else { panic!() };
    let data = json!({"unit": shop::unit("sub_li"), "provider": "cryptolens", "provider_id": "88121", "reason": "made by hand"});
    assert_eq!(event["data"], data);
}

#[tokio::test]
async fn a_license_that_was_refused_is_attached_again_in_the_same_words() {
    let app = shop::open().await;
    let attach = async || {
        let body = json!({"provider": "cryptolens", "provider_id": "88121", "reason": "made by hand"});
        app.post(&path(shop::no_key(), "attach"), body).await.1
    };
    let first = attach().await;
    assert_eq!(attach().await["event"], first["event"], "a double click");
    shop::run(&app, &format!("update casefile set attempts = attempts + 1 where id = '{}'", shop::no_key())).await;
    let second = attach().await;
    assert_eq!((&second["repeated"], second["event"] == first["event"]), (&json!(false), false));
    assert_eq!(recorded(&app).await.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_done_as_things_stand_is_a_conflict_and_records_nothing() {
    let app = shop::open().await;
    let waive = json!({"name": "Ana", "reason": "test"});
    let attach = json!({"provider": "cryptolens", "provider_id": "1", "reason": "test"});
    for (case, verb, body) in [
        (shop::closed(), "retry", json!({})),
        (shop::closed(), "waive", waive),
        (shop::closed(), "attach", attach.clone()),
        (shop::unrouted(), "retry", json!({})),
        (shop::surplus(), "retry", json!({})),
        (shop::surplus(), "attach", attach.clone()),
        (shop::no_key(), "attach", json!({"provider": "builtin", "provider_id": "1", "reason": "test"})),
        (shop::unrouted(), "attach", attach),
    ] {
        let (status, problem) = app.post(&path(case, verb), body).await;
        assert_eq!((status, &problem["code"]), (409, &json!("conflict")), "{verb}");
    }
    assert_eq!(app.post("/api/v1/cases/kl_cas_x/retry", json!({})).await.0, 404);
    assert_eq!(recorded(&app).await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_retry_that_would_change_nothing_says_why() {
    let app = shop::open().await;
    let retry = path(shop::no_key(), "retry");
    for (cause, reason) in [("unmapped_price", "[[catalog]]"), ("lines_unknown", "[[catalog]]")] {
        shop::cause(&app, cause, false).await;
        let (status, problem) = app.post(&retry, json!({})).await;
        assert_eq!(status, 409, "{cause}");
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{problem}");
    }
    assert_eq!(recorded(&app).await, [] as [Value; 0]);
    // What another system left is held for a person, and this is one.
    shop::cause(&app, "left_by_other_system", false).await;
    assert_eq!(app.post(&retry, json!({})).await.0, 200);
    // What was recorded once is the same request, whatever holds the case by now.
    shop::cause(&app, "unmapped_price", false).await;
    assert_eq!(app.post(&retry, json!({})).await.1["repeated"], true);
}

#[tokio::test]
async fn only_an_engine_that_is_known_can_hold_the_license_that_is_attached() {
    let app = shop::open().await;
    let attach = path(shop::no_key(), "attach");
    let body = |provider: &str, id: &str| json!({"provider": provider, "provider_id": id, "reason": "test"});
    for (provider, id, pointer) in [
        ("nonsense", "1", "/provider"),
        ("Cryptolens", "1", "/provider"),
        ("cryptolens", " ", "/provider_id"),
        ("cryptolens", "88 121", "/provider_id"),
        ("", "1", "/provider"),
    ] {
        let (status, problem) = app.post(&attach, body(provider, id)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!(pointer)), "{provider} {id}");
    }
    assert_eq!(recorded(&app).await, [] as [Value; 0]);
    app.append(vec![shop::settings(&json!({"providers": ["builtin", "ours"]}))]).await;
    assert_eq!(app.post(&attach, body("builtin", "1")).await.0, 409);
    assert_eq!(app.post(&attach, body("ours", "1")).await.0, 200);
}
