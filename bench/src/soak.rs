//! A soak: steady mixed load on a service that is killed at random moments, with a license engine that fails in every way;
//! then the same load on one process that lives on. What it uses must stay bounded, and in the end each purchase has exactly
//! one license.

mod end;
mod load;
mod random;
mod sales;
mod samples;
mod stub;

use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::ground::Ground;
use crate::pages::Api;
use crate::report::{Figure, Report, Target};
use crate::service::{Service, settings, sqlite};
use load::Load;
use random::Random;
use samples::{Sample, most, thirds};
use stub::Stub;

const BENCH: &str = "soak";

/// How long a process lives that is to be killed, and how long nobody is there after it, in milliseconds.
const LIVES_MS: Range<u64> = 1_000..40_000;
const GONE_MS: Range<u64> = 50..3_000;

/// One in so many is killed while it starts; so long it lives then, in milliseconds.
const STARTING: usize = 4;
const STARTS_MS: Range<u64> = 1..250;

/// What a run may use. Memory in the last third of the quiet half over its first third; MiB of a write-ahead log; file handles;
/// events behind, in the last third.
const GROWTH_MAX: f64 = 1.15;
const WAL_MIB_MAX: f64 = 64.0;
const HANDLES_MAX: f64 = 200.0;
const BEHIND_MAX: f64 = 500.0;

/// Runs it for about `time`, and then until everything has settled.
///
/// # Errors
///
/// When something is lost or double, or a bound is broken.
pub async fn run(ground: &Ground, report: &mut Report, time: Duration) -> Result<()> {
    let deployment = Deployment::new(ground).await?;
    deployment.stub.misbehave().await?;
    let load = Load::begin(20_261_120)?;
    let mut random = Random::new(11_202_026);

    let (stormy, kills) = deployment.storm(&load, &mut random, time / 2).await?;
    let service = deployment.up().await?;
    load.open(&service)?;
    let quiet = samples::watch(&service, deployment.folder.path(), &load, time / 2).await?;

    load.no_more();
    load.drained().await?;
    deployment.stub.behave().await?;
    let api = Api::of(&service)?;
    let settled = end::settled(&api, &deployment.stub).await?;
    let purchases = load.purchases();
    end::one_each(&api, &deployment.stub, &purchases, &load.taken()).await?;
    let cut_short = end::cut_short(&api).await?;
    service.stop().await?;
    end::audited(&ground.binary, deployment.folder.path()).await?;

    let counts = load.counts();
    for (name, count) in [
        ("webhooks that were taken", load.taken().len()),
        ("deliveries that were not, and were repeated", counts.refused),
        ("deliveries of what was taken before", counts.doubled),
        ("pages of the API that were shown", counts.pages),
        ("kills", kills),
        ("calls to an engine that a kill cut short", cut_short),
        ("purchases that have exactly one license", purchases.len()),
    ] {
        report.add(Figure::new(BENCH, name, f64::from(u32::try_from(count)?), ""));
    }
    report.add(Figure::new(BENCH, "until everything had settled", settled.as_secs_f64(), "s"));
    used(report, &stormy, &quiet);
    deployment.stub.service.stop().await?;
    ensure!(!report.has_missed(), "a bound was broken:\n{report}");
    Ok(())
}

/// What the service used, and whether that is bounded.
fn used(report: &mut Report, stormy: &[Sample], quiet: &[Sample]) {
    let resident = thirds(quiet, |sample| sample.resident);
    let grown = Figure::new(BENCH, "memory in the last third of the quiet half", resident.1, "MiB");
    report.add(grown.beside("its first third", resident.0).target(Target::RatioUnder(GROWTH_MAX)));
    let all: Vec<Sample> = stormy.iter().chain(quiet).copied().collect();
    let most = |name: &str, figure, unit, target: Option<f64>| {
        let figure = Figure::new(BENCH, format!("most {name}"), most(&all, figure), unit);
        Figure { target: target.map(Target::Under), ..figure }
    };
    report.add(most("memory", |sample| sample.resident, "MiB", None));
    report.add(most("file handles", |sample| sample.handles, "", Some(HANDLES_MAX)));
    report.add(most("of a write-ahead log", |sample| sample.wal, "MiB", Some(WAL_MIB_MAX)));
    report.add(most("events or purchases that the issuer was behind", |sample| sample.issuer_lag, "", None));
    report.add(most("events that the views were behind", |sample| sample.projector_lag, "", None));
    let last = &quiet[quiet.len() - quiet.len().div_ceil(3)..];
    for (name, figure) in [
        ("the issuer", (|sample| sample.issuer_lag) as fn(&Sample) -> f64),
        ("the views", |sample| sample.projector_lag),
    ] {
        let behind = samples::most(last, figure);
        let name = format!("most events behind in the last third: {name}");
        report.add(Figure::new(BENCH, name, behind, "").target(Target::Under(BEHIND_MAX)));
    }
}

/// A folder, a license engine, and settings.
struct Deployment {
    binary: std::path::PathBuf,
    folder: TempDir,
    settings: String,
    stub: Stub,
}

impl Deployment {
    async fn new(ground: &Ground) -> Result<Self> {
        let folder = ground.empty_folder()?;
        let stub = Stub::start(&ground.binary, folder.path()).await?;
        let [log, views] = ["log.db", "views.db"].map(|file| sqlite(&folder.path().join(file)));
        let settings = settings(folder.path(), &log, &views, &stub.settings());
        Ok(Self { binary: ground.binary.clone(), folder, settings, stub })
    }

    async fn up(&self) -> Result<Service> {
        Service::start(&self.binary, self.folder.path(), &self.settings, &["up"]).await
    }

    /// Kills the service again and again, and looks at what it uses meanwhile.
    async fn storm(&self, load: &Load, random: &mut Random, time: Duration) -> Result<(Vec<Sample>, usize)> {
        let began = Instant::now();
        let (mut samples, mut kills) = (Vec::new(), 0);
        while let Some(left) = time.checked_sub(began.elapsed()) {
            if random.below(STARTING) == 0 {
                // Dropped before it is ready, it is killed.
                if let Ok(ready) = timeout(random.millis(STARTS_MS), self.up()).await {
                    ready?.kill().await?;
                }
                kills += 1;
            }
            let service = self.up().await?;
            load.open(&service)?;
            let lives = random.millis(LIVES_MS).min(left);
            samples.extend(samples::watch(&service, self.folder.path(), load, lives).await?);
            service.kill().await?;
            kills += 1;
            sleep(random.millis(GONE_MS)).await;
        }
        Ok((samples, kills))
    }
}
