//! What only the stub does, with everything it can do wrong; and the engines that hold nothing. What all engines promise is in
//! `tests/engines`.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_engine::key::LicenseKey;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_issuer::outbound::Http;
use keyledger_issuer::provider::builtin::Builtin;
use keyledger_issuer::provider::stub::faults::{Fault, Faults, Matching, Operation, Rule, Search};
use keyledger_issuer::provider::stub::wire::{License, State, Stats};
use keyledger_issuer::provider::stub::{Options, Stub, run};
use keyledger_issuer::provider::unmanaged::Unmanaged;
use keyledger_issuer::provider::{CallError, Change, Create, Held, Provider, ProviderError, Sale, Target, Terms};
use keyledger_schemas::ids::{LicenseId, ProviderName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Long enough for a busy machine; only calls that are meant to run out of time take a shorter one.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stub engine on loopback.
struct Engine {
    dir: TempDir,
    base_url: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
    http: reqwest::Client,
}

impl Engine {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(dir: TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, dir.path().to_owned(), stop.clone()));
        Self { dir, base_url, stop, task, http: keyledger_test_servers::http::client() }
    }

    /// Stops it and starts it again on the same directory (and another port).
    async fn restarted(self) -> Self {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
        Self::start_in(self.dir).await
    }

    fn provider(&self) -> Stub {
        self.provider_with(PATIENCE)
    }

    fn provider_with(&self, timeout: Duration) -> Stub {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap();
        stub(&Options { base_url: self.base_url.clone(), timeout_ms, ..Options::default() })
    }

    async fn misbehave(&self, faults: &Faults) {
        let answer = self.http.put(format!("{}/control/faults", self.base_url)).json(faults).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// Misbehaves for the next call of `operation`.
    async fn once(&self, operation: Operation, fault: Fault) {
        let rule = Rule { operation, product: None, count: Some(1), fault };
        self.misbehave(&Faults { script: vec![rule], ..Faults::default() }).await;
    }

    async fn stats(&self) -> Stats {
        self.http.get(format!("{}/control/stats", self.base_url)).send().await.unwrap().json().await.unwrap()
    }

    async fn license(&self, id: &str) -> License {
        self.http.get(format!("{}/licenses/{id}", self.base_url)).send().await.unwrap().json().await.unwrap()
    }

    /// Waits until `count` licenses were made; a call that nobody waits for is done at its own pace.
    async fn settles_at(&self, count: u64) {
        eventually(|| async { self.stats().await.licenses == count }).await;
    }
}

async fn serve(listener: TcpListener, dir: std::path::PathBuf, stop: CancellationToken) {
    run(listener, Path::new(&dir), stop).await.unwrap();
}

/// Asks until it is so; panics when it does not become so.
async fn eventually<F: Future<Output = bool>>(mut ask: impl FnMut() -> F) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap();
}

fn stub(options: &Options) -> Stub {
    Stub::new(ProviderName::from("stub"), options, &Http::new(Duration::from_secs(2)).unwrap()).unwrap()
}

fn builtin() -> Builtin {
    Builtin::new(Arc::new(keys()))
}

fn keys() -> DeploymentKeys {
    DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])
}

fn terms(expires_at: Option<&str>, seats: u32, features: &[&str]) -> Terms {
    Terms {
        expires_at: expires_at.map(|at| at.parse::<Timestamp>().unwrap()),
        seats,
        features: features.iter().map(|&name| name.to_owned()).collect(),
        max_release: None,
    }
}

fn request(number: u128) -> Create {
    let license = LicenseId(Uuid::from_u128(number));
    Create {
        license,
        reference: format!("kl-{}", license.0.simple()),
        product: "pro".to_owned(),
        terms: terms(Some("2027-01-04T00:00:00Z"), 3, &["export"]),
        options: [].into(),
        sale: Sale { purchase: "sub_1".to_owned(), ..Sale::default() },
        customer: Some("cus_1".to_owned()),
        owner: None,
    }
}

fn target(request: &Create, held: &Held) -> Target {
    Target {
        license: request.license,
        reference: request.reference.clone(),
        provider_id: held.provider_id.clone(),
        product: request.product.clone(),
    }
}

/// How a call ended, in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    Done,
    Refused,
    Unavailable(Option<u64>),
    Indeterminate,
}

fn ended<T>(result: &Result<T, ProviderError>) -> Ended {
    match result {
        Ok(_) => Ended::Done,
        Err(ProviderError::Refused { .. }) => Ended::Refused,
        Err(ProviderError::Unavailable { retry_after, .. }) => {
            Ended::Unavailable(retry_after.map(|after| after.as_secs()))
        }
        Err(ProviderError::Indeterminate { .. }) => Ended::Indeterminate,
    }
}

// The built-in engine.

#[tokio::test]
async fn the_builtin_engine_makes_the_same_license_however_often_it_is_asked() {
    let (first, again) = (builtin().create(&request(1)).await.unwrap(), builtin().create(&request(1)).await.unwrap());
    assert_eq!(first.key.as_ref().unwrap().expose(), again.key.unwrap().expose());
    assert_eq!(first.provider_id, again.provider_id);
    assert_eq!(first.provider_id, request(1).license.to_string());
    let key = LicenseKey::parse(first.key.unwrap().expose()).unwrap();
    assert_eq!(key, LicenseKey::derive(&keys(), request(1).license));
}

// An engine that is not configured.

#[tokio::test]
async fn an_unmanaged_engine_makes_nothing_and_lets_every_change_pass() {
    let provider = Unmanaged::new(ProviderName::from("cryptolens"));
    assert_eq!(ended(&provider.create(&request(1)).await), Ended::Refused);
    let adopted = Held { provider_id: "4711".to_owned(), reference: String::new(), key: None, also: [].into() };
    for change in [Change::Suspend, Change::Reinstate, Change::Revoke, Change::Terms(terms(None, 1, &[]))] {
        provider.change(&target(&request(1), &adopted), &change).await.unwrap();
    }
    assert!(provider.find("kl-1", "pro").await.unwrap().is_empty());
}

// The stub, well behaved.

#[tokio::test]
async fn the_stub_keeps_what_it_was_told_over_a_restart() {
    let engine = Engine::start().await;
    let request = request(1);
    let held = engine.provider().create(&request).await.unwrap();
    assert!(held.key.unwrap().expose().starts_with("STUB-"));
    let engine = engine.restarted().await;
    let found = engine.provider().find(&request.reference, "pro").await.unwrap();
    assert_eq!(found.len(), 1);
    let target = target(&request, &found[0]);
    let new = terms(None, 7, &["a"]);
    engine.provider().change(&target, &Change::Terms(new)).await.unwrap();
    engine.provider().change(&target, &Change::Suspend).await.unwrap();
    let engine = engine.restarted().await;
    let license = engine.license(&target.provider_id).await;
    assert_eq!((license.expires_at, license.seats, license.state), (None, Some(7), State::Suspended));
    assert_eq!(license.features, ["a".to_owned()].into());
    assert_eq!(license.purchase, "sub_1");
    assert_eq!(engine.stats().await.creates_by_reference, BTreeMap::from([(request.reference, 1)]));
}

#[tokio::test]
async fn the_stub_counts_two_licenses_for_one_reference() {
    let engine = Engine::start().await;
    let (provider, request) = (engine.provider(), request(1));
    let both = tokio::join!(provider.create(&request), provider.create(&request));
    assert_ne!(both.0.unwrap().provider_id, both.1.unwrap().provider_id);
    assert_eq!(engine.stats().await.creates_per_reference_max, 2);
    assert_eq!(provider.find(&request.reference, "pro").await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_stub_counts_a_license_with_zero_seats_as_unlimited() {
    let engine = Engine::start().await;
    let body = serde_json::json!(
        {"reference": "kl-1", "product": "pro", "purchase": "sub_1", "expires_at": null, "seats": 0}
    );
    engine.http.post(format!("{}/licenses", engine.base_url)).json(&body).send().await.unwrap();
    assert_eq!(engine.stats().await.unlimited, 1);
}

#[tokio::test]
async fn a_change_sets_everything_it_says_and_nothing_else() {
    let engine = Engine::start().await;
    let request = request(1);
    let target = target(&request, &engine.provider().create(&request).await.unwrap());
    for (change, state) in [
        (Change::Suspend, State::Suspended),
        (Change::Reinstate, State::Active),
        (Change::Revoke, State::Revoked),
        (Change::Terms(request.terms.clone()), State::Revoked),
        (Change::Reinstate, State::Active),
    ] {
        engine.provider().change(&target, &change).await.unwrap();
        let license = engine.license(&target.provider_id).await;
        assert_eq!(license.state, state, "{change:?}");
        assert_eq!((license.expires_at, license.seats), (request.terms.expires_at, Some(3)), "{change:?}");
    }
}

#[tokio::test]
async fn only_the_exact_reference_is_found_among_decoys_and_sloppy_hits() {
    let engine = Engine::start().await;
    let provider = engine.provider();
    let wanted = request(1);
    for reference in [
        wanted.reference.clone(),
        format!("{}0", wanted.reference),
        format!("x{}", wanted.reference),
        wanted.reference[..wanted.reference.len() - 1].to_owned(),
        wanted.reference.to_uppercase(),
    ] {
        provider.create(&Create { reference, ..wanted.clone() }).await.unwrap();
    }
    for matching in [Matching::Exact, Matching::Contains] {
        engine.misbehave(&Faults { search: Search { lag_ms: 0, matching }, ..Faults::default() }).await;
        let found = provider.find(&wanted.reference, "pro").await.unwrap();
        assert_eq!(found.len(), 1, "{matching:?}");
        assert_eq!(found[0].reference, wanted.reference);
    }
}

#[tokio::test]
async fn a_reference_with_any_characters_is_found_again() {
    let engine = Engine::start().await;
    let request = Create { reference: "a&b=c#d?e %20+ü/..".to_owned(), ..request(1) };
    engine.provider().create(&request).await.unwrap();
    assert_eq!(engine.provider().find(&request.reference, "pro").await.unwrap().len(), 1);
}

// The stub, misbehaving.

fn fail(status: u16, retry_after_s: Option<u64>) -> Fault {
    Fault::Fail { status, retry_after_s }
}

#[tokio::test]
async fn every_fault_ends_in_its_answer_and_makes_what_it_says() {
    let engine = Engine::start().await;
    let slow = Fault::Slow { delay_ms: 50 };
    let refuse = Fault::Refuse { reason: "no such product".to_owned() };
    let cases = [
        (slow, Ended::Done, 1),
        (Fault::CommitThenDrop, Ended::Indeterminate, 1),
        (Fault::CommitThenFail { status: 500 }, Ended::Indeterminate, 1),
        (Fault::CommitThenFail { status: 502 }, Ended::Indeterminate, 1),
        (Fault::CommitThenFail { status: 408 }, Ended::Indeterminate, 1),
        (Fault::CommitThenFail { status: 409 }, Ended::Indeterminate, 1),
        (Fault::CommitThenGarble, Ended::Indeterminate, 1),
        (Fault::Drop, Ended::Indeterminate, 0),
        (fail(500, None), Ended::Indeterminate, 0),
        (fail(503, None), Ended::Indeterminate, 0),
        (fail(503, Some(7)), Ended::Unavailable(Some(7)), 0),
        (fail(429, None), Ended::Unavailable(None), 0),
        (fail(429, Some(3)), Ended::Unavailable(Some(3)), 0),
        (fail(400, None), Ended::Refused, 0),
        (fail(401, None), Ended::Unavailable(None), 0),
        (fail(403, None), Ended::Refused, 0),
        (fail(404, None), Ended::Refused, 0),
        (refuse, Ended::Refused, 0),
    ];
    for (number, (fault, expected, made)) in (1..).zip(cases) {
        let request = request(number);
        // A new one each time: one that was asked for fewer calls keeps away for a while.
        let provider = engine.provider();
        engine.once(Operation::Create, fault.clone()).await;
        assert_eq!(ended(&provider.create(&request).await), expected, "{fault:?}");
        let found = engine.provider().find(&request.reference, "pro").await.unwrap();
        assert_eq!(found.len(), made, "{fault:?}");
    }
    assert_eq!(engine.stats().await.creates_per_reference_max, 1);
}

#[tokio::test]
async fn a_create_that_hangs_is_of_unknown_outcome_and_found_afterwards() {
    let engine = Engine::start().await;
    engine.once(Operation::Create, Fault::CommitThenHang).await;
    let after = Duration::from_millis(500);
    let error = engine.provider_with(after).create(&request(1)).await.unwrap_err();
    let ProviderError::Indeterminate { source: CallError::Timeout { after: waited } } = error else {
        panic!("{error:?}")
    };
    assert_eq!(waited, after);
    engine.settles_at(1).await;
    assert_eq!(engine.provider().find(&request(1).reference, "pro").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_hanging_call_does_not_keep_the_stub_from_stopping() {
    let engine = Engine::start().await;
    engine.once(Operation::Create, Fault::CommitThenHang).await;
    let provider = engine.provider();
    let hanging = tokio::spawn(async move { provider.create(&request(1)).await });
    engine.settles_at(1).await;
    let engine = engine.restarted().await;
    assert_eq!(ended(&hanging.await.unwrap()), Ended::Indeterminate);
    assert_eq!(engine.stats().await.licenses, 1);
}

#[tokio::test]
async fn a_dropped_connection_carries_no_byte_of_an_answer() {
    let engine = Engine::start().await;
    engine.once(Operation::Find, Fault::CommitThenDrop).await;
    let mut stream = TcpStream::connect(engine.base_url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(b"GET /licenses?reference=x HTTP/1.1\r\nhost: stub\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_err() || answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn nobody_listening_and_no_such_host_are_unavailable() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for base_url in [format!("http://{free}"), "http://keyledger-test.invalid:1".to_owned()] {
        let provider = stub(&Options { base_url: base_url.clone(), ..Options::default() });
        assert_eq!(ended(&provider.create(&request(1)).await), Ended::Unavailable(None), "{base_url}");
        assert_eq!(ended(&provider.find("kl-1", "pro").await), Ended::Unavailable(None), "{base_url}");
    }
}

#[tokio::test]
async fn a_refusal_says_why_in_the_engines_words() {
    let engine = Engine::start().await;
    let reason = format!("no such product {}", "x".repeat(1000));
    engine.once(Operation::Create, Fault::Refuse { reason }).await;
    let error = engine.provider().create(&request(1)).await.unwrap_err();
    let ProviderError::Refused { reason } = error else { panic!("{error:?}") };
    assert!(reason.starts_with("status 422: no such product x"), "{reason}");
    assert!(reason.len() < 300);
}

#[tokio::test]
async fn a_rule_for_one_product_leaves_the_others_alone() {
    let engine = Engine::start().await;
    let basic = Create { product: "basic".to_owned(), ..request(2) };
    let held = engine.provider().create(&basic).await.unwrap();
    let fault = Fault::Refuse { reason: "no".to_owned() };
    let rule = Rule { operation: Operation::Any, product: Some("basic".to_owned()), count: None, fault };
    engine.misbehave(&Faults { script: vec![rule], ..Faults::default() }).await;
    engine.provider().create(&request(1)).await.unwrap();
    assert_eq!(ended(&engine.provider().create(&basic).await), Ended::Refused);
    assert_eq!(ended(&engine.provider().change(&target(&basic, &held), &Change::Suspend).await), Ended::Refused);
}

#[tokio::test]
async fn a_search_that_lags_sees_a_new_license_later_and_by_its_id_at_once() {
    let engine = Engine::start().await;
    let lagging = |lag_ms| Faults { search: Search { lag_ms, ..Search::default() }, ..Faults::default() };
    engine.misbehave(&lagging(600_000)).await;
    let held = engine.provider().create(&request(1)).await.unwrap();
    assert!(engine.provider().find(&request(1).reference, "pro").await.unwrap().is_empty());
    assert_eq!(engine.license(&held.provider_id).await.reference, request(1).reference);
    engine.misbehave(&lagging(200)).await;
    eventually(|| async { engine.provider().find(&request(1).reference, "pro").await.unwrap().len() == 1 }).await;
}

#[tokio::test]
async fn an_engine_can_be_told_that_revoked_is_final() {
    let engine = Engine::start().await;
    let request = request(1);
    let target = target(&request, &engine.provider().create(&request).await.unwrap());
    engine.misbehave(&Faults { revoked_is_final: true, ..Faults::default() }).await;
    engine.provider().change(&target, &Change::Revoke).await.unwrap();
    assert_eq!(ended(&engine.provider().change(&target, &Change::Reinstate).await), Ended::Refused);
    engine.provider().change(&target, &Change::Revoke).await.unwrap();
}

#[tokio::test]
async fn calls_that_are_not_understood_are_answered_and_change_nothing() {
    let engine = Engine::start().await;
    let send = |method: reqwest::Method, path: &str, body: &'static str| {
        let request = engine.http.request(method, format!("{}{path}", engine.base_url));
        request.header("content-type", "application/json").body(body).send()
    };
    for (method, path, body, status) in [
        (reqwest::Method::POST, "/licenses", "{", 400),
        (reqwest::Method::POST, "/licenses", "{}", 400),
        (reqwest::Method::PATCH, "/licenses/x", r#"{"seat":1}"#, 400),
        (reqwest::Method::PATCH, "/licenses/x", "{}", 404),
        (reqwest::Method::GET, "/licenses/x", "", 404),
        (reqwest::Method::GET, "/licenses", "", 400),
        (reqwest::Method::PUT, "/control/faults", r#"{"scripts":[]}"#, 422),
        (
            reqwest::Method::PUT,
            "/control/faults",
            r#"{"mix":{"seed":1,"faults":[{"operation":"any","probability":2,"fault":{"kind":"drop"}}]}}"#,
            422,
        ),
        (reqwest::Method::GET, "/elsewhere", "", 404),
    ] {
        assert_eq!(send(method.clone(), path, body).await.unwrap().status(), status, "{method} {path} {body}");
    }
    assert_eq!(engine.stats().await.licenses, 0);
}
