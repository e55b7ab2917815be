//! What every Stripe event says about itself, read before anything is kept.
//!
//! Strict about the three things without which an event cannot be named or placed (id, type, mode); everything else
//! may be absent or odd. Values that nobody asks for are skipped, not parsed, however deep they nest.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

use super::value::{is_event_id, is_id, is_kind, seconds};
use crate::ids::{AccountId, Mode, StripeEventId};

/// What every Stripe event says about itself: enough to name it, place it and keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `evt_…`: at most 255 visible ASCII characters, none of them `:` or `/`.
    pub id: StripeEventId,
    /// The shape of the body: at most 64 of `0-9A-Za-z._-`. `None` on thin events and where Stripe writes null.
    pub api_version: Option<String>,
    /// Stripe's type, e.g. `invoice.paid`; a thin event's begins with `v1.` or `v2.`. Dotted tokens, none empty,
    /// of letters, digits, `_`, `-`, `[` and `]`.
    pub kind: String,
    /// When Stripe made it.
    pub created: Option<Timestamp>,
    /// Live or test.
    pub mode: Mode,
    /// The connected account it is about.
    pub account: Option<AccountId>,
    /// The id of the object it is about, where it has one.
    pub object: Option<String>,
    /// The customer it is about, where the object names one.
    pub customer: Option<String>,
    /// A `v2.core.event`, which carries no object.
    pub thin: bool,
}

/// Bytes that are not a Stripe event: not JSON, or without an id, a type or a mode.
#[derive(Debug, thiserror::Error)]
#[error("not a Stripe event: {reason}")]
pub struct NotAnEvent {
    /// What is missing or wrong. Never quotes the body.
    pub reason: String,
}

impl Header {
    /// Reads the header of an event's body.
    ///
    /// # Errors
    ///
    /// [`NotAnEvent`] where the bytes are not one JSON object with a usable `id`, `type` and `livemode`.
    /// Refuse such a body: the same bytes can never be read.
    pub fn read(body: &[u8]) -> Result<Self, NotAnEvent> {
        let body = std::str::from_utf8(body).map_err(|_| refused("the body is not UTF-8"))?;
        let event = Fields::of(body).ok_or_else(|| refused("the body is not a JSON object"))?;
        let id = event.text("id").filter(|id| is_event_id(id)).ok_or_else(|| refused("`id` is not an event's id"))?;
        let kind = event.text("type").filter(|kind| is_kind(kind)).ok_or_else(|| refused("`type` is not a type"))?;
        let livemode = event.flag("livemode").ok_or_else(|| refused("`livemode` is neither true nor false"))?;
        let thin = event.text("object").as_deref() == Some("v2.core.event");
        let (object, customer) = if thin { event.thin_subject() } else { event.subject() };
        Ok(Self {
            id: StripeEventId::new(id),
            api_version: event.text("api_version").filter(|version| is_api_version(version)),
            kind,
            created: event.time("created"),
            mode: Mode::of_livemode(livemode),
            account: event.account(thin),
            object,
            customer,
            thin,
        })
    }
}

fn refused(reason: &str) -> NotAnEvent {
    NotAnEvent { reason: reason.to_owned() }
}

fn is_api_version(text: &str) -> bool {
    let sane = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(sane)
}

/// The fields of one JSON object, not parsed yet. Of a field written twice the last one counts, as in [`Value`].
struct Fields<'a>(HashMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    fn of(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok().map(Self)
    }

    fn object(&self, name: &str) -> Option<Self> {
        Self::of(self.0.get(name)?.get())
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }

    fn id(&self, name: &str) -> Option<String> {
        self.text(name).filter(|id| is_id(id))
    }

    /// The id in an "id or object" field.
    fn reference(&self, name: &str) -> Option<String> {
        self.id(name).or_else(|| self.object(name)?.id("id"))
    }

    /// Seconds on a snapshot event, RFC 3339 on a thin one.
    fn time(&self, name: &str) -> Option<Timestamp> {
        match serde_json::from_str(self.0.get(name)?.get()).ok()? {
            Value::String(text) => text.parse().ok().filter(|at: &Timestamp| seconds(at.as_second()).is_some()),
            number => super::value::time(&number),
        }
    }

    /// The connected account. A thin event names it in `context`; on a snapshot event `context` says who may fetch,
    /// which older versions leave out, so that two renderings of one event would be placed differently.
    fn account(&self, thin: bool) -> Option<AccountId> {
        let context = || self.id("context").filter(|context| thin && context.starts_with("acct_"));
        self.id("account").or_else(context).map(AccountId::new)
    }

    /// The object a snapshot event shows, and its customer.
    fn subject(&self) -> (Option<String>, Option<String>) {
        let Some(object) = self.object("data").and_then(|data| data.object("object")) else { return (None, None) };
        let id = object.id("id");
        if object.text("object").as_deref() == Some("customer") {
            return (id.clone(), id);
        }
        let customer = object.reference("customer").or_else(|| object.reference("customer_account"));
        (id, customer)
    }

    /// The object a thin event names, which may be a customer.
    fn thin_subject(&self) -> (Option<String>, Option<String>) {
        let Some(related) = self.object("related_object") else { return (None, None) };
        let id = related.id("id");
        let customer = id.clone().filter(|_| related.text("type").as_deref() == Some("customer"));
        (id, customer)
    }
}
