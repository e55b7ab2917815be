//! How fast it starts, and how much memory it takes.

use std::time::Duration;

use anyhow::Result;

use crate::ground::Ground;
use crate::pages::caught_up;
use crate::report::{Figure, Report, Target};
use crate::service::{self, Service};

/// Events in the log; a tenth as many subscriptions.
const EVENTS: usize = 1_000_000;

/// Starts of each kind; the middle one is the figure.
const STARTS: usize = 7;

/// How long nothing happens before memory is looked at.
const REST: Duration = Duration::from_secs(10);

const START_MS: f64 = 300.0;
const REST_MIB: f64 = 60.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Measures an empty folder, and one with many subscriptions.
pub async fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let folder = ground.empty_folder()?;
        let (log, views) = (folder.path().join("log.db"), folder.path().join("views.db"));
        let settings = service::settings(folder.path(), &service::sqlite(&log), &service::sqlite(&views), "");
        let service = Service::start(&ground.binary, folder.path(), &settings, &["up"]).await?;
        starts.push(service.startup);
        if starts.len() == STARTS {
            at_rest(&service, "with an empty log", report).await?;
        }
        service.stop().await?;
    }
    report.add(start("in an empty folder", &mut starts));

    let made = ground.world(ground.sized(EVENTS)).await?;
    caught_up(ground, &made).await?.stop().await?;
    for number in 1..=STARTS {
        let service = caught_up(ground, &made).await?;
        starts.push(service.startup);
        if number == STARTS {
            at_rest(&service, &format!("with {} events", made.events), report).await?;
        }
        service.stop().await?;
    }
    report.add(start(&format!("on {} events", made.events), &mut starts));
    Ok(())
}

fn start(name: &str, starts: &mut Vec<Duration>) -> Figure {
    starts.sort_unstable();
    let middle = starts.get(starts.len() / 2).copied().unwrap_or_default();
    starts.clear();
    let value = middle.as_secs_f64() * 1000.0;
    Figure::new("footprint", format!("start-up {name}"), value, "ms").target(Target::Under(START_MS))
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
async fn at_rest(service: &Service, name: &str, report: &mut Report) -> Result<()> {
    tokio::time::sleep(REST).await;
    let usage = service.usage()?;
    let (now, peak) = (usage.resident as f64 / MIB, usage.resident_peak as f64 / MIB);
    let figure = Figure::new("footprint", format!("memory at rest {name}"), now, "MiB");
    report.add(figure.target(Target::Under(REST_MIB)));
    report.add(Figure::new("footprint", format!("most memory until then {name}"), peak, "MiB"));
    Ok(())
}
