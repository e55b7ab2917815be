//! Replay: builds the views again beside the ones in use, compares them row by row, and puts them in their place.
//!
//! It reads the log and writes one file. It never issues, mails or calls anyone, and holds one batch in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use keyledger_eventlog::consumer::{Checkpoint, HandleError, Handler};
use keyledger_eventlog::log::LogError;
use keyledger_eventlog::tail::Tail;
use keyledger_schemas::envelope::Position;
use serde::Serialize;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

use crate::digest::{self, Digest};
use crate::{Projector, ViewsError, sql, store};

/// Events read at once.
const BATCH: usize = 256;

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
    let live = file_of(url)?;
    let side = beside(&live, ".rebuild");
    remove(&side)?;
    let mut projector = Projector::open(&format!("sqlite:{}", side.display())).await?;
    let rebuilt = rebuild(&mut projector, tail, url, (&live, &side), &mut progress).await;
    let closed = projector.close().await;
    let mut report = rebuilt?;
    closed?;
    if switch == Switch::Replace {
        put_in_place(url, &live, &side).await?;
        report.switched = true;
    }
    remove(&side)?;
    Ok(report)
}

/// Folds the log into the views beside, which are compared where those in use stand; then the rest is read.
async fn rebuild(
    projector: &mut Projector,
    tail: &dyn Tail,
    url: &str,
    (live, side): (&Path, &Path),
    progress: &mut (impl FnMut(Position, Position) + Send),
) -> Result<Report, ReplayError> {
    let mut report = Report::default();
    let head = tail.head().await?.position;
    let mut at = Checkpoint::default();
    let live_at = live_checkpoint(url, live).await;
    if let Some(live_at) = live_at.filter(|live_at| live_at.position <= head) {
        at = fold_to(projector, tail, at, live_at.position, head, progress).await?;
        report.live_position = Some(live_at.position);
        report.differences = compare(live, side).await?;
        if at != live_at {
            let keys = vec![format!("position {}", live_at.position)];
            let difference =
                Difference { table: "checkpoint".to_owned(), only_live: 0, only_rebuilt: 0, changed: 1, keys };
            report.differences.push(difference);
        }
    }
    at = fold_to(projector, tail, at, head, head, progress).await?;
    report.position = at.position;
    report.rows = counts(side).await?;
    report.parked = report.rows.get("parked").copied().unwrap_or(0);
    Ok(report)
}

/// Folds up to `to`, and says where that is.
async fn fold_to(
    projector: &mut Projector,
    tail: &dyn Tail,
    mut at: Checkpoint,
    to: Position,
    head: Position,
    progress: &mut (impl FnMut(Position, Position) + Send),
) -> Result<Checkpoint, ReplayError> {
    while at.position < to {
        let wanted = usize::try_from(to - at.position).unwrap_or(BATCH).min(BATCH);
        let batch = tail.next_after(at.position, wanted, Duration::ZERO).await?;
        if batch.is_empty() {
            return Ok(at);
        }
        match projector.handle(&batch, at).await {
            Ok(()) => {}
            Err(HandleError::Park { position, reason }) => {
                let here = projector.checkpoint().await.map_err(ReplayError::Fold)?;
                if let Some(event) = batch.iter().find(|event| event.position == position) {
                    projector.park(event, &reason, here).await.map_err(ReplayError::Fold)?;
                }
            }
            Err(error) => return Err(ReplayError::Fold(error)),
        }
        at = projector.checkpoint().await.map_err(ReplayError::Fold)?;
        progress(at.position, head);
    }
    Ok(at)
}

/// Compares every table of two views.
async fn compare(live: &Path, side: &Path) -> Result<Vec<Difference>, ViewsError> {
    let mut live = reading(live).await?;
    let mut side = match reading(side).await {
        Ok(side) => side,
        Err(error) => return sql::closing(live, Err(error)).await,
    };
    let compared = compare_tables(&mut live, &mut side).await;
    let compared = sql::closing(side, compared).await;
    sql::closing(live, compared).await
}

async fn compare_tables(
    live: &mut SqliteConnection,
    side: &mut SqliteConnection,
) -> Result<Vec<Difference>, ViewsError> {
    let mut differences = Vec::new();
    for table in digest::TABLES {
        differences.extend(compare_table(table, live, side).await?);
    }
    Ok(differences)
}

/// How many rows each table has.
async fn counts(side: &Path) -> Result<BTreeMap<String, u64>, ViewsError> {
    let mut side = reading(side).await?;
    let counted = digest::counts(&mut side).await;
    sql::closing(side, counted).await
}

/// Walks both tables in the order of their keys, holding one row of each.
async fn compare_table(
    table: &digest::Table,
    live: &mut SqliteConnection,
    side: &mut SqliteConnection,
) -> Result<Option<Difference>, ViewsError> {
    let mut found =
        Difference { table: table.name.to_owned(), only_live: 0, only_rebuilt: 0, changed: 0, keys: Vec::new() };
    let (mut left, mut right) = (digest::Rows::of(table, live), digest::Rows::of(table, side));
    let (mut a, mut b) = (left.next().await?, right.next().await?);
    loop {
        let key = match (&a, &b) {
            (None, None) => break,
            (Some(x), Some(y)) if x == y => None,
            (Some(Digest { key, .. }), Some(other)) if *key == other.key => {
                found.changed += 1;
                Some(key.clone())
            }
            (Some(Digest { key, .. }), Some(other)) if *key > other.key => {
                found.only_rebuilt += 1;
                Some(other.key.clone())
            }
            (None, Some(other)) => {
                found.only_rebuilt += 1;
                Some(other.key.clone())
            }
            (Some(Digest { key, .. }), _) => {
                found.only_live += 1;
                Some(key.clone())
            }
        };
        found.keys.extend(key.filter(|_| found.keys.len() < DIFFERENCES_MAX));
        let order = match (&a, &b) {
            (Some(x), Some(y)) => x.key.cmp(&y.key),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, _) => std::cmp::Ordering::Greater,
        };
        if order.is_le() {
            a = left.next().await?;
        }
        if order.is_ge() {
            b = right.next().await?;
        }
    }
    let differs = found.only_live + found.only_rebuilt + found.changed > 0;
    Ok(differs.then_some(found))
}

/// Where the views in use stand; `None` when there are none, or they are another build's.
async fn live_checkpoint(url: &str, live: &Path) -> Option<Checkpoint> {
    let views = crate::read::Views::open_read(url).await.ok()?;
    views.close().await;
    let mut live = reading(live).await.ok()?;
    let checkpoint = store::checkpoint(&mut live).await;
    sql::closing(live, checkpoint).await.ok()
}

async fn reading(path: &Path) -> Result<SqliteConnection, ViewsError> {
    let options = SqliteConnectOptions::new().filename(path).pragma("query_only", "on").disable_statement_logging();
    Ok(options.connect().await?)
}

/// Makes the rebuilt views the ones in use: by copying the rows in one transaction, so that whoever has the file open
/// goes on with the new ones. A file that is no database any more is replaced as a whole; nobody can be reading it.
async fn put_in_place(url: &str, live: &Path, side: &Path) -> Result<(), ReplayError> {
    match store::take_over(url, side).await {
        Err(ViewsError::Database(error)) if is_broken(&error) => {
            remove(live)?;
            std::fs::rename(side, live).map_err(|source| ReplayError::File { path: live.to_owned(), source })
        }
        done => Ok(done?),
    }
}

/// SQLite found that the file is no database (26), or one whose pages make no sense (11).
fn is_broken(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| matches!(code & 0xff, 11 | 26))
}

fn remove(path: &Path) -> Result<(), ReplayError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        remove_file(&beside(path, suffix))?;
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), ReplayError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(ReplayError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn file_of(url: &str) -> Result<PathBuf, ViewsError> {
    Ok(SqliteConnectOptions::from_str(url)?.get_filename().to_owned())
}
