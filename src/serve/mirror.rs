//! The log's mirror on JetStream, where there is one: the connection, the relay that writes it, and the tail that follows it.

use std::sync::Arc;

use anyhow::Context;
use keyledger_eventlog::jetstream::relay::{self, Relay};
use keyledger_eventlog::jetstream::tail::{Fallback as TailFallback, JetStreamTail};
use keyledger_eventlog::jetstream::{Mirror, connect};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::{SqlTail, Tail};
use keyledger_schemas::clock::Clock;

use crate::lifecycle::{Lifecycle, Stage};
use crate::settings::{Fallback, Nats};

/// The mirror that the settings name. It need not be there: the connection is made as soon as it can be, and made again
/// whenever it is lost.
///
/// # Errors
///
/// When the settings cannot be used: a file of credentials is missing, or a host has no address.
pub async fn mirror(nats: Option<&Nats>, log: &dyn EventLog, role: &str) -> anyhow::Result<Option<Mirror>> {
    let Some(nats) = nats else { return Ok(None) };
    let mut options = nats.server.clone();
    options.name = format!("keyledger {role}");
    let client = connect(&options).await.context("setting up `[nats]`")?;
    Ok(Some(Mirror::new(client, log.log_id())))
}

/// Writes the mirror for as long as the process takes something in or adds something: it is the last to stop.
pub fn relay(lifecycle: &mut Lifecycle, mirror: Mirror, log: Arc<dyn EventLog>, clock: Arc<dyn Clock>, holder: String) {
    let relay = Relay::new(log, mirror, clock, relay::Options::of(holder));
    lifecycle.spawn(Stage::Carry, "relay", |stop| async move {
        relay.run(stop).await;
        Ok(())
    });
}

/// What a consumer follows: the mirror where there is one, else the log's database.
pub fn tail(
    nats: Option<&Nats>,
    mirror: Option<&Mirror>,
    log: &Arc<dyn EventLog>,
    name: &'static str,
) -> Arc<dyn Tail> {
    let (Some(nats), Some(mirror)) = (nats, mirror) else { return Arc::new(SqlTail::new(log.clone())) };
    let fallback = match nats.fallback {
        Fallback::Sql => TailFallback::Sql,
        Fallback::Wait => TailFallback::Wait,
    };
    // One durable consumer for each role, by which permissions name it.
    Arc::new(JetStreamTail::new(log.clone(), mirror.clone(), format!("keyledger-{name}"), fallback))
}
