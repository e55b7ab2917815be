//! Events of the log.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use keyledger_schemas::envelope::{self, Recorded};
use serde::Serialize;
use utoipa::ToSchema;

/// An event of the log: its envelope, and its data where one event was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Event {
    /// Its place in the log, from 1.
    pub position: u64,
    /// Unique for ever; a Stripe event's contains its `evt_…`.
    #[schema(example = "default:-:live:evt_1PqX:2024-06-20")]
    pub id: String,
    /// Dotted, past tense.
    #[schema(example = "stripe.invoice.paid")]
    pub r#type: String,
    /// The source it came from.
    pub source: String,
    /// The connected Stripe account.
    pub account: Option<String>,
    /// `live` or `test`.
    pub mode: String,
    /// What its version counts in.
    pub stream: String,
    /// Its place in the stream, from 1.
    pub version: u64,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When the log took it.
    pub recorded_at: Timestamp,
    /// The event that made this one happen.
    pub causation_id: Option<String>,
    /// The first event of the chain.
    pub correlation_id: Option<String>,
    /// The version of the data's schema.
    pub schema_version: u32,
    /// Who did it, where a person did.
    pub actor: Option<String>,
    /// 0 to 63: for partitioned consumers downstream.
    pub partition: u8,
    /// How a Stripe event came into the log: `webhook`, `reconcile` (read from Stripe's list of events, or of objects, because
    /// it was missing) or `fetched` (asked for, because events do not carry it). Null for keyledger's own.
    #[schema(example = "webhook")]
    pub origin: Option<String>,
    /// How a Stripe event arrived.
    pub delivery: Option<Delivery>,
    /// Length of the stored bytes.
    pub size_bytes: u64,
    /// SHA-256 of the stored bytes, hex.
    pub content_hash: String,
    /// The hash chain's value at this event, hex.
    pub chain: String,
    /// The stored bytes read as JSON, where one event was asked for and they are JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub data: Option<serde_json::Value>,
}

/// How a Stripe event arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Delivery {
    /// The `Stripe-Signature` header.
    pub signature: String,
    /// Which of the source's secrets verified it, by name.
    pub secret: String,
    /// When it was received.
    pub received_at: Timestamp,
}

impl From<envelope::Delivery> for Delivery {
    fn from(delivery: envelope::Delivery) -> Self {
        Self { signature: delivery.signature, secret: delivery.secret, received_at: delivery.received_at }
    }
}

/// How a Stripe event came into the log.
fn origin(event: &Recorded) -> Option<&'static str> {
    let is_reconciled = event.delivery.as_ref().is_some_and(envelope::Delivery::is_reconciled);
    match event.is_stripe() {
        false => None,
        true if is_reconciled => Some("reconcile"),
        true if event.kind.starts_with(FETCHED) => Some("fetched"),
        true => Some("webhook"),
    }
}

/// What the types of fetched objects begin with.
const FETCHED: &str = "stripe.fetched.";

impl From<Recorded> for Event {
    fn from(event: Recorded) -> Self {
        Self {
            origin: origin(&event).map(str::to_owned),
            position: event.position,
            id: event.id.to_string(),
            r#type: event.kind,
            source: event.scope.source.to_string(),
            account: event.scope.account.map(|account| account.to_string()),
            mode: event.scope.mode.to_string(),
            stream: event.stream.to_string(),
            version: event.version,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            causation_id: event.causation_id.map(|id| id.to_string()),
            correlation_id: event.correlation_id.map(|id| id.to_string()),
            schema_version: event.schema_version,
            actor: event.actor,
            partition: event.partition,
            delivery: event.delivery.map(Delivery::from),
            size_bytes: event.data.len() as u64,
            content_hash: HEXLOWER.encode(&event.content_hash),
            chain: HEXLOWER.encode(&event.chain),
            data: None,
        }
    }
}

impl Event {
    /// The event with its data.
    pub fn with_data(event: Recorded) -> Self {
        let data = serde_json::from_slice(&event.data).ok();
        Self { data, ..Self::from(event) }
    }
}
