//! A process that says on its first line that it is ready, and how it is ended.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::wait::PATIENCE;

/// The executable under test.
pub const KEYLEDGER: &str = env!("CARGO_BIN_EXE_keyledger");

/// How long a process may take to leave after SIGTERM.
const LEAVES_WITHIN: Duration = Duration::from_secs(20);

/// A running process of ours. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// What it said when it was ready.
    pub ready: Value,
    stderr: PathBuf,
    rest: JoinHandle<Vec<String>>,
}

/// `keyledger` with nothing inherited from the environment of the tests.
pub fn keyledger() -> Command {
    let mut command = Command::new(KEYLEDGER);
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

impl Process {
    /// Starts it and waits for its ready line. Its words are added to the file `stderr`.
    ///
    /// # Errors
    ///
    /// How it ended, if it ended before it was ready.
    pub async fn start(mut command: Command, stderr: &Path) -> Result<Self, ExitStatus> {
        command.stdout(Stdio::piped()).stderr(append_to(stderr));
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(PATIENCE, lines.next_line()).await.expect("a process neither got ready nor ended").unwrap();
        let Some(first) = first else { return Err(child.wait().await.unwrap()) };
        let ready: Value = serde_json::from_str(&first).unwrap();
        assert_eq!(ready["ready"], true, "{first}");
        let rest = tokio::spawn(async move {
            let mut rest = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                rest.push(line);
            }
            rest
        });
        Ok(Self { child, ready, stderr: stderr.to_owned(), rest })
    }

    /// An address that it said when it was ready.
    pub fn address(&self, name: &str) -> String {
        self.ready[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {}", self.ready)).to_owned()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it was waited for already")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL, at whatever line it is.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and nothing else.
    pub async fn ask_to_stop(&self) {
        terminate(self.id()).await;
    }

    /// Waits until it has left.
    pub async fn left(mut self) -> ExitStatus {
        let Ok(status) = timeout(LEAVES_WITHIN, self.child.wait()).await else {
            panic!("still there {LEAVES_WITHIN:?} after SIGTERM:\n{}", self.last_words());
        };
        let rest = self.rest.await.unwrap();
        assert_eq!(rest, Vec::<String>::new(), "the ready line is the only one on stdout");
        status.unwrap()
    }

    /// SIGTERM; it must leave in peace.
    pub async fn stop(self) {
        let stderr = self.stderr.clone();
        self.ask_to_stop().await;
        let status = self.left().await;
        assert_eq!(status.code(), Some(0), "{}", tail_of(&stderr));
    }

    /// The end of what it wrote to stderr.
    pub fn last_words(&self) -> String {
        tail_of(&self.stderr)
    }

    /// Memory in use, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// SIGTERM to a process.
pub async fn terminate(id: u32) {
    let kill = Command::new("/bin/sh").arg("-c").arg(format!("kill -TERM {id}")).status().await.unwrap();
    assert!(kill.success());
}

/// A file that a process adds its words to.
pub fn append_to(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn tail_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
