//! Reading and writing, and what failures mean.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use futures::TryStreamExt;
use keyledger_issuer::provider::CallError;
use keyledger_issuer::stripe::client::{Holder, StripeError, Want};
use keyledger_sandbox::faults::Fault;
use keyledger_sandbox::stripe::Realm;
use keyledger_schemas::ids::AccountId;
use keyledger_schemas::stripe::fact::Fact;
use keyledger_schemas::stripe::facts;
use keyledger_schemas::stripe::fetched::is_whole;
use serde_json::{Value, json};

use crate::place::{NEW, NOW, Place, list};

fn values(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn subscription(id: &str) -> Value {
    json!({"id": id, "object": "subscription", "status": "active", "created": 1_785_000_000, "livemode": true,
           "customer": "cus_1", "metadata": {"plan": "pro"}, "items": list([])})
}

fn fail(status: u16) -> Fault {
    Fault::Fail { status, retry_after_s: None }
}

#[tokio::test]
async fn a_session_is_read_with_all_that_it_sold() {
    let place = Place::new().await;
    let line = |n| json!({"id": format!("li_{n}"), "object": "item", "amount_total": n, "quantity": 1, "price": {"id": "price_1"}});
    place.own(json!({"id": "cs_1", "object": "checkout.session", "mode": "payment", "payment_status": "paid",
        "status": "complete", "created": 1, "line_items": list((0..250).map(line))}));
    let want = Want::Session("cs_1".into());
    let fetched = place.client().fetch(&want).await.unwrap();
    assert_eq!((fetched.path.as_str(), fetched.about.as_str()), (want.path().as_str(), "cs_1"));
    assert_eq!((fetched.object.as_str(), fetched.at), ("checkout.session", NOW.parse().unwrap()));
    let Fact::SessionSeen(seen) = &facts(&fetched.encode())[0] else { panic!("a session") };
    assert_eq!(seen.lines.as_ref().unwrap().len(), 250);
}

#[tokio::test]
async fn an_invoice_is_read_with_all_of_its_lines_and_its_payments() {
    let place = Place::new().await;
    let line = |n| json!({"id": format!("il_{n}"), "object": "line_item", "amount": n});
    place.own(json!({"id": "in_1", "object": "invoice", "status": "paid", "created": 1, "currency": "usd",
        "lines": list((0..101).map(line))}));
    for n in 0..12 {
        place.own(json!({"id": format!("inpay_{n}"), "object": "invoice_payment", "invoice": "in_1", "status": "paid",
            "created": n, "payment": {"type": "payment_intent", "payment_intent": format!("pi_{n}")}}));
    }
    let fetched = place.client().fetch(&Want::Invoice("in_1".into())).await.unwrap();
    let stated = facts(&fetched.encode());
    let Fact::InvoiceSeen(seen) = &stated[0] else { panic!("an invoice") };
    assert_eq!((seen.lines.len(), seen.lines_truncated), (101, false));
    assert_eq!(stated.iter().filter(|fact| matches!(fact, Fact::Linked(_))).count(), 12);
    let payments = place.client().fetch(&Want::PaymentsOfInvoice("in_1".into())).await.unwrap();
    assert_eq!((payments.objects().len(), payments.about.as_str()), (12, "in_1"));
    let of_intent = place.client().fetch(&Want::PaymentsOfIntent("pi_3".into())).await.unwrap();
    assert_eq!((of_intent.objects().len(), of_intent.object.as_str()), (1, "invoice_payment"));
}

#[tokio::test]
async fn a_subscription_is_read_with_all_of_its_items() {
    let place = Place::new().await;
    let item = |n| json!({"id": format!("si_{n}"), "object": "subscription_item", "price": {"id": "price_1"}});
    place.own(json!({"id": "sub_1", "object": "subscription", "status": "active", "created": 1,
        "items": list((0..13).map(item))}));
    let fetched = place.client().fetch(&Want::Related("/v1/subscriptions/sub_1".to_owned())).await.unwrap();
    assert!(is_whole(&fetched.answer, "items"));
    assert_eq!((fetched.object.as_str(), fetched.about.as_str()), ("subscription", "sub_1"));
    let Fact::SubscriptionSeen(seen) = &facts(&fetched.encode())[0] else { panic!("a subscription") };
    assert_eq!(seen.items.len(), 13);
}

#[tokio::test]
async fn everything_that_a_story_shows_can_be_asked_for() {
    let place = Place::new().await;
    for story in ["a", "b", "e", "f", "l"] {
        place.tell(story, NEW);
    }
    let state = place.stripe.state();
    let first = |list: &Value| list.as_array().unwrap()[0]["id"].as_str().unwrap().to_owned();
    let client = place.client();
    let subscription = Want::Subscription(first(&state["subscriptions"]).as_str().into());
    let customer = Want::Customer(first(&state["customers"]).as_str().into());
    for want in [subscription, customer] {
        let fetched = client.fetch(&want).await.unwrap();
        assert!(!facts(&fetched.encode()).is_empty(), "{want:?}");
    }
    for (path, of) in [
        ("/v1/charges", (|id: &str| Want::Charge(id.into())) as fn(&str) -> Want),
        ("/v1/payment_intents", |id| Want::PaymentIntent(id.into())),
        ("/v1/refunds", |id| Want::Refund(id.into())),
        ("/v1/disputes", |id| Want::Dispute(id.into())),
        ("/v1/prices", |id| Want::Price(id.into())),
        ("/v1/products", |id| Want::Product(id.into())),
    ] {
        let pages: Vec<_> = client.pages(path, &[]).try_collect().await.unwrap();
        let values = pages[0].values().unwrap();
        let id = values[0]["id"].as_str().unwrap();
        let want = of(id);
        let fetched = client.fetch(&want).await.unwrap();
        assert_eq!(fetched.answer["object"], want.object(), "{path}");
        assert!(!facts(&fetched.encode()).is_empty(), "{path}");
    }
    let intent = client.pages("/v1/checkout/sessions", &[]).try_collect::<Vec<_>>().await.unwrap();
    let session =
        intent[0].values().unwrap().into_iter().find(|session| session["payment_intent"].is_string()).unwrap();
    let want = Want::SessionsOfIntent(session["payment_intent"].as_str().unwrap().into());
    assert_eq!(client.fetch(&want).await.unwrap().objects()[0]["id"], session["id"]);
    let nothing = client.fetch(&Want::SessionsOfIntent("pi_other".into())).await.unwrap();
    assert_eq!(nothing.objects().len(), 0);
}

#[tokio::test]
async fn an_answer_is_dated_by_stripe_and_never_later_than_it_was_asked_for() {
    let place = Place::new().await;
    place.own(subscription("sub_1"));
    let want = Want::Subscription("sub_1".into());
    for (ours, theirs, expected) in [
        ("2026-08-25T00:00:10.7Z", "2026-08-25T00:00:03Z", "2026-08-25T00:00:03Z"),
        ("2026-08-25T00:00:02.7Z", "2026-08-25T00:00:03Z", "2026-08-25T00:00:02Z"),
    ] {
        place.clock.set(ours.parse().unwrap());
        place.stripe.set_now(theirs.parse().unwrap());
        assert_eq!(place.client().fetch(&want).await.unwrap().at, expected.parse().unwrap());
    }
}

#[tokio::test]
async fn pages_are_asked_for_one_by_one() {
    let place = Place::new().await;
    for n in 0..250 {
        place.own(json!({"id": format!("re_{n:03}"), "object": "refund", "created": n}));
    }
    let client = place.client();
    {
        let pages = client.pages("/v1/refunds", &[]);
        futures::pin_mut!(pages);
        let first = pages.try_next().await.unwrap().unwrap();
        assert_eq!((first.elements.len(), first.has_more, place.calls("refunds.list")), (100, true, 1));
    }
    let all: Vec<_> = client.pages("/v1/refunds", &[]).try_collect().await.unwrap();
    assert_eq!(all.iter().map(|page| page.elements.len()).collect::<Vec<_>>(), [100, 100, 50]);
    assert_eq!(place.calls("refunds.list"), 4);
    place.misbehave("refunds.list", 1, fail(500));
    assert!(client.pages("/v1/refunds", &[]).try_collect::<Vec<_>>().await.is_err());
}

#[tokio::test]
async fn metadata_is_merged_once_for_its_key_however_often_it_is_sent() {
    let place = Place::new().await;
    place.own(subscription("sub_1"));
    place.own(json!({"id": "cus_1", "object": "customer", "created": 1, "metadata": {}}));
    let client = place.client();
    let holder = Holder::Subscription("sub_1".into());
    let wanted = values(&[("skm_key_id", "a b&c=d"), ("plan", "")]);
    place.misbehave("subscriptions.update", 1, Fault::CommitThenDrop);
    let lost = client.write_metadata(&holder, &wanted, "keyledger/1").await;
    assert!(matches!(lost, Err(StripeError::Unavailable { .. })), "{lost:?}");
    let written = client.write_metadata(&holder, &wanted, "keyledger/1").await.unwrap();
    assert_eq!(written["metadata"], json!({"skm_key_id": "a b&c=d"}));
    assert_eq!(place.stripe.writes(), [("sub_1".to_owned(), 1)].into());
    let other = client.write_metadata(&holder, &values(&[("x", "y")]), "keyledger/1").await;
    assert!(matches!(other, Err(StripeError::Refused { status: 400, .. })), "{other:?}");
    client.write_metadata(&Holder::Customer("cus_1".into()), &values(&[("a", "b")]), "keyledger/2").await.unwrap();
    assert_eq!(place.stripe.echoes()[1]["request"]["idempotency_key"], "keyledger/2");
}

#[tokio::test]
async fn what_is_not_there_is_refused_for_good() {
    let place = Place::new().await;
    place.own(subscription("sub_1"));
    let error = place.client().fetch(&Want::Subscription("sub_9".into())).await.unwrap_err();
    let StripeError::Refused { status: 404, code: Some(code), request_id: Some(request) } = &error else {
        panic!("{error:?}")
    };
    assert!(code == "resource_missing" && request.starts_with("req_") && error.is_missing());
    assert_eq!(error.to_string(), "Stripe refused the request with status 404 (resource_missing)");
    let other_mode = place.client_with("sandbox_test").fetch(&Want::Subscription("sub_1".into())).await;
    assert!(other_mode.unwrap_err().is_missing());
}

#[tokio::test]
async fn a_key_that_is_wrong_or_may_not_is_a_setting_to_mend() {
    let place = Place::new().await;
    let want = Want::Price("price_1".into());
    for (client, status) in [(place.client_with("rk_live_wrong"), 401), (place.client(), 403)] {
        if status == 403 {
            place.misbehave("prices.get", 1, fail(403));
        }
        let error = client.fetch(&want).await.unwrap_err();
        let StripeError::Unavailable { source: CallError::Credentials { status: said }, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(said, status);
    }
}

#[tokio::test]
async fn what_passes_by_itself_may_be_tried_again() {
    let place = Place::new().await;
    let want = Want::Price("price_1".into());
    for fault in [fail(500), fail(503), fail(409), fail(429), Fault::Drop, Fault::CommitThenGarble] {
        place.misbehave("prices.get", 1, fault.clone());
        place.own(json!({"id": "price_1", "object": "price", "created": 1}));
        let error = place.client().fetch(&want).await.unwrap_err();
        assert!(matches!(error, StripeError::Unavailable { .. }), "{fault:?}: {error:?}");
    }
    place.misbehave("prices.get", 1, fail(400));
    assert!(matches!(place.client().fetch(&want).await, Err(StripeError::Refused { status: 400, .. })));
    assert!(place.client().fetch(&want).await.is_ok());
}

#[tokio::test]
async fn a_locked_object_says_that_it_may_be_tried_again() {
    let place = Place::new().await;
    place.own(subscription("sub_1"));
    let settings = place.stripe.settings();
    place.stripe.set(keyledger_sandbox::stripe::Settings { lock_ms: 60_000, ..settings });
    let (client, holder) = (place.client(), Holder::Subscription("sub_1".into()));
    client.write_metadata(&holder, &values(&[("a", "1")]), "k1").await.unwrap();
    let locked = client.write_metadata(&holder, &values(&[("a", "2")]), "k2").await.unwrap_err();
    assert!(matches!(locked, StripeError::Unavailable { source: CallError::Status { status: 429 }, .. }), "{locked:?}");
}

#[tokio::test]
async fn stripe_is_left_alone_for_as_long_as_it_asks() {
    let place = Place::new().await;
    place.own(subscription("sub_1"));
    let client = place.client();
    place.misbehave("subscriptions.get", 1, Fault::Fail { status: 429, retry_after_s: Some(30) });
    let want = Want::Subscription("sub_1".into());
    let error = client.fetch(&want).await.unwrap_err();
    let StripeError::Unavailable { retry_after, .. } = error else { panic!("{error:?}") };
    assert_eq!(retry_after, Some(Duration::from_secs(30)));
    let error = client.of(Some(&"acct_1".into())).fetch(&want).await.unwrap_err();
    assert!(matches!(error, StripeError::Unavailable { source: CallError::Paused, .. }), "{error:?}");
    assert_eq!(place.calls("subscriptions.get"), 1);
}

#[tokio::test]
async fn a_connected_account_is_asked_with_the_same_key() {
    let place = Place::new().await;
    let account = AccountId::from("acct_9");
    let realm = Realm { account: Some("acct_9".to_owned()), live: true };
    place.stripe.load_object(&realm, subscription("sub_9")).unwrap();
    let client = place.client();
    let want = Want::Subscription("sub_9".into());
    assert!(client.of(Some(&account)).fetch(&want).await.is_ok());
    assert!(client.fetch(&want).await.unwrap_err().is_missing());
    assert!(client.of(Some(&account)).of(None).fetch(&want).await.unwrap_err().is_missing());
    let left = client.of(Some(&"acct_8".into())).fetch(&want).await.unwrap_err();
    assert!(left.is_not_connected(), "{left:?}");
}

#[tokio::test]
async fn the_key_is_never_shown() {
    let place = Place::new().await;
    let client = place.client_with("rk_live_very_secret");
    let error = client.fetch(&Want::Price("price_1".into())).await.unwrap_err();
    let mut shown = format!("{client:?} {error:?} {error}");
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        write!(shown, " {next} {next:?}").unwrap();
        cause = next;
    }
    assert!(!shown.contains("very_secret"), "{shown}");
}
