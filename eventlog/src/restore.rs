//! Putting events back, decided without touching the log: what another copy recorded must continue this one.
//!
//! Nothing is computed anew: positions, versions, times and chain values are those of the copy, and are only checked.

use std::collections::{HashMap, HashSet};

use keyledger_schemas::envelope::{Recorded, Version, content_hash};
use keyledger_schemas::ids::{EventId, StreamId};

use crate::log::{Head, RestoreError};
use crate::plan::{Known, Plan};

/// Decides whether `events` continue the log, and notes them in `known`, so that the next of the same transaction builds
/// on them.
///
/// # Errors
///
/// `NotNext` and `Broken` as [`RestoreError`] describes them; `known` is then unchanged.
pub fn plan(events: &[Recorded], known: &mut Known) -> Result<Plan, RestoreError> {
    let mut offered = Offered { head: known.head, ids: HashSet::new(), versions: HashMap::new() };
    if let Some(first) = events.first()
        && first.position != known.head.position + 1
    {
        return Err(RestoreError::NotNext { expected: known.head.position + 1, offered: first.position });
    }
    for event in events {
        offered.take(event, known).map_err(|reason| RestoreError::Broken { position: event.position, reason })?;
    }

    known.head = offered.head;
    known.versions.extend(offered.versions);
    known.ids.extend(events.iter().map(|event| (event.id.clone(), Some((event.position, event.content_hash)))));
    Ok(Plan { events: events.to_vec(), ..Plan::default() })
}

/// Where the log would be with the events taken so far.
struct Offered<'e> {
    head: Head,
    ids: HashSet<&'e EventId>,
    versions: HashMap<StreamId, Version>,
}

impl<'e> Offered<'e> {
    /// Adds `event`, or says what is wrong with it as the next one.
    fn take(&mut self, event: &'e Recorded, known: &Known) -> Result<(), String> {
        if event.position != self.head.position + 1 {
            return Err(format!("it follows position {}", self.head.position));
        }
        if content_hash(&event.data) != event.content_hash {
            return Err("its data does not have its hash".to_owned());
        }
        if event.chain_after(&self.head.chain) != event.chain {
            return Err(format!("it does not hang on the chain value of position {}", self.head.position));
        }
        if let Some((position, _)) = known.ids.get(&event.id).copied().flatten() {
            return Err(format!("its id `{}` is in the log at position {position}", event.id));
        }
        if !self.ids.insert(&event.id) {
            return Err(format!("its id `{}` is offered twice", event.id));
        }
        let known_version = || known.versions.get(&event.stream).copied().unwrap_or(0);
        let before = self.versions.get(&event.stream).copied().unwrap_or_else(known_version);
        if event.version != before + 1 {
            return Err(format!("version {} of stream `{}` follows version {before}", event.version, event.stream));
        }
        self.versions.insert(event.stream.clone(), event.version);
        self.head = Head { position: event.position, chain: event.chain };
        Ok(())
    }
}
