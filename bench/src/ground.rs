//! Where a run takes place: the executable that is measured, and the disk that it writes to.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::world::{self, Made};

/// Where a run takes place.
#[derive(Debug)]
pub struct Ground {
    /// The executable that is measured.
    pub binary: PathBuf,
    /// A tenth of the work.
    pub small: bool,
    folder: PathBuf,
    worlds: Worlds,
}

/// Where logs of many customers are: in a folder that stays, or in one that is gone with this run.
#[derive(Debug)]
enum Worlds {
    Kept(PathBuf),
    Passing(OnceLock<TempDir>),
}

impl Ground {
    /// Finds the executable, and the folder.
    ///
    /// # Errors
    ///
    /// When there is no executable.
    pub fn new(binary: Option<PathBuf>, folder: Option<PathBuf>, worlds: Option<PathBuf>, small: bool) -> Result<Self> {
        let own = std::env::current_exe().context("cannot see where this program is")?;
        let beside = own.parent().unwrap_or(Path::new("."));
        let binary = binary.unwrap_or_else(|| beside.join("keyledger"));
        ensure!(
            binary.is_file(),
            "there is no executable at {}: build it with `cargo build --release`, or name one with --binary",
            binary.display()
        );
        let folder = folder.unwrap_or_else(|| beside.to_owned());
        let worlds = worlds.map_or_else(|| Worlds::Passing(OnceLock::new()), Worlds::Kept);
        Ok(Self { binary, small, folder, worlds })
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

    /// A log of about so many events, made when it is first asked for.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub async fn world(&self, events: usize) -> Result<Made> {
        let folder = match &self.worlds {
            Worlds::Kept(folder) => folder.join(events.to_string()),
            Worlds::Passing(made) => {
                if made.get().is_none() {
                    // Whoever was faster made one too, and this one is gone again.
                    drop(made.set(self.empty_folder()?));
                }
                made.get().context("a folder that was made is not there")?.path().join(events.to_string())
            }
        };
        world::made(&folder, events).await
    }

    /// So much work, or a tenth of it in a small run.
    pub fn sized(&self, count: usize) -> usize {
        if self.small { count.div_ceil(10) } else { count }
    }
}
