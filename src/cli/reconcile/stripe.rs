//! `keyledger reconcile`: what Stripe holds and the log lacks; with `--apply` it is appended.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_issuer::stripe::client::StripeError;
use keyledger_issuer::stripe::reconcile::{self, Missing, Options, Progress, ReconcileError, Report, Source};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::envelope::{IdReuse, NewEvent, derived_id, partition_of};
use keyledger_schemas::event::{Event, ReconcileCompleted};
use keyledger_schemas::ids::{Scope, SourceName, StreamId};
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::args::ReconcileStripe;
use crate::cli::open;
use crate::cli::read::{self, Column};
use crate::output::{Exit, NotReachable, WrongUse, counted};
use crate::serve;
use crate::settings::Settings;

/// So many missing ones are shown in a table; JSON shows all that the comparison names.
const SHOWN_MAX: usize = 50;

const COLUMNS: &[Column] =
    &[("SOURCE", "/source"), ("ACCOUNT", "/account"), ("KIND", "/kind"), ("ID", "/id"), ("MADE", "/at")];

/// Compares each source that has a key.
///
/// # Errors
///
/// When no source has a key, Stripe does not answer, or the log cannot be reached.
pub async fn run(context: &Context, wanted: &ReconcileStripe) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let names = names(&settings, wanted.source.as_ref())?;
    let http = serve::http(&settings)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sources = serve::stripe_sources(&settings, &http, &clock)?;
    let log = if wanted.apply { open::log_to_add_to(&settings).await? } else { open::log_of(&settings).await? };
    let since = wanted.since.before(clock.now());
    let options = Options { since, apply: wanted.apply, ..Options::default() };
    let mut found = 0;
    for source in sources.into_iter().filter(|source| names.contains(&source.name)) {
        let report = compare(context, &*log, &*clock, &source, &options).await?;
        if report.events_appended + report.objects_appended > 0 {
            let event = completed(&source, &report, since, clock.now());
            log.append(Append::events(vec![event])).await.context("appending to the log")?;
        }
        let missing = report.events_missing + report.objects_missing;
        let appended = report.events_appended + report.objects_appended;
        found += missing - appended.min(missing) + report.left_out.len() as u64;
        show(context, &source, &report, wanted.apply)?;
    }
    log.close().await;
    if found > 0 && !wanted.apply {
        context
            .output
            .words("Nothing was changed: --apply appends it to the log, and what it pays for is issued then.");
    }
    Ok(if found > 0 { Exit::Found } else { Exit::Fine })
}

/// The sources with a key, of which one may be asked for.
fn names(settings: &Settings, wanted: Option<&SourceName>) -> Result<Vec<SourceName>, WrongUse> {
    if let Some(name) = wanted {
        let Some(source) = settings.sources.get(name) else {
            return Err(WrongUse(format!("there is no source `{name}` in the settings")));
        };
        if source.api_key.is_none() {
            return Err(WrongUse(format!(
                "`stripe.{name}.api_key` is not set: without it nothing can be read from Stripe"
            )));
        }
        return Ok(vec![name.clone()]);
    }
    let names: Vec<SourceName> =
        settings.sources.iter().filter(|(_, source)| source.api_key.is_some()).map(|(name, _)| name.clone()).collect();
    if names.is_empty() {
        let text = "no source has an API key: set STRIPE_API_KEY, or `api_key_file` under `[stripe.default]`; \
                    docs/providers.md says which permissions it needs";
        return Err(WrongUse(text.to_owned()));
    }
    Ok(names)
}

async fn compare(
    context: &Context,
    log: &dyn EventLog,
    clock: &dyn Clock,
    source: &Source,
    options: &Options,
) -> anyhow::Result<Report> {
    let total = clock.now().duration_since(options.since).as_secs().max(1).unsigned_abs();
    let mut bar = context.output.progress("seconds back", total);
    let mut step = None;
    let mut progress = |now: Progress| {
        if step != Some(now.step) {
            step = Some(now.step);
            let of = now.account.as_ref().map_or_else(String::new, |account| format!(" of {account}"));
            context.output.words(format!("{}{of}: looking at {}", source.name, now.step.as_str()));
        }
        if let Some(back_to) = now.back_to {
            bar.at(clock.now().duration_since(back_to).as_secs().unsigned_abs().min(total));
        }
    };
    let report = reconcile::reconcile(log, clock, source, options, &mut progress).await;
    bar.finish();
    report.map_err(|error| match error {
        ReconcileError::Stripe(error @ StripeError::Unavailable { .. }) => {
            let error = anyhow!(error).context(format!("reading from Stripe for source {}", source.name));
            NotReachable(format!("{error:#}")).into()
        }
        other => anyhow!(other).context(format!("comparing source {}", source.name)),
    })
}

/// That it was done, for whoever asks when it was.
fn completed(source: &Source, report: &Report, since: Timestamp, now: Timestamp) -> NewEvent {
    let scope = Scope::new(source.name.clone(), source.mode);
    let event = Event::ReconcileCompleted(ReconcileCompleted {
        since,
        events_seen: report.events_seen,
        events_appended: report.events_appended,
        objects_seen: report.objects_seen,
        objects_appended: report.objects_appended,
    });
    NewEvent {
        id: derived_id(&now.to_string(), event.kind(), source.name.as_str()),
        kind: event.kind().to_owned(),
        stream: StreamId::new(format!("reconcile:{}", source.name)),
        occurred_at: now,
        causation_id: None,
        correlation_id: None,
        schema_version: 1,
        actor: None,
        partition: partition_of(source.name.as_str()),
        delivery: None,
        data: event.encode(),
        on_reuse: IdReuse::Refused,
        scope,
    }
}

fn row(source: &Source, missing: &Missing) -> Value {
    json!({
        "source": source.name, "account": missing.account, "kind": missing.kind, "id": missing.id, "at": missing.at
    })
}

fn show(context: &Context, source: &Source, report: &Report, applied: bool) -> anyhow::Result<()> {
    let rows: Vec<Value> = report.missing.iter().map(|missing| row(source, missing)).collect();
    if context.output.json {
        for row in &rows {
            context.output.value(row)?;
        }
        let left_out: Vec<Value> =
            report.left_out.iter().map(|(account, why)| json!({"account": account, "why": why})).collect();
        context.output.value(&json!({
            "source": source.name, "events_seen": report.events_seen, "events_missing": report.events_missing,
            "events_appended": report.events_appended, "objects_seen": report.objects_seen,
            "objects_missing": report.objects_missing, "objects_appended": report.objects_appended,
            "left_out": left_out
        }))?;
        return Ok(());
    }
    if !rows.is_empty() {
        read::table(context.output, &rows[..rows.len().min(SHOWN_MAX)], COLUMNS)?;
    }
    if rows.len() > SHOWN_MAX {
        context.output.words(format!("The first {SHOWN_MAX} are shown; --json shows more."));
    }
    for (account, why) in &report.left_out {
        context.output.words(format!("{account} could not be looked at: {why}"));
    }
    let missing = report.events_missing + report.objects_missing;
    let appended = report.events_appended + report.objects_appended;
    let lacks =
        if applied { format!("{} appended", counted(appended, "event")) } else { format!("the log lacks {missing}") };
    context.output.words(format!(
        "{}: {} and {} looked at, {lacks}",
        source.name,
        counted(report.events_seen, "event"),
        counted(report.objects_seen, "object")
    ));
    Ok(())
}
