//! `keyledger doctor`: one line for each check, and how to mend what is wrong.

mod called;
mod mirror;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use keyledger_engine::keys::{DeploymentKeys, KeysError};
use keyledger_eventlog::checkpoint::Cursor;
use keyledger_eventlog::lease::LEASES;
use keyledger_eventlog::log::{EventLog, LogError};
use keyledger_projector::Projector;
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::secret::Secret;
use serde::Serialize;
use serde_json::Value;

use super::Context;
use super::catalog::{Prices, is_paid, is_unmapped};
use super::open::{self, Seen, absolute};
use crate::keys;
use crate::output::{Exit, NotReachable, Output, counted};
use crate::serve::{self, Lock};
use crate::settings::{Settings, read_token};

/// Less free space than this is a problem: the log must never fail to grow. In bytes.
const DISK_FREE_MIN: u64 = 256 * 1024 * 1024;

/// A machine whose clock is before this has no clock: when this was written.
const BUILT_AFTER: &str = "2026-01-01T00:00:00Z";

/// How much later than the newest event the clock may be behind, in seconds.
const CLOCK_BEHIND_MAX_S: i64 = 300;

/// More events than this that the issuer has not read are worth a word.
const ISSUER_BEHIND_MAX: u64 = 1000;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    Warning,
    Problem,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
struct Line {
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// The lines so far.
#[derive(Default)]
struct Report(Vec<Line>);

impl Report {
    fn good(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Line { check, verdict: Verdict::Good, found: found.into(), fix: None });
    }

    fn warning(&mut self, check: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Line { check, verdict: Verdict::Warning, found: found.into(), fix: Some(fix.into()) });
    }

    fn problem(&mut self, check: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Line { check, verdict: Verdict::Problem, found: found.into(), fix: Some(fix.into()) });
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.0.iter().filter(|line| line.verdict == verdict).count()
    }
}

/// Checks everything.
///
/// # Errors
///
/// When nobody reads the output any more; what is wrong is not an error but a line.
pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let mut report = Report::default();
    match context.settings() {
        Ok(settings) => all(&mut report, &settings, context.output).await,
        Err(bad) => {
            for problem in bad.problems {
                report.problem("config", problem.to_string(), "mend it as keyledger.example.toml shows");
            }
        }
    }
    print(&report, context.output)?;
    Ok(if report.count(Verdict::Problem) > 0 { Exit::Found } else { Exit::Fine })
}

async fn all(report: &mut Report, settings: &Settings, output: Output) {
    let file = settings.file.as_ref().map_or_else(|| "no file, defaults".to_owned(), |file| file.display().to_string());
    report.good("config", file);
    for warning in settings.warnings() {
        report.warning("config", warning, "change the setting if that is not meant");
    }
    secrets(report, settings);
    data_dir(report, &settings.data_dir);
    disk(report, &settings.data_dir);
    token(report, settings);
    let log = log(report, settings, output).await;
    keys(report, settings, log.as_deref()).await;
    views(report, settings, log.as_deref()).await;
    mirror::check(report, settings, log.as_deref()).await;
    called::check(report, settings).await;
    if let Some(log) = &log {
        issuer(report, &**log).await;
    }
    if let Some(log) = log {
        log.close().await;
    }
}

fn secrets(report: &mut Report, settings: &Settings) {
    match settings.require_sources() {
        Ok(()) => {
            for (name, source) in &settings.sources {
                let count = source.webhook_secrets.len();
                report.good("webhook secrets", format!("source {name}: {count}, issues in {} mode", source.mode));
            }
        }
        Err(bad) => {
            for problem in bad.problems {
                report.problem("webhook secrets", problem.to_string(), "set STRIPE_WEBHOOK_SECRET");
            }
        }
    }
}

fn data_dir(report: &mut Report, path: &Path) {
    let shown = absolute(path);
    let shown = shown.display();
    match fs::metadata(path) {
        Err(error) => report.problem("data folder", format!("{shown}: {error}"), "run `keyledger init`"),
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            let mode = metadata.permissions().mode() & 0o777;
            report.warning(
                "data folder",
                format!("{shown} is open to other users ({mode:o})"),
                format!("chmod 700 {shown}"),
            );
        }
        Ok(_) => match Lock::holder(path) {
            Some(holder) => report.good("data folder", format!("{shown}, in use by {holder}")),
            None => report.good("data folder", format!("{shown}, not in use")),
        },
    }
}

fn disk(report: &mut Report, path: &Path) {
    match free_bytes(path) {
        Some(free) if free < DISK_FREE_MIN => {
            report.problem(
                "disk",
                format!("{} MB free", free / 1_000_000),
                "make room: without it no event can be kept",
            );
        }
        Some(free) => report.good("disk", format!("{} MB free", free / 1_000_000)),
        None => report.warning("disk", "free space is not known", "look with `df`"),
    }
}

/// The free space of the file system that `path` is on, as `df` tells it.
fn free_bytes(path: &Path) -> Option<u64> {
    let output = std::process::Command::new("df").arg("-Pk").arg(path).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kilobytes: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The keys must be there, and be those of the log.
async fn keys(report: &mut Report, settings: &Settings, log: Option<&dyn EventLog>) {
    let events = match log {
        Some(log) => log.head().await.map_or(0, |head| head.position),
        None => 0,
    };
    let keys = match DeploymentKeys::load(&settings.keys_dir) {
        Ok(keys) => keys,
        Err(KeysError::Missing { .. }) if events > 0 && were_keys_used(log).await => {
            let found = keys::missing(events, &absolute(&settings.keys_dir));
            report.problem("keys", found, "restore them from the backup");
            return;
        }
        Err(KeysError::Missing { path }) => {
            let fix = "restore them from the backup if there is one; for a new deployment run `keyledger init`";
            report.problem("keys", format!("{} is missing", absolute(&path).display()), fix);
            return;
        }
        Err(error) => {
            report.problem("keys", error.to_string(), "restore them from the backup");
            return;
        }
    };
    let fit = match log {
        Some(log) => keys::require_those_of(log, &keys, &absolute(&settings.keys_dir)).await,
        None => Ok(()),
    };
    match fit {
        Ok(()) => report
            .good("keys", format!("{}, signing key {}", absolute(&settings.keys_dir).display(), keys.signing_key_id())),
        Err(error) => report.problem("keys", format!("{error:#}"), "restore them from the backup"),
    }
}

/// Whether keys were ever used with this log. Where that is not known, they were.
async fn were_keys_used(log: Option<&dyn EventLog>) -> bool {
    match log {
        Some(log) => keys::of_log(log).await.map_or(true, |of_log| of_log != keys::OfLog::Nothing),
        None => false,
    }
}

fn token(report: &mut Report, settings: &Settings) {
    let token = match &settings.api.token {
        Some(token) => Ok(token.clone()),
        None => read_token(&settings.api.token_file),
    };
    match token {
        Ok(token) if !Secret::is_blank(&token) => match &settings.api.token {
            Some(_) => report.good("API token", "is in the settings"),
            None => report.good("API token", format!("in {}", absolute(&settings.api.token_file).display())),
        },
        Ok(_) => report.problem("API token", "is blank", "leave it out: one is made"),
        Err(reason) => report.warning("API token", reason, "run `keyledger init`; the first start makes one too"),
    }
}

/// The log, if it can be read.
async fn log(report: &mut Report, settings: &Settings, output: Output) -> Option<Arc<dyn EventLog>> {
    let now = SystemClock.now();
    let built_after = BUILT_AFTER.parse().unwrap_or_default();
    if now < built_after {
        report.problem("clock", format!("it says {now}"), "set it: signatures and licenses are judged by it");
    }
    // Opening checks that the database would keep what it acknowledges.
    let log = match open::log_of(settings).await {
        Ok(log) => log,
        Err(error) if serve::log_exists(&settings.log).await.is_ok_and(|exists| !exists) => {
            report.warning("log", error.to_string(), format!("start {}", who_makes(settings, "ingest")));
            return None;
        }
        Err(error) if error.is::<NotReachable>() => {
            report.problem("log", format!("{error:#}"), "start PostgreSQL, or mend `log` and its password");
            return None;
        }
        Err(error) => {
            let is_unsafe = matches!(error.downcast_ref(), Some(LogError::Unsafe { .. }));
            let fix = if is_unsafe {
                "do as it says; nothing is damaged"
            } else {
                "restore it from the backup if it is damaged"
            };
            report.problem("log", format!("{error:#}"), fix);
            return None;
        }
    };
    match log.head().await {
        Ok(head) => {
            let engine = if settings.log.server().is_some() { "PostgreSQL" } else { "SQLite" };
            let (place, events) = (open::shown(&settings.log), head.position);
            report.good("log", format!("{place}, {events} events, {engine} keeps what it acknowledges"));
        }
        Err(error) => report.problem("log", error.to_string(), "run `keyledger events verify`"),
    }
    clock(report, &*log).await;
    match Prices::read(&*log, output).await {
        Ok(prices) => catalog(report, &prices.rows(&settings.deciding())),
        Err(error) => report.problem("catalog", format!("{error:#}"), "run `keyledger events verify`"),
    }
    Some(log)
}

/// The newest event must not be later than now.
async fn clock(report: &mut Report, log: &dyn EventLog) {
    let now = SystemClock.now();
    let Ok(head) = log.head().await else { return };
    let newest = log.at(head.position).await.ok().flatten();
    let ahead = newest.map_or(0, |event| event.recorded_at.duration_since(now).as_secs());
    if ahead > CLOCK_BEHIND_MAX_S {
        report.problem("clock", format!("the newest event is {ahead} s ahead of it"), "set the clock");
    } else {
        report.good("clock", now.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    }
}

fn catalog(report: &mut Report, rows: &[Value]) {
    let unmapped = |paid: bool| {
        let found = rows.iter().filter(move |row| is_unmapped(row) && is_paid(row) == paid);
        found.filter_map(|row| row["price"].as_str()).collect::<Vec<_>>()
    };
    let (paid, unpaid) = (unmapped(true), unmapped(false));
    let fix = "say under [[catalog]] what they mean, and restart";
    if !paid.is_empty() {
        let found = format!("{} paid for and mapped to nothing: {}", counted(paid.len(), "price"), paid.join(", "));
        report.problem("catalog", found, fix);
    }
    if !unpaid.is_empty() {
        let found = format!("nothing is sold for {} yet: {}", counted(unpaid.len(), "price"), unpaid.join(", "));
        report.warning("catalog", found, fix);
    }
    if paid.is_empty() && unpaid.is_empty() {
        report.good("catalog", format!("{} seen, none that sells nothing", counted(rows.len(), "price")));
    }
}

async fn views(report: &mut Report, settings: &Settings, log: Option<&dyn EventLog>) {
    let path = open::shown(&settings.views);
    if let Ok(None) = Projector::seen(settings.views.url().expose()).await {
        let fix = format!("start {}", who_makes(settings, "projector"));
        report.warning("views", format!("there are none at {path} yet"), fix);
        return;
    }
    let views = match open::views_of(settings).await {
        Ok(views) => views,
        Err(error) if error.is::<NotReachable>() && settings.views.server().is_some() => {
            report.problem("views", format!("{error:#}"), "start PostgreSQL, or mend `views` and its password");
            return;
        }
        Err(error) => {
            report.problem("views", format!("{error:#}"), "run `keyledger replay`");
            return;
        }
    };
    let seen = match log {
        Some(log) => Seen::now(log, &views).await,
        None => Ok(Seen::default()),
    };
    match seen {
        Ok(seen) if seen.is_ahead() => {
            let who = if settings.log.server().is_some() { "projector" } else { "up" };
            let fix = format!("bring back the newer log; without one, start once with `keyledger {who} --accept-loss`");
            report.problem("views", seen.ahead(), fix);
        }
        Ok(_) => report.good("views", path),
        Err(error) => report.problem("views", format!("{error:#}"), "run `keyledger replay`"),
    }
    views.close().await;
}

/// What to start: where the log is on a server, roles mostly run one by one.
fn who_makes(settings: &Settings, role: &str) -> String {
    if settings.log.server().is_some() { format!("`keyledger {role}`") } else { "`keyledger up`".to_owned() }
}

/// Whether somebody issues what was paid for.
async fn issuer(report: &mut Report, log: &dyn EventLog) {
    let (Ok(head), Ok(cursor)) = (log.head().await, Cursor::load(log, keyledger_issuer::NAME).await) else { return };
    let behind = head.position.saturating_sub(cursor.checkpoint().position);
    match active(log).await {
        Some(holder) if behind <= ISSUER_BEHIND_MAX => report.good("issuer", format!("active: {holder}")),
        Some(holder) => {
            let found = format!("{} behind the log; active: {holder}", counted(behind, "event"));
            report.warning("issuer", found, "look at what it logs");
        }
        None if behind > 0 => {
            let found = format!("{} behind the log, and nobody issues", counted(behind, "event"));
            report.warning("issuer", found, "start `keyledger issuer` or `keyledger up`");
        }
        None => {}
    }
}

/// Who has the issuer's lease, if somebody does.
async fn active(log: &dyn EventLog) -> Option<String> {
    let until = log.state(LEASES, &format!("{}/until", keyledger_issuer::LEASE)).await.ok()??.due_at?;
    let holder = log.state(LEASES, keyledger_issuer::LEASE).await.ok()??;
    (until > SystemClock.now()).then(|| String::from_utf8_lossy(&holder.value).into_owned())
}

fn print(report: &Report, output: Output) -> std::io::Result<()> {
    if output.json {
        for line in &report.0 {
            output.value(line)?;
        }
        return Ok(());
    }
    for line in &report.0 {
        let mark = match line.verdict {
            Verdict::Good => "✓",
            Verdict::Warning => "▲",
            Verdict::Problem => "✗",
        };
        output.line(format!(" {mark} {:<16} {}", line.check, line.found))?;
        if let Some(fix) = &line.fix {
            output.line(format!("   {:<16} fix: {fix}", ""))?;
        }
    }
    let (problems, warnings) = (report.count(Verdict::Problem), report.count(Verdict::Warning));
    output.line(format!(" {}, {}", counted(problems, "problem"), counted(warnings, "warning")))
}
