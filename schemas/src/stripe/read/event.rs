//! What an event says around the object it shows.

use jiff::Timestamp;
use serde_json::Value;

use crate::ids::StripeEventId;
use crate::stripe::fact::{Change, Seen};
use crate::stripe::value::{is_event_id, is_kind, time};

/// A snapshot event, opened.
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
    id: &'a str,
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
        Some(Self { kind, created, object: &data["object"], previous: &data["previous_attributes"], id })
    }

    /// When and how its object was seen. An event without a date is older than every other.
    pub fn seen(&self) -> Seen {
        let at = self.created.unwrap_or(Timestamp::UNIX_EPOCH);
        Seen { at, change: self.change(), event: StripeEventId::from(self.id) }
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
