//! From settings to a system that runs. Each role is a page, and so is `up`, which puts all of them into one process.
//!
//! ```text
//!   up ─┬─ ingest ────┐
//!       ├─ issuer ────┤   on one ground: data folder, log, clock, mirror, gate
//!       ├─ projector ─┤
//!       └─ console ───┘
//! ```

pub mod up;

pub mod console;
pub mod ingest;
pub mod issuer;
pub mod projector;

mod begin;
mod gate;
mod gauges;
mod ground;
mod health;
mod holder;
mod lock;
mod log;
mod material;
mod mirror;
mod recorded_settings;
mod restored;
mod views;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use keyledger_eventlog::log::EventLog;
use keyledger_schemas::secret::Secret;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use gate::{Gated, Keeper};
pub use ground::Place;
pub use holder::nonce;
pub use issuer::{engines, http, stripe_sources};
pub use lock::Lock;
pub use log::{clock, log_exists, open_log, open_log_with};
pub use mirror::mirror;
pub use restored::rebuild;

use crate::lifecycle::Lifecycle;
use crate::settings::Settings;
use ground::Ground;

/// What a process prints on stdout when it is ready, and what it tells its starter beside that.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// True.
    pub ready: bool,
    /// Which role it is; all of them where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Where webhooks arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingest: Option<String>,
    /// Where the API is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Where health and metrics are, if not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// The API's token; `None` where there is no API, or callers on this machine need none.
    #[serde(skip)]
    pub token: Option<Secret>,
    /// Where the token can be read.
    #[serde(skip)]
    pub token_from: String,
}

impl Default for Ready {
    fn default() -> Self {
        Self { ready: true, role: None, ingest: None, api: None, health: None, token: None, token_from: String::new() }
    }
}

/// A process whose roles run.
pub struct Running {
    /// Where everything is.
    pub ready: Ready,
    lifecycle: Lifecycle,
    log: Arc<dyn EventLog>,
    _lock: Lock,
}

impl Running {
    /// Waits for a signal, before [`Running::run`] does.
    pub async fn interrupted(&mut self) {
        self.lifecycle.interrupted().await;
    }

    /// Asks all roles to stop.
    pub fn stop(&self) {
        self.lifecycle.stop().cancel();
    }

    /// Runs until a signal, or until a role dies, and leaves in order: the roles as the data flows, the log last.
    ///
    /// # Errors
    ///
    /// When a role died, or did not leave in time.
    pub async fn run(self, stop_timeout: Duration) -> anyhow::Result<()> {
        let ended = self.lifecycle.run(stop_timeout).await;
        self.log.close().await;
        ended
    }
}

/// Told to stop before everything was up. Nothing was begun that a later start does not finish.
#[derive(Debug, thiserror::Error)]
#[error("told to stop before it was ready")]
pub struct Interrupted;

/// Lays the ground and builds on it. Where building fails or is interrupted, the log is closed again.
async fn on_ground(
    settings: &Settings,
    place: Place,
    accept_loss: bool,
    build: impl AsyncFnOnce(&Ground, &mut Lifecycle) -> anyhow::Result<Ready>,
) -> anyhow::Result<Running> {
    let mut interrupts = Lifecycle::new()?;
    let mut lifecycle = Lifecycle::new()?;
    // Both hold much: on the heap they do not weigh on whoever waits for them.
    let laying = Box::pin(Ground::lay(settings, place, accept_loss));
    let ground = unless(interrupts.interrupted(), laying).await?;
    let building = unless(interrupts.interrupted(), Box::pin(build(&ground, &mut lifecycle)));
    match building.await {
        Ok(ready) => Ok(Running { ready, lifecycle, log: ground.bare, _lock: ground.lock }),
        Err(error) => {
            ground.bare.close().await;
            Err(error)
        }
    }
}

/// Does `work`, unless interrupted.
async fn unless<T>(
    interrupted: impl Future<Output = ()>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = interrupted => Err(Interrupted.into()),
    }
}

/// Lets a role finish what is in hand for `last_within` at most after it was told to stop: the rest of the time is for
/// those that stop after it. What is left, the next start goes on with.
async fn leaving_within(
    last_within: Duration,
    stop: &CancellationToken,
    role: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(last_within).await;
    };
    tokio::select! {
        ended = role => ended,
        () = late => bail!("it did not finish within {} s", last_within.as_secs()),
    }
}

async fn listen(setting: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address} (`{setting}`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_role_that_goes_on_after_the_stop_is_left_and_one_that_ends_in_time_is_not() {
        let stop = CancellationToken::new();
        let ends = async {
            tokio::time::sleep(LAST * 3).await;
            stop.cancel();
            Ok(())
        };
        leaving_within(LAST, &stop, ends).await.unwrap();
        let error = leaving_within(LAST, &stop, std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains("did not finish"), "{error}");
    }

    #[tokio::test]
    async fn work_is_left_when_it_is_interrupted() {
        let interrupted = unless::<()>(async {}, std::future::pending()).await.unwrap_err();
        assert!(interrupted.is::<Interrupted>());
        assert_eq!(unless(std::future::pending(), async { Ok(7) }).await.unwrap(), 7);
    }
}
