//! `keyledger replay`: the views made anew from the log, compared, and put in place.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use keyledger_eventlog::consumer::{Consumer, Options as ConsumerOptions, Step};
use keyledger_eventlog::log::{Head, LogError};
use keyledger_eventlog::tail::{SqlTail, Tail};
use keyledger_projector::Projector;
use keyledger_projector::replay::{Report, Switch};
use keyledger_schemas::envelope::{Position, Recorded};
use serde_json::json;

use super::Context;
use super::args::Replay;
use super::open;
use crate::output::{Exit, WrongUse};
use crate::serve::{self, Lock};
use crate::settings::Settings;

/// How often a comparison is made again when the service moved its views on meanwhile.
const ATTEMPTS_MAX: u32 = 5;

/// Rebuilds. [`Exit::Found`] if the views in use were not what the log says.
///
/// # Errors
///
/// When the log cannot be read, or a file cannot be written; the views in use are then as they were.
pub async fn run(context: &Context, replay: &Replay) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let log = open::log_of(&settings).await?;
    let tail: Arc<dyn Tail> = Arc::new(SqlTail::new(log));
    match &replay.into {
        Some(file) => copy(context, tail, file, replay.to).await,
        None => rebuild(context, &settings, &*tail).await,
    }
}

/// Rebuilds beside the views in use. A file is replaced only while nobody writes it: under the data folder's lock. On a
/// server they are replaced in one transaction, and whoever writes them goes on with the new ones.
async fn rebuild(context: &Context, settings: &Settings, tail: &dyn Tail) -> anyhow::Result<Exit> {
    if settings.views.server().is_some() {
        let report = once(context, settings, tail, Switch::Replace).await?;
        show(context, &report)?;
        return Ok(if report.differences.is_empty() { Exit::Fine } else { Exit::Found });
    }
    let running = Lock::holder(&settings.data_dir);
    let lock = match &running {
        Some(_) => None,
        None => Some(Lock::take(&settings.data_dir)?),
    };
    let switch = if lock.is_some() { Switch::Replace } else { Switch::CompareOnly };
    let mut report = once(context, settings, tail, switch).await?;
    for _ in 1..ATTEMPTS_MAX {
        if lock.is_some() || report.differences.is_empty() {
            break;
        }
        report = once(context, settings, tail, switch).await?;
    }
    show(context, &report)?;
    if let Some(holder) = running {
        context.output.words(format!("Compared only: the views are in use by {holder}. Stop it to switch."));
    }
    Ok(if report.differences.is_empty() { Exit::Fine } else { Exit::Found })
}

async fn once(context: &Context, settings: &Settings, tail: &dyn Tail, switch: Switch) -> anyhow::Result<Report> {
    let mut progress = context.output.progress("replay", tail.head().await?.position);
    let report = serve::rebuild(tail, settings.views.url().expose(), switch, |at, _| progress.at(at)).await?;
    progress.finish();
    Ok(report)
}

fn show(context: &Context, report: &Report) -> anyhow::Result<()> {
    if context.output.json {
        context.output.value(report)?;
        return Ok(());
    }
    for difference in &report.differences {
        context.output.line(format!(
            "{}: {} rows only in use, {} only rebuilt, {} changed: {}",
            difference.table,
            difference.only_live,
            difference.only_rebuilt,
            difference.changed,
            difference.keys.join(", ")
        ))?;
    }
    let compared = match report.live_position {
        Some(position) => format!("views at {position}: {} differences", report.differences.len()),
        None => "there were no views to compare with".to_owned(),
    };
    let switched = if report.switched { ", and are now in use" } else { "" };
    context.output.line(format!("{compared}; rebuilt to {}{switched}", report.position))?;
    Ok(())
}

/// Makes the views of a prefix of the log in a file of their own.
async fn copy(context: &Context, tail: Arc<dyn Tail>, file: &Path, to: Option<Position>) -> anyhow::Result<Exit> {
    if file.exists() {
        return Err(WrongUse(format!("{} exists: name a file that does not", file.display())).into());
    }
    let name = file.to_str().with_context(|| format!("{} is not text", file.display()))?;
    let head = tail.head().await?.position;
    let to = to.unwrap_or(head);
    if to > head {
        return Err(WrongUse(format!("the log ends at {head}, before {to}")).into());
    }
    let projector = Projector::open(&format!("sqlite:{name}")).await.context("making the copy")?;
    let prefix: Arc<dyn Tail> = Arc::new(Prefix { tail, to });
    let mut consumer = Consumer::new(projector, prefix, ConsumerOptions::default());
    if let Step::Delayed(_) = consumer.run_until_idle().await? {
        bail!("the copy could not be written; what is there of it may be deleted");
    }
    if context.output.json {
        context.output.value(&json!({"position": to, "file": file}))?;
    } else {
        context.output.line(format!("the views at {to} are in {}", file.display()))?;
    }
    Ok(Exit::Fine)
}

/// The beginning of a tail, up to a position.
struct Prefix {
    tail: Arc<dyn Tail>,
    to: Position,
}

#[async_trait]
impl Tail for Prefix {
    async fn next_after(&self, after: Position, limit: usize, wait: Duration) -> Result<Vec<Recorded>, LogError> {
        let left = usize::try_from(self.to.saturating_sub(after)).unwrap_or(limit).min(limit);
        if left == 0 {
            return Ok(Vec::new());
        }
        self.tail.next_after(after, left, wait).await
    }

    async fn head(&self) -> Result<Head, LogError> {
        self.tail.head().await
    }
}
