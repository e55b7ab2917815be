//! A slow, obvious model of `docs/deciding.md`, written from that page alone.
//!
//! [`history`] is what happened in a seller's world, [`catalog`] what the seller's prices mean, and [`expected`] says what
//! every purchase is owed in the end. It shares no code with the issuer, the projector or the reader of Stripe's JSON: it
//! looks at the whole list again for every answer, knows neither arrival order nor renderings, and keeps nothing.

pub mod catalog;
pub mod expected;
pub mod facts;
pub mod history;
pub mod one_off;
pub mod subscribed;
