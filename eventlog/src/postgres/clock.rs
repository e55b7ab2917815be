//! One time for all machines: [`DatabaseClock`].
//!
//! Leases and `wait_until` compare times that different machines wrote. The server's clock is the one they all can see.
//! Asking it for every time would cost a round trip, so it is asked now and then, and what has passed since is counted
//! by a clock that nobody can set: the time since the machine started, its sleep included. The machine's own time of day
//! may jump at any moment, and a standby that jumps ahead would take a lease from a holder that is well.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyledger_schemas::clock::Clock;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::session::{Server, within};
use super::{Options, url};
use crate::log::LogError;

/// How often the server is asked. A quartz drifts by some milliseconds in that time.
const REFRESH: Duration = Duration::from_mins(1);

/// The quickest of so many answers counts: it is the least out of date.
const QUESTIONS: usize = 3;

/// A difference to this machine's own time that is worth a word: clocks that are kept in step differ by less.
const NOTABLE: SignedDuration = SignedDuration::from_secs(2);

const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";

/// Where Linux says how long it is up, sleep included.
const UPTIME: &str = "/proc/uptime";

/// The time of the database's server. While it cannot be asked, time goes on from its last answer.
#[derive(Clone)]
pub struct DatabaseClock(Arc<Inner>);

struct Inner {
    /// The machine's own time, only to tell a person when it is wrong.
    local: Arc<dyn Clock>,
    count: Count,
    answer: Mutex<Answer>,
}

/// What counts the time that passed. It is chosen once: the two do not agree.
enum Count {
    /// How long the machine is up, sleep included; and the last count, for a moment in which the file cannot be read.
    Machine(File, Mutex<Duration>),
    /// How long this process is up, where the machine does not say.
    Process(Instant),
}

impl Count {
    fn new() -> Self {
        let machine = File::open(UPTIME).ok().and_then(|file| Some((read_uptime(&file)?, file)));
        machine.map_or_else(|| Self::Process(Instant::now()), |(now, file)| Self::Machine(file, Mutex::new(now)))
    }

    fn now(&self) -> Duration {
        match self {
            Self::Machine(file, last) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                *last = read_uptime(file).unwrap_or(*last);
                *last
            }
            Self::Process(started) => started.elapsed(),
        }
    }
}

/// What the server said, and when by the count that nobody sets.
#[derive(Clone, Copy, Default)]
struct Answer {
    said: Timestamp,
    at: Duration,
    /// What the server was ahead of the machine's own time.
    ahead: SignedDuration,
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
        let clock = Self(Arc::new(Inner { local, count: Count::new(), answer: Mutex::default() }));
        clock.0.ask(&server).await?;
        tokio::spawn(keep_asking(Arc::downgrade(&clock.0), server, refresh));
        Ok(clock)
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let answer = self.0.answer();
        let passed = self.0.count.now().saturating_sub(answer.at);
        answer.said.saturating_add(passed).unwrap_or(answer.said)
    }
}

impl Inner {
    fn answer(&self) -> Answer {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, server: &Server) -> Result<(), LogError> {
        let mut connection = server.for_asking().await?;
        let answer = within(server.timeout, self.measure(&mut connection)).await?;
        // Only to be polite: the answer is there.
        let _ = within(server.timeout, async { Ok(connection.close().await?) }).await;
        let before = self.answer().ahead;
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        if (answer.ahead - before).abs() >= NOTABLE {
            let ahead_ms = answer.ahead.as_millis();
            tracing::warn!(
                ahead_ms,
                "the database server is {ahead_ms} ms ahead of this machine's clock; its time counts"
            );
        }
        Ok(())
    }

    /// The server read its clock somewhere between question and answer: in the middle, as far as we know.
    async fn measure(&self, connection: &mut PgConnection) -> Result<Answer, LogError> {
        let mut best: Option<(Duration, Answer)> = None;
        for _ in 0..QUESTIONS {
            let asked = Instant::now();
            let micros: i64 = sqlx::query_scalar(NOW).fetch_one(&mut *connection).await?;
            let (took, at, local) = (asked.elapsed(), self.count.now(), self.local.now());
            let said = Timestamp::from_microsecond(micros).map_err(|error| sqlx::Error::Decode(error.into()))?;
            let said = said.saturating_add(took / 2).unwrap_or(said);
            if best.is_none_or(|(quickest, _)| took < quickest) {
                best = Some((took, Answer { said, at, ahead: said.duration_since(local) }));
            }
        }
        Ok(best.map_or_else(Answer::default, |(_, answer)| answer))
    }
}

/// Reads the file from its start, without opening it again: that could fail when descriptors are short.
fn read_uptime(file: &File) -> Option<Duration> {
    let mut buffer = [0; 64];
    let mut file = file;
    file.rewind().ok()?;
    let length = file.read(&mut buffer).ok()?;
    uptime(std::str::from_utf8(buffer.get(..length)?).ok()?)
}

/// The first number of the line, in seconds.
fn uptime(text: &str) -> Option<Duration> {
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

async fn keep_asking(clock: Weak<Inner>, server: Server, refresh: Duration) {
    loop {
        tokio::time::sleep(refresh).await;
        let Some(clock) = clock.upgrade() else { return };
        if let Err(error) = clock.ask(&server).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the database server cannot be asked for its time; it goes on from the last answer"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_the_start_is_read_as_linux_writes_it() {
        assert_eq!(uptime("14891.07 28023.56\n"), Some(Duration::from_millis(14_891_070)));
        for text in ["", "soon", "-1 2", "nan 1"] {
            assert_eq!(uptime(text), None, "{text}");
        }
    }
}
