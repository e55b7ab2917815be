//! Ten thousand requests that no honest sender makes, against the real process: each is answered rightly, nothing panics,
//! memory stays bounded, and a good request afterwards works.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use keyledger_ingest::signature;
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::secret::Secret;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::deployment::Deployment;
use crate::support::client::Caller;
use crate::support::random::Random;
use crate::support::setup::{Setup, TOKEN, secret_of};
use crate::support::stories::{self, VERSIONS, story};
use crate::support::wait::{PATIENCE, until};

/// How many requests there are in all.
const REQUESTS: usize = 10_000;

/// Of these, how many are over before memory is measured for the first time.
const WARM_UP: usize = 2_500;

/// How many are in flight.
const AT_ONCE: usize = 32;

/// How much more memory may be in use at the end than after the warm-up. The requests in between carry over 20 MiB: if
/// they were kept, it would show.
const GROWTH_KIB_MAX: u64 = 12 * 1024;

/// The source that takes what is wrongly typed but rightly signed.
const JUNK: &str = "junk";

/// Everything that hostile requests are made of.
struct Attack<'a> {
    caller: &'a Caller,
    bodies: Vec<Vec<u8>>,
}

#[tokio::test]
async fn ten_thousand_hostile_requests_are_answered_rightly_and_leave_nothing_behind() {
    let sources = ["default", JUNK].map(str::to_owned).to_vec();
    let deployment = Deployment::new(&Setup { sources, ..Setup::default() });
    let mut service = deployment.up().await;
    let bodies = stories::all().iter().flat_map(|story| story.bodies(VERSIONS[1])).collect();
    let attack = Attack { caller: &service.client, bodies };

    attack.run(0..WARM_UP).await;
    service.caught_up().await;
    let before = service.process.resident_kib();
    attack.run(WARM_UP..REQUESTS).await;
    service.caught_up().await;
    let after = service.process.resident_kib();
    assert!(after < before + GROWTH_KIB_MAX, "{before} KiB after the warm-up, {after} KiB at the end");

    assert!(service.process.is_running());
    service.post_all("default", &story("b").bodies(VERSIONS[1])).await;
    service.caught_up().await;
    assert_eq!(service.list("/licenses?source=default").await.len(), 1);
    // Strangers cannot flood the log: of all that was too large there are two events an hour, and two hours may meet here.
    let refused = service.list("/events?type=ingest.body_refused").await;
    assert!((1..=4).contains(&refused.len()), "{}", refused.len());
    assert_eq!(service.list("/events?source=default&type=stripe.*").await.len(), 4);
    // What was counted since then is recorded while stopping, and still read before the process leaves.
    deployment.finish(service).await;
}

impl Attack<'_> {
    async fn run(&self, numbers: std::ops::Range<usize>) {
        let wrong: Vec<String> = stream::iter(numbers)
            .map(|number| self.one(number))
            .buffer_unordered(AT_ONCE)
            .filter_map(async |outcome| outcome.err())
            .collect()
            .await;
        let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &wrong {
            *counted.entry(line.as_str()).or_default() += 1;
        }
        assert!(wrong.is_empty(), "{counted:#?}");
    }

    /// One request, and what is wrong with its answer.
    async fn one(&self, number: usize) -> Result<(), String> {
        let mut random = Random::new(u64::try_from(number).unwrap());
        let (name, expected, status) = match number % 20 {
            0 => ("unsigned", 400, self.headers(&[]).await),
            1 => ("two signatures", 400, self.headers(&["t=1,v1=00", "t=1,v1=00"]).await),
            2 => ("garbage as a signature", 400, self.headers(&[&garbage_header(&mut random)]).await),
            3 => ("a stranger's signature", 400, self.signed("default", "whsec_of_a_stranger", 0, &mut random).await),
            4 => ("another source's signature", 400, self.signed("default", &secret_of(JUNK), 0, &mut random).await),
            5 => ("an old signature", 400, self.signed("default", &secret_of("default"), 301, &mut random).await),
            6 => ("a changed body", 400, self.changed_after_signing(&mut random).await),
            7 => ("a truncated event", 400, self.truncated_event(&mut random).await),
            8 => ("signed noise", 400, self.post("default", noise(&mut random)).await),
            9 => ("JSON that is no event", 400, self.post("default", no_event(&mut random)).await),
            10..=13 => (
                "an event with wrong types inside",
                200,
                self.post(JUNK, self.wrongly_typed(number, &mut random)).await,
            ),
            14 => ("a source that is not there", 404, self.post("nobody", self.any_body(&mut random)).await),
            15 => self.a_wrong_address(&mut random).await,
            16 => ("a body said to be too large", 413, self.raw(&too_large()).await),
            17 => ("a body that ends early", 400, self.raw(&cut_short(&mut random)).await),
            18 => ("bytes that are not HTTP", 400, self.raw(&not_http(&mut random)).await),
            _ => self.ask_the_api(&mut random).await,
        };
        if status == expected { Ok(()) } else { Err(format!("{name}: {status}, not {expected}")) }
    }

    fn any_body(&self, random: &mut Random) -> Vec<u8> {
        self.bodies[random.below(self.bodies.len())].clone()
    }

    async fn send(&self, source: &str, header: &str, body: Vec<u8>) -> u16 {
        self.caller.post_with(source, header, body).await.map_or(0, |status| status.as_u16())
    }

    /// Rightly signed.
    async fn post(&self, source: &str, body: Vec<u8>) -> u16 {
        self.caller.try_post(source, &body).await.map_or(0, |status| status.as_u16())
    }

    /// A good event with these signature headers.
    async fn headers(&self, headers: &[&str]) -> u16 {
        let url = format!("{}/webhooks/stripe", self.caller.ingest);
        let mut request = self.caller.http.post(url).body(self.bodies[0].clone());
        for header in headers {
            request = request.header(signature::HEADER, *header);
        }
        request.send().await.map_or(0, |answer| answer.status().as_u16())
    }

    /// A good event, signed with `secret` so many seconds ago.
    async fn signed(&self, source: &str, secret: &str, seconds_ago: i64, random: &mut Random) -> u16 {
        let body = self.any_body(random);
        let at = SystemClock.now() - jiff::SignedDuration::from_secs(seconds_ago);
        let header = signature::sign(&Secret::new(secret), &body, at);
        self.send(source, &header, body).await
    }

    async fn changed_after_signing(&self, random: &mut Random) -> u16 {
        let mut body = self.any_body(random);
        let header = signature::sign(&Secret::new(secret_of("default")), &body, SystemClock.now());
        let place = random.below(body.len());
        body[place] ^= 1 << random.below(8);
        self.send("default", &header, body).await
    }

    /// What a proxy that cuts bodies would sign, if it could.
    async fn truncated_event(&self, random: &mut Random) -> u16 {
        let mut body = self.any_body(random);
        let length = random.below(body.len() - 1);
        body.truncate(length);
        self.post("default", body).await
    }

    /// A real event with some values replaced by others of any type. It is Stripe's by its signature, so it is kept.
    fn wrongly_typed(&self, number: usize, random: &mut Random) -> Vec<u8> {
        let mut event: Value = serde_json::from_slice(&self.any_body(random)).unwrap();
        event["id"] = json!(format!("evt_junk{number}"));
        for _ in 0..=random.below(8) {
            let object = &mut event["data"];
            *anywhere_in(object, random) = any_value(random);
        }
        serde_json::to_vec(&event).unwrap()
    }

    async fn a_wrong_address(&self, random: &mut Random) -> (&'static str, u16, u16) {
        let ask = async |method: Method, path: &str| {
            let url = format!("{}{path}", self.caller.ingest);
            self.caller.http.request(method, url).send().await.map_or(0, |answer| answer.status().as_u16())
        };
        match random.below(5) {
            0 => ("a path that is not there", 404, ask(Method::POST, "/webhooks/paddle").await),
            1 => ("a path that climbs", 404, ask(Method::GET, "/webhooks/%2e%2e/%2e%2e/etc/passwd").await),
            2 => ("reading a webhook", 405, ask(Method::GET, "/webhooks/stripe").await),
            3 => ("deleting a webhook", 405, ask(Method::DELETE, "/webhooks/stripe/default").await),
            _ => ("a name that is not text", 404, ask(Method::POST, "/webhooks/stripe/%ff%fe").await),
        }
    }

    async fn ask_the_api(&self, random: &mut Random) -> (&'static str, u16, u16) {
        let ask = async |token: Option<&str>, method: Method, path: &str, body: &str| {
            let mut request = self.caller.http.request(method, format!("{}/api/v1{path}", self.caller.api));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let request = request.header("content-type", "application/json").body(body.to_owned());
            request.send().await.map_or(0, |answer| answer.status().as_u16())
        };
        let (own, get) = (Some(TOKEN), Method::GET);
        match random.below(9) {
            0 => ("the API without a token", 401, ask(None, get, "/customers", "").await),
            1 => ("the API with a wrong token", 401, ask(Some("guessed"), get, "/customers", "").await),
            2 => ("a mode that is not there", 400, ask(own, get, "/licenses?mode=prod", "").await),
            3 => ("a parameter that is not there", 400, ask(own, get, "/licenses?limt=1", "").await),
            4 => ("a time that is none", 400, ask(own, get, "/licenses?at=yesterday", "").await),
            5 => ("a cursor that is none", 400, ask(own, get, "/customers?after=%00%ff", "").await),
            6 => ("a license that is not there", 404, ask(own, get, "/licenses/%27%20or%201%3D1", "").await),
            7 => {
                ("a waiver that is no JSON", 400, ask(own, Method::POST, "/cases/kl_cas_0/waive", "{\"reason\":").await)
            }
            _ => ("a route that is not there", 404, ask(own, get, "/secrets", "").await),
        }
    }

    /// Sends bytes as they are and says which status came back; 0 for none.
    async fn raw(&self, request: &[u8]) -> u16 {
        let address = self.caller.ingest.trim_start_matches("http://");
        let talk = async {
            let mut stream = TcpStream::connect(address).await?;
            // The service may answer and close before it has everything.
            let _ = stream.write_all(request).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(20), talk).await else { return 0 };
        let line = String::from_utf8_lossy(&answer);
        line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

fn garbage_header(random: &mut Random) -> String {
    let now = SystemClock.now().as_second();
    match random.below(6) {
        0 => String::new(),
        1 => "v1=".to_owned(),
        2 => format!("t={now},v1={}", "0".repeat(64)),
        3 => format!("t={now},v0={}", "a".repeat(64)),
        4 => format!("t=99999999999999999999,v1={}", "f".repeat(64)),
        _ => "v1=f,".repeat(random.below(1000)),
    }
}

fn noise(random: &mut Random) -> Vec<u8> {
    (0..random.below(4096)).map(|_| u8::try_from(random.below(256)).unwrap()).collect()
}

/// Deep, wide, or just something else.
fn no_event(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => b"null".to_vec(),
        1 => b"[]".to_vec(),
        2 => "[".repeat(100_000).into_bytes(),
        3 => format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000)).into_bytes(),
        4 => json!({"id": 7, "object": "event", "type": "invoice.paid"}).to_string().into_bytes(),
        _ => json!({"object": "event", "type": ["invoice.paid"], "data": {}}).to_string().into_bytes(),
    }
}

fn any_value(random: &mut Random) -> Value {
    match random.below(10) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(u64::MAX),
        3 => json!(i64::MIN),
        4 => json!(1e308),
        5 => json!("x".repeat(random.below(2000))),
        6 => json!([]),
        7 => json!({}),
        8 => json!([{"data": [[[]]]}, null, true]),
        _ => json!("\u{0}\u{202e}\u{1F600}"),
    }
}

/// Some value inside of `value`, or `value` itself.
fn anywhere_in<'a>(value: &'a mut Value, random: &mut Random) -> &'a mut Value {
    let is_leaf = match &*value {
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    };
    if is_leaf || random.below(12) == 0 {
        return value;
    }
    match value {
        Value::Array(list) => {
            let index = random.below(list.len());
            anywhere_in(&mut list[index], random)
        }
        Value::Object(fields) => {
            let index = random.below(fields.len());
            anywhere_in(fields.values_mut().nth(index).unwrap(), random)
        }
        leaf => leaf,
    }
}

fn too_large() -> Vec<u8> {
    b"POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n{".to_vec()
}

/// Announces more than it sends, and leaves.
fn cut_short(random: &mut Random) -> Vec<u8> {
    let sent = "x".repeat(random.below(2000));
    format!("POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 4000\r\n\r\n{sent}").into_bytes()
}

fn not_http(random: &mut Random) -> Vec<u8> {
    let mut bytes = b"\x16\x03\x01".to_vec();
    bytes.extend(noise(random));
    bytes.extend(b"\r\n\r\n");
    bytes
}

#[tokio::test]
async fn a_body_of_four_mebibytes_is_kept_whole_and_one_byte_more_is_a_case() {
    const LIMIT: usize = 4 * 1024 * 1024;
    let deployment = Deployment::new(&Setup::default());
    let service = deployment.up().await;
    let sized = |id: &str, size: usize| {
        let event = |padding: usize| {
            let object = json!({"object": "customer", "id": "cus_large", "description": "x".repeat(padding)});
            let event = json!({"id": id, "object": "event", "api_version": VERSIONS[1], "created": 1_785_402_941,
                "livemode": true, "type": "customer.updated", "data": {"object": object}});
            serde_json::to_vec(&event).unwrap()
        };
        event(size - event(0).len())
    };
    assert_eq!(service.try_post("default", &sized("evt_whole", LIMIT)).await.unwrap(), StatusCode::OK);
    // The service may close before it has read what it will not take.
    let refused = service.try_post("default", &sized("evt_larger", LIMIT + 1)).await;
    assert!(refused.is_err() || refused.unwrap() == StatusCode::PAYLOAD_TOO_LARGE);
    service.caught_up().await;
    let events = service.list("/events?type=stripe.*").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["size_bytes"], LIMIT);
    // The refusal is noted after it was answered.
    until("the case of the larger body", PATIENCE, async || {
        let count = service.open_cases("body_refused").await.len();
        if count == 1 { Ok(()) } else { Err(format!("{count} cases")) }
    })
    .await;
    deployment.finish(service).await;
}
