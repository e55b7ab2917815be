//! Any number of customers: copies of fixture events with ids of their own.

use serde_json::Value;

use super::stories::{Story, VERSIONS, story};

/// What an id begins with when each copy needs one of its own. Prices and products are shared.
const OWN: [&str; 14] =
    ["evt_", "sub_", "in_", "cus_", "si_", "ch_", "pi_", "cs_live_", "il_", "inpay_", "re_", "dp_", "ii_", "txn_"];

/// Ids are longer than this; words such as `in_progress` are not.
const ID_BYTES_MIN: usize = 16;

/// A purchase that happened: its events, and what they should lead to.
#[derive(Clone, Debug)]
pub struct History {
    /// Signed bodies in the order they happened.
    pub bodies: Vec<Vec<u8>>,
    /// The ids of its events.
    pub events: Vec<String>,
    /// The purchase, as Stripe names it.
    pub purchase: String,
    /// Whether it is still paid for at the end.
    pub is_paid: bool,
    /// The seats at the end.
    pub seats: u64,
}

/// A kind of history: steps of a story.
struct Kind {
    story: &'static str,
    steps: &'static [u64],
    is_paid: bool,
    seats: u64,
}

/// A renewed subscription, a one-off sale, a trial that is paid for, seats that change, and one that is refunded.
const KINDS: [Kind; 5] = [
    Kind { story: "a", steps: &[2, 5, 7, 18], is_paid: true, seats: 1 },
    Kind { story: "b", steps: &[1, 3, 4], is_paid: true, seats: 1 },
    Kind { story: "c", steps: &[2, 5, 14], is_paid: true, seats: 1 },
    Kind { story: "d", steps: &[2, 7, 12, 17, 20, 26], is_paid: true, seats: 3 },
    Kind { story: "e", steps: &[2, 5, 6, 7, 9, 12], is_paid: false, seats: 1 },
];

/// `count` histories, each kind in turn, in both API versions by turns.
pub fn histories(count: usize) -> Vec<History> {
    let stories: Vec<Story> = KINDS.iter().map(|kind| story(kind.story)).collect();
    let one = |index: usize| {
        let which = index % KINDS.len();
        let version = VERSIONS[index / KINDS.len() % VERSIONS.len()];
        history(&KINDS[which], &stories[which], version, index)
    };
    (0..count).map(one).collect()
}

fn history(kind: &Kind, story: &Story, version: &str, number: usize) -> History {
    let steps = kind.steps.iter().flat_map(|step| story.between(version, *step, *step));
    let events: Vec<Value> = steps
        .map(|body| {
            let mut event = serde_json::from_slice(&body).unwrap();
            rename(&mut event, &format!("x{number}"));
            event
        })
        .collect();
    let purchase = events.iter().find_map(purchase_of).unwrap();
    History {
        bodies: events.iter().map(|event| serde_json::to_vec_pretty(event).unwrap()).collect(),
        events: events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect(),
        purchase,
        is_paid: kind.is_paid,
        seats: kind.seats,
    }
}

fn purchase_of(event: &Value) -> Option<String> {
    let object = &event["data"]["object"];
    let is_purchase = object["object"] == "subscription" || object["object"] == "checkout.session";
    is_purchase.then(|| object["id"].as_str().unwrap().to_owned())
}

/// Gives every id a suffix, and takes out keys that another system is said to have made.
fn rename(value: &mut Value, suffix: &str) {
    match value {
        Value::String(text) => {
            if text.len() >= ID_BYTES_MIN && OWN.iter().any(|prefix| text.starts_with(prefix)) {
                text.push_str(suffix);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| rename(inner, suffix)),
        Value::Object(fields) => {
            fields.remove("skm_key_id");
            fields.values_mut().for_each(|inner| rename(inner, suffix));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
