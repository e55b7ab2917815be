//! [`Postgres`]: a cluster of the newest PostgreSQL on this machine, copied from one that was made once.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::place::{free_port, tools};
use crate::process::Process;

/// Where Debian puts each version's programs.
const DEBIAN: &str = "/usr/lib/postgresql";

const MISSING: &str = "PostgreSQL is missing: `make needs` installs it on Debian as root; elsewhere install it so that `postgres` is in PATH";

/// Ports that turned out to be taken before we give up.
const TRIES_MAX: usize = 5;

/// A PostgreSQL server with a database `keyledger`, without a password, on loopback.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    process: Option<Process>,
    /// Keeps the folder as long as the server, where it is the server's own.
    temporary: Option<TempDir>,
}

impl Postgres {
    /// Starts one with its default settings.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with settings such as `fsync=off`.
    pub fn start_with(settings: &[&str]) -> Self {
        let folder = TempDir::with_prefix("keyledger-postgres-").unwrap();
        let mut server = Self::start_in(folder.path(), settings);
        server.temporary = Some(folder);
        server
    }

    /// Starts one in a folder that stays when the server is gone: on the cluster that is there, else on a new one.
    pub fn start_in(folder: &Path, settings: &[&str]) -> Self {
        // The server runs as another user when we are root.
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        let data = folder.join("data");
        if !data.exists() {
            copy_template(&data);
        }
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { folder: folder.to_owned(), port: 0, settings, process: None, temporary: None };
        for _ in 0..TRIES_MAX {
            server.port = free_port();
            if server.try_start() {
                return server;
            }
        }
        panic!("PostgreSQL does not start:\n{}", server.said())
    }

    /// `postgres://` URL of the database `keyledger`.
    pub fn url(&self) -> String {
        self.url_of("keyledger")
    }

    /// `postgres://` URL of another database.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://keyledger@127.0.0.1:{}/{database}", self.port)
    }

    /// The port it listens on, the same after every start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its data is.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What it wrote on stderr.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.join("said.log")).unwrap_or_default()
    }

    /// Runs statements with `psql` in the database `keyledger`, and gives what it prints, unaligned.
    pub fn psql(&self, statements: &str) -> String {
        let mut psql = Command::new(program("psql"));
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statements, &self.url()]);
        let output = psql.output().unwrap();
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Kills the server and its children, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal_all("KILL");
        }
    }

    /// Stops it in order; open connections are ended.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop("INT");
        }
    }

    /// Starts it again, on the same port.
    pub fn start_again(&mut self) {
        // Children of a killed server need a moment to go; until then a new one refuses to start.
        for _ in 0..50 {
            if self.try_start() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("PostgreSQL does not start again:\n{}", self.said());
    }

    /// Copies its data folder while it is stopped: an old backup, to be put back by [`Postgres::restore`].
    pub fn backup(&self) -> TempDir {
        assert!(self.process.is_none(), "stop it first");
        let backup = TempDir::with_prefix("keyledger-postgres-backup-").unwrap();
        copy(&self.data_dir(), &backup.path().join("data"));
        backup
    }

    /// Puts a backup in the place of its data folder, while it is stopped.
    pub fn restore(&self, backup: &TempDir) {
        assert!(self.process.is_none(), "stop it first");
        fs::remove_dir_all(self.data_dir()).unwrap();
        copy(&backup.path().join("data"), &self.data_dir());
    }

    fn try_start(&mut self) -> bool {
        let mut command = as_server(&program("postgres"));
        command.arg("-D").arg(self.data_dir()).args(["-p", &self.port.to_string(), "-k", ""]);
        let defaults = ["listen_addresses=127.0.0.1", "max_connections=100", "shared_buffers=32MB"];
        for setting in defaults.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let mut process = Process::start(command, &self.folder.join("said.log"));
        if process.wait_until(|| is_ready(self.port)) {
            self.process = Some(process);
            return true;
        }
        false
    }
}

/// Whether it takes connections: it listens before it does.
fn is_ready(port: u16) -> bool {
    let mut command = Command::new(program("pg_isready"));
    command.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string(), "-t", "5"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A fresh cluster, made by the first test that needs one.
fn copy_template(to: &Path) {
    fs::create_dir_all(tools()).unwrap();
    let template = tools().join("postgres-template");
    let lock = File::create(tools().join("postgres-template.lock")).unwrap();
    lock.lock().unwrap();
    if !template.is_dir() {
        let made = make_template();
        let beside = tools().join("postgres-template.new");
        let _ = fs::remove_dir_all(&beside);
        copy(&made.path().join("data"), &beside);
        fs::rename(&beside, &template).unwrap();
    }
    drop(lock);
    copy(&template, to);
}

fn make_template() -> TempDir {
    let folder = TempDir::with_prefix("keyledger-postgres-template-").unwrap();
    let data = folder.path().join("data");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&data).unwrap();
    give_to_server(&data);
    let mut initdb = as_server(&program("initdb"));
    initdb.arg("-D").arg(&data).args(["-U", "keyledger", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]);
    initdb.args(["--no-sync", "--wal-segsize=1"]);
    run(initdb);
    let mut single = as_server(&program("postgres"));
    single.args(["--single", "-D"]).arg(&data).arg("postgres").stdin(Stdio::piped());
    let mut child = single.stdout(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"create database keyledger\n").unwrap();
    assert!(child.wait().unwrap().success(), "cannot make the database");
    folder
}

/// Copies a cluster, owned by whom the server runs as.
fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    run(cp.args(["-a", "--reflink=auto"]).arg(from).arg(to));
    give_to_server(to);
}

fn give_to_server(path: &Path) {
    if is_root() {
        run(Command::new("chown").args(["-R", "postgres:postgres"]).arg(path));
    }
}

/// A command as the user `postgres` when we are root: the server refuses to run as root.
fn as_server(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if is_root() {
        command.uid(id_of("-u")).gid(id_of("-g"));
    }
    command
}

fn is_root() -> bool {
    id(&["-u"]) == "0"
}

fn id_of(what: &str) -> u32 {
    let id = id(&[what, "postgres"]);
    id.parse().unwrap_or_else(|_| panic!("there is no user `postgres`: {MISSING}"))
}

fn id(arguments: &[&str]) -> String {
    let output = Command::new("id").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn run(mut command: impl std::borrow::BorrowMut<Command>) {
    let output = command.borrow_mut().output().unwrap();
    assert!(output.status.success(), "{:?}: {}", command.borrow(), String::from_utf8_lossy(&output.stderr));
}

/// The newest on Debian, else whatever is in PATH.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let numbered = versions.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    let mut found: Vec<(u32, PathBuf)> = numbered
        .map(|(version, path)| (version, path.join("bin").join(name)))
        .filter(|(_, path)| path.exists())
        .collect();
    found.sort();
    if let Some((_, path)) = found.pop() {
        return path;
    }
    let known = Command::new(name).arg("--version").output().is_ok();
    assert!(known, "`{name}` is not here. {MISSING}");
    PathBuf::from(name)
}
