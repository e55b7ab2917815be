//! The log as PostgreSQL has it, and its mirror as JetStream has it, read from the servers themselves and compared.

use std::collections::BTreeMap;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream::Stream};
use data_encoding::HEXLOWER;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};

use crate::deployment::PASSWORD;
use crate::support::wait::{PATIENCE, until};

/// The stream of the mirror.
pub const STREAM: &str = "KL_LOG";

const EVENTS: &str = "select position, id, stream, version, kind, source, account, mode, occurred_at, recorded_at, \
     causation_id, correlation_id, schema_version::bigint as schema_version, actor, partition::bigint as partition, \
     delivery, data, content_hash, chain from keyledger_log.event order by position";

const HEAD: &str = "select coalesce(max(position), 0) from keyledger_log.event";

/// Messages that are asked for at the same time.
const AT_ONCE: usize = 64;

/// An event as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Row {
    /// Place in the log.
    pub position: i64,
    /// Its id.
    pub id: String,
    /// What its version counts in.
    pub stream: String,
    version: i64,
    /// Its type.
    pub kind: String,
    source: String,
    account: Option<String>,
    mode: String,
    occurred_at: String,
    recorded_at: String,
    causation_id: Option<String>,
    correlation_id: Option<String>,
    schema_version: i64,
    actor: Option<String>,
    partition: i64,
    delivery: Option<String>,
    /// Its bytes.
    pub data: Vec<u8>,
    content_hash: Vec<u8>,
    chain: Vec<u8>,
}

/// A message as it stands in the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    sequence: u64,
    subject: String,
    headers: BTreeMap<String, String>,
    payload: Vec<u8>,
}

/// Waits until the mirror has come to the end of the log, and compares each message with its event.
pub async fn is_exact(postgres: &str, nats: &str) {
    until("the mirror comes to the end of the log", PATIENCE, async || {
        let last = head(postgres).await;
        let stream = mirror(nats).await.map_err(|error| error.to_string())?;
        let state = &stream.cached_info().state;
        if (state.last_sequence, state.messages) == (last, last) { Ok(()) } else { Err(format!("{last}: {state:?}")) }
    })
    .await;
    let (rows, messages) = (rows(postgres).await, messages(nats).await);
    assert_eq!(rows.len(), messages.len());
    for (index, (row, message)) in rows.iter().zip(&messages).enumerate() {
        assert_eq!(usize::try_from(row.position).unwrap(), index + 1, "the log has no gaps");
        compare(row, message);
    }
}

/// Every event of the log.
pub async fn rows(postgres: &str) -> Vec<Row> {
    let mut database = PgConnection::connect(postgres).await.unwrap();
    let rows = sqlx::query_as(EVENTS).fetch_all(&mut database).await.unwrap();
    database.close().await.unwrap();
    rows
}

/// The last position of the log.
pub async fn head(postgres: &str) -> u64 {
    let mut database = PgConnection::connect(postgres).await.unwrap();
    let head: i64 = sqlx::query_scalar(HEAD).fetch_one(&mut database).await.unwrap();
    database.close().await.unwrap();
    head.unsigned_abs()
}

/// Every message of the mirror.
pub async fn messages(nats: &str) -> Vec<Message> {
    let stream = mirror(nats).await.unwrap();
    let state = stream.cached_info().state.clone();
    let fetched = stream::iter(state.first_sequence..=state.last_sequence).map(|sequence| fetch(&stream, sequence));
    fetched.buffered(AT_ONCE).try_collect().await.unwrap()
}

/// The stream, with fresh information about it.
///
/// # Errors
///
/// When the server is away, or has no such stream.
pub async fn mirror(nats: &str) -> Result<Stream, async_nats::Error> {
    Ok(context(nats).await?.get_stream(STREAM).await?)
}

/// A connection as a person has one.
///
/// # Errors
///
/// When the server is away.
pub async fn context(nats: &str) -> Result<jetstream::Context, async_nats::Error> {
    let servers: Vec<&str> = nats.split(',').collect();
    let person = ConnectOptions::with_user_and_password("operator".to_owned(), PASSWORD.to_owned());
    Ok(jetstream::new(person.connect(servers).await?))
}

async fn fetch(stream: &Stream, sequence: u64) -> Result<Message, async_nats::Error> {
    let message = stream.get_raw_message(sequence).await?;
    let headers = message.headers.iter().map(|(name, values)| (name.to_string(), values[0].as_str().to_owned()));
    Ok(Message {
        sequence: message.sequence,
        subject: message.subject.to_string(),
        headers: headers.collect(),
        payload: message.payload.to_vec(),
    })
}

/// All that the contract says of a message, from the row that it mirrors.
fn compare(row: &Row, message: &Message) {
    let place = format!("{} at {}", row.id, row.position);
    assert_eq!(message.sequence, row.position.unsigned_abs(), "{place}");
    let partition = format!("{:02}", row.partition);
    assert_eq!(message.subject, format!("kl.v1.{}.{}.{partition}.{}", row.source, row.mode, row.kind), "{place}");

    let account = row.account.as_ref().map_or_else(String::new, |account| format!("/{account}"));
    let expected = [
        ("Nats-Msg-Id", Some(row.id.clone())),
        ("ce-specversion", Some("1.0".to_owned())),
        ("ce-id", Some(row.id.clone())),
        ("ce-type", Some(row.kind.clone())),
        ("ce-source", Some(format!("/keyledger/{}/{}{account}", row.source, row.mode))),
        ("ce-subject", Some(row.stream.clone())),
        ("ce-datacontenttype", Some("application/json".to_owned())),
        ("ce-sequence", Some(row.position.to_string())),
        ("ce-streamversion", Some(row.version.to_string())),
        ("ce-partitionkey", Some(partition)),
        ("ce-correlationid", row.correlation_id.clone()),
        ("ce-causationid", row.causation_id.clone()),
        ("ce-schemaversion", Some(row.schema_version.to_string())),
        ("ce-actor", row.actor.clone()),
        ("kl-source", Some(row.source.clone())),
        ("kl-mode", Some(row.mode.clone())),
        ("kl-account", row.account.clone()),
        ("kl-content-sha256", Some(HEXLOWER.encode(&row.content_hash))),
        ("kl-chain", Some(HEXLOWER.encode(&row.chain))),
        ("kl-data", None),
        ("content-encoding", None),
    ];
    for (name, value) in expected {
        assert_eq!(message.header(name), value, "{name} of {place}");
    }
    for (name, value) in [("ce-time", &row.occurred_at), ("ce-recordedtime", &row.recorded_at)] {
        assert_eq!(message.header(name).map(|text| time(&text)), Some(time(value)), "{name} of {place}");
    }
    let json = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    assert_eq!(message.header("kl-delivery").map(json), row.delivery.clone().map(json), "{place}");

    assert_eq!(message.payload, row.data, "{place}");
    assert_eq!(Sha256::digest(&message.payload).as_slice(), row.content_hash, "{place}");
}

impl Message {
    /// A header, with its percent-encoding undone.
    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| decoded(value))
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        if let (b'%', Some(byte)) = (first, code) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}
