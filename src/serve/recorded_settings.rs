//! Keeps the log's idea of the settings in step with ours: what decides is an event too.

use anyhow::Context;
use jiff::Timestamp;
use keyledger_eventlog::log::{Append, AppendError, EventLog};
use keyledger_schemas::envelope::{IdReuse, NewEvent, Recorded, content_hash, derived_id};
use keyledger_schemas::event::{Event, SETTINGS_STREAM, SettingsChanged};
use keyledger_schemas::ids::{Mode, Scope, SourceName, StreamId};
use keyledger_schemas::settings::DecidingSettings;

/// Events read at once.
const PAGE: usize = 100;

/// Other processes that may change the settings in the same moment, before we give up.
const ATTEMPTS_MAX: u32 = 10;

/// Appends `settings.changed` if `settings` differ from the last recorded ones. Says whether they did.
///
/// # Errors
///
/// When the log cannot be reached.
pub async fn record(log: &dyn EventLog, settings: &DecidingSettings, now: Timestamp) -> anyhow::Result<bool> {
    let stream = StreamId::from(SETTINGS_STREAM);
    for _ in 0..ATTEMPTS_MAX {
        let last = last(log, &stream).await.context("reading the recorded settings")?;
        if let Some(last) = &last {
            let recorded: SettingsChanged =
                serde_json::from_slice(&last.data).context("reading the recorded settings")?;
            if recorded.settings == *settings {
                return Ok(false);
            }
        }
        let version = last.as_ref().map_or(0, |last| last.version);
        let event = changed(settings, last.as_ref(), now);
        let append = Append { events: vec![event], expected: Some((stream.clone(), version)), ..Append::default() };
        match log.append(append).await {
            Ok(_) => return Ok(true),
            // Another process starts at the same time: look again.
            Err(AppendError::Conflict { .. }) => {}
            Err(error) => return Err(error).context("recording the settings"),
        }
    }
    anyhow::bail!("other processes keep changing the recorded settings: give all of them the same")
}

async fn last(log: &dyn EventLog, stream: &StreamId) -> Result<Option<Recorded>, keyledger_eventlog::log::LogError> {
    let mut last: Option<Recorded> = None;
    loop {
        let version = last.as_ref().map_or(0, |last| last.version);
        match log.read_stream(stream, version, PAGE).await?.pop() {
            Some(newer) => last = Some(newer),
            None => return Ok(last),
        }
    }
}

fn changed(settings: &DecidingSettings, last: Option<&Recorded>, now: Timestamp) -> NewEvent {
    let event = Event::SettingsChanged(SettingsChanged { settings: settings.clone() });
    let data = event.encode();
    let cause = last.map_or("none", |last| last.id.as_str());
    NewEvent {
        id: derived_id(cause, event.kind(), &crate::cli::hex(&content_hash(&data))),
        kind: event.kind().to_owned(),
        scope: Scope::new(SourceName::default(), Mode::Live),
        stream: StreamId::from(SETTINGS_STREAM),
        occurred_at: now,
        causation_id: None,
        correlation_id: None,
        schema_version: 1,
        actor: None,
        partition: 0,
        delivery: None,
        data,
        on_reuse: IdReuse::Refused,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyledger_eventlog::memory::MemoryLog;
    use keyledger_schemas::clock::ManualClock;
    use keyledger_schemas::ids::ProviderName;

    use super::*;

    #[tokio::test]
    async fn settings_are_recorded_once_and_again_when_they_change_and_change_back() {
        let now = Timestamp::UNIX_EPOCH;
        let log = MemoryLog::new(Arc::new(ManualClock::at(now)));
        let first = DecidingSettings::default();
        let mut second = first.clone();
        second.providers.insert(ProviderName::from("builtin"));
        for (settings, differs) in [(&first, true), (&first, false), (&second, true), (&second, false), (&first, true)]
        {
            assert_eq!(record(&log, settings, now).await.unwrap(), differs);
        }
        assert_eq!(log.head().await.unwrap().position, 3);
    }
}
