//! The stand-in for Stripe's API, asked over HTTP as an integration asks it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::net::SocketAddr;
use std::path::PathBuf;

use keyledger_sandbox::faults::{Fault, Faults, Rule};
use keyledger_sandbox::stripe::{Realm, Server, Settings, Webhook, signature};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const OLD: &str = "2024-06-20";
const NEW: &str = "2026-07-29.dahlia";

struct Running {
    server: Server,
    address: SocketAddr,
    http: Client,
    stop: CancellationToken,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(self.body["error"]["code"].as_str().unwrap_or_default(), code, "{}", self.body);
        assert!(self.body["error"]["type"].is_string() && self.body["error"]["message"].is_string());
    }

    fn ids(&self) -> Vec<&str> {
        self.body["data"].as_array().unwrap().iter().map(|object| object["id"].as_str().unwrap()).collect()
    }
}

/// The day after the last of the stories.
fn settings() -> Settings {
    Settings {
        now: Some("2026-08-25T00:00:00Z".parse().unwrap()),
        requests_per_second: 0,
        requests_per_second_each: 0,
        ..Settings::default()
    }
}

async fn start(settings: Settings) -> Running {
    let server = Server::new(settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn({
        let (server, stop) = (server.clone(), stop.clone());
        async move { server.serve(listener, stop).await }
    });
    // An error says that another test has chosen it already.
    _ = rustls::crypto::ring::default_provider().install_default();
    let http = Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    Running { server, address, http, stop }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let mut request = self.http.request(method, format!("http://{}{path}", self.address));
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body.to_owned());
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer { status, headers, body: serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    async fn get_with(&self, path: &str, more: &[(&str, &str)]) -> Answer {
        let mut headers = vec![("authorization", "Bearer sandbox"), ("stripe-version", NEW)];
        headers.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        self.send(Method::GET, path, &[&headers[..], more].concat(), None).await
    }

    async fn post(&self, path: &str, form: &str, key: &str) -> Answer {
        let headers = [
            ("authorization", "Bearer sandbox"),
            ("stripe-version", NEW),
            ("content-type", "application/x-www-form-urlencoded"),
            ("idempotency-key", key),
        ];
        self.send(Method::POST, path, &headers, Some(form)).await
    }

    /// All events of a story.
    fn tell(&self, story: &str, version: &str) {
        let manifest: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
        let stories = manifest["stories"].as_array().unwrap();
        let told = stories.iter().find(|told| told["story"] == story).unwrap();
        for step in told["steps"].as_array().unwrap() {
            let Some(file) = step["files"][version].as_str() else { continue };
            self.server.load_event(serde_json::from_slice(&read(file)).unwrap()).unwrap();
        }
    }

    fn own(&self, object: Value) {
        self.server.load_object(&Realm::own(true), object).unwrap();
    }
}

fn read(file: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/testdata/stripe").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn fixture(version: &str, name: &str) -> Value {
    serde_json::from_slice(&read(&format!("api/{version}/{name}.json"))).unwrap()
}

fn subscription(id: &str) -> Value {
    json!({"id": id, "object": "subscription", "status": "active", "created": 1_785_000_000, "livemode": true,
           "customer": "cus_1", "metadata": {"plan": "pro"}, "items": {"object": "list", "data": [], "has_more": false}})
}

#[tokio::test]
async fn sample_answers_come_back_as_they_were_loaded() {
    for version in [OLD, NEW] {
        let stripe = start(settings()).await;
        for (name, path) in [
            ("get_subscription", "subscriptions"),
            ("get_subscription_canceled", "subscriptions"),
            ("get_customer", "customers"),
            ("get_customer_deleted", "customers"),
            ("get_charge", "charges"),
            ("get_invoice", "invoices"),
            ("post_refund", "refunds"),
        ] {
            let object = fixture(version, name);
            stripe.own(object.clone());
            let id = object["id"].as_str().unwrap();
            assert_eq!(stripe.get(&format!("/v1/{path}/{id}")).await.body, object, "{version} {name}");
        }
        for name in
            ["get_checkout_session_payment_expand_line_items", "get_checkout_session_subscription_expand_line_items"]
        {
            let object = fixture(version, name);
            stripe.own(object.clone());
            let path = format!("/v1/checkout/sessions/{}", object["id"].as_str().unwrap());
            assert!(stripe.get(&path).await.body.get("line_items").is_none());
            let expanded = stripe.get(&format!("{path}?expand[]=line_items")).await.body;
            assert_eq!(expanded["line_items"]["data"], object["line_items"]["data"]);
            let listed = stripe.get(&format!("{path}/line_items")).await.body;
            assert_eq!(listed["data"], object["line_items"]["data"]);
        }
    }
}

#[tokio::test]
async fn objects_are_as_their_newest_event_showed_them_however_events_are_loaded() {
    for version in [OLD, NEW] {
        let stripe = start(settings()).await;
        stripe.tell("g", version);
        let subscriptions = stripe.get("/v1/subscriptions?status=all").await;
        assert_eq!(subscriptions.ids().len(), 3);
        let stuck = subscriptions.body["data"].as_array().unwrap().iter().filter(|subscription| {
            subscription["metadata"].get("skm_temp_var").is_some()
                && subscription["metadata"].get("skm_key_id").is_none()
        });
        assert_eq!(stuck.count(), 1, "{version}");
        let older = json!({"id": "evt_x", "type": "customer.subscription.updated", "livemode": true, "created": 5,
            "data": {"object": {"id": subscriptions.ids()[0], "object": "subscription", "status": "incomplete"}}});
        stripe.server.load_event(older).unwrap();
        let path = format!("/v1/subscriptions/{}", subscriptions.ids()[0]);
        assert_eq!(stripe.get(&path).await.body["status"], "active");
    }
}

#[tokio::test]
async fn an_invoice_names_its_payments_and_a_payment_its_invoice_in_both_renderings() {
    for version in [OLD, NEW] {
        let stripe = start(settings()).await;
        stripe.tell("a", version);
        let invoices = stripe.get("/v1/invoices?status=paid&expand[]=data.payments").await;
        let invoice = &invoices.body["data"][0];
        let payment = &invoice["payments"]["data"][0];
        let intent = payment["payment"]["payment_intent"].as_str().unwrap();
        let id = invoice["id"].as_str().unwrap();
        let of_invoice = stripe.get(&format!("/v1/invoice_payments?invoice={id}")).await;
        assert_eq!(of_invoice.body["data"][0], *payment, "{version}");
        let path = format!("/v1/invoice_payments?payment[type]=payment_intent&payment[payment_intent]={intent}");
        assert_eq!(stripe.get(&path).await.body["data"][0]["invoice"], id);
        assert_eq!(stripe.get(&format!("/v1/invoices/{id}")).await.body.get("payments"), None);
        let subscription = stripe.get("/v1/subscriptions?status=all").await.ids()[0].to_owned();
        assert!(stripe.get(&format!("/v1/invoices?subscription={subscription}")).await.ids().contains(&id));
        assert_eq!(stripe.get("/v1/invoices?subscription=sub_other").await.ids(), [""; 0]);
    }
}

#[tokio::test]
async fn payments_of_invoices_exist_since_basil() {
    let stripe = start(settings()).await;
    stripe.tell("a", OLD);
    let asked = stripe.get_with("/v1/invoice_payments", &[("stripe-version", OLD)]).await;
    assert_eq!(asked.status, StatusCode::NOT_FOUND);
    let path = "/v1/invoice_payments?payment[payment_intent]=pi_1";
    stripe.get(path).await.refused(400, "parameter_missing");
}

#[tokio::test]
async fn lists_inside_objects_show_ten_and_the_rest_apart() {
    let stripe = start(settings()).await;
    let lines: Vec<Value> = (0..25).map(|n| json!({"id": format!("il_{n}"), "object": "line_item"})).collect();
    let list = |data: &[Value]| json!({"object": "list", "data": data, "has_more": false});
    stripe.own(json!({"id": "in_1", "object": "invoice", "lines": list(&lines), "created": 1}));
    stripe.own(json!({"id": "sub_1", "object": "subscription", "items": list(&lines), "created": 1}));
    stripe.own(json!({"id": "cs_1", "object": "checkout.session", "line_items": list(&lines), "created": 1}));
    let invoice = stripe.get("/v1/invoices/in_1").await.body;
    assert_eq!((invoice["lines"]["data"].as_array().unwrap().len(), &invoice["lines"]["has_more"]), (10, &json!(true)));
    let session = stripe.get("/v1/checkout/sessions/cs_1?expand[]=line_items").await.body;
    assert_eq!(session["line_items"]["has_more"], true);
    let rest = stripe.get("/v1/invoices/in_1/lines?limit=100&starting_after=il_9").await;
    assert_eq!((rest.ids().len(), rest.ids()[0], &rest.body["has_more"]), (15, "il_10", &json!(false)));
    assert_eq!(stripe.get("/v1/subscription_items?subscription=sub_1&limit=20").await.ids().len(), 20);
    // An event shows a part of what is known already.
    let event = json!({"id": "evt_1", "type": "invoice.paid", "livemode": true, "created": 9, "data": {"object":
        {"id": "in_1", "object": "invoice", "status": "paid", "lines": {"object": "list", "data": lines[..10], "has_more": true}}}});
    stripe.server.load_event(event).unwrap();
    assert_eq!(stripe.get("/v1/invoices/in_1/lines?limit=100").await.ids().len(), 25);
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let stripe = start(settings()).await;
    for n in 0..150 {
        let id = format!("sub_{n:03}");
        stripe.own(json!({"id": id, "object": "subscription", "status": "active", "created": n / 2}));
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = stripe.get(&format!("/v1/subscriptions?limit=40{cursor}")).await;
        seen.extend(page.ids().into_iter().map(str::to_owned));
        cursor = format!("&starting_after={}", seen.last().unwrap());
        if page.body["has_more"] == false {
            break;
        }
    }
    let expected: Vec<String> = (0..150).rev().map(|n| format!("sub_{n:03}")).collect();
    assert_eq!(seen, expected);
    assert_eq!(stripe.get("/v1/subscriptions").await.ids().len(), 10);
    assert_eq!(stripe.get("/v1/subscriptions?created[gte]=74&created[lt]=75").await.ids(), ["sub_149", "sub_148"]);
    for bad in ["limit=0", "limit=101", "limit=x", "created[gte]=x"] {
        stripe.get(&format!("/v1/subscriptions?{bad}")).await.refused(400, "parameter_invalid_integer");
    }
    stripe.get("/v1/subscriptions?starting_after=sub_x").await.refused(400, "resource_missing");
    stripe.get("/v1/subscriptions?foo=1").await.refused(400, "parameter_unknown");
    stripe.get("/v1/subscriptions?status=on").await.refused(400, "parameter_invalid");
    stripe.get("/v1/subscriptions/sub_001?expand[]=foo").await.refused(400, "parameter_invalid");
}

#[tokio::test]
async fn canceled_subscriptions_are_listed_only_when_asked_for() {
    let stripe = start(settings()).await;
    for (id, status) in [("sub_1", "active"), ("sub_2", "canceled"), ("sub_3", "incomplete_expired")] {
        stripe.own(json!({"id": id, "object": "subscription", "status": status, "created": 1}));
    }
    assert_eq!(stripe.get("/v1/subscriptions").await.ids(), ["sub_3", "sub_1"]);
    assert_eq!(stripe.get("/v1/subscriptions?status=all").await.ids().len(), 3);
    assert_eq!(stripe.get("/v1/subscriptions?status=ended").await.ids(), ["sub_3", "sub_2"]);
}

#[tokio::test]
async fn events_are_listed_for_thirty_days_by_type_and_by_delivery() {
    let stripe = start(settings()).await;
    stripe.tell("a", OLD);
    let now = settings().now.unwrap().as_second();
    let all = stripe.get("/v1/events?limit=100").await;
    let created: Vec<i64> =
        all.body["data"].as_array().unwrap().iter().map(|e| e["created"].as_i64().unwrap()).collect();
    assert!(
        created.len() > 10 && created.iter().all(|at| *at >= now - 30 * 86_400) && created.is_sorted_by(|a, b| a >= b)
    );
    let paid = stripe.get("/v1/events?types[]=invoice.paid&types[]=charge.failed&limit=100").await;
    let kinds: Vec<_> = paid.body["data"].as_array().unwrap().iter().map(|event| event["type"].clone()).collect();
    assert!(
        kinds.contains(&json!("invoice.paid"))
            && kinds.iter().all(|kind| kind == "invoice.paid" || kind == "charge.failed")
    );
    let some = stripe.get("/v1/events?type=invoice.*&limit=100").await;
    assert!(some.ids().len() > paid.ids().len() - 1);

    assert_eq!(stripe.get("/v1/events?delivery_success=false").await.ids(), [""; 0]);
    let lost = all.ids()[3].to_owned();
    assert!(stripe.server.set_delivered(&lost, false));
    assert_eq!(stripe.get("/v1/events?delivery_success=false").await.ids(), [lost.as_str()]);
    assert_eq!(stripe.get("/v1/events?delivery_success=true&limit=100").await.ids().len(), all.ids().len() - 1);
    assert_eq!(stripe.get(&format!("/v1/events/{lost}")).await.body["id"], lost);

    stripe.server.set_now("2027-08-25T00:00:00Z".parse().unwrap());
    assert_eq!(stripe.get("/v1/events").await.ids(), [""; 0]);
    stripe.get(&format!("/v1/events/{lost}")).await.refused(404, "resource_missing");
    stripe.get("/v1/events?type=a&types[]=b").await.refused(400, "parameters_exclusive");
}

#[tokio::test]
async fn one_rendering_of_an_event_is_shown_that_of_the_account() {
    let stripe = start(settings()).await;
    stripe.tell("b", OLD);
    stripe.tell("b", NEW);
    let listed = stripe.get("/v1/events?limit=100").await;
    assert_eq!(listed.ids().len(), 4);
    assert!(listed.body["data"].as_array().unwrap().iter().all(|event| event["api_version"] == NEW));
}

#[tokio::test]
async fn a_thin_event_is_read_under_v2() {
    let stripe = start(settings()).await;
    let thin = json!({"id": "evt_test_1", "object": "v2.core.event", "type": "v1.customer.subscription.updated",
        "livemode": true, "created": "2026-08-01T06:20:52.246Z", "snapshot_event": "evt_1",
        "related_object": {"id": "sub_1", "type": "subscription", "url": "/v1/subscriptions/sub_1"}});
    stripe.server.load_event(thin.clone()).unwrap();
    assert_eq!(stripe.get("/v2/core/events/evt_test_1").await.body, thin);
    stripe.get("/v2/core/events/evt_test_2").await.refused(404, "not_found");
}

#[tokio::test]
async fn metadata_is_merged_and_an_empty_value_takes_its_key_away() {
    let stripe = start(settings()).await;
    stripe.own(subscription("sub_1"));
    let form = "metadata[skm_key_id]=42&metadata[skm_temp_var]=left+behind";
    let written = stripe.post("/v1/subscriptions/sub_1", form, "k1").await;
    assert_eq!(written.status, StatusCode::OK);
    assert_eq!(written.body["metadata"], json!({"plan": "pro", "skm_key_id": "42", "skm_temp_var": "left behind"}));
    let cleared = stripe.post("/v1/subscriptions/sub_1", "metadata[skm_temp_var]=&metadata[plan]=pro", "k2").await;
    assert_eq!(cleared.body["metadata"], json!({"plan": "pro", "skm_key_id": "42"}));
    assert_eq!(stripe.get("/v1/subscriptions/sub_1").await.body["metadata"], cleared.body["metadata"]);
    assert_eq!(stripe.server.writes(), [("sub_1".to_owned(), 2)].into());
    let emptied = stripe.post("/v1/subscriptions/sub_1", "metadata=", "k3").await;
    assert_eq!(emptied.body["metadata"], json!({}));
}

#[tokio::test]
async fn what_is_no_metadata_is_refused() {
    let stripe = start(settings()).await;
    stripe.own(subscription("sub_1"));
    let path = "/v1/subscriptions/sub_1";
    stripe.post(path, "foo=1", "").await.refused(400, "parameter_unknown");
    stripe.post(path, "cancel_at_period_end=true", "").await.refused(400, "parameter_unknown");
    stripe.post(path, "metadata[a][b]=1", "").await.refused(400, "parameter_unknown");
    stripe.post(path, "metadata=x", "").await.refused(400, "parameter_invalid");
    stripe.post(path, &format!("metadata[{}]=1", "k".repeat(41)), "").await.refused(400, "parameter_invalid");
    stripe.post(path, &format!("metadata[k]={}", "v".repeat(501)), "").await.refused(400, "parameter_invalid");
    let many: Vec<String> = (0..50).map(|n| format!("metadata[k{n}]=v")).collect();
    stripe.post(path, &many.join("&"), "").await.refused(400, "parameter_invalid");
    assert_eq!(stripe.post(path, &many[1..].join("&"), "").await.status, StatusCode::OK);
    let headers = [("authorization", "Bearer sandbox"), ("stripe-version", NEW), ("content-type", "application/json")];
    let json = stripe.send(Method::POST, path, &headers, Some("{\"metadata\":{\"a\":\"b\"}}")).await;
    assert_eq!(json.status, StatusCode::BAD_REQUEST);
    stripe.post("/v1/subscriptions/sub_9", "metadata[a]=b", "").await.refused(404, "resource_missing");
}

#[tokio::test]
async fn those_that_are_over_take_metadata_and_those_that_are_gone_do_not() {
    let stripe = start(settings()).await;
    stripe.own(fixture(NEW, "get_subscription_canceled"));
    let canceled = format!("/v1/subscriptions/{}", fixture(NEW, "get_subscription_canceled")["id"].as_str().unwrap());
    assert_eq!(stripe.post(&canceled, "metadata[a]=b", "").await.status, StatusCode::OK);
    stripe.server.set(Settings { canceled_takes_metadata: false, ..settings() });
    assert_eq!(stripe.post(&canceled, "metadata[a]=c", "").await.status, StatusCode::BAD_REQUEST);
    stripe.tell("l", NEW);
    let gone = fixture(NEW, "get_customer_deleted");
    stripe.own(gone.clone());
    let path = format!("/v1/customers/{}", gone["id"].as_str().unwrap());
    assert_eq!(stripe.get(&path).await.body, gone);
    stripe.post(&path, "metadata[a]=b", "").await.refused(404, "resource_missing");
}

#[tokio::test]
async fn a_write_is_done_once_for_its_key() {
    let stripe = start(settings()).await;
    stripe.own(subscription("sub_1"));
    let path = "/v1/subscriptions/sub_1";
    let first = stripe.post(path, "metadata[a]=1&metadata[b]=2", "key").await;
    assert!(!first.headers.contains_key("idempotent-replayed"));
    stripe.post(path, "metadata[a]=3", "").await;
    let again = stripe.post(path, "metadata[b]=2&metadata[a]=1", "key").await;
    assert_eq!((again.body, &again.headers["idempotent-replayed"]), (first.body.clone(), &"true".parse().unwrap()));
    assert_eq!(again.headers["original-request"], first.headers["request-id"]);
    assert_eq!(stripe.get(path).await.body["metadata"]["a"], "3");
    let other = stripe.post(path, "metadata[a]=9", "key").await;
    assert_eq!((other.status.as_u16(), other.body["error"]["type"].as_str()), (400, Some("idempotency_error")));
    assert_eq!(stripe.server.writes()["sub_1"], 2);

    // Refused before it began: the key is still free. Failed while it was done: it is not.
    stripe.post(path, "foo=1", "free").await.refused(400, "parameter_unknown");
    assert_eq!(stripe.post(path, "metadata[a]=1", "free").await.status, StatusCode::OK);
    stripe.post("/v1/subscriptions/sub_9", "metadata[a]=1", "late").await.refused(404, "resource_missing");
    stripe.own(subscription("sub_9"));
    stripe.post("/v1/subscriptions/sub_9", "metadata[a]=1", "late").await.refused(404, "resource_missing");

    // A key is kept for a day.
    stripe.server.set_now("2026-08-26T00:00:01Z".parse().unwrap());
    assert_eq!(stripe.post(path, "metadata[a]=9", "key").await.status, StatusCode::OK);
    stripe.post(path, "metadata[a]=9", &"k".repeat(256)).await.refused(400, "");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_done_again() {
    let stripe = start(settings()).await;
    stripe.own(subscription("sub_1"));
    let rule = Rule {
        operation: "subscriptions.update".to_owned(),
        about: Some("sub_1".to_owned()),
        count: Some(1),
        fault: Fault::CommitThenFail { status: 500 },
    };
    stripe.server.stage().misbehave(Faults { script: vec![rule], ..Faults::default() }).unwrap();
    let lost = stripe.post("/v1/subscriptions/sub_1", "metadata[a]=1", "key").await;
    assert_eq!((lost.status.as_u16(), lost.body["error"]["type"].as_str()), (500, Some("api_error")));
    let again = stripe.post("/v1/subscriptions/sub_1", "metadata[a]=1", "key").await;
    assert_eq!((again.status, stripe.server.writes()["sub_1"]), (StatusCode::OK, 1));
}

#[tokio::test]
async fn two_requests_with_one_key_at_once_are_one_and_a_conflict() {
    let stripe = start(settings()).await;
    stripe.own(subscription("sub_1"));
    let slow = Rule { operation: "any".to_owned(), about: None, count: Some(1), fault: Fault::Slow { delay_ms: 400 } };
    stripe.server.stage().misbehave(Faults { script: vec![slow], ..Faults::default() }).unwrap();
    let one = stripe.post("/v1/subscriptions/sub_1", "metadata[a]=1", "key");
    let two = async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        stripe.post("/v1/subscriptions/sub_1", "metadata[a]=1", "key").await
    };
    let (one, two) = futures::join!(one, two);
    assert_eq!(one.status, StatusCode::OK);
    two.refused(409, "idempotency_key_in_use");
    assert_eq!(two.headers["stripe-should-retry"], "true");
}

#[tokio::test]
async fn an_object_that_is_being_written_is_locked() {
    let stripe = start(Settings { lock_ms: 60_000, ..settings() }).await;
    stripe.own(subscription("sub_1"));
    stripe.own(subscription("sub_2"));
    assert_eq!(stripe.post("/v1/subscriptions/sub_1", "metadata[a]=1", "k1").await.status, StatusCode::OK);
    let locked = stripe.post("/v1/subscriptions/sub_1", "metadata[a]=2", "k2").await;
    locked.refused(429, "lock_timeout");
    assert!(
        locked.headers["stripe-should-retry"] == "true" && !locked.headers.contains_key("stripe-rate-limited-reason")
    );
    assert_eq!(stripe.post("/v1/subscriptions/sub_2", "metadata[a]=1", "k3").await.status, StatusCode::OK);
    stripe.server.set(settings());
    assert_eq!(stripe.post("/v1/subscriptions/sub_1", "metadata[a]=2", "k2").await.status, StatusCode::OK);
}

#[tokio::test]
async fn keys_versions_accounts_and_modes_are_checked() {
    let stripe = start(settings()).await;
    stripe.own(subscription("sub_1"));
    let path = "/v1/subscriptions/sub_1";
    stripe.get_with(path, &[("authorization", "Bearer other")]).await.refused(401, "");
    stripe.get_with(path, &[("authorization", "")]).await.refused(401, "");
    for version in ["", "2024-06-2", "latest", "2026-07-29", "2024-06-20.", "2026-07-29.Dahlia"] {
        assert_eq!(stripe.get_with(path, &[("stripe-version", version)]).await.status.as_u16(), 400, "{version}");
    }
    stripe.get_with(path, &[("authorization", "Bearer sandbox_test")]).await.refused(404, "resource_missing");
    stripe.get_with(path, &[("stripe-account", "acct_9")]).await.refused(403, "account_invalid");
    let connected = Realm { account: Some("acct_9".to_owned()), live: true };
    stripe.server.load_object(&connected, subscription("sub_9")).unwrap();
    let account = [("stripe-account", "acct_9")];
    stripe.get_with(path, &account).await.refused(404, "resource_missing");
    assert_eq!(stripe.get_with("/v1/subscriptions/sub_9", &account).await.status, StatusCode::OK);
    stripe.get("/v1/subscriptions/sub_9").await.refused(404, "resource_missing");
    let both = [("stripe-account", "acct_9"), ("stripe-context", "acct_9")];
    assert_eq!(stripe.get_with(path, &both).await.status, StatusCode::BAD_REQUEST);
    for unknown in ["/v1/coupons", "/v1/subscriptions/sub_1/lines", "/v1", "/v1/subscriptions/sub%2F1"] {
        assert_eq!(stripe.get(unknown).await.status, StatusCode::NOT_FOUND, "{unknown}");
    }
    let deleted =
        stripe.send(Method::DELETE, path, &[("authorization", "Bearer sandbox"), ("stripe-version", NEW)], None);
    assert_eq!(deleted.await.status, StatusCode::NOT_FOUND);
    let answer = stripe.get(path).await;
    assert!(answer.headers["request-id"].to_str().unwrap().starts_with("req_"));
    assert_eq!(answer.headers["date"], "Tue, 25 Aug 2026 00:00:00 GMT");
}

#[tokio::test]
async fn too_many_requests_are_turned_away() {
    let stripe = start(Settings { requests_per_second_each: 5, ..settings() }).await;
    let mut limited = Vec::new();
    for _ in 0..8 {
        let answer = stripe.get("/v1/prices").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            limited.push(answer);
        }
    }
    let answer = limited.first().unwrap();
    answer.refused(429, "rate_limit");
    assert_eq!(answer.headers["stripe-rate-limited-reason"], "endpoint-rate");
    assert!(!answer.headers.contains_key("stripe-should-retry") && !answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_write_makes_an_event_that_names_its_key() {
    let stripe = start(settings()).await;
    stripe.own(subscription("sub_1"));
    stripe.post("/v1/subscriptions/sub_1", "metadata[plan]=&metadata[new]=1", "our-key").await;
    stripe.post("/v1/subscriptions/sub_1", "metadata[new]=1", "another").await;
    let echoes = stripe.server.echoes();
    assert_eq!(echoes.len(), 1, "what changes nothing makes no event");
    assert_eq!(echoes[0]["type"], "customer.subscription.updated");
    assert_eq!(echoes[0]["data"]["previous_attributes"], json!({"metadata": {"plan": "pro", "new": null}}));
    assert_eq!(echoes[0]["data"]["object"]["metadata"], json!({"new": "1"}));
    assert_eq!(echoes[0]["request"]["idempotency_key"], "our-key");
    assert_eq!(stripe.get("/v1/events").await.body["data"][0], echoes[0]);
    stripe.own(json!({"id": "cus_1", "object": "customer", "created": 1, "metadata": {}}));
    stripe.post("/v1/customers/cus_1", "metadata[skm_customer_id]=7", "k").await;
    assert_eq!(stripe.server.echoes()[1]["type"], "customer.updated");
}

#[tokio::test]
async fn that_event_is_delivered_signed() {
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks/stripe", endpoint.local_addr().unwrap());
    let secret = "whsec_test".to_owned();
    let stripe = start(Settings { webhook: Some(Webhook { url, secret }), ..settings() }).await;
    stripe.own(subscription("sub_1"));
    stripe.post("/v1/subscriptions/sub_1", "metadata[a]=1", "key").await;
    assert_eq!(stripe.get("/v1/events?delivery_success=false").await.ids().len(), 1);
    let (mut connection, _) = endpoint.accept().await.unwrap();
    let mut bytes = Vec::new();
    let body = loop {
        let mut chunk = [0; 4096];
        let count = connection.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.ends_with("\n}")
        {
            let at = settings().now.unwrap().as_second();
            let signed = format!("Stripe-Signature: {}", signature("whsec_test", at, body.as_bytes()));
            assert!(head.starts_with("POST /webhooks/stripe HTTP/1.1\r\n") && head.contains(&signed), "{head}");
            break body.to_owned();
        }
    };
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), stripe.server.echoes()[0]);
    for _ in 0..100 {
        if stripe.get("/v1/events?delivery_success=false").await.ids().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the delivery was not noted");
}

#[tokio::test]
async fn while_nothing_is_allowed_every_request_fails_and_is_counted() {
    let stripe = start(settings()).await;
    stripe.own(subscription("sub_1"));
    stripe.server.forbid_all(true);
    for path in ["/v1/subscriptions/sub_1", "/v1/events", "/nothing"] {
        assert_eq!(stripe.get(path).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(stripe.server.forbidden(), 3);
    stripe.server.forbid_all(false);
    assert_eq!(stripe.get("/v1/subscriptions/sub_1").await.status, StatusCode::OK);
    assert_eq!(stripe.server.forbidden(), 3);
}

#[tokio::test]
async fn it_is_loaded_and_looked_at_over_http_too() {
    let stripe = start(settings()).await;
    let put = |path: &'static str, body: Value| {
        let request = stripe.http.put(format!("http://{}{path}", stripe.address)).json(&body);
        async move { request.send().await.unwrap().status() }
    };
    assert_eq!(put("/control/objects", fixture(NEW, "list_subscriptions_page1")).await, StatusCode::OK);
    assert_eq!(
        put("/control/objects?account=acct_9&livemode=false", json!([{"id": "re_1", "object": "refund"}])).await,
        StatusCode::OK
    );
    assert_eq!(put("/control/events", fixture(NEW, "list_events")).await, StatusCode::OK);
    assert_eq!(put("/control/objects", json!({"id": "x"})).await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(put("/control/settings", json!({"foo": 1})).await, StatusCode::UNPROCESSABLE_ENTITY);
    let of = [("authorization", "Bearer sandbox_test"), ("stripe-account", "acct_9")];
    assert_eq!(stripe.get_with("/v1/refunds/re_1", &of).await.status, StatusCode::OK);
    let listed = fixture(NEW, "list_events")["data"].as_array().unwrap().len();
    let state = stripe.get("/control/state").await.body;
    assert_eq!((state["events"].as_u64().unwrap(), state["forbidden"].as_u64()), (listed as u64, Some(0)));
    let calls = stripe.get("/control/calls").await.body;
    assert_eq!(calls["refunds.get"]["200"], 1);
}
