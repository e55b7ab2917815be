//! An issuer on a log in memory, the stand-in of Stripe beside it, and engines that keep customers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::tail::SqlTail;
use keyledger_issuer::effects::{self, Source, Stripe};
use keyledger_issuer::outbound::Http;
use keyledger_issuer::provider::{
    Adopt, Capabilities, Change, Create, Customer, Held, Person, Provider, ProviderError, Target,
};
use keyledger_issuer::stripe::client::Client;
use keyledger_issuer::stripe::reconcile;
use keyledger_issuer::{Engines, Issuer, Options, Parts};
use keyledger_sandbox::faults::{Fault, Faults, Rule};
use keyledger_sandbox::stripe::{Realm, Server, Settings};
use keyledger_schemas::clock::{Clock, ManualClock};
use keyledger_schemas::envelope::{Delivery, NewEvent, Recorded};
use keyledger_schemas::event::{Event, SETTINGS_STREAM, SettingsChanged};
use keyledger_schemas::ids::{Mode, ProviderName, SourceName};
use keyledger_schemas::secret::Secret;
use keyledger_schemas::settings::{CatalogEntry, DecidingSettings, Policy, SourceSettings};
use keyledger_schemas::stripe::Header;
use keyledger_schemas::stripe::record::event_of;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{VERSIONS, own_event, story, stripe_event};

/// When every test begins: after all stories.
pub const BEGIN: &str = "2026-11-20T12:00:00Z";

/// The subscription of story `a`, and its customer, are found in its bodies by this.
pub fn id_in(bodies: &[Vec<u8>], kind: &str) -> String {
    let shown = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).unwrap());
    let mut objects = shown.map(|event| event["data"]["object"].clone());
    objects.find(|object| object["object"] == kind).unwrap()["id"].as_str().unwrap().to_owned()
}

/// An engine that keeps customers and remembers what it was told.
#[derive(Clone)]
pub struct Engine {
    name: ProviderName,
    pub told: Arc<Mutex<Told>>,
}

#[derive(Default)]
pub struct Told {
    pub made: Vec<String>,
    /// By the engine's own id: how the customer was last called.
    pub customers: BTreeMap<String, (Option<String>, Option<String>)>,
    pub updates: usize,
    /// What the next updates are answered with.
    pub refuse: Option<String>,
    pub away: usize,
    /// What the next creates are refused with.
    pub refuse_licenses: bool,
}

impl Engine {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), told: Arc::default() }
    }
}

#[async_trait]
impl Provider for Engine {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { settle: Duration::ZERO, enforces_expiry: true, reinstates_revoked: true, keeps_customers: true }
    }

    async fn find(&self, reference: &str, _product: &str) -> Result<Vec<Held>, ProviderError> {
        let told = self.told.lock().unwrap();
        let found = told.made.iter().position(|made| made == reference);
        Ok(found.into_iter().map(|index| held(index, reference)).collect())
    }

    async fn customer(&self, person: &Person) -> Result<Customer, ProviderError> {
        let mut told = self.told.lock().unwrap();
        told.customers.insert("4711".to_owned(), (person.email.clone(), person.name.clone()));
        Ok(Customer { id: "4711".to_owned(), made: true, shared: false })
    }

    async fn update_customer(&self, id: &str, person: &Person) -> Result<(), ProviderError> {
        let mut told = self.told.lock().unwrap();
        told.updates += 1;
        if told.away > 0 {
            told.away -= 1;
            let source = keyledger_issuer::provider::CallError::Status { status: 503 };
            return Err(ProviderError::Unavailable { retry_after: None, source });
        }
        if let Some(reason) = &told.refuse {
            return Err(ProviderError::Refused { reason: reason.clone() });
        }
        told.customers.insert(id.to_owned(), (person.email.clone(), person.name.clone()));
        Ok(())
    }

    async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
        let mut told = self.told.lock().unwrap();
        if told.refuse_licenses {
            return Err(ProviderError::Refused { reason: "no such product".to_owned() });
        }
        told.made.push(request.reference.clone());
        Ok(held(told.made.len() - 1, &request.reference))
    }

    async fn adopt(&self, request: &Adopt) -> Result<Held, ProviderError> {
        self.told.lock().unwrap().made.push(request.reference.clone());
        Ok(Held { provider_id: request.named.clone(), ..held(0, &request.reference) })
    }

    async fn change(&self, _target: &Target, _change: &Change) -> Result<(), ProviderError> {
        Ok(())
    }
}

fn held(index: usize, reference: &str) -> Held {
    Held {
        provider_id: (index + 5).to_string(),
        reference: reference.to_owned(),
        key: Some(Secret::new("ABCDE-FGHIJ")),
        also: BTreeMap::from([("globalId".to_owned(), (index + 812_345).to_string())]),
    }
}

/// Everything that a test needs.
pub struct World {
    pub log: Arc<dyn EventLog>,
    pub clock: Arc<ManualClock>,
    pub stripe: Server,
    pub engine: Engine,
    address: String,
    issuer: Option<Issuer>,
    settings: DecidingSettings,
    /// What effects are configured.
    pub configured: Configured,
    /// Every look at the clock takes a while, from the next start on.
    pub ticking: bool,
    stop: CancellationToken,
}

/// What effects are configured.
#[derive(Clone)]
pub struct Configured {
    pub write_back: bool,
    pub fetch: bool,
    pub reconcile_every: Option<Duration>,
    pub key: bool,
}

/// A clock on which no two moments are the same.
struct Ticking(Arc<ManualClock>);

impl Clock for Ticking {
    fn now(&self) -> jiff::Timestamp {
        self.0.advance(Duration::from_millis(1));
        self.0.now()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    /// Everything is sold by `engine`, and the key may do everything but compare.
    pub async fn new(engine: &str) -> Self {
        Self::selling(engine, vec![entry(&format!(r#"{{"provider": "{engine}", "product": "3349"}}"#))]).await
    }

    pub async fn selling(engine: &str, catalog: Vec<CatalogEntry>) -> Self {
        let clock = Arc::new(ManualClock::at(BEGIN.parse().unwrap()));
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(clock.clone()));
        let stripe = Server::new(Settings { now: Some(clock.now()), ..Settings::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (server, until) = (stripe.clone(), stop.clone());
        tokio::spawn(async move { server.serve(listener, until).await });
        let engine = Engine::new(engine);
        let settings = DecidingSettings {
            policy: Policy::default(),
            catalog,
            sources: BTreeMap::from([(SourceName::default(), SourceSettings { mode: Mode::Live })]),
            providers: [engine.name.clone()].into(),
        };
        let configured = Configured { write_back: true, fetch: true, reconcile_every: None, key: true };
        let mut world =
            Self { log, clock, stripe, engine, address, issuer: None, settings, configured, ticking: false, stop };
        world.note(world.settings.clone()).await;
        world.restart().await;
        world
    }

    /// Records settings, as start-up does when they differ.
    pub async fn note(&self, settings: DecidingSettings) {
        let changed = Event::SettingsChanged(SettingsChanged { settings });
        // Another event each time, though no time has passed.
        let count = i64::try_from(self.log.head().await.unwrap().position).unwrap();
        let at = self.clock.now().saturating_add(jiff::SignedDuration::from_nanos(count)).unwrap();
        let event = own_event(&changed, SETTINGS_STREAM, at);
        self.log.append(Append::events(vec![event])).await.unwrap();
    }

    /// The settings as they were recorded first.
    pub fn settings(&self) -> DecidingSettings {
        self.settings.clone()
    }

    /// Puts one event into the log, and works until idle.
    pub async fn append(&mut self, event: NewEvent) {
        self.log.append(Append::events(vec![event])).await.unwrap();
        self.work().await;
    }

    /// A new issuer on the same log, as after a crash.
    pub async fn restart(&mut self) {
        self.issuer = None;
        let clock: Arc<dyn Clock> =
            if self.ticking { Arc::new(Ticking(self.clock.clone())) } else { self.clock.clone() };
        let parts = Parts {
            log: self.log.clone(),
            tail: Arc::new(SqlTail::new(self.log.clone())),
            clock,
            engines: Engines::new([Arc::new(self.engine.clone()) as Arc<dyn Provider>]),
            keys: Arc::new(DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])),
            holder: "test".to_owned(),
            options: Options::default(),
        };
        let issuer = Issuer::start(parts, &CancellationToken::new()).await.unwrap().unwrap();
        self.issuer = Some(issuer.with_stripe(self.sources()));
    }

    /// The issuer, to be run as it is in production.
    pub fn take(&mut self) -> Issuer {
        self.issuer.take().unwrap()
    }

    fn sources(&self) -> Stripe {
        if !self.configured.key {
            return Stripe::default();
        }
        let options = keyledger_issuer::stripe::Options { api_base: self.address.clone(), ..Default::default() };
        let options = keyledger_issuer::stripe::Options { requests_per_second: 1000, ..options };
        let http = Http::new(Duration::from_secs(5)).unwrap();
        let key = Secret::new("sandbox");
        let client = Client::new(&options, key, &http, self.clock.clone()).unwrap();
        let stripe = reconcile::Source::new(SourceName::default(), Mode::Live, client);
        let Configured { write_back, fetch, reconcile_every, .. } = self.configured;
        Stripe::new([Source { stripe, write_back, fetch, reconcile_every }], effects::Options::default())
    }

    /// The same log in a new place: all state is built anew from it.
    pub async fn replayed(&self) -> Self {
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(self.clock.clone()));
        log.restore(&self.log.read_after(0, 100_000).await.unwrap()).await.unwrap();
        let mut world = Self {
            log,
            clock: self.clock.clone(),
            stripe: self.stripe.clone(),
            engine: self.engine.clone(),
            address: self.address.clone(),
            issuer: None,
            settings: self.settings.clone(),
            configured: self.configured.clone(),
            ticking: self.ticking,
            // The stand-in is the other world's.
            stop: CancellationToken::new(),
        };
        world.restart().await;
        world
    }

    /// Has Stripe know what these bodies show.
    pub fn load(&self, bodies: &[Vec<u8>]) {
        for body in bodies {
            self.stripe.load_event(serde_json::from_slice(body).unwrap()).unwrap();
        }
    }

    /// Puts bodies into the log, and works until idle.
    pub async fn feed(&mut self, bodies: &[Vec<u8>]) {
        self.put(bodies).await;
        self.work().await;
    }

    /// Puts bodies into the log.
    pub async fn put(&self, bodies: &[Vec<u8>]) {
        self.log.append(Append::events(bodies.iter().map(|body| stripe_event(body)).collect())).await.unwrap();
    }

    /// The same for thin events, whose objects are not in them.
    pub async fn feed_thin(&mut self, bodies: &[Vec<u8>]) {
        let source = SourceName::default();
        let events = bodies.iter().map(|body| {
            let delivery = Delivery::reconciled(self.clock.now());
            event_of(&source, Header::read(body).unwrap(), delivery, body.clone())
        });
        self.log.append(Append::events(events.collect())).await.unwrap();
        self.work().await;
    }

    pub async fn work(&mut self) {
        self.issuer.as_mut().unwrap().run_until_idle().await.unwrap();
    }

    /// Time passes, and everything that is due by then is done.
    pub async fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.stripe.set_now(self.clock.now());
        self.work().await;
    }

    /// Stripe knows the whole of story `key`, and the log too.
    pub async fn tell(&mut self, key: &str) -> Vec<Vec<u8>> {
        let bodies = story(key, VERSIONS[1]);
        self.load(&bodies);
        self.feed(&bodies).await;
        bodies
    }

    /// Delivers the echoes of writes, as webhooks do.
    pub async fn echo(&mut self) {
        let echoes: Vec<_> = self.stripe.echoes().iter().map(|event| event.to_string().into_bytes()).collect();
        self.feed(&echoes).await;
    }

    /// The metadata that an object has at Stripe.
    pub fn metadata(&self, kind: &str, id: &str) -> BTreeMap<String, String> {
        let object = self.stripe.object(&Realm::own(true), kind, id).unwrap();
        serde_json::from_value(object["metadata"].clone()).unwrap_or_default()
    }

    /// How Stripe misbehaves from now on.
    pub fn misbehave(&self, operation: &str, count: u32, fault: Fault) {
        let rule = Rule { operation: operation.to_owned(), about: None, count: Some(count), fault };
        self.stripe.stage().misbehave(Faults { script: vec![rule], ..Faults::default() }).unwrap();
    }

    /// How often Stripe was asked for this, however it ended.
    pub fn asked(&self, operation: &str) -> u64 {
        self.stripe.stage().calls().get(operation).map_or(0, |endings| endings.values().sum())
    }

    /// Writes that Stripe really did.
    pub fn writes(&self) -> u64 {
        self.stripe.writes().values().sum()
    }

    pub async fn events(&self, kind: &str) -> Vec<Recorded> {
        let events = self.log.read_after(0, 100_000).await.unwrap();
        events.into_iter().filter(|event| event.kind == kind).collect()
    }
}

pub fn entry(json: &str) -> CatalogEntry {
    serde_json::from_str(json).unwrap()
}

/// The story's bodies whose kind is not among these.
pub fn without(bodies: &[Vec<u8>], kinds: &[&str]) -> Vec<Vec<u8>> {
    let kind = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["type"].as_str().unwrap().to_owned();
    bodies.iter().filter(|body| !kinds.contains(&&*kind(body))).cloned().collect()
}

/// A `….updated` event that shows `object` as it is at `second` of the tests' day.
pub fn updated(kind: &str, object: &Value, second: i64) -> Vec<u8> {
    let begin: jiff::Timestamp = BEGIN.parse().unwrap();
    let event = json!({
        "id": format!("evt_test{second:06}"), "object": "event", "api_version": VERSIONS[1],
        "created": begin.as_second() + second, "livemode": true, "pending_webhooks": 1, "type": kind,
        "data": {"object": object}, "request": {"id": null, "idempotency_key": null},
    });
    event.to_string().into_bytes()
}
