//! The fixture stories, and tiny builders for events of our own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use keyledger_schemas::stripe::fact::{Fact, Link, ObjectRef};
use keyledger_schemas::stripe::facts;
use serde::Deserialize;
use serde_json::{Value, json};

/// The older of the two renderings.
pub const OLD: &str = "2024-06-20";
/// The newer of the two renderings.
pub const NEW: &str = "2026-07-29.dahlia";

/// The table of contents of the fixtures.
#[derive(Deserialize)]
struct Manifest {
    stories: Vec<Story>,
}

/// What happens to one buyer, or to a few.
#[derive(Deserialize)]
pub struct Story {
    pub story: String,
    pub steps: Vec<Step>,
}

/// One event of a story, in one or both renderings.
#[derive(Deserialize)]
pub struct Step {
    pub n: u32,
    #[serde(rename = "type")]
    pub kind: String,
    pub event_id: String,
    pub created: i64,
    pub only_in: Option<String>,
    pub files: BTreeMap<String, String>,
}

impl Step {
    /// The body in `version`, if Stripe sends this event there.
    pub fn body(&self, version: &str) -> Option<Vec<u8>> {
        self.files.get(version).map(|file| read(file))
    }
}

/// Every story.
pub fn stories() -> Vec<Story> {
    let manifest: Manifest = serde_json::from_slice(&read("manifest.json")).unwrap();
    manifest.stories
}

/// Every event body of every story, with its file's name.
pub fn bodies() -> Vec<(String, Vec<u8>)> {
    let files = stories().into_iter().flat_map(|story| story.steps).flat_map(|step| step.files.into_values());
    files.map(|file| (file.clone(), read(&file))).collect()
}

/// The bytes of one fixture file.
pub fn read(file: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/stripe").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The facts of a body given as a value.
pub fn facts_of(event: &Value) -> Vec<Fact> {
    facts(event.to_string().as_bytes())
}

/// An event of `kind` that shows `object`, made at second 1 500 000 000.
#[expect(clippy::needless_pass_by_value, reason = "`json!` is written in place")]
pub fn event(kind: &str, object: Value) -> Value {
    json!({"id": "evt_1", "object": "event", "type": kind, "created": 1_500_000_000, "livemode": true,
           "data": {"object": object}})
}

/// `object` with the fields of `extra`, which replace its own.
pub fn with(mut object: Value, extra: Value) -> Value {
    let (Value::Object(fields), Value::Object(extra)) = (&mut object, extra) else { panic!("objects") };
    fields.extend(extra);
    object
}

/// The facts of an event of `kind` that shows `object`.
pub fn shown(kind: &str, object: Value) -> Vec<Fact> {
    facts_of(&event(kind, object))
}

/// The moment `seconds` after 1970 began.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// The links among `facts`, as `child -> parent`.
pub fn links(facts: &[Fact]) -> Vec<String> {
    facts.iter().filter_map(link_of).map(|link| format!("{} -> {}", link.child.id(), link.parent.id())).collect()
}

/// The link that a fact is, if it is one.
pub fn link_of(fact: &Fact) -> Option<&Link> {
    match fact {
        Fact::Linked(link) => Some(link),
        _ => None,
    }
}

/// A charge as a payment.
pub fn charge(id: &str) -> ObjectRef {
    ObjectRef::Charge(id.into())
}

/// The one fact of a kind, taken out of its variant.
#[macro_export]
macro_rules! the {
    ($variant:ident, $facts:expr) => {{
        let mut found = $facts.into_iter().filter_map(|fact| match fact {
            keyledger_schemas::stripe::fact::Fact::$variant(seen) => Some(seen),
            _ => None,
        });
        let seen = found.next().expect(concat!("a ", stringify!($variant)));
        assert!(found.next().is_none(), concat!("just one ", stringify!($variant)));
        seen
    }};
}
