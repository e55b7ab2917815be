//! License keys: opening sealed ones, and recording that they were shown.

use keyledger_engine::seal;
use keyledger_eventlog::log::Append;
use keyledger_projector::read;
use keyledger_schemas::envelope::{IdReuse, NewEvent, derived_id, partition_of};
use keyledger_schemas::event::{Event, KeyRevealed};
use keyledger_schemas::ids::LicenseId;
use keyledger_schemas::secret::Secret;

use super::Api;
use crate::access::{Caller, Role};
use crate::problem::Problem;

/// How many events of a stream are read at a time.
const CHUNK: usize = 200;

impl Api {
    /// The keys of `licenses`, in their order; `None` where the engine does not show one.
    ///
    /// That they were shown is in the log before this returns, one event a license, by the caller's name.
    pub(super) async fn reveal(
        &self,
        licenses: &[read::License],
        caller: &Caller,
    ) -> Result<Vec<Option<Secret>>, Problem> {
        caller.must_be(Role::Support)?;
        let mut keys = Vec::with_capacity(licenses.len());
        let mut events = Vec::new();
        for license in licenses {
            let key = self.open(license).await?;
            if key.is_some() {
                events.push(self.revealed(license, caller));
            }
            keys.push(key);
        }
        if !events.is_empty() {
            self.log.append(Append::events(events)).await?;
        }
        Ok(keys)
    }

    fn revealed(&self, license: &read::License, caller: &Caller) -> NewEvent {
        let event = Event::KeyRevealed(KeyRevealed { license: license.id });
        let purchase = &license.purchase;
        NewEvent {
            id: derived_id(&caller.request, event.kind(), &license.id.to_string()),
            kind: event.kind().to_owned(),
            scope: purchase.scope.clone(),
            stream: purchase.stream(),
            occurred_at: self.clock.now(),
            causation_id: None,
            correlation_id: None,
            schema_version: 1,
            actor: Some(caller.name.clone()),
            partition: partition_of(license.customer.as_ref().map_or(&purchase.object, |customer| customer.as_str())),
            delivery: None,
            data: event.encode(),
            on_reuse: IdReuse::Refused,
        }
    }

    /// The key of a license, opened. It is sealed for the event that issued it, so that event is read.
    pub(super) async fn open(&self, license: &read::License) -> Result<Option<Secret>, Problem> {
        if license.key.is_none() {
            return Ok(None);
        }
        let stream = license.purchase.stream();
        let mut version = 0;
        loop {
            let chunk = self.log.read_stream(&stream, version, CHUNK).await?;
            let Some(last) = chunk.last() else {
                // The views show a key that this log does not hold: they were folded from another log.
                return Err(Problem::Internal("the event that issued the license is not in the log".into()));
            };
            version = last.version;
            for event in &chunk {
                if let Some(sealed) = issued(&event.kind, &event.data, license.id) {
                    return seal::open(&self.keys, &event.id, &sealed)
                        .map(Some)
                        .map_err(|e| Problem::Internal(e.into()));
                }
            }
        }
    }
}

/// The sealed key, where this is the event that issued the license.
fn issued(kind: &str, data: &[u8], license: LicenseId) -> Option<keyledger_schemas::event::SealedKey> {
    match Event::decode(kind, data) {
        Ok(Some(Event::LicenseIssued(issued))) if issued.license == license => issued.key,
        _ => None,
    }
}
