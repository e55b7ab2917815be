//! Whether the deployment's keys are those that its log belongs to. Other keys would make other license keys, and open
//! none of those that were sold.
//!
//! The first process that uses keys with a log notes their name beside it; the log's own sealed license keys name theirs.

use std::path::Path;

use anyhow::{Context, bail};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::{Append, AppendError, EventLog};
use keyledger_eventlog::state::{StateChange, StateWrite};
use keyledger_schemas::envelope::{Position, Recorded};
use keyledger_schemas::event::Event;

/// Events read at once.
const PAGE: Position = 256;

/// So many of the newest events are looked through for a sealed key. A log that has none there is not judged: looking
/// must not take longer than a start may.
const LOOKED_AT_MAX: Position = 50_000;

/// Where the name of the sealing key is noted beside the log.
const NAMESPACE: &str = "deployment";
const KEY: &str = "sealing_key";

/// What a log says of the keys that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfLog {
    /// None were ever used with it.
    Nothing,
    /// Those whose sealing key has this name.
    Key(String),
    /// Nobody looked at all of it.
    Unknown,
}

/// What to say of a log whose keys are not there.
pub fn missing(events: Position, keys_dir: &Path) -> String {
    format!(
        "the log holds {events} events, and the keys that belong to it are not in {}: restore them from the backup, or \
         copy them from the machine that has them; new ones would make other license keys",
        keys_dir.display()
    )
}

/// Refuses keys that are not those that were used with the log.
///
/// # Errors
///
/// When they are others, or the log cannot be read.
pub async fn require_those_of(log: &dyn EventLog, keys: &DeploymentKeys, keys_dir: &Path) -> anyhow::Result<()> {
    let OfLog::Key(theirs) = of_log(log).await? else { return Ok(()) };
    let ours = keys.sealing_key_id();
    if theirs != ours {
        bail!(
            "the license keys in the log are sealed with the key {theirs}, and {} holds {ours}: restore the keys that \
             belong to this log from the backup, or copy them from the machine that has them; these can read none of \
             them, and would make others",
            keys_dir.display()
        );
    }
    Ok(())
}

/// Notes beside the log that these keys belong to it. Of two processes that do so with different keys one is refused.
///
/// # Errors
///
/// When others were noted a moment ago, or the log cannot be written.
pub async fn claim(log: &dyn EventLog, keys: &DeploymentKeys, keys_dir: &Path) -> anyhow::Result<()> {
    if log.state(NAMESPACE, KEY).await.context("reading the log")?.is_some() {
        return Ok(());
    }
    if !note(log, keys.sealing_key_id()).await? {
        // Another process was first.
        require_those_of(log, keys, keys_dir).await?;
    }
    Ok(())
}

/// Notes beside the log that the keys with a sealing key of this name belong to it. `false` when some were noted before.
///
/// # Errors
///
/// When the log cannot be written.
pub async fn note(log: &dyn EventLog, name: String) -> anyhow::Result<bool> {
    let row = StateWrite {
        namespace: NAMESPACE.to_owned(),
        key: KEY.to_owned(),
        expected: Some(0),
        change: StateChange::Put { value: name.into_bytes(), due_at: None },
    };
    match log.append(Append { state: vec![row], ..Append::default() }).await {
        Ok(_) => Ok(true),
        Err(AppendError::StaleState { .. }) => Ok(false),
        Err(error) => Err(error).context("noting beside the log which keys belong to it"),
    }
}

/// What the log says of the keys that belong to it.
///
/// # Errors
///
/// When it cannot be read.
pub async fn of_log(log: &dyn EventLog) -> anyhow::Result<OfLog> {
    if let Some(row) = log.state(NAMESPACE, KEY).await.context("reading the log")? {
        return Ok(OfLog::Key(String::from_utf8_lossy(&row.value).into_owned()));
    }
    let head = log.head().await.context("reading the log")?.position;
    let mut end = head;
    while end > head.saturating_sub(LOOKED_AT_MAX) {
        let before = end.saturating_sub(PAGE);
        if let Some(name) = last_sealing_key(log, before, end).await.context("reading the log")? {
            return Ok(OfLog::Key(name));
        }
        end = before;
    }
    Ok(if end == 0 { OfLog::Nothing } else { OfLog::Unknown })
}

/// The name of the sealing key of the last event after `after`, up to `to`, that carries a sealed license key.
async fn last_sealing_key(log: &dyn EventLog, after: Position, to: Position) -> anyhow::Result<Option<String>> {
    let (mut at, mut name) = (after, None);
    // Large events make a page end early.
    while at < to {
        let page = log.read_after(at, usize::try_from(to - at)?).await?;
        let Some(last) = page.last() else { break };
        at = last.position;
        name = page.iter().rev().find_map(sealing_key).or(name);
    }
    Ok(name)
}

/// The name of the sealing key, if the event carries a sealed license key.
pub fn sealing_key(event: &Recorded) -> Option<String> {
    match Event::decode(&event.kind, &event.data) {
        Ok(Some(Event::LicenseIssued(issued))) => issued.key.map(|key| key.key_id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyledger_eventlog::sqlite::{Options, SqliteLog};
    use keyledger_eventlog::testing::event;
    use keyledger_schemas::clock::SystemClock;
    use keyledger_schemas::envelope::NewEvent;

    use super::*;

    #[tokio::test]
    async fn a_sealed_key_is_found_behind_large_events() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let log = SqliteLog::open(path.to_str().unwrap(), Arc::new(SystemClock), Options::default()).await.unwrap();
        assert!(matches!(of_log(&log).await.unwrap(), OfLog::Nothing));
        for number in 0..6 {
            let large = event(&format!("large_{number}"), "s", vec![b' '; 4 * 1024 * 1024]);
            log.append(Append::events(vec![large])).await.unwrap();
        }
        let data = include_bytes!("../schemas/testdata/events/license.issued.v1.json");
        let issued = NewEvent { kind: "license.issued".to_owned(), ..event("issued", "s", data.to_vec()) };
        log.append(Append::events(vec![issued])).await.unwrap();
        assert!(matches!(of_log(&log).await.unwrap(), OfLog::Key(_)));
        log.close().await;
    }
}
