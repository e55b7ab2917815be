//! One deployment: settings, a PostgreSQL with log and views, nats-servers with the mirror, and its audit.

use std::fmt::Write as _;
use std::ops::Deref;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use futures::future::join_all;
use keyledger_test_servers::{CURRENT, Nats, NatsCluster, Options, Postgres};

use crate::mirror;
pub use crate::roles::{Member, Role, Service};
use crate::support::folder::Folder;
use crate::support::setup::{SELL_EVERYTHING, Setup};
use crate::support::wait::PATIENCE;

/// Who may do what on NATS.
const RIGHTS: &str = include_str!("../../deploy/nats/permissions.conf");

/// Of every user on NATS. A server without users does not ask for it.
pub const PASSWORD: &str = "password-of-the-tests";

/// A data folder with its settings, and the servers that they name.
#[derive(Debug)]
pub struct Deployment {
    /// What is on disk here.
    pub folder: Folder,
    /// Holds the log and the views.
    pub postgres: Postgres,
    /// One server, or the three of a cluster.
    pub nats: Vec<Nats>,
    /// How the servers are reached.
    pub ways: Ways,
}

/// The URLs in the settings.
#[derive(Clone, Debug)]
pub struct Ways {
    /// `log`.
    pub log: String,
    /// `views`.
    pub views: String,
    /// `[nats] url`.
    pub nats: String,
    /// More of `[nats]`.
    pub nats_settings: String,
}

impl Deployment {
    /// Starts the servers and writes the settings. No role runs yet. Each has on NATS what `deploy/nats` gives it.
    pub fn new(setup: &Setup) -> Self {
        Self::on(vec![nats_with_rights(CURRENT)], setup)
    }

    /// On a cluster of three nats-servers that all hold the mirror.
    pub fn on_three_nodes(setup: &Setup) -> Self {
        let mut deployment = Self::on(NatsCluster::start().nodes, setup);
        deployment.ways.nats_settings.push_str("replicas = 3\n");
        deployment.configure(setup);
        deployment
    }

    /// On these nats-servers.
    pub fn on(nats: Vec<Nats>, setup: &Setup) -> Self {
        let postgres = Postgres::start();
        let urls: Vec<String> = nats.iter().map(Nats::url).collect();
        let ways =
            Ways { log: postgres.url(), views: postgres.url(), nats: urls.join(","), nats_settings: as_console() };
        let deployment = Self { folder: Folder::new(), postgres, nats, ways };
        deployment.configure(setup);
        deployment
    }

    /// Writes the settings anew, for the next start of each role.
    pub fn configure(&self, setup: &Setup) {
        let Ways { log, views, nats, nats_settings } = &self.ways;
        let mut storage = format!("log = \"{log}\"\nviews = \"{views}\"\n");
        write!(storage, "[nats]\nurl = \"{nats}\"\n{nats_settings}").unwrap();
        self.folder.configure(&storage, setup);
    }

    /// One process for each role, ready.
    pub async fn up(&self) -> Service {
        self.up_with(&Role::ALL).await
    }

    /// Two processes for each role, ready.
    pub async fn up_twice(&self) -> Service {
        self.up_with(&[Role::ALL, Role::ALL].concat()).await
    }

    /// A process for each of `roles`, all started at once, ready.
    pub async fn up_with(&self, roles: &[Role]) -> Service {
        Service::new(join_all(roles.iter().map(|role| self.start(*role))).await)
    }

    /// A process that plays `role`, ready.
    pub async fn start(&self, role: Role) -> Member {
        match self.try_start(role, &[]).await {
            Ok(member) => member,
            Err(status) => panic!("`{}` ended with {status}:\n{}", role.verb(), self.said()),
        }
    }

    /// A process that plays `role`, or how it ended.
    ///
    /// # Errors
    ///
    /// Its exit status when it was never ready.
    pub async fn try_start(&self, role: Role, arguments: &[&str]) -> Result<Member, ExitStatus> {
        try_start(&self.folder, role, arguments).await
    }

    /// Waits until the mirror has come to the end of the log, and compares the two.
    pub async fn is_mirrored(&self) {
        mirror::is_exact(&self.postgres.url(), &self.nats_url()).await;
    }

    /// Where the nats-servers are themselves, past every link.
    pub fn nats_url(&self) -> String {
        self.nats.iter().map(Nats::url).collect::<Vec<_>>().join(",")
    }

    /// Stops all roles as an operator does, and audits; the mirror too.
    pub async fn finish(self, mut service: Service) {
        service.all_run();
        service.caught_up().await;
        self.is_mirrored().await;
        service.stop().await;
        self.audit().await;
    }
}

impl Deref for Deployment {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.folder
    }
}

/// A nats-server with the users and rights of `deploy/nats`, where a person may do what no role may.
pub fn nats_with_rights(version: &'static str) -> Nats {
    let users = ["INGEST", "ISSUER", "PROJECTOR", "CONSOLE", "LICENSES", "OPERATOR"];
    let passwords = users.map(|user| format!("{user}_PASSWORD: \"{PASSWORD}\"\n")).concat();
    let config = RIGHTS.replace("include ./passwords.conf", &passwords);
    Nats::start_with(&Options { version, config, login: None })
}

/// Whom verbs are on NATS.
fn as_console() -> String {
    format!("user = \"console\"\npassword = \"{PASSWORD}\"\n")
}

/// Everything is sold, and whoever dies is replaced within four seconds.
pub fn with_short_leases() -> Setup {
    let leases = "[issuer]\ncall_timeout_ms = 500\nlease_ms = 4000\n";
    Setup { settings: format!("{SELL_EVERYTHING}{leases}"), ..Setup::default() }
}

/// As [`Deployment::try_start`], while somebody else holds the servers.
///
/// # Errors
///
/// Its exit status when it was never ready.
pub async fn try_start(folder: &Folder, role: Role, arguments: &[&str]) -> Result<Member, ExitStatus> {
    let mut command = folder.command(&[&[role.verb()], arguments].concat());
    role.tell(&mut command);
    Ok(Member::new(role, folder.start(command).await?))
}

/// Starts a role again and again until it is ready, as a supervisor does: a server may be away.
pub async fn start_in_the_end(folder: &Folder, role: Role) -> Member {
    let began = Instant::now();
    loop {
        match try_start(folder, role, &[]).await {
            Ok(member) => return member,
            Err(status) => assert!(began.elapsed() < PATIENCE, "{role:?} ends with {status}:\n{}", folder.said()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A role that is killed after a while, whether it is ready or not.
pub async fn start_for(folder: &Folder, role: Role, while_: Duration) {
    let mut command = folder.command(&[role.verb()]);
    role.tell(&mut command);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    tokio::time::sleep(while_).await;
    child.kill().await.unwrap();
}
