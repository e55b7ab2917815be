//! Cryptolens, whichever way it does what nobody could verify.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyledger_issuer::provider::cryptolens::{Cryptolens, Options};
use keyledger_issuer::provider::{Adopt, CallError, Change, Create, Person, Provider, ProviderError, Sale, Target};
use keyledger_sandbox::cryptolens::{
    ByHand, Duplicates, EmptyFields, Errors, License, Links, Matching, Product, Server, Settings, TimeOfDay,
};
use keyledger_sandbox::faults::{Chance, Fault, Faults, Mix, Rule};
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::secret::Secret;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::contract::{
    Call, Ended, Hand, NOW, PATIENCE, Seen, SeenPerson, Subject, TOKEN, adopting, assert_expiry, at, change, ended,
    ensure, http, limits, person, request, seen, target, terms, well_and_then,
};

const PRO: u64 = 3349;
const BASIC: u64 = 3350;
const OLD: u64 = 3400;

/// One way in which Cryptolens may turn out.
trait Variation {
    fn settings() -> Settings;
}

struct Usual;

impl Variation for Usual {
    fn settings() -> Settings {
        Settings::default()
    }
}

/// Everything that has two ways goes the other one.
struct Otherwise;

impl Variation for Otherwise {
    fn settings() -> Settings {
        Settings {
            // In the middle of a day, which begins at the midnight before.
            now: Some(at(NOW) + SignedDuration::from_hours(17)),
            errors: Errors::Fitting,
            time_of_day: TimeOfDay::Midnight,
            empty_customer_fields: EmptyFields::Refused,
            duplicates: Duplicates::Error,
            data_object_name_chars_max: 10,
            links: Links::Replaced,
            search: Matching::Exact,
            customer_notes_shown: true,
            unknown_fields: true,
            ..Settings::default()
        }
    }
}

/// The token may not touch data objects.
struct Locked;

impl Variation for Locked {
    fn settings() -> Settings {
        Settings { key_lock: 0, ..Settings::default() }
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

impl<V: Variation> Engine<V> {
    async fn with(settings: Settings) -> Self {
        let now = settings.now.unwrap_or_else(|| at(NOW));
        let mut engine = Self {
            server: Server::new(Settings { token: TOKEN.to_owned(), now: Some(now), ..settings }),
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
            unknown_wait_ms: 0,
            ..Options::default()
        }
    }

    fn cryptolens(&self, options: &Options) -> Cryptolens {
        let now = self.server.settings().now.unwrap();
        let made = Cryptolens::new(ProviderName::from("cryptolens"), options, Secret::new(TOKEN), &http()).unwrap();
        made.on_clock(Arc::new(ManualClock::at(now)))
    }

    fn patient(&self) -> Cryptolens {
        self.cryptolens(&self.options(PATIENCE))
    }

    fn advance(&self, days: i64) {
        let now = self.server.settings().now.unwrap() + SignedDuration::from_hours(24 * days);
        self.server.set(Settings { now: Some(now), ..self.server.settings() });
    }

    async fn apply(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.faults.lock().await;
        change(&mut faults);
        self.server.stage().misbehave(faults.clone()).unwrap();
        // Used up or not, the next script is another.
        faults.script.clear();
    }

    async fn once(&self, operation: &str, fault: Fault) {
        let rule = Rule { operation: operation.to_owned(), about: None, count: Some(1), fault };
        self.apply(|faults| faults.script = vec![rule]).await;
    }

    fn only_license(&self) -> License {
        let mut all = self.server.licenses();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// How often a method was called, however it ended.
    fn asked(&self, method: &str) -> u64 {
        self.server.stage().calls().get(method).map_or(0, |endings| endings.values().sum())
    }

    fn by_hand(&self, notes: &str, customer_id: Option<u64>) -> License {
        let made = ByHand { product_id: PRO, period: 10, notes: notes.to_owned(), customer_id, ..ByHand::default() };
        self.server.make_by_hand(made).unwrap()
    }
}

/// The reference in the notes, or in the data object.
fn reference(license: &License) -> Option<String> {
    let mut marks = license.notes.split("; ").filter_map(|part| part.strip_prefix("ref:"));
    let noted = marks.next().map(|rest| rest.trim_end_matches(';').to_owned());
    let second = license.data_objects.iter().find(|object| object.name == "kl_ref");
    noted.or_else(|| second.map(|object| object.string_value.clone()))
}

fn shown(license: &License, now: Timestamp) -> Seen {
    let features = (1..).zip(license.features).filter(|(_, on)| *on);
    let never = now + SignedDuration::from_hours(24 * 365 * 40);
    Seen {
        id: license.id.to_string(),
        reference: reference(license),
        features: features.map(|(number, _)| format!("f{number}")).collect(),
        expires_at: Some(license.expires).filter(|expires| *expires < never),
        seats: Some(license.max_no_of_machines).filter(|seats| *seats > 0),
        works: !license.block,
        owner: license.customer_id.map(|id| id.to_string()),
        note: license.notes.split_once("note: ").map(|(_, note)| note.to_owned()),
    }
}

impl<V: Variation + Send + Sync + 'static> Subject for Engine<V> {
    const WIRE: bool = true;
    const ATOMIC: bool = false;
    const ADOPTS: bool = true;
    const LATE_MAX: SignedDuration = SignedDuration::from_hours(48);
    const NEEDS_ADDRESS: bool = false;
    const LISTS_CUSTOMERS: bool = true;
    const REFUSALS: &'static [u16] = &[403, 404];
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
        Arc::new(self.cryptolens(&self.options(timeout)))
    }

    fn product(&self) -> String {
        PRO.to_string()
    }

    fn other_product(&self) -> String {
        BASIC.to_string()
    }

    fn features(&self) -> [&'static str; 2] {
        ["f1", "f5"]
    }

    async fn misbehave(&self, call: Call, fault: Fault) {
        let method = match call {
            Call::Create => "CreateKey",
            Call::Find => "GetKeys",
            Call::Change => "ExtendLicense",
            Call::Customer => "AddCustomer",
        };
        self.once(method, fault).await;
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
        let now = self.server.settings().now.unwrap();
        self.server.licenses().iter().map(|license| shown(license, now)).collect()
    }

    async fn creates(&self, reference: &str) -> u64 {
        u64::try_from(self.server.creates_with(&format!("ref:{reference};"))).unwrap()
    }

    async fn people(&self) -> Vec<SeenPerson> {
        let customers = self.server.customers().into_iter();
        customers.map(|it| SeenPerson { id: it.id.to_string(), name: it.name, email: it.email }).collect()
    }

    async fn make_by_hand(&self, hand: &Hand) -> String {
        let marks = [
            hand.reference.as_ref().map(|reference| format!("ref:{reference};")),
            hand.elsewhere.as_ref().map(|elsewhere| format!("xref:{elsewhere};")),
            hand.note.as_ref().map(|note| format!("note: {note}")),
        ];
        let notes: Vec<String> = marks.into_iter().flatten().collect();
        let product_id = hand.product.parse().unwrap();
        let made = ByHand {
            product_id,
            period: 10,
            features: [false; 8],
            notes: notes.join(" "),
            customer_id: hand.owner.as_ref().map(|owner| owner.parse().unwrap()),
            max_no_of_machines: hand.seats.unwrap_or_default(),
        };
        let license = self.server.make_by_hand(made).unwrap();
        if let Some(subscription) = &hand.subscription {
            let name = "cryptolens_stripesubscriptionitemid";
            self.server.add_data_object_by_hand(product_id, license.id, name, subscription);
        }
        self.server.edit_by_hand(product_id, license.id, |license| license.block = hand.stopped);
        license.id.to_string()
    }
}

mod usual {
    crate::every_case!(super::Engine<super::Usual>);
}

mod otherwise {
    crate::every_case!(super::Engine<super::Otherwise>);
}

mod locked {
    crate::every_case!(super::Engine<super::Locked>);
}

async fn usual() -> Engine<Usual> {
    Engine::start().await
}

#[tokio::test]
async fn a_license_carries_what_it_was_sold_for() {
    let engine = usual().await;
    let provider = engine.patient();
    let mut wanted = request(&engine, &provider, 1).await;
    for (name, value) in
        [("Period", "12"), ("Notes", "Pro plan; by web"), ("AllowedMachines", "m1"), ("block", "False")]
    {
        wanted.options.insert(name.to_owned(), value.to_owned());
    }
    let held = provider.create(&wanted).await.unwrap();
    let made = engine.only_license();
    let reference = &wanted.reference;
    let notes = format!("ref:{reference}; stripe_subscription_id:sub_1; stripe_customer_id:cus_1; Pro plan; by web");
    assert_eq!((&made.notes, made.allowed_machines.as_str()), (&notes, "m1"));
    assert_eq!((held.provider_id.as_str(), held.also["globalId"].as_str()), ("1", "4"));
    assert_eq!(made.data_objects[0].string_value, *reference);
    // A day that has begun counts as none.
    assert_eq!((made.period, made.extensions), (34, 0));

    let sale = Sale { purchase: "cs_1".to_owned(), item: "1".to_owned(), payment: Some("pi_1".to_owned()) };
    let one_off = Create { sale, terms: terms(None, 1, &[]), ..request(&engine, &provider, 2).await };
    provider.create(&one_off).await.unwrap();
    assert!(engine.server.licenses()[1].notes.contains(" stripe_transaction_id:pi_1;"));
    assert_eq!(engine.server.licenses()[1].period, 36_500);
}

#[tokio::test]
async fn parameters_that_contradict_what_was_paid_make_no_license() {
    let engine = usual().await;
    let provider = engine.patient();
    for (name, value) in [
        ("NoOfKeys", "2"),
        ("CustomerId", "1"),
        ("NewCustomer", "true"),
        ("AddOrUseExistingCustomer", "true"),
        ("Email", "a@b"),
        ("TrialActivation", "true"),
        ("Block", "True"),
        ("Preiod", "3"),
        ("token", "x"),
    ] {
        let mut wanted = request(&engine, &provider, 1).await;
        wanted.options.insert(name.to_owned(), value.to_owned());
        let error = provider.create(&wanted).await.unwrap_err();
        let ProviderError::Refused { reason } = error else { panic!("{name}: {error:?}") };
        assert!(reason.contains(&format!("`{name}`")), "{reason}");
    }
    assert!(engine.server.licenses().is_empty());
    // No limit of machines was meant so, and stays so.
    let mut wanted = request(&engine, &provider, 1).await;
    wanted.options.insert("MaxNoOfMachines".to_owned(), "0".to_owned());
    let held = provider.create(&wanted).await.unwrap();
    change(&provider, &target(&wanted, &held), Change::Terms(terms(None, 7, &[]))).await;
    assert_eq!(engine.only_license().max_no_of_machines, 0);
}

#[tokio::test]
async fn keys_that_change_with_every_extension_are_not_sold() {
    let engine = usual().await;
    let provider = engine.patient();
    provider.prepare().await.unwrap();
    let wanted = Create { product: OLD.to_string(), ..request(&engine, &provider, 1).await };
    let error = provider.create(&wanted).await.unwrap_err();
    assert!(error.to_string().contains("SKM15"), "{error}");
    let made = ByHand { product_id: OLD, period: 10, ..ByHand::default() };
    engine.server.make_by_hand(made).unwrap();
    assert_eq!(ended(&provider.adopt(&adopting(&wanted, "1")).await), Ended::Refused);
    assert_eq!(engine.only_license().notes, "");
}

#[tokio::test]
async fn what_is_as_it_should_be_is_only_read() {
    let engine = usual().await;
    let provider = engine.patient();
    let wanted = request(&engine, &provider, 1).await;
    let held = provider.create(&wanted).await.unwrap();
    let before = engine.calls().await;
    for _ in 0..3 {
        change(&provider, &target(&wanted, &held), Change::Terms(wanted.terms.clone())).await;
    }
    assert_eq!((engine.calls().await - before, engine.asked("GetKeys")), (3, 0));
    assert_eq!(engine.only_license().extensions, 0);
}

#[tokio::test]
async fn days_that_may_still_arrive_are_waited_for() {
    let engine = usual().await;
    let patient = engine.patient();
    let wanted = request(&engine, &patient, 1).await;
    let held = patient.create(&wanted).await.unwrap();
    let timeout = Duration::from_millis(300);
    let options = Options { unknown_wait_ms: 1_500, ..engine.options(timeout) };
    let hurried = engine.cryptolens(&options);
    engine.once("ExtendLicense", Fault::Slow { delay_ms: 900 }).await;
    let later = "2027-02-04T00:00:00Z";
    let wanted_change = Change::Terms(terms(Some(later), 3, &["f1"]));
    let target = target(&wanted, &held);
    assert_eq!(ended(&hurried.change(&target, &wanted_change).await), Ended::Indeterminate);
    let error = hurried.change(&target, &wanted_change).await.unwrap_err();
    let ProviderError::Unavailable { retry_after: Some(wait), .. } = error else { panic!("{error:?}") };
    tokio::time::sleep(wait).await;
    change(&hurried, &target, wanted_change.clone()).await;
    assert_eq!(engine.only_license().extensions, 1);
    // Whoever asks may lose patience before the request does.
    let wanted_change = Change::Terms(terms(Some("2027-03-04T00:00:00Z"), 3, &["f1"]));
    engine.once("ExtendLicense", Fault::Slow { delay_ms: 600 }).await;
    let other = engine.cryptolens(&Options { unknown_wait_ms: 1_500, ..engine.options(PATIENCE) });
    let asked = tokio::time::timeout(Duration::from_millis(200), other.change(&target, &wanted_change)).await;
    assert!(asked.is_err());
    assert_eq!(ended(&other.change(&target, &wanted_change).await), Ended::Unavailable);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    change(&other, &target, wanted_change).await;
    assert_eq!(engine.only_license().extensions, 2);
    let later = "2027-03-04T00:00:00Z";
    assert_expiry::<Engine<Usual>>(&seen(&engine, &wanted.reference).await.unwrap(), Some(later));
}

#[tokio::test]
async fn a_renewal_is_exact_at_every_time_of_day_and_after_a_lapse() {
    for time_of_day in [TimeOfDay::Kept, TimeOfDay::Midnight] {
        for hours in [0, 1, 13, 23] {
            let now = at(NOW) + SignedDuration::from_hours(hours) + SignedDuration::from_mins(59);
            let settings = Settings { time_of_day, now: Some(now), ..Settings::default() };
            let engine = Engine::<Usual>::with(settings).await;
            let provider = engine.patient();
            let wanted = request(&engine, &provider, 1).await;
            let held = provider.create(&wanted).await.unwrap();
            let check = |until: Timestamp| {
                let expires = engine.only_license().expires;
                let late = expires.duration_since(until);
                assert!(!late.is_negative() && late <= SignedDuration::from_hours(48), "{expires} for {until}");
            };
            check(wanted.terms.expires_at.unwrap());
            let mut until = wanted.terms.expires_at.unwrap();
            for days in [30, 31, 28, 200] {
                until += SignedDuration::from_hours(24 * days);
                let renewed = terms(Some(&until.to_string()), 3, &["f1"]);
                change(&provider, &target(&wanted, &held), Change::Terms(renewed)).await;
                check(until);
            }
            engine.advance(900);
            let provider = engine.patient();
            until = engine.server.settings().now.unwrap() + SignedDuration::from_hours(24 * 30);
            let renewed = terms(Some(&until.to_string()), 3, &["f1"]);
            change(&provider, &target(&wanted, &held), Change::Terms(renewed)).await;
            check(until);
        }
    }
}

#[tokio::test]
async fn a_license_whose_notes_were_edited_is_found_by_its_data_object() {
    let engine = usual().await;
    let provider = engine.patient();
    let wanted = request(&engine, &provider, 1).await;
    let held = provider.create(&wanted).await.unwrap();
    engine.server.edit_by_hand(PRO, 1, |license| "VIP customer".clone_into(&mut license.notes));
    let found = provider.find(&wanted.reference, &wanted.product).await.unwrap();
    assert_eq!((found.len(), &found[0].provider_id), (1, &held.provider_id));
    assert_eq!(ensure(&provider, &wanted).await.provider_id, held.provider_id);
    assert_eq!(engine.server.licenses().len(), 1);
}

#[tokio::test]
async fn numbers_of_products_and_of_the_account_are_not_confused() {
    let engine = usual().await;
    let provider = engine.patient();
    for product_id in [PRO, BASIC, PRO, PRO, PRO, BASIC] {
        engine.server.make_by_hand(ByHand { product_id, period: 10, ..ByHand::default() }).unwrap();
    }
    // In the account, 6 is license 2 of the product; in the product, there is a 4, which is 8 in the account.
    let wanted = request(&engine, &provider, 1).await;
    let held = provider.adopt(&adopting(&wanted, "globalId=6")).await.unwrap();
    assert_eq!((held.provider_id.as_str(), held.also["globalId"].as_str()), ("2", "6"));
    let other = request(&engine, &provider, 2).await;
    for wrong in ["globalId=5", "globalId=1", "Id=5", "globalId=", "key=4"] {
        assert_eq!(ended(&provider.adopt(&adopting(&other, wrong)).await), Ended::Refused, "{wrong}");
    }
    assert_eq!(provider.adopt(&adopting(&other, "Id=4")).await.unwrap().also["globalId"], "8");
    let by_global = Target { provider_id: "globalId=8".to_owned(), ..target(&other, &held) };
    change(&engine.patient(), &by_global, Change::Suspend).await;
    let blocked: Vec<u64> = engine.server.licenses().iter().filter(|it| it.block).map(|it| it.global_id).collect();
    assert_eq!(blocked, [8]);
}

#[tokio::test]
async fn a_license_that_a_search_cannot_see_yet_is_waited_for() {
    let engine = usual().await;
    let wanted = request(&engine, &engine.patient(), 1).await;
    engine.lag(Duration::from_millis(400)).await;
    let held = engine.patient().create(&wanted).await.unwrap();
    let target = target(&wanted, &held);
    // Another process, which does not remember the key.
    let other = engine.patient();
    assert_eq!(ended(&other.change(&target, &Change::Suspend).await), Ended::Unavailable);
    tokio::time::sleep(Duration::from_millis(450)).await;
    change(&other, &target, Change::Suspend).await;
    assert!(engine.only_license().block);
    engine.server.delete_by_hand(PRO, 1);
    engine.by_hand("", None);
    tokio::time::sleep(Duration::from_millis(450)).await;
    assert_eq!(ended(&other.change(&target, &Change::Suspend).await), Ended::Refused);
}

#[tokio::test]
async fn an_adopted_license_keeps_its_customer_and_what_is_noted() {
    let engine = usual().await;
    let provider = engine.patient();
    let wanted = request(&engine, &provider, 1).await;
    let owner: u64 = wanted.owner.as_ref().unwrap().parse().unwrap();
    // Long notes stay as they are: the data object alone holds the reference.
    let long = "x".repeat(480);
    engine.by_hand(&long, Some(owner));
    engine.server.edit_by_hand(PRO, 1, |license| license.block = true);
    let changes = engine.asked("ChangeCustomer");
    provider.adopt(&adopting(&wanted, "Id=1")).await.unwrap();
    let license = engine.only_license();
    assert_eq!((&license.notes, license.customer_id, license.block), (&long, Some(owner), false));
    assert_eq!(engine.asked("ChangeCustomer"), changes);
    let found = provider.find(&wanted.reference, &wanted.product).await.unwrap();
    assert_eq!(found.len(), 1);
    let again = Adopt { reference: "kl-00".to_owned(), ..adopting(&wanted, "1") };
    assert_eq!(ended(&provider.adopt(&again).await), Ended::Refused);
}

#[tokio::test]
async fn an_unknown_customer_is_never_sent() {
    let engine = usual().await;
    let provider = engine.patient();
    let wanted = request(&engine, &provider, 1).await;
    engine.by_hand("for Jane", None);
    for owner in ["99", "0", "", "jane"] {
        let adopt = Adopt { owner: Some(owner.to_owned()), ..adopting(&wanted, "1") };
        assert_eq!(ended(&provider.adopt(&adopt).await), Ended::Refused, "{owner}");
    }
    assert_eq!((engine.asked("ChangeCustomer"), engine.only_license().notes.as_str()), (0, "for Jane"));
}

#[tokio::test]
async fn what_their_receiver_made_is_taken_over_with_the_customer_that_stripe_names() {
    let engine = usual().await;
    let provider = engine.patient();
    let theirs = engine.server.add_customer_by_hand("Jane Roe", "jane@example.com");
    let license = engine.by_hand("", Some(theirs));
    engine.server.add_data_object_by_hand(PRO, license.id, "cryptolens_stripesubscriptionitemid", "si_1");
    let named = Person { named: Some(theirs.to_string()), ..person(1) };
    let customer = provider.customer(&named).await.unwrap();
    assert_eq!((customer.id.clone(), customer.made), (theirs.to_string(), false));
    let wanted = Create { owner: Some(customer.id), ..request(&engine, &provider, 1).await };
    let found = provider.find_unclaimed(&wanted.sale, &wanted.product).await.unwrap();
    assert_eq!((found.len(), found[0].provider_id.as_str()), (1, "1"));
    provider.adopt(&adopting(&wanted, &found[0].provider_id)).await.unwrap();
    assert!(engine.only_license().notes.starts_with(&format!("ref:{};", wanted.reference)));
    // Without a name from Stripe it may have another customer than the one who was made: it was sold to them all the same.
    let stranger = engine.server.add_customer_by_hand("Old Name", "old@example.com");
    engine.by_hand("", Some(stranger));
    engine.server.add_data_object_by_hand(PRO, 2, "cryptolens_stripesubscriptionitemid", "si_2");
    let other = request(&engine, &provider, 2).await;
    assert_ne!(other.owner, Some(stranger.to_string()));
    provider.adopt(&adopting(&other, "2")).await.unwrap();
    assert_eq!(engine.server.license(PRO, 2).unwrap().customer_id, Some(stranger));
    let license = engine.server.license(PRO, 1).unwrap();
    // Their own data object stays: their option that blocks expired licenses passes over keys that have it.
    assert!(license.data_objects.iter().any(|object| object.string_value == "si_1"));
    assert!(provider.find_unclaimed(&wanted.sale, &wanted.product).await.unwrap().is_empty());
}

#[tokio::test]
async fn somebody_with_the_address_is_taken_only_if_nobody_else_is_meant() {
    let engine = usual().await;
    let provider = engine.patient();
    let hand_made = engine.server.add_customer_by_hand("Buyer", "Buyer1@Example.com");
    engine.server.add_customer_by_hand("Buyer", "xbuyer1@example.com");
    assert_eq!(provider.customer(&person(1)).await.unwrap().id, hand_made.to_string());
    // Since they have a license of that customer's, they are nobody else.
    let wanted = Create { owner: Some(hand_made.to_string()), ..request(&engine, &provider, 1).await };
    provider.create(&wanted).await.unwrap();
    let twin = provider.customer(&Person { customer: "cus_2".to_owned(), ..person(1) }).await.unwrap();
    assert!(twin.made);
    // Two by hand: nobody knows which.
    engine.server.add_customer_by_hand("One", "buyer3@example.com");
    engine.server.add_customer_by_hand("Two", "buyer3@example.com");
    assert!(provider.customer(&person(3)).await.unwrap().made);
    // One that was removed there is made again.
    let gone = Person { known: Some("99".to_owned()), named: Some("x".to_owned()), ..person(4) };
    assert!(provider.customer(&gone).await.unwrap().made);
}

#[tokio::test]
async fn an_empty_second_customer_is_passed_over_and_can_be_seen() {
    let engine = usual().await;
    let provider = engine.patient();
    engine.lag(Duration::from_millis(300)).await;
    engine.misbehave(Call::Customer, Fault::CommitThenDrop).await;
    assert_eq!(ended(&provider.customer(&person(1)).await), Ended::Indeterminate);
    // Asked again before the search sees it: a second one.
    let second = provider.customer(&person(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(350)).await;
    let first = provider.customer(&person(1)).await.unwrap();
    assert!(first.id < second.id);
    assert_eq!(provider.customer(&Person { known: Some(second.id.clone()), ..person(1) }).await.unwrap().id, second.id);
    assert_eq!(engine.server.customers_without_license().len(), 2);
    engine.server.add_customer_by_hand("By hand", "hand@example.com");
    let listed = provider.customers(None).await.unwrap();
    let of: Vec<_> = listed.customers.iter().map(|customer| customer.customer.as_deref()).collect();
    assert_eq!((of, listed.next), (vec![Some("cus_1"), Some("cus_1"), None], None));
    assert_eq!((&listed.customers[0].id, &listed.customers[1].id), (&first.id, &second.id));
}

#[tokio::test]
async fn a_customer_says_whose_it_is_at_stripe_and_opens_a_portal() {
    for links in [Links::Same, Links::Replaced] {
        let engine = Engine::<Usual>::with(Settings { links, ..Settings::default() }).await;
        let provider = engine.patient();
        let id = provider.customer(&person(1)).await.unwrap().id;
        let made = engine.server.customers().remove(0);
        assert_eq!((made.company_name.as_str(), made.notes.as_str()), ("cus_1", "stripe_customer_id:cus_1;"));
        assert!(made.link.is_some());
        let link = provider.portal_link(Some(&id)).await.unwrap().unwrap();
        let code = engine.server.customers().remove(0).link.unwrap();
        assert!(link.expose().ends_with(&code));
        // A name that Stripe does not know is not made up over one that somebody set.
        provider.update_customer(&id, &Person { name: None, ..person(2) }).await.unwrap();
        let updated = engine.server.customers().remove(0);
        assert_eq!((updated.name.as_str(), updated.email.as_str()), ("Buyer 1", "buyer2@example.com"));
        assert_eq!(updated.company_name, "cus_1");
        assert_eq!(ended(&provider.update_customer("99", &person(1)).await), Ended::Refused);
    }
}

#[tokio::test]
async fn the_terms_of_use_are_put_up_once_and_replaced() {
    let engine = usual().await;
    let with =
        |url: &str| engine.cryptolens(&Options { terms_of_use_url: Some(url.to_owned()), ..engine.options(PATIENCE) });
    for url in ["https://example.com/terms", "https://example.com/terms", "https://example.com/other"] {
        with(url).prepare().await.unwrap();
        let objects = engine.server.data_objects();
        assert_eq!(objects.len(), 1);
        assert_eq!((objects[0].name.as_str(), objects[0].string_value.as_str()), ("cryptolens_customtosurl", url));
    }
    assert_eq!((engine.asked("AddDataObject"), engine.asked("SetStringValue")), (1, 1));
    engine.patient().prepare().await.unwrap();
    assert_eq!(engine.server.data_objects().len(), 1);
}

#[tokio::test]
async fn the_least_permissions_are_enough_and_each_is_named_when_it_lacks() {
    const LEAST: [&str; 18] = [
        "GetProducts",
        "GetKeys",
        "GetKey",
        "CreateKey",
        "ExtendLicense",
        "BlockKey",
        "UnblockKey",
        "ChangeNotes",
        "ChangeCustomer",
        "MachineLockLimit",
        "AddFeature",
        "RemoveFeature",
        "GetCustomers",
        "AddCustomer",
        "EditCustomer",
        "GetCustomerLicenses",
        "AddDataObjectToKey",
        "ListDataObjects",
    ];
    let engine = usual().await;
    let permit = |methods: Vec<&str>| {
        let permissions = Some(methods.into_iter().map(ToOwned::to_owned).collect());
        engine.server.set(Settings { permissions, ..engine.server.settings() });
    };
    permit([&LEAST[..], &["AddDataObject", "SetStringValue"]].concat());
    let terms_of_use_url = Some("https://example.com/terms".to_owned());
    let provider = engine.cryptolens(&Options { terms_of_use_url, ..engine.options(PATIENCE) });
    provider.prepare().await.unwrap();
    let wanted = request(&engine, &provider, 1).await;
    let held = provider.create(&wanted).await.unwrap();
    let mine = target(&wanted, &held);
    let changed = Change::Terms(terms(Some("2027-09-01T00:00:00Z"), 9, &["f2"]));
    for wanted in [changed, Change::Suspend, Change::Reinstate, Change::Revoke] {
        change(&provider, &mine, wanted).await;
    }
    engine.by_hand("", None);
    let other = request(&engine, &provider, 2).await;
    provider.adopt(&adopting(&other, "2")).await.unwrap();
    provider.update_customer(wanted.owner.as_ref().unwrap(), &person(2)).await.unwrap();
    engine.server.add_customer_by_hand("By hand", "buyer7@example.com");
    provider.customer(&person(7)).await.unwrap();
    assert!(LEAST.iter().all(|method| engine.asked(method) > 0));
    for method in LEAST {
        permit(LEAST.into_iter().filter(|other| *other != method).collect());
        if method == "CreateKey" {
            let error = provider.create(&request(&engine, &provider, 3).await).await.unwrap_err();
            assert!(error.to_string().contains("`CreateKey`: give it that permission"), "{error}");
        }
        if method == "AddDataObjectToKey" {
            // A license without its second place is as good.
            provider.create(&request(&engine, &provider, 4).await).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_plan_that_lapsed_parks_nothing() {
    for errors in [Errors::Ok, Errors::Fitting] {
        let settings = Settings { plan_is_active: false, errors, ..Settings::default() };
        let engine = Engine::<Usual>::with(settings).await;
        let error = engine.patient().find("kl-1", &PRO.to_string()).await.unwrap_err();
        let ProviderError::Unavailable { source, .. } = error else { panic!("{error:?}") };
        assert!(matches!(source, CallError::Credentials { .. }));
    }
}

#[tokio::test]
async fn a_period_that_is_too_long_for_the_engine_is_refused_in_words() {
    let settings = Settings { period_days_max: Some(3650), ..Settings::default() };
    let engine = Engine::<Usual>::with(settings).await;
    let wanted = request(&engine, &engine.patient(), 1).await;
    let endless = Create { terms: terms(None, 1, &[]), ..wanted };
    assert_eq!(ended(&engine.patient().create(&endless).await), Ended::Refused);
    let ten_years = Options { never_ends_days: 3650, ..engine.options(PATIENCE) };
    engine.cryptolens(&ten_years).create(&endless).await.unwrap();
    let listed = engine.cryptolens(&ten_years).list(&PRO.to_string(), None).await.unwrap();
    assert_eq!(listed.licenses[0].expires_at, None);
}

#[tokio::test]
async fn a_product_of_the_account_is_none_of_another_kind() {
    let products = vec![Product { id: 1, ..Product::default() }];
    let engine = Engine::<Usual>::with(Settings { products, ..Settings::default() }).await;
    let provider = engine.patient();
    assert_eq!(ended(&provider.find("kl-1", "2").await), Ended::Refused);
    assert!(provider.find("kl-1", "1").await.unwrap().is_empty());
    assert_eq!(ended(&provider.find("kl-1\") or id>0 or notes.contains(\"", "1").await), Ended::Refused);
}
