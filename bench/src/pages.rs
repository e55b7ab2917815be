//! Pages of the API over many subscriptions: every list, near and far, every filter, single things, and search.

mod asked;
mod sample;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keyledger_test_servers::http;
use reqwest::Client;
use serde_json::Value;

use crate::ground::Ground;
use crate::replay;
use crate::report::{Figure, Report, Target};
use crate::service::{self, Service, TOKEN};
use crate::world::Made;

/// Events in the log; a tenth as many subscriptions.
const EVENTS: usize = 1_000_000;

/// Requests of each kind.
const REQUESTS: usize = 300;

/// What a page may take, by its 99th percentile, in milliseconds.
const PAGE_MS: f64 = 20.0;

/// What a query in the boolean language may take: where no index helps, thousands of rows are judged.
const QUERY_MS: f64 = 100.0;

/// How long the projector may take to read the log.
const CAUGHT_UP_WITHIN: Duration = Duration::from_mins(10);

/// Asks for each kind of page many times, one request after the other.
pub async fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let made = ground.world(ground.sized(EVENTS)).await?;
    let service = caught_up(ground, &made).await?;
    let api = Api::of(&service)?;
    let sample = sample::Sample::take(&api).await?;
    report.add(Figure::new("pages", "subscriptions in the views", sample.count("subscriptions"), ""));
    report.add(Figure::new("pages", "events in the log", sample.events(), ""));
    for asked in asked::all(&sample) {
        let mut took = Vec::with_capacity(REQUESTS);
        for path in asked.paths.iter().cycle().take(ground.sized(REQUESTS).max(asked.paths.len())) {
            let began = Instant::now();
            api.get(path).await?;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        let name = |rank: &str| format!("{}, {rank}", asked.name);
        let most = if asked.is_query { QUERY_MS } else { PAGE_MS };
        report.add(Figure::new("pages", name("p50"), at_rank(&took, 50), "ms"));
        report.add(Figure::new("pages", name("p99"), at_rank(&took, 99), "ms").target(Target::Under(most)));
    }
    service.stop().await
}

/// Intake, views and API in one process on a made log, when the projector has read all of it. The views stay with the log, so
/// that only the first time takes long. The issuer is left out: everything was issued when the log was made, and it would
/// first read all of it again.
pub async fn caught_up(ground: &Ground, made: &Made) -> Result<Service> {
    let views = made.folder.join("views.db");
    let settings = service::settings(&made.folder, &service::sqlite(&made.log()), &service::sqlite(&views), "");
    if !views.exists() {
        replay::run_verb(ground, &settings, &["replay"]).await?;
    }
    let service = Service::start(&ground.binary, &made.folder, &settings, &["up", "--without", "issuer"]).await?;
    let api = Api::of(&service)?;
    let began = Instant::now();
    loop {
        let status = api.get("/status").await?;
        let at = |part: &str| status[part]["position"].as_u64();
        if at("log").is_some() && at("log") == at("projector") {
            return Ok(service);
        }
        if began.elapsed() > CAUGHT_UP_WITHIN {
            bail!("it does not catch up: {status}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The value that so many of a hundred do not exceed, in milliseconds.
fn at_rank(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
}

/// The API of a running service, over one connection.
pub struct Api {
    client: Client,
    base: String,
}

impl Api {
    /// Of a service that is ready.
    pub fn of(service: &Service) -> Result<Self> {
        let client = http::builder().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { client, base: format!("{}/api/v1", service.address("api")?) })
    }

    /// What it answers, as JSON where it is.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let request = self.client.get(format!("{}{path}", self.base)).bearer_auth(TOKEN);
        let answer = request.send().await.with_context(|| format!("asking for {path}"))?;
        let status = answer.status();
        let body = answer.bytes().await?;
        ensure!(status.is_success(), "{path} is answered with {status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}
