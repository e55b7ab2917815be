//! What events do not carry, and is asked for once.

use std::time::Duration;

use keyledger_sandbox::faults::Fault;
use keyledger_sandbox::stripe::Realm;
use serde_json::{Value, json};

use crate::support::{VERSIONS, story};
use crate::world::{World, entry, id_in, updated, without};

/// The object of this kind that a story shows last.
fn object(bodies: &[Vec<u8>], kind: &str) -> Value {
    let shown = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).unwrap()["data"]["object"].clone());
    shown.rev().find(|object| object["object"] == kind).unwrap()
}

fn load(world: &World, object: Value) {
    world.stripe.load_object(&Realm::own(true), object).unwrap();
}

/// A session as it is loaded with what it sold.
fn with_lines(session: &Value, price: &str, quantity: u64) -> Value {
    let mut session = session.clone();
    let price = json!({"id": price, "object": "price", "product": "prod_one", "metadata": {}, "active": true,
        "livemode": true, "currency": "eur", "unit_amount": 100, "type": "one_time", "created": 1});
    session["line_items"] = json!({"object": "list", "has_more": false, "url": "/v1/x", "data": [
        {"id": "li_1", "object": "item", "amount_total": 100, "currency": "eur", "quantity": quantity, "price": price}]});
    session
}

#[tokio::test]
async fn lines_of_a_one_off_session_are_fetched_once_and_sold() {
    let catalog = vec![entry(r#"{"price": "price_one", "provider": "cryptolens", "product": "3349"}"#)];
    let mut world = World::selling("cryptolens", catalog).await;
    let bodies = story("b", VERSIONS[1]);
    world.load(&bodies);
    load(&world, with_lines(&object(&bodies, "checkout.session"), "price_one", 3));
    world.feed(&bodies).await;
    let issued = world.events("license.issued").await;
    let data: Value = serde_json::from_slice(&issued[0].data).unwrap();
    assert_eq!((issued.len(), data["terms"]["seats"].as_u64()), (1, Some(3)));
    assert_eq!(world.events("stripe.fetched.checkout.session").await.len(), 1);
    let asked = world.asked("checkout/sessions.get");
    world.feed(&bodies).await;
    world.restart().await;
    world.pass(Duration::from_hours(48)).await;
    assert_eq!(world.asked("checkout/sessions.get"), asked);
}

#[tokio::test]
async fn what_stripe_does_not_show_is_recorded_and_not_asked_for_again_that_day() {
    let mut world = World::new("cryptolens").await;
    let bodies = story("b", VERSIONS[1]);
    world.misbehave("checkout/sessions.get", 100, Fault::Fail { status: 404, retry_after_s: None });
    world.feed(&bodies).await;
    assert_eq!(world.events("fetch.refused").await.len(), 1);
    world.pass(Duration::from_hours(12)).await;
    world.restart().await;
    world.feed(&bodies).await;
    world.pass(Duration::from_hours(11)).await;
    assert_eq!(world.asked("checkout/sessions.get"), 1);
    assert_eq!(world.events("license.issued").await.len(), 1, "by the default entry");
}

/// A key of the wrong account knows nothing of what is asked for, until it is mended.
#[tokio::test]
async fn a_refusal_holds_for_a_day_and_is_recorded_each_time() {
    let catalog = vec![entry(r#"{"price": "price_one", "provider": "cryptolens", "product": "3349"}"#)];
    let mut world = World::selling("cryptolens", catalog).await;
    let bodies = story("b", VERSIONS[1]);
    world.load(&bodies);
    load(&world, with_lines(&object(&bodies, "checkout.session"), "price_one", 3));
    world.misbehave("checkout/sessions.get", 2, Fault::Fail { status: 404, retry_after_s: None });
    world.feed(&bodies).await;
    for (hours, asked, refused) in [(23, 1, 1), (1, 2, 2), (23, 2, 2)] {
        world.pass(Duration::from_hours(hours)).await;
        assert_eq!(world.asked("checkout/sessions.get"), asked);
        assert_eq!(world.events("fetch.refused").await.len(), refused);
    }
    assert_eq!(world.events("license.issued").await.len(), 0);
    world.pass(Duration::from_hours(1)).await;
    assert_eq!(world.events("stripe.fetched.checkout.session").await.len(), 1, "nobody had to do anything");
    assert_eq!(world.events("license.issued").await.len(), 1);
    world.pass(Duration::from_hours(48)).await;
    assert_eq!(world.asked("checkout/sessions.get"), 3);
}

#[tokio::test]
async fn an_answer_of_the_other_mode_is_refused_in_words_and_sells_nothing() {
    let catalog = vec![entry(r#"{"price": "price_one", "provider": "cryptolens", "product": "3349"}"#)];
    let mut world = World::selling("cryptolens", catalog).await;
    let bodies = story("b", VERSIONS[1]);
    let session = with_lines(&object(&bodies, "checkout.session"), "price_one", 3);
    let mut test = session.clone();
    test["livemode"] = json!(false);
    load(&world, test);
    world.feed(&bodies).await;
    let refused = world.events("fetch.refused").await;
    let data: Value = serde_json::from_slice(&refused[0].data).unwrap();
    let reason = data["reason"].as_str().unwrap();
    assert_eq!(reason, "the API key shows test objects, and the source is for live: check the key");
    assert_eq!(world.events("stripe.fetched.checkout.session").await.len(), 0);
    assert_eq!(world.events("license.issued").await.len(), 0);
    load(&world, session);
    world.pass(Duration::from_hours(24)).await;
    assert_eq!(world.events("license.issued").await.len(), 1);
}

#[tokio::test]
async fn limits_are_waited_for() {
    let mut world = World::new("cryptolens").await;
    let bodies = story("b", VERSIONS[1]);
    world.load(&bodies);
    load(&world, with_lines(&object(&bodies, "checkout.session"), "price_one", 3));
    world.misbehave("checkout/sessions.get", 2, Fault::Fail { status: 429, retry_after_s: None });
    world.feed(&bodies).await;
    assert_eq!(world.events("stripe.fetched.checkout.session").await.len(), 0);
    world.pass(Duration::from_mins(1)).await;
    world.pass(Duration::from_mins(1)).await;
    assert_eq!(world.events("stripe.fetched.checkout.session").await.len(), 1);
}

#[tokio::test]
async fn further_lines_of_a_paid_invoice_are_fetched() {
    let mut world = World::new("cryptolens").await;
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(9).collect();
    let whole = object(&bodies, "invoice");
    let truncated = bodies.iter().map(|body| {
        let mut event: Value = serde_json::from_slice(body).unwrap();
        if event["data"]["object"]["object"] == "invoice" {
            event["data"]["object"]["lines"]["has_more"] = json!(true);
        }
        event.to_string().into_bytes()
    });
    world.load(&bodies);
    load(&world, whole.clone());
    world.feed(&truncated.collect::<Vec<_>>()).await;
    assert_eq!(world.events("stripe.fetched.invoice").await.len(), 1);
    world.pass(Duration::from_hours(48)).await;
    assert_eq!(world.events("stripe.fetched.invoice").await.len(), 1);
}

#[tokio::test]
async fn a_refund_without_a_link_finds_its_sale_by_the_payments_of_the_invoice() {
    let mut world = World::new("cryptolens").await;
    let bodies = story("e", VERSIONS[1]);
    world.load(&bodies);
    // The only events that link the payment to the invoice never arrive.
    let bodies =
        without(&bodies, &["invoice_payment.paid", "checkout.session.completed", "customer.subscription.deleted"]);
    world.feed(&bodies).await;
    assert_eq!(world.asked("invoice_payments.list"), 0, "the link may come by itself");
    assert_eq!(world.events("license.revoked").await.len(), 0);
    world.pass(Duration::from_mins(1)).await;
    assert_eq!(world.events("license.revoked").await.len(), 1);
    world.pass(Duration::from_hours(48)).await;
    assert_eq!(world.asked("invoice_payments.list"), 1);
}

#[tokio::test]
async fn a_refund_that_belongs_to_nothing_is_asked_about_once() {
    let mut world = World::new("cryptolens").await;
    let bodies = story("e", VERSIONS[1]);
    let mut refund = object(&bodies, "refund");
    (refund["id"], refund["payment_intent"], refund["charge"]) = (json!("re_x"), json!("pi_x"), Value::Null);
    world.feed(&[updated("refund.created", &refund, 1)]).await;
    for _ in 0..5 {
        world.pass(Duration::from_hours(1)).await;
    }
    assert_eq!((world.asked("invoice_payments.list"), world.asked("checkout/sessions.list")), (1, 1));
}

#[tokio::test]
async fn of_several_things_that_may_tell_a_sale_only_the_refused_one_is_asked_for_a_day_later() {
    let mut world = World::new("cryptolens").await;
    let bodies = story("e", VERSIONS[1]);
    let mut refund = object(&bodies, "refund");
    (refund["id"], refund["payment_intent"], refund["charge"]) = (json!("re_x"), json!("pi_x"), Value::Null);
    world.misbehave("invoice_payments.list", 1, Fault::Fail { status: 404, retry_after_s: None });
    world.feed(&[updated("refund.created", &refund, 1)]).await;
    for (hours, payments, sessions) in [(1, 1, 1), (22, 1, 1), (2, 2, 1), (72, 2, 1)] {
        world.pass(Duration::from_hours(hours)).await;
        let asked = (world.asked("invoice_payments.list"), world.asked("checkout/sessions.list"));
        assert_eq!(asked, (payments, sessions), "{hours}");
    }
}

#[tokio::test]
async fn the_object_of_a_thin_event_that_was_refused_is_asked_for_a_day_later() {
    let mut world = World::new("cryptolens").await;
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
    world.load(&bodies);
    let id = object(&bodies, "invoice")["id"].as_str().unwrap().to_owned();
    let thin = json!({"id": "evt_thin", "object": "v2.core.event", "type": "v1.invoice.paid", "livemode": true,
        "created": "2026-11-20T12:00:01.000Z",
        "related_object": {"id": id, "type": "invoice", "url": format!("/v1/invoices/{id}")}});
    world.misbehave("invoices.get", 1, Fault::Fail { status: 404, retry_after_s: None });
    world.feed_thin(&[thin.to_string().into_bytes()]).await;
    for (hours, asked, shown) in [(1, 1, 0), (22, 1, 0), (2, 2, 1), (72, 2, 1)] {
        world.pass(Duration::from_hours(hours)).await;
        let fetched = world.events("stripe.fetched.invoice").await.len();
        assert_eq!((world.asked("invoices.get"), fetched), (asked, shown), "{hours}");
    }
}

#[tokio::test]
async fn a_subscription_that_was_paid_for_and_never_seen_is_fetched() {
    let mut world = World::new("cryptolens").await;
    let bodies = story("a", VERSIONS[1]);
    let first: Vec<_> = bodies.into_iter().take(10).collect();
    world.load(&first);
    let id = id_in(&first, "subscription");
    // Nothing but the sessions is subscribed to.
    let session = first.iter().filter(|body| String::from_utf8_lossy(body).contains("checkout.session.completed"));
    world.feed(&session.cloned().collect::<Vec<_>>()).await;
    assert_eq!(world.events("license.issued").await.len(), 0);
    assert_eq!(world.asked("subscriptions.get"), 0, "it may come by itself");
    world.pass(Duration::from_mins(1)).await;
    assert_eq!(world.events("stripe.fetched.subscription").await.len(), 1);
    assert_eq!(world.events("license.issued").await.len(), 1);
    assert!(world.metadata("subscription", &id).contains_key("skm_key_id"));
    world.pass(Duration::from_hours(48)).await;
    assert_eq!((world.asked("subscriptions.get"), world.asked("invoices.get")), (1, 1));
}

#[tokio::test]
async fn metadata_of_a_product_that_nothing_maps_is_fetched() {
    let mut world = World::selling("cryptolens", vec![entry(r#"{"price": "price_other"}"#)]).await;
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
    world.load(&bodies);
    let subscription = object(&bodies, "subscription");
    let price = &subscription["items"]["data"][0]["price"];
    let product = price["product"].as_str().unwrap().to_owned();
    load(
        &world,
        json!({"id": product, "object": "product", "active": true, "livemode": true, "name": "Pro", "created": 1,
        "metadata": {"skm_product_id": "3349"}}),
    );
    load(&world, price.clone());
    world.feed(&bodies).await;
    assert_eq!(world.events("license.issued").await.len(), 1);
    assert_eq!(world.asked("products.get"), 1);
    world.restart().await;
    world.pass(Duration::from_hours(48)).await;
    assert_eq!(world.asked("products.get"), 1);
}

#[tokio::test]
async fn nothing_is_asked_for_where_events_say_it_all() {
    let mut world = World::new("cryptolens").await;
    for key in ["a", "c", "d", "f", "h", "k", "m"] {
        world.tell(key).await;
    }
    world.pass(Duration::from_hours(48)).await;
    let calls = world.stripe.stage().calls();
    let reads: Vec<_> = calls.keys().filter(|operation| !operation.ends_with(".update")).collect();
    assert_eq!(reads, Vec::<&String>::new());
}

#[tokio::test]
async fn the_object_of_a_thin_event_is_fetched_unless_it_was_shown() {
    let mut world = World::new("cryptolens").await;
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
    world.load(&bodies);
    let invoice = object(&bodies, "invoice");
    let id = invoice["id"].as_str().unwrap();
    let thin = |second: u32| {
        let event = json!({"id": format!("evt_thin{second}"), "object": "v2.core.event", "type": "v1.invoice.paid",
            "livemode": true, "created": format!("2026-11-20T12:00:{second:02}.000Z"),
            "related_object": {"id": id, "type": "invoice", "url": format!("/v1/invoices/{id}")}});
        event.to_string().into_bytes()
    };
    world.feed_thin(&[thin(1), thin(2)]).await;
    assert_eq!(world.asked("invoices.get"), 0);
    world.pass(Duration::from_mins(1)).await;
    assert_eq!(world.asked("invoices.get"), 1, "one for both");
    assert_eq!(world.events("stripe.fetched.invoice").await.len(), 1);
    world.pass(Duration::from_hours(1)).await;
    assert_eq!(world.events("license.issued").await.len(), 1);
    let mut later = invoice.clone();
    later["description"] = json!("as a webhook shows it");
    world.feed_thin(&[thin(59)]).await;
    world.feed(&[updated("invoice.updated", &later, 59)]).await;
    world.pass(Duration::from_hours(1)).await;
    assert_eq!(world.asked("invoices.get"), 1, "it was shown meanwhile");
}

#[tokio::test]
async fn a_customer_without_an_address_anywhere_is_fetched_where_the_engine_needs_one() {
    let mut world = World::new("cryptlex").await;
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
    world.load(&bodies);
    let nameless = bodies.iter().map(|body| {
        let mut event: Value = serde_json::from_slice(body).unwrap();
        let object = &mut event["data"]["object"];
        (object["customer_email"], object["customer_details"]) = (Value::Null, Value::Null);
        event.to_string().into_bytes()
    });
    let nameless: Vec<_> = nameless.collect();
    world.feed(&without(&nameless, &["customer.created"])).await;
    assert_eq!((world.events("license.issued").await.len(), world.asked("customers.get")), (0, 0));
    world.pass(Duration::from_mins(1)).await;
    assert_eq!((world.events("license.issued").await.len(), world.asked("customers.get")), (1, 1));
}

#[tokio::test]
async fn a_connected_account_is_asked_and_written_to_in_its_own_name() {
    let mut world = World::new("cryptlex").await;
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
    let id = id_in(&bodies, "subscription");
    let connected: Vec<Vec<u8>> = bodies
        .iter()
        .map(|body| {
            let mut event: Value = serde_json::from_slice(body).unwrap();
            event["account"] = json!("acct_9");
            event.to_string().into_bytes()
        })
        .collect();
    world.load(&connected);
    world.feed(&without(&connected, &["customer.subscription.created"])).await;
    world.pass(Duration::from_mins(1)).await;
    let realm = Realm { account: Some("acct_9".to_owned()), live: true };
    let subscription = world.stripe.object(&realm, "subscription", &id).unwrap();
    assert!(subscription["metadata"]["keyledger_license_id"].is_string(), "{subscription:?}");
    assert_eq!(world.events("stripe.fetched.subscription").await[0].scope.account, Some("acct_9".into()));
    assert_eq!(world.events("metadata.refused").await.len(), 0);
}

#[tokio::test]
async fn objects_of_the_other_mode_are_left_alone() {
    let mut world = World::new("cryptlex").await;
    // A refund among them waits for its sale.
    let bodies = [story("a", VERSIONS[1]), story("e", VERSIONS[1])].concat();
    let test: Vec<Vec<u8>> = bodies
        .iter()
        .map(|body| {
            let mut event: Value = serde_json::from_slice(body).unwrap();
            event["livemode"] = json!(false);
            event.to_string().into_bytes()
        })
        .collect();
    world.load(&test);
    let links = ["customer.subscription.created", "invoice_payment.paid", "checkout.session.completed"];
    world.feed(&without(&test, &links)).await;
    world.pass(Duration::from_hours(3)).await;
    assert!(world.stripe.stage().calls().is_empty(), "{:?}", world.stripe.stage().calls());
}
