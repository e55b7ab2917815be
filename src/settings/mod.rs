//! Settings: defaults ← `keyledger.toml` ← environment. Only this module reads the environment.
//!
//! Every problem is found before anything starts, and all of them are reported at once, each with where the value
//! came from. What is legal but risky is a warning. `keyledger.example.toml` lists every setting.

mod database;
mod layers;
mod nats;
mod read;
mod resolve;
mod risks;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyledger_issuer::provider::{cryptlex, cryptolens, keygen, stub};
use keyledger_schemas::ids::{Mode, ProviderName, SourceName};
use keyledger_schemas::secret::Secret;
use keyledger_schemas::settings::{CatalogEntry, DecidingSettings, Policy, SourceSettings};

pub use database::{Database, Server};
pub use layers::{DEFAULT_FILE, Environment};
pub use nats::{Fallback, Nats};
pub use read::Problem;
pub use secrets::read_token;

/// The commented file that `keyledger init` writes: every setting with its default.
pub const EXAMPLE: &str = include_str!("../../keyledger.example.toml");

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
    /// Where keys, lock and, unless named otherwise, databases and token are. Default `./data`.
    pub data_dir: PathBuf,
    /// The log: events and issuer state, precious. Default: the file `log.db` in `data_dir`.
    pub log: Database,
    /// The views: may be deleted and replayed at any time. Default: the file `views.db` in `data_dir`.
    pub views: Database,
    /// The folder of the deployment's key material. Default `keys` in `data_dir`.
    pub keys_dir: PathBuf,
    /// How long to finish what is in hand after the first signal, in seconds. Default 30.
    pub stop_timeout_s: u64,
    /// The log's mirror on JetStream, if there is to be one.
    pub nats: Option<Nats>,
    /// Where webhooks arrive.
    pub ingest: keyledger_ingest::options::Options,
    /// Where the API is served.
    pub api: Api,
    /// The sources, by name.
    pub sources: BTreeMap<SourceName, Source>,
    /// What is sold, in order.
    pub catalog: Vec<CatalogEntry>,
    /// The rules.
    pub policy: Policy,
    /// How the issuer works.
    pub issuer: Issuer,
    /// Where the projector tells how it is.
    pub projector: Projector,
    /// The license engines beside `builtin`.
    pub providers: Providers,
}

/// The private address.
#[derive(Clone, Debug)]
pub struct Api {
    /// The address the API is served on. Port 0 takes a free one. Default `127.0.0.1:8081`.
    pub listen: SocketAddr,
    /// The bearer token, where it stands in the settings themselves.
    pub token: Option<Secret>,
    /// The file of the bearer token. Default `api.token` in `data_dir`.
    pub token_file: PathBuf,
    /// Whether a caller on this machine needs no token. Default false; only on a loopback address.
    pub allow_loopback_without_token: bool,
}

/// How the issuer works, and where a process of its own tells how it is.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The address of health and metrics, for `keyledger issuer`. Port 0 takes a free one. Default `127.0.0.1:8083`.
    pub listen: SocketAddr,
    /// How it works.
    pub options: keyledger_issuer::Options,
    /// How long it waits before Stripe is told or asked.
    pub effects: keyledger_issuer::effects::Options,
}

/// Where a process that keeps the views tells how it is.
#[derive(Clone, Debug)]
pub struct Projector {
    /// The address of health and metrics, for `keyledger projector`. Port 0 takes a free one. Default `127.0.0.1:8084`.
    pub listen: SocketAddr,
}

/// One Stripe account or Connect platform.
#[derive(Clone, Debug)]
pub struct Source {
    /// The mode that issues; the other is kept and shown. Default `live`.
    pub mode: Mode,
    /// The signing secrets of all its endpoints, live and test, old and new.
    pub webhook_secrets: Vec<Secret>,
    /// A restricted API key. Without one Stripe is never called.
    pub api_key: Option<Secret>,
    /// Where Stripe's API is, and how hard it is called.
    pub stripe: keyledger_issuer::stripe::Options,
    /// Whether ids of licenses and of engines' customers are written into Stripe's metadata. Default true.
    pub write_back: bool,
    /// Whether what events do not carry is fetched. Default true.
    pub fetch: bool,
    /// How often the issuer looks at Stripe for what was not delivered; 0 for never. Default 1 hour.
    pub reconcile_every: Duration,
}

/// The license engines that may be configured.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    /// The scripted engine for tests and demos.
    pub stub: Option<stub::Options>,
    /// Cryptlex.
    pub cryptlex: Option<Account<cryptlex::Options>>,
    /// Cryptolens.
    pub cryptolens: Option<Account<cryptolens::Options>>,
    /// Keygen.
    pub keygen: Option<Account<keygen::Options>>,
}

/// An account at a license engine.
#[derive(Clone, Debug)]
pub struct Account<O> {
    /// How it is called.
    pub options: O,
    /// What opens it.
    pub token: Secret,
}

impl Providers {
    /// The names of the configured ones, `builtin` aside.
    pub fn names(&self) -> Vec<ProviderName> {
        let configured = [
            ("stub", self.stub.is_some()),
            ("cryptlex", self.cryptlex.is_some()),
            ("cryptolens", self.cryptolens.is_some()),
            ("keygen", self.keygen.is_some()),
        ];
        configured.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| ProviderName::from(name)).collect()
    }

    /// The secrets of all of them.
    fn tokens(&self) -> impl Iterator<Item = &Secret> {
        let cryptlex = self.cryptlex.iter().map(|account| &account.token);
        let cryptolens = self.cryptolens.iter().map(|account| &account.token);
        cryptlex.chain(cryptolens).chain(self.keygen.iter().map(|account| &account.token))
    }

    /// Where each of them is, by name.
    fn addresses(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let stub = self.stub.iter().map(|options| ("stub", options.base_url.as_str()));
        let cryptlex = self.cryptlex.iter().map(|account| ("cryptlex", account.options.base_url.as_str()));
        let cryptolens = self.cryptolens.iter().map(|account| ("cryptolens", account.options.base_url.as_str()));
        let keygen = self.keygen.iter().map(|account| ("keygen", account.options.base_url.as_str()));
        stub.chain(cryptlex).chain(cryptolens).chain(keygen)
    }
}

/// Settings that cannot work.
#[derive(Debug)]
pub struct BadSettings {
    /// Everything that is wrong, in the order of the settings.
    pub problems: Vec<Problem>,
}

impl std::fmt::Display for BadSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.problems.len() {
            1 => write!(f, "1 problem in the settings:")?,
            count => write!(f, "{count} problems in the settings:")?,
        }
        for problem in &self.problems {
            write!(f, "\n  - {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BadSettings {}

impl Default for Settings {
    fn default() -> Self {
        Self::in_dir(Path::new("./data"))
    }
}

impl Settings {
    /// The defaults with everything kept in `data_dir`.
    pub fn in_dir(data_dir: &Path) -> Self {
        Self {
            file: None,
            data_dir: data_dir.to_owned(),
            log: Database::File(data_dir.join("log.db")),
            views: Database::File(data_dir.join("views.db")),
            keys_dir: data_dir.join("keys"),
            stop_timeout_s: 30,
            nats: None,
            ingest: keyledger_ingest::options::Options::default(),
            api: Api {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
                token: None,
                token_file: data_dir.join("api.token"),
                allow_loopback_without_token: false,
            },
            sources: BTreeMap::new(),
            catalog: Vec::new(),
            policy: Policy::default(),
            issuer: Issuer {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8083)),
                options: keyledger_issuer::Options::default(),
                effects: keyledger_issuer::effects::Options::default(),
            },
            projector: Projector { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8084)) },
            providers: Providers::default(),
        }
    }

    /// Reads the file and the environment. `file` must exist if it is named; without a name `keyledger.toml` is read if
    /// it is there.
    ///
    /// # Errors
    ///
    /// [`BadSettings`] with every problem: show it and exit with 2.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, BadSettings> {
        resolve::load(file, environment)
    }

    /// What else is wrong if webhooks are to be taken: somebody must be able to sign them.
    ///
    /// # Errors
    ///
    /// [`BadSettings`] that says what to set.
    pub fn require_sources(&self) -> Result<(), BadSettings> {
        let mut problems: Vec<Problem> = self
            .sources
            .iter()
            .filter(|(_, source)| source.webhook_secrets.is_empty())
            .map(|(name, _)| {
                Problem(format!(
                    "`stripe.{name}.webhook_secrets` is not set: without it nothing can be taken from Stripe"
                ))
            })
            .collect();
        if self.sources.is_empty() {
            problems.push(Problem(
                "no webhook secret is set. Stripe shows it (`whsec_…`) beside the webhook endpoint, and `stripe listen` \
                 prints one: put it into the variable STRIPE_WEBHOOK_SECRET, or into keyledger.toml as \
                 `webhook_secrets` under `[stripe.default]` (`keyledger init` writes the file)"
                    .to_owned(),
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(BadSettings { problems }) }
    }

    /// What decides, as it stands in the log.
    pub fn deciding(&self) -> DecidingSettings {
        let mut providers = BTreeSet::from([ProviderName::from("builtin")]);
        providers.extend(self.providers.names());
        let sources =
            self.sources.iter().map(|(name, source)| (name.clone(), SourceSettings { mode: source.mode })).collect();
        DecidingSettings { policy: self.policy.clone(), catalog: self.catalog.clone(), sources, providers }
    }

    /// How long to finish what is in hand after the first signal.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_timeout_s)
    }

    /// What is legal but risky, in sentences for the operator.
    pub fn warnings(&self) -> Vec<String> {
        risks::warnings(self)
    }

    /// What is risky beside [`Settings::warnings`] where roles are processes of their own.
    pub fn warnings_of_roles(&self) -> Vec<String> {
        risks::warnings_of_roles(self)
    }
}
