//! What the tests of the fold share: a log in memory, the fixture stories, and views on either engine.

#![expect(dead_code, reason = "every test takes what it needs")]
#![expect(clippy::unwrap_used, reason = "a fixture that is not there fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use keyledger_eventlog::consumer::{Consumer, Options, Step};
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::tail::SqlTail;
use keyledger_projector::Projector;
use keyledger_projector::read::{
    AsOf, License, LicenseFilter, LicenseState, OpenObligation, PageRequest, SubscriptionFilter, Views, Within,
};
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::envelope::{IdReuse, NewEvent, PARTITIONS};
use keyledger_schemas::event::{
    Event, LicenseIssued, LicenseRevoked, LicenseSuspended, LicenseTerms, RevokeReason, SealedKey, SettingsChanged,
    SuspendReason,
};
use keyledger_schemas::ids::{Mode, PurchaseId, Scope, SourceName};
use keyledger_schemas::settings::DecidingSettings;
use keyledger_test_servers::Postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

/// The older of the two API versions of the fixtures.
pub const OLD: &str = "2024-06-20";
/// The newer one.
pub const NEW: &str = "2026-07-29.dahlia";
/// Both.
pub const VERSIONS: [&str; 2] = [OLD, NEW];

/// Live, of the default source.
pub fn scope() -> Scope {
    Scope::new(SourceName::default(), Mode::Live)
}

/// A time.
pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Settings that map everything to the engine `builtin`, and issue in live mode.
pub fn settings() -> DecidingSettings {
    serde_json::from_value(serde_json::json!({
        "catalog": [{ "product": "pro" }],
        "sources": { "default": { "mode": "live" } },
        "providers": ["builtin"],
    }))
    .unwrap()
}

/// An event of ours.
pub fn own(id: &str, event: &Event, occurred_at: Timestamp) -> NewEvent {
    NewEvent {
        id: id.into(),
        kind: event.kind().to_owned(),
        scope: scope(),
        stream: "own".into(),
        occurred_at,
        causation_id: None,
        correlation_id: None,
        schema_version: 1,
        actor: Some("ana".to_owned()),
        partition: 0,
        delivery: None,
        data: event.encode(),
        on_reuse: IdReuse::Refused,
    }
}

/// The settings as the first event.
pub fn settings_changed(settings: DecidingSettings) -> NewEvent {
    own("settings", &Event::SettingsChanged(SettingsChanged { settings }), Timestamp::UNIX_EPOCH)
}

/// A Stripe event as it was delivered.
pub fn stripe(body: Vec<u8>) -> NewEvent {
    let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let id = format!("{}:{}", read["id"].as_str().unwrap(), read["api_version"].as_str().unwrap_or_default());
    NewEvent {
        kind: format!("stripe.{}", read["type"].as_str().unwrap()),
        occurred_at: Timestamp::from_second(read["created"].as_i64().unwrap()).unwrap(),
        stream: format!("stripe:{id}").as_str().into(),
        id: id.as_str().into(),
        data: body,
        partition: PARTITIONS - 1,
        on_reuse: IdReuse::FirstWins,
        actor: None,
        ..own(
            "",
            &Event::SettingsChanged(SettingsChanged { settings: DecidingSettings::default() }),
            at("2026-01-01T00:00:00Z"),
        )
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/testdata/stripe")
}

/// The events of a story in one version, in order.
pub fn story(name: &str, version: &str) -> Vec<NewEvent> {
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixtures().join("manifest.json")).unwrap()).unwrap();
    let stories = manifest["stories"].as_array().unwrap();
    let story = stories.iter().find(|story| story["story"] == name).unwrap();
    let steps = story["steps"].as_array().unwrap().iter();
    let files = steps.filter_map(|step| step["files"][version].as_str());
    files.map(|file| stripe(std::fs::read(fixtures().join(file)).unwrap())).collect()
}

/// The names of all stories.
pub const STORIES: [&str; 14] = ["a", "b", "c", "d", "e", "e2", "f", "g", "h", "i", "j", "k", "m", "l"];

/// Where the views of a test are.
#[derive(Clone)]
pub enum Engine {
    /// In files.
    Sqlite,
    /// In databases of a server that is the test's own.
    Postgres(Arc<Postgres>),
}

impl Engine {
    /// A server of its own. It need not survive a power cut.
    pub fn postgres() -> Self {
        Self::Postgres(Arc::new(Postgres::start_with(&["fsync=off"])))
    }

    /// Whether views are files here.
    pub fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite)
    }

    /// As many of these as there is time for: making a database takes longer than making a file.
    pub fn some<T: Copy>(&self, all: &[T]) -> Vec<T> {
        let every = if self.is_sqlite() { 1 } else { 5 };
        all.iter().copied().step_by(every).collect()
    }
}

/// Runs each of these tests on both engines.
#[macro_export]
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::support::Engine::Sqlite).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::support::Engine::postgres()).await;
            })*
        }
    };
}

/// A log, and views of it that go away.
pub struct World {
    pub log: Arc<MemoryLog>,
    pub clock: Arc<ManualClock>,
    pub folder: tempfile::TempDir,
    pub engine: Engine,
    /// Names its databases apart from another's on the same server.
    number: u32,
    databases: Mutex<BTreeSet<String>>,
}

impl World {
    /// An empty log at noon.
    pub fn new(engine: &Engine) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let clock = Arc::new(ManualClock::at(at("2026-12-01T12:00:00Z")));
        let folder = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = Arc::new(MemoryLog::new(clock.clone()));
        Self { log, clock, folder, engine: engine.clone(), number, databases: Mutex::default() }
    }

    /// A log with the usual settings and these events.
    pub async fn with(engine: &Engine, events: Vec<NewEvent>) -> Self {
        let world = Self::new(engine);
        world.append(vec![settings_changed(settings())]).await;
        world.append(events).await;
        world
    }

    /// Appends.
    pub async fn append(&self, events: Vec<NewEvent>) {
        self.log.append(Append::events(events)).await.unwrap();
    }

    /// Where the views of this name are, if there are any.
    pub fn url(&self, name: &str) -> String {
        match &self.engine {
            Engine::Sqlite => format!("sqlite:{}", self.folder.path().join(name).display()),
            Engine::Postgres(server) => {
                let database = format!("world_{}_{}", self.number, name.replace(['.', '-'], "_"));
                if self.databases.lock().unwrap().insert(database.clone()) {
                    server.psql(&format!("create database {database}"));
                }
                server.url_of(&database)
            }
        }
    }

    /// Runs statements on the views of this name, behind everybody's back. The database is made if there is none.
    pub async fn meddle(&self, name: &str, statements: &str) {
        let url = self.url(name);
        if self.engine.is_sqlite() {
            let mut file = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut file).await.unwrap();
            file.close().await.unwrap();
        } else {
            let mut database = PgConnection::connect(&url).await.unwrap();
            let statements = format!("set search_path = keyledger_views; {statements}");
            sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut database).await.unwrap();
            database.close().await.unwrap();
        }
    }

    /// Takes the views of this name away.
    pub async fn delete(&self, name: &str) {
        if self.engine.is_sqlite() {
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(self.folder.path().join(format!("{name}{suffix}")));
            }
        } else {
            self.meddle(name, "drop schema keyledger_views cascade").await;
        }
    }

    /// What is there beside the views of this name and should not be: files or schemas of a rebuild.
    pub async fn left_beside(&self, name: &str) -> Vec<String> {
        if self.engine.is_sqlite() {
            let files = std::fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().file_name());
            let names = files.map(|name| name.to_string_lossy().into_owned());
            return names.filter(|name| name.contains("rebuild")).collect();
        }
        let mut database = PgConnection::connect(&self.url(name)).await.unwrap();
        let text = "select nspname::text from pg_namespace where nspname like 'keyledger_views_%'";
        sqlx::query_scalar(text).fetch_all(&mut database).await.unwrap()
    }

    /// Folds what the log holds into the views of this name, in batches of this size.
    pub async fn fold(&self, name: &str, batch: usize) {
        let projector = Projector::open(&self.url(name)).await.unwrap();
        let tail = Arc::new(SqlTail::new(self.log.clone()));
        let mut consumer = Consumer::new(projector, tail, Options { batch, ..Options::default() });
        assert_eq!(consumer.run_until_idle().await.unwrap(), Step::Idle);
    }

    /// The views of this name.
    pub async fn views(&self, name: &str) -> Views {
        Views::open_read(&self.url(name)).await.unwrap()
    }

    /// Folds everything and opens the views.
    pub async fn folded(&self) -> Views {
        self.fold("views.db", 256).await;
        self.views("views.db").await
    }
}

/// Everything owed that is not met, as short text: `sub_…/si_…/1 no_key issuing`, with ids shortened to their prefix.
pub async fn open(views: &Views) -> Vec<String> {
    views.open_obligations(&Within::default()).await.unwrap().iter().map(line).collect()
}

fn line(open: &OpenObligation) -> String {
    let subject = open.subject.trim_start_matches("default:-:live:");
    format!("{subject} {} {}", open.kind, open.cause.as_deref().unwrap_or("-"))
}

/// How many of each kind of obligation are open.
pub async fn open_kinds(views: &Views) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for open in views.open_obligations(&Within::default()).await.unwrap() {
        *kinds.entry(open.kind).or_default() += 1;
    }
    kinds
}

/// All licenses at a time.
pub async fn licenses(views: &Views, at: Timestamp) -> Vec<License> {
    let all = PageRequest { limit: 200, after: None };
    views.licenses(&Within::default(), &LicenseFilter::default(), at, &all).await.unwrap().data
}

/// A time after everything.
pub fn late() -> AsOf {
    AsOf::at(at("2027-06-01T00:00:00Z"))
}

/// A small generator of numbers, the same for the same seed (splitmix64).
pub struct Shuffle(pub u64);

impl Shuffle {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    /// The same events in another order.
    pub fn shuffle(&mut self, mut events: Vec<NewEvent>) -> Vec<NewEvent> {
        for index in (1..events.len()).rev() {
            events.swap(index, self.below(index + 1));
        }
        events
    }
}

/// Everything that must not depend on the order of events: units, what they are owed, what is open, what is listed.
pub async fn outcome(views: &Views) -> Vec<String> {
    let mut outcome = open(views).await;
    for license in licenses(views, late().at).await {
        outcome.push(shown(&license));
    }
    let all = PageRequest { limit: 200, after: None };
    let page = views.subscriptions(&Within::default(), &SubscriptionFilter::default(), &all).await.unwrap();
    for subscription in page.data {
        outcome.push(format!("{} {:?} {:?}", subscription.id, subscription.status, subscription.paid_until));
        let purchase = PurchaseId::new(scope(), subscription.id.as_str());
        for owed in views.obligations(&purchase).await.unwrap() {
            outcome.push(format!(
                "  {} {:?} {} {} {}",
                owed.unit, owed.paid_until, owed.for_ever, owed.charged, owed.standing
            ));
        }
    }
    outcome.sort();
    outcome
}

/// A license for every unit that is open, as an issuer would make it.
pub async fn issue_all(world: &World, views: &Views) {
    let mut issued = Vec::new();
    for open in views.open_obligations(&Within::default()).await.unwrap() {
        let Some(unit) = open.unit.filter(|_| open.kind != "not_extended") else { continue };
        let obligations = views.obligations(&unit.purchase).await.unwrap();
        let paid_until = obligations.iter().find(|owed| owed.unit == unit).and_then(|owed| owed.paid_until);
        let license = unit.license(1);
        let last4 = license.to_string()[32..].to_uppercase();
        let event = Event::LicenseIssued(LicenseIssued {
            generation: 1,
            license,
            provider: "builtin".into(),
            provider_id: unit.reference(1),
            product: "pro".to_owned(),
            key: Some(SealedKey { sealed: "x".to_owned(), key_id: "1".to_owned(), hash: license.to_string(), last4 }),
            terms: LicenseTerms { paid_until, expires_at: paid_until, seats: 1, features: [].into() },
            found: false,
            also: [].into(),
            unit,
        });
        issued.push(own(&license.to_string(), &event, at("2026-11-01T00:00:00Z")));
    }
    world.append(issued).await;
}

/// Every license stopped that should not work, as an issuer would do it.
pub async fn stop_all(world: &World, views: &Views) {
    let mut stopped = Vec::new();
    for license in licenses(views, at("2026-01-01T00:00:00Z")).await.into_iter().filter(|row| row.provider.is_some()) {
        let obligations = views.obligations(&license.purchase).await.unwrap();
        let Some(owed) = obligations.into_iter().find(|owed| owed.unit == license.unit) else { continue };
        let (unit, license) = (license.unit, license.id);
        let event = match owed.standing.as_str() {
            "revoked" => Event::LicenseRevoked(LicenseRevoked { unit, license, reason: RevokeReason::MoneyGone }),
            "suspended" => Event::LicenseSuspended(LicenseSuspended { unit, license, reason: SuspendReason::Paused }),
            _ => continue,
        };
        stopped.push(own(&format!("stop-{license}"), &event, at("2026-11-02T00:00:00Z")));
    }
    world.append(stopped).await;
}

/// What is listed of licenses that were stopped.
pub async fn stopped(views: &Views) -> Vec<String> {
    let listed = licenses(views, late().at).await.into_iter();
    let stopped = listed.filter(|row| matches!(row.state, LicenseState::Revoked | LicenseState::Suspended));
    let mut stopped: Vec<String> = stopped.map(|row| shown(&row)).collect();
    stopped.sort();
    stopped
}

fn shown(license: &License) -> String {
    let License { unit, state, reason, seats, features, paid_until, expires_at, perpetual, .. } = license;
    format!("license {unit} {state:?} {reason:?} {seats:?} {features:?} {paid_until:?} {expires_at:?} {perpetual}")
}
