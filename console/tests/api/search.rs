//! What searches find.

use serde_json::Value;

use crate::app::App;
use crate::{on_both, shop};

on_both! {
    an_exact_id_leads_straight_to_its_page,
    bare_tokens_find_what_they_may_mean,
    queries_find_customers_licenses_and_cases,
    what_the_views_do_not_hold_is_an_error_and_not_silence,
    answers_are_grouped_with_counts,
    a_case_says_where_it_stands,
    a_slip_in_a_field_is_pointed_at_with_what_was_perhaps_meant,
}

/// Kind and id of everything found, sorted.
async fn found(app: &App, text: &str) -> Vec<String> {
    let results = search(app, text).await;
    let hits = results["groups"].as_array().unwrap().iter().flat_map(|group| group["hits"].as_array().unwrap());
    hits.map(|hit| format!("{} {}", hit["kind"].as_str().unwrap(), hit["id"].as_str().unwrap())).collect()
}

async fn search(app: &App, text: &str) -> Value {
    app.get(&path(text)).await
}

/// The route with every byte of the text encoded, whatever it is.
fn path(text: &str) -> String {
    text.bytes().fold("/api/v1/search?q=".to_owned(), |path, byte| format!("{path}%{byte:02X}"))
}

async fn an_exact_id_leads_straight_to_its_page(app: App) {
    let license = shop::license().to_string();
    for (text, url) in [
        ("cus_ana", "/api/v1/customers/cus_ana".to_owned()),
        ("sub_li", "/api/v1/subscriptions/sub_li".to_owned()),
        (license.as_str(), format!("/api/v1/licenses/{license}")),
        (&shop::no_key().to_string(), format!("/api/v1/cases/{}", shop::no_key())),
        (shop::key().expose(), format!("/api/v1/licenses/{license}")),
        ("F4A1-0005", "/api/v1/subscriptions/sub_li".to_owned()),
        ("evt_4", "/api/v1/events/default:-:live:evt_4:2024-06-20".to_owned()),
        ("Id=88121 product=3349", format!("/api/v1/licenses/{}", shop::unit("sub_adopted").license(1))),
    ] {
        assert_eq!(search(&app, text).await["exact"]["url"], url, "{text}");
    }
}

async fn bare_tokens_find_what_they_may_mean(app: App) {
    let ours = format!("license {}", shop::license());
    let adopted = format!("license {}", shop::unit("sub_adopted").license(1));
    let key = shop::key().expose().to_owned();
    let tail = key[key.len() - 9..].to_owned();
    let wrong_tail = format!("ZZZZ-{}", shop::key().last4());
    for (text, expected) in [
        ("ana@example.com", vec!["customer cus_ana".to_owned()]),
        ("ANA@example.com", vec!["customer cus_ana".to_owned()]),
        (key.as_str(), vec![ours.clone()]),
        (&key.to_lowercase(), vec![ours.clone()]),
        (shop::key().last4(), vec![ours.clone()]),
        (&tail, vec![ours.clone()]),
        (&wrong_tail, vec![]),
        ("Id=88121", vec![adopted.clone()]),
        ("id=88121 product=1", vec![]),
        ("globalId=88121", vec![]),
        ("globalId=812345", vec![adopted.clone()]),
        ("Id=812345", vec![]),
        ("provider_id=812345", vec![adopted.clone()]),
        ("provider_id=88121", vec![adopted.clone()]),
        ("skm_customer_id=8812", vec!["customer cus_ana".to_owned()]),
        ("skm_customer_id=9001", vec!["customer cus_ana".to_owned(), "customer cus_twin".to_owned()]),
        ("F4A1-0005", vec!["invoice in_li".to_owned()]),
        ("in_ana", vec!["invoice in_ana".to_owned()]),
        ("price_pro", vec!["purchase sub_ana".to_owned(), "purchase sub_li".to_owned()]),
        ("ana", vec!["customer cus_ana".to_owned()]),
        ("evt_999", vec![]),
        ("cus_bo", vec![]),
        ("Id=777", vec![format!("case {}", shop::surplus())]),
        ("Id=77", vec![]),
    ] {
        assert_eq!(found(&app, text).await, expected, "{text}");
    }
}

async fn queries_find_customers_licenses_and_cases(app: App) {
    let ours = format!("license {}", shop::license());
    let adopted = format!("license {}", shop::unit("sub_adopted").license(1));
    let mut both = vec![ours.clone(), adopted.clone()];
    both.sort();
    let no_key = format!("case {}", shop::no_key());
    let closed = format!("case {}", shop::closed());
    for (text, expected) in [
        ("is:no-key", vec![no_key.clone()]),
        ("is:no-key amount>=49", vec![no_key.clone()]),
        ("is:no-key amount>=50", vec![]),
        ("is:no-key created:2026-03-01", vec![no_key.clone()]),
        ("is:no-key created:-7d", vec![]),
        ("seats=3", both.clone()),
        ("seats:3..5 provider=builtin", vec![ours.clone()]),
        ("expires<=2026-04-04 -provider:builtin", vec![adopted.clone()]),
        ("state:active product=pro", vec![ours.clone()]),
        ("Id=88121 or Id=2", vec![adopted.clone()]),
        ("globalId=812345 state:active", vec![adopted.clone()]),
        ("skm_key_globalid=812345 and provider:cryptolens", vec![adopted.clone()]),
        ("skm_key_id=88121 or provider_id=nothing", vec![adopted.clone()]),
        ("skm_key_id=812345 or provider_id=812345", vec![adopted.clone()]),
        ("skm_key_id=812345 or skm_key_id=1", vec![]),
        ("skm_customer_id=9001 provider:cryptolens", vec![adopted.clone()]),
        ("skm_customer_id=8812 product=pro", vec![ours.clone()]),
        ("metadata.team=blue is:no-key", vec![no_key.clone()]),
        ("name~ruiz provider:cryptolens", vec![adopted.clone()]),
        ("ruiz ana", vec!["customer cus_ana".to_owned(), both[0].clone(), both[1].clone()]),
        ("email=li@example.com case=no_key", vec![no_key.clone()]),
        ("invoice=F4A1-0005 has:case", vec![no_key.clone()]),
        ("sub=sub_ana case=no_key", vec![closed.clone()]),
        ("price=price_pro is:no-key", vec![no_key.clone()]),
        ("-is:test is:no-key", vec![no_key.clone()]),
        ("is:refunded", vec![]),
    ] {
        assert_eq!(found(&app, text).await, expected, "{text}");
    }
    let by_key = format!("key=\"{}\"", shop::key().expose());
    assert_eq!(found(&app, &by_key).await, [ours]);
}

async fn what_the_views_do_not_hold_is_an_error_and_not_silence(app: App) {
    for (query, column) in [
        ("country:de", 1),
        ("ana is:undelivered", 5),
        ("company:acme", 1),
        ("has:device", 1),
        ("seats>2 is:no-key", 9),
        ("key~9F4C", 1),
        ("seats=3 is:test", 9),
    ] {
        let problem = app.problem(&path(query)).await;
        assert_eq!(problem["errors"][0]["column"], column, "{query}: {problem}");
    }
}

async fn answers_are_grouped_with_counts(app: App) {
    insta::assert_json_snapshot!("answers_are_grouped_with_counts", search(&app, "is:no-key or case:unrouted").await);
}

async fn a_case_says_where_it_stands(app: App) {
    let closed = search(&app, &shop::closed().to_string()).await;
    assert_eq!(closed["exact"]["status"], "closed");
    let by_customer = search(&app, "email=li@example.com case=no_key").await;
    assert_eq!(by_customer["groups"][0]["hits"][0]["status"], "open");
    assert_eq!(search(&app, "cus_ana").await["exact"]["status"], Value::Null);
}

async fn a_slip_in_a_field_is_pointed_at_with_what_was_perhaps_meant(app: App) {
    let problem = app.problem(&path("emial~example")).await;
    let fault = &problem["errors"][0];
    assert_eq!((&fault["column"], &fault["suggestion"]), (&1.into(), &"email".into()), "{problem}");
    assert_eq!(app.problem(&path("foo:bar")).await["errors"][0]["column"], 1);
}
