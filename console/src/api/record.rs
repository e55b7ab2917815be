//! Recording what a person asked for: one event, once, however often it is asked.

use keyledger_eventlog::log::{Append, Placed};
use keyledger_schemas::envelope::{IdReuse, NewEvent, Position, derived_id, partition_of};
use keyledger_schemas::event::Event;
use keyledger_schemas::ids::{EventId, Scope, StreamId};

use super::Api;
use crate::problem::Problem;

/// What a person asked for, ready to be recorded.
pub(super) struct Recording {
    /// What was asked of what, in words that tell two requests apart: the event's id is derived from it.
    pub(super) cause: String,
    /// What it is about, in words that stay the same.
    pub(super) subject: String,
    /// Whose money it is about.
    pub(super) scope: Scope,
    /// Where it is recorded.
    pub(super) stream: StreamId,
    /// Whose it is: what consumers downstream are partitioned by.
    pub(super) about: String,
    /// Who asked.
    pub(super) actor: String,
    /// The sender gave a key: then a repeat must be the same in every part, its name too.
    pub(super) keyed: bool,
    /// It is so already, by this event.
    pub(super) already: Option<Entry>,
    /// Why this cannot be done, unless it was recorded before or is so already.
    pub(super) refusal: Option<String>,
    /// What is recorded.
    pub(super) event: Event,
}

/// Where a request stands in the log.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The event.
    pub(crate) event: EventId,
    /// Its type.
    pub(crate) kind: String,
    /// Its place.
    pub(crate) position: Position,
    /// Nothing was written now.
    pub(crate) repeated: bool,
}

impl Api {
    /// Appends the request, or finds that it was appended before: then things may have changed by now, and that is fine.
    pub(super) async fn record(&self, recording: Recording) -> Result<Entry, Problem> {
        let Recording { cause, subject, scope, stream, about, actor, keyed, already, refusal, event } = recording;
        let id = derived_id(&cause, event.kind(), &subject);
        let kind = event.kind().to_owned();
        let entry = |position, repeated| Entry { event: id.clone(), kind: kind.clone(), position, repeated };
        if let Some(before) = self.log.find(&id).await? {
            let asked = Event::decode(&before.kind, &before.data).ok().flatten();
            let by_same = !keyed || before.actor.as_ref() == Some(&actor);
            let same = by_same && asked.is_some_and(|asked| asks_the_same(&asked, &event));
            return if same { Ok(entry(before.position, true)) } else { Err(Problem::IdempotencyMismatch) };
        }
        if let Some(already) = already {
            return Ok(already);
        }
        if let Some(refusal) = refusal {
            return Err(Problem::Conflict(refusal));
        }
        let new = NewEvent {
            id: id.clone(),
            kind: kind.clone(),
            scope,
            stream,
            occurred_at: self.clock.now(),
            causation_id: None,
            correlation_id: None,
            schema_version: 1,
            actor: Some(actor),
            partition: partition_of(&about),
            delivery: None,
            data: event.encode(),
            on_reuse: IdReuse::Refused,
        };
        match self.log.append(Append::events(vec![new])).await?.first() {
            Some(Placed::Appended(position)) => Ok(entry(*position, false)),
            Some(Placed::Duplicate(position)) => Ok(entry(*position, true)),
            None => Err(Problem::Internal("the log placed no event".into())),
        }
    }
}

/// Whether two events record the same request. Through when a waiver closes a unit is not asked for but looked up, and
/// may have moved since.
fn asks_the_same(before: &Event, now: &Event) -> bool {
    match (before, now) {
        (Event::ObligationWaived(before), Event::ObligationWaived(now)) => {
            before.unit == now.unit && before.reason == now.reason
        }
        (before, now) => before == now,
    }
}

/// What tells two requests apart: the sender's key, or what was asked.
pub(super) fn occasion(idempotency_key: Option<&str>, content: &str) -> String {
    idempotency_key.map_or_else(|| format!("content\n{content}"), |key| format!("key\n{key}"))
}
