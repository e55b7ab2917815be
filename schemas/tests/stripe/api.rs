//! What the REST API answers reads like what a webhook brings, once it stands in an event.

use keyledger_schemas::stripe::{Header, facts};
use serde_json::Value;

use crate::fixtures::{NEW, OLD, facts_of, links, read, shown};
use crate::the;

fn answer(version: &str, name: &str) -> Value {
    serde_json::from_slice(&read(&format!("api/{version}/{name}.json"))).unwrap()
}

#[test]
fn a_fetched_session_shows_what_it_sold() {
    for version in [OLD, NEW] {
        let session = answer(version, "get_checkout_session_payment_expand_line_items");
        let lines = the!(SessionSeen, shown("checkout.session.completed", session)).lines.unwrap();
        let line = &lines[0];
        assert_eq!((lines.len(), line.amount_minor, line.quantity), (1, 1000, Some(1)));
        assert_eq!(line.price.as_ref().unwrap().id.as_str(), "price_1PgafmB7WZ01zgkW02Hf9z6c");
        assert_eq!(line.price.as_ref().unwrap().product.as_ref().unwrap().as_str(), "prod_QXg1hqf4jFNsqG");
    }
}

#[test]
fn a_fetched_invoice_shows_its_payments() {
    let stated = shown("invoice.paid", answer(NEW, "get_invoice_expand_payments"));
    assert!(links(&stated).contains(&"pi_39iEflB7WZ01zgkWyOOKjL8d -> in_10hWe5B7WZ01zgkWBEsTI94k".to_owned()));
}

#[test]
fn a_fetched_invoice_payment_links_by_its_status() {
    let payments = answer(NEW, "list_invoice_payments_by_payment_intent");
    assert_eq!(links(&shown("invoice_payment.fetched", payments["data"][0].clone())).len(), 1);
}

#[test]
fn a_customer_that_is_gone_is_deleted_whatever_the_event() {
    let seen = the!(CustomerSeen, shown("customer.fetched", answer(NEW, "get_customer_deleted")));
    assert!(seen.deleted && seen.email.is_none());
}

#[test]
fn events_read_back_from_the_api_are_events() {
    for version in [OLD, NEW] {
        let listed = answer(version, "list_events");
        let one = answer(version, "get_event");
        for event in listed["data"].as_array().unwrap().iter().chain([&one]) {
            assert!(Header::read(event.to_string().as_bytes()).is_ok());
            assert!(!facts_of(event).is_empty(), "{}", event["type"]);
        }
    }
}

#[test]
fn what_is_no_event_is_refused_and_states_nothing() {
    for file in ["errors/rate_limit_429", "2024-06-20/get_customer", "2024-06-20/list_events"] {
        let body = read(&format!("api/{file}.json"));
        assert!(Header::read(&body).is_err(), "{file}");
        assert_eq!(facts(&body), [], "{file}");
    }
    assert!(Header::read(&read("signatures/vectors.json")).is_err());
}

#[test]
fn the_bodies_of_the_signature_vectors_state_one_sale_however_they_are_written() {
    let sale = facts(&read("signatures/pretty.json"));
    assert_eq!(sale.len(), 2);
    for file in ["compact.json", "trailing_newline.json"] {
        assert_eq!(facts(&read(&format!("signatures/{file}"))), sale, "{file}");
    }
    the!(SessionSeen, facts(&read("signatures/unicode.json")));
}
