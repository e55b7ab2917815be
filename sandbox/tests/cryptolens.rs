//! The stand-in for Cryptolens: what is verified of the service holds, and what is not goes both ways.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyledger_sandbox::cryptolens::{
    ByHand, Duplicates, EmptyFields, Errors, Links, Matching, Server, Settings, TimeOfDay,
};
use keyledger_sandbox::faults::{Fault, Faults, Rule};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const START: &str = "2026-02-03T10:20:30.456Z";

fn http() -> reqwest::Client {
    // An error says that it is chosen already.
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap()
}

/// A stand-in on loopback, with a clock that stands.
struct Service {
    server: Server,
    url: String,
    now: Arc<Mutex<Timestamp>>,
    stop: CancellationToken,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Service {
    async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Self {
        let now = Arc::new(Mutex::new(START.parse().unwrap()));
        let clock = now.clone();
        let server = Server::on_clock(settings, Arc::new(move || *clock.lock().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (serving, stopped) = (server.clone(), stop.clone());
        tokio::spawn(async move { serving.serve(listener, stopped).await.unwrap() });
        Self { server, url, now, stop }
    }

    fn advance(&self, days: i64) {
        *self.now.lock().unwrap() += SignedDuration::from_hours(24 * days);
    }

    /// Calls a method with a form and gives the status and the body.
    async fn call(&self, method: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let form = [&[("token", "sandbox"), ("v", "1"), ("ModelVersion", "3")], form].concat();
        let answer = http().post(format!("{}/api/{method}", self.url)).form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn done(&self, method: &str, form: &[(&str, &str)]) -> Value {
        let (status, body) = self.call(method, form).await;
        assert_eq!((status, &body["result"]), (200, &json!(0)), "{body}");
        body
    }

    async fn refused(&self, method: &str, form: &[(&str, &str)]) -> String {
        let (_, body) = self.call(method, form).await;
        assert_eq!(body["result"], 1, "{body}");
        body["message"].as_str().unwrap().to_owned()
    }

    async fn create(&self, product: &str, form: &[(&str, &str)]) -> String {
        let made = self.done("key/CreateKey", &[&[("ProductId", product)], form].concat()).await;
        made["key"].as_str().unwrap().to_owned()
    }

    async fn read(&self, product: &str, key: &str) -> Value {
        self.done("key/GetKey", &[("ProductId", product), ("Key", key)]).await["licenseKey"].clone()
    }

    async fn found(&self, query: &str) -> Vec<Value> {
        let form = [("ProductId", "3349"), ("OrderBy", "ID ascending"), ("SearchQuery", query)];
        let found = self.done("product/GetKeys", &form).await;
        found["licenseKeys"].as_array().unwrap().iter().map(|license| license["id"].clone()).collect()
    }

    async fn customer(&self) -> String {
        let form = [("Name", "Jane Roe"), ("Email", "jane@example.com"), ("CompanyName", "Acme")];
        self.done("customer/AddCustomer", &form).await["customerId"].to_string()
    }
}

#[tokio::test]
async fn calls_come_as_form_or_query_in_any_case() {
    let service = Service::start().await;
    for path in ["key/CreateKey", "KEY/createkey/", "Key/CREATEKEY"] {
        service.done(path, &[("productid", "3349"), ("f1", "True"), ("F2", "false"), ("F3", "")]).await;
    }
    let url = format!("{}/api/key/createkey?token=sandbox&PRODUCTID=3349&F1=true", service.url);
    let answer: Value = http().get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!((&answer["result"], &answer["message"]), (&json!(0), &Value::Null));
    assert_eq!(service.server.licenses().len(), 4);
    assert!(service.server.licenses().iter().all(|license| license.features[0] && !license.features[1]));
}

#[tokio::test]
async fn what_a_method_does_not_have_is_refused() {
    let service = Service::start().await;
    for form in [
        [("ProductId", "3349"), ("Perod", "3")],
        [("ProductId", "3349"), ("Period", "three")],
        [("ProductId", "3349"), ("Period", "-3")],
        [("ProductId", "3349"), ("F1", "yes")],
        [("ProductId", "3349"), ("ResellerId", "1")],
    ] {
        let message = service.refused("key/CreateKey", &form).await;
        assert!(message.contains("input parameters were incorrect"), "{message}");
    }
    assert!(service.refused("key/CreateKey", &[("ProductId", "1")]).await.contains("find the product"));
    let unknown = [("ProductId", "3349"), ("CustomerId", "1")];
    assert!(service.refused("key/CreateKey", &unknown).await.contains("Customer could not be found"));
    assert!(service.server.licenses().is_empty());
    let nowhere = http().get(format!("{}/api/key/DeleteKey", service.url)).send().await.unwrap();
    assert_eq!(nowhere.status(), 404);
}

#[tokio::test]
async fn errors_have_the_status_of_success_or_their_own() {
    for (errors, statuses) in [(Errors::Ok, [200; 4]), (Errors::Fitting, [401, 403, 404, 400])] {
        let permissions = Some(vec!["GetKey".to_owned(), "CreateKey".to_owned()]);
        let service = Service::with(Settings { errors, permissions, ..Settings::default() }).await;
        let wrong = service.call("key/GetKey", &[("Token", "x")]).await;
        // A token that is given twice is no token; a wrong one alone follows.
        assert_eq!(wrong.1["result"], 1);
        let stranger = http().post(format!("{}/api/key/GetKey", service.url));
        let stranger = stranger.form(&[("token", "x")]).send().await.unwrap();
        let mut seen = vec![stranger.status().as_u16()];
        let body: Value = stranger.json().await.unwrap();
        assert_eq!((&body["result"], &body["message"]), (&json!(1), &json!("Unable to authenticate.")));
        let (status, body) = service.call("key/BlockKey", &[]).await;
        assert_eq!(body["message"], "Access denied. Please add 'BlockKey' permission.");
        seen.push(status);
        seen.push(service.call("key/GetKey", &[("ProductId", "3349"), ("Key", "A")]).await.0);
        seen.push(service.call("key/CreateKey", &[]).await.0);
        assert_eq!(seen, statuses);
    }
    let service = Service::with(Settings { plan_is_active: false, ..Settings::default() }).await;
    assert_eq!(service.refused("key/GetKey", &[]).await, "No active subscription found.");
}

#[tokio::test]
async fn a_license_is_numbered_in_its_product_and_in_the_account() {
    let service = Service::start().await;
    for _ in 0..3 {
        service.create("3349", &[]).await;
        service.create("3350", &[]).await;
    }
    let licenses = service.server.licenses();
    let numbers: Vec<_> = licenses.iter().map(|license| (license.product_id, license.id)).collect();
    assert_eq!(numbers, [(3349, 1), (3350, 1), (3349, 2), (3350, 2), (3349, 3), (3350, 3)]);
    assert!(licenses.iter().all(|license| license.id != license.global_id));
    service.create("3349", &[]).await;
    assert_eq!(service.found("id=4").await, [json!(4)]);
    assert_eq!(service.found("globalid=4").await, [json!(1)]);
    let form = [("ProductId", "3349"), ("GlobalId", "6"), ("OrderBy", "ID ascending")];
    assert_eq!(service.done("product/GetKeys", &form).await["licenseKeys"][0]["id"], 2);
}

#[tokio::test]
async fn a_license_is_as_it_was_made() {
    let service = Service::start().await;
    let customer = service.customer().await;
    let form = [
        ("Period", "35"),
        ("F1", "true"),
        ("F3", "true"),
        ("Notes", "ref:a; by hand"),
        ("CustomerId", &customer),
        ("MaxNoOfMachines", "3"),
    ];
    let made = service.done("key/CreateKey", &[&[("ProductId", "3349")], &form[..]].concat()).await;
    assert_eq!(made["customerId"].to_string(), customer);
    assert!(made.get("id").is_none());
    let license = service.read("3349", made["key"].as_str().unwrap()).await;
    assert_eq!(license["created"], "2026-02-03T10:20:30.456");
    assert_eq!(license["expires"], "2026-03-10T10:20:30.456");
    for (field, value) in [
        ("productId", json!(3349)),
        ("id", json!(1)),
        ("period", json!(35)),
        ("f1", json!(true)),
        ("f2", json!(false)),
        ("f3", json!(true)),
        ("notes", json!("ref:a; by hand")),
        ("block", json!(false)),
        ("maxNoOfMachines", json!(3)),
        ("dataObjects", json!([])),
    ] {
        assert_eq!(license[field], value, "{field}");
    }
    assert_eq!(license["customer"]["email"], "jane@example.com");
    let long = "x".repeat(501);
    let message = service.refused("key/CreateKey", &[("ProductId", "3349"), ("Notes", &long)]).await;
    assert!(message.contains("500"), "{message}");
}

#[tokio::test]
async fn days_are_added_to_the_expiry_or_to_today_where_it_is_past() {
    for (time_of_day, born, extended, late) in [
        (TimeOfDay::Kept, "2026-02-13T10:20:30.456", "2026-02-18T10:20:30.456", "2026-05-19T10:20:30.456"),
        (TimeOfDay::Midnight, "2026-02-13T00:00:00.000", "2026-02-18T00:00:00.000", "2026-05-19T00:00:00.000"),
    ] {
        let service = Service::with(Settings { time_of_day, ..Settings::default() }).await;
        let key = service.create("3349", &[("Period", "10")]).await;
        assert_eq!(service.read("3349", &key).await["expires"], born);
        let form = [("ProductId", "3349"), ("Key", key.as_str()), ("NoOfDays", "5")];
        service.done("key/ExtendLicense", &form).await;
        assert_eq!(service.read("3349", &key).await["expires"], extended);
        service.advance(100);
        service.done("key/ExtendLicense", &form).await;
        assert_eq!(service.read("3349", &key).await["expires"], late);
        let form = [("ProductId", "3349"), ("Key", key.as_str()), ("NoOfDays", "-2")];
        service.done("key/ExtendLicense", &form).await;
        let license = service.server.license(3349, 1).unwrap();
        assert_eq!((license.days_added, license.extensions), (8, 3));
    }
}

#[tokio::test]
async fn a_period_has_a_limit_where_there_is_one() {
    let service = Service::with(Settings { period_days_max: Some(3650), ..Settings::default() }).await;
    service.create("3349", &[("Period", "3650")]).await;
    service.refused("key/CreateKey", &[("ProductId", "3349"), ("Period", "3651")]).await;
    service.refused("key/CreateKey", &[("ProductId", "3400"), ("Period", "1000")]).await;
}

#[tokio::test]
async fn an_old_product_makes_another_key_of_every_change() {
    let service = Service::start().await;
    let products = service.done("product/GetProducts", &[]).await;
    let algorithms: Vec<_> = products["products"].as_array().unwrap().iter().map(|it| &it["keyAlgorithm"]).collect();
    assert_eq!(algorithms, [&json!(1), &json!(1), &json!(0)]);
    let key = service.create("3400", &[("Period", "10")]).await;
    let form = [("ProductId", "3400"), ("Key", key.as_str()), ("NoOfDays", "5")];
    let new = service.done("key/ExtendLicense", &form).await["message"].as_str().unwrap().to_owned();
    assert_ne!(new, key);
    assert!(service.refused("key/GetKey", &[("ProductId", "3400"), ("Key", &key)]).await.contains("find the key"));
    service.read("3400", &new).await;
}

#[tokio::test]
async fn blocking_twice_says_that_nothing_changed() {
    let service = Service::start().await;
    let key = service.create("3349", &[]).await;
    let form = [("ProductId", "3349"), ("Key", key.as_str())];
    for (method, unchanged, block) in [
        ("key/UnblockKey", true, false),
        ("key/BlockKey", false, true),
        ("key/BlockKey", true, true),
        ("key/UnblockKey", false, false),
    ] {
        let message = service.done(method, &form).await["message"].as_str().unwrap().to_owned();
        assert_eq!(message.contains("Not changed"), unchanged);
        assert_eq!(service.read("3349", &key).await["block"], block);
    }
    assert_eq!(service.server.licenses()[0].blocks, 1);
}

#[tokio::test]
async fn an_unknown_customer_takes_the_present_one_away() {
    let service = Service::start().await;
    let customer = service.customer().await;
    for unknown in ["0", "99"] {
        let key = service.create("3349", &[("CustomerId", &customer)]).await;
        let form = [("ProductId", "3349"), ("Key", key.as_str()), ("CustomerId", unknown)];
        assert!(service.refused("key/ChangeCustomer", &form).await.contains("Customer could not be found"));
        assert_eq!(service.read("3349", &key).await["customer"], Value::Null);
        let form = [("ProductId", "3349"), ("Key", key.as_str()), ("CustomerId", customer.as_str())];
        service.done("key/ChangeCustomer", &form).await;
        assert_eq!(service.read("3349", &key).await["customer"]["id"].to_string(), customer);
    }
}

#[tokio::test]
async fn seats_notes_and_features_are_set() {
    let service = Service::start().await;
    let key = service.create("3349", &[("F2", "true")]).await;
    let at = [("ProductId", "3349"), ("Key", key.as_str())];
    let with = |more: &[(&'static str, &'static str)]| [&at[..], more].concat();
    service.done("key/MachineLockLimit", &with(&[("NumberOfMachines", "7")])).await;
    service.done("key/AddFeature", &with(&[("Feature", "8")])).await;
    service.done("key/RemoveFeature", &with(&[("Feature", "2")])).await;
    service.done("key/ChangeNotes", &with(&[("Notes", "ref:b;")])).await;
    service.refused("key/AddFeature", &with(&[("Feature", "9")])).await;
    service.refused("key/AddFeature", &with(&[("Feature", "0")])).await;
    let license = service.read("3349", &key).await;
    assert_eq!((&license["maxNoOfMachines"], &license["notes"]), (&json!(7), &json!("ref:b;")));
    assert_eq!((&license["f2"], &license["f8"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn licenses_are_found_by_what_they_hold() {
    let service = Service::start().await;
    let customer = service.customer().await;
    let first = service.create("3349", &[("Notes", "ref:kl-1;"), ("CustomerId", &customer)]).await;
    service.create("3349", &[("Notes", "ref:kl-11; REF:KL-1;"), ("F1", "true"), ("Period", "200")]).await;
    service.create("3350", &[("Notes", "ref:kl-1;")]).await;
    service.server.add_data_object_by_hand(3349, 2, "cryptolens_stripesubscriptionitemid", "si_1");
    for (query, ids) in [
        (r#"notes.contains("ref:kl-1;")"#, vec![1, 2]),
        (r#"notes.contains("ref:kl-11;")"#, vec![2]),
        (r#"dataobjects.count(it.StringValue="si_1")>0"#, vec![2]),
        (r#"dataobjects.count(it.StringValue="si")>0"#, vec![]),
        (&format!("customer.id={customer}"), vec![1]),
        (r#"customer.email="jane@example.com""#, vec![1]),
        (&format!(r#"key="{first}""#), vec![1]),
        ("block=true", vec![]),
        ("F1=true", vec![2]),
        ("expires<=DateTime(2026,7,1)", vec![1]),
    ] {
        assert_eq!(service.found(query).await, ids, "{query}");
    }
    for query in [r#"notes.contains("a"b")"#, "notes.contains(a)", "id=\"1\"", "nothing=1", "id=1;"] {
        let form = [("ProductId", "3349"), ("SearchQuery", query)];
        service.refused("product/GetKeys", &form).await;
        // Also where there is nothing to search.
        service.refused("product/GetKeys", &[("ProductId", "3400"), ("SearchQuery", query)]).await;
    }
    service.server.set(Settings { search: Matching::Exact, ..Settings::default() });
    assert_eq!(service.found(r#"notes.contains("ref:kl-1;")"#).await, [1]);
}

#[tokio::test]
async fn a_list_has_99_on_each_page() {
    let service = Service::start().await;
    for _ in 0..100 {
        service.server.make_by_hand(ByHand { product_id: 3349, ..ByHand::default() }).unwrap();
    }
    let page = |page| [("ProductId", "3349"), ("OrderBy", "ID ascending"), ("Page", page)];
    let first = service.done("product/GetKeys", &page("1")).await;
    assert_eq!((&first["returned"], &first["total"], &first["pageCount"]), (&json!(99), &json!(100), &json!(2)));
    let second = service.done("product/GetKeys", &page("2")).await;
    assert_eq!((second["licenseKeys"].as_array().unwrap().len(), &second["licenseKeys"][0]["id"]), (1, &json!(100)));
    service.refused("product/GetKeys", &page("0")).await;
}

#[tokio::test]
async fn what_is_new_can_be_invisible_to_searches_but_not_to_its_key() {
    let service = Service::start().await;
    service.server.stage().misbehave(Faults { search_lag_ms: 300, ..Faults::default() }).unwrap();
    let customer = service.customer().await;
    let key = service.create("3349", &[("Notes", "ref:a;"), ("CustomerId", &customer)]).await;
    service.read("3349", &key).await;
    assert!(service.found(r#"notes.contains("ref:a;")"#).await.is_empty());
    let search = [("Search", "jane@")];
    assert_eq!(service.done("customer/GetCustomers", &search).await["customers"], json!([]));
    tokio::time::sleep(Duration::from_millis(310)).await;
    assert_eq!(service.found(r#"notes.contains("ref:a;")"#).await.len(), 1);
    assert_eq!(service.done("customer/GetCustomers", &search).await["customers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn two_customers_may_have_one_email() {
    let service = Service::start().await;
    let (first, second) = (service.customer().await, service.customer().await);
    assert_ne!(first, second);
    let found = service.done("customer/GetCustomers", &[("Search", "JANE@example.com")]).await;
    let ids: Vec<_> = found["customers"].as_array().unwrap().iter().map(|it| it["id"].to_string()).collect();
    assert_eq!(ids, [second.clone(), first]);
    assert!(found["customers"][0].get("notes").is_none());
    let form = [("CustomerId", second.as_str()), ("Email", "new@example.com")];
    service.done("customer/EditCustomer", &form).await;
    let found = service.done("customer/GetCustomers", &[("CustomerId", &second)]).await;
    assert_eq!(found["customers"][0]["email"], "new@example.com");
    assert_eq!(found["customers"][0]["name"], "Jane Roe");
    let secret = service.server.customers()[0].secret.clone();
    let found = service.done("customer/GetCustomers", &[("Search", &secret[3..9])]).await;
    assert_eq!(found["customers"].as_array().unwrap().len(), 1);
    let form = [("Email", "new@example.com"), ("AddOrUseExistingCustomer", "true"), ("ProductId", "3349")];
    assert_eq!(service.done("key/CreateKey", &form).await["customerId"].to_string(), second);
    let long = "x".repeat(101);
    service.refused("customer/AddCustomer", &[("Name", &long), ("Email", "a@b"), ("CompanyName", "c")]).await;
    assert_eq!(service.server.customers_without_license().len(), 1);
    service.done("customer/RemoveCustomer", &[("CustomerId", &second)]).await;
    service.refused("customer/GetCustomerLicenses", &[("CustomerId", &second)]).await;
    assert_eq!(service.server.licenses()[0].customer_id, None);
}

#[tokio::test]
async fn a_customer_with_less_is_made_or_refused() {
    let service = Service::start().await;
    service.done("customer/AddCustomer", &[("Name", "Jane"), ("Email", ""), ("CompanyName", "")]).await;
    let settings = Settings { empty_customer_fields: EmptyFields::Refused, ..Settings::default() };
    let service = Service::with(settings).await;
    service.refused("customer/AddCustomer", &[("Name", "Jane"), ("Email", "")]).await;
    service.customer().await;
}

#[tokio::test]
async fn a_second_link_is_the_same_or_replaces_the_first() {
    for links in [Links::Same, Links::Replaced] {
        let service = Service::with(Settings { links, ..Settings::default() }).await;
        let form = [("Name", "J"), ("EnableCustomerAssociation", "true")];
        let added = service.done("customer/AddCustomer", &form).await;
        let link = added["portalLink"].as_str().unwrap();
        assert!(link.contains("/Associate?id=4711&auth="), "{link}");
        let form = [("CustomerId", "4711"), ("EnableCustomerAssociation", "True")];
        let again = service.done("customer/EditCustomer", &form).await;
        assert_eq!(again["portalLink"] == added["portalLink"], links == Links::Same);
        let plain = service.done("customer/EditCustomer", &[("CustomerId", "4711"), ("Name", "K")]).await;
        assert!(plain.get("portalLink").is_none());
    }
}

#[tokio::test]
async fn licenses_of_a_customer_are_listed_over_all_products() {
    let service = Service::start().await;
    let customer = service.customer().await;
    for product in ["3349", "3350", "3349"] {
        service.create(product, &[("CustomerId", &customer)]).await;
    }
    service.create("3349", &[]).await;
    let form = [("CustomerId", customer.as_str()), ("Detailed", "true")];
    let detailed = service.done("customer/GetCustomerLicenses", &form).await["licenseKeys"].clone();
    assert_eq!(detailed.as_array().unwrap().len(), 3);
    assert!(detailed[0].get("dataObjects").is_some());
    let plain = service.done("customer/GetCustomerLicenses", &form[..1]).await;
    assert!(plain["licenseKeys"][0].get("dataObjects").is_none());
    let secret = service.server.customers()[0].secret.clone();
    let by_secret = service.done("customer/GetCustomerLicensesBySecret", &[("Secret", &secret)]).await;
    assert_eq!(by_secret, plain);
}

#[tokio::test]
async fn data_objects_hang_at_licenses_and_at_the_account() {
    let service = Service::start().await;
    let key = service.create("3349", &[]).await;
    let at = [("ProductId", "3349"), ("Key", key.as_str())];
    let add = [&at[..], &[("Name", "kl_ref"), ("StringValue", "kl-1"), ("CheckForDuplicates", "true")]].concat();
    let id = service.done("data/AddDataObjectToKey", &add).await["id"].clone();
    assert_eq!(service.done("data/AddDataObjectToKey", &add).await["id"], id);
    service.server.set(Settings { duplicates: Duplicates::Error, ..Settings::default() });
    service.refused("data/AddDataObjectToKey", &add).await;
    let set = [&at[..], &[("Name", "kl_ref"), ("StringValue", "kl-2")]].concat();
    service.done("data/SetStringValueToKey", &set).await;
    let listed = service.done("data/ListDataObjectsToKey", &at).await;
    assert_eq!(listed["dataObjects"], json!([{"id": id, "name": "kl_ref", "stringValue": "kl-2", "intValue": 0}]));
    service.done("data/RemoveDataObjectToKey", &[&at[..], &[("Name", "kl_ref")]].concat()).await;
    service.refused("data/RemoveDataObjectToKey", &[&at[..], &[("Name", "kl_ref")]].concat()).await;

    let of_account = [("ReferencerType", "0"), ("Name", "cryptolens_customtosurl"), ("StringValue", "https://a")];
    let id = service.done("data/AddDataObject", &of_account).await["id"].to_string();
    service.done("data/SetStringValue", &[("Id", &id), ("StringValue", "https://b")]).await;
    let listed = service.done("data/ListDataObjects", &[("ReferencerType", "0"), ("Contains", "customtos")]).await;
    assert_eq!(listed["dataObjects"][0]["stringValue"], "https://b");

    service.server.set(Settings { data_object_name_chars_max: 10, ..Settings::default() });
    let long = [&at[..], &[("Name", "stripe_subscription_id"), ("StringValue", "sub_1")]].concat();
    service.refused("data/AddDataObjectToKey", &long).await;
    service.done("data/AddDataObjectToKey", &add).await;
    service.server.set(Settings { key_lock: 0, ..Settings::default() });
    let message = service.refused("data/ListDataObjectsToKey", &at).await;
    assert!(message.contains("Not enough permission and/or key not found"), "{message}");
}

#[tokio::test]
async fn a_lost_answer_leaves_what_was_made_behind() {
    let service = Service::start().await;
    let rule = |fault| Rule { operation: "CreateKey".to_owned(), about: None, count: Some(1), fault };
    let script = vec![
        rule(Fault::CommitThenDrop),
        rule(Fault::CommitThenFail { status: 500 }),
        rule(Fault::Fail { status: 429, retry_after_s: Some(3) }),
        rule(Fault::CommitThenGarble),
    ];
    service.server.stage().misbehave(Faults { script, ..Faults::default() }).unwrap();
    let form = [("token", "sandbox"), ("ProductId", "3349"), ("Notes", "ref:a;")];
    let send = || http().post(format!("{}/api/key/CreateKey", service.url)).form(&form).send();
    send().await.unwrap_err();
    let failed: Value = send().await.unwrap().json().await.unwrap();
    assert!(failed.get("result").is_none());
    assert!(failed["message"].as_str().unwrap().contains("Something went wrong"));
    let limited = send().await.unwrap();
    assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &"3".parse().unwrap()));
    send().await.unwrap().json::<Value>().await.unwrap_err();
    assert_eq!(service.server.creates_with("ref:a;"), 3);
}

#[tokio::test]
async fn people_act_in_between_and_the_state_is_there_to_see() {
    let service = Service::start().await;
    let customer = service.server.add_customer_by_hand("Jane", "jane@example.com");
    let made = ByHand { product_id: 3349, notes: "for Jane".to_owned(), ..ByHand::default() };
    let license = service.server.make_by_hand(ByHand { customer_id: Some(customer), ..made }).unwrap();
    assert!(license.by_hand);
    service.server.edit_by_hand(3349, 1, |license| "edited".clone_into(&mut license.notes));
    assert_eq!(service.read("3349", &license.key).await["notes"], "edited");
    let state: Value = http().get(format!("{}/control/state", service.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(state["licenses"][0]["notes"], "edited");
    assert_eq!(state["customers"][0]["email"], "jane@example.com");
    service.server.delete_by_hand(3349, 1);
    assert!(service.refused("key/GetKey", &[("ProductId", "3349"), ("Key", &license.key)]).await.contains("the key"));

    let url = format!("{}/control/settings", service.url);
    let mut settings: Value = http().get(&url).send().await.unwrap().json().await.unwrap();
    settings["errors"] = json!("fitting");
    settings["unknown_fields"] = json!(true);
    let put = |body: &Value| http().put(&url).json(body).send();
    assert_eq!(put(&settings).await.unwrap().status(), 200);
    assert_eq!(put(&json!({ "erors": "fitting" })).await.unwrap().status(), 422);
    assert_eq!(service.call("key/GetKey", &[]).await.0, 400);
    assert!(service.done("customer/GetCustomers", &[]).await.get("addedLater").is_some());
}
