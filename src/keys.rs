//! Whether the deployment's keys are those that its log belongs to. Other keys would make other license keys, and open
//! none of those that were sold.

use std::path::Path;

use anyhow::{Context, bail};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::EventLog;
use keyledger_schemas::envelope::{Position, Recorded};
use keyledger_schemas::event::Event;

/// Events read at once.
const PAGE: Position = 256;

/// So many of the newest events are looked through for a sealed key. A log that has none there is not judged: looking
/// must not take longer than a start may.
const LOOKED_AT_MAX: Position = 50_000;

/// What to say of a log whose keys are not there.
pub fn missing(events: Position, keys_dir: &Path) -> String {
    format!(
        "the log holds {events} events, and the keys that belong to it are not in {}: restore them from the backup; new \
         ones would make other license keys",
        keys_dir.display()
    )
}

/// Refuses keys that are not those the log's latest sealed license key was sealed with.
///
/// # Errors
///
/// When they are others, or the log cannot be read.
pub async fn require_those_of(log: &dyn EventLog, keys: &DeploymentKeys, keys_dir: &Path) -> anyhow::Result<()> {
    let Some(theirs) = sealed_with(log).await? else { return Ok(()) };
    let ours = keys.sealing_key_id();
    if theirs != ours {
        bail!(
            "the license keys in the log are sealed with the key {theirs}, and {} holds {ours}: restore the keys that \
             belong to this log from the backup; these can read none of them, and would make others",
            keys_dir.display()
        );
    }
    Ok(())
}

/// The name of the key that the log's latest license key is sealed with, if it holds one.
async fn sealed_with(log: &dyn EventLog) -> anyhow::Result<Option<String>> {
    let head = log.head().await.context("reading the log")?.position;
    let mut end = head;
    while end > head.saturating_sub(LOOKED_AT_MAX) {
        let before = end.saturating_sub(PAGE);
        let page = log.read_after(before, usize::try_from(end - before)?).await.context("reading the log")?;
        if let Some(name) = page.iter().rev().find_map(sealing_key) {
            return Ok(Some(name));
        }
        end = before;
    }
    Ok(None)
}

/// The name of the sealing key, if the event carries a sealed license key.
fn sealing_key(event: &Recorded) -> Option<String> {
    match Event::decode(&event.kind, &event.data) {
        Ok(Some(Event::LicenseIssued(issued))) => issued.key.map(|key| key.key_id),
        _ => None,
    }
}
