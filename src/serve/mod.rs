//! The whole system, top to bottom: lock, keys, log, settings, projector, issuer, ingest, API.

mod gauges;
mod lock;
mod recorded_settings;
mod restored;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use keyledger_console::Console;
use keyledger_console::access::{Access, Role, Token};
use keyledger_console::api::{Api, ViewsAt};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::consumer::{Consumer, Options as ConsumerOptions, Step};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::sqlite::{Options as SqliteOptions, SqliteLog};
use keyledger_eventlog::tail::{SqlTail, Tail};
use keyledger_ingest::options::Source;
use keyledger_ingest::server::{self, Ingest};
use keyledger_issuer::provider::Provider;
use keyledger_issuer::provider::builtin::Builtin;
use keyledger_issuer::provider::stub::Stub;
use keyledger_issuer::{Engines, Issuer, Parts};
use keyledger_projector::Projector;
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::secret::Secret;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use lock::Lock;
pub use restored::rebuild;

use crate::lifecycle::{Lifecycle, Stage};
use crate::settings::{Settings, read_token};
use crate::{cli, keys, telemetry};

/// The name under which the API's token stands in the log.
const API_CALLER: &str = "api";

/// Which parts are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Whether licenses are issued.
    pub issuer: bool,
    /// Whether to go on with a log that lost events that the views have seen.
    pub accept_loss: bool,
}

/// What `up` prints on stdout when it is ready.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// True.
    pub ready: bool,
    /// Where webhooks arrive.
    pub ingest: String,
    /// Where the API is.
    pub api: String,
}

/// A system that is up.
pub struct Running {
    /// Where webhooks arrive.
    pub ingest: SocketAddr,
    /// Where the API is.
    pub api: SocketAddr,
    /// The API's token; `None` where callers on this machine need none.
    pub token: Option<Secret>,
    /// Where the token can be read.
    pub token_from: String,
    lifecycle: Lifecycle,
    log: SqliteLog,
    _lock: Lock,
}

impl Running {
    /// The line that says that it is up.
    pub fn ready(&self) -> Ready {
        Ready { ready: true, ingest: self.ingest_url(), api: self.api_url() }
    }

    /// Where webhooks arrive, as a URL.
    pub fn ingest_url(&self) -> String {
        format!("http://{}", self.ingest)
    }

    /// Where the API is, as a URL.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.api)
    }

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

/// Builds and starts everything. When it returns, webhooks are taken.
///
/// # Errors
///
/// When the data folder is in use, the keys are missing, a database is unsafe, or an address is taken.
pub async fn start(settings: &Settings, wanted: Wanted) -> anyhow::Result<Running> {
    let mut lifecycle = Lifecycle::new()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = telemetry::count()?;

    // What must be ours alone.
    cli::make_data_dir(&settings.data_dir)?;
    let lock = Lock::take(&settings.data_dir)?;
    let sqlite = open_log(settings, clock.clone()).await?;
    let log: Arc<dyn EventLog> = Arc::new(sqlite.clone());
    let keys = Arc::new(load_keys(settings, &*log).await?);
    let (token, token_from) = api_token(settings)?;

    // What decides stands in the log before anything is decided with it.
    if recorded_settings::record(&*log, &settings.deciding(), clock.now()).await? {
        tracing::info!("the settings differ from the recorded ones, and were recorded");
    }

    // Addresses are taken before roles start: a taken one is found out at once.
    let ingest_listener = listen("ingest.listen", settings.ingest.listen).await?;
    let api_listener = listen("api.listen", settings.api.listen).await?;
    let ingest_address = ingest_listener.local_addr().context("asking for the address of ingest")?;
    let api_address = api_listener.local_addr().context("asking for the address of the API")?;

    let tail: Arc<dyn Tail> = Arc::new(SqlTail::new(log.clone()));

    // The projector makes the views that the API reads.
    let views_url = views_url(settings)?;
    let projector = restored::open_views(&log, &*tail, &views_url, wanted.accept_loss).await?;
    let projecting = Consumer::new(projector, tail.clone(), ConsumerOptions::default());
    // The rest of the time is for the roles that stop before it.
    let last_within = settings.stop_timeout() / 2;
    lifecycle.spawn(Stage::Show, "projector", move |stop| project(projecting, stop, last_within));

    if wanted.issuer {
        let parts = Parts {
            log: log.clone(),
            tail,
            clock: clock.clone(),
            engines: engines(settings, keys.clone())?,
            keys: keys.clone(),
            holder: holder(settings)?,
            options: settings.issuer.clone(),
        };
        lifecycle.spawn(Stage::Work, "issuer", |stop| async move {
            match Issuer::start(parts, &stop).await? {
                Some(issuer) => Ok(Box::pin(issuer.run(stop)).await?),
                None => Ok(()),
            }
        });
    }

    let rendered = metrics.clone();
    let ingest = Ingest::new(settings.ingest.clone(), sources(settings)?, log.clone(), clock.clone())?
        .with_metrics(Arc::new(move || rendered.render()));
    lifecycle.spawn(Stage::Intake, "ingest", |stop| async move {
        server::serve(ingest_listener, Arc::new(ingest), stop).await;
        Ok(())
    });

    let (views, counting) = (ViewsAt::new(views_url.clone())?, clock.clone());
    lifecycle.spawn(Stage::Show, "gauges", |stop| async move {
        gauges::run(&views, &*counting, &metrics, stop).await;
        Ok(())
    });

    // It shows what is there, but it takes in what people ask for too, and that the issuer must still read.
    let api = Api::new(log, ViewsAt::new(views_url)?, keys, clock);
    let console = Console { api, access: Arc::new(access(settings, token.as_ref())) };
    lifecycle.spawn(Stage::Intake, "api", |stop| async move {
        Ok(keyledger_console::serve(api_listener, console, stop).await?)
    });

    Ok(Running { ingest: ingest_address, api: api_address, token, token_from, lifecycle, log: sqlite, _lock: lock })
}

/// Folds the log into the views until told to stop, and then what the roles before it left, so that a system at rest has
/// nothing unread. It takes `last_within` at most: what is left after a long absence is read the next time.
async fn project(
    mut projecting: Consumer<Projector>,
    stop: CancellationToken,
    last_within: Duration,
) -> anyhow::Result<()> {
    projecting.run(stop).await?;
    let last = async {
        while let Step::Delayed(delay) = projecting.run_until_idle().await? {
            tokio::time::sleep(delay).await;
        }
        anyhow::Ok(())
    };
    let Ok(ended) = tokio::time::timeout(last_within, last).await else {
        tracing::warn!("the views are behind the log; they go on from there at the next start");
        return Ok(());
    };
    ended
}

/// Opens the log, and makes it where there is none.
///
/// # Errors
///
/// When it cannot be opened, or would not keep what it acknowledges.
pub async fn open_log(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<SqliteLog> {
    let path = text(&settings.log)?;
    if let Some(folder) = settings.log.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        cli::make_data_dir(folder)?;
    }
    SqliteLog::open(path, clock, SqliteOptions::default()).await.with_context(|| format!("opening the log {path}"))
}

/// The views' URL.
///
/// # Errors
///
/// When the path is not text.
pub fn views_url(settings: &Settings) -> anyhow::Result<String> {
    if let Some(folder) = settings.views.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        cli::make_data_dir(folder)?;
    }
    Ok(format!("sqlite:{}", text(&settings.views)?))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not text", path.display()))
}

/// The license engines that are configured.
///
/// # Errors
///
/// When one cannot be built.
pub fn engines(settings: &Settings, keys: Arc<DeploymentKeys>) -> anyhow::Result<Engines> {
    let mut engines: Vec<Arc<dyn Provider>> = vec![Arc::new(Builtin::new(keys))];
    if let Some(options) = &settings.providers.stub {
        let stub = Stub::new(ProviderName::from("stub"), options).context("setting up `[provider.stub]`")?;
        engines.push(Arc::new(stub));
    }
    Ok(Engines::new(engines))
}

/// The deployment's keys. They are made for a log without events; beside one with events they must be the old ones.
async fn load_keys(settings: &Settings, log: &dyn EventLog) -> anyhow::Result<DeploymentKeys> {
    let head = log.head().await.context("reading the log")?;
    if head.position == 0 {
        return Ok(DeploymentKeys::load_or_create(&settings.keys_dir)?);
    }
    if !settings.keys_dir.exists() {
        bail!(keys::missing(head.position, &settings.keys_dir));
    }
    let loaded = DeploymentKeys::load(&settings.keys_dir)?;
    keys::require_those_of(log, &loaded, &settings.keys_dir).await?;
    Ok(loaded)
}

/// The API's token and where it can be read. Made where there is none.
fn api_token(settings: &Settings) -> anyhow::Result<(Option<Secret>, String)> {
    if let Some(token) = &settings.api.token {
        return Ok((Some(token.clone()), "the settings (`api.token`)".to_owned()));
    }
    let file = &settings.api.token_file;
    if settings.api.allow_loopback_without_token && !file.exists() {
        return Ok((None, "no file: callers on this machine need none".to_owned()));
    }
    cli::make_token(file)?;
    match read_token(file) {
        Ok(token) => Ok((Some(token), file.display().to_string())),
        Err(reason) => bail!("`api.token_file`: {reason}"),
    }
}

/// Who may use the API.
fn access(settings: &Settings, token: Option<&Secret>) -> Access {
    let tokens = token.into_iter().map(|token| Token::new(API_CALLER, Role::Admin, token)).collect();
    let access = Access::tokens(tokens);
    if settings.api.allow_loopback_without_token { access.with_loopback() } else { access }
}

fn sources(settings: &Settings) -> anyhow::Result<Vec<Source>> {
    let source = |(name, source): (&_, &crate::settings::Source)| {
        Source::new(Clone::clone(name), source.mode, source.webhook_secrets.clone())
    };
    Ok(settings.sources.iter().map(source).collect::<Result<_, _>>()?)
}

/// The issuer's name on its lease. The data folder is locked, so no two processes have the same one at a time; and it
/// is the same after a restart, which need not wait for its own lease to run out.
fn holder(settings: &Settings) -> anyhow::Result<String> {
    let folder = std::fs::canonicalize(&settings.data_dir)
        .with_context(|| format!("resolving {}", settings.data_dir.display()))?;
    Ok(format!("keyledger in {}", folder.display()))
}

async fn listen(setting: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address} (`{setting}`)"))
}
