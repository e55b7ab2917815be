//! The system under test, in process: a log, an issuer on it, and an engine that counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::sqlite::{self, SqliteLog};
use keyledger_eventlog::tail::SqlTail;
use keyledger_issuer::balance::{Open, open_obligations};
use keyledger_issuer::provider::{Capabilities, Change, Create, Held, Provider, ProviderError, Target, Terms};
use keyledger_issuer::purchase::Purchase;
use keyledger_issuer::purchase::desired::{self, Desired};
use keyledger_issuer::store::{self, WorkingSet};
use keyledger_issuer::{Engines, Issuer, Options, Parts};
use keyledger_schemas::clock::{Clock, ManualClock};
use keyledger_schemas::envelope::{IdReuse, NewEvent};
use keyledger_schemas::event::{Event, LicenseTerms, SETTINGS_STREAM, SettingsChanged};
use keyledger_schemas::ids::{EventId, Mode, ProviderName, Scope, SourceName, StreamId};
use keyledger_schemas::settings::{CatalogEntry, DecidingSettings, Policy, SourceSettings};
use keyledger_schemas::stripe::Header;
use tokio_util::sync::CancellationToken;

use crate::deliver::Chunk;

/// What a unit should be like by the issuer's state: the unit, and its terms where it is mapped.
pub type Wanted = (Desired, Option<LicenseTerms>);

/// A log and an issuer on it.
pub struct Bench {
    pub log: Arc<dyn EventLog>,
    pub engine: Arc<Counting>,
    clock: Arc<ManualClock>,
    issuer: Issuer,
}

impl Bench {
    /// An empty log with these settings, at a time after most of what is told.
    pub async fn new(policy: Policy, catalog: Vec<CatalogEntry>) -> Self {
        let clock = clock();
        let log = Arc::new(MemoryLog::new(clock.clone()));
        Self::on(log, clock, policy, catalog).await
    }

    /// The same, on a log in a file that is not there yet.
    pub async fn on_disk(file: &Path, policy: Policy, catalog: Vec<CatalogEntry>) -> Self {
        let clock = clock();
        let log = SqliteLog::open(file.to_str().unwrap(), clock.clone(), sqlite::Options::default()).await.unwrap();
        Self::on(Arc::new(log), clock, policy, catalog).await
    }

    async fn on(log: Arc<dyn EventLog>, clock: Arc<ManualClock>, policy: Policy, catalog: Vec<CatalogEntry>) -> Self {
        let settings = DecidingSettings {
            policy,
            catalog,
            sources: BTreeMap::from([(SourceName::default(), SourceSettings { mode: Mode::Live })]),
            providers: [ProviderName::from("builtin")].into(),
        };
        log.append(Append::events(vec![settings_event(settings, clock.now())])).await.unwrap();
        let engine = Arc::new(Counting::default());
        let issuer = start(&log, &clock, &engine).await;
        Self { log, engine, clock, issuer }
    }

    /// Delivers some bodies, and works until idle. A new issuer does, where the chunk says that the old one died.
    pub async fn feed(&mut self, chunk: &Chunk) {
        Self::post(self.log.clone(), chunk.bodies.clone()).await;
        if chunk.restart {
            self.issuer = start(&self.log, &self.clock, &self.engine).await;
        }
        self.work().await;
    }

    /// Puts bodies into a log.
    pub async fn post(log: Arc<dyn EventLog>, bodies: Vec<Vec<u8>>) {
        let events = bodies.iter().map(|body| stripe_event(body)).collect();
        log.append(Append::events(events)).await.unwrap();
    }

    /// Works until there is nothing to do.
    pub async fn work(&mut self) {
        self.issuer.run_until_idle().await.unwrap();
    }

    /// The issuer's purchases by the object that they are named by.
    pub async fn purchases(&self) -> BTreeMap<String, Purchase> {
        let rows = self.log.state_scan(store::PURCHASES, "", "", 1000).await.unwrap();
        rows.iter().map(|row| store::decode::<Purchase>(row).unwrap()).map(|p| (p.id.object.clone(), p)).collect()
    }

    /// What the issuer's core wants for a purchase.
    pub async fn wanted(&self, purchase: &Purchase) -> Vec<Wanted> {
        let settings = store::settings(&*self.log).await.unwrap();
        let mut set = WorkingSet::new(self.log.clone());
        let context = set.context_of(purchase, settings, &self.engines()).await.unwrap();
        let units = desired::units(purchase, &context).into_iter();
        units.map(|(desired, quantity)| (desired.clone(), desired.terms(quantity))).collect()
    }

    /// The issuer's open obligations.
    pub async fn open(&self) -> Vec<Open> {
        open_obligations(&self.log, &self.engines()).await.unwrap()
    }

    /// The scope of everything that is delivered.
    pub fn scope() -> Scope {
        Scope::new(SourceName::default(), Mode::Live)
    }

    /// The time of the tests.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn engines(&self) -> Engines {
        Engines::new([self.engine.clone() as Arc<dyn Provider>])
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-11-20T12:00:00Z".parse().unwrap()))
}

async fn start(log: &Arc<dyn EventLog>, clock: &Arc<ManualClock>, engine: &Arc<Counting>) -> Issuer {
    let parts = Parts {
        log: log.clone(),
        tail: Arc::new(SqlTail::new(log.clone())),
        clock: clock.clone(),
        engines: Engines::new([engine.clone() as Arc<dyn Provider>]),
        keys: Arc::new(DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])),
        holder: "test".to_owned(),
        options: Options::default(),
    };
    Issuer::start(parts, &CancellationToken::new()).await.unwrap().unwrap()
}

fn settings_event(settings: DecidingSettings, now: Timestamp) -> NewEvent {
    let changed = Event::SettingsChanged(SettingsChanged { settings });
    NewEvent {
        id: EventId::new("test-settings"),
        kind: changed.kind().to_owned(),
        scope: Bench::scope(),
        stream: StreamId::new(SETTINGS_STREAM),
        occurred_at: now,
        causation_id: None,
        correlation_id: None,
        schema_version: 1,
        actor: Some("a test".to_owned()),
        partition: 0,
        delivery: None,
        data: changed.encode(),
        on_reuse: IdReuse::Refused,
    }
}

fn stripe_event(body: &[u8]) -> NewEvent {
    let header = Header::read(body).unwrap();
    let scope = Scope { source: SourceName::default(), account: header.account.clone(), mode: header.mode };
    let version = header.api_version.as_deref().unwrap_or("-");
    NewEvent {
        id: EventId::new(format!("{}:{}:{version}", scope.key(), header.id)),
        kind: format!("stripe.{}", header.kind),
        stream: StreamId::new(format!("stripe:{scope}:{}", header.object.as_deref().unwrap_or("-"))),
        scope,
        occurred_at: header.created.unwrap(),
        causation_id: None,
        correlation_id: None,
        schema_version: 1,
        actor: None,
        partition: 0,
        delivery: None,
        data: body.to_vec(),
        on_reuse: IdReuse::FirstWins,
    }
}

/// An engine without faults that keeps what it made, and counts.
pub struct Counting {
    name: ProviderName,
    made: Mutex<BTreeMap<String, Made>>,
}

/// A license at the engine.
#[derive(Clone, Debug)]
pub struct Made {
    pub creates: u32,
    pub terms: Terms,
    pub state: &'static str,
}

impl Default for Counting {
    fn default() -> Self {
        Self { name: ProviderName::from("builtin"), made: Mutex::default() }
    }
}

impl Counting {
    /// Every license that was ever made, by reference.
    pub fn made(&self) -> BTreeMap<String, Made> {
        self.made.lock().unwrap().clone()
    }
}

#[async_trait]
impl Provider for Counting {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { settle: Duration::ZERO, enforces_expiry: true, reinstates_revoked: true, keeps_customers: false }
    }

    async fn find(&self, reference: &str, _product: &str) -> Result<Vec<Held>, ProviderError> {
        let made = self.made.lock().unwrap();
        Ok(made.contains_key(reference).then(|| held(reference)).into_iter().collect())
    }

    async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
        assert!(request.terms.seats > 0, "a license with 0 seats: {request:?}");
        let mut made = self.made.lock().unwrap();
        let terms = request.terms.clone();
        let license = made.entry(request.reference.clone()).or_insert(Made { creates: 0, terms, state: "active" });
        license.creates += 1;
        Ok(held(&request.reference))
    }

    async fn change(&self, target: &Target, change: &Change) -> Result<(), ProviderError> {
        let mut made = self.made.lock().unwrap();
        let license = made.get_mut(&target.reference).unwrap_or_else(|| panic!("never made: {target:?}"));
        match change {
            Change::Terms(terms) => {
                assert!(terms.seats > 0, "0 seats: {target:?}");
                license.terms = terms.clone();
            }
            Change::Suspend => license.state = "suspended",
            Change::Reinstate => license.state = "active",
            Change::Revoke => license.state = "revoked",
        }
        Ok(())
    }
}

fn held(reference: &str) -> Held {
    Held { provider_id: format!("made-{reference}"), reference: reference.to_owned(), key: None, also: [].into() }
}
