//! What a process is called that takes leases: unlike every other that may run at the same time, anywhere.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// Where Linux tells the name of this machine, or of the container.
const HOST: &str = "/proc/sys/kernel/hostname";

/// Random bytes in a name: process ids come again, and in containers all are the same.
const NONCE_BYTES: usize = 8;

/// A name that no other process has, on whatever machine, now or later.
///
/// # Errors
///
/// When the system has no randomness.
pub fn unique(role: &str) -> anyhow::Result<String> {
    let host = fs::read_to_string(HOST).unwrap_or_default();
    let host = if host.trim().is_empty() { "an unnamed machine" } else { host.trim() };
    Ok(format!("{role} on {host}, process {}, {}", std::process::id(), nonce()?))
}

/// A name for the one process that holds a folder and its log file: it is the same after a restart, which then need not
/// wait for its own lease to run out.
///
/// # Errors
///
/// When the folder is not there.
pub fn of_folder(data_dir: &Path) -> anyhow::Result<String> {
    let folder = fs::canonicalize(data_dir).with_context(|| format!("resolving {}", data_dir.display()))?;
    Ok(format!("keyledger in {}", folder.display()))
}

/// Some random digits.
///
/// # Errors
///
/// When the system has no randomness.
pub fn nonce() -> anyhow::Result<String> {
    let mut bytes = [0_u8; NONCE_BYTES];
    if let Err(error) = getrandom::fill(&mut bytes) {
        bail!("the system has no randomness to give: {error}");
    }
    Ok(crate::cli::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_processes_have_one_name_and_a_folder_keeps_its_own() {
        let names = [(); 2].map(|()| unique("issuer").unwrap());
        assert_ne!(names[0], names[1]);
        assert!(names[0].contains(&std::process::id().to_string()), "{}", names[0]);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of_folder(folder.path()).unwrap(), of_folder(&folder.path().join(".")).unwrap());
    }
}
