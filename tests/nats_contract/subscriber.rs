//! `examples/license-subscriber` against a stream that our relay feeds: it sees every `license.issued` exactly in order,
//! whatever happens to it and to the stream.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use keyledger_schemas::envelope::NewEvent;
use keyledger_schemas::ids::{Mode, Scope, SourceName};
use keyledger_test_servers::{CURRENT, Nats, OLDEST};
use license_subscriber::{Handled, Options, follow};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::fed::{Fed, PATIENCE, mirror, of_kind};
use crate::server;

const ISSUED: &str = include_str!("../../schemas/testdata/events/license.issued.v1.json");

/// The subscriber, in a folder that outlives it.
struct Subscriber {
    folder: TempDir,
    options: Options,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Subscriber {
    fn of(nats: &Nats) -> Self {
        let options = Options {
            url: format!("nats://127.0.0.1:{}", nats.port()),
            user: "licenses".to_owned(),
            password: server::password("licenses"),
            schemas: Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/json"),
        };
        Self { folder: tempfile::tempdir().unwrap(), options, lines: Arc::default() }
    }

    fn handled(&self) -> PathBuf {
        self.folder.path().join("handled")
    }

    /// Runs it. Aborting the task is a kill.
    fn start(&self) -> JoinHandle<anyhow::Result<()>> {
        let (options, lines) = (self.options.clone(), Arc::clone(&self.lines));
        let mut handled = Handled::open(&self.handled()).unwrap();
        tokio::spawn(
            async move { follow(&options, &mut handled, |line| lines.lock().unwrap().push(line.to_owned())).await },
        )
    }

    /// The ids of the events that it printed a line for, once there are so many lines.
    async fn seen(&self, count: usize) -> Vec<String> {
        let began = Instant::now();
        while self.lines.lock().unwrap().len() < count {
            assert!(began.elapsed() < PATIENCE, "{:?}", self.lines.lock().unwrap());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

/// A license that was issued, as keyledger's event.
fn issued(id: &str) -> NewEvent {
    let mut data: Value = serde_json::from_str(ISSUED).unwrap();
    data["provider_id"] = Value::from(id);
    of_kind(id, "license.issued", data.to_string())
}

/// Licenses, between events of every other kind, mode and source.
fn mixed(from: usize, to: usize) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for n in from..to {
        let scope = |source: &str, mode| Scope::new(source.parse::<SourceName>().unwrap(), mode);
        events.push(of_kind(format!("evt_{n}"), "stripe.invoice.paid", "{}"));
        events.push(of_kind(format!("requested-{n}"), "license.requested", "{}"));
        events.push(NewEvent { scope: scope("eu", Mode::Live), partition: 63, ..issued(&format!("license-{n}")) });
        events.push(NewEvent { scope: scope("default", Mode::Test), ..issued(&format!("test-{n}")) });
    }
    events
}

fn licenses(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("license-{n}")).collect()
}

#[tokio::test]
async fn a_program_that_knows_nats_and_the_schemas_sees_every_license_in_order() {
    for version in [CURRENT, OLDEST] {
        let nats = server::start(version);
        let mut fed = Fed::start(&nats).await;
        fed.append(mixed(0, 20)).await;
        let subscriber = Subscriber::of(&nats);
        let running = subscriber.start();
        assert_eq!(subscriber.seen(20).await, licenses(20), "{version}");
        fed.append(mixed(20, 50)).await;
        assert_eq!(subscriber.seen(50).await, licenses(50), "{version}");
        running.abort();
    }
}

#[tokio::test]
async fn killed_at_any_moment_it_goes_on_where_it_was() {
    let nats = server::start(CURRENT);
    let mut fed = Fed::start(&nats).await;
    fed.append(mixed(0, 200)).await;
    let subscriber = Subscriber::of(&nats);
    for count in [1, 40, 150] {
        let running = subscriber.start();
        subscriber.seen(count).await;
        running.abort();
        let _ = running.await;
    }
    let _running = subscriber.start();
    assert_eq!(subscriber.seen(200).await, licenses(200));
}

#[tokio::test]
async fn a_server_that_is_killed_and_a_mirror_that_is_made_anew_change_nothing_for_it() {
    let mut nats = server::start(CURRENT);
    let mut fed = Fed::start(&nats).await;
    fed.append(mixed(0, 10)).await;
    let subscriber = Subscriber::of(&nats);
    let running = subscriber.start();
    assert_eq!(subscriber.seen(10).await, licenses(10));

    nats.kill();
    nats.start_again();
    fed.append(mixed(10, 20)).await;
    assert_eq!(subscriber.seen(20).await, licenses(20));

    // Its consumer is gone with the stream.
    mirror(&nats, "operator", &*fed.log).await.remove().await.unwrap();
    fed.append(mixed(20, 30)).await;
    assert_eq!(subscriber.seen(30).await, licenses(30));
    assert!(!running.is_finished());
    running.abort();
}

#[tokio::test]
async fn it_stops_at_a_message_that_is_not_what_its_schema_says_and_keeps_it() {
    let nats = server::start(CURRENT);
    let mut fed = Fed::start(&nats).await;
    let subscriber = Subscriber::of(&nats);
    fed.append(vec![issued("good"), of_kind("bad", "license.issued", r#"{"unit": 7}"#), issued("after")]).await;
    for _ in 0..2 {
        let ended = tokio::time::timeout(PATIENCE, subscriber.start()).await.unwrap().unwrap();
        let error = format!("{:#}", ended.unwrap_err());
        assert!(error.contains("event bad is not what it should be"), "{error}");
        assert_eq!(subscriber.seen(1).await, ["good"]);
    }
}
