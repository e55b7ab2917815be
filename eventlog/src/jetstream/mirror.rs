//! The stream on JetStream that mirrors one log: [`Mirror`]. It is looked at, made, read and removed here, and written
//! by the relay alone.

use std::ops::RangeInclusive;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, DeleteStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, Info, RawMessage};
use futures::{Stream, StreamExt};
use keyledger_schemas::envelope::Position;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::client::Client;
use super::judgement::{Judgement, judge, wanted};
use super::message::{DecodeError, Decoded, decode};

/// Messages asked for at once when many are read.
const READS: usize = 64;

/// The mirror of one log. Clones are the same.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub(super) client: Client,
    log_id: Uuid,
}

/// What is at the mirror's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is no such stream.
    Gone,
    /// There is one.
    Here(Judgement),
}

/// What a mirror has at one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A message of the relay's.
    Event(Decoded),
    /// A message that is not an event, or not that of its place.
    Broken(DecodeError),
    /// Nothing.
    Missing,
}

/// The server did not do what it was asked; nothing is known about the mirror. Try again later.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the mirror `{stream}`")]
pub struct MirrorError {
    what: &'static str,
    stream: String,
    #[source]
    source: Refusal,
}

/// What the client library says, once: its errors name their causes themselves, and again as causes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

impl Refusal {
    fn of(error: &dyn std::fmt::Display) -> Self {
        let words = error.to_string();
        Self(if words.contains("timed out") {
            "NATS did not answer in time".to_owned()
        } else if words.contains("no responders") || words.contains("unavailable") {
            "nobody answers for JetStream: it is not switched on, or has no leader now".to_owned()
        } else {
            words
        })
    }
}

/// Whether a stream was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Yes,
    /// The server would not: a person has to.
    NotAllowed,
}

impl Mirror {
    /// The mirror of the log `log_id`, on the stream that `client` is about.
    pub fn new(client: Client, log_id: Uuid) -> Self {
        Self { client, log_id }
    }

    /// The name of its stream.
    pub fn stream(&self) -> &str {
        self.client.stream()
    }

    /// The connection it is on.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What is at the mirror's place now, as the stream's leader sees it.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn look(&self) -> Result<Look, MirrorError> {
        match self.client.context.get_stream(self.stream()).await {
            Ok(stream) => Ok(Look::Here(judge(stream.cached_info(), self.log_id))),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Ok(Look::Gone)
                }
                GetStreamErrorKind::EmptyName
                | GetStreamErrorKind::InvalidStreamName
                | GetStreamErrorKind::Request
                | GetStreamErrorKind::JetStream(_) => Err(self.error("look at", error)),
            },
        }
    }

    /// The last position of the mirror; `None` when there is none of this log.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn position(&self) -> Result<Option<Position>, MirrorError> {
        Ok(match self.look().await? {
            Look::Here(Judgement::Ours { last } | Judgement::Holes { last, .. }) => Some(last),
            Look::Here(Judgement::Foreign { .. } | Judgement::Unsafe { .. }) | Look::Gone => None,
        })
    }

    /// Makes the stream, and judges what the server made of it: servers drop settings that they do not know.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or cannot make it now.
    pub async fn make(&self) -> Result<Judgement, MirrorError> {
        let config = wanted(self.stream(), self.client.replicas, self.log_id);
        match self.client.context.create_stream(config.clone()).await {
            Ok(stream) => {
                warn_of_replicas(&config, stream.cached_info());
                Ok(judge(stream.cached_info(), self.log_id))
            }
            Err(error) => match error.kind() {
                CreateStreamErrorKind::JetStream(refused)
                    if refused.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP =>
                {
                    let stream = self.stream();
                    let reason = format!(
                        "another stream takes subjects under `kl.v1.`, so {stream} cannot be made: find it with \
                         `nats stream ls`, and name it in `[nats] stream` or remove it"
                    );
                    Ok(Judgement::Foreign { reason })
                }
                _ => Err(self.error("make", error)),
            },
        }
    }

    /// Removes the stream with all it holds, if the server lets us.
    ///
    /// # Errors
    ///
    /// When the server refuses for another reason than that we may not. Where permissions forbid it the server says
    /// nothing, so no answer counts as not allowed.
    pub async fn remove(&self) -> Result<Removed, MirrorError> {
        match self.client.context.delete_stream(self.stream()).await {
            Ok(_) => Ok(Removed::Yes),
            Err(error) => match error.kind() {
                DeleteStreamErrorKind::JetStream(refused) if refused.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Ok(Removed::Yes)
                }
                DeleteStreamErrorKind::Request => Ok(Removed::NotAllowed),
                DeleteStreamErrorKind::EmptyName
                | DeleteStreamErrorKind::InvalidStreamName
                | DeleteStreamErrorKind::JetStream(_) => Err(self.error("remove", error)),
            },
        }
    }

    /// What the mirror has at `position`, as the stream's leader sees it.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn at(&self, position: Position) -> Result<Slot, MirrorError> {
        let subject = format!("STREAM.MSG.GET.{}", self.stream());
        let got: Result<Response<Got>, _> = self.client.context.request(subject, &json!({ "seq": position })).await;
        match got {
            Ok(Response::Ok(Got { message })) => Ok(slot(position, message)),
            Ok(Response::Err { error }) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(Slot::Missing),
            Ok(Response::Err { error }) => Err(self.error("read", error)),
            Err(error) => Err(self.error("read", error)),
        }
    }

    /// What the mirror has at each of `positions`, in order.
    pub fn read(
        &self,
        positions: RangeInclusive<Position>,
    ) -> impl Stream<Item = Result<(Position, Slot), MirrorError>> + Send + '_ {
        let slots = positions.map(move |position| async move { Ok((position, self.at(position).await?)) });
        futures::stream::iter(slots).buffered(READS)
    }

    fn error(&self, what: &'static str, error: impl std::fmt::Display) -> MirrorError {
        MirrorError { what, stream: self.stream().to_owned(), source: Refusal::of(&error) }
    }
}

/// The answer to a request for one message.
#[derive(Deserialize)]
struct Got {
    message: RawMessage,
}

fn slot(position: Position, message: RawMessage) -> Slot {
    let Ok(message) = StreamMessage::try_from(message) else { return Slot::Broken(DecodeError::NotOurs) };
    match decode(&message.headers, &message.payload) {
        Ok(decoded) if decoded.position() == position => Slot::Event(decoded),
        Ok(decoded) => Slot::Broken(DecodeError::Damaged {
            part: "ce-sequence",
            reason: format!("it says {} at {position}", decoded.position()),
        }),
        Err(error) => Slot::Broken(error),
    }
}

fn warn_of_replicas(asked: &Config, made: &Info) {
    let (asked, made) = (asked.num_replicas, made.config.num_replicas);
    if made < asked {
        tracing::warn!("the mirror was made with {made} replicas, not {asked}");
    }
}
