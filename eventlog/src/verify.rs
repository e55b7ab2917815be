//! Proving the log: [`verify`] reads all of it and recomputes every hash.
//!
//! It finds a changed byte, a missing row, and rows that changed places. It cannot see that the newest events are
//! missing: the checkpoints of consumers, and a mirror, hold that end.

use std::collections::HashMap;

use keyledger_schemas::envelope::{Position, Recorded, Version, content_hash};
use keyledger_schemas::ids::StreamId;

use crate::log::{EventLog, Head, LogError};

/// Events read at once.
const PAGE: usize = 512;

/// Streams whose version is remembered. Beyond that the log is asked, so that memory stays bounded.
const STREAMS_MAX: usize = 100_000;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many events are sound, from the first on.
    pub events: u64,
    /// The position and chain value of the last sound event.
    pub head: Head,
    /// The first thing that is wrong. What comes after it was not looked at.
    pub problem: Option<Problem>,
}

/// The first thing that is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position {position}: {reason}")]
pub struct Problem {
    /// Where.
    pub position: Position,
    /// What.
    pub reason: String,
}

/// How far [`verify`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Events found sound.
    pub events: u64,
    /// The head when it began.
    pub of: u64,
}

/// Reads the whole log up to its present end, in constant memory, and checks positions, versions, content hashes and
/// chain. Calls `progress` after every page.
///
/// # Errors
///
/// When the log cannot be read now; damage is not an error but a [`Problem`] in the report.
pub async fn verify<L: EventLog + ?Sized>(log: &L, progress: impl FnMut(Progress) + Send) -> Result<Report, LogError> {
    verify_remembering(STREAMS_MAX, log, progress).await
}

async fn verify_remembering<L: EventLog + ?Sized>(
    streams_max: usize,
    log: &L,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Report, LogError> {
    let end = match log.head().await {
        Ok(head) => head.position,
        // Something before it may be wrong too: the pages below come to the first.
        Err(LogError::Damaged { position, .. }) => position,
        Err(error) => return Err(error),
    };
    let mut check = Check { log, streams_max, head: Head::default(), versions: HashMap::new() };
    let problem = loop {
        let page = match log.read_after(check.head.position, PAGE).await {
            Ok(page) => page,
            Err(LogError::Damaged { position, reason }) => break Some(Problem { position, reason }),
            Err(error) => return Err(error),
        };
        if page.is_empty() {
            let missing = || Problem { position: check.head.position + 1, reason: "the row is missing".to_owned() };
            break (end > check.head.position).then(missing);
        }
        if let Some(problem) = check.page(&page).await? {
            break Some(problem);
        }
        progress(Progress { events: check.head.position, of: end.max(check.head.position) });
    };
    Ok(Report { events: check.head.position, head: check.head, problem })
}

struct Check<'l, L: ?Sized> {
    log: &'l L,
    streams_max: usize,
    head: Head,
    /// The version each stream has come to, as far as it is remembered.
    versions: HashMap<StreamId, Version>,
}

impl<L: EventLog + ?Sized> Check<'_, L> {
    async fn page(&mut self, page: &[Recorded]) -> Result<Option<Problem>, LogError> {
        for event in page {
            if let Some(reason) = self.event(event).await? {
                return Ok(Some(Problem { position: self.head.position + 1, reason }));
            }
            self.head = Head { position: event.position, chain: event.chain };
        }
        Ok(None)
    }

    /// What is wrong with `event` as the successor of the head, if anything.
    async fn event(&mut self, event: &Recorded) -> Result<Option<String>, LogError> {
        if event.position != self.head.position + 1 {
            return Ok(Some(format!("the row is missing; the next one is at position {}", event.position)));
        }
        if content_hash(&event.data) != event.content_hash {
            return Ok(Some("the data does not have its hash".to_owned()));
        }
        if event.chain_after(&self.head.chain) != event.chain {
            return Ok(Some("the row does not hang on the chain".to_owned()));
        }
        let before = self.version_before(event).await?;
        if event.version != before + 1 {
            let (version, stream) = (event.version, &event.stream);
            return Ok(Some(format!("version {version} of stream `{stream}` follows version {before}")));
        }
        if self.versions.len() >= self.streams_max {
            self.versions.clear();
        }
        self.versions.insert(event.stream.clone(), event.version);
        Ok(None)
    }

    /// The version the stream of `event` had before it.
    async fn version_before(&self, event: &Recorded) -> Result<Version, LogError> {
        if let Some(version) = self.versions.get(&event.stream) {
            return Ok(*version);
        }
        // Either the stream begins here, or it was forgotten: then its version before must be in the log.
        let Some(wanted) = event.version.checked_sub(1).filter(|version| *version > 0) else { return Ok(0) };
        let before = match self.log.read_stream(&event.stream, wanted - 1, 1).await {
            Ok(page) => page.into_iter().next(),
            Err(LogError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(before.filter(|before| before.position < event.position).map_or(0, |before| before.version))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use keyledger_schemas::clock::ManualClock;

    use super::*;
    use crate::log::Append;
    use crate::memory::MemoryLog;
    use crate::testing::event;

    async fn log() -> MemoryLog {
        let log = MemoryLog::new(Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
        let events = (0..1200).map(|number| event(&format!("evt_{number}"), &format!("s{}", number % 7), "{}"));
        log.append(Append::events(events.collect())).await.unwrap();
        log
    }

    #[tokio::test]
    async fn a_sound_log_is_sound_to_its_head() {
        let log = log().await;
        let mut seen = Vec::new();
        let report = verify(&log, |progress| seen.push(progress.events)).await.unwrap();
        assert_eq!(report, Report { events: 1200, head: log.head().await.unwrap(), problem: None });
        assert_eq!(seen, [512, 1024, 1200]);
    }

    #[tokio::test]
    async fn an_empty_log_is_sound() {
        let log = MemoryLog::new(Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
        let report = verify(&log, |_| ()).await.unwrap();
        assert_eq!(report, Report { events: 0, head: Head::default(), problem: None });
    }

    #[tokio::test]
    async fn forgotten_streams_are_looked_up() {
        let report = verify_remembering(1, &log().await, |_| ()).await.unwrap();
        assert_eq!((report.events, report.problem), (1200, None));
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_read_is_an_error_and_not_a_problem() {
        let log = log().await;
        log.close().await;
        assert!(matches!(verify(&log, |_| ()).await, Err(LogError::Closed)));
    }
}
