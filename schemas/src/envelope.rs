//! What surrounds an event: who it is, where it stands, what caused it.
//!
//! A [`NewEvent`] is offered to the log; a [`Recorded`] one came back from it. The data is bytes: for a
//! Stripe event the body exactly as delivered, for our own the JSON of an [`crate::event::Event`].

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ids::{EventId, NAMESPACE, Scope, StreamId};

/// Place in the whole log, from 1, without gaps. 0 is before the first event.
pub type Position = u64;

/// Place in one stream, from 1, without gaps. 0 is an empty stream.
pub type Version = u64;

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// Number of partitions for downstream consumers (`pp` in the subject, 00–63).
pub const PARTITIONS: u8 = 64;

/// What the log does when an id it holds is offered again with other bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdReuse {
    /// Keep the first, report a duplicate. For Stripe's events: `pending_webhooks` changes between attempts.
    FirstWins,
    /// Refuse: an id of ours with other content is a bug.
    Refused,
}

/// An event on its way into the log.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Unique for ever.
    pub id: EventId,
    /// Dotted, past tense: `stripe.invoice.paid`, `license.issued`.
    pub kind: String,
    /// Source, Connect account and mode.
    pub scope: Scope,
    /// What its version counts in.
    pub stream: StreamId,
    /// When it happened (Stripe's `created`; for our own, when it was decided).
    pub occurred_at: Timestamp,
    /// The event that made this one happen.
    pub causation_id: Option<EventId>,
    /// The first event of the chain that this one belongs to.
    pub correlation_id: Option<EventId>,
    /// Version of the data's schema, from 1.
    pub schema_version: u32,
    /// Who did it, where a person did: a name from the operator's command.
    pub actor: Option<String>,
    /// 0–63: stable hash of the customer, or of the object.
    pub partition: u8,
    /// How a Stripe event arrived. `None` for our own.
    pub delivery: Option<Delivery>,
    /// The bytes.
    pub data: Vec<u8>,
    /// What to do when the id is already there with other bytes.
    pub on_reuse: IdReuse,
}

/// How a Stripe event reached us, kept beside its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// The `Stripe-Signature` header as received.
    pub signature: String,
    /// Which of the source's secrets verified it, by name (never the secret).
    pub secret: String,
    /// When it was received.
    pub received_at: Timestamp,
}

impl Delivery {
    /// Stands for a secret where nobody delivered the event: it was read from Stripe's API, with the source's own key.
    pub const RECONCILE: &str = "reconcile";

    /// How an event came that was read from Stripe's API.
    pub fn reconciled(at: Timestamp) -> Self {
        Self { signature: String::new(), secret: Self::RECONCILE.to_owned(), received_at: at }
    }

    /// Whether it was read from Stripe's API instead of delivered.
    pub fn is_reconciled(&self) -> bool {
        self.secret == Self::RECONCILE && self.signature.is_empty()
    }
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Place in the log.
    pub position: Position,
    /// Unique for ever.
    pub id: EventId,
    /// Dotted, past tense.
    pub kind: String,
    /// Source, Connect account and mode.
    pub scope: Scope,
    /// What the version counts in.
    pub stream: StreamId,
    /// Place in the stream.
    pub version: Version,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When the log took it.
    pub recorded_at: Timestamp,
    /// The event that made this one happen.
    pub causation_id: Option<EventId>,
    /// The first event of the chain.
    pub correlation_id: Option<EventId>,
    /// Version of the data's schema.
    pub schema_version: u32,
    /// Who did it, where a person did.
    pub actor: Option<String>,
    /// 0–63.
    pub partition: u8,
    /// How a Stripe event arrived.
    pub delivery: Option<Delivery>,
    /// The bytes.
    pub data: Vec<u8>,
    /// SHA-256 of the stored bytes.
    pub content_hash: Hash,
    /// SHA-256 over the previous chain value and this event.
    pub chain: Hash,
    /// The key that part of the data is sealed under, once personal data is sealed per person.
    pub key_id: Option<String>,
}

impl Recorded {
    /// Whether the data is a Stripe body rather than an event of ours.
    pub fn is_stripe(&self) -> bool {
        self.kind.starts_with("stripe.")
    }

    /// The chain value this event must carry when it follows `previous`.
    ///
    /// `SHA-256(previous ‖ position ‖ SHA-256(header) ‖ SHA-256(stored bytes))`, where the header is the
    /// canonical JSON array of everything else in the envelope. Position is 8 bytes, big-endian.
    pub fn chain_after(&self, previous: &Hash) -> Hash {
        let header = serde_json::json!([
            self.id,
            self.kind,
            self.scope.key(),
            self.stream,
            self.version,
            self.occurred_at.as_nanosecond().to_string(),
            self.recorded_at.as_nanosecond().to_string(),
            self.causation_id,
            self.correlation_id,
            self.schema_version,
            self.actor,
            self.partition,
            self.delivery.as_ref().map(|d| (&d.signature, &d.secret, d.received_at.as_nanosecond().to_string())),
            self.key_id,
        ]);
        let mut hasher = Sha256::new();
        hasher.update(previous);
        hasher.update(self.position.to_be_bytes());
        hasher.update(Sha256::digest(header.to_string().as_bytes()));
        hasher.update(self.content_hash);
        hasher.finalize().into()
    }
}

/// SHA-256 of stored bytes.
pub fn content_hash(data: &[u8]) -> Hash {
    Sha256::digest(data).into()
}

/// The partition of a customer or object id: the first byte of its SHA-256, modulo [`PARTITIONS`].
pub fn partition_of(id: &str) -> u8 {
    Sha256::digest(id.as_bytes())[0] % PARTITIONS
}

/// The id of an event of ours: the same cause, kind and subject are always the same event.
pub fn derived_id(cause: &str, kind: &str, subject: &str) -> EventId {
    EventId::new(Uuid::new_v5(&NAMESPACE, format!("event\n{cause}\n{kind}\n{subject}").as_bytes()).to_string())
}
