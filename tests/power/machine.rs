//! One machine: everything that a deployment keeps stands on a disk that forgets.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use keyledger_test_servers::Postgres;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::process::Child;

use super::mount::Mounted;
use crate::support::client::Caller;
use crate::support::folder::Folder;
use crate::support::process::Process;
use crate::support::random::Random;
use crate::support::setup::Setup;
use crate::support::wait::{PATIENCE, until};

/// More than any test makes.
const ALL: &str = "10000000";

/// Where the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// A server of its own on the same disk.
    Postgres,
}

/// A deployment on a disk that forgets.
pub struct Machine {
    engine: Engine,
    // The server goes before its disk, and the disk before the folder that it is mounted in.
    postgres: Option<Postgres>,
    disk: Option<Mounted>,
    folder: Folder,
}

/// What runs on it.
pub struct Service {
    process: Process,
    /// Where to post and ask.
    pub client: Caller,
}

impl Service {
    /// Waits until there are views: on a disk that was empty they are made while webhooks are taken already.
    pub async fn shows(&self) {
        until("the views", PATIENCE, async || match self.client.try_get("/cases?limit=1").await.unwrap() {
            (StatusCode::OK, _) => Ok(()),
            (status, body) => Err(format!("{status}: {body}")),
        })
        .await;
    }
}

impl Machine {
    /// With an empty disk. Nothing runs yet.
    pub fn new(engine: Engine) -> Self {
        let folder = Folder::new();
        // PostgreSQL's server is another user.
        fs::set_permissions(folder.folder(), Permissions::from_mode(0o755)).unwrap();
        let disk = Mounted::empty(&folder.data_dir());
        Self { engine, postgres: None, disk: Some(disk), folder }
    }

    /// Starts what the log needs, unless it runs. `settings` are those of the server, if it needs one.
    pub fn boot(&mut self, settings: &[&str]) {
        if self.postgres.is_some() {
            return;
        }
        let log = match self.engine {
            Engine::Sqlite => format!("sqlite:{}", self.folder.data_dir().join("log.db").display()),
            Engine::Postgres => {
                let place = self.folder.data_dir().join("postgres");
                let is_new = !place.exists();
                fs::create_dir_all(&place).unwrap();
                let server = Postgres::start_in(&place, settings);
                if is_new {
                    // As who makes a cluster does at the end.
                    self.disk().sync();
                }
                let url = server.url();
                self.postgres = Some(server);
                url
            }
        };
        let views = self.folder.data_dir().join("views.db");
        let storage = format!("log = \"{log}\"\nviews = \"sqlite:{}\"\n", views.display());
        self.folder.configure(&storage, &Setup::default());
    }

    /// `keyledger up`, ready. With a library to load, in which something is done otherwise.
    pub async fn up(&self, preloaded: Option<&PathBuf>) -> Service {
        let mut command = self.folder.command(&["up"]);
        if let Some(library) = preloaded {
            command.env("LD_PRELOAD", library);
        }
        match self.folder.start(command).await {
            Ok(process) => {
                let client = Caller::new(&process.address("ingest"), &process.address("api"));
                Service { process, client }
            }
            Err(status) => panic!("`up` ended with {status}:\n{}", self.folder.said()),
        }
    }

    /// `keyledger up`, of which nobody knows how far it is.
    pub fn starting(&self) -> Child {
        self.folder.command(&["up"]).stdout(Stdio::null()).spawn().unwrap()
    }

    /// What is left on the disk if the power goes now.
    pub fn cut(&self, random: &mut Random) -> Vec<u8> {
        self.disk().cut(random)
    }

    /// Ends everything, and puts what a power cut left in the place of the disk.
    pub async fn fall(&mut self, service: Service, left: Vec<u8>) {
        service.process.kill().await;
        self.stand_on(left);
    }

    /// Puts what a power cut left in the place of the disk, once nothing runs but its servers.
    pub fn stand_on(&mut self, left: Vec<u8>) {
        self.postgres = None;
        self.disk = None;
        self.disk = Some(Mounted::left(left, &self.folder.data_dir()));
    }

    /// The disk that it runs on now.
    pub fn disk(&self) -> &Mounted {
        self.disk.as_ref().unwrap()
    }

    /// The server, if it has one.
    pub fn postgres(&self) -> Option<&Postgres> {
        self.postgres.as_ref()
    }

    /// The chain of the log is whole.
    pub async fn is_sound(&self) {
        let verified = self.folder.json(0, &["events", "verify"]).await;
        assert_eq!(verified["problem"], Value::Null, "{verified:#}");
    }

    /// The Stripe events in the log, if it can be read.
    pub async fn events(&self) -> BTreeSet<String> {
        let output = self.folder.run(&["events", "list", "--type", "stripe.", "--limit", ALL, "--json"]).await;
        let rows = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let ids = rows.map(|line| serde_json::from_slice::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned());
        ids.filter_map(|id| id.split(':').find(|part| part.starts_with("evt_")).map(str::to_owned)).collect()
    }

    /// Stops the service as an operator does, and audits what it leaves.
    pub async fn finish(self, service: Service) {
        service.process.stop().await;
        self.folder.audit().await;
    }
}
