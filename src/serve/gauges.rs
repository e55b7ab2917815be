//! Numbers that must be asked for: open cases by kind, and the age of the oldest charge without a key.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_console::api::ViewsAt;
use keyledger_projector::ViewsError;
use keyledger_projector::read::{Status, Within};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::ids::Mode;
use tokio_util::sync::CancellationToken;

/// How often they are asked for.
const EVERY: Duration = Duration::from_secs(5);

/// Keeps the numbers until told to stop. A number that cannot be had now keeps its last value.
pub async fn run(views: &ViewsAt, clock: &dyn Clock, stop: CancellationToken) {
    metrics::describe_gauge!("keyledger_cases_open", "Open cases by mode and kind");
    metrics::describe_gauge!("keyledger_no_key_age_seconds_max", "Age of the oldest charge without a key");
    let mut seen = BTreeSet::new();
    while !stop.is_cancelled() {
        for mode in [Mode::Live, Mode::Test] {
            count(views, clock, mode, &mut seen).await;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn status(views: &ViewsAt, mode: Mode, now: Timestamp) -> Result<Status, ViewsError> {
    views.open().await?.status(&Within { mode, source: None }, now).await
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53 cases")]
async fn count(views: &ViewsAt, clock: &dyn Clock, mode: Mode, seen: &mut BTreeSet<(Mode, String)>) {
    let now = clock.now();
    let status = match status(views, mode, now).await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!("cannot count open cases now: {error}");
            return;
        }
    };
    seen.extend(status.cases_open.keys().map(|kind| (mode, kind.clone())));
    // A kind without open cases is left out of the status; its gauge must fall to zero all the same.
    for (_, kind) in seen.iter().filter(|(of, _)| *of == mode) {
        let open = status.cases_open.get(kind).copied().unwrap_or_default();
        metrics::gauge!("keyledger_cases_open", "mode" => mode.as_str(), "kind" => kind.clone()).set(open as f64);
    }
    let age = status.oldest_no_key.map_or(0, |since| now.duration_since(since).as_secs().max(0));
    metrics::gauge!("keyledger_no_key_age_seconds_max", "mode" => mode.as_str()).set(age as f64);
}
