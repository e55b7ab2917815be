//! The stand-in for Cryptlex, asked over HTTP as an integration asks it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::net::SocketAddr;
use std::time::Duration;

use keyledger_sandbox::cryptlex::{
    Duplicate, EmailComparison, ExpiryStopped, MetadataFilters, MetadataPatch, Missing, NullExpiry, Product,
    RenewStopped, Server, Settings, Template,
};
use keyledger_sandbox::faults::{Fault, Faults, Rule};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PRODUCT: &str = "63d00000-0000-4000-8000-000000000001";
const NOW: &str = "2026-01-31T08:49:17.9361143Z";

struct Running {
    server: Server,
    address: SocketAddr,
    http: Client,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

fn settings() -> Settings {
    Settings { now: Some(NOW.parse().unwrap()), requests_per_window: 0, ..Settings::default() }
}

async fn start(settings: Settings) -> Running {
    serve(Server::new(settings)).await
}

async fn serve(server: Server) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (server, stop) = (server.clone(), stop.clone());
        async move { server.serve(listener, stop).await }
    });
    // An error says that another test has chosen it already.
    _ = rustls::crypto::ring::default_provider().install_default();
    let http = Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    Running { server, address, http, stop, serving }
}

impl Running {
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("http://{}{path}", self.address)).bearer_auth("sandbox");
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(Method::PATCH, path, Some(body)).await
    }

    async fn license(&self, more: Value) -> Value {
        let (status, license) = self.post("/v3/licenses", with(json!({ "productId": PRODUCT }), more)).await;
        assert_eq!(status, StatusCode::CREATED, "{license}");
        license
    }

    async fn user(&self, more: Value) -> (StatusCode, Value) {
        self.post("/v3/users", with(jane(), more)).await
    }

    async fn count(&self, path: &str) -> usize {
        self.get(path).await.1.as_array().unwrap().len()
    }

    fn fault(&self, operation: &str, fault: Fault) {
        let rule = Rule { operation: operation.to_owned(), about: None, count: Some(1), fault };
        self.server.stage().misbehave(Faults { script: vec![rule], ..Faults::default() }).unwrap();
    }
}

fn jane() -> Value {
    json!({ "email": "jane@example.com", "firstName": "Jane", "password": "at-least-eight", "role": "user" })
}

fn with(mut body: Value, more: Value) -> Value {
    if let Value::Object(mut more) = more {
        body.as_object_mut().unwrap().append(&mut more);
    }
    body
}

fn entry(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": value, "viewPermissions": [] })
}

fn id(shown: &Value) -> &str {
    shown["id"].as_str().unwrap()
}

fn path(license: &Value, rest: &str) -> String {
    format!("/v3/licenses/{}{rest}", id(license))
}

fn keys(shown: &Value) -> Vec<&str> {
    shown["metadata"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_license_takes_what_is_given_and_the_template_gives_the_rest() {
    let template = Template { allowed_activations: 7, interval: Some("P1M".to_owned()), ..Template::default() };
    let product = Product { id: PRODUCT.parse().unwrap(), template: template.id };
    let account = start(Settings { products: vec![product], templates: vec![template], ..settings() }).await;
    let plain = account.license(json!({})).await;
    assert_eq!(plain["allowedActivations"], 7);
    assert_eq!(plain["createdAt"], NOW);
    // By the calendar: February has no 31st.
    assert_eq!(plain["expiresAt"], "2026-02-28T08:49:17.9361143Z");
    assert_eq!(plain["key"].as_str().unwrap().split('-').map(str::len).collect::<Vec<_>>(), [6; 6]);
    let given = json!({ "allowedActivations": 2, "subscriptionInterval": "" });
    let given = account.license(given).await;
    assert_eq!((&given["allowedActivations"], &given["expiresAt"]), (&json!(2), &Value::Null));
    let late = account.license(json!({ "subscriptionStartTrigger": "activation" })).await;
    assert_eq!(late["expiresAt"], Value::Null);
    let unknown = json!({ "productId": "63d00000-0000-4000-8000-000000000002" });
    assert_eq!(account.post("/v3/licenses", unknown).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn bodies_that_do_not_fit_are_refused_with_a_message_and_a_code() {
    let account = start(settings()).await;
    let made = account.license(json!({})).await;
    for bad in [
        json!({}),
        json!({ "productId": "pro" }),
        json!({ "productId": PRODUCT, "seats": 3 }),
        json!({ "productId": PRODUCT, "allowedActivations": "3" }),
        json!({ "productId": PRODUCT, "allowedActivations": -2 }),
        json!({ "productId": PRODUCT, "subscriptionInterval": "1 month" }),
        json!({ "productId": PRODUCT, "subscriptionStartTrigger": "now" }),
        json!({ "productId": PRODUCT, "expiresAt": NOW }),
        json!({ "productId": PRODUCT, "key": "short" }),
        json!({ "productId": PRODUCT, "maxAllowedReleaseVersion": "3" }),
        json!({ "productId": PRODUCT, "metadata": { "a": "b" } }),
        json!({ "productId": PRODUCT, "metadata": [{ "key": "a", "value": "b" }] }),
        json!({ "productId": PRODUCT, "metadata": (0..51).map(|n| entry(&n.to_string(), "")).collect::<Vec<_>>() }),
        json!({ "productId": PRODUCT, "userId": "63d00000-0000-4000-8000-00000000000f" }),
        json!([]),
    ] {
        let (status, answer) = account.post("/v3/licenses", bad.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(answer["message"].is_string() && answer["code"].is_string(), "{answer}");
    }
    for fixed in [json!({ "productId": PRODUCT }), json!({ "key": "0123456789abcdef" }), json!({ "expiresAt": NOW })] {
        assert_eq!(account.patch(&path(&made, ""), fixed).await.0, StatusCode::BAD_REQUEST);
    }
    let short = account.user(json!({ "password": "short" })).await;
    assert_eq!(short.0, StatusCode::BAD_REQUEST);
    assert_eq!(account.server.licenses_made(), 1);
}

#[tokio::test]
async fn only_the_token_with_the_scopes_gets_in() {
    let scopes = ["license:read".to_owned()].into();
    let account = start(Settings { scopes, ..settings() }).await;
    let url = format!("http://{}/v3/licenses", account.address);
    assert_eq!(account.http.get(&url).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(account.http.get(&url).bearer_auth("x").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(account.get("/v3/licenses").await, (StatusCode::OK, json!([])));
    assert_eq!(account.get("/v3/users").await.0, StatusCode::FORBIDDEN);
    assert_eq!(account.post("/v3/licenses", json!({ "productId": PRODUCT })).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn pages_and_filters_are_honored_and_unknown_ones_refused() {
    let account = start(Settings { page_size: 10, ..settings() }).await;
    for number in 0..25 {
        let metadata = json!([entry("ref", &format!("r{number}")), entry("other", "r1")]);
        account.license(json!({ "metadata": metadata, "suspended": number % 5 == 0 })).await;
    }
    assert_eq!(account.count("/v3/licenses").await, 10);
    assert_eq!(account.count("/v3/licenses?limit=100").await, 25);
    assert_eq!(account.count("/v3/licenses?limit=10&page=3").await, 5);
    assert_eq!(account.count(&format!("/v3/licenses?limit=100&productId={PRODUCT}")).await, 25);
    assert_eq!(account.count(&format!("/v3/licenses?limit=100&productId[eq]={PRODUCT}&suspended=true")).await, 5);
    assert_eq!(account.count("/v3/licenses?metadata.key[eq]=ref&metadata.value[eq]=r1&limit=100").await, 1);
    assert_eq!(account.count("/v3/licenses?metadata.value[sw]=r2&limit=100").await, 6);
    assert_eq!(account.count("/v3/licenses?createdAt[gte]=2026-01-31T00:00:00Z&limit=100").await, 25);
    assert_eq!(account.count("/v3/licenses?createdAt[lt]=2026-01-31T00:00:00Z&limit=100").await, 0);
    for bad in ["limit=101", "limit=0", "page=0", "seats[eq]=1", "key=x", "key[is]=x", "metadataKey=a", "suspended=1"] {
        assert_eq!(account.get(&format!("/v3/licenses?{bad}")).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn metadata_filters_mean_one_entry_or_any_by_a_switch() {
    let account = start(settings()).await;
    account.license(json!({ "metadata": [entry("ref", "r2"), entry("other", "r1")] })).await;
    let crossed = "/v3/licenses?metadata.key[eq]=ref&metadata.value[eq]=r1&limit=100";
    assert_eq!(account.count(crossed).await, 0);
    account.server.set(Settings { metadata_filters: MetadataFilters::AnyEntry, ..settings() });
    assert_eq!(account.count(crossed).await, 1);
}

#[tokio::test]
async fn metadata_is_replaced_or_merged_by_a_switch() {
    for (metadata_patch, kept) in [(MetadataPatch::Replace, vec!["b"]), (MetadataPatch::Merge, vec!["a", "b"])] {
        let account = start(Settings { metadata_patch, ..settings() }).await;
        let made = account.license(json!({ "metadata": [entry("a", "1")] })).await;
        let (_, changed) = account.patch(&path(&made, ""), json!({ "metadata": [entry("b", "2")] })).await;
        assert_eq!(keys(&changed), kept);
        let (_, untouched) = account.patch(&path(&made, ""), json!({ "allowedActivations": 4 })).await;
        assert_eq!((keys(&untouched), &untouched["allowedActivations"]), (kept, &json!(4)));
        let gone = untouched["metadata"][0]["id"].as_str().unwrap().to_owned();
        let gone = format!("/v3/licenses/metadata/{gone}");
        assert_eq!(account.ask(Method::DELETE, &gone, None).await.0, StatusCode::NO_CONTENT);
        assert_eq!(account.ask(Method::DELETE, &gone, None).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn an_expiry_is_absolute_and_renewing_counts_from_the_old_one() {
    let account = start(settings()).await;
    let made = account.license(json!({ "subscriptionInterval": "P1M" })).await;
    let wanted = json!({ "expiresAt": "2025-07-01T00:00:00Z" });
    for _ in 0..2 {
        let (status, set) = account.patch(&path(&made, "/expires-at"), wanted.clone()).await;
        assert_eq!((status, &set["expiresAt"]), (StatusCode::OK, &json!("2025-07-01T00:00:00.0000000Z")));
    }
    let (_, renewed) = account.ask(Method::POST, &path(&made, "/renew"), None).await;
    assert_eq!(renewed["expiresAt"], "2025-08-01T00:00:00.0000000Z");
    let (_, extended) = account.post(&path(&made, "/extend"), json!({ "extensionLength": 60 })).await;
    assert_eq!(extended["expiresAt"], "2025-08-01T00:01:00.0000000Z");
    let kept = &account.server.licenses()[0];
    assert_eq!((&kept["renewals"], &kept["extendedSeconds"]), (&json!(1), &json!(60)));
    for bad in [json!({}), json!({ "expiresAt": "tomorrow" }), json!({ "expiresAt": NOW, "notify": true })] {
        assert_eq!(account.patch(&path(&made, "/expires-at"), bad).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn stopped_licenses_are_renewed_and_dated_by_switches() {
    let account = start(settings()).await;
    let made = account.license(json!({ "subscriptionInterval": "P1M", "suspended": true })).await;
    let before = made["expiresAt"].clone();
    let renew = async |renew_stopped| {
        account.server.set(Settings { renew_stopped, ..settings() });
        let (status, answer) = account.ask(Method::POST, &path(&made, "/renew"), None).await;
        (status, answer["expiresAt"] == before)
    };
    assert_eq!(renew(RenewStopped::Unchanged).await, (StatusCode::OK, true));
    assert_eq!(renew(RenewStopped::Refused).await, (StatusCode::BAD_REQUEST, false));
    assert_eq!(renew(RenewStopped::Extended).await, (StatusCode::OK, false));
    let date = async |expiry_stopped, day: &str| {
        account.server.set(Settings { expiry_stopped, ..settings() });
        let wanted = json!({ "expiresAt": format!("2027-01-{day}T00:00:00Z") });
        let status = account.patch(&path(&made, "/expires-at"), wanted).await.0;
        let kept = account.get(&path(&made, "")).await.1;
        (status, kept["expiresAt"].as_str().unwrap()[8..10].to_owned(), kept["suspended"] == true)
    };
    let (ok, bad) = (StatusCode::OK, StatusCode::BAD_REQUEST);
    assert_eq!(date(ExpiryStopped::Set, "01").await, (ok, "01".to_owned(), true));
    assert_eq!(date(ExpiryStopped::Unchanged, "02").await, (ok, "01".to_owned(), true));
    assert_eq!(date(ExpiryStopped::Refused, "03").await, (bad, "01".to_owned(), true));
    assert_eq!(date(ExpiryStopped::Reinstates, "04").await, (ok, "04".to_owned(), false));
    let never = json!({ "expiresAt": null });
    account.server.set(Settings { expiry_null: NullExpiry::Refused, ..settings() });
    assert_eq!(account.patch(&path(&made, "/expires-at"), never.clone()).await.0, bad);
    account.server.set(settings());
    assert_eq!(account.patch(&path(&made, "/expires-at"), never).await.1["expiresAt"], Value::Null);
}

#[tokio::test]
async fn users_are_found_and_told_apart_by_switches() {
    let account = start(settings()).await;
    let metadata = json!([entry("stripe_customer_id", "cus_1")]);
    let (status, made) = account.user(json!({ "metadata": metadata, "company": "Acme" })).await;
    assert_eq!((status, &made["name"], &made["company"]), (StatusCode::CREATED, &json!("Jane"), &json!("Acme")));
    assert!(made.get("password").is_none());
    let found = "/v3/users?metadata.key[eq]=stripe_customer_id&metadata.value[eq]=cus_1&limit=100";
    assert_eq!(account.count(found).await, 1);
    let shouted = "/v3/users?email[eq]=JANE%40example.com&limit=100";
    assert_eq!(account.count(shouted).await, 1);
    assert_eq!(account.user(json!({ "email": "Jane@example.com" })).await.0, StatusCode::BAD_REQUEST);
    account.server.set(Settings { duplicate_email: Duplicate::Refused409, ..settings() });
    assert_eq!(account.user(json!({})).await.0, StatusCode::CONFLICT);
    account.server.set(Settings { email_comparison: EmailComparison::Exact, ..settings() });
    assert_eq!(account.count(shouted).await, 0);
    assert_eq!(account.user(json!({ "email": "Jane@example.com" })).await.0, StatusCode::CREATED);
    account.server.set(Settings { duplicate_email: Duplicate::Allowed, ..settings() });
    assert_eq!(account.user(json!({})).await.0, StatusCode::CREATED);
    account.server.set(Settings { last_name_missing: Missing::Refused, ..settings() });
    assert_eq!(account.user(json!({ "email": "joe@example.com" })).await.0, StatusCode::BAD_REQUEST);
    let user = format!("/v3/users/{}", id(&made));
    let (status, changed) = account.patch(&user, json!({ "lastName": "Roe" })).await;
    assert_eq!(
        (status, &changed["name"], keys(&changed)),
        (StatusCode::OK, &json!("Jane Roe"), vec!["stripe_customer_id"])
    );
    assert_eq!(account.patch(&user, json!({ "password": "another-one" })).await.0, StatusCode::BAD_REQUEST);
    let license = account.license(json!({ "userId": id(&made) })).await;
    assert_eq!((&license["user"]["id"], license.get("userId")), (&made["id"], None));
    assert_eq!(account.count("/v3/licenses?user.email[eq]=jane%40example.com&limit=100").await, 1);
    assert_eq!(account.server.customers_made(), 3);
}

#[tokio::test]
async fn a_supplied_key_is_unique_by_a_switch() {
    let account = start(settings()).await;
    let keyed = json!({ "productId": PRODUCT, "key": "0123456789abcdef" });
    assert_eq!(account.post("/v3/licenses", keyed.clone()).await.0, StatusCode::CREATED);
    assert_eq!(account.post("/v3/licenses", keyed.clone()).await.0, StatusCode::BAD_REQUEST);
    account.server.set(Settings { duplicate_key: Duplicate::Allowed, ..settings() });
    assert_eq!(account.post("/v3/licenses", keyed).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn required_metadata_is_required() {
    let template = Template { required_metadata: vec!["order".to_owned()], ..Template::default() };
    let account = start(Settings { templates: vec![template], ..settings() }).await;
    assert_eq!(account.post("/v3/licenses", json!({ "productId": PRODUCT })).await.0, StatusCode::BAD_REQUEST);
    account.license(json!({ "metadata": [entry("order", "1")] })).await;
}

#[tokio::test]
async fn a_deleted_license_is_unknown() {
    let account = start(settings()).await;
    let made = account.license(json!({})).await;
    assert_eq!(account.ask(Method::DELETE, &path(&made, ""), None).await.0, StatusCode::NO_CONTENT);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(account.ask(method, &path(&made, ""), None).await.0, StatusCode::NOT_FOUND);
    }
    assert_eq!((account.server.licenses_made(), account.server.licenses().len()), (1, 0));
}

#[tokio::test]
async fn the_51st_request_within_five_seconds_is_turned_away() {
    let account = start(Settings { requests_per_window: 50, ..settings() }).await;
    for _ in 0..50 {
        assert_eq!(account.get("/v3/licenses").await.0, StatusCode::OK);
    }
    let url = format!("http://{}/v3/licenses", account.address);
    let turned_away = account.http.get(url).bearer_auth("sandbox").send().await.unwrap();
    assert_eq!(turned_away.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = turned_away.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait));
    assert_eq!(turned_away.headers()["x-rate-limit-remaining"], "0");
    assert_eq!(account.server.turned_away(), 1);
}

#[tokio::test]
async fn a_lost_reply_leaves_a_license_and_creates_are_counted_by_metadata() {
    let account = start(settings()).await;
    account.fault("create", Fault::CommitThenDrop);
    let body = json!({ "productId": PRODUCT, "metadata": [entry("ref", "r1")] });
    let url = format!("http://{}/v3/licenses", account.address);
    let lost = account.http.post(url).bearer_auth("sandbox").json(&body).send().await;
    assert!(lost.is_err());
    assert_eq!(account.server.creates()["ref"]["r1"], 1);
    account.license(json!({ "metadata": [entry("ref", "r1")] })).await;
    assert_eq!(account.server.creates()["ref"]["r1"], 2);
    account.fault("find", Fault::Fail { status: 503, retry_after_s: None });
    assert_eq!(account.get("/v3/licenses?metadata.key[eq]=ref").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let calls = account.server.stage().calls();
    assert_eq!((calls["create"]["commit_then_drop"], calls["create"]["201"], calls["find"]["fail"]), (1, 1, 1));
}

#[tokio::test]
async fn searches_lag_behind_and_reading_by_id_does_not() {
    let account = start(settings()).await;
    let lag = Faults { search_lag_ms: 60_000, ..Faults::default() };
    account.server.stage().misbehave(lag).unwrap();
    let made = account.license(json!({})).await;
    assert_eq!(account.count("/v3/licenses?limit=100").await, 0);
    assert_eq!(account.get(&path(&made, "")).await.0, StatusCode::OK);
    account.server.stage().misbehave(Faults::default()).unwrap();
    assert_eq!(account.count("/v3/licenses?limit=100").await, 1);
}

#[tokio::test]
async fn a_stopped_server_is_served_again_with_what_it_holds() {
    let first = start(settings()).await;
    let made = first.license(json!({})).await;
    let Running { server, stop, serving, http, .. } = first;
    drop(http);
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), serving).await.unwrap().unwrap().unwrap();
    let second = serve(server).await;
    assert_eq!(second.get(&path(&made, "")).await.1["key"], made["key"]);
}

#[tokio::test]
async fn a_call_that_hangs_ends_with_the_serving() {
    let account = start(settings()).await;
    account.fault("create", Fault::CommitThenHang);
    let url = format!("http://{}/v3/licenses", account.address);
    let request = account.http.post(url).bearer_auth("sandbox").json(&json!({ "productId": PRODUCT }));
    let hanging = tokio::spawn(request.send());
    while account.server.licenses_made() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    account.stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), account.serving).await.unwrap().unwrap().unwrap();
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn a_person_acts_without_a_token_and_meets_no_fault() {
    let account = start(settings()).await;
    let any = Rule { operation: "any".to_owned(), about: None, count: None, fault: Fault::Drop };
    account.server.stage().misbehave(Faults { script: vec![any], ..Faults::default() }).unwrap();
    let server = &account.server;
    let user = server.create_customer(&jane()).unwrap();
    let made = server.create_license(&json!({ "productId": PRODUCT, "metadata": [entry("note", "gift")] })).unwrap();
    server.change_license(id(&made), &json!({ "userId": id(&user), "suspended": true })).unwrap();
    server.set_expiry(id(&made), &json!({ "expiresAt": "2030-01-01T00:00:00Z" })).unwrap();
    server.change_customer(id(&user), &json!({ "company": "Acme" })).unwrap();
    let kept = &server.licenses()[0];
    assert_eq!((&kept["user"]["company"], &kept["suspended"]), (&json!("Acme"), &json!(true)));
    server.delete_customer(id(&user)).unwrap();
    assert_eq!(server.licenses()[0]["user"], Value::Null);
    server.delete_license(id(&made)).unwrap();
    assert!(server.delete_license(id(&made)).is_err());
}

#[tokio::test]
async fn the_control_interface_shows_the_state_and_takes_settings() {
    let account = start(settings()).await;
    account.license(json!({ "metadata": [entry("ref", "r1")] })).await;
    let (_, state) = account.get("/control/state").await;
    assert_eq!((&state["licenses_made"], &state["creates_by_metadata"]["ref"]["r1"]), (&json!(1), &json!(1)));
    let (status, shown) = account.ask(Method::PUT, "/control/settings", Some(json!({ "page_size": 100 }))).await;
    assert_eq!((status, &shown["page_size"]), (StatusCode::OK, &json!(100)));
    assert_eq!(account.server.settings().page_size, 100);
    let bad = account.ask(Method::PUT, "/control/settings", Some(json!({ "pagesize": 100 }))).await;
    assert_eq!(bad.0, StatusCode::UNPROCESSABLE_ENTITY);
}
