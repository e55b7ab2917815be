//! `keyledger issuer`: issues licenses, one process of several at a time; the others stand by.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::checkpoint::Cursor;
use keyledger_eventlog::consumer::HandleError;
use keyledger_eventlog::log::LogError;
use keyledger_ingest::gate::Gate;
use keyledger_ingest::health::{LogWritable, NotReady, ReadinessCheck};
use keyledger_issuer::outbound::Http;
use keyledger_issuer::provider::Provider;
use keyledger_issuer::provider::builtin::Builtin;
use keyledger_issuer::provider::cryptlex::Cryptlex;
use keyledger_issuer::provider::cryptolens::Cryptolens;
use keyledger_issuer::provider::keygen::Keygen;
use keyledger_issuer::provider::stub::Stub;
use keyledger_issuer::stripe::client::Client;
use keyledger_issuer::stripe::reconcile;
use keyledger_issuer::{Engines, Issuer, IssuerError, Parts, WorkError, effects};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::ids::ProviderName;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::begin::{self, Beginning};
use super::ground::{Ground, Place};
use super::{Ready, Running, health, leaving_within, listen, material, mirror, on_ground};
use crate::lifecycle::{Lifecycle, Stage};
use crate::settings::{Account, BadSettings, Problem, Settings};

/// How long to wait before the log is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A log that is not the one that was read, again within this time, is a matter for people.
const DIVERGED_AGAIN: Duration = Duration::from_secs(30);

/// How often it is looked whether the log was restored under the issuer.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Starts the role in a process of its own. When it returns, it issues or stands by.
///
/// # Errors
///
/// When the data folder is in use by an `up`, the log or the keys are missing, or the address is taken.
pub async fn start(settings: &Settings, accept_loss: bool) -> anyhow::Result<Running> {
    on_ground(settings, Place::Shared("issuer"), accept_loss, async |ground, lifecycle| {
        let keys = Arc::new(material::deployment_keys(settings, &*ground.log, &ground.lock).await?);
        let issuing = Issuing::make(settings, ground, keys)?;
        let listener = listen("issuer.listen", settings.issuer.listen).await?;
        let address: SocketAddr = listener.local_addr().context("asking for the address of health")?;
        ground.look().await;

        let checks: Vec<Arc<dyn ReadinessCheck>> =
            vec![Arc::new(LogWritable(ground.bare.clone())), Arc::new(issuing.standing.clone())];
        let router = health::router(checks, ground.metrics.clone());
        lifecycle.spawn(Stage::Show, "health", |stop| health::serve(listener, router, stop));
        issuing.spawn(lifecycle, settings.stop_timeout() / 2);
        begin::keep_gate(lifecycle, ground);
        Ok(Ready { role: Some("issuer"), health: Some(format!("http://{address}")), ..Ready::default() })
    })
    .await
}

/// Whether this process issues, or stands by for another that does.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<AtomicBool>);

impl Standing {
    fn set(&self, is_active: bool) {
        metrics::gauge!("keyledger_issuer_active").set(if is_active { 1.0 } else { 0.0 });
        self.0.store(is_active, Ordering::Relaxed);
    }
}

#[async_trait]
impl ReadinessCheck for Standing {
    fn name(&self) -> &'static str {
        "issuer"
    }

    /// Standing by is being ready.
    async fn check(&self) -> Result<(), NotReady> {
        Ok(())
    }

    fn state(&self) -> Option<String> {
        let is_active = self.0.load(Ordering::Relaxed);
        Some(if is_active { "active" } else { "standby" }.to_owned())
    }
}

/// All that issuing needs.
pub struct Issuing {
    parts: Parts,
    stripe: effects::Stripe,
    beginning: Beginning,
    gate: Gate,
    standing: Standing,
}

impl Issuing {
    /// Builds the license engines.
    ///
    /// # Errors
    ///
    /// When one cannot be built.
    pub fn make(settings: &Settings, ground: &Ground, keys: Arc<DeploymentKeys>) -> anyhow::Result<Self> {
        metrics::describe_gauge!("keyledger_issuer_active", "1 while this process issues, 0 while it stands by");
        let engines = engines(settings, keys.clone())?;
        let tail = mirror::tail(settings.nats.as_ref(), ground.mirror.as_ref(), &ground.bare, keyledger_issuer::NAME);
        let parts = Parts {
            log: ground.log.clone(),
            tail,
            clock: ground.clock.clone(),
            engines,
            keys,
            holder: ground.holder.clone(),
            options: settings.issuer.options.clone(),
        };
        let stripe = stripe_effects(settings, &ground.clock)?;
        let (beginning, gate) = (Beginning::new(settings, ground), ground.gate.clone());
        Ok(Self { parts, stripe, beginning, gate, standing: Standing::default() })
    }

    /// Issues from here on.
    pub fn spawn(self, lifecycle: &mut Lifecycle, last_within: Duration) {
        lifecycle.spawn(Stage::Work, "issuer", |stop| self.run(stop, last_within));
    }

    /// Issues whenever this process has the lease, until told to stop; then what is in hand is finished.
    ///
    /// Another process that took over, a log that is away, and one that went back are no reasons to leave: it stands by,
    /// and begins again when it can. The epoch of the lease keeps whatever it had in hand from being recorded twice.
    async fn run(self, stop: CancellationToken, last_within: Duration) -> anyhow::Result<()> {
        self.standing.set(false);
        let mut diverged: Option<Instant> = None;
        while self.beginning.wait(&stop).await {
            let ended = tokio::select! {
                ended = self.once(&stop, last_within) => ended,
                // Dropped at whatever await it is: that is as safe as a kill.
                () = self.disturbed() => Ok(()),
            };
            self.standing.set(false);
            match ended {
                Ok(()) if stop.is_cancelled() => return Ok(()),
                Ok(()) => {}
                // What it held in memory was another log's: the cursor beside the log may be right. If that one is not in
                // the log either, beginning again does not help.
                Err(error) if is_diverged(&error) && diverged.is_some_and(|at| at.elapsed() < DIVERGED_AGAIN) => {
                    return Err(error);
                }
                Err(error) if !stop.is_cancelled() && (is_passing(&error) || is_diverged(&error)) => {
                    tracing::warn!("standing by: {error:#}");
                    if is_diverged(&error) {
                        diverged = Some(Instant::now());
                    }
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = stop.cancelled() => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for the lease, and issues until it is lost, or until told to stop.
    async fn once(&self, stop: &CancellationToken, last_within: Duration) -> anyhow::Result<()> {
        let Some(issuer) = Issuer::start(self.parts.clone(), stop).await? else { return Ok(()) };
        let issuer = issuer.with_stripe(self.stripe.clone());
        tracing::info!("this process issues");
        self.standing.set(true);
        let issuing = Box::pin(issuer.run(stop.clone()));
        leaving_within(last_within, stop, async { Ok(issuing.await?) }).await
    }

    /// Waits until what the issuer holds in memory is no longer what stands beside the log: the log was restored from a
    /// backup under it. What its cursor has lost since then it must read again.
    async fn disturbed(&self) {
        let went_back = async {
            let mut seen = 0;
            loop {
                if let Ok(cursor) = Cursor::load(&*self.parts.log, keyledger_issuer::NAME).await {
                    let position = cursor.checkpoint().position;
                    if position < seen {
                        tracing::warn!("the log was restored under the issuer: it begins again after {position}");
                        return;
                    }
                    seen = position;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = went_back => {}
            () = self.gate.shut() => tracing::warn!("standing by until the log is whole again"),
        }
    }
}

/// Whether it may go on after standing by for a while. A log that is unsafe now may be mended beside us: its server is
/// switched over, or what it lost is put back.
fn is_passing(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<IssuerError>() {
        Some(
            IssuerError::Work(WorkError::Fenced) | IssuerError::Log(LogError::Database(_) | LogError::Unsafe { .. }),
        ) => true,
        Some(IssuerError::Work(error)) => error.is_passing(),
        Some(IssuerError::Log(_) | IssuerError::Read(_)) | None => false,
    }
}

/// Whether the log is not the one that was read until now.
fn is_diverged(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(IssuerError::Read(HandleError::Diverged { .. })))
}

/// The one HTTP client, by which engines and Stripe are called.
///
/// # Errors
///
/// When it cannot be made.
pub fn http(settings: &Settings) -> anyhow::Result<Http> {
    Http::new(Duration::from_millis(settings.issuer.options.connect_timeout_ms)).context("making the HTTP client")
}

/// The license engines that are configured.
///
/// # Errors
///
/// [`BadSettings`] with every one that cannot be built.
pub fn engines(settings: &Settings, keys: Arc<DeploymentKeys>) -> anyhow::Result<Engines> {
    let (providers, http) = (&settings.providers, http(settings)?);
    let mut made = Made { engines: vec![Arc::new(Builtin::new(keys))], problems: Vec::new() };
    if let Some(options) = &providers.stub {
        made.add("stub", |name| Ok(Stub::new(name, options, &http)?));
    }
    if let Some(Account { options, token }) = &providers.cryptlex {
        made.add("cryptlex", |name| Ok(Cryptlex::new(name, options, token.clone(), &http)?));
    }
    if let Some(Account { options, token }) = &providers.cryptolens {
        made.add("cryptolens", |name| Ok(Cryptolens::new(name, options, token.clone(), &http)?));
    }
    if let Some(Account { options, token }) = &providers.keygen {
        made.add("keygen", |name| Ok(Keygen::new(name, options, token.clone(), &http)?));
    }
    let Made { engines, problems } = made;
    if problems.is_empty() { Ok(Engines::new(engines)) } else { Err(BadSettings { problems }.into()) }
}

/// Engines, and settings by which one could not be made.
struct Made {
    engines: Vec<Arc<dyn Provider>>,
    problems: Vec<Problem>,
}

impl Made {
    fn add<P: Provider>(&mut self, name: &str, make: impl FnOnce(ProviderName) -> anyhow::Result<P>) {
        match make(ProviderName::from(name)) {
            Ok(engine) => self.engines.push(Arc::new(engine)),
            Err(error) => self.problems.push(Problem(format!("`[provider.{name}]`: {error:#}"))),
        }
    }
}

/// The sources whose API key is set, each with the client that asks Stripe for it.
///
/// # Errors
///
/// [`BadSettings`] with every one that cannot be built.
pub fn stripe_sources(
    settings: &Settings,
    http: &Http,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<reconcile::Source>> {
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    for (name, source) in &settings.sources {
        let Some(key) = &source.api_key else { continue };
        match Client::new(&source.stripe, key.clone(), http, clock.clone()) {
            Ok(client) => sources.push(reconcile::Source {
                others: settings.sources.keys().cloned().collect(),
                ..reconcile::Source::new(name.clone(), source.mode, client)
            }),
            Err(error) => problems.push(Problem(format!("`[stripe.{name}]`: {:#}", anyhow::Error::from(error)))),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(BadSettings { problems }.into()) }
}

/// What is told to Stripe and asked there beside issuing: for each source that has a key, as its settings say.
fn stripe_effects(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<effects::Stripe> {
    let sources = stripe_sources(settings, &http(settings)?, clock)?.into_iter().map(|stripe| {
        let source = settings.sources.get(&stripe.name);
        let every = source.map(|source| source.reconcile_every).filter(|every| !every.is_zero());
        effects::Source {
            write_back: source.is_some_and(|source| source.write_back),
            fetch: source.is_some_and(|source| source.fetch),
            reconcile_every: every,
            stripe,
        }
    });
    Ok(effects::Stripe::new(sources, settings.issuer.effects.clone()))
}

#[cfg(test)]
mod tests {
    use keyledger_eventlog::checkpoint;
    use keyledger_eventlog::consumer::Checkpoint;
    use keyledger_eventlog::log::{Append, EventLog};
    use keyledger_eventlog::memory::MemoryLog;
    use keyledger_eventlog::state::{StateChange, StateWrite};
    use keyledger_eventlog::tail::SqlTail;
    use keyledger_ingest::gate::Closed;
    use keyledger_schemas::clock::SystemClock;

    use super::*;

    fn issuing(log: &Arc<dyn EventLog>) -> Issuing {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::in_dir(folder.path());
        let keys = Arc::new(DeploymentKeys::create(&settings.keys_dir).unwrap());
        let (gate, clock) = (Gate::default(), Arc::new(SystemClock));
        let parts = Parts {
            log: log.clone(),
            tail: Arc::new(SqlTail::new(log.clone())),
            clock: clock.clone(),
            engines: engines(&settings, keys.clone()).unwrap(),
            keys,
            holder: "issuer".to_owned(),
            options: settings.issuer.options.clone(),
        };
        let beginning = Beginning::of(gate.clone(), log.clone(), clock, settings.deciding());
        Issuing { parts, stripe: effects::Stripe::default(), beginning, gate, standing: Standing::default() }
    }

    async fn position(log: &Arc<dyn EventLog>) -> u64 {
        Cursor::load(&**log, keyledger_issuer::NAME).await.unwrap().checkpoint().position
    }

    async fn until(mut good: impl AsyncFnMut() -> bool) {
        let waiting = async {
            while !good().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn an_issuer_whose_log_was_restored_under_it_reads_again_what_its_cursor_lost() {
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(Arc::new(SystemClock)));
        let issuing = issuing(&log);
        let stop = CancellationToken::new();
        let running = tokio::spawn(issuing.run(stop.clone(), Duration::from_secs(5)));
        until(async || position(&log).await == 1).await;
        // Long enough for it to have seen that.
        tokio::time::sleep(LOOK_EVERY * 2).await;
        let old = StateWrite {
            namespace: checkpoint::CHECKPOINTS.to_owned(),
            key: keyledger_issuer::NAME.to_owned(),
            expected: None,
            change: StateChange::Put { value: checkpoint::encode(Checkpoint::default()), due_at: None },
        };
        log.append(Append { state: vec![old], ..Append::default() }).await.unwrap();
        until(async || position(&log).await == 1).await;
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_issuer_stands_by_while_the_gate_is_closed() {
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(Arc::new(SystemClock)));
        let issuing = issuing(&log);
        let (gate, standing, stop) = (issuing.gate.clone(), issuing.standing.clone(), CancellationToken::new());
        let running = tokio::spawn(issuing.run(stop.clone(), Duration::from_secs(5)));
        let state = || standing.state().unwrap();
        for (closed, expected) in [(None, "active"), (Some(Closed::BehindMirror), "standby"), (None, "active")] {
            gate.set(closed);
            until(async || state() == expected).await;
        }
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[test]
    fn an_issuer_that_was_replaced_stands_by_and_one_whose_log_is_damaged_leaves() {
        assert!(is_passing(&IssuerError::Work(WorkError::Fenced).into()));
        assert!(is_passing(&IssuerError::from(HandleError::Fatal(Box::new(WorkError::Fenced))).into()));
        let standby = LogError::Unsafe { reason: "the server is a standby".to_owned() };
        assert!(is_passing(&IssuerError::Log(standby).into()));
        assert!(is_diverged(&IssuerError::from(HandleError::Diverged { position: 7 }).into()));
        let damaged = LogError::Damaged { position: 7, reason: "a byte".to_owned() };
        assert!(!is_passing(&IssuerError::Log(damaged).into()));
        assert!(!is_passing(&anyhow::anyhow!("it did not finish within 15 s")));
    }

    #[tokio::test]
    async fn standing_by_is_being_ready() {
        let standing = Standing::default();
        for (is_active, state) in [(false, "standby"), (true, "active")] {
            standing.set(is_active);
            standing.check().await.unwrap();
            assert_eq!(standing.state().as_deref(), Some(state));
        }
    }
}
