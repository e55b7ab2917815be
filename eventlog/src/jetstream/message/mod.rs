//! An event as a message, and back: [`encode`] and [`decode`]. Pure.
//!
//! The payload is the event's data, byte for byte; everything else is in headers: CloudEvents 1.0 in binary mode
//! (`ce-…`), and what CloudEvents has no place for (`kl-…`). A message reads back as the very event that the log
//! holds, so its chain value can be checked. Data that does not fit into a message travels compressed, and what does
//! not fit then stays in the log: the message says how large it is and what its hash is.

use std::fmt::Display;
use std::io::{Read, Write};
use std::str::FromStr;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use keyledger_schemas::envelope::{Hash, Position, Recorded, content_hash};
use keyledger_schemas::ids::{AccountId, EventId, Scope, SourceName, StreamId};

use super::text;

/// The largest data that is compressed, or taken out of a compressed message.
pub const CONTENT_MAX: usize = 16 * 1024 * 1024;

/// The most that all headers of a message may take. The server's own limit is 64 KiB.
const HEADERS_MAX: usize = 60 * 1024;

/// Kept free in every message for the headers that say what comes before it, and how the data travels.
const RESERVED: usize = 512;

/// The longest id or type in a message that carries nothing else.
const NAME_MAX: usize = 512;

/// The longest type in a subject: the server limits the line that a subject stands in.
const SUBJECT_TYPE_MAX: usize = 512;

/// A message, ready to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// `kl.v1.<source>.<mode>.<pp>.<type>`.
    pub subject: String,
    /// The envelope.
    pub headers: HeaderMap,
    /// The data, unless it is elsewhere.
    pub payload: Bytes,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The event. Its data has its hash; whether it hangs on the chain is for the reader to see.
    Whole(Box<Recorded>),
    /// The event would not fit: read it from the log.
    Elsewhere(Stub),
}

/// What is known of an event that would not fit into a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// Its place in the log.
    pub position: Position,
    /// Its chain value.
    pub chain: Hash,
    /// The hash of its data.
    pub content_hash: Hash,
    /// Its id, unless that is too long as well.
    pub id: Option<EventId>,
}

impl Decoded {
    /// The event's place in the log, as the message says.
    pub fn position(&self) -> Position {
        match self {
            Self::Whole(event) => event.position,
            Self::Elsewhere(stub) => stub.position,
        }
    }

    /// The event's chain value, as the message says.
    pub fn chain(&self) -> Hash {
        match self {
            Self::Whole(event) => event.chain,
            Self::Elsewhere(stub) => stub.chain,
        }
    }
}

/// Why a message is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No relay wrote it.
    #[error("it is not a message of keyledger's")]
    NotOurs,
    /// It was changed, or a newer keyledger wrote it.
    #[error("its {part} cannot be read: {reason}")]
    Damaged {
        /// A header, or `payload`.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The message of `event` for a server that takes `max_payload` bytes.
pub fn encode(event: &Recorded, max_payload: usize) -> Encoded {
    let room = max_payload.saturating_sub(RESERVED);
    let subject = subject(event);
    let mut headers = envelope(event);
    let size = size_of(&headers);
    if size > room.min(HEADERS_MAX) {
        let headers = bare(event);
        return Encoded { subject, headers, payload: Bytes::new() };
    }
    if event.data.len() <= room - size {
        return Encoded { subject, headers, payload: event.data.clone().into() };
    }
    if let Some(compressed) = compress(&event.data).filter(|compressed| compressed.len() <= room - size) {
        headers.insert("content-encoding", "gzip");
        return Encoded { subject, headers, payload: compressed.into() };
    }
    elsewhere(&mut headers, event);
    Encoded { subject, headers, payload: Bytes::new() }
}

/// What the message with these headers and this payload says.
///
/// # Errors
///
/// See [`DecodeError`].
pub fn decode(headers: &HeaderMap, payload: &[u8]) -> Result<Decoded, DecodeError> {
    let fields = Fields(headers);
    if !fields.has("kl-chain") || !fields.has("ce-sequence") {
        return Err(DecodeError::NotOurs);
    }
    let position = fields.parsed("ce-sequence")?;
    let chain = fields.hash("kl-chain")?;
    let hash = fields.hash("kl-content-sha256")?;
    if fields.has("kl-data") {
        let id = fields.optional("ce-id")?.map(EventId::new);
        return Ok(Decoded::Elsewhere(Stub { position, chain, content_hash: hash, id }));
    }
    let delivery = fields.optional("kl-delivery")?.map(|json| serde_json::from_str(&json)).transpose();
    let data = match fields.optional("content-encoding")? {
        None => payload.to_vec(),
        Some(encoding) if encoding == "gzip" => decompress(payload)?,
        Some(encoding) => return Err(damaged("content-encoding", format!("`{encoding}` is not known"))),
    };
    if content_hash(&data) != hash {
        return Err(damaged("payload", "the data does not have its hash"));
    }
    Ok(Decoded::Whole(Box::new(Recorded {
        position,
        id: EventId::new(fields.text("ce-id")?),
        kind: fields.text("ce-type")?,
        scope: Scope {
            source: fields.parsed::<SourceName>("kl-source")?,
            account: fields.optional("kl-account")?.map(AccountId::new),
            mode: fields.parsed("kl-mode")?,
        },
        stream: StreamId::new(fields.text("ce-subject")?),
        version: fields.parsed("ce-streamversion")?,
        occurred_at: fields.parsed("ce-time")?,
        recorded_at: fields.parsed("ce-recordedtime")?,
        causation_id: fields.optional("ce-causationid")?.map(EventId::new),
        correlation_id: fields.optional("ce-correlationid")?.map(EventId::new),
        schema_version: fields.parsed("ce-schemaversion")?,
        actor: fields.optional("ce-actor")?,
        partition: fields.parsed("ce-partitionkey")?,
        delivery: delivery.map_err(|error| damaged("kl-delivery", error))?,
        data,
        content_hash: hash,
        chain,
        key_id: fields.optional("ce-keyid")?,
    })))
}

/// The subject of an event: source, mode, partition and type, and no ids.
pub fn subject(event: &Recorded) -> String {
    let Scope { source, mode, .. } = &event.scope;
    format!("kl.v1.{source}.{mode}.{:02}.{}", event.partition, subject_type(&event.kind))
}

/// A type as the end of a subject: what is not a letter, a digit, `_`, `-`, or a dot between two tokens is `_`.
fn subject_type(kind: &str) -> String {
    let kind: Vec<char> = kind.chars().take(SUBJECT_TYPE_MAX).collect();
    let is_token = |index: usize| kind.get(index).is_some_and(|char| *char != '.');
    let tokens: String = (0..kind.len())
        .map(|index| match kind[index] {
            '.' if index > 0 && is_token(index - 1) && is_token(index + 1) => '.',
            char if char.is_ascii_alphanumeric() || char == '_' || char == '-' => char,
            _ => '_',
        })
        .collect();
    if tokens.is_empty() { "_".to_owned() } else { tokens }
}

/// Every header of an event whose data travels with it.
fn envelope(event: &Recorded) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| headers.insert(name, text::encode(value));
    let Scope { source, account, mode } = &event.scope;
    let of_account = account.as_ref().map_or_else(String::new, |account| format!("/{account}"));
    put("ce-specversion", "1.0");
    put("ce-id", event.id.as_str());
    put("ce-type", &event.kind);
    put("ce-source", &format!("/keyledger/{source}/{mode}{of_account}"));
    put("ce-subject", event.stream.as_str());
    put("ce-time", &event.occurred_at.to_string());
    put("ce-datacontenttype", "application/json");
    put("ce-sequence", &event.position.to_string());
    put("ce-streamversion", &event.version.to_string());
    put("ce-recordedtime", &event.recorded_at.to_string());
    put("ce-partitionkey", &format!("{:02}", event.partition));
    put("ce-schemaversion", &event.schema_version.to_string());
    put("kl-source", source.as_str());
    put("kl-mode", mode.as_str());
    put("kl-content-sha256", &HEXLOWER.encode(&event.content_hash));
    put("kl-chain", &HEXLOWER.encode(&event.chain));
    if !event.is_stripe() {
        put("ce-dataschema", &format!("{}.json", event.kind));
    }
    let delivery = event.delivery.as_ref().map(|delivery| {
        serde_json::to_string(delivery).unwrap_or_else(|error| unreachable!("a delivery is plain data: {error}"))
    });
    let optional = [
        ("ce-causationid", event.causation_id.as_ref().map(EventId::as_str)),
        ("ce-correlationid", event.correlation_id.as_ref().map(EventId::as_str)),
        ("ce-actor", event.actor.as_deref()),
        ("ce-keyid", event.key_id.as_deref()),
        ("kl-account", account.as_ref().map(AccountId::as_str)),
        ("kl-delivery", delivery.as_deref()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            put(name, value);
        }
    }
    expected(&mut headers, event);
    headers
}

/// The headers of an event whose envelope is too large as well: what it takes to find it in the log.
fn bare(event: &Recorded) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("ce-specversion", "1.0");
    headers.insert("ce-sequence", event.position.to_string());
    headers.insert("kl-content-sha256", HEXLOWER.encode(&event.content_hash));
    headers.insert("kl-chain", HEXLOWER.encode(&event.chain));
    for (name, value) in [("ce-id", event.id.as_str()), ("ce-type", event.kind.as_str())] {
        let value = text::encode(value);
        if value.len() <= NAME_MAX {
            headers.insert(name, value);
        }
    }
    elsewhere(&mut headers, event);
    expected(&mut headers, event);
    headers
}

fn elsewhere(headers: &mut HeaderMap, event: &Recorded) {
    headers.insert("kl-data", "elsewhere");
    headers.insert("kl-content-size", event.data.len().to_string());
}

/// What makes the server refuse a message that is not the next one, or that it has.
fn expected(headers: &mut HeaderMap, event: &Recorded) {
    let id = text::encode(event.id.as_str());
    let id = if id.len() <= NAME_MAX { id } else { HEXLOWER.encode(&content_hash(id.as_bytes())) };
    headers.insert(NATS_MESSAGE_ID, id);
    headers.insert(async_nats::header::NATS_EXPECTED_LAST_SEQUENCE, event.position.saturating_sub(1).to_string());
}

/// The bytes that the headers take on the wire.
fn size_of(headers: &HeaderMap) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| name.len() + value.as_str().len() + ": \r\n".len())
    });
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

fn compress(data: &[u8]) -> Option<Vec<u8>> {
    if data.len() > CONTENT_MAX {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory does not fail; if it did, the data would stay in the log.
    encoder.write_all(data).ok()?;
    encoder.finish().ok()
}

fn decompress(payload: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut data = Vec::new();
    let limit = CONTENT_MAX as u64 + 1;
    let read = GzDecoder::new(payload).take(limit).read_to_end(&mut data);
    read.map_err(|error| damaged("payload", error))?;
    if data.len() > CONTENT_MAX {
        return Err(damaged("payload", format!("it unpacks to more than {CONTENT_MAX} bytes")));
    }
    Ok(data)
}

fn damaged(part: &'static str, reason: impl Display) -> DecodeError {
    DecodeError::Damaged { part, reason: reason.to_string() }
}

/// Headers, by name.
struct Fields<'m>(&'m HeaderMap);

impl Fields<'_> {
    fn has(&self, name: &'static str) -> bool {
        self.0.get(name).is_some()
    }

    fn optional(&self, name: &'static str) -> Result<Option<String>, DecodeError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        text::decode(value.as_str()).map(Some).ok_or_else(|| damaged(name, "its percent encoding is broken"))
    }

    fn text(&self, name: &'static str) -> Result<String, DecodeError> {
        self.optional(name)?.ok_or_else(|| damaged(name, "it is missing"))
    }

    fn parsed<T: FromStr<Err: Display>>(&self, name: &'static str) -> Result<T, DecodeError> {
        self.text(name)?.parse().map_err(|error| damaged(name, error))
    }

    fn hash(&self, name: &'static str) -> Result<Hash, DecodeError> {
        let bytes = HEXLOWER.decode(self.text(name)?.as_bytes()).map_err(|error| damaged(name, error))?;
        Hash::try_from(bytes).map_err(|bytes| damaged(name, format!("{} bytes are not 32", bytes.len())))
    }
}

#[cfg(test)]
mod tests;
