//! Who works on a data folder: one `up` alone, or any number of roles that share it.
//!
//! Two `up` on one folder would do no harm, since the log takes writers in turn and the issuer works under a lease;
//! but the second one is always a mistake, and is told so.
//!
//! ```text
//!   keyledger.lock           held alone by `up`, shared by roles; remembers where the log was
//!   keyledger.making         held alone for a moment, by whoever makes keys, a token, or notes
//!   roles/issuer-4711-9f3c…  held alone by that role while it lives: so it is known who is there
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use super::holder;

/// The name of the file in the data folder.
const NAME: &str = "keyledger.lock";

/// The file that is held while something is made that must be there once.
const MAKING: &str = "keyledger.making";

/// The folder of those who share.
const ROLES: &str = "roles";

/// A verb that asks who is there is in the way for a moment: so often it is tried again.
const TRIES_MAX: u32 = 10;

/// How long to wait before that.
const PAUSE: Duration = Duration::from_millis(30);

/// Holds the data folder until dropped, or until the process ends, however it ends.
///
/// The file says who holds it, and on a second line where the log was that a service last worked on here: a folder with
/// keys and no log is either new, or has lost its log.
#[derive(Debug)]
pub struct Lock {
    folder: PathBuf,
    /// Closing it releases the lock.
    file: File,
    log: Option<String>,
    /// Says that we are here, where the folder is shared.
    presence: Option<Presence>,
}

/// A file that is held while a role lives, and gone when it left in order.
#[derive(Debug)]
struct Presence {
    path: PathBuf,
    _file: File,
}

impl Drop for Presence {
    fn drop(&mut self) {
        // One that stays behind is swept by the next process that comes.
        let _ = fs::remove_file(&self.path);
    }
}

/// The right to make what must be there once. Given back when dropped.
#[derive(Debug)]
pub struct Making {
    _file: File,
}

impl Lock {
    /// Takes the folder for this process alone.
    ///
    /// # Errors
    ///
    /// When another process has it, which the message names, or the file cannot be made.
    pub fn take(data_dir: &Path) -> anyhow::Result<Self> {
        let mut lock = Self::hold(data_dir, File::try_lock)?;
        lock.write().with_context(|| format!("writing {}", data_dir.join(NAME).display()))?;
        sweep(&data_dir.join(ROLES));
        Ok(lock)
    }

    /// Takes the folder together with other roles.
    ///
    /// # Errors
    ///
    /// When an `up` has it, which the message names, or a file cannot be made.
    pub fn share(data_dir: &Path, role: &str) -> anyhow::Result<Self> {
        let mut lock = Self::hold(data_dir, File::try_lock_shared)?;
        let _making = Making::wait(data_dir)?;
        let folder = data_dir.join(ROLES);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        sweep(&folder);
        let path = folder.join(format!("{role}-{}-{}", std::process::id(), holder::nonce()?));
        let present = File::create_new(&path).and_then(|file| file.try_lock().map(|()| file).map_err(io::Error::from));
        let file = present.with_context(|| format!("writing {}", path.display()))?;
        lock.presence = Some(Presence { path, _file: file });
        Ok(lock)
    }

    fn hold(data_dir: &Path, lock: impl Fn(&File) -> Result<(), TryLockError>) -> anyhow::Result<Self> {
        let path = data_dir.join(NAME);
        let mut file = open(&path)?;
        let mut tries = 0;
        loop {
            match lock(&file) {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < TRIES_MAX => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    let who = present(data_dir).unwrap_or_else(|| noted(&mut file));
                    bail!("{} is in use by {who}: stop that first", data_dir.display())
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("locking {}", path.display()));
                }
            }
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("reading {}", path.display()))?;
        let log = text.lines().nth(1).map(str::to_owned);
        Ok(Self { folder: data_dir.to_owned(), file, log, presence: None })
    }

    /// Where the log was that a service last worked on in this folder, if one did.
    pub fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }

    /// Remembers that there is a log now.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn remember_log(&mut self, _making: &Making, log: &str) -> anyhow::Result<()> {
        self.log = Some(log.to_owned());
        self.write().context("noting in the data folder where the log is")
    }

    /// Waits until nobody else makes anything in this folder.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub async fn making(&self) -> anyhow::Result<Making> {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || Making::wait(&folder)).await.context("waiting for other roles")?
    }

    fn write(&mut self) -> io::Result<()> {
        let log = self.log.as_ref().map_or_else(String::new, |log| format!("\n{log}"));
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "{}{log}", std::process::id())
    }

    /// The process that holds the folder, or those that share it, if there are any.
    pub fn holder(data_dir: &Path) -> Option<String> {
        if let Some(roles) = present(data_dir) {
            return Some(roles);
        }
        let mut file = OpenOptions::new().read(true).open(data_dir.join(NAME)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(noted(&mut file)),
            _ => None,
        }
    }
}

impl Making {
    fn wait(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join(MAKING);
        let file = open(&path)?;
        file.lock().with_context(|| format!("locking {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).with_context(|| format!("opening {}", path.display()))
}

/// What the file says of its holder, in words.
fn noted(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match (read, text.lines().next()) {
        (Ok(_), Some(pid)) => format!("the keyledger with process id {pid}"),
        _ => "another keyledger".to_owned(),
    }
}

/// The roles that share the folder now, in words.
fn present(data_dir: &Path) -> Option<String> {
    let mut names: Vec<String> = fs::read_dir(data_dir.join(ROLES))
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let file = OpenOptions::new().read(true).open(entry.path()).ok()?;
            let is_held = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
            let name = entry.file_name().into_string().ok()?;
            let mut parts = name.split('-');
            let (role, pid) = (parts.next()?, parts.next()?);
            is_held.then(|| format!("`keyledger {role}` with process id {pid}"))
        })
        .collect();
    names.sort();
    if names.is_empty() { None } else { Some(names.join(", ")) }
}

/// Removes what roles that were killed left behind.
fn sweep(roles: &Path) {
    for entry in fs::read_dir(roles).into_iter().flatten().flatten() {
        let is_left = OpenOptions::new().read(true).open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if is_left {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_is_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let said = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(said.contains(&std::process::id().to_string()), "{said}");
        assert!(Lock::holder(folder.path()).is_some());
        drop(first);
        assert!(Lock::holder(folder.path()).is_none());
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn the_next_one_knows_that_there_was_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Lock::take(folder.path()).unwrap();
        assert_eq!(first.log(), None);
        let making = Making::wait(folder.path()).unwrap();
        first.remember_log(&making, "/data/log.db").unwrap();
        assert!(Lock::holder(folder.path()).unwrap().ends_with(&format!("id {}", std::process::id())));
        drop(first);
        for _ in 0..2 {
            assert_eq!(Lock::take(folder.path()).unwrap().log(), Some("/data/log.db"));
        }
    }

    #[test]
    fn roles_share_a_folder_and_an_up_waits_for_the_last_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let issuers = [(); 2].map(|()| Lock::share(folder.path(), "issuer").unwrap());
        let ingest = Lock::share(folder.path(), "ingest").unwrap();
        let pid = std::process::id();
        let said = Lock::take(folder.path()).unwrap_err().to_string();
        for role in ["ingest", "issuer"] {
            assert!(said.contains(&format!("`keyledger {role}` with process id {pid}")), "{said}");
        }
        drop(issuers);
        assert_eq!(Lock::holder(folder.path()).unwrap(), format!("`keyledger ingest` with process id {pid}"));
        drop(ingest);
        assert!(Lock::holder(folder.path()).is_none());
        let up = Lock::take(folder.path()).unwrap();
        let said = Lock::share(folder.path(), "issuer").unwrap_err().to_string();
        assert!(said.contains("in use by the keyledger with process id"), "{said}");
        drop(up);
    }

    #[test]
    fn what_a_killed_role_leaves_behind_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(ROLES)).unwrap();
        fs::write(folder.path().join(ROLES).join("issuer-1-ab"), "").unwrap();
        assert!(Lock::holder(folder.path()).is_none());
        let lock = Lock::share(folder.path(), "ingest").unwrap();
        assert_eq!(fs::read_dir(folder.path().join(ROLES)).unwrap().count(), 1);
        drop(lock);
        assert_eq!(fs::read_dir(folder.path().join(ROLES)).unwrap().count(), 0);
    }
}
