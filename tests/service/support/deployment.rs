//! One deployment: a settings file, a data folder, the processes on it one after the other, and its audit.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::client::Service;
use super::process::{Process, append_to, keyledger, terminate};

/// The API's bearer token.
pub const TOKEN: &str = "token-of-the-tests-SqeZk0mXQ4";

/// What must never stand in a log line: personal data of the fixtures, our secrets, and what license keys begin with.
const NEVER_LOGGED: [&str; 10] =
    ["STUB-", "Jenny", "Rosen", "@example.com", "Oyster Point", "Stuck Customer", "whsec_", TOKEN, " KL-", "\"KL-"];

/// How much of stderr is shown where a test fails.
const COMPLAINTS_SHOWN: usize = 20;

/// What a deployment is set up like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The sources; `default` is always one.
    pub sources: Vec<String>,
    /// More TOML: `[[catalog]]`, `[policy]`, `[issuer]`, `[provider.stub]` …
    pub settings: String,
}

/// Everything is sold as licenses of the built-in engine.
pub const SELL_EVERYTHING: &str = "[[catalog]]\nprovider = \"builtin\"\nproduct = \"pro\"\n";

impl Default for Setup {
    fn default() -> Self {
        Self { sources: vec!["default".to_owned()], settings: SELL_EVERYTHING.to_owned() }
    }
}

/// The signing secret of a source.
pub fn secret_of(source: &str) -> String {
    format!("whsec_of_{source}_9dGq2")
}

/// A data folder with its settings.
#[derive(Debug)]
pub struct Deployment {
    folder: TempDir,
}

impl Deployment {
    /// Writes the settings. Nothing runs yet.
    pub fn new(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let deployment = Self { folder };
        deployment.configure(setup);
        deployment
    }

    /// Writes the settings anew, for the next start.
    pub fn configure(&self, setup: &Setup) {
        let data = self.data_dir();
        let mut text = format!("data_dir = {:?}\n", data.to_str().unwrap());
        for (name, path) in [("log", self.log_file()), ("views", self.views_file())] {
            writeln!(text, "{name} = \"sqlite:{}\"", path.display()).unwrap();
        }
        writeln!(text, "[ingest]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"")
            .unwrap();
        for source in &setup.sources {
            writeln!(text, "[stripe.{source}]\nwebhook_secrets = [\"{}\"]", secret_of(source)).unwrap();
        }
        text.push_str(&setup.settings);
        fs::write(self.config(), text).unwrap();
        // There are secrets in it.
        fs::set_permissions(self.config(), Permissions::from_mode(0o600)).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("keyledger.toml")
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The log's file.
    pub fn log_file(&self) -> PathBuf {
        self.data_dir().join("log.db")
    }

    /// The views' file.
    pub fn views_file(&self) -> PathBuf {
        self.data_dir().join("views.db")
    }

    fn stderr(&self) -> PathBuf {
        self.folder.path().join("stderr.log")
    }

    /// Everything that processes of this deployment said on stderr.
    pub fn said(&self) -> String {
        fs::read_to_string(self.stderr()).unwrap_or_default()
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
        let mut command = keyledger();
        command.arg("up").arg("--config").arg(self.config()).args(arguments);
        Ok(Service::new(Process::start(command, &self.stderr()).await?))
    }

    /// `keyledger up`, killed after a while whether it is ready or not.
    pub async fn up_for(&self, while_: Duration) {
        let mut command = keyledger();
        command.arg("up").arg("--config").arg(self.config()).stdout(Stdio::null()).stderr(append_to(&self.stderr()));
        let mut child = command.spawn().unwrap();
        tokio::time::sleep(while_).await;
        child.kill().await.unwrap();
    }

    /// `keyledger up` that gets SIGTERM after a while, whether it is ready or not, and how it ended.
    pub async fn up_stopped_after(&self, while_: Duration) -> ExitStatus {
        let mut command = keyledger();
        command.arg("up").arg("--config").arg(self.config()).stdout(Stdio::null()).stderr(append_to(&self.stderr()));
        let mut child = command.spawn().unwrap();
        tokio::time::sleep(while_).await;
        terminate(child.id().unwrap()).await;
        tokio::time::timeout(Duration::from_secs(3), child.wait()).await.expect("it did not heed SIGTERM").unwrap()
    }

    /// Runs another verb to its end.
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

    /// Stops the service as an operator does, and audits.
    pub async fn finish(self, service: Service) {
        service.stop().await;
        self.audit().await;
    }

    /// The folder that everything is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Deployment {
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
