//! What is asked of a body before it is kept.

use jiff::Timestamp;
use keyledger_schemas::ids::Mode;
use keyledger_schemas::stripe::Header;
use serde_json::{Value, json};

use crate::fixtures::{at, event, read};

fn header(body: &Value) -> Header {
    Header::read(body.to_string().as_bytes()).unwrap()
}

/// A snapshot event with one field set to `value`.
fn with(field: &str, value: Value) -> Value {
    let mut body = event("invoice.paid", json!({"id": "in_1", "object": "invoice", "customer": "cus_1"}));
    body[field] = value;
    body
}

#[track_caller]
fn refused(body: &[u8], because: &str) {
    let error = Header::read(body).unwrap_err();
    assert_eq!(error.to_string(), format!("not a Stripe event: {because}"));
}

#[test]
fn a_snapshot_event_names_its_object_and_customer() {
    let header = header(&with("api_version", json!("2026-07-29.dahlia")));
    assert_eq!((header.id.as_str(), header.kind.as_str()), ("evt_1", "invoice.paid"));
    assert_eq!(header.api_version.as_deref(), Some("2026-07-29.dahlia"));
    assert_eq!((header.created, header.mode, header.account), (Some(at(1_500_000_000)), Mode::Live, None));
    assert_eq!((header.object.as_deref(), header.customer.as_deref()), (Some("in_1"), Some("cus_1")));
    assert!(!header.thin);
}

#[test]
fn the_customer_of_a_customer_is_the_customer() {
    let header = header(&event("customer.created", json!({"id": "cus_1", "object": "customer"})));
    assert_eq!(header.customer.as_deref(), Some("cus_1"));
}

#[test]
fn an_expanded_customer_and_an_account_in_its_place_are_customers() {
    let customer = |object: Value| header(&event("invoice.paid", object)).customer;
    assert_eq!(customer(json!({"customer": {"id": "cus_1", "object": "customer"}})).as_deref(), Some("cus_1"));
    assert_eq!(customer(json!({"customer": null, "customer_account": "acct_1"})).as_deref(), Some("acct_1"));
}

#[test]
fn a_thin_event_is_read_from_what_it_relates_to() {
    let body = json!({
        "id": "evt_test_65R9", "object": "v2.core.event", "type": "v1.customer.updated", "livemode": false,
        "created": "2026-10-01T06:20:52.246Z", "context": "acct_9",
        "related_object": {"id": "cus_1", "type": "customer", "url": "/v1/customers/cus_1"},
    });
    let header = header(&body);
    assert_eq!(header.created, Some("2026-10-01T06:20:52.246Z".parse::<Timestamp>().unwrap()));
    assert_eq!(header.account.unwrap().as_str(), "acct_9");
    assert_eq!((header.object.as_deref(), header.customer.as_deref()), (Some("cus_1"), Some("cus_1")));
    assert_eq!((header.mode, header.thin, header.api_version), (Mode::Test, true, None));
}

#[test]
fn a_thin_event_may_be_about_nothing_and_have_brackets_in_its_type() {
    let kind = "v2.core.account[configuration.merchant].updated";
    let header =
        header(&json!({"id": "evt_1", "object": "v2.core.event", "type": kind, "livemode": true, "context": null}));
    assert_eq!((header.kind.as_str(), header.object, header.account), (kind, None, None));
}

#[test]
fn a_connected_account_places_an_event_and_the_context_of_a_snapshot_does_not() {
    assert_eq!(header(&with("account", json!("acct_1"))).account.unwrap().as_str(), "acct_1");
    assert_eq!(header(&with("context", json!("acct_1"))).account, None);
}

#[test]
fn everything_else_may_be_odd() {
    for odd in [json!(null), json!(5), json!(-1.5), json!("\u{0}a b/c:d"), json!([[]]), json!({"id": []})] {
        for field in ["object", "api_version", "created", "account", "context", "data", "request"] {
            let header = header(&with(field, odd.clone()));
            assert_eq!(header.id.as_str(), "evt_1", "{field} {odd}");
            assert!(!header.thin);
        }
        assert_eq!(header(&with("data", json!({"object": odd}))).customer, None);
    }
    assert_eq!(header(&with("created", json!(i64::MAX))).created, None);
    assert_eq!(header(&with("created", json!("9999-12-31T00:00:00Z"))).created, None);
}

#[test]
fn of_a_field_written_twice_the_last_one_counts() {
    let body = br#"{"id":"evt_1","id":"evt_2","type":"a.b","livemode":false,"livemode":true}"#;
    let header = Header::read(body).unwrap();
    assert_eq!((header.id.as_str(), header.mode), ("evt_2", Mode::Live));
}

#[test]
fn nesting_costs_nothing_where_nobody_looks() {
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let body =
        format!(r#"{{"id":"evt_1","type":"a.b","livemode":true,"data":{{"object":{{"id":"x_1","deep":{deep}}}}}}}"#);
    assert_eq!(Header::read(body.as_bytes()).unwrap().object.as_deref(), Some("x_1"));
}

#[test]
fn without_an_id_a_type_or_a_mode_it_is_no_event() {
    for id in [json!(null), json!(1), json!(""), json!("evt 1"), json!("evt:1"), json!("evt/1"), json!("evt_é")] {
        refused(with("id", id).to_string().as_bytes(), "`id` is not an event's id");
    }
    refused(with("id", json!("e".repeat(256))).to_string().as_bytes(), "`id` is not an event's id");
    for kind in [json!(null), json!(""), json!("a..b"), json!(".a"), json!("a b"), json!("a.>"), json!("a".repeat(201))]
    {
        refused(with("type", kind).to_string().as_bytes(), "`type` is not a type");
    }
    for mode in [json!(null), json!("true"), json!(1)] {
        refused(with("livemode", mode).to_string().as_bytes(), "`livemode` is neither true nor false");
    }
}

#[test]
fn what_is_no_json_object_is_no_event() {
    for body in ["", " ", "null", "[]", "\"evt_1\"", "{", "{}x", "\u{feff}{}", "{\"id\":}"] {
        refused(body.as_bytes(), "the body is not a JSON object");
    }
    refused(b"{\"id\":\"\xff\"}", "the body is not UTF-8");
    refused(b"{}", "`id` is not an event's id");
}

#[test]
fn the_bodies_of_the_signature_vectors_are_events() {
    for file in ["compact.json", "pretty.json", "trailing_newline.json", "unicode.json"] {
        let header = Header::read(&read(&format!("signatures/{file}"))).unwrap();
        assert_eq!(header.id.as_str(), "evt_1B56r2B7WZ01zgkW4OM7P6Fl", "{file}");
    }
}
