//! `keyledger up`: all roles in one process, made of the same parts.

use std::sync::Arc;

use anyhow::Context;
use keyledger_eventlog::tail::SqlTail;
use keyledger_ingest::gate::Closed;
use keyledger_ingest::options::Options;

use super::begin::{self, Beginning};
use super::console::Showing;
use super::ground::{Ground, Place};
use super::ingest::{Intake, keep_mirror};
use super::issuer::Issuing;
use super::projector::Projecting;
use super::{Ready, Running, gate, material, on_ground, restored};
use crate::lifecycle::Lifecycle;
use crate::settings::Settings;

/// Which parts are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Whether licenses are issued.
    pub issuer: bool,
    /// Whether to go on with a log that lost events that the views have seen.
    pub accept_loss: bool,
}

/// Builds and starts everything. When it returns, webhooks are taken.
///
/// # Errors
///
/// When the data folder is in use, the log or the keys are missing, a database is unsafe, or an address is taken. The log
/// is closed then, so that another file may be put in its place. [`super::Interrupted`] when a signal came first.
pub async fn start(settings: &Settings, wanted: Wanted) -> anyhow::Result<Running> {
    on_ground(settings, Place::Alone, wanted.accept_loss, async |ground, lifecycle| {
        build(settings, wanted, ground, lifecycle).await
    })
    .await
}

async fn build(
    settings: &Settings,
    wanted: Wanted,
    ground: &Ground,
    lifecycle: &mut Lifecycle,
) -> anyhow::Result<Ready> {
    // Nothing is added to a log, and no keys are made for it, before it is known to be the right one. What its mirror
    // still holds is put back while the gate is closed.
    let closed = ground.keeper.look().await.context("reading the log")?;
    if closed != Some(Closed::BehindMirror) {
        let tail = SqlTail::new(ground.bare.clone());
        let has_mirror = gate::is_ours(ground.mirror.as_ref()).await;
        let seen = restored::require_all_seen(&*ground.bare, &tail, settings, has_mirror, wanted.accept_loss);
        Box::pin(seen).await?;
    }
    let keys = Arc::new(material::deployment_keys(settings, &*ground.log, &ground.lock).await?);

    // Nobody else takes what comes while it stops: there is nothing to wait for.
    let options = Options { drain_ms: 0, ..settings.ingest.clone() };
    // Addresses are taken before roles start: a taken one is found out at once.
    let intake = Intake::make(settings, options, ground).await?;
    let issuing = wanted.issuer.then(|| Issuing::make(settings, ground, keys.clone())).transpose()?;
    let projecting = Box::pin(Projecting::make(settings, ground, Place::Alone, wanted.accept_loss)).await?;
    let showing = Showing::make(settings, ground, keys).await?;

    // What decides stands in the log before anything is decided with it.
    if ground.gate.closed().is_none() {
        Beginning::new(settings, ground).record().await?;
    }

    let ready = Ready {
        ingest: Some(intake.url()),
        api: Some(showing.url()),
        token: showing.token.clone(),
        token_from: showing.token_from.clone(),
        ..Ready::default()
    };
    // The rest of the time is for the roles that stop before or after it.
    let last_within = settings.stop_timeout() / 2;
    keep_mirror(lifecycle, ground);
    projecting.spawn(lifecycle, last_within);
    if let Some(issuing) = issuing {
        issuing.spawn(lifecycle, last_within);
    }
    intake.spawn(lifecycle, ground.metrics.clone());
    showing.spawn(lifecycle);
    begin::spawn(lifecycle, settings, ground);
    Ok(ready)
}
