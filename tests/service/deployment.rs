//! One deployment: everything in one process on SQLite, the processes on it one after the other, and its audit.

use std::ops::Deref;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use crate::support::client::Caller;
use crate::support::folder::Folder;
use crate::support::process::{Process, terminate};
use crate::support::setup::Setup;

/// A data folder with its settings.
#[derive(Debug)]
pub struct Deployment {
    folder: Folder,
}

/// A running `keyledger up`.
#[derive(Debug)]
pub struct Service {
    /// The process.
    pub process: Process,
    /// Where to post and ask.
    pub client: Caller,
}

impl Deployment {
    /// Writes the settings. Nothing runs yet.
    pub fn new(setup: &Setup) -> Self {
        let deployment = Self { folder: Folder::new() };
        deployment.configure(setup);
        deployment
    }

    /// Writes the settings anew, for the next start.
    pub fn configure(&self, setup: &Setup) {
        let storage = [("log", self.log_file()), ("views", self.views_file())]
            .map(|(name, path)| format!("{name} = \"sqlite:{}\"\n", path.display()));
        self.folder.configure(&storage.concat(), setup);
    }

    /// The log's file.
    pub fn log_file(&self) -> PathBuf {
        self.data_dir().join("log.db")
    }

    /// The views' file.
    pub fn views_file(&self) -> PathBuf {
        self.data_dir().join("views.db")
    }

    /// `keyledger up`, ready.
    pub async fn up(&self) -> Service {
        self.up_with(&[]).await
    }

    /// `keyledger up` with more arguments, ready.
    pub async fn up_with(&self, arguments: &[&str]) -> Service {
        match self.try_up(arguments).await {
            Ok(service) => service,
            Err(status) => panic!("`up` ended with {status}:\n{}", self.said()),
        }
    }

    /// `keyledger up`, or how it ended.
    ///
    /// # Errors
    ///
    /// Its exit status when it was never ready.
    pub async fn try_up(&self, arguments: &[&str]) -> Result<Service, ExitStatus> {
        let command = self.folder.command(&[&["up"], arguments].concat());
        Ok(Service::new(self.folder.start(command).await?))
    }

    /// `keyledger up`, killed after a while whether it is ready or not.
    pub async fn up_for(&self, while_: Duration) {
        let mut child = self.folder.command(&["up"]).stdout(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(while_).await;
        child.kill().await.unwrap();
    }

    /// `keyledger up` that gets SIGTERM after a while, whether it is ready or not, and how it ended.
    pub async fn up_stopped_after(&self, while_: Duration) -> ExitStatus {
        let mut child = self.folder.command(&["up"]).stdout(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(while_).await;
        terminate(child.id().unwrap()).await;
        tokio::time::timeout(Duration::from_secs(3), child.wait()).await.expect("it did not heed SIGTERM").unwrap()
    }

    /// Stops the service as an operator does, and audits.
    pub async fn finish(self, service: Service) {
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

impl Service {
    /// Reads the addresses from the ready line.
    fn new(process: Process) -> Self {
        let client = Caller::new(&process.address("ingest"), &process.address("api"));
        Self { process, client }
    }

    /// SIGTERM, and a good end.
    pub async fn stop(self) {
        self.process.stop().await;
    }

    /// SIGKILL.
    pub async fn kill(self) {
        self.process.kill().await;
    }
}

impl Deref for Service {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.client
    }
}
