//! Two sources that are one account: every sale would be sold twice. Each endpoint has a secret of its own, so the
//! settings do not show it; but Stripe's event ids are unique, so the events do.

use keyledger_eventlog::log::{AppendError, EventLog};
use keyledger_schemas::envelope::NewEvent;
use keyledger_schemas::ids::{EventId, SourceName};

/// Whether an event is to be refused because another source has it. Says so loudly in either case that one has.
///
/// Of two such sources, the first by name is never refused anything, so that it misses nothing and its sales are
/// complete; the other is refused what the first has by then. Two deliveries at the same moment may both be kept.
///
/// # Errors
///
/// [`AppendError::Unavailable`] when the log cannot be read: the sender is to try again.
pub async fn must_refuse(log: &dyn EventLog, names: &[SourceName], event: &NewEvent) -> Result<bool, AppendError> {
    let own = &event.scope.source;
    for other in names.iter().filter(|name| *name != own) {
        let Some(id) = id_at(other, event) else { continue };
        if log.find(&id).await.map_err(AppendError::Unavailable)?.is_some() {
            tracing::error!(
                event.id = %event.id,
                "sources {own} and {other} are the same account: make them one source with both secrets, or what is \
                 sold may be issued twice"
            );
            if other < own {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The id that `event` would have, had it come to `source`.
fn id_at(source: &SourceName, event: &NewEvent) -> Option<EventId> {
    let rest = event.id.as_str().strip_prefix(event.scope.source.as_str())?;
    Some(EventId::new(format!("{source}{rest}")))
}
