//! `keyledger events`: the log itself.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use keyledger_console::model::Event;
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::verify;
use keyledger_schemas::envelope::{Position, Recorded};
use keyledger_schemas::ids::EventId;
use serde_json::{Value, json};

use super::args::{EventVerb, Events, ListEvents, ShowEvent};
use super::open;
use super::read::{self, Column};
use super::{Context, events_export, events_import};
use crate::output::{Exit, WrongUse};

/// Events read at once.
const PAGE: usize = 256;

/// How many are listed unless asked otherwise.
const LIMIT: usize = 50;

/// How often `--follow` looks for events of other processes.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

const COLUMNS: &[Column] =
    &[("POSITION", "/position"), ("OCCURRED", "/occurred_at"), ("TYPE", "/type"), ("STREAM", "/stream"), ("ID", "/id")];

/// Lists, follows, shows or verifies.
///
/// # Errors
///
/// When there is no log, or it cannot be read.
pub async fn run(context: &Context, events: Events) -> anyhow::Result<Exit> {
    match events.verb {
        None => list(context, &*open::log(context).await?, &events.list).await,
        Some(EventVerb::List(events)) => list(context, &*open::log(context).await?, &events).await,
        Some(EventVerb::Show(show)) => self::show(context, &*open::log(context).await?, &show).await,
        Some(EventVerb::Verify) => self::verify(context, &*open::log(context).await?).await,
        Some(EventVerb::Export(export)) => events_export::run(context, &export).await,
        Some(EventVerb::Import(import)) => events_import::run(context, &import).await,
    }
}

async fn list(context: &Context, log: &dyn EventLog, events: &ListEvents) -> anyhow::Result<Exit> {
    if events.follow {
        return follow(context, log, events).await;
    }
    let wanted = events.limit.unwrap_or(LIMIT);
    let (rows, more) = match events.after {
        Some(after) => oldest(log, events, after, wanted).await?,
        None => newest(log, events, wanted).await?,
    };
    if context.output.json {
        for row in &rows {
            context.output.value(row)?;
        }
    } else if rows.is_empty() {
        context.output.words("None.");
    } else {
        read::table(context.output, &rows, COLUMNS)?;
    }
    if more {
        let which = if events.after.is_some() { "first" } else { "newest" };
        context.output.words(format!("The {which} {} are shown; --limit and --after show others.", rows.len()));
    }
    Ok(Exit::Fine)
}

/// Up to `wanted` events after a position, and whether there are more.
async fn oldest(
    log: &dyn EventLog,
    events: &ListEvents,
    after: Position,
    wanted: usize,
) -> anyhow::Result<(Vec<Value>, bool)> {
    let mut rows = Vec::new();
    let mut after = after;
    loop {
        let page = log.read_after(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok((rows, false)) };
        after = last.position;
        for event in page.iter().filter(|event| fits(events, event)) {
            if rows.len() == wanted {
                return Ok((rows, true));
            }
            rows.push(row(event));
        }
    }
}

/// The newest `wanted` events, in the order of the log, and whether there are more.
async fn newest(log: &dyn EventLog, events: &ListEvents, wanted: usize) -> anyhow::Result<(Vec<Value>, bool)> {
    let mut rows = VecDeque::new();
    let mut end = log.head().await?.position;
    while end > 0 {
        let before = end.saturating_sub(PAGE as Position);
        let mut fitting = Vec::new();
        let mut at = before;
        // Large events make a page end early.
        while at < end {
            let page = log.read_after(at, usize::try_from(end - at)?).await?;
            let Some(last) = page.last() else { break };
            at = last.position;
            fitting.extend(page.iter().filter(|event| fits(events, event)).map(row));
        }
        for row in fitting.into_iter().rev() {
            if rows.len() == wanted {
                return Ok((rows.into(), true));
            }
            rows.push_front(row);
        }
        end = before;
    }
    Ok((rows.into(), false))
}

async fn follow(context: &Context, log: &dyn EventLog, events: &ListEvents) -> anyhow::Result<Exit> {
    let mut left = events.limit.unwrap_or(usize::MAX);
    let mut after = events.after.unwrap_or(0);
    while left > 0 {
        let page = log.read_after(after, PAGE).await?;
        let Some(last) = page.last() else {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Fine),
                () = tokio::time::sleep(FOLLOW_EVERY) => continue,
            }
        };
        after = last.position;
        for event in page.iter().filter(|event| fits(events, event)).take(left) {
            left -= 1;
            if context.output.json {
                context.output.value(&Event::from(event.clone()))?;
            } else {
                context.output.line(line(event))?;
            }
        }
    }
    Ok(Exit::Fine)
}

async fn show(context: &Context, log: &dyn EventLog, show: &ShowEvent) -> anyhow::Result<Exit> {
    let found = find(log, &show.id).await?;
    if found.is_empty() {
        return Err(WrongUse(format!("there is no event `{}` in the log", show.id)).into());
    }
    for event in &found {
        if show.raw {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&event.data).and_then(|()| stdout.flush())?;
        } else if context.output.json {
            context.output.value(&Event::with_data(event.clone()))?;
        } else {
            read::detail(context.output, &row(event))?;
            context.output.line(pretty(&event.data))?;
        }
    }
    Ok(Exit::Fine)
}

/// The event at a position, with an id, or all renderings of a Stripe event.
async fn find(log: &dyn EventLog, id: &str) -> anyhow::Result<Vec<Recorded>> {
    if let Ok(position) = id.parse::<Position>() {
        return Ok(log.at(position).await?.into_iter().collect());
    }
    if let Some(event) = log.find(&EventId::new(id)).await? {
        return Ok(vec![event]);
    }
    let mut found = Vec::new();
    let mut after = 0;
    // Ids of Stripe events also hold source and version, so the log is read through. It is read fast.
    while id.starts_with("evt_") {
        let page = log.read_after(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.position;
        let named = |event: &Recorded| event.is_stripe() && event.id.as_str().split(':').any(|part| part == id);
        found.extend(page.into_iter().filter(named));
    }
    Ok(found)
}

async fn verify(context: &Context, log: &dyn EventLog) -> anyhow::Result<Exit> {
    let total = log.head().await?.position;
    let mut progress = context.output.progress("verify", total);
    let report = verify::verify(log, |so_far| progress.at(so_far.events)).await.context("reading the log")?;
    progress.finish();
    if context.output.json {
        let problem = report.problem.as_ref();
        context.output.value(&json!({
            "events": report.events,
            "chain": hex(&report.head.chain),
            "problem": problem.map(|it| json!({"position": it.position, "reason": it.reason})),
        }))?;
    } else {
        context.output.line(format!("{} events are sound; chain {}", report.events, hex(&report.head.chain)))?;
    }
    let Some(problem) = report.problem else { return Ok(Exit::Fine) };
    context.output.words(format!("The log is damaged: {problem}. Restore it from a backup."));
    Ok(Exit::Found)
}

fn fits(events: &ListEvents, event: &Recorded) -> bool {
    let kind = events.kind.as_deref().is_none_or(|wanted| match wanted.strip_suffix('*') {
        Some(beginning) => event.kind.starts_with(beginning),
        None if wanted.ends_with('.') => event.kind.starts_with(wanted),
        None => event.kind == wanted,
    });
    kind && events.stream.as_deref().is_none_or(|stream| event.stream.as_str() == stream)
}

/// An event as the API shows it.
fn row(event: &Recorded) -> Value {
    json!(Event::from(event.clone()))
}

fn line(event: &Recorded) -> String {
    let at = event.occurred_at.strftime("%Y-%m-%d %H:%M:%SZ");
    format!("{:>8}  {at}  {:<36}  {}", event.position, event.kind, event.stream)
}

fn pretty(data: &[u8]) -> String {
    let value: Result<Value, _> = serde_json::from_slice(data);
    match value.and_then(|value| serde_json::to_string_pretty(&value)) {
        Ok(text) => text,
        Err(_) => String::from_utf8_lossy(data).into_owned(),
    }
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyledger_eventlog::log::Append;
    use keyledger_eventlog::sqlite::{Options, SqliteLog};
    use keyledger_eventlog::testing::event;
    use keyledger_schemas::clock::SystemClock;

    use super::*;

    #[tokio::test]
    async fn the_newest_are_the_newest_behind_large_ones_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let log = SqliteLog::open(path.to_str().unwrap(), Arc::new(SystemClock), Options::default()).await.unwrap();
        for number in 0..6 {
            let large = event(&format!("large_{number}"), "s", vec![b' '; 4 * 1024 * 1024]);
            log.append(Append::events(vec![large])).await.unwrap();
        }
        let small = (0..3).map(|number| event(&format!("small_{number}"), "s", "{}")).collect();
        log.append(Append::events(small)).await.unwrap();

        let all = ListEvents { after: None, limit: None, kind: None, stream: None, follow: false };
        let (rows, more) = newest(&log, &all, 4).await.unwrap();
        let positions: Vec<u64> = rows.iter().map(|row| row["position"].as_u64().unwrap()).collect();
        assert_eq!((positions, more), (vec![6, 7, 8, 9], true));
        log.close().await;
    }
}
