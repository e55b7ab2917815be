//! One process at a time on a data folder.
//!
//! Two `up` on one folder would do no harm, since the log takes writers in turn and the issuer works under a lease;
//! but the second one is always a mistake, and is told so.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, bail};

/// The name of the file in the data folder.
const NAME: &str = "keyledger.lock";

/// Holds the data folder until dropped, or until the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock, which closing releases")] File);

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
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.with_context(|| format!("writing {}", path.display()))?;
        Ok(Self(file))
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
    let mut pid = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut pid));
    match read {
        Ok(_) if !pid.trim().is_empty() => format!("the keyledger with process id {}", pid.trim()),
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
}
