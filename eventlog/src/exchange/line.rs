//! One event as a CloudEvents 1.0 event in JSON: every field of the envelope, and the data byte for byte.

use std::borrow::Cow;

use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use keyledger_schemas::envelope::{Delivery, Hash, Position, Recorded, Version};
use keyledger_schemas::ids::{AccountId, EventId, Scope, SourceName, StreamId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::log::Head;

const SPEC_VERSION: &str = "1.0";

/// What the `source` of every event begins with.
const SOURCE: &str = "/keyledger/";

/// A position and the chain value there.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadLine {
    position: Position,
    #[serde(with = "hex")]
    chain: Hash,
}

impl From<Head> for HeadLine {
    fn from(head: Head) -> Self {
        Self { position: head.position, chain: head.chain }
    }
}

impl From<HeadLine> for Head {
    fn from(line: HeadLine) -> Self {
        Self { position: line.position, chain: line.chain }
    }
}

/// An event. Names are those of CloudEvents; its extensions have lower-case letters and digits alone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventLine<'a> {
    specversion: Cow<'a, str>,
    id: Cow<'a, str>,
    source: String,
    r#type: Cow<'a, str>,
    subject: Cow<'a, str>,
    time: Timestamp,
    /// Text, as CloudEvents wants it; so is the version, for which its integers are too small.
    #[serde(with = "number")]
    sequence: Position,
    #[serde(with = "number")]
    streamversion: Version,
    recordedtime: Timestamp,
    partitionkey: String,
    schemaversion: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlationid: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    causationid: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deliverysignature: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deliverysecret: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deliveredtime: Option<Timestamp>,
    #[serde(with = "hex")]
    contentsha256: Hash,
    #[serde(with = "hex")]
    chain: Hash,
    datacontenttype: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dataschema: Option<String>,
    /// The data as it is, where that is JSON on one line.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    /// The data in base64, where it is anything else: Stripe indents what it sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl<'a> From<&'a Recorded> for EventLine<'a> {
    fn from(event: &'a Recorded) -> Self {
        let data = on_one_line(&event.data);
        let delivery = event.delivery.as_ref();
        Self {
            specversion: SPEC_VERSION.into(),
            id: event.id.as_str().into(),
            source: source(&event.scope),
            r#type: event.kind.as_str().into(),
            subject: event.stream.as_str().into(),
            time: event.occurred_at,
            sequence: event.position,
            streamversion: event.version,
            recordedtime: event.recorded_at,
            partitionkey: format!("{:02}", event.partition),
            schemaversion: event.schema_version,
            correlationid: event.correlation_id.as_ref().map(|id| id.as_str().into()),
            causationid: event.causation_id.as_ref().map(|id| id.as_str().into()),
            actor: event.actor.as_deref().map(Cow::Borrowed),
            keyid: event.key_id.as_deref().map(Cow::Borrowed),
            deliverysignature: delivery.map(|delivery| delivery.signature.as_str().into()),
            deliverysecret: delivery.map(|delivery| delivery.secret.as_str().into()),
            deliveredtime: delivery.map(|delivery| delivery.received_at),
            contentsha256: event.content_hash,
            chain: event.chain,
            datacontenttype: "application/json".into(),
            dataschema: (!event.is_stripe()).then(|| format!("{}.json", event.kind)),
            data_base64: data.is_none().then(|| BASE64.encode(&event.data)),
            data,
        }
    }
}

impl EventLine<'_> {
    /// The event, or why there is none in it. Whether it is the right one is not looked at.
    pub(super) fn recorded(self) -> Result<Recorded, String> {
        if self.specversion != SPEC_VERSION {
            return Err(format!("it is written in CloudEvents {}, not {SPEC_VERSION}", self.specversion));
        }
        let delivery = match (self.deliverysignature, self.deliverysecret, self.deliveredtime) {
            (Some(signature), Some(secret), Some(received_at)) => {
                Some(Delivery { signature: signature.into_owned(), secret: secret.into_owned(), received_at })
            }
            (None, None, None) => None,
            _ => return Err("a part of its delivery is missing".to_owned()),
        };
        let data = match (self.data, self.data_base64) {
            (Some(data), None) => data.get().as_bytes().to_vec(),
            (None, Some(text)) => {
                BASE64.decode(text.as_bytes()).map_err(|error| format!("`data_base64` cannot be read: {error}"))?
            }
            _ => return Err("it must have one of `data` and `data_base64`".to_owned()),
        };
        let partition = self.partitionkey.parse();
        Ok(Recorded {
            position: self.sequence,
            id: EventId::new(self.id),
            kind: self.r#type.into_owned(),
            scope: scope(&self.source)?,
            stream: StreamId::new(self.subject),
            version: self.streamversion,
            occurred_at: self.time,
            recorded_at: self.recordedtime,
            causation_id: self.causationid.map(EventId::new),
            correlation_id: self.correlationid.map(EventId::new),
            schema_version: self.schemaversion,
            actor: self.actor.map(Cow::into_owned),
            partition: partition.map_err(|error| format!("`partitionkey` cannot be read: {error}"))?,
            delivery,
            data,
            content_hash: self.contentsha256,
            chain: self.chain,
            key_id: self.keyid.map(Cow::into_owned),
        })
    }
}

/// The data as it can stand in a line, if it reads back from there byte for byte.
fn on_one_line(data: &[u8]) -> Option<&RawValue> {
    // A lone `null` would read back as no data.
    if data == b"null" || data.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return None;
    }
    let value: &RawValue = serde_json::from_slice(data).ok()?;
    (value.get().as_bytes() == data).then_some(value)
}

fn source(scope: &Scope) -> String {
    let account = scope.account.as_ref().map_or_else(String::new, |account| format!("/{account}"));
    format!("{SOURCE}{}/{}{account}", scope.source, scope.mode)
}

fn scope(source: &str) -> Result<Scope, String> {
    let cannot = |why: &dyn std::fmt::Display| format!("`source` cannot be read: {why}");
    let rest = source.strip_prefix(SOURCE).ok_or_else(|| cannot(&"it is not one of keyledger's"))?;
    let mut parts = rest.splitn(3, '/');
    let (name, mode) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    Ok(Scope {
        source: name.parse::<SourceName>().map_err(|error| cannot(&error))?,
        mode: mode.parse().map_err(|error| cannot(&error))?,
        account: parts.next().map(AccountId::new),
    })
}

/// A hash as lower-case hex.
mod hex {
    use super::{Deserialize, Deserializer, HEXLOWER, Hash, Serializer};

    pub(super) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        bytes.try_into().map_err(|_| serde::de::Error::custom("a hash has 64 digits"))
    }
}

/// A number as text.
mod number {
    use super::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
