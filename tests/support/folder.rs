//! The folder of a deployment: its settings, its data, what its processes said, and verbs that run on it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::process::{Process, append_to, keyledger};
use super::setup::{Setup, TOKEN};

/// What must never stand in a log line: personal data of the fixtures, our secrets, and what license keys begin with.
const NEVER_LOGGED: [&str; 10] =
    ["STUB-", "Jenny", "Rosen", "@example.com", "Oyster Point", "Stuck Customer", "whsec_", TOKEN, " KL-", "\"KL-"];

/// How much of stderr is shown where a test fails.
const COMPLAINTS_SHOWN: usize = 20;

/// A folder with settings in it. Gone when it is dropped.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    /// An empty one.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Writes the settings anew, for the next start. `storage` is what stands before all tables.
    pub fn configure(&self, storage: &str, setup: &Setup) {
        let data = self.data_dir();
        let text = format!("data_dir = {:?}\n{storage}{}", data.to_str().unwrap(), setup.tables());
        fs::write(self.config(), text).unwrap();
        // There are secrets in it.
        fs::set_permissions(self.config(), Permissions::from_mode(0o600)).unwrap();
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The settings' file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("keyledger.toml")
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn stderr(&self) -> PathBuf {
        self.folder.path().join("stderr.log")
    }

    /// Everything that processes of this deployment said on stderr.
    pub fn said(&self) -> String {
        fs::read_to_string(self.stderr()).unwrap_or_default()
    }

    /// `keyledger` with these settings; what it says is kept where it is not read.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = keyledger();
        command.args(arguments).arg("--config").arg(self.config()).stderr(append_to(&self.stderr()));
        command
    }

    /// Starts a command that says when it is ready.
    ///
    /// # Errors
    ///
    /// Its exit status when it was never ready.
    pub async fn start(&self, command: Command) -> Result<Process, ExitStatus> {
        Process::start(command, &self.stderr()).await
    }

    /// Runs a verb to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = keyledger();
        command.args(arguments).arg("--config").arg(self.config());
        command.output().await.unwrap()
    }

    /// Runs a verb that must end with `code`, and reads what it printed as JSON.
    pub async fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat()).await;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stdout}\n{stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{stdout}"))
    }

    /// What must hold at the end of every test, whatever happened before: the chain is sound, the two books agree, a
    /// replay from the log alone gives the same views, nothing panicked, and no log line tells what it must not.
    pub async fn audit(&self) {
        let verified = self.json(0, &["events", "verify"]).await;
        assert_eq!(verified["problem"], Value::Null);
        let checked = self.json(0, &["check"]).await;
        assert_eq!(checked["differences"], serde_json::json!([]));
        self.json(0, &["replay"]).await;
        self.read_what_was_said();
    }

    /// No panic and nothing private in anything that was said.
    fn read_what_was_said(&self) {
        let said = self.said();
        for line in said.lines() {
            assert!(!line.contains("panicked"), "{line}");
            let told = NEVER_LOGGED.iter().find(|never| line.contains(**never));
            assert_eq!(told, None, "{line}");
        }
    }
}

impl Drop for Folder {
    /// Where a test fails, what the service complained of may say why.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let complaints: Vec<&str> = said.lines().filter(|line| !line.contains(r#""level":"INFO""#)).collect();
            let last = &complaints[complaints.len().saturating_sub(COMPLAINTS_SHOWN)..];
            eprintln!(
                "the last {} of {} complaints of the service:\n{}",
                last.len(),
                complaints.len(),
                last.join("\n")
            );
        }
    }
}
