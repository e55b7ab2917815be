//! The stand-in for Keygen: what it answers, what it refuses, and what it keeps.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use jiff::Timestamp;
use keyledger_sandbox::faults::{Fault, Faults, Rule};
use keyledger_sandbox::keygen::settings::{
    ENTITLEMENT_CORE, ENTITLEMENT_EXPORT, ENTITLEMENT_SYNC, POLICY_BASIC, POLICY_FOREIGN, POLICY_PRO, POLICY_SINGLE,
};
use keyledger_sandbox::keygen::{Server, Settings};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const MEDIA_TYPE: &str = "application/vnd.api+json";

/// An account that is served, and somebody who calls it.
struct Account {
    server: Server,
    url: String,
    http: reqwest::Client,
    _stop: tokio_util::sync::DropGuard,
}

/// A status and a body.
type Answer = (u16, Value);

impl Account {
    async fn open() -> Self {
        Self::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Self {
        let server = Server::new(settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (serving, until) = (server.clone(), stop.clone());
        tokio::spawn(async move { serving.serve(listener, until).await });
        // An error says that it was done before.
        _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        Self { server, url, http, _stop: stop.drop_guard() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/v1/accounts/sandbox{path}", self.url));
        request.bearer_auth("sandbox").header("accept", MEDIA_TYPE).header("keygen-version", "1.8")
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.header("content-type", MEDIA_TYPE).body(body.to_string());
        }
        answer(request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn patch(&self, id: &str, attributes: &Value) -> Answer {
        let body = json!({ "data": { "type": "licenses", "attributes": attributes } });
        self.send(Method::PATCH, &format!("/licenses/{id}"), Some(&body)).await
    }

    /// Makes a license and gives its id.
    async fn license(&self, policy: Uuid, attributes: &Value) -> String {
        let (status, body) = self.post("/licenses", &license(policy, None, attributes)).await;
        assert_eq!(status, 201, "{body}");
        body["data"]["id"].as_str().unwrap().to_owned()
    }

    async fn user(&self, email: &str) -> Answer {
        let attributes = json!({ "email": email, "firstName": "Jane", "metadata": { "stripeCustomerId": "cus_1" } });
        self.post("/users", &json!({ "data": { "type": "users", "attributes": attributes } })).await
    }
}

async fn answer(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn license(policy: Uuid, id: Option<&str>, attributes: &Value) -> Value {
    let mut data = json!({
        "type": "licenses",
        "attributes": attributes,
        "relationships": { "policy": { "data": { "type": "policies", "id": policy } } },
    });
    if let Some(id) = id {
        data["id"] = json!(id);
    }
    json!({ "data": data })
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.0, answer.1["errors"][0]["code"].as_str().unwrap_or_default())
}

fn linked(kind: &str, id: impl serde::Serialize) -> Value {
    json!({ "data": { "type": kind, "id": id } })
}

fn many(ids: &[Uuid]) -> Value {
    let data: Vec<Value> = ids.iter().map(|id| json!({ "type": "entitlements", "id": id })).collect();
    json!({ "data": data })
}

#[tokio::test]
async fn a_license_is_made_with_an_id_of_the_callers_and_only_once() {
    let account = Account::open().await;
    let id = "11111111-2222-5333-8444-555555555555";
    let attributes = json!({ "name": "Pro", "expiry": "2026-02-06T00:00:00Z", "maxMachines": 3,
        "metadata": { "keyledgerRef": "kl-1", "stripe_subscription_id": "sub_1" } });
    let (status, body) = account.post("/licenses", &license(POLICY_PRO, Some(id), &attributes)).await;
    assert_eq!(status, 201);
    assert_eq!(body["data"]["id"], id);
    let made = &body["data"]["attributes"];
    assert_eq!(made["expiry"], "2026-02-06T00:00:00.000Z");
    assert_eq!(made["maxMachines"], 3);
    assert_eq!(made["metadata"], json!({ "keyledgerRef": "kl-1", "stripeSubscriptionId": "sub_1" }));
    assert!(made["key"].as_str().unwrap().len() > 20);
    assert_eq!(body["data"]["relationships"]["owner"]["data"], Value::Null);

    let again = account.post("/licenses", &license(POLICY_PRO, Some(id), &attributes)).await;
    assert_eq!(code(&again), (422, "ID_CONFLICT"));
    account.server.set(Settings { races: true, ..Settings::default() });
    assert_eq!(code(&account.post("/licenses", &license(POLICY_PRO, Some(id), &attributes)).await), (409, ""));
    assert_eq!(account.server.creates_by("keyledgerRef").get("kl-1"), Some(&1));
}

#[tokio::test]
async fn an_id_of_another_account_conflicts_and_cannot_be_read() {
    let id = Uuid::from_u128(7);
    let account = Account::with(Settings { ids_elsewhere: [id].into(), ..Settings::default() }).await;
    let wanted = license(POLICY_PRO, Some(&id.to_string()), &json!({}));
    assert_eq!(code(&account.post("/licenses", &wanted).await), (409, ""));
    assert_eq!(account.get(&format!("/licenses/{id}")).await.0, 404);
}

#[tokio::test]
async fn calls_without_their_media_types_token_account_or_version_are_refused() {
    let account = Account::open().await;
    let url = format!("{}/v1/accounts/sandbox/licenses", account.url);
    let bare = || account.http.get(&url);
    let plain = || bare().header("accept", MEDIA_TYPE);
    for (request, expected) in [
        (plain(), (401, "TOKEN_MISSING")),
        (plain().header("authorization", "Basic x"), (401, "TOKEN_FORMAT_INVALID")),
        (plain().bearer_auth("other"), (401, "TOKEN_INVALID")),
        (plain().bearer_auth("sandbox").header("keygen-version", "2.0"), (400, "INVALID_API_VERSION")),
        (bare().bearer_auth("sandbox").header("accept", "text/html"), (406, "")),
        (
            account
                .http
                .post(&url)
                .header("accept", MEDIA_TYPE)
                .header("content-type", "application/json")
                .bearer_auth("sandbox")
                .body("{}"),
            (415, ""),
        ),
    ] {
        assert_eq!(code(&answer(request).await), expected);
    }
    let other = account.http.get(format!("{}/v1/accounts/other/licenses", account.url)).header("accept", MEDIA_TYPE);
    assert_eq!(answer(other.bearer_auth("sandbox")).await.0, 404);
    account.server.set(Settings { token_expired: true, ..Settings::default() });
    assert_eq!(code(&account.get("/licenses").await), (401, "TOKEN_EXPIRED"));
}

#[tokio::test]
async fn what_a_body_must_not_have_is_refused() {
    let account = Account::open().await;
    let attributes = |attributes: Value| license(POLICY_PRO, None, &attributes);
    for body in [
        attributes(json!({ "seats": 3 })),
        attributes(json!({ "maxMachines": "3" })),
        attributes(json!({ "maxMachines": 1.5 })),
        attributes(json!({ "expiry": "tomorrow" })),
        attributes(json!({ "expiry": 1_700_000_000 })),
        attributes(json!({ "suspended": "true" })),
        attributes(json!({ "key": null })),
        attributes(json!({ "metadata": [] })),
        attributes(json!({ "metadata": { "a": { "b": { "c": { "d": 1 } } } } })),
        license(POLICY_PRO, Some("not-a-uuid"), &json!({})),
        license(POLICY_PRO, Some("11111111222253338444555555555555"), &json!({})),
        json!({ "data": { "type": "licenses", "attributes": {} } }),
        json!({ "data": { "type": "users", "attributes": {} } }),
        json!({ "licenses": {} }),
        json!({ "data": { "type": "licenses", "relationships": {
            "policy": { "data": { "type": "policies", "id": POLICY_PRO } },
            "owner": { "data": { "type": "users", "id": "jane@example.com" } } } } }),
    ] {
        assert_eq!(account.post("/licenses", &body).await.0, 400, "{body}");
    }
    let broken = account.request(Method::POST, "/licenses").header("content-type", MEDIA_TYPE).body("{");
    assert_eq!(code(&answer(broken).await), (400, "JSON_INVALID"));
    assert!(account.server.licenses().is_empty());
}

#[tokio::test]
async fn machines_are_bounded_by_the_policy() {
    let account = Account::open().await;
    let make = async |policy, machines: Value| {
        account.post("/licenses", &license(policy, None, &json!({ "maxMachines": machines }))).await
    };
    for (policy, machines) in [(POLICY_PRO, 0), (POLICY_PRO, -1), (POLICY_SINGLE, 2), (POLICY_SINGLE, 0)] {
        assert_eq!(code(&make(policy, json!(machines)).await), (422, "MAX_MACHINES_INVALID"), "{policy} {machines}");
    }
    for (policy, machines, shown) in [
        (POLICY_PRO, Value::Null, Value::Null),
        (POLICY_PRO, json!(9), json!(9)),
        (POLICY_BASIC, Value::Null, json!(1)),
        (POLICY_BASIC, json!(2), json!(2)),
        (POLICY_SINGLE, json!(1), json!(1)),
    ] {
        assert_eq!(make(policy, machines).await.1["data"]["attributes"]["maxMachines"], shown, "{policy}");
    }
}

#[tokio::test]
async fn a_license_of_a_policy_with_a_duration_runs_out_unless_it_says_when() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let account = Account::with(Settings { now: Some(now), ..Settings::default() }).await;
    let expiry = async |attributes: Value| {
        let (_, body) = account.post("/licenses", &license(POLICY_BASIC, None, &attributes)).await;
        body["data"]["attributes"]["expiry"].clone()
    };
    assert_eq!(expiry(json!({})).await, "2026-01-31T00:00:00.000Z");
    assert_eq!(expiry(json!({ "expiry": null })).await, "2026-01-31T00:00:00.000Z");
    assert_eq!(expiry(json!({ "expiry": "2026-03-01T12:00:00+01:00" })).await, "2026-03-01T11:00:00.000Z");
    let id = account.license(POLICY_BASIC, &json!({})).await;
    assert_eq!(account.patch(&id, &json!({ "expiry": null })).await.1["data"]["attributes"]["expiry"], Value::Null);
    assert_eq!(account.patch(&id, &json!({ "key": "another" })).await.0, 400);
}

#[tokio::test]
async fn metadata_is_replaced_whole_and_found_whatever_way_its_key_is_written() {
    let account = Account::open().await;
    let id = account.license(POLICY_PRO, &json!({ "metadata": { "stripe_subscription_id": "sub_1", "n": 3 } })).await;
    account.license(POLICY_PRO, &json!({ "metadata": { "stripeSubscriptionId": "sub_12" } })).await;
    for filter in ["stripeSubscriptionId", "stripe_subscription_id", "StripeSubscriptionId"] {
        let (_, body) = account.get(&format!("/licenses?metadata[{filter}]=sub_1&limit=100")).await;
        assert_eq!(body["data"].as_array().unwrap().len(), 1, "{filter}");
        assert_eq!(body["data"][0]["id"], id.as_str());
    }
    let both = "metadata%5BstripeSubscriptionId%5D=sub_1&metadata[n]=3";
    assert_eq!(account.get(&format!("/licenses?{both}")).await.1["data"].as_array().unwrap().len(), 1);
    let neither = "metadata[stripeSubscriptionId]=sub_1&metadata[n]=4";
    assert!(account.get(&format!("/licenses?{neither}")).await.1["data"].as_array().unwrap().is_empty());
    let (_, body) = account.patch(&id, &json!({ "metadata": { "note": "hi" } })).await;
    assert_eq!(body["data"]["attributes"]["metadata"], json!({ "note": "hi" }));
}

#[tokio::test]
async fn what_is_of_another_product_is_not_there_and_its_policies_are_forbidden() {
    let account = Account::open().await;
    let foreign = account.server.make_license(POLICY_FOREIGN, &json!({ "keyledgerRef": "kl-1" }));
    assert_eq!(account.get(&format!("/licenses/{foreign}")).await.0, 404);
    assert_eq!(account.patch(&foreign.to_string(), &json!({ "suspended": true })).await.0, 404);
    assert!(account.get("/licenses?metadata[keyledgerRef]=kl-1").await.1["data"].as_array().unwrap().is_empty());
    assert_eq!(account.post("/licenses", &license(POLICY_FOREIGN, None, &json!({}))).await.0, 403);
    assert_eq!(account.post("/licenses", &license(Uuid::from_u128(1), None, &json!({}))).await.0, 403);
    let taken = license(POLICY_PRO, Some(&foreign.to_string()), &json!({}));
    assert_eq!(code(&account.post("/licenses", &taken).await), (422, "ID_CONFLICT"));

    account.server.set(Settings { token_product: None, ..Settings::default() });
    assert_eq!(account.get(&format!("/licenses/{foreign}")).await.0, 200);
    let unknown = account.post("/licenses", &license(Uuid::from_u128(1), None, &json!({}))).await;
    assert_eq!(code(&unknown), (422, "POLICY_NOT_FOUND"));
}

#[tokio::test]
async fn suspending_and_renewing_are_refused_where_keygen_refuses_them() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let account = Account::with(Settings { now: Some(now), ..Settings::default() }).await;
    let basic = account.license(POLICY_BASIC, &json!({})).await;
    let act = async |id: &str, action: &str| {
        account.send(Method::POST, &format!("/licenses/{id}/actions/{action}"), None).await
    };
    assert_eq!(act(&basic, "reinstate").await.0, 422);
    assert_eq!(act(&basic, "suspend").await.1["data"]["attributes"]["status"], "SUSPENDED");
    assert_eq!(act(&basic, "suspend").await.1["errors"][0]["source"]["pointer"], "/data/attributes/suspended");
    assert_eq!(account.patch(&basic, &json!({ "suspended": true })).await.0, 200);
    assert_eq!(act(&basic, "reinstate").await.0, 200);
    assert_eq!(act(&basic, "renew").await.1["data"]["attributes"]["expiry"], "2026-03-02T00:00:00.000Z");

    let pro = account.license(POLICY_PRO, &json!({ "expiry": "2026-02-01T00:00:00Z" })).await;
    assert_eq!(act(&pro, "renew").await.0, 422);
    account.patch(&basic, &json!({ "expiry": null })).await;
    let silent = act(&basic, "renew").await;
    assert_eq!((silent.0, &silent.1["errors"]), (422, &json!([])));
    assert_eq!(account.server.license(basic.parse().unwrap()).unwrap().renewed_s, 30 * 86_400);
}

#[tokio::test]
async fn revoking_destroys() {
    let account = Account::open().await;
    let id = account.license(POLICY_PRO, &json!({})).await;
    let revoke = format!("/licenses/{id}/actions/revoke");
    assert_eq!(account.send(Method::DELETE, &revoke, None).await.0, 204);
    assert_eq!(account.send(Method::DELETE, &revoke, None).await.0, 404);
    assert_eq!(account.get(&format!("/licenses/{id}")).await.0, 404);
}

#[tokio::test]
async fn users_are_unique_by_email_in_lower_case() {
    let account = Account::open().await;
    let (status, body) = account.user(" Jane@Example.com ").await;
    assert_eq!((status, &body["data"]["attributes"]["email"]), (201, &json!("jane@example.com")));
    assert_eq!(code(&account.user("JANE@example.com").await), (422, "EMAIL_TAKEN"));
    let by_email = account.get("/users/JANE%40example.com").await.1;
    assert_eq!(by_email["data"]["id"], body["data"]["id"]);
    assert_eq!(account.get("/users?metadata[stripe_customer_id]=cus_1").await.1["data"].as_array().unwrap().len(), 1);
    assert_eq!(code(&account.user("nobody").await), (422, "EMAIL_INVALID"));
    let long = format!("{}@example.com", "x".repeat(250));
    assert_eq!(account.user(&long).await.0, 422);
    account.server.set(Settings { races: true, ..Settings::default() });
    assert_eq!(account.user("jane@example.com").await.0, 409);
    account.server.set(Settings { users_max: Some(1), ..Settings::default() });
    assert_eq!(code(&account.user("john@example.com").await), (402, "ACCOUNT_ALU_LIMIT_EXCEEDED"));
}

#[tokio::test]
async fn the_sellers_own_people_have_an_email_but_are_not_shown() {
    let account = Account::open().await;
    account.server.make_admin("seller@example.com");
    assert_eq!(code(&account.user("seller@example.com").await), (422, "EMAIL_TAKEN"));
    assert_eq!(account.get("/users/seller%40example.com").await.0, 404);
    assert!(account.get("/users").await.1["data"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_user_is_changed_in_what_is_said_and_metadata_whole() {
    let account = Account::open().await;
    let id = account.user("jane@example.com").await.1["data"]["id"].as_str().unwrap().to_owned();
    let patch = async |attributes: Value| {
        let body = json!({ "data": { "type": "users", "id": id, "attributes": attributes } });
        account.send(Method::PATCH, &format!("/users/{id}"), Some(&body)).await.1["data"]["attributes"].clone()
    };
    let user = patch(json!({ "lastName": "Roe", "email": "Jane.Roe@example.com" })).await;
    assert_eq!((&user["fullName"], &user["email"]), (&json!("Jane Roe"), &json!("jane.roe@example.com")));
    assert_eq!(user["metadata"], json!({ "stripeCustomerId": "cus_1" }));
    assert_eq!(patch(json!({ "metadata": { "a": 1 } })).await["metadata"], json!({ "a": 1 }));
}

#[tokio::test]
async fn an_owner_is_set_and_taken_away() {
    let account = Account::open().await;
    let user = account.user("jane@example.com").await.1["data"]["id"].clone();
    let id = account.license(POLICY_PRO, &json!({})).await;
    let path = format!("/licenses/{id}/owner");
    let put = async |body: Value| account.send(Method::PUT, &path, Some(&body)).await;
    let set = put(linked("users", &user)).await.1;
    assert_eq!(
        (&set["data"]["type"], &set["data"]["relationships"]["owner"]["data"]["id"]),
        (&json!("licenses"), &user)
    );
    assert_eq!(code(&put(linked("users", Uuid::from_u128(1))).await), (422, "OWNER_NOT_FOUND"));
    assert_eq!(put(linked("users", "jane@example.com")).await.0, 400);
    assert_eq!(put(json!({ "data": null })).await.1["data"]["relationships"]["owner"]["data"], Value::Null);
}

#[tokio::test]
async fn older_versions_call_the_owner_user_and_the_header_tells_them_apart() {
    let account = Account::with(Settings { default_version: "1.5".to_owned(), ..Settings::default() }).await;
    let id = account.license(POLICY_PRO, &json!({ "metadata": { "a_b": { "c_d": 1 } } })).await;
    let read = async |version: Option<&str>| {
        let url = format!("{}/v1/accounts/sandbox/licenses/{id}", account.url);
        let request = account.http.get(url).bearer_auth("sandbox").header("accept", MEDIA_TYPE);
        answer(version.map_or(request.try_clone().unwrap(), |version| request.header("keygen-version", version)))
            .await
            .1
    };
    let old = read(None).await;
    assert!(old["data"]["relationships"]["user"].is_object());
    assert!(old["data"]["relationships"]["owner"].is_null());
    assert!(read(Some("1.8")).await["data"]["relationships"]["owner"].is_object());
    assert_eq!(read(Some("1.8")).await["data"]["attributes"]["metadata"], json!({ "aB": { "cD": 1 } }));
    assert_eq!(read(Some("1.4")).await["data"]["attributes"]["metadata"], json!({ "aB": { "c_d": 1 } }));
}

#[tokio::test]
async fn entitlements_are_attached_all_or_none_and_the_policys_stay() {
    let account = Account::open().await;
    let id = account.license(POLICY_BASIC, &json!({})).await;
    let path = format!("/licenses/{id}/entitlements");
    let attach = async |ids: &[Uuid]| account.post(&path, &many(ids)).await;
    let detach = async |ids: &[Uuid]| account.send(Method::DELETE, &path, Some(&many(ids))).await;
    let codes = || account.server.allowed(id.parse().unwrap()).unwrap().1;
    assert_eq!(attach(&[ENTITLEMENT_EXPORT]).await.0, 200);
    assert_eq!(code(&attach(&[ENTITLEMENT_SYNC, ENTITLEMENT_EXPORT]).await), (422, "ENTITLEMENT_TAKEN"));
    assert_eq!(code(&attach(&[ENTITLEMENT_CORE]).await), (422, "ENTITLEMENT_CONFLICT"));
    assert_eq!(code(&attach(&[Uuid::from_u128(1)]).await), (422, "ENTITLEMENT_NOT_FOUND"));
    assert_eq!(attach(&[]).await.0, 400);
    assert_eq!(codes(), ["EXPORT", "CORE"]);
    assert_eq!(account.get(&format!("{path}?limit=100")).await.1["data"].as_array().unwrap().len(), 2);
    let of_policy = account.get(&format!("/policies/{POLICY_BASIC}/entitlements")).await.1;
    assert_eq!(of_policy["data"][0]["id"], ENTITLEMENT_CORE.to_string());
    assert_eq!(account.get(&format!("/entitlements/{ENTITLEMENT_CORE}")).await.1["data"]["attributes"]["code"], "CORE");
    assert_eq!(account.get(&format!("/entitlements/{}", Uuid::from_u128(1))).await.0, 404);
    assert_eq!(detach(&[ENTITLEMENT_CORE]).await.0, 403);
    assert_eq!(detach(&[ENTITLEMENT_SYNC]).await.0, 422);
    assert_eq!(detach(&[ENTITLEMENT_EXPORT]).await.0, 204);
    assert_eq!(codes(), ["CORE"]);
}

#[tokio::test]
async fn a_policy_is_changed_within_the_product() {
    let account = Account::open().await;
    let id = account.license(POLICY_PRO, &json!({ "expiry": "2026-02-01T00:00:00Z" })).await;
    let path = format!("/licenses/{id}/policy");
    let put = async |policy: Uuid| account.send(Method::PUT, &path, Some(&linked("policies", policy))).await;
    assert_eq!(put(POLICY_BASIC).await.1["data"]["attributes"]["expiry"], "2026-02-01T00:00:00.000Z");
    assert_eq!(put(POLICY_FOREIGN).await.0, 403);
}

#[tokio::test]
async fn lists_come_in_three_styles_newest_first() {
    let account = Account::open().await;
    let mut ids = Vec::new();
    for _ in 0..25 {
        ids.insert(0, account.license(POLICY_PRO, &json!({})).await);
    }
    let shown = |body: &Value| -> Vec<String> {
        body["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let list = async |query: &str| account.get(&format!("/licenses{query}")).await.1;
    assert_eq!(shown(&list("").await), ids[..10]);
    let plain = list("?limit=20").await;
    assert_eq!((shown(&plain), &plain["links"]), (ids[..20].to_vec(), &Value::Null));
    let third = list("?page[number]=3&page[size]=10").await;
    assert_eq!(shown(&third), ids[20..]);
    assert_eq!(third["links"]["meta"], json!({ "pages": 3, "count": 25 }));
    assert_eq!((third["links"]["next"].is_null(), third["links"]["prev"].is_null()), (true, false));

    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let body = list(&format!("?page[cursor]={cursor}&page[size]=10")).await;
        walked.extend(shown(&body));
        assert!(body["links"]["last"].is_null());
        if body["links"]["next"].is_null() {
            break;
        }
        cursor = walked.last().unwrap().clone();
    }
    assert_eq!(walked, ids);

    for outside in [
        "?limit=0",
        "?limit=101",
        "?limit=x",
        "?page[number]=0&page[size]=1",
        "?page[number]=101&page[size]=1",
        "?page[cursor]=&page[size]=101",
        "?page[cursor]=x&page[size]=1",
        "?page[size]=5",
    ] {
        assert_eq!(account.get(&format!("/licenses{outside}")).await.0, 400, "{outside}");
    }
}

#[tokio::test]
async fn a_token_without_a_permission_is_refused_what_takes_it() {
    let permissions = Some(["license.read".to_owned()].into());
    let account = Account::with(Settings { permissions, ..Settings::default() }).await;
    assert_eq!(account.get("/licenses").await.0, 200);
    let refused = account.post("/licenses", &license(POLICY_PRO, None, &json!({}))).await;
    assert_eq!(code(&refused), (403, "TOKEN_NOT_ALLOWED"));
}

#[tokio::test]
async fn too_many_calls_are_turned_away_with_a_time_to_come_back() {
    let account = Account::with(Settings { calls_per_30_s: Some(2), ..Settings::default() }).await;
    let get = || account.request(Method::GET, "/licenses").send();
    assert_eq!(get().await.unwrap().headers()["x-ratelimit-remaining"], "1");
    assert_eq!(get().await.unwrap().status(), 200);
    let third = get().await.unwrap();
    assert_eq!((third.status().as_u16(), &third.headers()["retry-after"]), (429, &"30".parse().unwrap()));
    assert_eq!(third.headers()["x-ratelimit-remaining"], "0");
    account.server.set(Settings { rate_limit_headers: false, ..Settings::default() });
    assert!(get().await.unwrap().headers().get("x-ratelimit-limit").is_none());
}

#[tokio::test]
async fn a_reply_can_be_lost_after_the_commit() {
    let account = Account::open().await;
    let rule = Rule { operation: "create".to_owned(), about: None, count: Some(1), fault: Fault::CommitThenDrop };
    account.server.stage().misbehave(Faults { script: vec![rule], ..Faults::default() }).unwrap();
    let body = license(POLICY_PRO, None, &json!({ "metadata": { "ref": "a" } }));
    let lost = account.request(Method::POST, "/licenses").header("content-type", MEDIA_TYPE).body(body.to_string());
    assert!(lost.send().await.is_err());
    assert_eq!(account.server.licenses().len(), 1);
    assert_eq!(account.server.stage().calls()["create"]["commit_then_drop"], 1);
}

#[tokio::test]
async fn what_is_held_can_be_seen_and_settings_changed_from_outside() {
    let account = Account::open().await;
    account.license(POLICY_PRO, &json!({ "metadata": { "ref": "a" } })).await;
    let state = answer(account.http.get(format!("{}/control/state", account.url))).await.1;
    assert_eq!(state["licenses"][0]["metadata"]["ref"], "a");
    let url = format!("{}/control/settings", account.url);
    let settings = answer(account.http.get(&url)).await.1;
    assert_eq!(settings, serde_json::to_value(Settings::default()).unwrap());
    assert_eq!(answer(account.http.put(&url).json(&json!({ "races": true }))).await.0, 200);
    assert!(account.server.settings().races);
    assert_eq!(answer(account.http.put(&url).json(&json!({ "race": true }))).await.0, 422);
}
