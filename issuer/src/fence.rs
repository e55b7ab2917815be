//! One active issuer: the lease that every append of the issuer carries.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use keyledger_eventlog::lease::Lease;
use keyledger_eventlog::log::{AppendError, EventLog, LogError};
use keyledger_eventlog::state::StateWrite;

/// What is leased.
pub const LEASE: &str = "issuer";

/// The lease, shared by the reader and the worker.
#[derive(Clone, Debug)]
pub struct Fence {
    lease: Arc<Mutex<Lease>>,
    ttl: Duration,
}

impl Fence {
    /// Guards with `lease`, renewed for `ttl` at a time.
    pub fn new(lease: Lease, ttl: Duration) -> Self {
        Self { lease: Arc::new(Mutex::new(lease)), ttl }
    }

    /// The writes with the check of the lease's epoch in front.
    pub fn guarded(&self, mut writes: Vec<StateWrite>) -> Vec<StateWrite> {
        writes.insert(0, self.current().fence());
        writes
    }

    /// Whether `error` says that another issuer took over.
    pub fn is_lost(&self, error: &AppendError) -> bool {
        self.current().is_lost(error)
    }

    /// Whether the lease runs for `time` from `now` at least: a call that takes so long is safe to begin.
    pub fn outlives(&self, now: Timestamp, time: Duration) -> bool {
        now.saturating_add(time).is_ok_and(|end| self.current().until >= end)
    }

    /// Renews when less than half of it is left, or when `at_once`. `false` when another issuer took over.
    ///
    /// # Errors
    ///
    /// When the log fails; try again before the lease runs out.
    pub async fn renew(&self, log: &Arc<dyn EventLog>, now: Timestamp, at_once: bool) -> Result<bool, LogError> {
        let mut lease = self.current();
        let half = now.saturating_add(self.ttl / 2).unwrap_or(Timestamp::MAX);
        if !at_once && lease.until > half {
            return Ok(true);
        }
        let kept = lease.renew(&**log, now, self.ttl).await?;
        if kept {
            *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
        }
        Ok(kept)
    }

    /// Gives the lease back.
    ///
    /// # Errors
    ///
    /// When the log fails; the lease then runs out by itself.
    pub async fn release(&self, log: &Arc<dyn EventLog>, now: Timestamp) -> Result<(), LogError> {
        self.current().release(&**log, now).await
    }

    fn current(&self) -> Lease {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
