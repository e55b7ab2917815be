//! A lease on state rows: [`Lease`]. One holder at a time does a thing; a standby takes over when it goes silent.
//!
//! Time decides only when a standby may *try*. What keeps two holders apart is the epoch: every append of a holder
//! carries [`Lease::fence`], and taking over moves the epoch in the same kind of transaction. A holder whose clock is
//! wrong, or that was asleep, writes nothing after it was replaced.
//!
//! ```text
//!   lease/<name>                      the holder's name; its revision is the epoch, moved only by taking over
//!   lease/<name>/until                the holder's promise to be back, moved by every renewal
//!   lease/<name>/by/<holder>#<epoch>  there while this is the one who holds it: what the fence asks for
//! ```
//!
//! The epoch alone would not do: after the log's database was put back to an older state, another holder may come to the
//! same number.

use std::time::Duration;

use jiff::Timestamp;

use crate::log::{Append, AppendError, EventLog, LogError};
use crate::state::{StateChange, StateWrite};

/// The namespace of the rows.
pub const LEASES: &str = "lease";

/// A lease that is, or was, ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is leased: `issuer`, `relay`.
    pub name: String,
    /// Who holds it: different for every process that may run at the same time.
    pub holder: String,
    /// Counts holders. An append fenced by an older epoch is refused.
    pub epoch: u64,
    /// Until when no one else tries to take it.
    pub until: Timestamp,
    /// The revision of the row that the fence asks for.
    fence: u64,
}

/// What came of trying to take a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is ours.
    Ours(Lease),
    /// Someone else has it: try again after `until`.
    Held {
        /// Who.
        holder: String,
        /// Until when, unless they renew.
        until: Timestamp,
    },
}

impl Lease {
    /// Takes the lease for `ttl` if it is free, has run out, or is `holder`'s own from before a restart.
    ///
    /// # Errors
    ///
    /// When the log fails; whether the lease was taken is then settled by trying again.
    pub async fn acquire<L: EventLog + ?Sized>(
        log: &L,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Taken, LogError> {
        let epoch_row = log.state(LEASES, name).await?;
        let until_row = log.state(LEASES, &until_key(name)).await?;
        let epoch = epoch_row.as_ref().map_or(0, |row| row.revision);
        if let (Some(row), Some(until)) = (&epoch_row, until_row.as_ref().and_then(|row| row.due_at)) {
            let current = String::from_utf8_lossy(&row.value);
            if until > now && current != holder {
                return Ok(Taken::Held { holder: current.into_owned(), until });
            }
        }
        let until = after(now, ttl);
        let fence_key = fence_key(name, holder, epoch + 1);
        let fence = log.state(LEASES, &fence_key).await?.map_or(0, |row| row.revision);
        let mut state = vec![
            put(name.to_owned(), Some(epoch), holder, None),
            // Guarded too: its holder may have renewed since it was read.
            put(until_key(name), Some(until_row.map_or(0, |row| row.revision)), holder, Some(until)),
            put(fence_key, Some(fence), holder, None),
        ];
        if let Some(row) = &epoch_row {
            let key = self::fence_key(name, &String::from_utf8_lossy(&row.value), epoch);
            state.push(StateWrite { namespace: LEASES.to_owned(), key, expected: None, change: StateChange::Delete });
        }
        match log.append(Append { state, ..Append::default() }).await {
            Ok(_) => {
                let (name, holder) = (name.to_owned(), holder.to_owned());
                Ok(Taken::Ours(Self { name, holder, epoch: epoch + 1, until, fence: fence + 1 }))
            }
            Err(AppendError::Unavailable(error)) => Err(error),
            // Someone else was first, a moment ago: they hold it about as long as we would have.
            Err(_) => Ok(Taken::Held { holder: "another process".to_owned(), until }),
        }
    }

    /// Keeps the lease for `ttl` from now; `false` when it was taken over. A lease that ran out and that nobody took
    /// is still ours.
    ///
    /// # Errors
    ///
    /// When the log fails; try again before the lease runs out.
    pub async fn renew<L: EventLog + ?Sized>(
        &mut self,
        log: &L,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<bool, LogError> {
        let until = after(now, ttl);
        let kept = self.set_until(log, until).await?;
        if kept {
            self.until = until;
        }
        Ok(kept)
    }

    /// Gives the lease back, so that a standby need not wait for it to run out.
    ///
    /// # Errors
    ///
    /// When the log fails; the lease then runs out by itself.
    pub async fn release<L: EventLog + ?Sized>(self, log: &L, now: Timestamp) -> Result<(), LogError> {
        self.set_until(log, now).await.map(|_| ())
    }

    /// The check that goes into every append made under this lease. Refused as `StaleState` in namespace [`LEASES`]
    /// once someone else has taken over. A renewal does not change it.
    pub fn fence(&self) -> StateWrite {
        StateWrite {
            namespace: LEASES.to_owned(),
            key: self.fence_key(),
            expected: Some(self.fence),
            change: StateChange::Check,
        }
    }

    /// Whether `error` says that this lease was taken over.
    pub fn is_lost(&self, error: &AppendError) -> bool {
        matches!(error, AppendError::StaleState { namespace, key, .. } if namespace == LEASES && *key == self.fence_key())
    }

    fn fence_key(&self) -> String {
        fence_key(&self.name, &self.holder, self.epoch)
    }

    async fn set_until<L: EventLog + ?Sized>(&self, log: &L, until: Timestamp) -> Result<bool, LogError> {
        let state = vec![self.fence(), put(until_key(&self.name), None, &self.holder, Some(until))];
        match log.append(Append { state, ..Append::default() }).await {
            Ok(_) => Ok(true),
            Err(AppendError::Unavailable(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }
}

fn until_key(name: &str) -> String {
    format!("{name}/until")
}

/// Whether `write` is the fence of a holder of the lease `name`.
pub(crate) fn is_fence_of(write: &StateWrite, name: &str) -> bool {
    let of_name = write.key.strip_prefix(name).is_some_and(|rest| rest.starts_with("/by/"));
    write.namespace == LEASES && write.change == StateChange::Check && of_name
}

fn fence_key(name: &str, holder: &str, epoch: u64) -> String {
    format!("{name}/by/{holder}#{epoch}")
}

fn after(now: Timestamp, ttl: Duration) -> Timestamp {
    now.saturating_add(ttl).unwrap_or(Timestamp::MAX)
}

fn put(key: String, expected: Option<u64>, holder: &str, due_at: Option<Timestamp>) -> StateWrite {
    let change = StateChange::Put { value: holder.into(), due_at };
    StateWrite { namespace: LEASES.to_owned(), key, expected, change }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyledger_schemas::clock::ManualClock;

    use super::*;
    use crate::memory::MemoryLog;
    use crate::state::StateStore;

    const TTL: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn log() -> MemoryLog {
        MemoryLog::new(Arc::new(ManualClock::at(at(0))))
    }

    async fn take(log: &MemoryLog, holder: &str, now: i64) -> Option<Lease> {
        match Lease::acquire(log, "issuer", holder, at(now), TTL).await.unwrap() {
            Taken::Ours(lease) => Some(lease),
            Taken::Held { .. } => None,
        }
    }

    async fn write_under(log: &MemoryLog, lease: &Lease) -> Result<(), AppendError> {
        let state = vec![lease.fence()];
        log.append(Append { state, ..Append::default() }).await.map(|_| ())
    }

    #[tokio::test]
    async fn a_standby_waits_until_the_holder_goes_silent() {
        let log = log();
        let mut first = take(&log, "a", 0).await.unwrap();
        assert_eq!(take(&log, "b", 9).await, None);
        assert!(first.renew(&log, at(9), TTL).await.unwrap());
        assert_eq!(take(&log, "b", 12).await, None);
        let second = take(&log, "b", 19).await.unwrap();
        assert_eq!(second.epoch, first.epoch + 1);
    }

    #[tokio::test]
    async fn a_replaced_holder_writes_nothing_and_cannot_renew() {
        let log = log();
        let mut first = take(&log, "a", 0).await.unwrap();
        let second = take(&log, "b", 10).await.unwrap();
        let refused = write_under(&log, &first).await.unwrap_err();
        assert!(first.is_lost(&refused), "{refused:?}");
        assert!(!first.renew(&log, at(11), TTL).await.unwrap());
        write_under(&log, &second).await.unwrap();
    }

    #[tokio::test]
    async fn after_the_log_went_back_the_same_epoch_of_another_is_not_ours() {
        let log = log();
        let mut first = take(&log, "a", 0).await.unwrap();
        // As a backup from before it was taken.
        let rows = log.state_scan(LEASES, "", "", 10).await.unwrap();
        let gone = |key| StateWrite { namespace: LEASES.to_owned(), key, expected: None, change: StateChange::Delete };
        let state = rows.into_iter().map(|row| gone(row.key)).collect();
        log.append(Append { state, ..Append::default() }).await.unwrap();

        let second = take(&log, "b", 1).await.unwrap();
        assert_eq!(second.epoch, first.epoch);
        let refused = write_under(&log, &first).await.unwrap_err();
        assert!(first.is_lost(&refused), "{refused:?}");
        assert!(!first.renew(&log, at(2), TTL).await.unwrap());
        write_under(&log, &second).await.unwrap();
    }

    #[tokio::test]
    async fn holders_leave_nothing_behind() {
        let log = log();
        for number in 0..5 {
            take(&log, &format!("h{number}"), number * 100).await.unwrap();
        }
        assert_eq!(log.state_scan(LEASES, "", "", 10).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_renewal_does_not_disturb_an_append_under_way() {
        let log = log();
        let mut lease = take(&log, "a", 0).await.unwrap();
        let before = lease.clone();
        lease.renew(&log, at(5), TTL).await.unwrap();
        write_under(&log, &before).await.unwrap();
    }

    #[tokio::test]
    async fn a_lease_that_ran_out_and_nobody_took_is_still_ours() {
        let log = log();
        let mut lease = take(&log, "a", 0).await.unwrap();
        assert!(lease.renew(&log, at(1000), TTL).await.unwrap());
    }

    #[tokio::test]
    async fn a_restarted_holder_takes_its_lease_back_and_fences_its_old_self() {
        let log = log();
        let old = take(&log, "a", 0).await.unwrap();
        let new = take(&log, "a", 1).await.unwrap();
        assert!(write_under(&log, &old).await.is_err());
        write_under(&log, &new).await.unwrap();
    }

    #[tokio::test]
    async fn a_lease_given_back_is_free_at_once_but_not_for_who_lost_it() {
        let log = log();
        let first = take(&log, "a", 0).await.unwrap();
        first.clone().release(&log, at(1)).await.unwrap();
        take(&log, "b", 1).await.unwrap();
        first.release(&log, at(2)).await.unwrap();
        assert_eq!(take(&log, "c", 3).await, None, "a late release does not free another's lease");
    }
}
