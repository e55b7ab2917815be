//! What every Stripe event says about itself, read before anything is kept.

use jiff::Timestamp;

use crate::ids::{AccountId, Mode, StripeEventId};

/// What every Stripe event says about itself: enough to name it, place it and keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `evt_…`.
    pub id: StripeEventId,
    /// The shape of the body; `None` on thin events and where Stripe writes null.
    pub api_version: Option<String>,
    /// Stripe's type, e.g. `invoice.paid`; a thin event's begins with `v1.` or `v2.`.
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
