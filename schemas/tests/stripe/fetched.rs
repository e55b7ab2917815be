//! Answers of Stripe's that were kept: their frame, and that they are read like events.

use std::path::PathBuf;

use keyledger_schemas::ids::{EventId, Mode, Scope, SourceName};
use keyledger_schemas::json::documents;
use keyledger_schemas::stripe::fact::{Change, Fact};
use keyledger_schemas::stripe::fetched::{Fetched, is_whole, with_list};
use keyledger_schemas::stripe::{self, Header, facts};
use serde_json::{Value, json};

use crate::fixtures::{NEW, OLD, at, event, facts_of, links, read};
use crate::the;

const AT: i64 = 1_790_000_000;

fn answer(version: &str, name: &str) -> Value {
    serde_json::from_slice(&read(&format!("api/{version}/{name}.json"))).unwrap()
}

fn fetched(answer: Value) -> Fetched {
    let about = answer["id"].as_str().unwrap_or("list").to_owned();
    let object = answer["object"].as_str().unwrap().to_owned();
    Fetched { path: format!("/v1/{object}s/{about}"), object, about, at: at(AT), answer }
}

fn stated(answer: Value) -> Vec<Fact> {
    facts(&fetched(answer).encode())
}

fn live() -> Scope {
    Scope::new(SourceName::default(), Mode::Live)
}

/// What a fact says, apart from when and how it was seen.
fn content(facts: &[Fact]) -> Value {
    let mut content = serde_json::to_value(facts).unwrap();
    for fact in content.as_array_mut().unwrap() {
        fact.as_object_mut().unwrap().remove("seen");
    }
    content
}

#[test]
fn every_number_of_an_answer_is_kept_to_its_last_digit() {
    let answer = r#"{"id": "in_1", "object": "invoice", "total": 14444444444444444444444e99}"#;
    let kept = fetched(serde_json::from_str(answer).unwrap());
    assert_eq!(Fetched::decode(&kept.encode()), Some(kept));
}

#[test]
fn an_answer_states_what_an_event_that_showed_the_object_would() {
    let names = [
        "get_subscription",
        "get_subscription_canceled",
        "get_invoice",
        "get_charge",
        "get_customer",
        "get_customer_deleted",
        "get_checkout_session_payment_expand_line_items",
        "get_checkout_session_subscription_expand_line_items",
        "post_refund",
    ];
    for version in [OLD, NEW] {
        for name in names {
            let object = answer(version, name);
            let expected = facts_of(&event("x.updated", object.clone()));
            assert!(!expected.is_empty(), "{version} {name}");
            assert_eq!(content(&stated(object)), content(&expected), "{version} {name}");
        }
    }
}

#[test]
fn an_answer_is_seen_when_it_was_asked_for_and_gives_way_to_an_event_of_that_second() {
    let seen = the!(SubscriptionSeen, stated(answer(NEW, "get_subscription"))).seen;
    assert_eq!((seen.at, seen.change), (at(AT), Change::Updated));
    assert!(seen.event.as_str().starts_with("answer_"));
    assert!(seen.event.as_str() < "evt_");
}

#[test]
fn every_object_of_a_list_is_read() {
    let payments = answer(NEW, "list_invoice_payments_by_payment_intent");
    let fetched = Fetched {
        object: "invoice_payment".to_owned(),
        about: "pi_39iEflB7WZ01zgkWyOOKjL8d".to_owned(),
        at: at(AT),
        path: "/v1/invoice_payments".to_owned(),
        answer: payments,
    };
    let expected = ["pi_39iEflB7WZ01zgkWyOOKjL8d -> in_10hWe5B7WZ01zgkWBEsTI94k"];
    assert_eq!(links(&facts(&fetched.encode())), expected);
    let refunds = json!({"object": "list", "has_more": false, "data": [
        {"id": "re_1", "object": "refund", "amount": 5, "currency": "usd", "charge": "ch_1", "status": "succeeded"},
        {"id": "re_2", "object": "refund", "amount": 6, "currency": "usd", "charge": "ch_1", "status": "pending"}]});
    assert_eq!(stated(refunds).len(), 2);
}

#[test]
fn lines_that_were_listed_apart_are_all_there() {
    let mut invoice = answer(NEW, "get_invoice");
    let line = invoice["lines"]["data"][0].clone();
    invoice["lines"]["has_more"] = json!(true);
    assert!(!is_whole(&invoice, "lines"));
    assert!(the!(InvoiceSeen, stated(invoice.clone())).lines_truncated);
    let lines = (0..25).map(|n| {
        let mut line = line.clone();
        line["id"] = json!(format!("il_{n}"));
        line
    });
    let whole = with_list(invoice, "lines", lines.collect());
    assert!(is_whole(&whole, "lines"));
    let seen = the!(InvoiceSeen, stated(whole));
    assert_eq!((seen.lines.len(), seen.lines_truncated), (25, false));
}

#[test]
fn a_session_of_an_event_shows_no_lines_and_a_fetched_one_may_have_none() {
    assert!(!is_whole(&json!({"id": "cs_1"}), "line_items"));
    assert!(is_whole(&with_list(json!({"id": "cs_1"}), "line_items", Vec::new()), "line_items"));
}

#[test]
fn it_stands_in_the_stream_of_its_object_under_an_id_made_of_what_it_says() {
    let invoice = fetched(answer(NEW, "get_invoice"));
    let cause = EventId::new("default:-:live:evt_1:2024-06-20");
    let event = invoice.event(&live(), Some(&cause));
    assert_eq!(event.kind, "stripe.fetched.invoice");
    assert_eq!(event.stream.as_str(), format!("stripe:default:-:live:{}", invoice.about));
    assert_eq!((event.causation_id.as_ref(), event.correlation_id.as_ref()), (Some(&cause), Some(&cause)));
    assert_eq!(event.occurred_at, at(AT));
    assert_eq!(event.delivery, None);
    assert_eq!(invoice.event(&live(), None).id, event.id);
    let later = Fetched { at: at(AT + 1), ..invoice.clone() };
    assert_ne!(later.event(&live(), None).id, event.id);
    let mut other = invoice.clone();
    other.answer["total"] = json!(1);
    assert_ne!(other.event(&live(), None).id, event.id);
    assert_eq!(Fetched::decode(&event.data), Some(invoice));
}

#[test]
fn the_order_of_keys_makes_no_other_answer() {
    let read = |text: &str| fetched(serde_json::from_str(text).unwrap()).event(&live(), None).id;
    assert_eq!(
        read(r#"{"id": "in_1", "object": "invoice", "a": [1, 2]}"#),
        read(r#"{"a": [1, 2], "object": "invoice", "id": "in_1"}"#)
    );
    assert_ne!(
        read(r#"{"id": "in_1", "object": "invoice", "a": [1, 2]}"#),
        read(r#"{"id": "in_1", "object": "invoice", "a": [2, 1]}"#)
    );
}

#[test]
fn a_delivered_event_is_no_answer_and_an_answer_is_no_event() {
    let delivered = event("invoice.paid", answer(NEW, "get_invoice")).to_string();
    assert_eq!(Fetched::decode(delivered.as_bytes()), None);
    assert!(Header::read(&fetched(answer(NEW, "get_invoice")).encode()).is_err());
    for odd in [
        json!({"keyledger_fetched": {}, "answer": {}}),
        json!({"keyledger_fetched": {"about": "a:b", "at": 1, "object": "invoice", "path": "/"}, "answer": {}}),
        json!({"keyledger_fetched": 1, "id": "evt_1", "type": "invoice.paid", "data": {"object": {}}}),
    ] {
        assert_eq!(facts(odd.to_string().as_bytes()), []);
    }
}

/// Written by the first build that could fetch. What it says must be read for ever.
#[test]
fn an_answer_that_was_kept_long_ago_is_read_as_it_was() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/fetched/checkout.session.v1.json");
    let kept = std::fs::read(path).unwrap();
    let fetched = Fetched::decode(&kept).unwrap();
    assert_eq!((fetched.object.as_str(), fetched.about.as_str()), ("checkout.session", "cs_live_1"));
    assert_eq!(fetched.path, "/v1/checkout/sessions/cs_live_1?expand[]=line_items");
    let document = documents().into_iter().find(|(file, _)| file == "fetched.json").unwrap().1;
    let value = serde_json::from_slice::<Value>(&kept).unwrap();
    assert!(jsonschema::validator_for(&document).unwrap().is_valid(&value));
    assert_eq!(
        serde_json::from_slice::<Value>(&fetched.encode()).unwrap(),
        serde_json::from_slice::<Value>(&kept).unwrap()
    );
    let seen = the!(SessionSeen, facts(&kept));
    assert_eq!(seen.seen.event.as_str(), "answer_14af07a0b36cd82b20d34b2878b3d778");
    assert_eq!(seen.seen.at, at(1_785_852_200));
    let lines = seen.lines.unwrap();
    assert_eq!((lines.len(), lines[0].quantity, lines[0].amount_minor), (1, Some(2), 1000));
    assert_eq!(lines[0].price.as_ref().unwrap().id.as_str(), "price_1");
}

#[test]
fn a_thin_event_says_what_to_ask_for() {
    let body = |related: Value| {
        json!({"id": "evt_test_1", "object": "v2.core.event", "type": "v1.customer.subscription.updated", "livemode": true,
            "created": "2026-10-01T06:20:52.246Z", "related_object": related})
    };
    let related = json!({"id": "sub_1", "type": "subscription", "url": "/v1/subscriptions/sub_1"});
    let thin = stripe::thin(body(related.clone()).to_string().as_bytes()).unwrap();
    assert_eq!(
        (thin.id.as_str(), thin.kind.as_str(), thin.url.as_str()),
        ("sub_1", "subscription", "/v1/subscriptions/sub_1")
    );
    assert_eq!(thin.created, Some("2026-10-01T06:20:52Z".parse().unwrap()));
    for url in ["", "v1/sub_1", "https://x/v1/sub_1", "/v1/../sub_1", "/v1//sub_1", "/v1/a?b=c/sub_1", "/v1/a%2f/sub_1"]
    {
        let mut odd = related.clone();
        odd["url"] = json!(url);
        assert_eq!(stripe::thin(body(odd).to_string().as_bytes()), None, "{url}");
    }
    // What is asked for at another address would be kept as another object, and this one be asked for without end.
    for url in ["/v1/subscriptions/sub_2", "/v1/subscriptions/sub_1/items", "/v1/subscriptions"] {
        let mut elsewhere = related.clone();
        elsewhere["url"] = json!(url);
        assert_eq!(stripe::thin(body(elsewhere).to_string().as_bytes()), None, "{url}");
    }
    assert_eq!(stripe::thin(body(Value::Null).to_string().as_bytes()), None);
    assert_eq!(stripe::thin(event("invoice.paid", json!({})).to_string().as_bytes()), None);
}
