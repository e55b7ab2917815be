//! `keyledger console`: answers the API, over the log and the views.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use keyledger_console::Console;
use keyledger_console::access::{Access, Role, Token};
use keyledger_console::api::{Api, MirrorAt, ViewsAt};
use keyledger_console::http::Metrics;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::jetstream::Mirror;
use keyledger_schemas::secret::Secret;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ground::{Ground, Place};
use super::{Ready, Running, begin, listen, material, on_ground};
use crate::lifecycle::{Lifecycle, Stage};
use crate::settings::Settings;

/// The name under which the API's token stands in the log.
const API_CALLER: &str = "api";

/// How often it is looked how far the mirror is.
const MIRROR_EVERY: Duration = Duration::from_millis(250);

/// How long one look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// Starts the role in a process of its own. When it returns, the API is answered.
///
/// # Errors
///
/// When the data folder is in use by an `up`, the log or the keys are missing, or the address is taken.
pub async fn start(settings: &Settings, accept_loss: bool) -> anyhow::Result<Running> {
    on_ground(settings, Place::Shared("console"), accept_loss, async |ground, lifecycle| {
        let keys = Arc::new(material::deployment_keys(settings, &*ground.log, &ground.lock).await?);
        let showing = Showing::make(settings, ground, keys).await?;
        ground.look().await;
        let (api, token, token_from) = (showing.url(), showing.token.clone(), showing.token_from.clone());
        showing.spawn(lifecycle);
        begin::keep_gate(lifecycle, ground);
        Ok(Ready { role: Some("console"), api: Some(api), token, token_from, ..Ready::default() })
    })
    .await
}

/// All that can fail of answering the API, made and found good.
pub struct Showing {
    listener: TcpListener,
    address: SocketAddr,
    console: Console,
    mirror: Option<(Mirror, Arc<AtomicU64>)>,
    /// The API's token; `None` where callers on this machine need none.
    pub token: Option<Secret>,
    /// Where the token can be read.
    pub token_from: String,
}

impl Showing {
    /// Takes the address.
    ///
    /// # Errors
    ///
    /// When it is taken, or the token cannot be read.
    pub async fn make(settings: &Settings, ground: &Ground, keys: Arc<DeploymentKeys>) -> anyhow::Result<Self> {
        let (token, token_from) = material::api_token(settings, &ground.lock).await?;
        let listener = listen("api.listen", settings.api.listen).await?;
        let address = listener.local_addr().context("asking for the address of the API")?;
        let views = ViewsAt::new(settings.views.url().expose())?;
        let mut api = Api::new(ground.log.clone(), views, keys, ground.clock.clone());
        let mirror = ground.mirror.clone().map(|mirror| (mirror, Arc::<AtomicU64>::default()));
        if let Some((_, position)) = &mirror {
            api = api.with_mirror(shown(position.clone()));
        }
        let metrics = ground.metrics.clone();
        let metrics = Metrics::new(move || metrics.render());
        let console = Console { api, access: Arc::new(access(settings, token.as_ref())), metrics };
        Ok(Self { listener, address, console, mirror, token, token_from })
    }

    /// Where the API is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers from here on. It shows what is there, but it takes in what people ask for too, and that the issuer must
    /// still read: so it stops with those that take something in.
    pub fn spawn(self, lifecycle: &mut Lifecycle) {
        lifecycle.spawn(Stage::Intake, "api", |stop| async move {
            Ok(keyledger_console::serve(self.listener, self.console, stop).await?)
        });
        if let Some((mirror, position)) = self.mirror {
            lifecycle.spawn(Stage::Show, "mirror", |stop| async move {
                watch(&mirror, &position, &stop).await;
                Ok(())
            });
        }
    }
}

/// Who may use the API.
fn access(settings: &Settings, token: Option<&Secret>) -> Access {
    let tokens = token.into_iter().map(|token| Token::new(API_CALLER, Role::Admin, token)).collect();
    let access = Access::tokens(tokens);
    if settings.api.allow_loopback_without_token { access.with_loopback() } else { access }
}

/// The position that was seen last: one that was never seen is that of an empty mirror.
fn shown(position: Arc<AtomicU64>) -> MirrorAt {
    Arc::new(move || Some(position.load(Ordering::Relaxed)))
}

/// Looks how far the mirror is until told to stop. A position that cannot be had now keeps its last value.
async fn watch(mirror: &Mirror, position: &AtomicU64, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        if let Ok(Ok(seen)) = tokio::time::timeout(LOOK_WITHIN, mirror.position()).await {
            position.store(seen.unwrap_or(0), Ordering::Relaxed);
        }
        tokio::select! {
            () = tokio::time::sleep(MIRROR_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}
