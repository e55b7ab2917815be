//! A stand-in that is served, and a client for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_issuer::outbound::Http;
use keyledger_issuer::stripe::Options;
use keyledger_issuer::stripe::client::Client;
use keyledger_sandbox::faults::{Fault, Faults, Rule};
use keyledger_sandbox::stripe::{Realm, Server, Settings};
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::secret::Secret;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The day after the last event of the stories that end in August.
pub const NOW: &str = "2026-08-25T00:00:00Z";

/// The older of the two renderings.
pub const OLD: &str = "2024-06-20";
/// The newer of the two renderings.
pub const NEW: &str = "2026-07-29.dahlia";

/// The stand-in, and how to reach it.
pub struct Place {
    pub stripe: Server,
    pub clock: Arc<ManualClock>,
    address: String,
    stop: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Place {
    /// A stand-in without limits, at [`NOW`], as our own clock is.
    pub async fn new() -> Self {
        let now: Timestamp = NOW.parse().unwrap();
        let settings =
            Settings { now: Some(now), requests_per_second: 0, requests_per_second_each: 0, ..Settings::default() };
        let stripe = Server::new(settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn({
            let (stripe, stop) = (stripe.clone(), stop.clone());
            async move { stripe.serve(listener, stop).await }
        });
        Self { stripe, clock: Arc::new(ManualClock::at(now)), address, stop }
    }

    pub fn client(&self) -> Client {
        self.client_with("sandbox")
    }

    pub fn client_with(&self, key: &str) -> Client {
        let options = Options {
            api_base: self.address.clone(),
            timeout_ms: 2_000,
            requests_per_second: 10_000,
            requests_at_once: 8,
        };
        let http = Http::new(Duration::from_secs(1)).unwrap();
        Client::new(&options, Secret::new(key), &http, self.clock.clone()).unwrap()
    }

    /// Moves both clocks.
    pub fn set_now(&self, now: &str) {
        self.clock.set(now.parse().unwrap());
        self.stripe.set_now(now.parse().unwrap());
    }

    pub fn own(&self, object: Value) {
        self.stripe.load_object(&Realm::own(true), object).unwrap();
    }

    /// Has Stripe know the events of a story.
    pub fn tell(&self, key: &str, version: &str) {
        for body in story(key, version) {
            self.stripe.load_event(serde_json::from_slice(&body).unwrap()).unwrap();
        }
    }

    /// How the next `count` calls of an operation end.
    pub fn misbehave(&self, operation: &str, count: u32, fault: Fault) {
        let rule = Rule { operation: operation.to_owned(), about: None, count: Some(count), fault };
        self.stripe.stage().misbehave(Faults { script: vec![rule], ..Faults::default() }).unwrap();
    }

    /// How many calls of an operation there were.
    pub fn calls(&self, operation: &str) -> u64 {
        self.stripe.stage().calls().get(operation).map_or(0, |endings| endings.values().sum())
    }
}

/// The bodies of a story in one version, in the order of its steps.
pub fn story(key: &str, version: &str) -> Vec<Vec<u8>> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/testdata/stripe"));
    let manifest: Value = serde_json::from_slice(&std::fs::read(root.join("manifest.json")).unwrap()).unwrap();
    let stories = manifest["stories"].as_array().unwrap();
    let story = stories.iter().find(|story| story["story"] == key).unwrap();
    let files = story["steps"].as_array().unwrap().iter().filter_map(|step| step["files"][version].as_str());
    files.map(|file| std::fs::read(root.join(file)).unwrap()).collect()
}

/// A list as it stands in an object.
pub fn list(elements: impl IntoIterator<Item = Value>) -> Value {
    let elements = Value::Array(elements.into_iter().collect());
    json!({"object": "list", "data": elements, "has_more": false})
}
