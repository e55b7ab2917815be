//! One server process and its children: started, signalled, and gone when dropped.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take to come up or to go. It takes a part of a second; a busy machine gets the rest.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(10);

/// A server that runs, in a process group of its own.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command`, whose output is appended to `said`.
    pub(crate) fn start(mut command: Command, said: &Path) -> Self {
        let output = append(said);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).process_group(0);
        let program = command.get_program().to_owned();
        Self(command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display())))
    }

    /// Waits until `ready`. `false` when the process ended before.
    pub(crate) fn wait_until(&mut self, ready: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        while !ready() {
            if self.0.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "a server was not ready within {PATIENCE:?}");
            sleep(PAUSE);
        }
        true
    }

    /// Sends a signal, such as `INT`, to the process alone, and waits until it has gone.
    pub(crate) fn stop(mut self, signal: &str) {
        kill(&format!("-{signal}"), &self.0.id().to_string());
        let began = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "a server did not heed SIG{signal} within {PATIENCE:?}");
            sleep(PAUSE);
        }
    }

    /// Sends a signal to the process and all its children.
    pub(crate) fn signal_all(&self, signal: &str) {
        kill(&format!("-{signal}"), &format!("-{}", self.0.id()));
    }
}

impl Drop for Process {
    /// As a power cut would: nothing is finished.
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.signal_all("KILL");
            let _ = self.0.wait();
        }
    }
}

fn kill(signal: &str, whom: &str) {
    let _ = Command::new("kill").args([signal, "--", whom]).stderr(Stdio::null()).status();
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

/// Whether something listens there.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}
