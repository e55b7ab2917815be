//! One delivery: the shell around signature, header and append.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use keyledger_eventlog::log::{Append, AppendError, Placed};
use keyledger_schemas::envelope::{Delivery, NewEvent};
use keyledger_schemas::ids::{Mode, Scope, SourceName};
use keyledger_schemas::stripe::Header;
use keyledger_schemas::stripe::record::event_of;
use tokio::sync::OwnedSemaphorePermit;
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use crate::answer::Outcome;
use crate::body::{self, BodyError};
use crate::observe;
use crate::options::Source;
use crate::same_account;
use crate::server::Ingest;
use crate::signature::{self, BadSignature};

/// `POST /webhooks/stripe`: the source `default`.
pub async fn to_default(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    receive(&ingest, SourceName::default().as_str(), request).await
}

/// `POST /webhooks/stripe/{source}`.
pub async fn to_named(
    State(ingest): State<Arc<Ingest>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A segment that is not even text names no source of ours.
    let name = path.map(|Path(name)| name).unwrap_or_default();
    receive(&ingest, &name, request).await
}

async fn receive(ingest: &Ingest, name: &str, request: Request) -> Response {
    let started = Instant::now();
    let Some(source) = ingest.source(name) else {
        observe::request("unknown", None, Outcome::UnknownSource, started.elapsed());
        return Outcome::UnknownSource.into_response();
    };
    let span = tracing::info_span!(
        "ingest.webhook",
        source.name = %source.name(),
        event.id = Empty,
        event.r#type = Empty,
        secret.name = Empty,
        size_bytes = Empty,
        position = Empty,
        outcome = Empty,
        duration_ms = Empty,
    );
    let (mode, outcome) = take(ingest, source, request).instrument(span.clone()).await;
    let took = started.elapsed();
    span.record("outcome", outcome.label());
    span.record("duration_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    span.in_scope(|| tell(ingest, source, outcome));
    observe::request(source.name().as_str(), mode, outcome, took);
    outcome.into_response()
}

/// Everything from the first byte of the body to the log's acknowledgement.
async fn take(ingest: &Ingest, source: &Source, request: Request) -> (Option<Mode>, Outcome) {
    let accepted = match accept(ingest, source, request).await {
        Ok(accepted) => accepted,
        Err(outcome) => return (None, outcome),
    };
    let mode = Some(accepted.event.scope.mode);
    if let Some(reason) = ingest.gate().closed() {
        return (mode, Outcome::Closed(reason));
    }
    // Only now: a stranger's request must not take a place from one of Stripe's. What comes before is bounded by the
    // number of connections and the memory for bodies.
    let Some(_in_hand) = ingest.admit() else {
        return (mode, Outcome::Overloaded);
    };
    (mode, keep(ingest, accepted).await)
}

/// A delivery that is Stripe's, ready for the log, and its share of the memory for bodies.
struct Accepted {
    event: NewEvent,
    share: Option<OwnedSemaphorePermit>,
}

async fn accept(ingest: &Ingest, source: &Source, request: Request) -> Result<Accepted, Outcome> {
    let received_at = ingest.clock().now();
    let (parts, body) = request.into_parts();
    let body = body::read(&parts.headers, body, ingest.body_limits())
        .await
        .map_err(|error| refuse_body(ingest, source, &error))?;
    Span::current().record("size_bytes", body.bytes.len());

    // Nothing of the body is looked into before this.
    let signature = the_signature(&parts.headers).map_err(Outcome::BadSignature)?;
    let verified = signature::verify(
        signature.as_bytes(),
        &body.bytes,
        source.secrets(),
        received_at,
        ingest.options().signature_tolerance(),
    )
    .map_err(Outcome::BadSignature)?;
    Span::current().record("secret.name", &verified.secret);

    let header = Header::read(&body.bytes).map_err(|error| {
        tracing::warn!(reason = %error, "a signed body is not an event: {error}");
        Outcome::NotAnEvent
    })?;
    let delivery = Delivery { signature, secret: verified.secret, received_at };
    let event = event_of(source.name(), header, delivery, body.bytes);
    Span::current().record("event.id", display(&event.id)).record("event.type", &event.kind);
    Ok(Accepted { event, share: body.share })
}

fn refuse_body(ingest: &Ingest, source: &Source, error: &BodyError) -> Outcome {
    match error {
        BodyError::TooLarge { announced } => {
            let scope = Scope::new(source.name().clone(), source.mode());
            ingest.count_refused(&scope, *announced);
            Outcome::TooLarge
        }
        BodyError::TooSlow => Outcome::TooSlow,
        BodyError::OverBudget => Outcome::Overloaded,
        BodyError::Interrupted => Outcome::Interrupted,
    }
}

/// The one signature header, as text. Stripe sends one, in ASCII.
fn the_signature(headers: &HeaderMap) -> Result<String, BadSignature> {
    let mut values = headers.get_all(signature::HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(BadSignature::Missing);
    };
    value.to_str().map(str::to_owned).map_err(|_| BadSignature::Malformed)
}

/// Appends, unless another source was first. Whether the caller waits to the end or not, the log writes the whole event
/// or nothing of it.
async fn keep(ingest: &Ingest, Accepted { event, share }: Accepted) -> Outcome {
    let kind = event.kind.clone();
    let names: Vec<_> = ingest.source_names().cloned().collect();
    let log = Arc::clone(ingest.log());
    // On its own, because the event stands in the log's queue even when nobody waits any longer, and its share of the
    // memory is only given back when it does not.
    let append = async move {
        let _share = share;
        if same_account::must_refuse(&*log, &names, &event).await? {
            return Ok(None);
        }
        log.append(Append::events(vec![event])).await.map(Some)
    };
    let append = tokio::spawn(append.in_current_span());
    let placed = match tokio::time::timeout(ingest.options().append_timeout(), append).await {
        Ok(Ok(Ok(Some(placed)))) => placed,
        Ok(Ok(Ok(None))) => return Outcome::SameAccount,
        Ok(Ok(Err(error))) => return not_kept(&error),
        Ok(Err(ended)) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => return Outcome::Unavailable,
        },
        Err(_) => {
            tracing::warn!("the log did not answer in time; the sender will try again");
            return Outcome::Unavailable;
        }
    };
    let Some(placed) = placed.first().copied() else {
        tracing::error!("the log acknowledged an append without saying where the event stands");
        return Outcome::Unavailable;
    };
    Span::current().record("position", placed.position());
    match placed {
        Placed::Appended(position) => {
            observe::stored(&kind);
            tracing::info!("stored {kind} at position {position}");
            Outcome::Stored
        }
        Placed::Duplicate(position) => {
            tracing::info!("{kind} is already at position {position}");
            Outcome::Duplicate
        }
    }
}

/// The event is not in the log, so the sender must try again, whatever the reason.
fn not_kept(error: &AppendError) -> Outcome {
    let cause: &(dyn std::error::Error + 'static) = error;
    match error {
        AppendError::Unavailable(_) => tracing::warn!(error = cause, "the log is not available"),
        // We expect no version and no state, and the first body wins: none of these can be the sender's doing.
        AppendError::Conflict { .. } | AppendError::StaleState { .. } | AppendError::IdReused { .. } => {
            tracing::error!(error = cause, "the log refused a Stripe event, which is a bug");
        }
    }
    Outcome::Unavailable
}

/// One line for a delivery that was turned away. Never anything of its body. Strangers can cause these at will, so at
/// most one a second is a warning; the metrics count them all.
fn tell(ingest: &Ingest, source: &Source, outcome: Outcome) {
    let name = source.name();
    let line = match outcome {
        Outcome::BadSignature(reason) => format!("refused a request to source {name}: {reason}"),
        Outcome::TooLarge => format!("refused a body over the limit at source {name}"),
        Outcome::TooSlow | Outcome::Interrupted => format!("a request to source {name} was not completed"),
        Outcome::Overloaded => format!("turned a request to source {name} away: too much is in hand"),
        Outcome::Closed(reason) => format!("turned an event of source {name} away: {reason}"),
        Outcome::Stored
        | Outcome::Duplicate
        | Outcome::NotAnEvent
        | Outcome::SameAccount
        | Outcome::Unavailable
        | Outcome::UnknownSource
        | Outcome::Panicked => return,
    };
    if ingest.may_warn() {
        tracing::warn!("{line}");
    } else {
        tracing::debug!("{line}");
    }
}
