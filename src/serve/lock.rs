//! One process at a time on a data folder.
//!
//! Two `up` on one folder would do no harm, since the log takes writers in turn and the issuer works under a lease;
//! but the second one is always a mistake, and is told so.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, bail};

/// The name of the file in the data folder.
const NAME: &str = "keyledger.lock";

/// Holds the data folder until dropped, or until the process ends, however it ends.
///
/// The file says who holds it, and on a second line where the log was that a service last worked on here: a folder with
/// keys and no log is either new, or has lost its log.
#[derive(Debug)]
pub struct Lock {
    /// Closing it releases the lock.
    file: File,
    log: Option<String>,
}

impl Lock {
    /// Takes the folder.
    ///
    /// # Errors
    ///
    /// When another process has it, which the message names, or the file cannot be made.
    pub fn take(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{} is in use by {}: stop it first", data_dir.display(), holder(&mut file))
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("reading {}", path.display()))?;
        let mut lock = Self { file, log: text.lines().nth(1).map(str::to_owned) };
        lock.write().with_context(|| format!("writing {}", path.display()))?;
        Ok(lock)
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
    pub fn remember_log(&mut self, log: &Path) -> anyhow::Result<()> {
        self.log = Some(log.display().to_string());
        self.write().context("noting in the data folder where the log is")
    }

    fn write(&mut self) -> io::Result<()> {
        let log = self.log.as_ref().map_or_else(String::new, |log| format!("\n{log}"));
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "{}{log}", std::process::id())
    }

    /// The process that holds the folder, if one does.
    pub fn holder(data_dir: &Path) -> Option<String> {
        let mut file = OpenOptions::new().read(true).open(data_dir.join(NAME)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(holder(&mut file)),
            _ => None,
        }
    }
}

/// What the file says of its holder, in words.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match (read, text.lines().next()) {
        (Ok(_), Some(pid)) => format!("the keyledger with process id {pid}"),
        _ => "another keyledger".to_owned(),
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
        first.remember_log(Path::new("/data/log.db")).unwrap();
        assert!(Lock::holder(folder.path()).unwrap().ends_with(&format!("id {}", std::process::id())));
        drop(first);
        for _ in 0..2 {
            assert_eq!(Lock::take(folder.path()).unwrap().log(), Some("/data/log.db"));
        }
    }
}
