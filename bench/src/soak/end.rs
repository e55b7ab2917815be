//! What must have come of all that was sold, once everything has settled: exactly one license of each purchase, and nothing
//! that was answered with 200 is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::sales::{End, Purchase};
use super::stub::Stub;
use crate::pages::Api;
use crate::service::keyledger;

/// What failed before the faults ended is tried again by the table: 1 s, 5 s, 30 s, 2 min, 10 min.
const SETTLES_WITHIN: Duration = Duration::from_mins(12);

/// When the fixtures' customers have paid for a period that is not over.
const THEN: &str = "2026-08-02T00:00:00Z";

/// Waits until all money has its key, and nothing is in the making. Says how long that took.
///
/// # Errors
///
/// When it does not come to that.
pub async fn settled(api: &Api, stub: &Stub) -> Result<Duration> {
    let began = Instant::now();
    loop {
        let open = what_is_open(api, stub).await?;
        if open.is_empty() {
            return Ok(began.elapsed());
        }
        if began.elapsed() > SETTLES_WITHIN {
            bail!("it does not settle: {}", open.join(", "));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn what_is_open(api: &Api, stub: &Stub) -> Result<Vec<String>> {
    let mut open = Vec::new();
    let status = api.get("/status").await?;
    let at = |part: &str| status[part]["position"].as_u64();
    if status["issuer"]["due_now"] != 0 || at("log") != at("issuer") || at("log") != at("projector") {
        open.push(format!("not caught up: {status}"));
        return Ok(open);
    }
    for kind in ["no_key", "not_extended", "free_without_key"] {
        let cases = api.get(&format!("/cases?kind={kind}&status=open&limit=1")).await?;
        if cases["data"].as_array().is_some_and(|cases| !cases.is_empty()) {
            open.push(format!("there is a case {kind}"));
        }
    }
    if open.is_empty() {
        // A create whose answer was lost, for money that went back meanwhile, is nobody's case, and looked up all the same.
        let known = licenses(api).await?.iter().filter(|row| is_at_stub(row)).count();
        let made = stub.stats().await?["licenses"].as_u64().context("the stub does not count")?;
        if made != known as u64 {
            open.push(format!("the engine made {made} licenses, and {known} are known"));
        }
    }
    Ok(open)
}

/// Looks at every license, at every event, and at the engine.
///
/// # Errors
///
/// With what is missing, or double.
pub async fn one_each(api: &Api, stub: &Stub, purchases: &[Purchase], taken: &BTreeSet<String>) -> Result<()> {
    let mut of_purchase: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in licenses(api).await? {
        let purchase = row["purchase"]["stripe_id"].as_str().context("a license of nobody")?.to_owned();
        of_purchase.entry(purchase).or_default().push(row);
    }
    for purchase in purchases {
        let rows = of_purchase.remove(&purchase.id).unwrap_or_default();
        let [license] = rows.as_slice() else { bail!("{} has {} licenses", purchase.id, rows.len()) };
        let is_right = match purchase.end {
            End::Paid(seats) => license["state"] == "active" && license["seats"] == seats,
            End::Refunded => license["state"] == "revoked",
            End::Cancelled => true,
        };
        let was_made = purchase.end == End::Refunded || license["provider_id"].is_string();
        let is_there = !license["provider_id"].is_string() || is_at_stub(license) == purchase.is_faulty;
        ensure!(is_right && was_made && is_there, "{purchase:?} has come to {license:#}");
    }
    ensure!(of_purchase.is_empty(), "there are licenses of nobody: {of_purchase:#?}");

    let stats = stub.stats().await?;
    let doubled = stats["creates_per_reference_max"].as_u64();
    ensure!(doubled <= Some(1), "a license was made twice: {stats:#}");

    let kept: BTreeSet<String> = all(api, "/events?type=stripe.*").await?.iter().filter_map(stripe_id).collect();
    let lost = taken.difference(&kept).count();
    ensure!(lost == 0, "{lost} events were answered with 200 and are not in the log");
    Ok(())
}

/// How many calls to an engine were announced and never answered, because the process died in between.
///
/// # Errors
///
/// When the log cannot be read.
pub async fn cut_short(api: &Api) -> Result<usize> {
    let events = all(api, "/events?type=license.*").await?;
    let answered: BTreeSet<_> = events.iter().filter_map(|event| event["causation_id"].as_str()).collect();
    let requested = events.iter().filter(|event| event["type"] == "license.requested");
    Ok(requested.filter(|event| event["id"].as_str().is_some_and(|id| !answered.contains(id))).count())
}

/// The chain is sound, the two books agree, and a replay gives the same views.
///
/// # Errors
///
/// With what a verb complains of.
pub async fn audited(binary: &Path, folder: &Path) -> Result<()> {
    for verb in [["events", "verify"].as_slice(), &["check"], &["replay"]] {
        let output = keyledger(binary, folder).args(verb).arg("--json").output().await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "`keyledger {}` ended with {}: {said}", verb.join(" "), output.status);
    }
    Ok(())
}

async fn licenses(api: &Api) -> Result<Vec<Value>> {
    all(api, &format!("/licenses?at={THEN}")).await
}

/// Every row of a list, page by page.
async fn all(api: &Api, path: &str) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    let mut next = String::new();
    loop {
        let page = api.get(&format!("{path}&limit=200{next}")).await?;
        rows.extend(page["data"].as_array().context("no list")?.iter().cloned());
        match page["next"].as_str() {
            Some(after) => next = format!("&after={after}"),
            None => return Ok(rows),
        }
    }
}

fn is_at_stub(license: &Value) -> bool {
    license["provider"] == "stub" && license["provider_id"].is_string()
}

/// The `evt_…` in the id of a Stripe event in the log.
fn stripe_id(event: &Value) -> Option<String> {
    event["id"].as_str()?.split(':').find(|part| part.starts_with("evt_")).map(str::to_owned)
}
