//! The stub engine: no customers, no adoption, no token.

use std::sync::Arc;
use std::time::Duration;

use keyledger_issuer::provider::Provider;
use keyledger_issuer::provider::stub::faults::{Chance, Fault as StubFault, Faults, Mix, Operation, Rule, Search};
use keyledger_issuer::provider::stub::wire::{License, State, Stats};
use keyledger_issuer::provider::stub::{Options, Stub, run};
use keyledger_sandbox::faults::Fault;
use keyledger_schemas::ids::ProviderName;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::contract::{Call, Hand, PATIENCE, Seen, SeenPerson, Subject, client, http};

struct StubEngine {
    dir: Arc<TempDir>,
    base_url: String,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    faults: Mutex<Faults>,
    http: reqwest::Client,
}

impl StubEngine {
    async fn serve(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.base_url = format!("http://{}", listener.local_addr().unwrap());
        self.stop = CancellationToken::new();
        let (dir, stop) = (Arc::clone(&self.dir), self.stop.clone());
        self.task = Some(tokio::spawn(async move { run(listener, dir.path(), stop).await.unwrap() }));
    }

    async fn apply(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.faults.lock().await;
        change(&mut faults);
        let url = format!("{}/control/faults", self.base_url);
        assert_eq!(self.http.put(url).json(&*faults).send().await.unwrap().status(), 200);
        // Used up or not, the next script is another.
        faults.script.clear();
    }

    async fn stats(&self) -> Stats {
        self.http.get(format!("{}/control/stats", self.base_url)).send().await.unwrap().json().await.unwrap()
    }
}

fn translated(fault: &Fault) -> StubFault {
    match *fault {
        Fault::CommitThenHang => StubFault::CommitThenHang,
        Fault::CommitThenDrop => StubFault::CommitThenDrop,
        Fault::CommitThenFail { status } => StubFault::CommitThenFail { status },
        Fault::CommitThenGarble => StubFault::CommitThenGarble,
        Fault::Drop => StubFault::Drop,
        Fault::Fail { status, retry_after_s } => StubFault::Fail { status, retry_after_s },
        Fault::Slow { delay_ms } => StubFault::Slow { delay_ms },
    }
}

fn seen(license: License) -> Seen {
    Seen {
        id: license.id,
        reference: Some(license.reference),
        features: license.features,
        expires_at: license.expires_at,
        seats: license.seats,
        works: license.state == State::Active,
        owner: None,
        note: None,
    }
}

impl Subject for StubEngine {
    const WIRE: bool = true;
    const ATOMIC: bool = false;
    const ADOPTS: bool = false;
    const SETTING: &'static str = "";
    /// It has no products to know, and no token: what it refuses, a script says.
    const KNOWS_PRODUCTS: bool = false;

    async fn start() -> Self {
        let mut engine = Self {
            dir: Arc::new(tempfile::tempdir().unwrap()),
            base_url: String::new(),
            stop: CancellationToken::new(),
            task: None,
            faults: Mutex::default(),
            http: client(),
        };
        engine.serve().await;
        engine
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
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap();
        let base_url = self.base_url.clone();
        let options =
            Options { base_url, timeout_ms, requests_per_second: 10_000, settle_ms: 600, ..Options::default() };
        Arc::new(Stub::new(ProviderName::from("stub"), &options, &http()).unwrap())
    }

    fn product(&self) -> String {
        "pro".to_owned()
    }

    fn other_product(&self) -> String {
        "basic".to_owned()
    }

    fn features(&self) -> [&'static str; 2] {
        ["export", "sync"]
    }

    async fn misbehave(&self, call: Call, fault: Fault) {
        let operation = match call {
            Call::Create => Operation::Create,
            Call::Find => Operation::Find,
            Call::Change => Operation::Change,
            Call::Customer => Operation::Any,
        };
        let rule = Rule { operation, product: None, count: Some(1), fault: translated(&fault) };
        self.apply(|faults| faults.script = vec![rule]).await;
    }

    async fn mix(&self, faults: &[(f64, Fault)]) {
        let chance = |(probability, fault): &(f64, Fault)| Chance {
            operation: Operation::Any,
            probability: *probability,
            fault: translated(fault),
        };
        let mix = Mix { seed: 11, faults: faults.iter().map(chance).collect() };
        self.apply(|faults| faults.mix = Some(mix)).await;
    }

    async fn lag(&self, lag: Duration) {
        let lag_ms = u64::try_from(lag.as_millis()).unwrap();
        self.apply(|faults| faults.search = Search { lag_ms, ..Search::default() }).await;
    }

    async fn expire_token(&self) {
        let fault = StubFault::Fail { status: 401, retry_after_s: None };
        let rule = Rule { operation: Operation::Any, product: None, count: None, fault };
        self.apply(|faults| faults.script = vec![rule]).await;
    }

    async fn calls(&self) -> u64 {
        self.stats().await.calls.values().flat_map(|endings| endings.values()).sum()
    }

    async fn held(&self) -> Vec<Seen> {
        let mut held = Vec::new();
        for number in 1..=self.stats().await.licenses {
            let url = format!("{}/licenses/stub-{number:06}", self.base_url);
            held.push(seen(self.http.get(url).send().await.unwrap().json().await.unwrap()));
        }
        held
    }

    async fn creates(&self, reference: &str) -> u64 {
        self.stats().await.creates_by_reference.get(reference).copied().unwrap_or_default()
    }

    async fn people(&self) -> Vec<SeenPerson> {
        Vec::new()
    }

    async fn make_by_hand(&self, _hand: &Hand) -> String {
        String::new()
    }
}

crate::every_case!(StubEngine);
