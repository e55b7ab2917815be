//! One time for all machines: [`DatabaseClock`].
//!
//! Leases and `wait_until` compare times that different machines wrote. The server's clock is the one they all can see;
//! asking it for every time would cost a round trip, so only the difference to the local clock is asked for, now and
//! then.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyledger_schemas::clock::Clock;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::session::{Server, within};
use super::{Options, url};
use crate::log::LogError;

/// How often the difference is asked for. A quartz drifts by some milliseconds in that time.
const REFRESH: Duration = Duration::from_mins(1);

/// The shortest of so many questions counts: its answer is the least out of date.
const QUESTIONS: usize = 3;

/// A difference that is worth a word: clocks that are kept in step differ by less.
const NOTABLE: SignedDuration = SignedDuration::from_secs(2);

const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";

/// The local clock, put right by what the database's server says. While the server cannot be asked, the last known
/// difference stays.
#[derive(Clone)]
pub struct DatabaseClock(Arc<Inner>);

struct Inner {
    local: Arc<dyn Clock>,
    /// What the server's clock is ahead of the local one, in microseconds.
    ahead: AtomicI64,
}

impl DatabaseClock {
    /// Asks the server at `url` for its time, and goes on asking until the last clone is dropped.
    ///
    /// # Errors
    ///
    /// As [`super::PostgresLog::open`], when the server cannot be asked even once.
    pub async fn start(url: &str, local: Arc<dyn Clock>) -> Result<Self, LogError> {
        Self::refreshing(url, local, REFRESH).await
    }

    /// As [`DatabaseClock::start`], asking every `refresh`.
    ///
    /// # Errors
    ///
    /// As [`DatabaseClock::start`].
    pub async fn refreshing(url: &str, local: Arc<dyn Clock>, refresh: Duration) -> Result<Self, LogError> {
        let server = Server::new(url::parse(url)?, &Options::default());
        let clock = Self(Arc::new(Inner { local, ahead: AtomicI64::new(0) }));
        clock.0.ask(&server).await?;
        tokio::spawn(keep_asking(Arc::downgrade(&clock.0), server, refresh));
        Ok(clock)
    }

    /// What the server's clock is ahead of the local one.
    pub fn ahead(&self) -> SignedDuration {
        self.0.ahead()
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let local = self.0.local.now();
        local.saturating_add(self.0.ahead()).unwrap_or(local)
    }
}

impl Inner {
    fn ahead(&self) -> SignedDuration {
        SignedDuration::from_micros(self.ahead.load(Ordering::SeqCst))
    }

    async fn ask(&self, server: &Server) -> Result<(), LogError> {
        let mut connection = server.for_asking().await?;
        let ahead = within(server.timeout, self.measure(&mut connection)).await?;
        // Only to be polite: the difference is known.
        let _ = within(server.timeout, async { Ok(connection.close().await?) }).await;
        let before = SignedDuration::from_micros(self.ahead.swap(ahead, Ordering::SeqCst));
        let change = SignedDuration::from_micros(ahead) - before;
        if change.abs() >= NOTABLE {
            tracing::warn!(
                ahead_ms = ahead / 1000,
                "the database server's clock is {} ms ahead of this machine's; its time counts",
                ahead / 1000
            );
        }
        Ok(())
    }

    /// In microseconds. The server read its clock somewhere between question and answer: in the middle, as far as we
    /// know.
    async fn measure(&self, connection: &mut PgConnection) -> Result<i64, LogError> {
        let mut best: Option<(Duration, i64)> = None;
        for _ in 0..QUESTIONS {
            let (local, asked) = (self.local.now(), Instant::now());
            let server: i64 = sqlx::query_scalar(NOW).fetch_one(&mut *connection).await?;
            let took = asked.elapsed();
            let middle = local.as_microsecond().saturating_add(i64::try_from(took.as_micros() / 2).unwrap_or(0));
            if best.is_none_or(|(shortest, _)| took < shortest) {
                best = Some((took, server.saturating_sub(middle)));
            }
        }
        Ok(best.map_or(0, |(_, ahead)| ahead))
    }
}

async fn keep_asking(clock: Weak<Inner>, server: Server, refresh: Duration) {
    loop {
        tokio::time::sleep(refresh).await;
        let Some(clock) = clock.upgrade() else { return };
        if let Err(error) = clock.ask(&server).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the database server cannot be asked for its time; the last known difference stays"
            );
        }
    }
}
