//! What a process remembers of the log, so that it notices when the database was put back to an older state: by a
//! restored backup, or by a fail-over to a replica that lagged. An append would then take the place of an event that a
//! mirror, or a reader, may still hold.
//!
//! ```text
//!   seen                        ▼ 200                what this process read or wrote last
//!   the log as it is now  ──────┤ 195                behind it: only putting back is taken, and leases
//!                         ──────────┤ 203, another   past it by other events: they have their places, nothing is
//!                                                    saved by refusing more, and whoever follows the log will say so
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyledger_schemas::envelope::Hash;
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use super::schema;
use crate::group::{Answer, Request};
use crate::jetstream::relay;
use crate::lease::{self, LEASES};
use crate::log::{Head, LogError};
use crate::sql::{self, PlaceRow};

/// Which history of the server this is, and how far it has come. A promoted standby begins another.
const PLACE: &str = "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), \
     (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint";

/// The furthest event that this process has read or written. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Head>>);

impl Seen {
    /// Notes an event that was read, or where the log ended.
    pub(super) fn note(&self, head: Head) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if head.position > seen.position {
            *seen = head;
        }
    }

    fn get(&self) -> Head {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, head: Head) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = head;
    }
}

/// What the writer goes by.
pub(super) struct Memory {
    log_id: Uuid,
    seen: Seen,
    /// How long nothing is appended after the server's history changed.
    pause: Duration,
    /// Whether the log on this connection is still the one that was seen.
    is_sure: bool,
    place: Option<(String, i64)>,
    paused_until: Option<Instant>,
}

/// What a transaction found when it had locked the head.
pub(super) struct Found {
    pub head: Head,
    /// The furthest event that had been seen before, and the chain value at its position now.
    pub seen: Head,
    pub chain_seen: Option<Hash>,
}

/// Why not everything may be written now.
pub(super) enum Doubt {
    /// Nothing may.
    Foreign(String),
    /// What is missing may be put back, and leases must live, or nobody would be there to do it. The relay has compared
    /// the log with its mirror: what it appends is what cannot be put back in its place any more.
    Behind(String),
}

impl Doubt {
    /// The answer to `request`, if it is refused.
    pub(super) fn refuses(&self, request: &Request) -> Option<Answer> {
        let (Self::Foreign(reason) | Self::Behind(reason)) = self;
        let passes = match (self, request) {
            (Self::Foreign(_), _) => false,
            (Self::Behind(_), Request::Restore { .. }) => true,
            (Self::Behind(_), Request::Append { append, .. }) => {
                let is_lease = !append.state.is_empty() && append.state.iter().all(|write| write.namespace == LEASES);
                let is_relay = append.state.iter().any(|write| lease::is_fence_of(write, relay::LEASE));
                is_relay || is_lease && append.events.is_empty()
            }
        };
        (!passes).then(|| request.refused(LogError::Unsafe { reason: reason.clone() }))
    }
}

impl Memory {
    pub(super) fn new(log_id: Uuid, seen: Seen, pause: Duration) -> Self {
        Self { log_id, seen, pause, is_sure: false, place: None, paused_until: None }
    }

    /// Notes that a connection is new: the server behind it may be another.
    pub(super) async fn connected(&mut self, connection: &mut PgConnection) -> Result<(), LogError> {
        self.is_sure = false;
        // A server that does not say has no history that we could compare.
        let place: Option<(String, i64)> = sqlx::query_as(PLACE).fetch_one(connection).await.ok();
        if let (Some((before, reached)), Some((now, at))) = (&self.place, &place)
            && (before != now || at < reached)
        {
            tracing::warn!("the log's server was switched over or put back; nothing is appended for {:?}", self.pause);
            self.paused_until = Some(Instant::now() + self.pause);
        }
        self.place = place.or(self.place.take());
        Ok(())
    }

    /// The furthest event that was seen.
    pub(super) fn seen(&self) -> Head {
        self.seen.get()
    }

    /// Notes what a transaction left, now that it is committed.
    pub(super) fn committed(&self, head: Head) {
        self.seen.note(head);
    }

    /// Whether the log as it was found, with its head locked, may be written.
    pub(super) async fn doubt(
        &mut self,
        connection: &mut PgConnection,
        found: Found,
    ) -> Result<Option<Doubt>, LogError> {
        let Found { head, seen, chain_seen } = found;
        if !self.is_sure
            && let Some(reason) = self.foreign(&mut *connection, head).await?
        {
            return Ok(Some(Doubt::Foreign(reason)));
        }
        if head.position < seen.position {
            let (at, seen) = (head.position, seen.position);
            return Ok(Some(Doubt::Behind(format!(
                "its database went back to an older state, by a restored backup or a fail-over: it ends at position \
                 {at}, and position {seen} was seen; what is missing is put back from the mirror, or restart to go on \
                 without it"
            ))));
        }
        if seen.position > 0 && chain_seen != Some(seen.chain) {
            tracing::error!(
                position = seen.position,
                "the log was put back to an older state and went on from there: position {} holds another event now",
                seen.position
            );
            self.seen.replace(head);
        }
        self.is_sure = true;
        match self.paused_until {
            Some(until) if Instant::now() < until => Ok(Some(Doubt::Behind(
                "its server was switched over a moment ago, and the mirror may hold more; try again soon".to_owned(),
            ))),
            _ => {
                self.paused_until = None;
                Ok(None)
            }
        }
    }

    /// Why the tables do not hold this log, if so.
    async fn foreign(&self, connection: &mut PgConnection, head: Head) -> Result<Option<String>, LogError> {
        let now = schema::log_id(&mut *connection).await?;
        if now != self.log_id {
            let log_id = self.log_id;
            return Ok(Some(format!(
                "the database holds the log {now} now, not {log_id}; give it back, or start anew"
            )));
        }
        let end = PlaceRow::head(sqlx::query_as(sql::HEAD).fetch_optional(connection).await?)?;
        let (at, said) = (end.position, head.position);
        let reason =
            format!("its events end at position {at}, and `log_head` says {said}; restore both from one backup");
        Ok((end != head).then_some(reason))
    }
}
