//! `keyledger events import`: an exported log put back as it was. See `docs/exchange-format.md`.
//!
//! A file is read to its end and proved before anything of it is put back; stdin is put back as it comes. What is there
//! already is compared and skipped, so that an import that was interrupted is begun again.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use keyledger_eventlog::exchange::{Header, LINE_BYTES_MAX, Reading};
use keyledger_eventlog::log::{EventLog, Head, RestoreError};
use keyledger_schemas::clock::SystemClock;
use keyledger_schemas::envelope::{Position, Recorded};
use serde_json::json;

use super::args::ImportEvents;
use super::{Context, hex, make_data_dir};
use crate::keys;
use crate::output::{Exit, WrongUse, counted};
use crate::serve::{self, Lock};
use crate::settings::Settings;

/// Events put back in one transaction.
const PAGE: usize = 256;

/// Bytes of data put back in one transaction, but for the last event.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// What everything begins with that gzip made.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Puts back every event that the log of the settings does not hold. It is made where there is none.
///
/// # Errors
///
/// When the log is in use, holds other events or is another one, or what is read is damaged or cut off. What was put back
/// until then is sound and stays.
pub async fn run(context: &Context, import: &ImportEvents) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let mut source = Source::open(&import.file)?;
    if let Source::File(file) = &mut source {
        prove(context, file).with_context(|| refused(&import.file))?;
    }
    make_data_dir(&settings.data_dir)?;
    let _lock = Lock::take(&settings.data_dir)?;
    let mut lines = Lines::new(source.reader());
    let reading = lines.begin().with_context(|| refused(&import.file))?;
    let header = *reading.header();
    // One that is there has its id already.
    let made_as = (!serve::log_exists(&settings.log).await?).then_some(header.log_id);
    let log = serve::open_log_with(&settings, Arc::new(SystemClock), made_as).await?;
    let done = put_back(context, &settings, &*log, reading, &mut lines).await;
    let noted = match &done {
        // Else a log with no license key among its newest events would take any keys for its own.
        Ok(Done { sealing_key: Some(name), .. }) => keys::note(&*log, name.clone()).await.map(|_| ()),
        _ => Ok(()),
    };
    log.close().await;
    let Done { there, imported, head, .. } = done?;
    noted?;

    if context.output.json {
        context.output.value(&json!({
            "log_id": header.log_id,
            "there_already": there,
            "imported": imported,
            "position": head.position,
            "chain": hex(&head.chain),
        }))?;
    } else {
        let imported = counted(imported, "event");
        let (there, position) = (there, head.position);
        context
            .output
            .line(format!("{imported} were put back, {there} were there already; the log ends at {position}"))?;
    }
    Ok(Exit::Fine)
}

fn refused(file: &Path) -> String {
    if file == Path::new("-") {
        "reading stdin".to_owned()
    } else {
        format!("nothing of {} was put back", file.display())
    }
}

/// Reads the whole file, and goes back to its beginning.
fn prove(context: &Context, file: &mut File) -> anyhow::Result<()> {
    let mut lines = Lines::new(Box::new(BufReader::new(&mut *file)));
    let mut reading = lines.begin()?;
    let mut progress = context.output.progress("read", reading.header().head.position);
    while lines.event(&mut reading)?.is_some() {
        progress.at(reading.head().position);
    }
    progress.finish();
    drop(lines);
    file.rewind().context("going back to the beginning")
}

/// What became of what was read.
struct Done {
    there: u64,
    imported: u64,
    head: Head,
    /// The name of the key that license keys are sealed with, if some are.
    sealing_key: Option<String>,
}

async fn put_back(
    context: &Context,
    settings: &Settings,
    log: &dyn EventLog,
    mut reading: Reading,
    lines: &mut Lines<'_>,
) -> anyhow::Result<Done> {
    let head = log.head().await.context("reading the log")?;
    require_same(settings, log, reading.header(), head).await?;
    let mut done = Done { there: 0, imported: 0, head, sealing_key: None };
    let mut progress = context.output.progress("import", reading.header().head.position);
    let put = async {
        loop {
            let page = lines.page(&mut reading)?;
            let Some(last) = page.last() else { break };
            let at = last.position;
            done.sealing_key = page.iter().rev().find_map(keys::sealing_key).or(done.sealing_key.take());
            let known = page.iter().take_while(|event| event.position <= head.position).count();
            let (there, new) = page.split_at(known);
            require_equal(settings, log, there).await?;
            done.there += there.len() as u64;
            if !new.is_empty() {
                done.head = log.restore(new).await.map_err(unfit)?;
                done.imported += new.len() as u64;
            }
            progress.at(at);
        }
        anyhow::Ok(())
    };
    let put = put.await;
    progress.finish();
    put.with_context(|| {
        let (imported, position) = (counted(done.imported, "event"), done.head.position);
        format!("{imported} were put back, and the log ends at {position}; a later import goes on from there")
    })?;
    Ok(done)
}

/// The text must be a copy of this log, and begin where it has events or ends.
async fn require_same(settings: &Settings, log: &dyn EventLog, header: &Header, head: Head) -> anyhow::Result<()> {
    let (ours, theirs, place) = (log.log_id(), header.log_id, &settings.log);
    if ours != theirs {
        let what = if head.position == 0 { "an empty one that may be deleted" } else { "not empty" };
        bail!(
            "this is a copy of log {theirs}, and the log at {place} is {ours}, {what}: name a place in the settings \
             (`log`) where there is none yet, which is then made as the copy's"
        );
    }
    let (after, end) = (header.after.position, head.position);
    match log.chain_at(after).await.context("reading the log")? {
        None => bail!("it begins after position {after}, and the log ends at {end}: export with `--after {end}`"),
        Some(chain) if chain != header.after.chain => Err(differs(settings, after)),
        Some(_) => Ok(()),
    }
}

/// Events that the log holds must be these. Each chain value proves all that came before it.
async fn require_equal(settings: &Settings, log: &dyn EventLog, events: &[Recorded]) -> anyhow::Result<()> {
    let Some(last) = events.last() else { return Ok(()) };
    if log.chain_at(last.position).await.context("reading the log")? == Some(last.chain) {
        return Ok(());
    }
    for event in events {
        if log.chain_at(event.position).await.context("reading the log")? != Some(event.chain) {
            return Err(differs(settings, event.position));
        }
    }
    bail!("the log changed while it was compared: stop every keyledger that uses it, and import again")
}

fn differs(settings: &Settings, position: Position) -> anyhow::Error {
    anyhow!(
        "the log at {} has another event at position {position}: both went on from one copy. Keep the one that webhooks \
         were answered from, and bring the other's events into it by resending them from Stripe",
        settings.log
    )
}

fn unfit(error: RestoreError) -> anyhow::Error {
    match error {
        RestoreError::NotNext { expected, .. } => anyhow!(
            "somebody else wrote to the log, which now ends at {}: stop every keyledger that uses it, and import again",
            expected - 1
        ),
        error => error.into(),
    }
}

/// What is read.
enum Source {
    /// It can be read twice.
    File(File),
    Stream(Box<dyn BufRead>),
}

impl Source {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stream(Box::new(BufReader::new(io::stdin()))));
        }
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow!(WrongUse(format!("there is no file {}", path.display()))),
            _ => anyhow!(error).context(format!("opening {}", path.display())),
        })?;
        let is_plain = file.metadata().with_context(|| format!("opening {}", path.display()))?.is_file();
        Ok(if is_plain { Self::File(file) } else { Self::Stream(Box::new(BufReader::new(file))) })
    }

    fn reader(self) -> Box<dyn BufRead> {
        match self {
            Self::File(file) => Box::new(BufReader::new(file)),
            Self::Stream(stream) => stream,
        }
    }
}

/// The lines of a text, one at a time.
struct Lines<'s> {
    source: Box<dyn BufRead + 's>,
    line: Vec<u8>,
}

impl<'s> Lines<'s> {
    fn new(source: Box<dyn BufRead + 's>) -> Self {
        Self { source, line: Vec::new() }
    }

    /// Reads on to the next line. `false` at the end.
    fn next(&mut self) -> anyhow::Result<bool> {
        self.line.clear();
        let mut bounded = (&mut self.source).take(LINE_BYTES_MAX);
        bounded.read_until(b'\n', &mut self.line).context("reading")?;
        if self.line.len() as u64 == LINE_BYTES_MAX {
            bail!("there is a line of more than {LINE_BYTES_MAX} bytes: this is no export of a log");
        }
        Ok(!self.line.is_empty())
    }

    fn begin(&mut self) -> anyhow::Result<Reading> {
        if !self.next()? {
            bail!("it is empty");
        }
        if self.line.starts_with(GZIP) {
            bail!("it is compressed: `gzip -dc FILE | keyledger events import -`");
        }
        Ok(Reading::begin(&self.line)?)
    }

    /// The next event. `None` at the end, where nothing may follow.
    fn event(&mut self, reading: &mut Reading) -> anyhow::Result<Option<Recorded>> {
        while self.next()? {
            if let Some(event) = reading.line(&self.line)? {
                return Ok(Some(event));
            }
        }
        reading.finish()?;
        Ok(None)
    }

    /// The next events; none at the end.
    fn page(&mut self, reading: &mut Reading) -> anyhow::Result<Vec<Recorded>> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        while page.len() < PAGE && bytes < PAGE_BYTES {
            let Some(event) = self.event(reading)? else { break };
            bytes += event.data.len();
            page.push(event);
        }
        Ok(page)
    }
}
