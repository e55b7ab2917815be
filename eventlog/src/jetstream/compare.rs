//! Whether the mirror holds what the log holds: [`compare`] for all of it, [`ahead`] for its end.

use std::time::Duration;

use futures::StreamExt;
use keyledger_schemas::envelope::{Hash, Position, Recorded};

use super::judgement::Judgement;
use super::message::Decoded;
use super::mirror::{Look, Mirror, MirrorError, Slot};
use super::sync::{Ends, Step, decide};
use crate::log::{EventLog, Head, LogError};

/// Events compared at once.
const PAGE: usize = 256;

/// Why nothing could be compared. Try again later.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// NATS does not answer.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] LogError),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Events that are the same in both, from the first on: id for id and byte for byte.
    pub events: u64,
    /// The end of the log, when it began.
    pub log: Position,
    /// The end of the mirror, when it began. Short of the log's is what a relay still has to publish.
    pub mirror: Position,
    /// The first thing that is wrong. What comes after it was not looked at.
    pub problem: Option<Problem>,
}

/// The first thing that is wrong with the mirror.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mirror, position {position}: {reason}")]
pub struct Problem {
    /// Where; 0 when it is about the whole stream.
    pub position: Position,
    /// What.
    pub reason: String,
}

/// Reads log and mirror up to the end of the shorter one, in constant memory, and compares every event. Calls `progress`
/// with the last position compared after every page.
///
/// # Errors
///
/// When one of them cannot be read now; a difference is not an error but a [`Problem`].
pub async fn compare(
    log: &dyn EventLog,
    mirror: &Mirror,
    mut progress: impl FnMut(Position) + Send,
) -> Result<Comparison, CompareError> {
    let look = mirror.look().await?;
    let head = log.head().await?;
    let mut found = Comparison { events: 0, log: head.position, mirror: 0, problem: None };
    let whole = |reason| Some(Problem { position: 0, reason });
    match look {
        Look::Gone => return Ok(found),
        Look::Here(Judgement::Ours { last }) => found.mirror = last,
        Look::Here(Judgement::Holes { first, last }) => {
            found.mirror = last;
            found.problem = whole(format!("messages are missing from position {first} on"));
        }
        Look::Here(Judgement::Foreign { reason } | Judgement::Unsafe { reason, .. }) => found.problem = whole(reason),
    }
    while found.problem.is_none() && found.events < found.mirror.min(head.position) {
        page(log, mirror, &mut found).await?;
        progress(found.events);
    }
    if found.problem.is_none() && found.mirror > head.position {
        let reason = "the mirror has more than the log".to_owned();
        found.problem = Some(Problem { position: head.position + 1, reason });
    }
    Ok(found)
}

async fn page(log: &dyn EventLog, mirror: &Mirror, found: &mut Comparison) -> Result<(), CompareError> {
    let end = found.mirror.min(found.log);
    let limit = usize::try_from(end - found.events).unwrap_or(PAGE).min(PAGE);
    let events = log.read_after(found.events, limit).await?;
    let Some(last) = events.last() else {
        let position = found.events + 1;
        found.problem = Some(Problem { position, reason: "the log has gone back meanwhile".to_owned() });
        return Ok(());
    };
    let mut slots = std::pin::pin!(mirror.read(found.events + 1..=last.position));
    for event in &events {
        let Some(slot) = slots.next().await else { return Ok(()) };
        let (position, slot) = slot?;
        if let Some(reason) = difference(event, &slot) {
            found.problem = Some(Problem { position, reason });
            return Ok(());
        }
        found.events = position;
    }
    Ok(())
}

/// In what the mirror's message is not `event`.
fn difference(event: &Recorded, slot: &Slot) -> Option<String> {
    match slot {
        Slot::Missing => Some("it is missing".to_owned()),
        Slot::Broken(error) => Some(error.to_string()),
        Slot::Event(Decoded::Elsewhere(stub)) => {
            let is_same = stub.chain == event.chain && stub.content_hash == event.content_hash;
            (!is_same).then(|| "it stands for another event".to_owned())
        }
        Slot::Event(Decoded::Whole(mirrored)) => (**mirrored != *event)
            .then(|| format!("it is event {} and not {}, or has other bytes", mirrored.id, event.id)),
    }
}

/// Whether the mirror holds what the log lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// It does not: the log has all of it, or there is no mirror of this log.
    No,
    /// It does, and hangs on the log's head: the log was restored from an old backup.
    By {
        /// The end of the log.
        log: Position,
        /// The end of the mirror.
        mirror: Position,
    },
    /// They are two histories. What the mirror alone has is appended by a relay.
    Diverged,
    /// NATS did not answer in time.
    Unknown,
}

/// Whether the mirror holds what the log lacks, as far as can be found out within `patience`.
///
/// # Errors
///
/// When the log cannot be read.
pub async fn ahead(log: &dyn EventLog, mirror: &Mirror, patience: Duration) -> Result<Ahead, LogError> {
    match tokio::time::timeout(patience, look(log, mirror)).await {
        Ok(Ok(ahead)) => Ok(ahead),
        Ok(Err(CompareError::Log(error))) => Err(error),
        Ok(Err(CompareError::Mirror(_))) | Err(_) => Ok(Ahead::Unknown),
    }
}

async fn look(log: &dyn EventLog, mirror: &Mirror) -> Result<Ahead, CompareError> {
    let look = mirror.look().await?;
    let Look::Here(Judgement::Ours { last } | Judgement::Unsafe { last, .. }) = look else { return Ok(Ahead::No) };
    let ends = ends(log, mirror, last).await?;
    Ok(match decide(&look, Some(&ends)) {
        Step::Import { after, to } => Ahead::By { log: after.position, mirror: to },
        Step::Diverged(_) | Step::Refuse { differs: Some(_), .. } => Ahead::Diverged,
        Step::Publish { .. } | Step::Make | Step::Holes { .. } | Step::Refuse { .. } | Step::LookAgain => Ahead::No,
    })
}

/// What there is to compare with a mirror that ends at `last`, which was looked at before.
pub(super) async fn ends(log: &dyn EventLog, mirror: &Mirror, last: Position) -> Result<Ends, CompareError> {
    let head = log.head().await?;
    let common = head.position.min(last);
    let log_chain = log.chain_at(common).await?;
    Ok(Ends { log: head, last, log_chain, mirror_chain: mirror_chain(mirror, common).await? })
}

/// The chain value that the mirror has at `position`; `None` when it has no event there.
pub(super) async fn mirror_chain(mirror: &Mirror, position: Position) -> Result<Option<Hash>, MirrorError> {
    if position == 0 {
        return Ok(Some(Head::default().chain));
    }
    Ok(match mirror.at(position).await? {
        Slot::Event(event) => Some(event.chain()),
        Slot::Broken(_) | Slot::Missing => None,
    })
}
