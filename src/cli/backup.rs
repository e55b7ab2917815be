//! `keyledger backup`: a copy of the log and the keys, safe beside a running service.
//!
//! The copy is made by the SQLite that keyledger is built with. Another program's older SQLite must not be let near a log in use.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::sqlite::{Options, SqliteLog};
use keyledger_schemas::clock::SystemClock;
use serde_json::json;

use super::args::Backup;
use super::{Context, open};
use crate::output::{Exit, WrongUse, counted};

/// Copies the log and the keys into a folder. What an earlier backup left there is replaced once the new copy is whole.
///
/// # Errors
///
/// When the log cannot be read or the folder not be written; an earlier backup is then as it was.
pub async fn run(context: &Context, backup: &Backup) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let Some(file) = settings.log.file().filter(|file| file.exists()) else {
        // Says so where there is none; on a server there is another way.
        open::log_of(&settings).await?.close().await;
        return Err(WrongUse(format!(
            "the log is in {}: back it up with PostgreSQL's own means (`pg_basebackup` with WAL archiving, or `pg_dump`), or \
             write it out with `keyledger events export FILE`; and keep a copy of {}, without which no license key can be \
             read",
            settings.log,
            open::absolute(&settings.keys_dir).display()
        ))
        .into());
    };
    let log = SqliteLog::open(&file.to_string_lossy(), Arc::new(SystemClock), Options::default()).await;
    let log = log.with_context(|| format!("opening the log {}", file.display()))?;
    let folder = &backup.folder;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| making(folder))?;
    let (fresh, place) = (folder.join("log.db.new"), folder.join("log.db"));
    if fresh.exists() {
        fs::remove_file(&fresh).with_context(|| format!("removing {}", fresh.display()))?;
    }
    // Made first, so that it is never readable for others.
    drop(private_file(&fresh)?);
    log.copy_to(&fresh).await.with_context(|| format!("copying the log to {}", fresh.display()))?;
    log.close().await;
    let events = events_in(&fresh).await?;
    copy_keys(&settings.keys_dir, &folder.join("keys"))?;
    fs::File::open(&fresh)?.sync_all()?;
    fs::rename(&fresh, &place).with_context(|| format!("putting {} in place", place.display()))?;
    fs::File::open(folder)?.sync_all()?;
    if context.output.json {
        context.output.value(&json!({"folder": open::absolute(folder), "events": events}))?;
    } else {
        let shown = open::absolute(folder);
        context.output.line(format!("{} and the keys are in {}", counted(events, "event"), shown.display()))?;
    }
    Ok(Exit::Fine)
}

/// Opens the copy as what it is, which proves that it is one.
async fn events_in(copy: &Path) -> anyhow::Result<u64> {
    let path = copy.to_string_lossy();
    let log = SqliteLog::open(&path, Arc::new(SystemClock), Options::default()).await;
    let log = log.with_context(|| format!("opening the copy {}", copy.display()))?;
    let head = log.head().await?;
    log.close().await;
    Ok(head.position)
}

fn copy_keys(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to).with_context(|| making(to))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let (fresh, place) = (to.join("copy.new"), to.join(entry.file_name()));
        let mut bytes = fs::File::open(entry.path())?;
        let mut file = private_file(&fresh)?;
        std::io::copy(&mut bytes, &mut file)?;
        file.sync_all()?;
        fs::rename(&fresh, &place).with_context(|| format!("putting {} in place", place.display()))?;
    }
    Ok(())
}

fn private_file(path: &Path) -> anyhow::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).with_context(|| format!("writing {}", path.display()))
}

fn making(folder: &Path) -> String {
    format!("making {}", folder.display())
}
