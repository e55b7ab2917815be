//! Ten thousand requests that nobody should send, from a seeded generator: right status each, and business as usual
//! afterwards.

use std::sync::Arc;

use futures::StreamExt;
use keyledger_ingest::options::Options;
use keyledger_ingest::signature;
use keyledger_schemas::secret::Secret;
use reqwest::{Method, StatusCode};

use super::support::{SECRET, Service, event, options, source, start_of_test};

const REQUESTS: u64 = 10_000;
const AT_ONCE: usize = 32;
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A small generator (splitmix64), so that every run sends the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(u64::try_from(length).unwrap())).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.roll(256)).unwrap()).collect()
    }
}

struct Hostile {
    what: &'static str,
    method: Method,
    path: String,
    header: Option<Vec<u8>>,
    body: Vec<u8>,
    expected: StatusCode,
}

fn sign(secret: &str, body: &[u8], age_seconds: i64) -> Vec<u8> {
    let at = start_of_test() - jiff::SignedDuration::from_secs(age_seconds);
    signature::sign(&Secret::new(secret), body, at).into_bytes()
}

/// A request, and the only right answer to it.
fn hostile(number: u64) -> Hostile {
    let mut dice = Dice(number);
    let good = event(&format!("evt_{number}"), "invoice.paid");
    let truncated = good[..dice.index(good.len())].to_vec();
    let length = dice.index(2000);
    let noise = dice.bytes(length);
    let refused = StatusCode::BAD_REQUEST;
    let post = |what, header: Option<Vec<u8>>, body: Vec<u8>, expected| Hostile {
        what,
        method: Method::POST,
        path: "/webhooks/stripe".to_owned(),
        header,
        body,
        expected,
    };
    match number % 16 {
        0 => post("unsigned", None, good, refused),
        1 => post("signed with another secret", Some(sign("whsec_other", &good, 0)), good, refused),
        2 => post("signed long ago", Some(sign(SECRET, &good, 301 + number.cast_signed())), good, refused),
        3 => post("truncated after signing", Some(sign(SECRET, &good, 0)), truncated, refused),
        4 => post("truncated before signing", Some(sign(SECRET, &truncated, 0)), truncated, refused),
        5 => post("signed noise", Some(sign(SECRET, &noise, 0)), noise, refused),
        6 => {
            let header = noise.iter().map(|byte| byte % 95 + 32).collect();
            post("noise for a signature", Some(header), good, refused)
        }
        7 => {
            let header = noise.iter().map(|byte| byte | 0x80).collect();
            post("a signature that is no text", Some(header), good, refused)
        }
        8 => {
            let mut changed = good.clone();
            let at = dice.index(changed.len());
            changed[at] ^= u8::try_from(dice.roll(255) + 1).unwrap();
            post("one byte changed", Some(sign(SECRET, &good, 0)), changed, refused)
        }
        9 => {
            let more = dice.index(100_000);
            let body = vec![b'x'; BODY_BYTES_MAX + 1 + more];
            post("too large", Some(sign(SECRET, &body, 0)), body, StatusCode::PAYLOAD_TOO_LARGE)
        }
        10 => {
            let wrong = wrongly_typed(&mut dice);
            post("signed, of the wrong shape", Some(sign(SECRET, &wrong, 0)), wrong, refused)
        }
        11 => {
            let mut request =
                post("of a source that is not", Some(sign(SECRET, &good, 0)), good, StatusCode::NOT_FOUND);
            request.path = format!("/webhooks/stripe/{}", "s".repeat(1 + dice.index(200)));
            request
        }
        12 => {
            let methods = [Method::PUT, Method::DELETE, Method::PATCH, Method::GET];
            let mut request = post("of a wrong method", None, good, StatusCode::METHOD_NOT_ALLOWED);
            request.method = methods[dice.index(methods.len())].clone();
            request
        }
        13 => {
            let body = format!("{}{}", "[".repeat(1 + dice.index(20_000)), "]".repeat(dice.index(20_000))).into_bytes();
            post("signed, nested deeply", Some(sign(SECRET, &body, 0)), body, refused)
        }
        14 => {
            let header = format!("t={},{}", start_of_test().as_second(), "v1=00,".repeat(dice.index(200)));
            post("of many signatures", Some(header.into_bytes()), good, refused)
        }
        _ => {
            let mut request = post("of a path that is not", None, noise, StatusCode::NOT_FOUND);
            request.path = format!("/webhooks/{number}/../%00%ff//");
            request
        }
    }
}

/// JSON that is almost an event.
fn wrongly_typed(dice: &mut Dice) -> Vec<u8> {
    const WRONG: [&str; 8] = [
        r#"{"id":17,"object":"event","type":"invoice.paid","livemode":true,"data":{"object":{}}}"#,
        r#"{"id":"evt_1","object":"event","type":null,"livemode":true,"data":{"object":{}}}"#,
        r#"{"id":"evt_1","object":"event","type":"invoice.paid","livemode":"yes","data":{"object":{}}}"#,
        r#"{"id":"","object":"event","type":"invoice.paid","livemode":true,"data":{"object":{}}}"#,
        r#"{"id":{"id":"evt_1"},"object":"event","type":["invoice.paid"],"livemode":true}"#,
        r#"[{"id":"evt_1","object":"event","type":"invoice.paid","livemode":true}]"#,
        r#""evt_1""#,
        r#"{"id":"evt_1","object":"event","type":"invoice.paid","livemode":true}{}"#,
    ];
    WRONG[dice.index(WRONG.len())].as_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_requests_have_the_right_answer_and_harm_nothing() {
    let options = Options { body_bytes_max: BODY_BYTES_MAX, ..options() };
    let mut service = Service::with(options, vec![source("default", &[SECRET])]).await;
    let (client, url) = (service.client.clone(), Arc::new(service.url("")));
    let wrong: Vec<String> = futures::stream::iter(0..REQUESTS)
        .map(|number| {
            let (client, url) = (client.clone(), Arc::clone(&url));
            async move {
                let hostile = hostile(number);
                let mut request = client.request(hostile.method, format!("{url}{}", hostile.path)).body(hostile.body);
                if let Some(header) = hostile.header {
                    request = request.header(signature::HEADER, header);
                }
                match request.send().await {
                    Ok(response) if response.status() == hostile.expected => None,
                    Ok(response) => Some(format!("request {number}, {}: {}", hostile.what, response.status())),
                    Err(error) => Some(format!("request {number}, {}: {error:?}", hostile.what)),
                }
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    assert!(wrong.is_empty(), "{} of {REQUESTS}, such as {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);

    assert_eq!(service.post(&event("evt_good", "invoice.paid")).await, StatusCode::OK);
    service.stopped().await;
    let mut kinds = service.kinds().await;
    kinds.sort();
    assert_eq!(kinds, ["ingest.body_refused", "ingest.body_refused", "stripe.invoice.paid"]);
}
