//! `keyledger events export`: the log, or what came after a position, as lines of text. See `docs/exchange-format.md`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Stdout, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use keyledger_eventlog::exchange::{self, Header, Reading};
use keyledger_eventlog::log::{EventLog, Head};
use keyledger_schemas::envelope::Position;
use serde_json::json;

use super::args::ExportEvents;
use super::{Context, hex, open};
use crate::output::{Exit, WrongUse, counted};

/// Events read at once.
const PAGE: usize = 256;

/// Writes every event there is when it begins. Each line is read back before it is written, so that what is written can
/// be imported.
///
/// # Errors
///
/// When the log cannot be read or is damaged, or the file cannot be written; there is no file of this name then.
pub async fn run(context: &Context, export: &ExportEvents) -> anyhow::Result<Exit> {
    let log = open::log(context).await?;
    let head = log.head().await.context("reading the log")?;
    let after = export.after.unwrap_or(0);
    let Some(chain) = log.chain_at(after).await.context("reading the log")? else {
        return Err(WrongUse(format!("the log ends at {}, before {after}", head.position)).into());
    };
    let header = Header { log_id: log.log_id(), after: Head { position: after, chain }, head };
    let mut target = Target::open(&export.file)?;
    write(context, &*log, &header, &mut target).await?;
    log.close().await;
    let written = target.finish()?;

    let events = head.position - after;
    let Some(file) = written else {
        context.output.words(format!("{} up to position {} were written", counted(events, "event"), head.position));
        return Ok(Exit::Fine);
    };
    if context.output.json {
        context.output.value(&json!({
            "file": file,
            "log_id": header.log_id,
            "after": after,
            "events": events,
            "position": head.position,
            "chain": hex(&head.chain),
        }))?;
    } else {
        let (events, position, file) = (counted(events, "event"), head.position, file.display());
        context.output.line(format!("{events} up to position {position} are in {file}"))?;
    }
    Ok(Exit::Fine)
}

async fn write(context: &Context, log: &dyn EventLog, header: &Header, target: &mut Target) -> anyhow::Result<()> {
    let first = exchange::header(header);
    target.line(&first)?;
    let mut proof = Reading::begin(first.as_bytes())?;
    let mut progress = context.output.progress("export", header.head.position);
    while proof.head().position < header.head.position {
        let at = proof.head().position;
        let left = usize::try_from(header.head.position - at).unwrap_or(PAGE).min(PAGE);
        let page = log.read_after(at, left).await.context("reading the log")?;
        if page.is_empty() {
            return Err(damaged(at + 1, "the row is missing"));
        }
        for event in &page {
            let line = exchange::event(event);
            proof.line(line.as_bytes()).map_err(|fault| damaged(event.position, &fault.reason))?;
            target.line(&line)?;
        }
        progress.at(proof.head().position);
    }
    let last = exchange::trailer(proof.events(), header.head);
    if proof.line(last.as_bytes()).is_err() {
        bail!("the log was exchanged while it was read: export it again");
    }
    target.line(&last)?;
    progress.finish();
    Ok(())
}

fn damaged(position: Position, reason: &str) -> anyhow::Error {
    anyhow::anyhow!("the log is damaged at position {position}: {reason}. Restore it from a backup")
}

/// Where lines are written.
enum Target {
    Stdout(BufWriter<Stdout>),
    File(Fresh),
}

impl Target {
    fn open(file: &Path) -> anyhow::Result<Self> {
        if file == Path::new("-") {
            return Ok(Self::Stdout(BufWriter::new(io::stdout())));
        }
        Ok(Self::File(Fresh::beside(file)?))
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        match self {
            // Nobody may read any more: that is passed on as it is, and the process ends quietly.
            Self::Stdout(stdout) => Ok(writeln!(stdout, "{line}")?),
            Self::File(fresh) => {
                writeln!(fresh.file, "{line}").with_context(|| format!("writing {}", fresh.path.display()))
            }
        }
    }

    /// Everything was written. Gives the file, if it is one.
    fn finish(self) -> anyhow::Result<Option<PathBuf>> {
        match self {
            Self::Stdout(mut stdout) => {
                stdout.flush()?;
                Ok(None)
            }
            Self::File(fresh) => Ok(Some(fresh.put_in_place()?)),
        }
    }
}

/// A file for its owner alone, under another name until it is whole.
struct Fresh {
    file: BufWriter<File>,
    path: PathBuf,
    place: PathBuf,
}

impl Fresh {
    fn beside(place: &Path) -> anyhow::Result<Self> {
        let Some(name) = place.file_name() else {
            return Err(WrongUse(format!("{} is no name of a file", place.display())).into());
        };
        if place.exists() {
            return Err(WrongUse(format!("{} exists: name a file that does not", place.display())).into());
        }
        let mut name = name.to_owned();
        name.push(".partial");
        let path = place.with_file_name(name);
        let opening = || format!("writing {}", path.display());
        // What an export that was killed left there.
        if path.exists() {
            fs::remove_file(&path).with_context(opening)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).with_context(opening)?;
        Ok(Self { file: BufWriter::new(file), path, place: place.to_owned() })
    }

    fn put_in_place(mut self) -> anyhow::Result<PathBuf> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .with_context(|| format!("writing {}", self.path.display()))?;
        let place = open::absolute(&self.place);
        fs::rename(&self.path, &place).with_context(|| format!("putting {} in place", place.display()))?;
        if let Some(folder) = place.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(place)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // In place already, or of no use to anybody.
        let _ = fs::remove_file(&self.path);
    }
}
