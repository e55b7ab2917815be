//! The running issuer: what goes wrong with one purchase or one engine does not hold up the others.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Bench, VERSIONS, default_entry, settings, story, stripe_event};
use async_trait::async_trait;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::state::{StateChange, StateWrite};
use keyledger_issuer::engines::CALLS_AT_ONCE;
use keyledger_issuer::provider::builtin::Builtin;
use keyledger_issuer::provider::{Capabilities, Change, Create, Held, Provider, ProviderError, Target};
use keyledger_issuer::store::PURCHASES;
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::settings::{CatalogEntry, Policy};
use tokio_util::sync::CancellationToken;

/// An engine that never answers.
struct Hung(ProviderName);

#[async_trait]
impl Provider for Hung {
    fn name(&self) -> &ProviderName {
        &self.0
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { settle: Duration::ZERO, enforces_expiry: true, reinstates_revoked: true, keeps_customers: false }
    }

    async fn find(&self, _reference: &str, _product: &str) -> Result<Vec<Held>, ProviderError> {
        std::future::pending().await
    }

    async fn create(&self, _request: &Create) -> Result<Held, ProviderError> {
        std::future::pending().await
    }

    async fn change(&self, _target: &Target, _change: &Change) -> Result<(), ProviderError> {
        std::future::pending().await
    }
}

fn builtin() -> Arc<dyn Provider> {
    Arc::new(Builtin::new(Arc::new(DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32]))))
}

fn entry(json: &str) -> CatalogEntry {
    serde_json::from_str(json).unwrap()
}

/// The bodies of story `a` as they would be for another buyer.
fn bought_by(buyer: usize, price: &str) -> Vec<Vec<u8>> {
    let bodies = story("a", VERSIONS[1]).into_iter().take(9);
    let renamed = bodies.map(|body| {
        let text = String::from_utf8(body).unwrap();
        let names = ["evt_", "sub_", "in_1", "cus_", "si_", "il_", "ch_", "pi_", "inpay_"];
        let text = names.iter().fold(text, |text, name| text.replace(name, &format!("{name}b{buyer}x")));
        text.replace("price_1PgafmB7WZ01zgkW6dKueIc5", price).into_bytes()
    });
    renamed.collect()
}

/// Waits until `count` licenses were issued, while the issuer runs.
async fn issued(log: &Arc<dyn EventLog>, count: usize) {
    let waiting = async {
        loop {
            let events = log.read_after(0, 100_000).await.unwrap();
            if events.iter().filter(|event| event.kind == "license.issued").count() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

#[tokio::test]
async fn an_engine_that_hangs_leaves_workers_for_the_others() {
    let catalog = vec![entry(r#"{"price": "price_hung", "provider": "stub"}"#), default_entry()];
    let hung: Arc<dyn Provider> = Arc::new(Hung("stub".into()));
    let bench = Bench::on(vec![builtin(), hung], settings(Policy::default(), catalog)).await;
    // More than there are workers, and due before the one that can be served.
    for buyer in 0..CALLS_AT_ONCE * 4 {
        let events = bought_by(buyer, "price_hung").iter().map(|body| stripe_event(body)).collect();
        bench.log.append(Append::events(events)).await.unwrap();
    }
    let events = bought_by(1000, "price_fine").iter().map(|body| stripe_event(body)).collect();
    bench.log.append(Append::events(events)).await.unwrap();
    let (log, stop) = (bench.log.clone(), CancellationToken::new());
    let running = tokio::spawn(bench.issuer.run(stop.clone()));
    issued(&log, 1).await;
    running.abort();
}

#[tokio::test]
async fn a_purchase_that_cannot_be_read_does_not_hold_up_the_others() {
    let bench = Bench::new().await;
    let write = StateWrite {
        namespace: PURCHASES.to_owned(),
        key: "default:-:live:sub_damaged".to_owned(),
        expected: Some(0),
        change: StateChange::Put { value: b"{}".to_vec(), due_at: Some("2026-01-01T00:00:00Z".parse().unwrap()) },
    };
    bench.log.append(Append { state: vec![write], ..Append::default() }).await.unwrap();
    let events = story("b", VERSIONS[1]).iter().map(|body| stripe_event(body)).collect();
    bench.log.append(Append::events(events)).await.unwrap();
    let (log, stop) = (bench.log.clone(), CancellationToken::new());
    let running = tokio::spawn(bench.issuer.run(stop.clone()));
    issued(&log, 1).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_engine_that_is_not_configured_is_noted_once_and_asked_as_soon_as_it_is() {
    let catalog = vec![entry(r#"{"provider": "builtin", "product": "pro"}"#)];
    let mut bench = Bench::on(Vec::new(), settings(Policy::default(), catalog)).await;
    bench.feed(&story("b", VERSIONS[0])).await;
    bench.clock.set("2027-01-01T00:00:00Z".parse().unwrap());
    bench.feed(&story("l", VERSIONS[0])).await;
    let kinds = bench.own_kinds().await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "license.not_done").count(), 1, "{kinds:?}");
    assert_eq!(bench.open().await.len(), 1);
    bench.engines = vec![builtin()];
    bench.restart().await;
    // Starting up notes the settings, which has every purchase looked at again.
    bench.note(settings(Policy::default(), vec![default_entry()])).await;
    bench.feed(&[]).await;
    assert_eq!(bench.open().await, []);
}

#[tokio::test]
async fn a_stopped_issuer_has_read_what_it_recorded_itself() {
    let bench = Bench::new().await;
    let events = story("b", VERSIONS[1]).iter().map(|body| stripe_event(body)).collect();
    bench.log.append(Append::events(events)).await.unwrap();
    let (log, stop) = (bench.log.clone(), CancellationToken::new());
    let running = tokio::spawn(bench.issuer.run(stop.clone()));
    issued(&log, 1).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    let cursor = keyledger_eventlog::checkpoint::Cursor::load(&*log, keyledger_issuer::NAME).await.unwrap();
    assert_eq!(cursor.checkpoint().position, log.head().await.unwrap().position);
}
