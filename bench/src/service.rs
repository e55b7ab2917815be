//! A running `keyledger` that is measured from outside: by its answers, and by what the kernel says of its process.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The API's bearer token.
pub const TOKEN: &str = "token-of-the-benchmarks-Vq83kLmPz1";

/// The signing secret of webhooks.
pub const WEBHOOK_SECRET: &str = "whsec_of_the_benchmarks_4tYh";

/// The kernel counts processor time in ticks of 10 ms, on every Linux that matters.
const TICK: Duration = Duration::from_millis(10);

/// How long it may take until it is ready, and to leave.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running `keyledger`. It is killed when it is dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    ready: Value,
    /// From starting the process until it said that it is ready.
    pub startup: Duration,
}

/// What the kernel says of a process at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time so far, in all threads.
    pub cpu: Duration,
    /// Memory in use, in bytes.
    pub resident: u64,
    /// The most memory that was in use, in bytes.
    pub resident_peak: u64,
    /// Open file handles.
    pub handles: u64,
}

/// Settings for everything on one machine, on free ports. `log` and `views` are URLs; `more` is TOML.
pub fn settings(folder: &Path, log: &str, views: &str, more: &str) -> String {
    format!(
        "data_dir = \"{}\"\nlog = \"{log}\"\nviews = \"{views}\"\n[ingest]\nlisten = \"127.0.0.1:0\"\n\
         [api]\nlisten = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n\
         [stripe.default]\nwebhook_secrets = [\"{WEBHOOK_SECRET}\"]\n\
         [[catalog]]\nprovider = \"builtin\"\nproduct = \"pro\"\n{more}",
        folder.display()
    )
}

/// The URL of an SQLite file.
pub fn sqlite(file: &Path) -> String {
    format!("sqlite:{}", file.display())
}

/// `keyledger` with nothing inherited from the environment, and the settings of a folder: `folder/keyledger.toml`.
pub fn keyledger(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The most memory that a process has had so far, in bytes.
///
/// # Errors
///
/// When it has ended.
pub fn resident_peak(id: u32) -> Result<u64> {
    memory(id, "VmHWM:")
}

/// What the kernel says of a process's memory under this name, in bytes.
fn memory(id: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
    Ok(line.split_whitespace().nth(1).context("an odd status")?.parse::<u64>()? * 1024)
}

impl Service {
    /// Starts a verb that stays, such as `up`, with the settings written to the folder, and waits until it is ready. What it
    /// says goes to `said.log` there.
    ///
    /// # Errors
    ///
    /// When it does not get ready.
    pub async fn start(binary: &Path, folder: &Path, settings: &str, verb: &[&str]) -> Result<Self> {
        fs::write(folder.join("keyledger.toml"), settings)?;
        let said = folder.join("said.log");
        let mut command = keyledger(binary, folder);
        command.args(verb).stdout(Stdio::piped()).stderr(File::options().create(true).append(true).open(&said)?);
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let stdout = child.stdout.take().context("a child without stdout")?;
        let first = timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await;
        let startup = began.elapsed();
        let Ok(Some(line)) = first.context("it does not get ready")? else {
            bail!("keyledger {} ended before it was ready:\n{}", verb.join(" "), fs::read_to_string(&said)?);
        };
        let ready: Value = serde_json::from_str(&line).with_context(|| format!("an odd ready line: {line}"))?;
        Ok(Self { child, ready, startup })
    }

    /// An address that it said when it was ready: `ingest`, `api`.
    ///
    /// # Errors
    ///
    /// When it said none of that name.
    pub fn address(&self, name: &str) -> Result<String> {
        let address = self.ready[name].as_str().with_context(|| format!("no `{name}` in {}", self.ready))?;
        Ok(address.to_owned())
    }

    /// Its process id.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn id(&self) -> Result<u32> {
        self.child.id().context("it has ended")
    }

    /// What the kernel says of it now.
    ///
    /// # Errors
    ///
    /// When it has ended, or this is not Linux.
    pub fn usage(&self) -> Result<Usage> {
        let id = self.id()?;
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name may hold spaces; after it come state, parent, …; user and system time are the 14th and 15th field of all.
        let fields: Vec<&str> = stat.rsplit_once(')').context("an odd stat")?.1.split_whitespace().collect();
        let ticks = |index: usize| -> Result<u32> { Ok(fields.get(index).context("a short stat")?.parse()?) };
        Ok(Usage {
            cpu: TICK * (ticks(11)? + ticks(12)?),
            resident: memory(id, "VmRSS:")?,
            resident_peak: memory(id, "VmHWM:")?,
            handles: fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64,
        })
    }

    /// SIGKILL, at whatever line it is.
    ///
    /// # Errors
    ///
    /// When it cannot be killed.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// SIGTERM; it must leave in peace.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn stop(mut self) -> Result<()> {
        let id = self.id()?.to_string();
        ensure!(Command::new("kill").args(["-TERM", &id]).status().await?.success(), "cannot signal {id}");
        let status = timeout(PATIENCE, self.child.wait()).await.context("it does not stop")??;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}
