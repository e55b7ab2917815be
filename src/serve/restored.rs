//! Notices a log that was restored from an older backup: then the views know events that the log does not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use keyledger_eventlog::consumer::Handler;
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::Tail;
use keyledger_projector::Projector;
use keyledger_projector::ViewsError;
use keyledger_projector::replay::{self, ReplayError, Report, Switch};
use keyledger_schemas::envelope::Position;

/// How often a rebuild is begun again because the views could not be put in place.
const ATTEMPTS_MAX: u32 = 10;

/// How long to wait before that.
const PAUSE: Duration = Duration::from_millis(300);

/// Opens the views for writing. If their checkpoint is not in the log, events are lost, and somebody must know: without
/// `accept_loss` this fails; with it the views are made anew.
///
/// # Errors
///
/// When events are lost, or the views cannot be opened.
pub async fn open_views(
    log: &Arc<dyn EventLog>,
    tail: &dyn Tail,
    views_url: &str,
    accept_loss: bool,
) -> anyhow::Result<Projector> {
    let mut projector = Projector::open(views_url).await.context("opening the views")?;
    let seen = projector.checkpoint().await.context("reading how far the views are")?;
    let known = seen.position == 0 || log.at(seen.position).await?.is_some_and(|event| event.chain == seen.chain);
    if known {
        return Ok(projector);
    }
    let head = log.head().await?.position;
    if !accept_loss {
        bail!(
            "the views have seen {} events, and the log holds {head}, and not the same: it was restored from an older \
             backup, or belongs elsewhere. Bring back the newer log if you have it. Else start once with `--accept-loss`, \
             and resend from Stripe what is newer than the backup",
            seen.position
        );
    }
    tracing::warn!("the views have seen {} events that the log lost; they are made anew from {head}", seen.position);
    projector.close().await.context("closing the views")?;
    rebuild(tail, views_url, Switch::Replace, |_, _| {}).await.context("making the views anew")?;
    Projector::open(views_url).await.context("opening the views")
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
