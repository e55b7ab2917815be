//! The whole system, top to bottom: lock, log, keys, settings, projector, issuer, ingest, API.

mod gauges;
mod lock;
mod recorded_settings;
mod restored;
mod views;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use keyledger_console::Console;
use keyledger_console::access::{Access, Role, Token};
use keyledger_console::api::{Api, ViewsAt};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::consumer::{Consumer, Options as ConsumerOptions};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::sqlite::{Options as SqliteOptions, SqliteLog};
use keyledger_eventlog::tail::{SqlTail, Tail};
use keyledger_ingest::options::Source;
use keyledger_ingest::server::{self, Ingest};
use keyledger_issuer::provider::Provider;
use keyledger_issuer::provider::builtin::Builtin;
use keyledger_issuer::provider::stub::Stub;
use keyledger_issuer::{Engines, Issuer, Parts};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::secret::Secret;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use lock::Lock;
pub use restored::rebuild;
use views::MendedViews;

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

/// Told to stop before everything was up. Nothing was begun that a later start does not finish.
#[derive(Debug, thiserror::Error)]
#[error("told to stop before it was ready")]
pub struct Interrupted;

/// Builds and starts everything. When it returns, webhooks are taken.
///
/// # Errors
///
/// When the data folder is in use, the log or the keys are missing, a database is unsafe, or an address is taken. The log
/// is closed then, so that another file may be put in its place. [`Interrupted`] when a signal came first.
pub async fn start(settings: &Settings, wanted: Wanted) -> anyhow::Result<Running> {
    let mut lifecycle = Lifecycle::new()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = telemetry::count()?;

    // What must be ours alone.
    cli::make_data_dir(&settings.data_dir)?;
    let mut lock = Lock::take(&settings.data_dir)?;
    let views_url = views_url(settings)?;
    if !wanted.accept_loss {
        restored::require_log(settings, &views_url, &lock).await?;
    }
    let log = unless(lifecycle.interrupted(), open_log(settings, clock.clone())).await?;
    let made = async {
        lock.remember_log(&settings.log)?;
        Made::new(settings, wanted, &log, clock, views_url).await
    };
    match unless(lifecycle.interrupted(), made).await {
        Ok(made) => Ok(made.start(settings, metrics, lifecycle, log, lock)),
        Err(error) => {
            log.close().await;
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

/// All that can fail while starting, made and found good. No role runs yet.
struct Made {
    clock: Arc<dyn Clock>,
    log: Arc<dyn EventLog>,
    keys: Arc<DeploymentKeys>,
    token: Option<Secret>,
    token_from: String,
    ingest_listener: TcpListener,
    ingest_address: SocketAddr,
    api_listener: TcpListener,
    api_address: SocketAddr,
    projecting: Consumer<MendedViews>,
    issuing: Option<Parts>,
    ingest: Ingest,
    counted: ViewsAt,
    shown: ViewsAt,
}

impl Made {
    async fn new(
        settings: &Settings,
        wanted: Wanted,
        sqlite: &SqliteLog,
        clock: Arc<dyn Clock>,
        views_url: String,
    ) -> anyhow::Result<Self> {
        let log: Arc<dyn EventLog> = Arc::new(sqlite.clone());
        let tail: Arc<dyn Tail> = Arc::new(SqlTail::new(log.clone()));

        // Nothing is added to a log, and no keys are made for it, before it is known to be the right one.
        restored::require_all_seen(&*log, &*tail, settings, &views_url, wanted.accept_loss).await?;
        let keys = Arc::new(load_keys(settings, &*log).await?);
        let (token, token_from) = api_token(settings)?;
        let engines = engines(settings, keys.clone())?;
        let ingest = Ingest::new(settings.ingest.clone(), sources(settings)?, log.clone(), clock.clone())?;

        // Addresses are taken before roles start: a taken one is found out at once.
        let ingest_listener = listen("ingest.listen", settings.ingest.listen).await?;
        let api_listener = listen("api.listen", settings.api.listen).await?;
        let ingest_address = ingest_listener.local_addr().context("asking for the address of ingest")?;
        let api_address = api_listener.local_addr().context("asking for the address of the API")?;

        // What decides stands in the log before anything is decided with it.
        if recorded_settings::record(&*log, &settings.deciding(), clock.now()).await? {
            tracing::info!("the settings differ from the recorded ones, and were recorded");
        }

        let views = MendedViews::open(views_url.clone(), settings.views.clone(), clock.clone()).await;
        let projecting = Consumer::new(views, tail.clone(), ConsumerOptions::default());
        let holder = holder(settings)?;
        let issuing = wanted.issuer.then(|| Parts {
            log: log.clone(),
            tail,
            clock: clock.clone(),
            engines,
            keys: keys.clone(),
            holder,
            options: settings.issuer.clone(),
        });
        let (counted, shown) = (ViewsAt::new(views_url.clone())?, ViewsAt::new(views_url)?);
        Ok(Self {
            clock,
            log,
            keys,
            token,
            token_from,
            ingest_listener,
            ingest_address,
            api_listener,
            api_address,
            projecting,
            issuing,
            ingest,
            counted,
            shown,
        })
    }

    fn start(
        self,
        settings: &Settings,
        metrics: PrometheusHandle,
        mut lifecycle: Lifecycle,
        log: SqliteLog,
        lock: Lock,
    ) -> Running {
        // The rest of the time is for the roles that stop before or after it.
        let last_within = settings.stop_timeout() / 2;

        // The projector makes the views that the API reads.
        lifecycle.spawn(Stage::Show, "projector", |stop| views::run(self.projecting, stop, last_within));

        if let Some(parts) = self.issuing {
            lifecycle.spawn(Stage::Work, "issuer", |stop| issue(parts, stop, last_within));
        }

        let rendered = metrics.clone();
        let ingest = self.ingest.with_metrics(Arc::new(move || rendered.render()));
        lifecycle.spawn(Stage::Intake, "ingest", |stop| async move {
            server::serve(self.ingest_listener, Arc::new(ingest), stop).await;
            Ok(())
        });

        let (counted, clock) = (self.counted, self.clock.clone());
        lifecycle.spawn(Stage::Show, "gauges", |stop| async move {
            gauges::run(&counted, &*clock, &metrics, stop).await;
            Ok(())
        });

        // It shows what is there, but it takes in what people ask for too, and that the issuer must still read.
        let api = Api::new(self.log, self.shown, self.keys, self.clock);
        let console = Console { api, access: Arc::new(access(settings, self.token.as_ref())) };
        lifecycle.spawn(Stage::Intake, "api", |stop| async move {
            Ok(keyledger_console::serve(self.api_listener, console, stop).await?)
        });

        Running {
            ingest: self.ingest_address,
            api: self.api_address,
            token: self.token,
            token_from: self.token_from,
            lifecycle,
            log,
            _lock: lock,
        }
    }
}

/// Issues licenses until told to stop, and then finishes what is in hand.
async fn issue(parts: Parts, stop: CancellationToken, last_within: Duration) -> anyhow::Result<()> {
    let Some(issuer) = Issuer::start(parts, &stop).await? else { return Ok(()) };
    let issuing = Box::pin(issuer.run(stop.clone()));
    leaving_within(last_within, &stop, async { Ok(issuing.await?) }).await
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
