//! From a webhook to its license key: until `license.issued` can be read in the log, with the built-in engine and
//! everything in one process on SQLite.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::open::{self, Options};
use keyledger_schemas::clock::SystemClock;
use tempfile::TempDir;

use crate::ground::Ground;
use crate::ingest::event;
use crate::load::{self, Pace, Spread, per_second};
use crate::report::{Figure, Report, Target};
use crate::service::{Service, settings, sqlite};
use crate::template::Template;
use crate::watch::Watch;

const BENCH: &str = "issue";

/// What is posted: the one webhook that a first payment cannot do without.
const PAID: &str = "a_subscription_lifecycle/invoice.paid.2024-06-20.a07.json";

const ISSUED: &str = "license.issued";

/// Purchases one at a time, and beside a steady stream.
const ALONE: usize = 300;
const STEADY: usize = 1_500;
const STEADY_RATE: u32 = 50;

/// Purchases that wait.
const BACKLOG: usize = 5_000;

/// Commits that must follow one another until the key can be read: the webhook; what it says of the purchase; that a
/// license is owed; that the engine is about to be asked; what it answered.
const COMMITS: usize = 5;

/// Measures it idle, at a steady rate, and with many waiting.
pub async fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let paid = Template::fixture(PAID)?;
    let bare = bare(ground, &paid).await?;
    let alone = one_at_a_time(ground, &paid).await?;
    let steady = steadily(ground, &paid).await?;
    let limit = format!("{COMMITS} bare appends in a row");
    let mut show = |name: &str, value: f64, limited: f64, target: Option<Target>| {
        let figure = Figure::new(BENCH, name, value, "ms").beside(limit.clone(), limited);
        report.add(Figure { target, ..figure });
    };
    let steady_name = |percent| format!("webhook to key at {STEADY_RATE}/s: {percent}");
    show("webhook to key, one at a time: p50", alone.percentile_ms(50), bare.percentile_ms(50), TARGET);
    show("webhook to key, one at a time: p99", alone.percentile_ms(99), bare.percentile_ms(99), None);
    show(&steady_name("p50"), steady.percentile_ms(50), bare.percentile_ms(50), TARGET);
    show(&steady_name("p99"), steady.percentile_ms(99), bare.percentile_ms(99), None);
    backlog(ground, report, &paid).await
}

const TARGET: Option<Target> = Some(Target::Under(30.0));

/// `keyledger up` on SQLite in a folder.
struct Place {
    folder: TempDir,
    log: String,
}

impl Place {
    fn new(ground: &Ground) -> Result<Self> {
        let folder = ground.empty_folder()?;
        Ok(Self { log: sqlite(&folder.path().join("log.db")), folder })
    }

    async fn up(&self, ground: &Ground, arguments: &[&str]) -> Result<Service> {
        let folder = self.folder.path();
        let settings = settings(folder, &self.log, &sqlite(&folder.join("views.db")), "");
        Service::start(&ground.binary, folder, &settings, &[&["up"], arguments].concat()).await
    }
}

async fn one_at_a_time(ground: &Ground, paid: &Template) -> Result<Spread> {
    let place = Place::new(ground)?;
    let service = place.up(ground, &[]).await?;
    let address = service.address("ingest")?;
    let mut connection = load::Connection::open(address.strip_prefix("http://").context("no http address")?).await?;
    let mut watch = Watch::of(&place.log, ISSUED).await?;
    let mut took = Vec::new();
    for customer in 0..ground.sized(ALONE) {
        let request = load::webhook(&paid.render(customer));
        let began = Instant::now();
        ensure!(connection.exchange(&request).await? == 200, "a webhook was refused");
        let seen = watch.next().await?;
        ensure!(seen.customer == customer, "a key for somebody else");
        took.push(seen.at - began);
        // It has ended all that it does after that too.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    service.kill().await?;
    Ok(Spread::of(took.into_iter()))
}

async fn steadily(ground: &Ground, paid: &Template) -> Result<Spread> {
    let place = Place::new(ground)?;
    let service = place.up(ground, &[]).await?;
    let count = ground.sized(STEADY);
    let mut watch = Watch::of(&place.log, ISSUED).await?;
    let requests = (0..count).map(|customer| load::webhook(&paid.render(customer))).collect();
    let address = service.address("ingest")?;
    let sending = load::send(&address, requests, 8, Pace::PerSecond(STEADY_RATE));
    let (sent, seen) = tokio::join!(sending, watch.next_each(count));
    let (sent, seen) = (sent?, seen?);
    sent.all_taken()?;
    service.kill().await?;
    let took = sent.each.iter().enumerate().filter_map(|(customer, it)| Some(*seen.get(&customer)? - it.began));
    Ok(Spread::of(took))
}

/// As many commits as the path needs, one after the other, with nobody else.
async fn bare(ground: &Ground, paid: &Template) -> Result<Spread> {
    let place = Place::new(ground)?;
    let log: Arc<dyn EventLog> = open::open(&place.log, Arc::new(SystemClock), Options::default()).await?;
    let mut took = Vec::new();
    for round in 0..ground.sized(ALONE) {
        let mut events = Vec::with_capacity(COMMITS);
        for commit in 0..COMMITS {
            events.push(event(&paid.render(round * COMMITS + commit))?);
        }
        let began = Instant::now();
        for event in events {
            log.append(Append::events(vec![event])).await?;
        }
        took.push(began.elapsed());
    }
    log.close().await;
    Ok(Spread::of(took.into_iter()))
}

/// Webhooks that were taken while nobody issued; then somebody does.
async fn backlog(ground: &Ground, report: &mut Report, paid: &Template) -> Result<()> {
    let place = Place::new(ground)?;
    let count = ground.sized(BACKLOG);
    let taking = place.up(ground, &["--without", "issuer"]).await?;
    let requests = (0..count).map(|customer| load::webhook(&paid.render(customer))).collect();
    load::send(&taking.address("ingest")?, requests, 16, Pace::Answered).await?.all_taken()?;
    taking.stop().await?;

    let mut watch = Watch::of(&place.log, ISSUED).await?;
    let began = Instant::now();
    let service = place.up(ground, &[]).await?;
    let seen = watch.next_each(count).await?;
    let cpu = service.usage()?.cpu;
    service.kill().await?;
    let last = seen.values().max().copied().unwrap_or(began);
    let rate = per_second(count, last - began);
    let waiting = format!("{count} waiting");
    report.add(Figure::new(BENCH, format!("{waiting}: keys made, from the start of the process on"), rate, "1/s"));
    let each = 1e3 / per_second(count, cpu);
    report.add(Figure::new(BENCH, format!("{waiting}: processor time of a purchase"), each, "ms"));
    Ok(())
}
