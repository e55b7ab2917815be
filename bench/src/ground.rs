//! Where a run takes place: the executable that is measured, and the disk that it writes to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Where a run takes place.
#[derive(Debug)]
pub struct Ground {
    /// The executable that is measured.
    pub binary: PathBuf,
    /// A tenth of the work.
    pub small: bool,
    folder: PathBuf,
}

impl Ground {
    /// Finds the executable, and the folder.
    ///
    /// # Errors
    ///
    /// When there is no executable.
    pub fn new(binary: Option<PathBuf>, folder: Option<PathBuf>, small: bool) -> Result<Self> {
        let own = std::env::current_exe().context("cannot see where this program is")?;
        let beside = own.parent().unwrap_or(Path::new("."));
        let binary = binary.unwrap_or_else(|| beside.join("keyledger"));
        ensure!(
            binary.is_file(),
            "there is no executable at {}: build it with `cargo build --release`, or name one with --binary",
            binary.display()
        );
        let folder = folder.unwrap_or_else(|| beside.to_owned());
        Ok(Self { binary, small, folder })
    }

    /// An empty folder on the disk that is measured, gone when it is dropped.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn empty_folder(&self) -> Result<TempDir> {
        std::fs::create_dir_all(&self.folder)?;
        TempDir::with_prefix_in("keyledger-bench-", &self.folder)
            .with_context(|| format!("cannot make a folder in {}", self.folder.display()))
    }

    /// So much work, or a tenth of it in a small run.
    pub fn sized(&self, count: usize) -> usize {
        if self.small { count.div_ceil(10) } else { count }
    }
}
