//! Following the log on its mirror: [`JetStreamTail`].
//!
//! What arrives from the mirror is given to the reader only when it comes right after the reader's position, hangs on the
//! log's chain there, and ends at the log's chain value: a mirror that is ahead, foreign or damaged is never believed.
//! Everything else is read from the log: gaps, events that did not fit into a message, what a silent mirror owes. So a
//! checkpoint is good on the log and on the mirror alike, and a consumer may change between them at any time.

mod feed;
mod window;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::envelope::{Position, Recorded};
use tokio::time::Instant;

use super::mirror::Mirror;
use crate::log::{EventLog, Head, LogError};
use crate::tail::{SqlTail, Tail};
use feed::{Feed, Shared};

/// How long the mirror may be silent before the log is asked whether there is more.
const SILENCE: Duration = Duration::from_secs(1);

/// How long the mirror may take for an event that the log is known to have, before the log is asked for it.
const LATE: Duration = Duration::from_millis(50);

/// What a consumer does while NATS is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// It reads the log.
    #[default]
    Sql,
    /// It waits.
    Wait,
}

/// Follows the log on its mirror, by a durable pull consumer that several processes may share.
pub struct JetStreamTail {
    log: Arc<dyn EventLog>,
    sql: SqlTail,
    mirror: Mirror,
    name: String,
    fallback: Fallback,
    shared: Arc<Shared>,
    feed: OnceLock<Feed>,
    mirrored: AtomicU64,
    /// The end of the last page that came from the log: there may be more right after it.
    paged_to: AtomicU64,
}

impl JetStreamTail {
    /// Follows `log` on `mirror`, by the durable consumer `name`. Nothing is asked of the server before the first read.
    pub fn new(log: Arc<dyn EventLog>, mirror: Mirror, name: impl Into<String>, fallback: Fallback) -> Self {
        let sql = SqlTail::new(Arc::clone(&log));
        let (name, shared) = (name.into(), Arc::default());
        Self {
            log,
            sql,
            mirror,
            name,
            fallback,
            shared,
            feed: OnceLock::new(),
            mirrored: AtomicU64::default(),
            paged_to: AtomicU64::default(),
        }
    }

    /// How many events came from the mirror so far; all others came from the log.
    pub fn mirrored(&self) -> u64 {
        self.mirrored.load(Ordering::Relaxed)
    }

    /// What has arrived right after `after`, if the log has it just so.
    async fn arrived(&self, after: Position, limit: usize) -> Result<Option<Vec<Recorded>>, LogError> {
        let run = self.shared.take(after, limit);
        if run.is_empty() {
            return Ok(None);
        }
        if !self.is_the_logs(after, &run).await? {
            tracing::warn!(consumer.name = self.name, "the mirror has other events than the log after {after}");
            self.shared.clear();
            return Ok(None);
        }
        self.mirrored.fetch_add(run.len() as u64, Ordering::Relaxed);
        metrics::counter!("keyledger_tail_events_total", "from" => "mirror").increment(run.len() as u64);
        Ok(Some(run))
    }

    async fn is_the_logs(&self, after: Position, run: &[Recorded]) -> Result<bool, LogError> {
        let Some(mut chain) = self.log.chain_at(after).await? else { return Ok(false) };
        for event in run {
            if event.chain_after(&chain) != event.chain {
                return Ok(false);
            }
            chain = event.chain;
        }
        let Some(last) = run.last() else { return Ok(false) };
        Ok(self.log.chain_at(last.position).await? == Some(last.chain))
    }

    /// What the log has after `after`.
    async fn of_log(&self, after: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        let page = self.log.read_after(after, limit).await?;
        self.count_page(&page);
        Ok(page)
    }

    fn count_page(&self, page: &[Recorded]) {
        if let Some(last) = page.last() {
            self.paged_to.store(last.position, Ordering::Relaxed);
            metrics::counter!("keyledger_tail_events_total", "from" => "log").increment(page.len() as u64);
        }
    }

    /// What the log has after `after`, though nothing of it has arrived. A reader that waits for NATS gets it only
    /// while NATS is there: a mirror that is refused, or that nobody writes, keeps nobody waiting.
    async fn despite_silence(&self, after: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        let is_there = match self.fallback {
            Fallback::Sql => true,
            Fallback::Wait => matches!(tokio::time::timeout(SILENCE, self.mirror.look()).await, Ok(Ok(_))),
        };
        if !is_there {
            return Ok(Vec::new());
        }
        let page = self.of_log(after, limit).await?;
        self.shared.set_silent(!page.is_empty() || self.shared.is_silent());
        Ok(page)
    }

    /// Waits for the mirror up to `nap`, and follows the log meanwhile where the mirror is away or owes something.
    async fn nap(&self, after: Position, limit: usize, nap: Duration) -> Result<Nap, LogError> {
        let arrived = self.shared.arrived.notified();
        let follows_mirror = self.shared.is_up() && !self.shared.is_silent();
        if follows_mirror || self.fallback == Fallback::Wait {
            return Ok(tokio::select! {
                () = arrived => Nap::Woken,
                () = tokio::time::sleep(nap) => Nap::Over,
                () = self.is_owed(after) => Nap::Over,
            });
        }
        tokio::select! {
            () = arrived => Ok(Nap::Woken),
            page = self.sql.next_after(after, limit, nap) => {
                let page = page?;
                self.count_page(&page);
                Ok(if page.is_empty() { Nap::Over } else { Nap::Page(page) })
            }
        }
    }

    /// Ends when the log has had more than `after` for a moment.
    async fn is_owed(&self, after: Position) {
        let mut wake = self.log.wake();
        if wake.wait_for(|newest| *newest > after).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LATE).await;
    }
}

/// How a wait for the mirror ended.
enum Nap {
    /// Something arrived.
    Woken,
    /// Nothing did.
    Over,
    /// The log had something.
    Page(Vec<Recorded>),
}

#[async_trait]
impl Tail for JetStreamTail {
    async fn next_after(&self, after: Position, limit: usize, wait: Duration) -> Result<Vec<Recorded>, LogError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        // One event, now: a consumer sees whether its checkpoint is in the log. That is not for the mirror to say.
        if limit == 1 && wait.is_zero() {
            return self.of_log(after, 1).await;
        }
        self.shared.stand_at(after);
        self.feed.get_or_init(|| Feed::start(self.mirror.clone(), self.name.clone(), Arc::clone(&self.shared)));
        // A wait too long to add up never ends by itself.
        let deadline = Instant::now().checked_add(wait);
        let mut may_have_more = after > 0 && self.paged_to.load(Ordering::Relaxed) == after;
        loop {
            if let Some(run) = self.arrived(after, limit).await? {
                return Ok(run);
            }
            if std::mem::take(&mut may_have_more) {
                let page = self.despite_silence(after, limit).await?;
                if !page.is_empty() {
                    return Ok(page);
                }
            }
            let gap = self.shared.window().gap_after(after);
            if let Some(gap) = gap {
                let gap = usize::try_from(gap).unwrap_or(limit).clamp(1, limit);
                let page = self.of_log(after, gap).await?;
                if !page.is_empty() {
                    return Ok(page);
                }
                // The mirror is ahead of the log, so what it has is not the log's.
                self.shared.clear();
            }
            let left = deadline.map_or(SILENCE, |deadline| deadline.saturating_duration_since(Instant::now()));
            match self.nap(after, limit, left.min(SILENCE)).await? {
                Nap::Woken => continue,
                Nap::Page(page) => return Ok(page),
                Nap::Over => {}
            }
            let page = self.despite_silence(after, limit).await?;
            if !page.is_empty() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(page);
            }
        }
    }

    async fn head(&self) -> Result<Head, LogError> {
        self.log.head().await
    }
}
