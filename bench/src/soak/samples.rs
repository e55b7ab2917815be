//! What a running service uses, looked at every few seconds.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::load::Load;
use crate::load::median;
use crate::pages::Api;
use crate::service::Service;

const EVERY: Duration = Duration::from_secs(3);

/// One look.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Memory in use, in MiB.
    pub resident: f64,
    /// Open file handles.
    pub handles: f64,
    /// The larger of the two write-ahead logs, in MiB.
    pub wal: f64,
    /// How far the issuer is behind, in events, or in purchases that want its attention.
    pub issuer_lag: f64,
    /// How far the views are behind, in events.
    pub projector_lag: f64,
}

/// Looks at a service for so long.
///
/// # Errors
///
/// When it does not answer, or a webhook was refused for good.
pub async fn watch(service: &Service, folder: &Path, load: &Load, time: Duration) -> Result<Vec<Sample>> {
    let api = Api::of(service)?;
    let began = Instant::now();
    let mut samples = Vec::new();
    while let Some(left) = time.checked_sub(began.elapsed()).filter(|left| *left > EVERY) {
        sleep(left.min(EVERY)).await;
        load.is_well()?;
        samples.push(look(service, &api, folder).await?);
    }
    sleep(time.saturating_sub(began.elapsed())).await;
    Ok(samples)
}

#[expect(clippy::cast_precision_loss, reason = "sizes and counts here are far below 2^52")]
async fn look(service: &Service, api: &Api, folder: &Path) -> Result<Sample> {
    const MIB: f64 = 1024.0 * 1024.0;
    let usage = service.usage()?;
    let status = api.get("/status").await?;
    let of = |part: &str, field: &str| status[part][field].as_u64().unwrap_or(0);
    let head = of("log", "position");
    let behind = |part: &str| head.saturating_sub(of(part, "position")) as f64;
    let size = |file: &str| fs::metadata(folder.join(file)).map_or(0.0, |file| file.len() as f64 / MIB);
    Ok(Sample {
        resident: usage.resident as f64 / MIB,
        handles: usage.handles as f64,
        wal: size("log.db-wal").max(size("views.db-wal")),
        issuer_lag: behind("issuer").max(of("issuer", "due_now") as f64),
        projector_lag: behind("projector"),
    })
}

/// The largest of a figure.
pub fn most(samples: &[Sample], figure: fn(&Sample) -> f64) -> f64 {
    samples.iter().map(figure).fold(0.0, f64::max)
}

/// The middle of a figure in the first third, and in the last.
pub fn thirds(samples: &[Sample], figure: fn(&Sample) -> f64) -> (f64, f64) {
    let third = samples.len().div_ceil(3);
    let middle = |part: &[Sample]| median(part.iter().map(figure).collect());
    (middle(&samples[..third]), middle(&samples[samples.len() - third..]))
}
