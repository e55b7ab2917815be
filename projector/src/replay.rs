//! Replay: builds the views again beside the ones in use, compares them row by row, and puts them in their place.
//!
//! It reads the log and writes one file, or one schema. It never issues, mails or calls anyone, and holds one batch in
//! memory.

mod beside;
mod compare;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use keyledger_eventlog::consumer::{Checkpoint, HandleError, Handler};
use keyledger_eventlog::log::LogError;
use keyledger_eventlog::tail::Tail;
use keyledger_schemas::envelope::{Position, Recorded};
use serde::Serialize;

use crate::fold::{self, Content};
use crate::place::Place;
use crate::projector::Read;
use crate::{Projector, ViewsError, digest, sql, store};
use beside::Beside;

/// Events folded in one transaction. A purchase is read and written once in each, and its first events stand close together.
const BATCH: usize = 2048;

/// So few events are folded while the views in use are held still.
const NEAR: Position = 1024;

/// Named differences of one table; the rest is counted.
pub const DIFFERENCES_MAX: usize = 20;

/// Whether the rebuilt views take the place of the ones in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// They do, all at once. A projector that writes meanwhile finds its checkpoint moved, and reads on from there.
    Replace,
    /// They are compared and deleted again: the service is running.
    CompareOnly,
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How far the log was read.
    pub position: Position,
    /// Where the views in use stood; `None` when there were none that this build made.
    pub live_position: Option<Position>,
    /// Rows by table.
    pub rows: BTreeMap<String, u64>,
    /// What differs, by table. Empty when the views in use were right.
    pub differences: Vec<Difference>,
    /// Events set aside.
    pub parked: u64,
    /// The rebuilt views are now the ones in use.
    pub switched: bool,
}

/// How one table differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The table.
    pub table: String,
    /// Rows only in the views in use.
    pub only_live: u64,
    /// Rows only in the rebuilt views.
    pub only_rebuilt: u64,
    /// Rows in both, with other content.
    pub changed: u64,
    /// The keys of the first of them.
    pub keys: Vec<String>,
}

/// Why a replay did not come to its end. The views in use are as they were.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log could not be read.
    #[error("cannot read the log")]
    Log(#[from] LogError),
    /// The views could not be read or written.
    #[error("cannot rebuild the views")]
    Views(#[from] ViewsError),
    /// An event could not be folded.
    #[error("cannot fold the log")]
    Fold(#[source] HandleError),
    /// A file could not be put in place.
    #[error("cannot replace `{path}`")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Rebuilds the views at `url` from the log, compares both at the same position, and replaces the ones in use.
///
/// `progress` is told the position reached and the head, after every batch. Readers may go on reading: they see the
/// old rows until the new ones are all there.
///
/// # Errors
///
/// See [`ReplayError`]: the views in use are as they were. Run it again.
pub async fn replay(
    tail: &dyn Tail,
    url: &str,
    switch: Switch,
    mut progress: impl FnMut(Position, Position) + Send,
) -> Result<Report, ReplayError> {
    let live = Place::of(url)?;
    let mut beside = Beside::of(url).await?;
    let mut projector = Projector::at(beside.place()).await?;
    let rebuilt = rebuild(&mut projector, tail, &live, &beside.place(), &mut progress).await;
    let closed = projector.close().await;
    let mut report = rebuilt?;
    closed?;
    if switch == Switch::Replace {
        beside.put_in_place().await?;
        report.switched = true;
    }
    beside.remove().await?;
    Ok(report)
}

/// Folds the log into the views beside, which are compared where those in use stand; then the rest is read.
async fn rebuild(
    projector: &mut Projector,
    tail: &dyn Tail,
    live: &Place,
    side: &Place,
    progress: &mut (impl FnMut(Position, Position) + Send),
) -> Result<Report, ReplayError> {
    let mut report = Report::default();
    let filling = projector.begin_filling().await?;
    let head = tail.head().await?.position;
    let mut at = Checkpoint::default();
    while let Some(live_at) = live_checkpoint(live).await.filter(|live_at| live_at.position <= head)
        && at.position < live_at.position
    {
        let before = at;
        at = fold_to(projector, tail, at, live_at.position, head, progress).await?;
        // A projector that writes meanwhile is caught up with, until little is left to fold while its rows are held still.
        if live_at.position.saturating_sub(before.position) < NEAR || at == before {
            break;
        }
    }
    at = compare(projector, tail, (live, side), at, &mut report, progress).await?;
    let head = tail.head().await?.position.max(at.position);
    at = fold_to(projector, tail, at, head, head, progress).await?;
    projector.end_filling(filling).await?;
    report.position = at.position;
    report.rows = counts(side).await?;
    report.parked = report.rows.get("parked").copied().unwrap_or(0);
    Ok(report)
}

/// Compares at the position where the views in use stand now, and which they keep while they are compared.
async fn compare(
    projector: &mut Projector,
    tail: &dyn Tail,
    (live, side): (&Place, &Place),
    mut at: Checkpoint,
    report: &mut Report,
    progress: &mut (impl FnMut(Position, Position) + Send),
) -> Result<Checkpoint, ReplayError> {
    if live_checkpoint(live).await.is_none() {
        return Ok(at);
    }
    let mut still = beside::reading(live).await?;
    let compared = async {
        still.begin_reading().await.map_err(ViewsError::from)?;
        let live_at = store::checkpoint(&mut still).await?;
        let head = tail.head().await?.position;
        if live_at.position <= head {
            at = fold_to(projector, tail, at, live_at.position, head, progress).await?;
        }
        if live_at.position != at.position {
            return Ok(());
        }
        report.live_position = Some(live_at.position);
        report.differences = compare::all(&mut still, side).await?;
        if at != live_at {
            let keys = vec![format!("position {}", live_at.position)];
            let difference =
                Difference { table: "checkpoint".to_owned(), only_live: 0, only_rebuilt: 0, changed: 1, keys };
            report.differences.push(difference);
        }
        Ok(())
    };
    let compared: Result<(), ReplayError> = compared.await;
    let closed = still.close().await;
    compared?;
    closed.map_err(ViewsError::from)?;
    Ok(at)
}

/// Folds up to `to`, and says where that is. The next batch is read while one is folded.
async fn fold_to(
    projector: &mut Projector,
    tail: &dyn Tail,
    mut at: Checkpoint,
    to: Position,
    head: Position,
    progress: &mut (impl FnMut(Position, Position) + Send),
) -> Result<Checkpoint, ReplayError> {
    let mut batch = Batch::after(tail, at.position, to).await?;
    while let Some(last) = batch.events.last() {
        let (events, contents) = (&batch.events, std::mem::take(&mut batch.contents));
        let (next, folded) =
            tokio::join!(Batch::after(tail, last.position, to), projector.take_in(Read::of(events, contents), at),);
        let mut next = next?;
        match folded {
            Ok(()) => {}
            Err(HandleError::Park { position, reason }) => {
                let here = projector.checkpoint().await.map_err(ReplayError::Fold)?;
                if let Some(event) = events.iter().find(|event| event.position == position) {
                    projector.park(event, &reason, here).await.map_err(ReplayError::Fold)?;
                }
                // What stands behind it in the batch was not folded yet.
                next = Batch::after(tail, position, to).await?;
            }
            Err(error) => return Err(ReplayError::Fold(error)),
        }
        at = projector.checkpoint().await.map_err(ReplayError::Fold)?;
        progress(at.position, head);
        batch = next;
    }
    Ok(at)
}

/// Events with what the fold takes of each.
#[derive(Default)]
struct Batch {
    events: Vec<Recorded>,
    contents: Vec<Result<Content, String>>,
}

impl Batch {
    /// Those after a position, up to `to`. Their bytes are read on a thread of their own, and then not needed any more.
    async fn after(tail: &dyn Tail, after: Position, to: Position) -> Result<Self, ReplayError> {
        let wanted = usize::try_from(to.saturating_sub(after)).unwrap_or(BATCH).min(BATCH);
        if wanted == 0 {
            return Ok(Self::default());
        }
        let mut events = tail.next_after(after, wanted, Duration::ZERO).await?;
        let read = tokio::task::spawn_blocking(move || {
            let contents = events.iter().map(fold::read).collect();
            for event in &mut events {
                event.data = Vec::new();
            }
            Self { events, contents }
        });
        read.await.map_err(|ended| ReplayError::Fold(HandleError::Fatal(ended.into())))
    }
}

/// How many rows each table has.
async fn counts(side: &Place) -> Result<BTreeMap<String, u64>, ViewsError> {
    let mut side = beside::reading(side).await?;
    let counted = digest::counts(&mut side).await;
    sql::closing(side, counted).await
}

/// Where the views in use stand; `None` when there are none, or they are another build's.
async fn live_checkpoint(live: &Place) -> Option<Checkpoint> {
    let views = crate::read::Views::open_at(live.clone()).await.ok()?;
    views.close().await;
    let mut live = beside::reading(live).await.ok()?;
    let checkpoint = store::checkpoint(&mut live).await;
    sql::closing(live, checkpoint).await.ok()
}
