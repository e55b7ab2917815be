//! Plans: what would repair a case, and that applying one twice is applying it once.

use serde_json::{Value, json};

use crate::app::{ADMIN, App, VIEWER, problem_of};
use crate::{on_both, shop};

on_both! {
    a_plan_says_what_to_do_and_why_and_does_nothing,
    a_sale_that_another_system_left_is_issued_once,
    a_license_that_stripe_names_is_attached_once,
    a_license_attached_by_its_id_in_the_account_is_not_named_again,
    what_is_left_to_a_person_is_said,
    attaching_takes_ids_as_cryptolens_shows_them,
}

fn path(verb: &str) -> String {
    format!("/api/v1/cases/{}/{verb}", shop::no_key())
}

async fn recorded(app: &App) -> Vec<Value> {
    let page = app.get("/api/v1/events?type=operator.*").await;
    let mut events = Vec::new();
    for event in page["data"].as_array().unwrap() {
        events.push(app.get(&format!("/api/v1/events/{}", event["id"].as_str().unwrap())).await);
    }
    events
}

async fn a_plan_says_what_to_do_and_why_and_does_nothing(app: App) {
    insta::assert_json_snapshot!("a_plan_says_what_to_do_and_why", app.get(&path("plan")).await);
    assert_eq!(recorded(&app).await, [] as [Value; 0]);
    assert_eq!(app.get(&format!("/api/v1/cases/{}/plan", shop::closed())).await, json!({"steps": []}));
    assert_eq!(app.problem("/api/v1/cases/kl_cas_x/plan").await["code"], "not_found");
}

async fn a_sale_that_another_system_left_is_issued_once(app: App) {
    shop::cause(&app, "left_by_other_system", false).await;
    let (status, applied) = app.post(&path("repair"), json!({})).await;
    assert_eq!(status, 200, "{applied}");
    assert_eq!((&applied[0]["action"], &applied[0]["outcome"]), (&json!("issue"), &json!("recorded")));
    let [event] = &recorded(&app).await[..] else { panic!() };
    assert_eq!(
        (&event["type"], &event["data"]),
        (&json!("operator.retry_requested"), &json!({"unit": shop::unit("sub_li")}))
    );
    assert_eq!(applied[0]["event"], event["id"]);
    let again = app.post(&path("repair"), json!({})).await.1;
    assert_eq!((&again[0]["outcome"], &again[0]["event"]), (&json!("repeated"), &event["id"]));
    assert_eq!(recorded(&app).await.len(), 1);
}

async fn a_license_that_stripe_names_is_attached_once(app: App) {
    shop::cause(&app, "issuing", true).await;
    for (metadata, id) in [
        (json!({"skm_key_globalid": "812"}), "globalId=812"),
        (json!({"skm_key_globalid": "812", "skm_key_id": " 2 "}), "2"),
    ] {
        shop::metadata(&app, "sub_li", &metadata).await;
        let plan = app.get(&path("plan")).await;
        let step = &plan["steps"][0];
        assert_eq!((&step["action"], &step["provider"]), (&json!("attach"), &json!("cryptolens")), "{plan}");
        assert_eq!(step["provider_id"], id);
        for outcome in ["recorded", "repeated"] {
            assert_eq!(app.post(&path("repair"), json!({})).await.1[0]["outcome"], outcome, "{id}");
        }
    }
    let named: Vec<Value> = recorded(&app).await.iter().map(|event| event["data"]["provider_id"].clone()).collect();
    assert_eq!(named, ["globalId=812", "2"]);
    shop::metadata(&app, "sub_li", &json!({"skm_key_id": " "})).await;
    assert_eq!(app.get(&path("plan")).await["steps"][0]["action"], "wait");
}

async fn a_license_attached_by_its_id_in_the_account_is_not_named_again(app: App) {
    shop::cause(&app, "issuing", true).await;
    let attached = "update license set purchase = 'sub_li', provider_id = 'globalId=812', also = '{}'";
    shop::run(&app, &format!("{attached} where provider = 'cryptolens'")).await;
    for (named, action) in [("812", "wait"), ("813", "attach")] {
        shop::metadata(&app, "sub_li", &json!({"skm_key_globalid": named})).await;
        assert_eq!(app.get(&path("plan")).await["steps"][0]["action"], action, "{named}");
    }
}

async fn what_is_left_to_a_person_is_said(app: App) {
    shop::cause(&app, "unmapped_price", false).await;
    let applied = app.post(&path("repair"), json!({})).await.1;
    assert_eq!((&applied[0]["action"], &applied[0]["outcome"]), (&json!("map_price"), &json!("left")));
    assert!(applied[0]["detail"].as_str().unwrap().contains("[[catalog]]"), "{applied}");
    assert_eq!(recorded(&app).await, [] as [Value; 0]);
    let request = app.request("POST", &path("repair")).bearer_auth(VIEWER).header("content-type", "application/json");
    assert_eq!(problem_of(app.send(request.body("{}")).await).await["code"], "forbidden");
    let without_body = app.send(app.request("POST", &path("repair")).bearer_auth(ADMIN)).await;
    assert_eq!(without_body.status(), 200);
}

async fn attaching_takes_ids_as_cryptolens_shows_them(app: App) {
    for (body, id) in [
        (json!({"provider_id": "Id=88", "reason": "a"}), "88"),
        (json!({"provider_id": "globalid=812", "reason": "b"}), "globalId=812"),
        (json!({"provider": "cryptolens", "provider_id": "skm_key_globalid=813", "reason": "c"}), "globalId=813"),
    ] {
        let (status, answer) = app.post(&path("attach"), body).await;
        assert_eq!(status, 200, "{answer}");
        let event = recorded(&app).await.pop().unwrap();
        assert_eq!((&event["data"]["provider"], &event["data"]["provider_id"]), (&json!("cryptolens"), &json!(id)));
    }
    for body in [json!({"provider_id": "88", "reason": "a"}), json!({"provider_id": "Id=x", "reason": "a"})] {
        let (status, problem) = app.post(&path("attach"), body).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("/provider")), "{problem}");
    }
}

#[tokio::test]
async fn a_plan_of_all_open_cases_takes_them_in_order() {
    let app = shop::open().await;
    let plan = app.api.plan(&keyledger_console::api::View::default(), &[]).await.unwrap();
    let mut cases: Vec<&str> = plan.steps.iter().map(|step| step.kind.as_str()).collect();
    cases.dedup();
    assert_eq!(cases, ["no_key", "unrouted", "surplus_key"]);
}
