//! One machine, whose log and views are wherever its settings say.

use std::ops::Deref;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::client::Caller;
use crate::support::folder::Folder;
use crate::support::process::Process;
use crate::support::setup::Setup;

/// A data folder with its settings.
pub struct Machine {
    folder: Folder,
    setup: Setup,
}

/// A running `keyledger up`.
pub struct Service {
    process: Process,
    client: Caller,
}

impl Machine {
    /// With log and views in files.
    pub fn new(setup: Setup) -> Self {
        let machine = Self { folder: Folder::new(), setup };
        machine.keep_in(&machine.sqlite("log.db"), &machine.sqlite("views.db"));
        machine
    }

    /// Where log and views are from now on.
    pub fn keep_in(&self, log: &str, views: &str) {
        self.folder.configure(&format!("log = \"{log}\"\nviews = \"{views}\"\n"), &self.setup);
    }

    /// The URL of a database in its data folder.
    pub fn sqlite(&self, name: &str) -> String {
        format!("sqlite:{}", self.data_dir().join(name).display())
    }

    /// A file beside its data folder.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// `keyledger up`, ready.
    pub async fn up(&self) -> Service {
        let started = self.folder.start(self.command(&["up"])).await;
        let process = started.unwrap_or_else(|status| panic!("`up` ended with {status}:\n{}", self.said()));
        let client = Caller::new(&process.address("ingest"), &process.address("api"));
        Service { process, client }
    }

    /// Exports the whole log into a new file.
    pub async fn export(&self, name: &str) -> (PathBuf, Value) {
        let file = self.beside(name);
        let report = self.json(0, &["events", "export", file.to_str().unwrap()]).await;
        (file, report)
    }

    /// Imports a file.
    pub async fn import(&self, file: &str) -> Value {
        self.json(0, &["events", "import", file]).await
    }

    /// An import that must end with 1, and what it said.
    pub async fn refuses(&self, file: &str) -> String {
        let output = self.run(&["events", "import", file]).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }

    /// How many events its log holds, all of them sound.
    pub async fn holds(&self) -> Value {
        let verified = self.json(0, &["events", "verify"]).await;
        assert_eq!(verified["problem"], Value::Null);
        verified
    }
}

impl Deref for Machine {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.folder
    }
}

impl Service {
    /// Posts bodies, and waits until all is done that follows from them.
    pub async fn take(&self, bodies: &[Vec<u8>]) {
        self.post_all("default", bodies).await;
        self.caught_up().await;
    }

    /// SIGTERM, and a good end.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}

impl Deref for Service {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.client
    }
}
