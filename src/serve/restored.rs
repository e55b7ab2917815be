//! Notices a log that was restored from an older backup: then the views know events that the log does not.

use std::sync::Arc;

use anyhow::{Context, bail};
use keyledger_eventlog::consumer::Handler;
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::Tail;
use keyledger_projector::Projector;
use keyledger_projector::replay::{self, Switch};

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
    replay::replay(tail, views_url, Switch::Replace, |_, _| {}).await.context("making the views anew")?;
    Projector::open(views_url).await.context("opening the views")
}
