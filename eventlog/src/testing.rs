//! Ready-made events for the tests of every crate.

use jiff::Timestamp;
use keyledger_schemas::envelope::{IdReuse, NewEvent};
use keyledger_schemas::ids::{Mode, Scope, SourceName};

/// A plain event: live, of the default source, without delivery or causes, refused when its id is used again.
///
/// Change what matters with `NewEvent { kind: …, ..testing::event("evt_1", "stream", "{}") }`.
pub fn event(id: &str, stream: &str, data: impl Into<Vec<u8>>) -> NewEvent {
    NewEvent {
        id: id.into(),
        kind: "test.happened".to_owned(),
        scope: Scope::new(SourceName::default(), Mode::Live),
        stream: stream.into(),
        occurred_at: Timestamp::UNIX_EPOCH,
        causation_id: None,
        correlation_id: None,
        schema_version: 1,
        actor: None,
        partition: 0,
        delivery: None,
        data: data.into(),
        on_reuse: IdReuse::Refused,
    }
}
