//! Cryptlex, whichever way it does what nobody could verify.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keyledger_issuer::provider::cryptlex::{Cryptlex, Options};
use keyledger_issuer::provider::{Adopt, CallError, Change, Create, Person, Provider, ProviderError, Sale};
use keyledger_sandbox::cryptlex::{
    Duplicate, EmailComparison, ExpiryStopped, MetadataFilters, MetadataPatch, Missing, NullExpiry, Product,
    RenewStopped, Server, Settings, Template,
};
use keyledger_sandbox::faults::{Chance, Fault, Faults, Mix, Rule};
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::secret::Secret;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::contract::{
    Call, Ended, Hand, NOW, PATIENCE, Seen, SeenPerson, Subject, TOKEN, adopting, at, change, ended, ensure, http,
    limits, person, request, seen, target, terms, well_and_then,
};
use crate::creating::by_hand;

const PRO: &str = "63d00000-0000-4000-8000-000000000001";
const BASIC: &str = "63d00000-0000-4000-8000-000000000002";
const TEMPLATE: &str = "8a110000-0000-4000-8000-000000000001";
const OTHER_TEMPLATE: &str = "8a110000-0000-4000-8000-000000000002";
/// Entitlement sets, and the features that they stand for.
const SETS: [(&str, &str); 4] = [
    ("e5000000-0000-4000-8000-000000000001", "export"),
    ("e5000000-0000-4000-8000-000000000002", "sync"),
    ("e5000000-0000-4000-8000-000000000003", "export+sync"),
    ("e5000000-0000-4000-8000-000000000004", "of the sale"),
];

/// One way in which Cryptlex may turn out.
trait Variation {
    /// Two users may not have one address.
    const SHARES_BY_ADDRESS: bool;

    fn settings() -> Settings;
}

struct Usual;

impl Variation for Usual {
    const SHARES_BY_ADDRESS: bool = true;

    fn settings() -> Settings {
        Settings::default()
    }
}

/// Everything that has two ways goes the other one.
struct Otherwise;

impl Variation for Otherwise {
    const SHARES_BY_ADDRESS: bool = true;

    fn settings() -> Settings {
        Settings {
            duplicate_email: Duplicate::Refused409,
            duplicate_key: Duplicate::Allowed,
            metadata_filters: MetadataFilters::AnyEntry,
            metadata_patch: MetadataPatch::Merge,
            page_size: 10,
            renew_stopped: RenewStopped::Extended,
            last_name_missing: Missing::Refused,
            expiry_stopped: ExpiryStopped::Reinstates,
            expiry_null: NullExpiry::Refused,
            ..Settings::default()
        }
    }
}

/// What has a third way goes that.
struct Third;

impl Variation for Third {
    const SHARES_BY_ADDRESS: bool = false;

    fn settings() -> Settings {
        Settings {
            duplicate_email: Duplicate::Allowed,
            email_comparison: EmailComparison::Exact,
            page_size: 100,
            renew_stopped: RenewStopped::Refused,
            ..Settings::default()
        }
    }
}

struct Engine<V> {
    server: Server,
    address: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    faults: Mutex<Faults>,
    variation: PhantomData<V>,
}

fn account(settings: Settings) -> Settings {
    let template = |id: &str, interval: &str, trigger: &str| Template {
        id: id.parse().unwrap(),
        interval: Some(interval.to_owned()),
        trigger: trigger.to_owned(),
        ..Template::default()
    };
    let product = |id: &str| Product { id: id.parse().unwrap(), template: TEMPLATE.parse().unwrap() };
    Settings {
        token: TOKEN.to_owned(),
        products: vec![product(PRO), product(BASIC)],
        templates: vec![template(TEMPLATE, "P1Y", "creation"), template(OTHER_TEMPLATE, "P2Y", "activation")],
        entitlement_sets: SETS.iter().map(|(id, _)| id.parse().unwrap()).collect(),
        requests_per_window: 0,
        now: Some(at(NOW)),
        ..settings
    }
}

fn entry(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": value, "viewPermissions": [] })
}

fn value<'a>(shown: &'a Value, key: &str) -> Option<&'a str> {
    let entries = shown["metadata"].as_array().unwrap();
    entries.iter().find(|entry| entry["key"] == key).map(|entry| entry["value"].as_str().unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl<V: Variation> Engine<V> {
    async fn with(settings: Settings) -> Self {
        let mut engine = Self {
            server: Server::new(account(settings)),
            address: "127.0.0.1:0".parse().unwrap(),
            stop: CancellationToken::new(),
            task: None,
            faults: Mutex::default(),
            variation: PhantomData,
        };
        engine.serve().await;
        engine
    }

    async fn serve(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.stop = CancellationToken::new();
        let (server, stop) = (self.server.clone(), self.stop.clone());
        self.task = Some(tokio::spawn(async move { server.serve(listener, stop).await.unwrap() }));
    }

    fn options(&self, timeout: Duration) -> Options {
        let limits = limits(timeout);
        Options {
            base_url: format!("http://{}", self.address),
            timeout_ms: limits.timeout_ms,
            requests_per_second: limits.requests_per_second,
            requests_at_once: limits.requests_at_once,
            settle_ms: 600,
            entitlement_sets: SETS[..3].iter().map(|(id, name)| ((*name).to_owned(), (*id).to_owned())).collect(),
            ..Options::default()
        }
    }

    fn patient(&self) -> Cryptlex {
        cryptlex(&self.options(PATIENCE))
    }

    async fn apply(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.faults.lock().await;
        change(&mut faults);
        self.server.stage().misbehave(faults.clone()).unwrap();
        // Used up or not, the next script is another.
        faults.script.clear();
    }

    fn only_license(&self) -> Value {
        let mut all = self.server.licenses();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// How often an operation was asked, however it ended.
    fn asked(&self, operation: &str) -> u64 {
        self.server.stage().calls().get(operation).map_or(0, |endings| endings.values().sum())
    }

    fn user(&self, email: &str, metadata: &Value) -> String {
        let body = json!({
            "email": email, "firstName": "Jane", "password": "at-least-eight", "role": "user", "metadata": metadata
        });
        text(&self.server.create_customer(&body).unwrap()["id"])
    }
}

fn cryptlex(options: &Options) -> Cryptlex {
    Cryptlex::new(ProviderName::from("cryptlex"), options, Secret::new(TOKEN), &http()).unwrap()
}

fn license(shown: &Value) -> Seen {
    let set = shown["entitlementSetId"].as_str().and_then(|id| SETS.iter().find(|(known, _)| *known == id));
    Seen {
        id: text(&shown["id"]),
        reference: value(shown, "keyledger_ref").map(ToOwned::to_owned),
        features: set.iter().flat_map(|(_, names)| names.split('+')).map(ToOwned::to_owned).collect(),
        // What no date can be earlier than stands for never.
        expires_at: shown["expiresAt"].as_str().filter(|text| !text.starts_with("9999")).map(at),
        seats: shown["allowedActivations"].as_u64().filter(|seats| *seats > 0).map(|seats| seats.try_into().unwrap()),
        works: shown["suspended"] == false && shown["revoked"] == false,
        owner: shown["user"]["id"].as_str().map(ToOwned::to_owned),
        note: value(shown, "note").map(ToOwned::to_owned),
    }
}

impl<V: Variation + Send + Sync + 'static> Subject for Engine<V> {
    const WIRE: bool = true;
    const ATOMIC: bool = false;
    const ADOPTS: bool = true;
    const LISTS_CUSTOMERS: bool = true;
    const SHARES_BY_ADDRESS: bool = V::SHARES_BY_ADDRESS;
    /// 403 is a token without the scope.
    const REFUSALS: &'static [u16] = &[400, 404, 422];
    const SETTING: &'static str = "access token";

    async fn start() -> Self {
        Self::with(V::settings()).await
    }

    async fn restart(&mut self) {
        self.stop().await;
        self.serve().await;
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        }
    }

    fn provider(&self, timeout: Duration) -> Arc<dyn Provider> {
        Arc::new(cryptlex(&self.options(timeout)))
    }

    fn product(&self) -> String {
        PRO.to_owned()
    }

    fn other_product(&self) -> String {
        BASIC.to_owned()
    }

    fn features(&self) -> [&'static str; 2] {
        ["export", "sync"]
    }

    async fn misbehave(&self, call: Call, fault: Fault) {
        let operation = match call {
            Call::Create => "create",
            Call::Find => "find",
            Call::Change => "change",
            Call::Customer => "user_create",
        };
        let rule = Rule { operation: operation.to_owned(), about: None, count: Some(1), fault };
        self.apply(|faults| faults.script = vec![rule]).await;
    }

    async fn break_off_after(&self, calls: u32, fault: Fault) {
        self.apply(|faults| faults.script = well_and_then(calls, fault)).await;
    }

    async fn mix(&self, faults: &[(f64, Fault)]) {
        let chance = |(probability, fault): &(f64, Fault)| Chance {
            operation: "any".to_owned(),
            probability: *probability,
            fault: fault.clone(),
        };
        let mix = Mix { seed: 11, faults: faults.iter().map(chance).collect() };
        self.apply(|faults| faults.mix = Some(mix)).await;
    }

    async fn lag(&self, lag: Duration) {
        self.apply(|faults| faults.search_lag_ms = u64::try_from(lag.as_millis()).unwrap()).await;
    }

    async fn expire_token(&self) {
        self.server.set(Settings { token: "another".to_owned(), ..self.server.settings() });
    }

    async fn calls(&self) -> u64 {
        self.server.stage().calls().values().flat_map(BTreeMap::values).sum()
    }

    async fn held(&self) -> Vec<Seen> {
        self.server.licenses().iter().map(license).collect()
    }

    async fn creates(&self, reference: &str) -> u64 {
        let creates = self.server.creates();
        creates.get("keyledger_ref").and_then(|made| made.get(reference)).copied().unwrap_or_default()
    }

    async fn people(&self) -> Vec<SeenPerson> {
        let seen = |shown: &Value| SeenPerson {
            id: text(&shown["id"]),
            // What stands for a last name where there must be one.
            name: text(&shown["name"]).trim_end_matches(" -").to_owned(),
            email: text(&shown["email"]),
        };
        self.server.customers().iter().map(seen).collect()
    }

    async fn make_by_hand(&self, hand: &Hand) -> String {
        let entries = [
            ("keyledger_ref", &hand.reference),
            ("order_ref", &hand.elsewhere),
            ("stripe_subscription_id", &hand.subscription),
            ("note", &hand.note),
        ];
        let metadata: Vec<Value> =
            entries.into_iter().filter_map(|(key, value)| Some(entry(key, value.as_ref()?))).collect();
        let body = json!({
            "productId": hand.product,
            "metadata": metadata,
            "userId": hand.owner,
            "allowedActivations": hand.seats.unwrap_or_default(),
        });
        let id = text(&self.server.create_license(&body).unwrap()["id"]);
        if hand.stopped {
            self.server.change_license(&id, &json!({ "suspended": true })).unwrap();
        }
        id
    }
}

mod usual {
    crate::every_case!(super::Engine<super::Usual>);
}

mod otherwise {
    crate::every_case!(super::Engine<super::Otherwise>);
}

mod third {
    crate::every_case!(super::Engine<super::Third>);
}

async fn usual() -> Engine<Usual> {
    Engine::start().await
}

#[tokio::test]
async fn a_life_of_a_license_never_renews_or_extends_it() {
    let engine = usual().await;
    let provider = engine.patient();
    let wanted = request(&engine, &provider, 1).await;
    let held = provider.create(&wanted).await.unwrap();
    let target = target(&wanted, &held);
    for wanted in [
        Change::Terms(terms(Some("2027-02-04T00:00:00Z"), 3, &[])),
        Change::Suspend,
        Change::Terms(terms(Some("2027-03-04T00:00:00Z"), 3, &[])),
        Change::Reinstate,
        Change::Revoke,
        Change::Reinstate,
    ] {
        change(&provider, &target, wanted).await;
    }
    assert_eq!((engine.asked("renew"), engine.asked("extend"), engine.asked("delete")), (0, 0, 0));
    assert_eq!(engine.only_license()["renewals"], 0);
}

#[tokio::test]
async fn what_is_as_it_should_be_is_only_read() {
    let engine = usual().await;
    let provider = engine.patient();
    let wanted = request(&engine, &provider, 1).await;
    let held = provider.create(&wanted).await.unwrap();
    let before = engine.asked("change");
    change(&provider, &target(&wanted, &held), Change::Terms(wanted.terms.clone())).await;
    assert_eq!(engine.asked("change"), before);
}

#[tokio::test]
async fn a_license_carries_what_it_was_sold_for_and_what_only_cryptlex_understands() {
    let engine = usual().await;
    let provider = engine.patient();
    let mut wanted = request(&engine, &provider, 1).await;
    wanted.terms = terms(Some("2027-01-04T00:00:00Z"), 3, &[]);
    wanted.terms.max_release = Some("2.4".to_owned());
    for (key, id) in [("CRYPTLEX_LICENSE_TEMPLATE", OTHER_TEMPLATE), ("CRYPTLEX_ENTITLEMENT_SET_ID", SETS[3].0)] {
        wanted.options.insert(key.to_owned(), id.to_owned());
    }
    let held = provider.create(&wanted).await.unwrap();
    let made = engine.only_license();
    assert_eq!(value(&made, "stripe_subscription_id"), Some("sub_1"));
    assert_eq!((&made["licenseTemplateId"], &made["entitlementSetId"]), (&json!(OTHER_TEMPLATE), &json!(SETS[3].0)));
    assert_eq!(made["maxAllowedReleaseVersion"], "2.4");
    // Its template starts at the first use, which might set another expiry.
    assert_eq!(made["subscriptionStartTrigger"], "creation");
    assert!(made["metadata"].as_array().unwrap().iter().all(|entry| entry["viewPermissions"] == json!([])));
    // Terms without features leave alone what the sale named.
    change(&provider, &target(&wanted, &held), Change::Terms(terms(Some("2027-02-04T00:00:00Z"), 3, &[]))).await;
    assert_eq!(engine.only_license()["entitlementSetId"], SETS[3].0);
    let one_off = |number, purchase: &str, payment: Option<&str>| {
        let payment = payment.map(ToOwned::to_owned);
        (number, Sale { purchase: purchase.to_owned(), payment, ..Sale::default() })
    };
    for (number, sale) in [one_off(2, "cs_1", Some("pi_1")), one_off(3, "in_1", None)] {
        let named = sale.payment.clone().unwrap_or_else(|| sale.purchase.clone());
        let wanted = Create { sale, ..request(&engine, &provider, number).await };
        provider.create(&wanted).await.unwrap();
        assert_eq!(value(engine.server.licenses().last().unwrap(), "stripe_transaction_id"), Some(named.as_str()));
    }
}

#[tokio::test]
async fn options_that_cryptlex_does_not_have_make_no_license() {
    let engine = usual().await;
    let provider = engine.patient();
    for (key, value) in [("Period", "30"), ("CRYPTLEX_LICENSE_TEMPLATE", "pro"), ("entitlement_set", "")] {
        let mut wanted = request(&engine, &provider, 1).await;
        wanted.options.insert(key.to_owned(), value.to_owned());
        wanted.terms.features.clear();
        assert_eq!(ended(&provider.create(&wanted).await), Ended::Refused, "{key}");
    }
    assert!(engine.server.licenses().is_empty());
}

#[tokio::test]
async fn a_reference_in_another_entry_is_not_ours_however_searches_pair() {
    let engine = Engine::<Otherwise>::start().await;
    let provider = engine.patient();
    let wanted = request(&engine, &provider, 1).await;
    let hand = Hand {
        reference: Some("kl-another".to_owned()),
        elsewhere: Some(wanted.reference.clone()),
        ..by_hand(&wanted.product)
    };
    engine.make_by_hand(&hand).await;
    assert!(provider.find(&wanted.reference, &wanted.product).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_follows_a_create_may_be_lost_and_is_brought_up() {
    for fault in [
        Fault::Fail { status: 400, retry_after_s: None },
        Fault::Fail { status: 429, retry_after_s: None },
        Fault::CommitThenDrop,
    ] {
        let engine = usual().await;
        let provider = engine.patient();
        let wanted = request(&engine, &provider, 1).await;
        engine.misbehave(Call::Change, fault.clone()).await;
        // It exists: nothing may say that nothing was done.
        assert_eq!(ended(&provider.create(&wanted).await), Ended::Indeterminate, "{fault:?}");
        ensure(&provider, &wanted).await;
        let made = seen(&engine, &wanted.reference).await.unwrap();
        assert_eq!((made.seats, made.expires_at), (Some(3), wanted.terms.expires_at), "{fault:?}");
    }
}

#[tokio::test]
async fn a_stopped_license_that_takes_no_date_gets_it_when_it_works_again() {
    for expiry_stopped in [ExpiryStopped::Unchanged, ExpiryStopped::Refused] {
        let engine = Engine::<Usual>::with(Settings { expiry_stopped, ..Settings::default() }).await;
        let provider = engine.patient();
        let wanted = request(&engine, &provider, 1).await;
        let held = provider.create(&wanted).await.unwrap();
        let target = target(&wanted, &held);
        change(&provider, &target, Change::Suspend).await;
        let later = Change::Terms(terms(Some("2027-02-04T00:00:00Z"), 4, &[]));
        // To be asked again, not left to a person: reinstating comes in between.
        assert_eq!(ended(&provider.change(&target, &later).await), Ended::Unavailable);
        assert!(!seen(&engine, &wanted.reference).await.unwrap().works);
        change(&provider, &target, Change::Reinstate).await;
        change(&provider, &target, later).await;
        let made = seen(&engine, &wanted.reference).await.unwrap();
        assert_eq!((made.works, made.expires_at), (true, Some(at("2027-02-04T00:00:00Z"))));
    }
}

#[tokio::test]
async fn never_is_shown_as_never_however_it_is_kept() {
    for expiry_null in [NullExpiry::Accepted, NullExpiry::Refused] {
        let engine = Engine::<Usual>::with(Settings { expiry_null, ..Settings::default() }).await;
        let provider = engine.patient();
        let wanted = request(&engine, &provider, 1).await;
        let held = provider.create(&wanted).await.unwrap();
        change(&provider, &target(&wanted, &held), Change::Terms(terms(None, 3, &[]))).await;
        let listed = provider.list(PRO, None).await.unwrap().licenses;
        assert_eq!(listed[0].expires_at, None);
        let before = engine.asked("change");
        change(&provider, &target(&wanted, &held), Change::Terms(terms(None, 3, &[]))).await;
        assert_eq!(engine.asked("change"), before);
    }
}

/// A license that a person or another integration made, with this metadata.
fn marked(engine: &Engine<Usual>, metadata: &Value) -> String {
    let body = json!({ "productId": PRO, "metadata": metadata });
    text(&engine.server.create_license(&body).unwrap()["id"])
}

#[tokio::test]
async fn licenses_of_both_versions_of_the_vendors_script_are_found_and_placeholders_never() {
    let engine = usual().await;
    let provider = engine.patient();
    let first = marked(&engine, &json!([entry("subscription_id", "sub_1")]));
    let second = marked(&engine, &json!([entry("stripe_subscription_id", "sub_1")]));
    let sold = marked(&engine, &json!([entry("stripe_transaction_id", "pi_1")]));
    marked(&engine, &json!([entry("stripe_subscription_id", "subscription_empty")]));
    marked(&engine, &json!([entry("stripe_transaction_id", "transaction_empty")]));
    marked(&engine, &json!([entry("subscription_id", "subscription_empty")]));
    let found = async |purchase: &str, payment: Option<&str>| {
        let payment = payment.map(ToOwned::to_owned);
        let sale = Sale { purchase: purchase.to_owned(), payment, ..Sale::default() };
        let found = provider.find_unclaimed(&sale, PRO).await.unwrap();
        found.into_iter().map(|held| held.provider_id).collect::<Vec<_>>()
    };
    let mut both = found("sub_1", None).await;
    both.sort();
    let mut expected = [first, second];
    expected.sort();
    assert_eq!(both, expected);
    assert_eq!(found("cs_1", Some("pi_1")).await, [sold]);
    for (purchase, payment) in [
        ("subscription_empty", None),
        ("transaction_empty", None),
        ("sub_2", None),
        ("cs_1", Some("transaction_empty")),
        ("", Some("")),
    ] {
        assert!(found(purchase, payment).await.is_empty(), "{purchase}");
    }
    let listed = provider.list(PRO, None).await.unwrap().licenses;
    assert_eq!(listed.iter().filter(|license| license.purchase.is_some()).count(), 3);
}

#[tokio::test]
async fn licenses_of_the_vendors_script_become_ours_with_their_user() {
    for name in ["stripe_subscription_id", "subscription_id"] {
        let engine = usual().await;
        let provider = engine.patient();
        // That script knows people by address alone.
        let user = engine.user("buyer1@example.com", &json!([]));
        let wanted = request(&engine, &provider, 1).await;
        assert_eq!(wanted.owner.as_ref(), Some(&user));
        let other = json!({ "key": "plan", "value": "gold", "viewPermissions": ["user"] });
        let body = json!({ "productId": PRO, "userId": user, "metadata": [other, entry(name, "sub_1")] });
        engine.server.create_license(&body).unwrap();
        let found = provider.find_unclaimed(&wanted.sale, PRO).await.unwrap();
        assert_eq!(found.len(), 1);
        provider.adopt(&adopting(&wanted, &found[0].provider_id)).await.unwrap();
        let ours = engine.only_license();
        assert_eq!(ours["metadata"][0]["viewPermissions"], json!(["user"]));
        assert_eq!((value(&ours, "plan"), value(&ours, name)), (Some("gold"), Some("sub_1")));
        assert_eq!(value(&ours, "keyledger_ref"), Some(wanted.reference.as_str()));
        assert_eq!(provider.find(&wanted.reference, PRO).await.unwrap().len(), 1);
        assert!(provider.find_unclaimed(&wanted.sale, PRO).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_may_not_be_adopted_says_why_and_stays_as_it_is() {
    let engine = usual().await;
    let provider = engine.patient();
    let wanted = request(&engine, &provider, 1).await;
    let full: Vec<Value> = (0..49).map(|number| entry(&format!("k{number}"), "v")).collect();
    let revoked = marked(&engine, &json!([]));
    engine.server.change_license(&revoked, &json!({ "revoked": true })).unwrap();
    for (named, why) in [
        (marked(&engine, &json!([entry("stripe_subscription_id", "sub_2")])), "sub_2"),
        (marked(&engine, &json!([entry("subscription_id", "sub_2")])), "sub_2"),
        (marked(&engine, &json!(full)), "50"),
        (revoked, "revoked"),
        ("A1B2C3-A1B2C3-A1B2C3-A1B2C3-A1B2C3-A1B2C3".to_owned(), "UUID"),
    ] {
        let before = engine.server.licenses();
        let error = provider.adopt(&adopting(&wanted, &named)).await.unwrap_err();
        let ProviderError::Refused { reason } = error else { panic!("{error:?}") };
        assert!(reason.contains(why), "{reason}");
        assert_eq!(engine.server.licenses(), before);
    }
    // What says nothing keeps nobody.
    let placeholder = marked(&engine, &json!([entry("stripe_subscription_id", "subscription_empty")]));
    engine.server.change_license(&placeholder, &json!({ "suspended": true })).unwrap();
    provider.adopt(&adopting(&wanted, &placeholder)).await.unwrap();
    let ours = seen(&engine, &wanted.reference).await.unwrap();
    assert_eq!((ours.id, ours.works, ours.owner), (placeholder, true, wanted.owner));
}

#[tokio::test]
async fn seats_without_limit_that_were_meant_stay_so_and_others_do_not() {
    let engine = usual().await;
    let provider = engine.patient();
    let wanted = request(&engine, &provider, 1).await;
    let named = engine.make_by_hand(&by_hand(PRO)).await;
    engine.server.change_license(&named, &json!({ "allowedActivations": -1 })).unwrap();
    let held = provider.adopt(&adopting(&wanted, &named)).await.unwrap();
    let later = Change::Terms(terms(Some("2027-02-04T00:00:00Z"), 3, &[]));
    change(&provider, &target(&wanted, &held), later.clone()).await;
    let adopted = seen(&engine, &wanted.reference).await.unwrap();
    assert_eq!((adopted.seats, adopted.expires_at), (None, Some(at("2027-02-04T00:00:00Z"))));
    let sold = request(&engine, &provider, 2).await;
    let held = provider.create(&sold).await.unwrap();
    engine.server.change_license(&held.provider_id, &json!({ "allowedActivations": 0 })).unwrap();
    change(&provider, &target(&sold, &held), later).await;
    assert_eq!(seen(&engine, &sold.reference).await.unwrap().seats, Some(3));
}

#[tokio::test]
async fn a_user_is_found_by_the_stripe_customer_first_and_by_address_only_if_nobodys() {
    for metadata_patch in [MetadataPatch::Replace, MetadataPatch::Merge] {
        let duplicate_email = Duplicate::Allowed;
        let settings = Settings { duplicate_email, metadata_patch, ..Settings::default() };
        let engine = Engine::<Usual>::with(settings).await;
        let provider = engine.patient();
        let seen = json!({ "key": "newsletter", "value": "yes", "viewPermissions": ["user"] });
        let nobodys = engine.user("Buyer1@Example.com", &json!([seen]));
        let anothers = engine.user("buyer1@example.com", &json!([entry("stripe_customer_id", "cus_9")]));
        let moved = engine.user("old@example.com", &json!([entry("stripe_customer_id", "cus_2")]));
        // By address, and then it is theirs, beside what it carried.
        assert_eq!(provider.customer(&person(1)).await.unwrap().id, nobodys);
        let users = engine.server.customers();
        assert_eq!(users[0]["metadata"][0]["viewPermissions"], json!(["user"]));
        assert_eq!(value(&users[0], "stripe_customer_id"), Some("cus_1"));
        // By the customer, whatever the address.
        assert_eq!(provider.customer(&person(2)).await.unwrap().id, moved);
        // Everybody at this address is somebody by now.
        let twin = Person { customer: "cus_3".to_owned(), ..person(1) };
        let two = provider.customer(&twin).await.unwrap();
        assert!(two.made && !two.shared && ![&nobodys, &anothers].contains(&&two.id));
        assert_eq!(provider.customer(&twin).await.unwrap().id, two.id);
    }
}

#[tokio::test]
async fn one_who_is_shared_is_said_to_be_and_keeps_their_name() {
    let engine = usual().await;
    let provider = engine.patient();
    let one = provider.customer(&person(1)).await.unwrap();
    let twin = Person { customer: "cus_2".to_owned(), name: Some("Somebody Else".to_owned()), ..person(1) };
    let two = provider.customer(&twin).await.unwrap();
    assert!(two.shared && !two.made && two.id == one.id);
    let known = provider.customer(&Person { known: Some(two.id.clone()), ..twin.clone() }).await.unwrap();
    assert!(known.shared);
    assert_eq!(ended(&provider.update_customer(&two.id, &twin).await), Ended::Refused);
    assert_eq!(engine.server.customers()[0]["name"], "Buyer 1");
}

#[tokio::test]
async fn an_address_whose_user_is_not_shown_yet_is_asked_about_again_and_not_for_ever() {
    for duplicate_email in [Duplicate::Refused400, Duplicate::Refused409] {
        let engine = Engine::<Usual>::with(Settings { duplicate_email, ..Settings::default() }).await;
        let provider = engine.patient();
        engine.lag(Duration::from_hours(1)).await;
        let one = provider.customer(&person(1)).await.unwrap();
        let twin = Person { customer: "cus_2".to_owned(), ..person(1) };
        assert_eq!(ended(&provider.customer(&twin).await), Ended::Indeterminate);
        let tried = provider.customer(&Person { failures: 3, ..twin.clone() }).await;
        let expected = if duplicate_email == Duplicate::Refused400 { Ended::Refused } else { Ended::Indeterminate };
        assert_eq!(ended(&tried), expected);
        engine.lag(Duration::ZERO).await;
        assert_eq!(provider.customer(&twin).await.unwrap().id, one.id);
    }
}

#[tokio::test]
async fn sales_without_a_customer_share_a_user_by_address_and_never_a_customers() {
    let engine = Engine::<Third>::start().await;
    let provider = engine.patient();
    let guest = |purchase: &str, number| Person { customer: purchase.to_owned(), ..person(number) };
    let first = provider.customer(&guest("cs_1", 1)).await.unwrap();
    let second = provider.customer(&guest("cs_2", 1)).await.unwrap();
    assert_eq!((&first.id, second.shared), (&second.id, false));
    let customer = provider.customer(&person(2)).await.unwrap();
    assert_ne!(provider.customer(&guest("cs_3", 2)).await.unwrap().id, customer.id);
}

#[tokio::test]
async fn a_user_who_was_deleted_is_made_again() {
    let engine = usual().await;
    let provider = engine.patient();
    let first = provider.customer(&person(1)).await.unwrap();
    engine.server.delete_customer(&first.id).unwrap();
    let again = provider.customer(&Person { known: Some(first.id.clone()), ..person(1) }).await.unwrap();
    assert!(again.made && again.id != first.id);
    assert_eq!(ended(&provider.update_customer(&first.id, &person(1)).await), Ended::Refused);
}

#[tokio::test]
async fn an_address_that_somebody_has_is_refused_to_another() {
    for duplicate_email in [Duplicate::Refused400, Duplicate::Refused409] {
        let engine = Engine::<Usual>::with(Settings { duplicate_email, ..Settings::default() }).await;
        let provider = engine.patient();
        provider.customer(&person(1)).await.unwrap();
        let two = provider.customer(&person(2)).await.unwrap();
        let moved = Person { email: person(1).email, ..person(2) };
        assert_eq!(ended(&provider.update_customer(&two.id, &moved).await), Ended::Refused);
    }
}

#[tokio::test]
async fn the_least_scopes_are_enough_and_each_is_needed() {
    let engine = usual().await;
    let provider = engine.patient();
    provider.prepare().await.unwrap();
    let wanted = request(&engine, &provider, 1).await;
    let held = provider.create(&wanted).await.unwrap();
    let all = engine.server.settings();
    for (scope, somebody) in all.scopes.iter().zip(3..) {
        let mut scopes = all.scopes.clone();
        scopes.remove(scope);
        engine.server.set(Settings { scopes, ..all.clone() });
        let results = [
            provider.customer(&person(somebody)).await.map(|_| ()),
            provider.change(&target(&wanted, &held), &Change::Suspend).await,
            provider.prepare().await,
        ];
        let lacks = |error: &ProviderError| match error {
            ProviderError::Unavailable { source, .. } => matches!(source, CallError::Credentials { status: 403 }),
            ProviderError::Refused { reason } => reason.contains("scopes"),
            ProviderError::Indeterminate { .. } => false,
        };
        assert!(results.iter().any(Result::is_err), "{scope}");
        assert!(results.iter().filter_map(|result| result.as_ref().err()).all(lacks), "{scope}: {results:?}");
    }
}

#[tokio::test]
async fn a_sweep_shows_every_user_and_whose_they_are() {
    let engine = usual().await;
    let provider = engine.patient();
    for number in 0..100 {
        engine.user(&format!("user{number}@example.com"), &json!([]));
    }
    let made = provider.customer(&person(1)).await.unwrap();
    let first = provider.customers(None).await.unwrap();
    let rest = provider.customers(first.next.as_deref()).await.unwrap();
    assert_eq!((first.customers.len(), rest.customers.len(), rest.next), (100, 1, None));
    assert!(first.customers.iter().all(|user| user.customer.is_none()));
    assert_eq!((&rest.customers[0].id, rest.customers[0].customer.as_deref()), (&made.id, Some("cus_1")));
    assert_eq!(ended(&provider.customers(Some("x")).await), Ended::Refused);
}

#[tokio::test]
async fn the_usual_limits_are_never_too_many_for_cryptlex() {
    let engine = usual().await;
    engine.server.set(Settings { requests_per_window: 50, ..engine.server.settings() });
    let usual = Options { base_url: format!("http://{}", engine.address), ..Options::default() };
    let provider = cryptlex(&usual);
    for _ in 0..56 {
        assert!(provider.find("kl-1", PRO).await.unwrap().is_empty());
    }
    assert_eq!(engine.server.turned_away(), 0);
}

#[tokio::test]
async fn one_that_is_ours_already_is_brought_to_its_terms_by_adopting() {
    let engine = usual().await;
    let provider = engine.patient();
    let wanted = request(&engine, &provider, 1).await;
    let held = provider.create(&wanted).await.unwrap();
    let more = Adopt { terms: terms(Some("2027-06-01T00:00:00Z"), 9, &[]), ..adopting(&wanted, &held.provider_id) };
    provider.adopt(&more).await.unwrap();
    let ours = seen(&engine, &wanted.reference).await.unwrap();
    assert_eq!((ours.seats, ours.expires_at), (Some(9), more.terms.expires_at));
}
