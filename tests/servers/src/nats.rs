//! [`Nats`]: a nats-server with JetStream, and [`NatsCluster`]: three of them.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::place::{free_port, tools};
use crate::process::{Process, listens};

/// The version that tests run on.
pub const CURRENT: &str = "2.15.1";

/// The oldest version that keyledger supports.
pub const OLDEST: &str = "2.10.25";

/// Ports that turned out to be taken before we give up.
const TRIES_MAX: usize = 5;

/// What a server is set up like.
#[derive(Clone, Debug)]
pub struct Options {
    /// [`CURRENT`] or [`OLDEST`].
    pub version: &'static str,
    /// More of nats-server's configuration: `max_payload`, `authorization`, `accounts` …
    pub config: String,
    /// The credentials to put into [`Nats::url`], as `user:password`.
    pub login: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { version: CURRENT, config: String::new(), login: None }
    }
}

/// A nats-server with JetStream on loopback.
#[derive(Debug)]
pub struct Nats {
    folder: TempDir,
    port: u16,
    options: Options,
    process: Option<Process>,
}

impl Nats {
    /// Starts the current version with an empty store.
    pub fn start() -> Self {
        Self::start_with(&Options::default())
    }

    /// Starts one with an empty store.
    pub fn start_with(options: &Options) -> Self {
        for _ in 0..TRIES_MAX {
            let mut server = Self::make(free_port(), options.clone());
            if server.try_start() {
                return server;
            }
        }
        panic!("nats-server does not start: ports are taken, or `.tools` holds a broken one")
    }

    fn make(port: u16, options: Options) -> Self {
        let folder = TempDir::with_prefix("keyledger-nats-").unwrap();
        Self { folder, port, options, process: None }
    }

    /// `nats://` URL, with credentials if it has some.
    pub fn url(&self) -> String {
        let login = self.options.login.as_ref().map_or_else(String::new, |login| format!("{login}@"));
        format!("nats://{login}127.0.0.1:{}", self.port)
    }

    /// The port it listens on, the same after every start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it wrote on stderr.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said.log")).unwrap_or_default()
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it in order.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop("TERM");
        }
    }

    /// Holds it without ending it: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.process.as_ref().unwrap().signal_all("STOP");
    }

    /// Lets it go on after [`Nats::freeze`].
    pub fn thaw(&self) {
        self.process.as_ref().unwrap().signal_all("CONT");
    }

    /// Starts it again, on the same port, with what its store holds.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs");
        assert!(self.try_start(), "nats-server does not start again:\n{}", self.said());
    }

    /// Empties its store, while it is stopped.
    pub fn wipe(&self) {
        assert!(self.process.is_none(), "stop it first");
        let _ = fs::remove_dir_all(self.store());
    }

    /// Copies its store while it is stopped, to be put back by [`Nats::restore`].
    pub fn backup(&self) -> TempDir {
        assert!(self.process.is_none(), "stop it first");
        let backup = TempDir::with_prefix("keyledger-nats-backup-").unwrap();
        copy(&self.store(), &backup.path().join("store"));
        backup
    }

    /// Puts a backup in the place of its store, while it is stopped.
    pub fn restore(&self, backup: &TempDir) {
        self.wipe();
        copy(&backup.path().join("store"), &self.store());
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn try_start(&mut self) -> bool {
        let config = self.folder.path().join("nats.conf");
        let (port, store, more) = (self.port, self.store(), &self.options.config);
        let store = store.display();
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{store}\", max_mem: 256M, max_file: 4G }}\n{more}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(program(self.options.version));
        command.arg("-c").arg(config);
        let mut process = Process::start(command, &self.folder.path().join("said.log"));
        let up = process.wait_until(|| listens(port));
        self.process = up.then_some(process);
        up
    }
}

/// Three servers that hold their streams together.
#[derive(Debug)]
pub struct NatsCluster {
    /// The servers.
    pub nodes: Vec<Nats>,
}

impl NatsCluster {
    /// Starts three servers of the current version. They need some seconds to agree on a leader.
    pub fn start() -> Self {
        for _ in 0..TRIES_MAX {
            if let Some(cluster) = Self::try_start() {
                return cluster;
            }
        }
        panic!("three nats-servers do not start")
    }

    fn try_start() -> Option<Self> {
        let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port(), free_port())).collect();
        let routes = ports.iter().fold(String::new(), |mut text, (_, route)| {
            write!(text, "\"nats-route://127.0.0.1:{route}\", ").unwrap();
            text
        });
        let mut nodes = Vec::new();
        for (number, (port, route)) in ports.iter().enumerate() {
            let config = format!(
                "server_name: n{number}\ncluster {{ name: kl, listen: \"127.0.0.1:{route}\", routes: [{routes}] }}"
            );
            let mut node = Nats::make(*port, Options { config, ..Options::default() });
            if !node.try_start() {
                return None;
            }
            nodes.push(node);
        }
        Some(Self { nodes })
    }

    /// The URLs of all, separated by commas.
    pub fn url(&self) -> String {
        self.nodes.iter().map(Nats::url).collect::<Vec<_>>().join(",")
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "cannot copy {}", from.display());
}

fn program(version: &str) -> PathBuf {
    let path = tools().join(format!("nats-server-{version}"));
    assert!(path.exists(), "{} is missing: `make needs` puts it there", path.display());
    path
}
