//! What an event says around the object it shows.

use jiff::Timestamp;
use serde_json::Value;

use crate::ids::StripeEventId;
use crate::stripe::fact::{Change, Seen};
use crate::stripe::fetched::Fetched;
use crate::stripe::value::{is_event_id, is_kind, time};

/// The kind of a sight that no event showed: neither made nor deleted, just seen.
const FETCHED: &str = "fetched";

/// A snapshot event, opened; or an answer of Stripe's, which is seen as one.
pub(super) struct Event<'a> {
    /// Stripe's type.
    pub kind: &'a str,
    /// `created`, where it says.
    pub created: Option<Timestamp>,
    /// `data.object`.
    pub object: &'a Value,
    /// `data.previous_attributes`.
    pub previous: &'a Value,
    /// The event's id.
    id: StripeEventId,
}

impl<'a> Event<'a> {
    /// The event in `body`; `None` for a thin one and for JSON that is none.
    pub fn of(body: &'a Value) -> Option<Self> {
        let id = body["id"].as_str().filter(|id| is_event_id(id))?;
        let kind = body["type"].as_str().filter(|kind| is_kind(kind))?;
        if body["object"] == "v2.core.event" {
            return None;
        }
        let data = &body["data"];
        let created = time(&body["created"]);
        let id = StripeEventId::from(id);
        Some(Self { kind, created, object: &data["object"], previous: &data["previous_attributes"], id })
    }

    /// Each object of an answer, as if an event had shown it.
    pub fn of_answer(fetched: &'a Fetched) -> Vec<Self> {
        let sight = fetched.sight();
        let seen = |object| Self {
            kind: FETCHED,
            created: Some(fetched.at),
            object,
            previous: &Value::Null,
            id: sight.clone(),
        };
        fetched.objects().into_iter().map(seen).collect()
    }

    /// When and how its object was seen. An event without a date is older than every other.
    pub fn seen(&self) -> Seen {
        let at = self.created.unwrap_or(Timestamp::UNIX_EPOCH);
        Seen { at, change: self.change(), event: self.id.clone() }
    }

    /// Whether it says that its object is gone.
    pub fn deletes(&self) -> bool {
        self.change() == Change::Deleted || self.object["deleted"] == true
    }

    fn change(&self) -> Change {
        match self.kind.rsplit('.').next() {
            Some("created") => Change::Created,
            Some("deleted") => Change::Deleted,
            _ => Change::Updated,
        }
    }
}
