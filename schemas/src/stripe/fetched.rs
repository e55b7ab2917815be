//! What Stripe answered when it was asked, kept in the log so that replay needs no network.
//!
//! An event of kind `stripe.fetched.<object>` carries the answer exactly as Stripe gave it, in a frame that says what was asked
//! and when:
//!
//! ```json
//! {"keyledger_fetched": {"about": "in_1", "at": 1785402944, "object": "invoice", "path": "/v1/invoices/in_1?expand[]=payments"},
//!  "answer": {"id": "in_1", "object": "invoice"}}
//! ```
//!
//! [`super::facts`] reads it like a delivered event. Answers are sights of their object as it was when asked for, so that
//! anything that happened later wins over them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::value::{count, id, is_id, list, seconds};
use crate::envelope::{IdReuse, NewEvent, partition_of};
use crate::ids::{EventId, Scope, StreamId, StripeEventId};

/// Version of the frame.
const SCHEMA_VERSION: u32 = 1;

/// Data of `stripe.fetched.<object>`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Data {
    /// What was asked for. No event of Stripe's has such a field.
    keyledger_fetched: Frame,
    /// Stripe's answer as it came: one object, or a list of objects of one kind.
    answer: Value,
}

/// What was asked for, and when.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// The id of the object that the answer is about: its own, or for a list that of the object it belongs to.
    about: String,
    /// When it was so, in whole seconds since 1970.
    at: i64,
    /// Stripe's name for the kind of object: `invoice`, `checkout.session`, `invoice_payment` …
    object: String,
    /// Path and query of the request.
    path: String,
}

/// An answer of Stripe's, and what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Stripe's name for the kind of object: `invoice`, `checkout.session`, `invoice_payment` …
    pub object: String,
    /// The id of the object that the answer is about: its own, or for a list that of the object it belongs to.
    pub about: String,
    /// When it was so: no later than the answer, in whole seconds.
    pub at: Timestamp,
    /// What was asked: path and query.
    pub path: String,
    /// One object, or a list of objects of one kind.
    pub answer: Value,
}

impl Fetched {
    /// The event to append. `cause` is the event that made us ask, where one did.
    ///
    /// It stands in the stream of the object it is about, beside what Stripe delivered. The same answer at the same second
    /// is the same event.
    pub fn event(&self, scope: &Scope, cause: Option<&EventId>) -> NewEvent {
        let at = self.at.as_second();
        let id = EventId::new(format!("{scope}:{}:{at}", self.name()));
        NewEvent {
            kind: format!("stripe.fetched.{}", self.object),
            scope: scope.clone(),
            stream: StreamId::new(format!("stripe:{scope}:{}", self.about)),
            occurred_at: self.at,
            causation_id: cause.cloned(),
            correlation_id: Some(cause.unwrap_or(&id).clone()),
            schema_version: SCHEMA_VERSION,
            actor: None,
            partition: partition_of(self.customer().as_deref().unwrap_or(&self.about)),
            delivery: None,
            data: self.encode(),
            on_reuse: IdReuse::FirstWins,
            id,
        }
    }

    /// The event's data.
    pub fn encode(&self) -> Vec<u8> {
        let Self { object, about, at, path, answer } = self.clone();
        let data = Data { keyledger_fetched: Frame { about, at: at.as_second(), object, path }, answer };
        serde_json::to_vec(&data).unwrap_or_else(|error| unreachable!("answers are JSON with text keys: {error}"))
    }

    /// Reads an event's data back. `None` for bytes that are no answer, a delivered event among them.
    pub fn decode(data: &[u8]) -> Option<Self> {
        Self::of(serde_json::from_slice(data).ok()?)
    }

    pub(super) fn of(body: Value) -> Option<Self> {
        let Data { keyledger_fetched: Frame { about, at, object, path }, answer } =
            serde_json::from_value(body).ok()?;
        let at = seconds(at).filter(|_| is_id(&about))?;
        Some(Self { object, about, at, path, answer })
    }

    /// The objects in it: itself, or those of a list.
    pub fn objects(&self) -> Vec<&Value> {
        if self.answer["object"] == "list" { list(&self.answer).0.iter().collect() } else { vec![&self.answer] }
    }

    /// What stands for the event's id where two sights of one second must be told apart. It is less than any `evt_…`:
    /// within its second, an event knows better.
    pub(super) fn sight(&self) -> StripeEventId {
        StripeEventId::new(self.name())
    }

    fn name(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.about.as_bytes());
        hasher.update(b"\n");
        canonical(&self.answer, &mut hasher);
        let mut first = [0; 16];
        first.copy_from_slice(&hasher.finalize()[..16]);
        format!("answer_{:032x}", u128::from_be_bytes(first))
    }

    fn customer(&self) -> Option<String> {
        let object = self.objects().into_iter().next()?;
        if object["object"] == "customer" { id(object) } else { id(&object["customer"]) }
    }
}

/// `object` with all elements of its list `name`, of which Stripe shows ten and lists the others apart: `lines` of an invoice,
/// `line_items` of a session, `items` of a subscription.
#[must_use]
pub fn with_list(mut object: Value, name: &str, elements: Vec<Value>) -> Value {
    if let Some(fields) = object.as_object_mut() {
        let list = json!({"object": "list", "data": Value::Array(elements), "has_more": false});
        fields.insert(name.to_owned(), list);
    }
    object
}

/// Whether `object` has the list `name`, and all of it.
pub fn is_whole(object: &Value, name: &str) -> bool {
    let (shown, truncated) = list(&object[name]);
    let empty_on_purpose = count(&object[name]["total_count"]) == Some(0) || object[name]["has_more"] == false;
    !truncated && (!shown.is_empty() || empty_on_purpose)
}

/// Feeds `value` to the hash with the keys of its objects in order, whatever order they were written in.
fn canonical(value: &Value, hasher: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            hasher.update(b"{");
            for (name, value) in fields {
                hasher.update(Value::from(name.as_str()).to_string());
                hasher.update(b":");
                canonical(value, hasher);
                hasher.update(b",");
            }
            hasher.update(b"}");
        }
        Value::Array(elements) => {
            hasher.update(b"[");
            for element in elements {
                canonical(element, hasher);
                hasher.update(b",");
            }
            hasher.update(b"]");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => hasher.update(value.to_string()),
    }
}
