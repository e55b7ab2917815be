//! A log in memory, an issuer on it, and Stripe's fixture stories to feed it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::tail::SqlTail;
use keyledger_issuer::balance::{Open, open_obligations};
use keyledger_issuer::provider::Provider;
use keyledger_issuer::provider::builtin::Builtin;
use keyledger_issuer::purchase::Purchase;
use keyledger_issuer::{Engines, Issuer, Options, Parts, store};
use keyledger_schemas::clock::{Clock, ManualClock};
use keyledger_schemas::envelope::{IdReuse, NewEvent};
use keyledger_schemas::event::{Event, SETTINGS_STREAM, SettingsChanged};
use keyledger_schemas::ids::{EventId, Mode, ProviderName, Scope, SourceName, StreamId};
use keyledger_schemas::settings::{CatalogEntry, DecidingSettings, Policy, SourceSettings};
use keyledger_schemas::stripe::Header;
use tokio_util::sync::CancellationToken;

/// The two versions that the fixtures are in.
pub const VERSIONS: [&str; 2] = ["2024-06-20", "2026-07-29.dahlia"];

/// An issuer on a log in memory, and the clock it reads.
pub struct Bench {
    pub log: Arc<dyn EventLog>,
    pub clock: Arc<ManualClock>,
    pub issuer: Issuer,
    pub engines: Vec<Arc<dyn Provider>>,
}

impl Bench {
    /// The built-in engine, one default catalog entry, the default policy, at a time after all stories.
    pub async fn new() -> Self {
        Self::with(Policy::default(), vec![default_entry()]).await
    }

    pub async fn with(policy: Policy, catalog: Vec<CatalogEntry>) -> Self {
        let keys = Arc::new(DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32]));
        let engines: Vec<Arc<dyn Provider>> = vec![Arc::new(Builtin::new(keys))];
        Self::on(engines, settings(policy, catalog)).await
    }

    pub async fn on(engines: Vec<Arc<dyn Provider>>, settings: DecidingSettings) -> Self {
        let clock = Arc::new(ManualClock::at("2026-11-20T12:00:00Z".parse().unwrap()));
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(clock.clone()));
        let issuer = issuer(&log, &clock, &engines).await;
        let bench = Self { log, clock, issuer, engines };
        bench.note(settings).await;
        bench
    }

    /// Puts Stripe bodies into the log and works until idle.
    pub async fn feed(&mut self, bodies: &[Vec<u8>]) {
        self.log.append(Append::events(bodies.iter().map(|body| stripe_event(body)).collect())).await.unwrap();
        self.issuer.run_until_idle().await.unwrap();
    }

    /// Records settings, as start-up does when they differ.
    pub async fn note(&self, settings: DecidingSettings) {
        let changed = Event::SettingsChanged(SettingsChanged { settings });
        let event = own_event(&changed, SETTINGS_STREAM, self.clock.now());
        self.log.append(Append::events(vec![event])).await.unwrap();
    }

    /// A new issuer on the same log, as after a crash.
    pub async fn restart(&mut self) {
        self.issuer = issuer(&self.log, &self.clock, &self.engines).await;
    }

    pub async fn purchases(&self) -> BTreeMap<String, Purchase> {
        let rows = self.log.state_scan(store::PURCHASES, "", "", 1000).await.unwrap();
        rows.iter().map(|row| store::decode::<Purchase>(row).unwrap()).map(|p| (p.id.object.clone(), p)).collect()
    }

    pub async fn open(&self) -> Vec<Open> {
        open_obligations(&self.log, &Engines::new(self.engines.clone())).await.unwrap()
    }

    /// The kinds of all events of ours, in order.
    pub async fn own_kinds(&self) -> Vec<String> {
        let events = self.log.read_after(0, 100_000).await.unwrap();
        events.into_iter().filter(|event| !event.is_stripe()).map(|event| event.kind).collect()
    }
}

async fn issuer(log: &Arc<dyn EventLog>, clock: &Arc<ManualClock>, engines: &[Arc<dyn Provider>]) -> Issuer {
    let parts = Parts {
        log: log.clone(),
        tail: Arc::new(SqlTail::new(log.clone())),
        clock: clock.clone(),
        engines: Engines::new(engines.to_vec()),
        keys: Arc::new(DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])),
        holder: "test".to_owned(),
        options: Options::default(),
    };
    Issuer::start(parts, &CancellationToken::new()).await.unwrap().unwrap()
}

pub fn settings(policy: Policy, catalog: Vec<CatalogEntry>) -> DecidingSettings {
    DecidingSettings {
        policy,
        catalog,
        sources: BTreeMap::from([(SourceName::default(), SourceSettings { mode: Mode::Live })]),
        providers: [ProviderName::from("builtin"), ProviderName::from("stub")].into(),
    }
}

/// A catalog entry that matches everything.
pub fn default_entry() -> CatalogEntry {
    serde_json::from_str(r#"{"provider": "builtin", "product": "pro"}"#).unwrap()
}

/// The bodies of a story in one version, in the order of its steps.
pub fn story(key: &str, version: &str) -> Vec<Vec<u8>> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/testdata/stripe"));
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.join("manifest.json")).unwrap()).unwrap();
    let stories = manifest["stories"].as_array().unwrap();
    let story = stories.iter().find(|story| story["story"] == key).unwrap();
    let steps = story["steps"].as_array().unwrap().iter();
    let files = steps.filter_map(|step| step["files"][version].as_str());
    files.map(|file| std::fs::read(root.join(file)).unwrap()).collect()
}

pub fn stripe_event(body: &[u8]) -> NewEvent {
    let header = Header::read(body).unwrap();
    let scope = Scope { source: SourceName::default(), account: header.account.clone(), mode: header.mode };
    let version = header.api_version.as_deref().unwrap_or("-");
    NewEvent {
        id: EventId::new(format!("{}:{}:{version}", scope.key(), header.id)),
        kind: format!("stripe.{}", header.kind),
        stream: StreamId::new(format!("stripe:{scope}:{}", header.object.as_deref().unwrap_or("-"))),
        scope,
        occurred_at: header.created.unwrap_or(Timestamp::UNIX_EPOCH),
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

pub fn own_event(event: &Event, stream: &str, at: Timestamp) -> NewEvent {
    NewEvent {
        id: EventId::new(format!("test-{stream}-{}-{at}", event.kind())),
        kind: event.kind().to_owned(),
        scope: Scope::new(SourceName::default(), Mode::Live),
        stream: StreamId::new(stream),
        occurred_at: at,
        causation_id: None,
        correlation_id: None,
        schema_version: 1,
        actor: Some("a test".to_owned()),
        partition: 0,
        delivery: None,
        data: event.encode(),
        on_reuse: IdReuse::Refused,
    }
}
