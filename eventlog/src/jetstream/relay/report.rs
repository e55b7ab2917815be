//! What a relay says in the log about the mirror: `mirror.diverged` once per cause, `mirror.mended` when it is over.
//!
//! Both are on one stream, `mirror:<stream on JetStream>`, whose last event says how the mirror was left. Ids are derived
//! from that last event, so two relays that see the same write the same.

use jiff::Timestamp;
use keyledger_schemas::envelope::{IdReuse, NewEvent, Position, Recorded, derived_id, partition_of};
use keyledger_schemas::event::{Event, MirrorDiverged, MirrorFault, MirrorMended};
use keyledger_schemas::ids::{Mode, Scope, SourceName, StreamId};

use crate::lease::Lease;
use crate::log::{Append, AppendError, EventLog, LogError};

/// Events read at once.
const PAGE: usize = 64;

/// What the log says about a mirror.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports {
    last: Option<Recorded>,
}

impl Reports {
    /// Reads what the log says about the mirror on `stream`.
    pub(super) async fn load(log: &dyn EventLog, stream: &str) -> Result<Self, LogError> {
        let id = stream_id(stream);
        let mut last: Option<Recorded> = None;
        loop {
            let page = log.read_stream(&id, last.as_ref().map_or(0, |event| event.version), PAGE).await?;
            match page.into_iter().next_back() {
                Some(event) => last = Some(event),
                None => return Ok(Self { last }),
            }
        }
    }

    /// The fault that was last reported and has not been mended since, with the first wrong position.
    pub(super) fn open(&self) -> Option<MirrorDiverged> {
        let last = self.last.as_ref()?;
        match Event::decode(&last.kind, &last.data) {
            Ok(Some(Event::MirrorDiverged(said))) => Some(said),
            _ => None,
        }
    }

    /// The event that says `found`, unless the log says so already.
    fn diverged(&self, found: MirrorDiverged, now: Timestamp) -> Option<NewEvent> {
        if self.open().is_some_and(|said| is_same(&said, &found)) {
            return None;
        }
        let stream = found.stream.clone();
        Some(self.event(&stream, &Event::MirrorDiverged(found), now))
    }

    /// The event that says that the mirror is well up to `position`, if the log says otherwise.
    fn mended(&self, stream: &str, position: Position, now: Timestamp) -> Option<NewEvent> {
        self.open()?;
        let mended = MirrorMended { stream: stream.to_owned(), position };
        Some(self.event(stream, &Event::MirrorMended(mended), now))
    }

    fn event(&self, stream: &str, event: &Event, now: Timestamp) -> NewEvent {
        let cause = self.last.as_ref().map_or_else(|| format!("mirror:{stream}"), |event| event.id.to_string());
        let id = derived_id(&cause, event.kind(), stream);
        NewEvent {
            kind: event.kind().to_owned(),
            scope: Scope::new(SourceName::default(), Mode::Live),
            stream: stream_id(stream),
            occurred_at: now,
            causation_id: None,
            correlation_id: Some(id.clone()),
            schema_version: 1,
            actor: None,
            partition: partition_of(stream),
            delivery: None,
            data: event.encode(),
            // A relay that lost its answer says it again, a moment later.
            on_reuse: IdReuse::FirstWins,
            id,
        }
    }
}

/// Puts into the log that the mirror is not what it should be, unless the log says so.
pub(super) async fn diverged(
    log: &dyn EventLog,
    lease: &Lease,
    found: MirrorDiverged,
    now: Timestamp,
) -> Result<(), AppendError> {
    let reports = Reports::load(log, &found.stream).await.map_err(AppendError::Unavailable)?;
    let detail = found.detail.clone();
    let event = reports.diverged(found, now);
    if event.is_some() {
        tracing::error!("the mirror is not what the log holds: {detail}");
    }
    append(log, lease, &reports, event).await
}

/// Puts into the log that the mirror is well up to `position`, if the log says otherwise.
pub(super) async fn mended(
    log: &dyn EventLog,
    lease: &Lease,
    stream: &str,
    position: Position,
    now: Timestamp,
) -> Result<(), AppendError> {
    let reports = Reports::load(log, stream).await.map_err(AppendError::Unavailable)?;
    append(log, lease, &reports, reports.mended(stream, position, now)).await
}

async fn append(
    log: &dyn EventLog,
    lease: &Lease,
    reports: &Reports,
    event: Option<NewEvent>,
) -> Result<(), AppendError> {
    let Some(event) = event else { return Ok(()) };
    let version = reports.last.as_ref().map_or(0, |event| event.version);
    let expected = Some((event.stream.clone(), version));
    log.append(Append { events: vec![event], expected, state: vec![lease.fence()] }).await.map(|_| ())
}

/// Whether a person has been told. Where a position says what is wrong, the words beside it may count on.
fn is_same(said: &MirrorDiverged, found: &MirrorDiverged) -> bool {
    let by_words = |it: &MirrorDiverged| matches!(it.fault, MirrorFault::Foreign | MirrorFault::UnsafeSettings);
    match (by_words(said), by_words(found)) {
        (true, true) => said.fault == found.fault && said.detail == found.detail,
        (false, false) => said.position == found.position,
        (true, false) | (false, true) => false,
    }
}

fn stream_id(stream: &str) -> StreamId {
    StreamId::new(format!("mirror:{stream}"))
}
