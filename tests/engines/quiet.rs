//! What must not happen: a replay that calls somebody, and a secret of an engine's or of Stripe's that is told to anybody.

use std::path::Path;

use keyledger_sandbox::faults::{Fault, Faults, Rule};
use serde_json::Value;

use crate::deployment::Deployment;
use crate::engine::{Engine, Kind};
use crate::stripe::Stripe;
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, all};
use crate::support::wait::{PATIENCE, until};
use crate::told::{told_today, without_other_keys};

/// The secret that every stand-in takes; the tests make it one that is found wherever it turns up.
const SECRET: &str = "sandbox";

#[tokio::test]
async fn a_replay_of_the_whole_log_calls_nobody() {
    let bodies: Vec<Vec<u8>> =
        all().iter().flat_map(|story| without_other_keys(told_today(story, VERSIONS[1]))).collect();
    let engine = Engine::start(Kind::Keygen).await;
    let stripe = Stripe::start(&bodies).await;
    let settings = format!("{}{}", stripe.settings(), engine.settings());
    let deployment = Deployment::new(&Setup { settings, ..Setup::default() });
    let service = deployment.up().await;
    service.post_all("default", &bodies).await;
    until("every key", PATIENCE, async || {
        let open = service.open_cases("no_key").await.len();
        let written = stripe.server.writes().len();
        if open == 0 && written > 0 { Ok(()) } else { Err(format!("{open} open, {written} written")) }
    })
    .await;
    service.caught_up().await;
    nothing_to_write(&deployment.log_file()).await;
    service.stop().await;

    stripe.server.forbid_all(true);
    let fail = Fault::Fail { status: 500, retry_after_s: None };
    let rule = Rule { operation: "any".to_owned(), about: None, count: None, fault: fail };
    engine.stage().misbehave(Faults { script: vec![rule], ..Faults::default() }).unwrap();
    let asked = engine.stage().calls();
    deployment.audit().await;
    assert_eq!(stripe.server.forbidden(), 0);
    assert_eq!(engine.stage().calls(), asked);

    // Nor does an issuer that has lost all its state and reads the log anew, once it has looked whether the engine is there.
    let head = forget_state(&deployment.log_file()).await;
    let service = deployment.up().await;
    service.caught_up().await;
    assert_eq!(stripe.server.forbidden(), 0);
    let events = service.list("/events?type=*").await;
    let new: Vec<_> = events.iter().filter(|event| event["position"].as_i64() > Some(head)).collect();
    assert!(new.is_empty(), "what stands in the log was decided again: {new:#?}");
    deployment.finish(service).await;
    stripe.stop().await;
    engine.stop().await;
}

/// Waits until all is read for what Stripe must be told or asked, and none of that is due.
async fn nothing_to_write(log: &Path) {
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", log.display())).await.unwrap();
    let rows = "select (select max(position) from event), \
         (select value from state where namespace = 'checkpoint' and key = 'issuer.effects'), \
         (select count(*) from state where namespace = 'issuer.errand' and due_at <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))";
    until("errands", PATIENCE, async || {
        let (head, checkpoint, due): (i64, Vec<u8>, i64) = sqlx::query_as(rows).fetch_one(&pool).await.unwrap();
        let read = i64::from_be_bytes(checkpoint[..8].try_into().unwrap());
        if read == head && due == 0 { Ok(()) } else { Err(format!("read {read} of {head}, {due} due")) }
    })
    .await;
    pool.close().await;
}

/// Takes away what the issuer keeps beside the log, as a person does who wants it made anew. Gives where the log ends.
async fn forget_state(log: &Path) -> i64 {
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", log.display())).await.unwrap();
    let rows = "delete from state where namespace like 'issuer.%' or (namespace = 'checkpoint' and key <> 'projector')";
    let gone = sqlx::query(rows).execute(&pool).await.unwrap().rows_affected();
    assert!(gone > 10, "the issuer kept {gone} rows");
    let head = sqlx::query_scalar("select max(position) from event").fetch_one(&pool).await.unwrap();
    pool.close().await;
    head
}

#[tokio::test]
async fn secrets_of_engines_and_of_stripe_are_told_to_nobody() {
    for kind in [Kind::Cryptlex, Kind::Cryptolens, Kind::Keygen] {
        let bodies: Vec<Vec<u8>> =
            all().iter().flat_map(|story| without_other_keys(told_today(story, VERSIONS[1]))).collect();
        let engine = Engine::start(kind).await;
        engine.misbehave(5);
        let stripe = Stripe::start(&bodies).await;
        // A secret that the stand-ins do not take either: errors about it are what is most likely to tell it.
        let settings = format!("{}{}", stripe.settings(), engine.settings());
        let right = Setup { settings: settings.clone(), ..Setup::default() };
        let wrong = settings.replace(&format!("\"{SECRET}\""), "\"sk_secret_h1dden\"");
        let wrong = wrong.replace("account = \"sk_secret_h1dden\"", &format!("account = \"{SECRET}\""));
        let deployment = Deployment::new(&Setup { settings: wrong, ..Setup::default() });
        let service = deployment.up().await;
        service.post_all("default", &bodies).await;
        until("the wrong secret", PATIENCE, async || {
            let open = service.open_cases("no_key").await.len();
            if open > 0 { Ok(()) } else { Err("nothing is open".to_owned()) }
        })
        .await;
        is_told_nowhere(&deployment, &service.client, "sk_secret_h1dden").await;
        service.stop().await;
        deployment.configure(&right);
        engine.behave();
        let service = deployment.up().await;
        until("the right secret", std::time::Duration::from_mins(3), async || {
            for case in service.open_cases("no_key").await {
                crate::stories::retry(&service, case["id"].as_str().unwrap()).await;
            }
            let open = service.open_cases("no_key").await.len();
            if open == 0 { Ok(()) } else { Err(format!("{open} open")) }
        })
        .await;
        is_told_nowhere(&deployment, &service.client, "sk_secret_h1dden").await;
        deployment.finish(service).await;
        stripe.stop().await;
        engine.stop().await;
    }
}

/// Greps everything that anybody is told: what was said, every event whole, and every answer.
async fn is_told_nowhere(deployment: &Deployment, caller: &crate::support::client::Caller, secret: &str) {
    assert!(!deployment.said().contains(secret), "a log line tells a secret");
    let mut told = Vec::new();
    for path in ["/events?type=*", "/licenses?mode=live", "/cases?status=open", "/customers?mode=live"] {
        told.extend(caller.list(path).await);
    }
    for path in ["/status", "/openapi.json"] {
        told.push(caller.get(path).await);
    }
    for event in caller.list("/events?type=*").await {
        let (_, raw) = raw(caller, event["id"].as_str().unwrap()).await;
        assert!(!raw.contains(secret), "the event {event} tells a secret");
    }
    let told = Value::Array(told).to_string();
    assert!(!told.contains(secret), "an answer tells a secret");
    for verb in [&["doctor"][..], &["catalog"], &["cases"], &["events"]] {
        let output = deployment.run(verb).await;
        let said = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&said).contains(secret), "{verb:?} tells a secret");
    }
}

async fn raw(caller: &crate::support::client::Caller, id: &str) -> (u16, String) {
    let url = format!("{}/api/v1/events/{id}/raw", caller.api);
    let answer = caller.http.get(url).bearer_auth(crate::support::setup::TOKEN).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
