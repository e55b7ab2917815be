//! What the log has: events by their Stripe id in any rendering, and facts by the object they are about.

use std::collections::{BTreeMap, BTreeSet};

use keyledger_eventlog::log::{EventLog, LogError};
use keyledger_schemas::ids::{AccountId, EventId, Mode, Scope, SourceName, StreamId};
use keyledger_schemas::stripe;
use keyledger_schemas::stripe::fact::Fact;

use crate::store::LINKS;

/// Events of a stream that are read at once.
const BATCH: usize = 100;

/// Streams that are remembered; then all are forgotten.
const REMEMBERED_MAX: usize = 2_000;

/// Connected accounts that one source may have for us.
const ACCOUNTS_MAX: usize = 100_000;

/// What the log says, remembered for one comparison.
pub(super) struct Known<'l> {
    log: &'l dyn EventLog,
    /// Ids of the events in a stream.
    ids: BTreeMap<StreamId, BTreeSet<String>>,
}

impl<'l> Known<'l> {
    pub(super) fn new(log: &'l dyn EventLog) -> Self {
        Self { log, ids: BTreeMap::new() }
    }

    /// Whether the log has any rendering of the event that would be called `id` in this stream. A thin one is none: it says
    /// nothing.
    pub(super) async fn has(&mut self, id: &EventId, stream: &StreamId) -> Result<bool, LogError> {
        let Some(named) = without_version(id.as_str()) else { return Ok(false) };
        if let Some(ids) = self.ids.get(stream)
            && ids.contains(named)
        {
            return Ok(true);
        }
        if self.log.find(id).await?.is_some() {
            return Ok(true);
        }
        if !self.ids.contains_key(stream) {
            if self.ids.len() >= REMEMBERED_MAX {
                self.ids.clear();
            }
            let ids = self.ids_of(stream).await?;
            self.ids.insert(stream.clone(), ids);
        }
        Ok(self.ids.get(stream).is_some_and(|ids| ids.contains(named)))
    }

    /// Whether another source has it, under the id that it would have there.
    pub(super) async fn has_elsewhere(
        &self,
        id: &EventId,
        own: &SourceName,
        others: &[SourceName],
    ) -> Result<bool, LogError> {
        let Some(rest) = id.as_str().strip_prefix(own.as_str()) else { return Ok(false) };
        for other in others.iter().filter(|other| *other < own) {
            if self.log.find(&EventId::new(format!("{other}{rest}"))).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the log says in the streams of these objects.
    pub(super) async fn facts(&self, scope: &Scope, objects: &BTreeSet<String>) -> Result<Vec<Fact>, LogError> {
        let mut facts = Vec::new();
        for object in objects {
            let stream = StreamId::new(format!("stripe:{scope}:{object}"));
            let mut after = 0;
            loop {
                let events = self.log.read_stream(&stream, after, BATCH).await?;
                let Some(last) = events.last() else { break };
                after = last.version;
                facts.extend(events.iter().flat_map(|event| stripe::facts(&event.data)));
            }
        }
        Ok(facts)
    }

    async fn ids_of(&self, stream: &StreamId) -> Result<BTreeSet<String>, LogError> {
        let mut ids = BTreeSet::new();
        let mut after = 0;
        loop {
            let events = self.log.read_stream(stream, after, BATCH).await?;
            let Some(last) = events.last() else { return Ok(ids) };
            after = last.version;
            let told = events.iter().filter(|event| !event.kind.starts_with("stripe.thin."));
            ids.extend(told.filter_map(|event| without_version(event.id.as_str())).map(str::to_owned));
        }
    }
}

/// `source:account:mode:evt_…` of an event's id, whose last part is the version.
fn without_version(id: &str) -> Option<&str> {
    id.rsplit_once(':').map(|(named, _)| named)
}

/// The connected accounts that a source's events have shown, as the issuer's links have them.
pub(super) async fn accounts(
    log: &dyn EventLog,
    source: &SourceName,
    mode: Mode,
) -> Result<BTreeSet<AccountId>, LogError> {
    let prefix = format!("{source}:");
    let (mut accounts, mut after) = (BTreeSet::new(), prefix.clone());
    while accounts.len() < ACCOUNTS_MAX {
        let Some(row) = log.state_scan(LINKS, &prefix, &after, 1).await?.pop() else { break };
        let mut parts = row.key[prefix.len()..].splitn(3, ':');
        let (Some(account), Some(of)) = (parts.next(), parts.next()) else { break };
        if account != "-" && of == mode.as_str() {
            accounts.insert(AccountId::from(account));
        }
        // The next key of another account and mode: `;` follows `:`.
        after = format!("{prefix}{account}:{of};");
    }
    Ok(accounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_by_its_id_whatever_its_version() {
        assert_eq!(without_version("default:-:live:evt_1:2024-06-20"), Some("default:-:live:evt_1"));
        assert_eq!(without_version("default:-:live:evt_1:-"), Some("default:-:live:evt_1"));
    }
}
