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
pub async fn verify<L: EventLog + ?Sized>(
    log: &L,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Report, LogError> {
    let mut check = Check { log, head: Head::default(), versions: HashMap::new() };
    let problem = loop {
        // The end is asked for again after the last page: a row that was removed there may be all that is missing.
        let end = match log.head().await {
            Ok(head) => head,
            Err(error) => break Some(problem_of(error)?),
        };
        let page = match log.read_after(check.head.position, PAGE).await {
            Ok(page) => page,
            Err(error) => break Some(problem_of(error)?),
        };
        if page.is_empty() {
            break (end.position > check.head.position).then(|| missing(check.head.position + 1));
        }
        if let Some(problem) = check.page(&page).await? {
            break Some(problem);
        }
        progress(Progress { events: check.head.position, of: end.position.max(check.head.position) });
    };
    Ok(Report { events: check.head.position, head: check.head, problem })
}

struct Check<'l, L: ?Sized> {
    log: &'l L,
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
        if self.versions.len() >= STREAMS_MAX {
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

fn missing(position: Position) -> Problem {
    Problem { position, reason: "the row is missing".to_owned() }
}

/// Damage is what this is looking for; anything else means that it cannot look.
fn problem_of(error: LogError) -> Result<Problem, LogError> {
    match error {
        LogError::Damaged { position, reason } => Ok(Problem { position, reason }),
        error => Err(error),
    }
}
