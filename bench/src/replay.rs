//! Making the views anew from the log, beside reading the log alone; and what else reads all of it.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use keyledger_eventlog::consumer::{self, Checkpoint, Consumer, HandleError, Handler, Step};
use keyledger_eventlog::sqlite::{Options, SqliteLog};
use keyledger_eventlog::tail::SqlTail;
use keyledger_schemas::clock::SystemClock;
use keyledger_schemas::envelope::Recorded;

use crate::ground::Ground;
use crate::report::{Figure, Report, Target};
use crate::service;
use crate::world::Made;

/// How long the log is, in events.
const LENGTHS: [usize; 2] = [100_000, 1_000_000];

/// Memory of the longer replay may be so many times that of the shorter one, and a little more.
const GROWTH_MAX: f64 = 1.2;
const GROWTH_MIB: f64 = 5.0;

const MIB: f64 = 1024.0 * 1024.0;

/// Measures both lengths.
pub async fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let mut peaks: Vec<f64> = Vec::new();
    for length in LENGTHS.map(|length| ground.sized(length)) {
        let made = ground.world(length).await?;
        let bare = made.rate(read_alone(&made).await?);
        let named = |what: &str| format!("{what}, {} events", made.events);

        // Views of its own, which are not there yet.
        let folder = ground.empty_folder()?;
        let views = service::sqlite(&folder.path().join("views.db"));
        let settings = service::settings(&made.folder, &service::sqlite(&made.log()), &views, "");
        let replayed = run_verb(ground, &settings, &["replay", "--json"]).await?;
        let figure = Figure::new("replay", named("views made anew"), made.rate(replayed.took), "1/s");
        report.add(figure.clone().beside("log alone", bare).target(Target::RatioAtLeast(0.25)));
        report.add(figure.target(Target::AtLeast(50_000.0)));

        let peak = Figure::new("replay", named("peak memory"), replayed.peak / MIB, "MiB");
        let peak = match peaks.first() {
            Some(shorter) => {
                peak.beside("the shorter log", *shorter).target(Target::Under(shorter * GROWTH_MAX + GROWTH_MIB))
            }
            None => peak,
        };
        peaks.push(peak.value);
        report.add(peak);

        let verified = run_verb(ground, &settings, &["events", "verify", "--json"]).await?;
        let figure = Figure::new("replay", named("log verified"), made.rate(verified.took), "1/s");
        report.add(figure.beside("log alone", bare));
    }
    Ok(())
}

/// A verb that ran to its end.
pub struct Ran {
    pub took: Duration,
    /// The most memory it had, in bytes.
    pub peak: f64,
}

/// Runs a verb to its end.
pub async fn run_verb(ground: &Ground, settings: &str, verb: &[&str]) -> Result<Ran> {
    let folder = ground.empty_folder()?;
    std::fs::write(folder.path().join("keyledger.toml"), settings)?;
    let mut command = service::keyledger(&ground.binary, folder.path());
    let began = Instant::now();
    let mut child = command.args(verb).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
    let id = child.id().context("it has ended")?;
    let mut peak = 0.0;
    let status = loop {
        // The kernel's high-water mark only rises, so the last look is the highest.
        peak = service::resident_peak(id).map_or(peak, as_float);
        if let Ok(status) = tokio::time::timeout(Duration::from_millis(20), child.wait()).await {
            break status?;
        }
    };
    let took = began.elapsed();
    ensure!(status.success(), "keyledger {} ended with {status}", verb.join(" "));
    Ok(Ran { took, peak })
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
fn as_float(bytes: u64) -> f64 {
    bytes as f64
}

/// Reads the log through its adapter to the end, checking the chain as every consumer does, and does nothing else.
async fn read_alone(made: &Made) -> Result<Duration> {
    let file = made.log().display().to_string();
    let log = Arc::new(SqliteLog::open(&file, Arc::new(SystemClock), Options::default()).await?);
    let mut consumer = Consumer::new(Nothing, Arc::new(SqlTail::new(log.clone())), consumer::Options::default());
    // In a task of its own, as a role would.
    let reading = tokio::spawn(async move {
        let began = Instant::now();
        let step = consumer.run_until_idle().await;
        (step, began.elapsed())
    });
    let (step, took) = reading.await?;
    ensure!(step? == Step::Idle, "the log could not be read to its end");
    keyledger_eventlog::log::EventLog::close(&*log).await;
    Ok(took)
}

/// Handles everything by doing nothing.
struct Nothing;

#[async_trait]
impl Handler for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    async fn checkpoint(&mut self) -> Result<Checkpoint, HandleError> {
        Ok(Checkpoint::default())
    }

    async fn handle(&mut self, _batch: &[Recorded], _from: Checkpoint) -> Result<(), HandleError> {
        Ok(())
    }

    async fn park(&mut self, _event: &Recorded, _reason: &str, _from: Checkpoint) -> Result<(), HandleError> {
        Ok(())
    }
}
