//! Keygen, over its stand-in; and what only Keygen does.

use std::sync::Arc;
use std::time::Duration;

use keyledger_issuer::provider::keygen::{Keygen, Options, Revoke};
use keyledger_issuer::provider::{Change, Create, Person, Provider, ProviderError, Target};
use keyledger_sandbox::faults::{Chance, Fault, Faults, Mix, Rule};
use keyledger_sandbox::keygen::settings::{
    ENTITLEMENT_CORE, ENTITLEMENT_EXPORT, ENTITLEMENT_SYNC, POLICY_BASIC, POLICY_FOREIGN, POLICY_PRO, POLICY_SINGLE,
};
use keyledger_sandbox::keygen::{License, Server, Settings};
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::secret::Secret;
use serde_json::{Map, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::contract::{
    Call, Ended, Hand, NOW, PATIENCE, Seen, SeenPerson, Subject, TOKEN, adopting, at, change, ended, ensure, http,
    limits, person, request, target, terms, well_and_then,
};

/// An account that is served: as Keygen is by default, or with every switch of the stand-in thrown the other way.
struct Served<const OTHERWISE: bool> {
    server: Server,
    base_url: String,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

fn settings() -> Settings {
    Settings {
        token: TOKEN.to_owned(),
        now: Some(at(NOW)),
        // What every call must say for itself.
        default_version: "1.5".to_owned(),
        ..Settings::default()
    }
}

type Account = Served<false>;

type Otherwise = Served<true>;

fn otherwise() -> Settings {
    Settings {
        // An administrator's token.
        token_product: None,
        default_version: "1.8".to_owned(),
        rate_limit_headers: false,
        races: true,
        ..settings()
    }
}

impl<const OTHERWISE: bool> Served<OTHERWISE> {
    async fn open(settings: Settings) -> Self {
        let mut account =
            Self { server: Server::new(settings), base_url: String::new(), stop: CancellationToken::new(), task: None };
        account.serve().await;
        account
    }

    async fn serve(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.base_url = format!("http://{}", listener.local_addr().unwrap());
        self.stop = CancellationToken::new();
        let (server, stop) = (self.server.clone(), self.stop.clone());
        self.task = Some(tokio::spawn(async move { server.serve(listener, stop).await.unwrap() }));
    }

    fn options(&self, timeout: Duration) -> Options {
        let limits = limits(timeout);
        Options {
            base_url: self.base_url.clone(),
            account: "sandbox".to_owned(),
            features: [("export", ENTITLEMENT_EXPORT), ("sync", ENTITLEMENT_SYNC)]
                .map(|(name, id)| (name.to_owned(), id.to_string()))
                .into(),
            timeout_ms: limits.timeout_ms,
            requests_per_second: limits.requests_per_second,
            requests_at_once: limits.requests_at_once,
            settle_ms: 600,
            ..Options::default()
        }
    }

    fn keygen(options: &Options) -> Arc<Keygen> {
        let token = Secret::new(TOKEN.to_owned());
        Arc::new(Keygen::new(ProviderName::from("keygen"), options, token, &http()).unwrap())
    }

    fn seen(&self, license: &License) -> Seen {
        let text = |key: &str| license.metadata.get(key)?.as_str().map(str::to_owned);
        let (seats, codes) = self.server.allowed(license.id).unwrap();
        let features = codes.into_iter().filter(|code| code != "CORE").map(|code| code.to_lowercase()).collect();
        Seen {
            id: license.id.to_string(),
            reference: text("keyledger_ref"),
            features,
            expires_at: license.expiry,
            seats: seats.map(|seats| u32::try_from(seats).unwrap()),
            works: !license.suspended,
            owner: license.owner.map(|owner| owner.to_string()),
            note: text("note"),
        }
    }
}

impl<const OTHERWISE: bool> Subject for Served<OTHERWISE> {
    const WIRE: bool = true;
    const ATOMIC: bool = true;
    const ADOPTS: bool = true;
    const SHARES_BY_ADDRESS: bool = true;
    const LISTS_CUSTOMERS: bool = true;
    const SETTING: &'static str = "provider.keygen";

    async fn start() -> Self {
        Self::open(if OTHERWISE { otherwise() } else { settings() }).await
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
        Self::keygen(&self.options(timeout))
    }

    fn product(&self) -> String {
        POLICY_PRO.to_string()
    }

    fn other_product(&self) -> String {
        POLICY_BASIC.to_string()
    }

    fn features(&self) -> [&'static str; 2] {
        ["export", "sync"]
    }

    async fn misbehave(&self, call: Call, fault: Fault) {
        let operation = match call {
            Call::Create => "create",
            Call::Find => "find",
            Call::Change => "update",
            Call::Customer => "create_user",
        };
        let rule = Rule { operation: operation.to_owned(), about: None, count: Some(1), fault };
        self.server.stage().misbehave(Faults { script: vec![rule], ..self.habits() }).unwrap();
    }

    async fn break_off_after(&self, calls: u32, fault: Fault) {
        let script = well_and_then(calls, fault);
        self.server.stage().misbehave(Faults { script, ..self.habits() }).unwrap();
    }

    async fn mix(&self, faults: &[(f64, Fault)]) {
        let chance = |(probability, fault): &(f64, Fault)| Chance {
            operation: "any".to_owned(),
            probability: *probability,
            fault: fault.clone(),
        };
        let mix = Mix { seed: 11, faults: faults.iter().map(chance).collect() };
        self.server.stage().misbehave(Faults { mix: Some(mix), ..Faults::default() }).unwrap();
    }

    async fn lag(&self, lag: Duration) {
        let search_lag_ms = u64::try_from(lag.as_millis()).unwrap();
        self.server.stage().misbehave(Faults { search_lag_ms, ..Faults::default() }).unwrap();
    }

    async fn expire_token(&self) {
        self.server.set(Settings { token_expired: true, ..self.server.settings() });
    }

    async fn calls(&self) -> u64 {
        self.server.stage().calls().values().flat_map(|endings| endings.values()).sum()
    }

    async fn held(&self) -> Vec<Seen> {
        self.server.licenses().iter().map(|license| self.seen(license)).collect()
    }

    async fn creates(&self, reference: &str) -> u64 {
        self.server.creates_by("keyledgerRef").get(reference).copied().unwrap_or_default()
    }

    async fn people(&self) -> Vec<SeenPerson> {
        let name = |parts: [Option<String>; 2]| parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let people = self.server.customers().into_iter().map(|user| SeenPerson {
            id: user.id.to_string(),
            name: name([user.first_name, user.last_name]),
            email: user.email,
        });
        people.collect()
    }

    async fn make_by_hand(&self, hand: &Hand) -> String {
        let mut metadata = Map::new();
        for (key, value) in [
            ("keyledgerRef", &hand.reference),
            ("keyledgerReference", &hand.elsewhere),
            ("stripe_subscription_id", &hand.subscription),
            ("note", &hand.note),
        ] {
            if let Some(value) = value {
                metadata.insert(key.to_owned(), json!(value));
            }
        }
        let id = self.server.make_license(hand.product.parse().unwrap(), &metadata.into());
        self.server.edit_license(id, |license| {
            license.owner = hand.owner.as_ref().map(|owner| owner.parse().unwrap());
            license.suspended = hand.stopped;
            if let Some(seats) = hand.seats {
                license.limits.insert("max_machines".to_owned(), seats.into());
            }
        });
        id.to_string()
    }
}

impl<const OTHERWISE: bool> Served<OTHERWISE> {
    /// What stays while a script is played.
    fn habits(&self) -> Faults {
        let search_lag_ms = u64::try_from(self.server.stage().search_lag().as_millis()).unwrap();
        Faults { search_lag_ms, ..Faults::default() }
    }
}

crate::every_case!(Account);

mod otherwise {
    crate::every_case!(super::Otherwise);
}

/// A create for another policy.
async fn of_policy(account: &Account, provider: &dyn Provider, policy: Uuid) -> Create {
    Create { product: policy.to_string(), ..request(account, provider, 1).await }
}

#[tokio::test]
async fn a_license_has_the_id_that_we_chose_and_says_what_it_is_for() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let request = request(&account, &*provider, 1).await;
    let held = provider.create(&request).await.unwrap();
    assert_eq!(held.provider_id, request.license.to_string());
    let metadata = account.server.license(request.license.0).unwrap().metadata;
    let expected = json!({ "keyledger_ref": request.reference, "stripe_subscription_id": "sub_1",
        "stripe_customer_id": "cus_1" });
    assert_eq!(serde_json::Value::Object(metadata), expected);
}

#[tokio::test]
async fn two_creates_that_race_end_in_one_license() {
    let account = Account::open(Settings { races: true, ..settings() }).await;
    let provider = account.provider(PATIENCE);
    let request = request(&account, &*provider, 1).await;
    let (one, two) = (provider.create(&request).await.unwrap(), provider.create(&request).await.unwrap());
    assert_eq!(one.provider_id, two.provider_id);
    assert_eq!(account.server.licenses().len(), 1);
}

#[tokio::test]
async fn an_id_that_is_taken_out_of_sight_is_refused() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let request = request(&account, &*provider, 1).await;
    account.server.set(Settings { ids_elsewhere: [request.license.0].into(), ..settings() });
    assert_eq!(ended(&provider.create(&request).await), Ended::Refused);
    assert_eq!(account.server.licenses().len(), 0);
}

#[tokio::test]
async fn our_license_is_known_by_its_id_when_somebody_cleared_its_metadata() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let request = request(&account, &*provider, 1).await;
    let held = provider.create(&request).await.unwrap();
    account.server.edit_license(request.license.0, |license| license.metadata.clear());
    let found = provider.find(&request.reference, &request.product).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].provider_id, held.provider_id);
    account.server.edit_license(request.license.0, |license| {
        license.metadata.insert("keyledger_ref".to_owned(), json!("kl-other"));
    });
    assert!(provider.find(&request.reference, &request.product).await.unwrap().is_empty());
    assert_eq!(ended(&provider.create(&request).await), Ended::Refused);
}

#[tokio::test]
async fn a_perpetual_license_of_a_policy_with_a_duration_has_no_end_all_the_same() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let mut request = of_policy(&account, &*provider, POLICY_BASIC).await;
    request.terms = terms(None, 2, &[]);
    provider.create(&request).await.unwrap();
    let license = account.server.license(request.license.0).unwrap();
    assert_eq!((license.expiry, license.renewed_s), (None, 0));
    assert_eq!(account.server.allowed(license.id).unwrap().0, Some(2));
}

#[tokio::test]
async fn a_license_that_was_made_but_not_finished_is_finished_when_found() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let request = request(&account, &*provider, 1).await;
    let rule = |operation: &str, fault| Rule { operation: operation.to_owned(), about: None, count: Some(1), fault };
    for fault in [Fault::Drop, Fault::Fail { status: 422, retry_after_s: None }, Fault::CommitThenDrop] {
        let script = vec![rule("attach", fault.clone())];
        account.server.stage().misbehave(Faults { script, ..Faults::default() }).unwrap();
        assert_eq!(ended(&provider.create(&request).await), Ended::Indeterminate, "{fault:?}");
        ensure(&*provider, &request).await;
        assert_eq!(account.held().await[0].features, request.terms.features);
        account.server.delete_license(request.license.0);
    }
}

#[tokio::test]
async fn what_the_policy_gives_and_what_others_attached_stays() {
    let account = Account::start().await;
    let mut options = account.options(PATIENCE);
    options.features.insert("core".to_owned(), ENTITLEMENT_CORE.to_string());
    let provider = Account::keygen(&options);
    let request = of_policy(&account, &*provider, POLICY_BASIC).await;
    let held = provider.create(&request).await.unwrap();
    change(&*provider, &target(&request, &held), Change::Terms(terms(None, 1, &[]))).await;
    let codes = |id: Uuid| account.server.allowed(id).unwrap().1;
    assert_eq!(codes(request.license.0), ["CORE"]);

    options.features.remove("export");
    let without_export = Account::keygen(&options);
    account.server.edit_license(request.license.0, |license| _ = license.entitlements.insert(ENTITLEMENT_EXPORT));
    let sync = Change::Terms(terms(None, 1, &["sync"]));
    change(&*without_export, &target(&request, &held), sync).await;
    assert_eq!(codes(request.license.0), ["EXPORT", "SYNC", "CORE"]);
}

#[tokio::test]
async fn seats_that_the_policy_cannot_have_are_refused() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let mut request = of_policy(&account, &*provider, POLICY_SINGLE).await;
    request.terms = terms(None, 2, &[]);
    let Err(ProviderError::Refused { reason }) = provider.create(&request).await else { panic!("it was not refused") };
    assert!(reason.contains("MAX_MACHINES_INVALID"), "{reason}");
    request.terms.seats = 1;
    provider.create(&request).await.unwrap();
}

#[tokio::test]
async fn a_policy_of_another_product_is_refused() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let request = of_policy(&account, &*provider, POLICY_FOREIGN).await;
    let Err(ProviderError::Refused { reason }) = provider.create(&request).await else { panic!("it was not refused") };
    assert!(reason.contains("not of the token's product"), "{reason}");
}

#[tokio::test]
async fn revoking_destroys_only_where_the_settings_say_so() {
    let account = Account::start().await;
    let destroying = Account::keygen(&Options { revoke: Revoke::Destroy, ..account.options(PATIENCE) });
    assert!(!destroying.capabilities().reinstates_revoked);
    let request = request(&account, &*destroying, 1).await;
    let held = destroying.create(&request).await.unwrap();
    let suspending = account.provider(PATIENCE);
    change(&*suspending, &target(&request, &held), Change::Revoke).await;
    assert!(account.server.license(request.license.0).unwrap().suspended);
    for _ in 0..2 {
        change(&*destroying, &target(&request, &held), Change::Revoke).await;
        assert!(account.server.licenses().is_empty());
    }
}

#[tokio::test]
async fn the_permissions_that_the_documentation_names_are_enough() {
    let permissions = [
        "license.create",
        "license.read",
        "license.update",
        "license.owner.update",
        "license.entitlements.attach",
        "license.entitlements.detach",
        "entitlement.read",
        "user.create",
        "user.read",
        "user.update",
    ];
    let permissions = Some(permissions.map(str::to_owned).into());
    let account = Account::open(Settings { permissions, ..settings() }).await;
    let provider = account.provider(PATIENCE);
    provider.prepare().await.unwrap();
    let wanted = request(&account, &*provider, 1).await;
    let held = ensure(&*provider, &wanted).await;
    for wanted_change in [Change::Terms(terms(None, 5, &["sync"])), Change::Suspend, Change::Reinstate, Change::Revoke]
    {
        change(&*provider, &target(&wanted, &held), wanted_change).await;
    }
    let more = request(&account, &*provider, 2).await;
    let named = account.make_by_hand(&Hand { product: more.product.clone(), ..Hand::default() }).await;
    provider.adopt(&adopting(&more, &named)).await.unwrap();
    provider.update_customer(wanted.owner.as_ref().unwrap(), &person(3)).await.unwrap();
    provider.list(&wanted.product, None).await.unwrap();
    let calls = account.server.stage().calls();
    assert!(calls.values().all(|endings| !endings.contains_key("403")), "{calls:?}");
}

#[tokio::test]
async fn features_that_are_mapped_to_nothing_are_seen_before_any_sale() {
    let account = Account::start().await;
    account.provider(PATIENCE).prepare().await.unwrap();
    for id in ["export", "00000000-0000-4000-8000-000000000000"] {
        let mut options = account.options(PATIENCE);
        options.features.insert("extra".to_owned(), id.to_owned());
        let error = Account::keygen(&options).prepare().await.unwrap_err();
        let ProviderError::Refused { reason } = error else { panic!("{error:?}") };
        assert!(reason.contains("extra"), "{reason}");
    }
    let elsewhere = Options { account: "other".to_owned(), ..account.options(PATIENCE) };
    assert_eq!(ended(&Account::keygen(&elsewhere).prepare().await), Ended::Refused);
}

#[tokio::test]
async fn one_installation_of_one_account_needs_none_in_its_path() {
    let account = Account::open(Settings { single_account: true, ..settings() }).await;
    let provider = Account::keygen(&Options { account: String::new(), ..account.options(PATIENCE) });
    provider.prepare().await.unwrap();
    let request = request(&account, &*provider, 1).await;
    ensure(&*provider, &request).await;
}

#[tokio::test]
async fn a_user_that_others_made_is_found_by_the_address_and_keeps_what_it_carries() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let id = account.server.make_user("buyer1@example.com", &json!({ "crm": 7 }));
    let found = provider.customer(&person(1)).await.unwrap();
    assert_eq!((found.id, found.made, found.shared), (id.to_string(), false, false));
    let metadata = account.server.customers()[0].metadata.clone();
    assert_eq!(serde_json::Value::Object(metadata), json!({ "crm": 7, "stripe_customer_id": "cus_1" }));
    // From now on they are found although Stripe has another address.
    let moved = Person { email: Some("new@example.com".to_owned()), ..person(1) };
    assert_eq!(provider.customer(&moved).await.unwrap().id, id.to_string());
}

#[tokio::test]
async fn an_address_of_the_sellers_own_people_is_refused_with_the_reason() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    account.server.make_admin("buyer1@example.com");
    let Err(ProviderError::Refused { reason }) = provider.customer(&person(1)).await else { panic!("it was taken") };
    assert!(reason.contains("own people") && !reason.contains("buyer1"), "{reason}");
}

#[tokio::test]
async fn a_plan_that_covers_no_more_users_is_refused() {
    let account = Account::open(Settings { users_max: Some(0), ..settings() }).await;
    let Err(ProviderError::Refused { reason }) = account.provider(PATIENCE).customer(&person(1)).await else {
        panic!("it was made")
    };
    assert!(reason.contains("ACCOUNT_ALU_LIMIT_EXCEEDED"), "{reason}");
}

#[tokio::test]
async fn a_user_that_two_customers_share_keeps_the_firsts_name() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let one = provider.customer(&person(1)).await.unwrap();
    let twin = Person { customer: "cus_2".to_owned(), name: Some("Somebody Else".to_owned()), ..person(1) };
    provider.update_customer(&one.id, &twin).await.unwrap();
    assert_eq!(account.people().await[0].name, "Buyer 1");
}

#[tokio::test]
async fn an_adopted_license_keeps_what_is_not_set() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let wanted = request(&account, &*provider, 1).await;
    let id = account.server.make_license(POLICY_PRO, &json!({ "order": { "line": 1 } }));
    account.server.edit_license(id, |license| {
        license.name = Some("By hand".to_owned());
        license.limits.insert("max_users".to_owned(), 9);
        license.limits.insert("max_machines".to_owned(), 1);
    });
    provider.adopt(&adopting(&wanted, &id.to_string())).await.unwrap();
    let license = account.server.license(id).unwrap();
    assert_eq!((license.name.as_deref(), license.limits["max_users"]), (Some("By hand"), 9));
    assert_eq!(license.metadata["order"], json!({ "line": 1 }));
    assert_eq!(license.metadata["stripe_subscription_id"], json!("sub_1"));
    let of_another_sale = account.server.make_license(POLICY_PRO, &json!({ "stripeSubscriptionId": "sub_9" }));
    let adopt = adopting(&request(&account, &*provider, 2).await, &of_another_sale.to_string());
    assert_eq!(ended(&provider.adopt(&adopt).await), Ended::Refused);
}

#[tokio::test]
async fn a_key_is_no_name_and_is_neither_sent_nor_repeated() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let wanted = request(&account, &*provider, 1).await;
    let id = account.server.make_license(POLICY_PRO, &json!({}));
    let key = account.server.license(id).unwrap().key;
    let calls = account.calls().await;
    let adopted = provider.adopt(&adopting(&wanted, &key)).await.map(drop);
    let named = Target {
        license: wanted.license,
        reference: wanted.reference.clone(),
        provider_id: key.clone(),
        product: wanted.product.clone(),
    };
    for result in [adopted, provider.change(&named, &Change::Suspend).await] {
        let Err(ProviderError::Refused { reason }) = result else { panic!("{result:?}") };
        assert!(reason.contains("UUID") && !reason.contains(&key), "{reason}");
    }
    assert_eq!(account.calls().await, calls);
}

#[tokio::test]
async fn no_call_is_a_relative_renewal_or_destroys() {
    let account = Account::start().await;
    let provider = account.provider(PATIENCE);
    let request = request(&account, &*provider, 1).await;
    let held = ensure(&*provider, &request).await;
    for wanted in [Change::Terms(terms(None, 2, &[])), Change::Suspend, Change::Reinstate, Change::Revoke] {
        change(&*provider, &target(&request, &held), wanted).await;
    }
    let calls = account.server.stage().calls();
    for never in ["renew", "suspend", "reinstate", "revoke", "delete"] {
        assert!(!calls.contains_key(never), "{never}");
    }
}
