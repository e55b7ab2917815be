//! Notices a log that is gone, or was restored from an older backup: then the views know events that the log does not.

use std::time::Duration;

use anyhow::{Context, bail};
use keyledger_eventlog::consumer::Checkpoint;
use keyledger_eventlog::log::{EventLog, LogError};
use keyledger_eventlog::tail::Tail;
use keyledger_projector::Projector;
use keyledger_projector::ViewsError;
use keyledger_projector::replay::{self, ReplayError, Report, Switch};
use keyledger_schemas::envelope::Position;

use super::Lock;
use super::log::log_exists;
use crate::settings::{Database, Settings};

/// How often a rebuild is begun again because the views could not be put in place.
const ATTEMPTS_MAX: u32 = 10;

/// How long to wait before that.
const PAUSE: Duration = Duration::from_millis(300);

/// Refuses to make a new log where one was: a mislaid log must not be taken for none.
///
/// # Errors
///
/// When the views have seen one, or a service worked on one with these keys.
pub async fn require_no_log_before(settings: &Settings, lock: &Lock) -> anyhow::Result<()> {
    let left = match seen(settings.views.url().expose()).await {
        Seen::Known(seen) if seen.position > 0 => format!("the views in {}", settings.views),
        Seen::Unreadable => format!("{}, which cannot be read,", settings.views),
        _ if lock.log().is_some() && settings.keys_dir.exists() => {
            format!("the keys in {}", settings.keys_dir.display())
        }
        _ => return Ok(()),
    };
    // Another role may have made both a moment ago.
    if log_exists(&settings.log).await? {
        return Ok(());
    }
    bail!(
        "there is no log at {}, and {left} belong to one. {} To begin without it, start once with `--accept-loss`",
        settings.log,
        put_back(&settings.log)
    )
}

/// How a lost log is put back.
fn put_back(log: &Database) -> String {
    match log {
        Database::File(path) => format!(
            "Put it back with all of its files. Where it comes from a backup, delete {path}-wal and {path}-shm first.",
            path = path.display()
        ),
        Database::Server(_) => "Restore the database from its backup.".to_owned(),
    }
}

/// Whether the views have seen what the log does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Views {
    /// They have not, or there are none, or they cannot be read.
    Fine,
    /// They have, up to this position, which the log has not reached.
    Ahead(Position),
    /// They have, up to this position, and the log holds something else there.
    Other(Position),
}

/// Looks whether the views have seen what the log does not hold.
///
/// # Errors
///
/// When the log cannot be read.
pub async fn look_at_views(log: &dyn EventLog, views_url: &str) -> Result<Views, LogError> {
    let Seen::Known(seen) = seen(views_url).await else { return Ok(Views::Fine) };
    Ok(match log.chain_at(seen.position).await? {
        Some(chain) if chain == seen.chain => Views::Fine,
        Some(_) => Views::Other(seen.position),
        None => Views::Ahead(seen.position),
    })
}

/// Refuses a log that lost events which the views have seen, unless that is accepted: then the views are made anew. So
/// they are where something else took the place of those events and the log `has_mirror` of its own: what that alone held
/// was added to the log again, elsewhere.
///
/// # Errors
///
/// When events are lost, or the views cannot be made anew.
pub async fn require_all_seen(
    log: &dyn EventLog,
    tail: &dyn Tail,
    settings: &Settings,
    has_mirror: bool,
    accept_loss: bool,
) -> anyhow::Result<()> {
    let views_url = settings.views.url();
    let (seen, is_rescued) = match look_at_views(log, views_url.expose()).await.context("reading the log")? {
        Views::Fine => return Ok(()),
        Views::Ahead(seen) => (seen, false),
        Views::Other(seen) => (seen, has_mirror),
    };
    let head = log.head().await.context("reading the log")?.position;
    if !accept_loss && !is_rescued {
        let newer = match &settings.log {
            Database::File(path) => format!(
                "put it in the place of {path}, and delete {path}-wal and {path}-shm first, which belong to this one",
                path = path.display()
            ),
            Database::Server(_) => format!("restore {} from it", settings.log),
        };
        bail!(
            "the views have seen {seen} events, and the log holds {head}, and not the same: it was restored from an older \
             backup, or belongs elsewhere. If you have the newer log, {newer}. Else start once with `--accept-loss`, and \
             resend from Stripe what is newer than the backup"
        );
    }
    tracing::warn!(
        "the views have seen {seen} events that are not in the log like that; they are made anew from {head}"
    );
    rebuild(tail, views_url.expose(), Switch::Replace, |_, _| {}).await.context("making the views anew")?;
    Ok(())
}

/// How far the views are.
enum Seen {
    /// So far.
    Known(Checkpoint),
    /// There are none.
    Nothing,
    /// There is something that does not say so.
    Unreadable,
}

async fn seen(views_url: &str) -> Seen {
    match Projector::seen(views_url).await {
        Ok(Some(seen)) => Seen::Known(seen),
        Ok(None) => Seen::Nothing,
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::error!("the views cannot be read, so that nobody knows which events they have seen: {error:#}");
            Seen::Unreadable
        }
    }
}

/// Makes the views anew. SQLite does not let a file be put aside while someone else has it open, were it for reading
/// alone, and does not wait by itself: so it is tried again for a while.
///
/// # Errors
///
/// See [`ReplayError`]: the views in use are as they were.
pub async fn rebuild(
    tail: &dyn Tail,
    views_url: &str,
    switch: Switch,
    mut progress: impl FnMut(Position, Position) + Send,
) -> Result<Report, ReplayError> {
    for _ in 1..ATTEMPTS_MAX {
        match replay::replay(tail, views_url, switch, &mut progress).await {
            Err(ReplayError::Views(ViewsError::Database(error))) => {
                tracing::info!("the views are made anew once more: {error}");
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
    replay::replay(tail, views_url, switch, progress).await
}
