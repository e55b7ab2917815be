//! What a person does to one license: what is recorded, and that asking twice records once.

use keyledger_schemas::event::NotDone;
use serde_json::{Value, json};

use crate::app::{ADMIN, App, VIEWER, problem_of};
use crate::{on_both, shop};

on_both! {
    each_act_is_an_event_with_who_and_why,
    a_repeat_is_the_first_request_until_something_else_was_said,
    a_replacement_that_was_refused_or_taken_back_may_be_asked_for_again,
    another_key_is_another_request_and_the_same_with_another_body_is_refused,
    what_cannot_be_done_as_things_stand_is_a_conflict,
    a_license_that_was_replaced_is_not_touched,
}

fn path(verb: &str) -> String {
    format!("/api/v1/licenses/{}/{verb}", shop::license())
}

fn why(reason: &str) -> Value {
    json!({"reason": reason, "name": "Ana"})
}

/// Operators' events, with their data.
async fn recorded(app: &App) -> Vec<Value> {
    let page = app.get("/api/v1/events?type=operator.*").await;
    let mut events = Vec::new();
    for event in page["data"].as_array().unwrap() {
        events.push(app.get(&format!("/api/v1/events/{}", event["id"].as_str().unwrap())).await);
    }
    events
}

async fn each_act_is_an_event_with_who_and_why(app: App) {
    let unit = shop::unit("sub_ana");
    for (verb, body, data) in [
        ("suspend", why("fraud?"), json!({"unit": unit, "reason": "fraud?"})),
        ("reinstate", why("no"), json!({"unit": unit, "reason": "no"})),
        (
            "extend",
            json!({"until": "2027-01-01T00:00:00Z", "reason": "goodwill"}),
            json!({"unit": unit, "until": "2027-01-01T00:00:00Z", "reason": "goodwill"}),
        ),
        ("reissue", why("leaked"), json!({"unit": unit, "license": shop::license(), "reason": "leaked"})),
        ("revoke", why("fraud"), json!({"unit": unit, "reason": "fraud"})),
    ] {
        let (status, answer) = app.post(&path(verb), body).await;
        assert_eq!((status, &answer["repeated"]), (200, &json!(false)), "{verb}: {answer}");
        assert_eq!((&answer["license"], &answer["case"]), (&json!(shop::license()), &Value::Null), "{verb}");
        assert_eq!(answer["type"], format!("operator.{verb}_requested"));
        let event = recorded(&app).await.pop().unwrap();
        assert_eq!((&event["data"], &event["stream"]), (&data, &json!("purchase:default:-:live:sub_ana")), "{verb}");
        assert_eq!((&event["id"], &event["origin"]), (&answer["event"], &Value::Null), "{verb}");
    }
    let actors: Vec<Value> = recorded(&app).await.iter().map(|event| event["actor"].clone()).collect();
    assert_eq!(actors, ["Ana", "Ana", "api", "Ana", "Ana"]);
}

async fn a_repeat_is_the_first_request_until_something_else_was_said(app: App) {
    let suspend = async || app.post(&path("suspend"), why("fraud?")).await.1;
    let first = suspend().await;
    // Whoever says it again, and why: it is so already.
    let again = app.post(&path("suspend"), json!({"reason": "still"})).await.1;
    assert_eq!((&again["event"], &again["repeated"]), (&first["event"], &json!(true)));
    assert_eq!(suspend().await["repeated"], true);
    let back = app.post(&path("reinstate"), why("it was nothing")).await.1;
    assert_eq!(back["repeated"], false);
    assert_eq!(app.post(&path("reinstate"), why("it was nothing")).await.1["event"], back["event"]);
    // The same words at another time are another request.
    let second = suspend().await;
    assert_eq!((&second["repeated"], second["event"] == first["event"]), (&json!(false), false));
    assert_eq!(recorded(&app).await.len(), 3);

    let extend = async |until: &str| app.post(&path("extend"), json!({"until": until, "reason": "goodwill"})).await.1;
    for (until, repeated) in
        [("2027-01-01T00:00:00Z", false), ("2027-01-01T00:00:00Z", true), ("2026-12-01T00:00:00Z", false)]
    {
        assert_eq!(extend(until).await["repeated"], repeated, "{until}");
    }
}

async fn a_replacement_that_was_refused_or_taken_back_may_be_asked_for_again(app: App) {
    let reissue = async || app.post(&path("reissue"), why("leaked")).await.1;
    let first = reissue().await;
    for (answer, repeated) in [(NotDone::Unavailable, true), (NotDone::Refused, false)] {
        app.append(vec![shop::not_made(answer)]).await;
        let again = reissue().await;
        assert_eq!((&again["repeated"], again["event"] == first["event"]), (&json!(repeated), repeated), "{answer:?}");
        assert_eq!(reissue().await["event"], again["event"]);
    }
    for verb in ["revoke", "reinstate"] {
        assert_eq!(app.post(&path(verb), why("x")).await.0, 200, "{verb}");
    }
    assert_eq!(reissue().await["repeated"], false, "reinstating takes a replacement back");
}

async fn another_key_is_another_request_and_the_same_with_another_body_is_refused(app: App) {
    let with_key = async |key: &str, body: Value| {
        let request = app.request("POST", &path("extend")).bearer_auth(ADMIN).header("idempotency-key", key);
        let response = app.send(request.header("content-type", "application/json").body(body.to_string())).await;
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let body = |until: &str| json!({"until": until, "reason": "goodwill"});
    let (near, far) = ("2026-12-01T00:00:00Z", "2027-12-01T00:00:00Z");
    for (key, until, repeated) in [("a", near, false), ("b", far, false), ("a", near, true)] {
        let (status, answer) = with_key(key, body(until)).await;
        assert_eq!((status, &answer["repeated"]), (200, &json!(repeated)), "{key}");
    }
    let (status, problem) = with_key("a", body(far)).await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_mismatch")));
}

async fn what_cannot_be_done_as_things_stand_is_a_conflict(app: App) {
    let conflict = async |verb: &str, body: Value, said: &str| {
        let (status, problem) = app.post(&path(verb), body).await;
        let detail = problem["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!((status, detail.contains(said)), (409, true), "{verb}: {problem}");
    };
    conflict("reinstate", why("x"), "it is not stopped").await;
    let before = recorded(&app).await.len();
    assert_eq!(before, 0);
    assert_eq!(app.post(&path("suspend"), why("x")).await.0, 200);
    conflict("reissue", why("x"), "a person suspended it").await;
    assert_eq!(app.post(&path("revoke"), why("x")).await.0, 200);
    let later = json!({"until": "2027-01-01T00:00:00Z", "reason": "x"});
    conflict("extend", later, "a person revoked it").await;
    conflict("suspend", why("x"), "a person revoked it").await;

    let id = shop::license();
    shop::run(&app, &format!("update license set state = 'suspended', reason = 'paused' where id = '{id}'")).await;
    assert_eq!(app.post(&path("reinstate"), why("x")).await.0, 200);
    shop::run(&app, &format!("update license set perpetual = 1, state = 'active' where id = '{id}'")).await;
    conflict("extend", json!({"until": "2027-02-01T00:00:00Z", "reason": "x"}), "never expires").await;

    app.append(vec![shop::settings(&json!({"providers": ["builtin"]}))]).await;
    let adopted = format!("/api/v1/licenses/{}/reissue", shop::unit("sub_adopted").license(1));
    let (status, problem) = app.post(&adopted, why("x")).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("`cryptolens` is not configured"), "{problem}");
}

async fn a_license_that_was_replaced_is_not_touched(app: App) {
    let id = shop::license();
    let second = shop::unit("sub_ana").license(2);
    let columns = "scope, source, mode, purchase, item, number, customer, state, origin, provider, provider_id, also, \
                   product, seats, features, perpetual";
    shop::run(
        &app,
        &format!(
            "insert into license (id, generation, sort_key, {columns}) \
             select '{second}', 2, '9', {columns} from license where id = '{id}'"
        ),
    )
    .await;
    let (status, problem) = app.post(&path("suspend"), why("x")).await;
    assert_eq!((status, problem["detail"].as_str().unwrap().contains(&second.to_string())), (409, true), "{problem}");
}

#[tokio::test]
async fn what_is_asked_must_say_why_and_be_allowed() {
    let app = shop::open().await;
    for (verb, body, pointer) in [
        ("suspend", json!({"reason": " "}), "/reason"),
        ("extend", json!({"reason": "x", "until": "2020-01-01T00:00:00Z"}), "/until"),
        ("revoke", json!({"reason": "x", "name": ""}), "/name"),
    ] {
        let (status, problem) = app.post(&path(verb), body).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!(pointer)), "{verb}");
    }
    let request = app.request("POST", &path("suspend")).bearer_auth(VIEWER).header("content-type", "application/json");
    assert_eq!(problem_of(app.send(request.body(why("x").to_string())).await).await["code"], "forbidden");
    assert_eq!(app.post("/api/v1/licenses/none/suspend", why("x")).await.0, 404);
    assert_eq!(recorded(&app).await, [] as [Value; 0]);
}
