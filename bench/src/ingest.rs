//! Webhooks taken over HTTP, beside the bare append rate of the same log: the same events, as many at once, on the same
//! disk, in turns.

use std::collections::VecDeque;
use std::fs::{Permissions, create_dir, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use keyledger_eventlog::log::{Append, EventLog, Placed};
use keyledger_eventlog::open::{self, Options};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::envelope::{Delivery, NewEvent};
use keyledger_schemas::ids::SourceName;
use keyledger_schemas::stripe::Header;
use keyledger_schemas::stripe::record::event_of;
use keyledger_test_servers::Postgres;

use crate::ground::Ground;
use crate::load::{self, Pace, Sent, Spread, median, per_second};
use crate::report::{Figure, Report, Target};
use crate::service::{Service, settings, sqlite};
use crate::template::Template;

const BENCH: &str = "ingest";

/// Rounds of each kind, in turns; the medians count.
const ROUNDS: usize = 3;

/// Sent before the clock starts.
const WARM_UP: usize = 200;

/// What a shop with subscriptions sends most: the events around each payment, 2 to 7 KB.
const FIXTURES: [&str; 6] = [
    "a_subscription_lifecycle/charge.succeeded.2024-06-20.a05.json",
    "a_subscription_lifecycle/payment_intent.succeeded.2024-06-20.a06.json",
    "a_subscription_lifecycle/invoice.paid.2024-06-20.a07.json",
    "a_subscription_lifecycle/customer.subscription.updated.2024-06-20.a12.json",
    "a_subscription_lifecycle/invoice.finalized.2024-06-20.a15.json",
    "b_one_off_payment/checkout.session.completed.2024-06-20.b04.json",
];

/// So many senders at once, and the events of a round.
struct Crowd {
    senders: usize,
    events: usize,
}

const CROWDS: [Crowd; 3] =
    [Crowd { senders: 1, events: 4_000 }, Crowd { senders: 16, events: 30_000 }, Crowd { senders: 64, events: 40_000 }];

/// Where the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// Measures the role alone on either log, and all roles in one process on SQLite.
pub async fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let bodies = Bodies::new()?;
    for kind in [Kind::Sqlite, Kind::Postgres] {
        for crowd in &CROWDS {
            compare(ground, report, &bodies, kind, crowd).await?;
        }
    }
    everything(ground, report, &bodies).await
}

/// One crowd at one log: over HTTP and bare, in turns.
async fn compare(ground: &Ground, report: &mut Report, bodies: &Bodies, kind: Kind, crowd: &Crowd) -> Result<()> {
    let count = ground.sized(crowd.events);
    let (mut taken, mut appended) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let bodies = bodies.some(round * (count + WARM_UP), count + WARM_UP);
        let place = Place::new(ground, kind)?;
        appended.push(bare(&place, &bodies, crowd.senders).await?);
        let place = Place::new(ground, kind)?;
        taken.push(over_http(ground, &place, &bodies, crowd.senders, "ingest").await?);
    }
    let name = |what: &str| format!("{}, {} at once: {what}", kind.name(), crowd.senders);
    let middle = |figure: fn(&Taken) -> f64| median(taken.iter().map(figure).collect());
    let middle_bare = |figure: fn(&Taken) -> f64| median(appended.iter().map(figure).collect());

    let mut rates = vec![Figure::new(BENCH, name("durable requests"), middle(Taken::rate), "1/s")];
    if crowd.senders == 64 {
        // Shown twice: as a ratio, and as a rate.
        rates.push(rates[0].clone());
        rates[0].target = Some(Target::RatioAtLeast(0.6));
        if kind == Kind::Sqlite {
            rates[1].target = Some(Target::AtLeast(6_000.0));
        } else {
            rates.pop();
        }
    }
    for rate in rates {
        report.add(rate.beside("bare appends", middle_bare(Taken::rate)));
    }
    let p50 = Figure::new(BENCH, name("p50"), middle(|it| it.latencies.percentile_ms(50)), "ms");
    report.add(p50.beside("bare append", middle_bare(|it| it.latencies.percentile_ms(50))));
    let p99 = Figure::new(BENCH, name("p99"), middle(|it| it.latencies.percentile_ms(99)), "ms");
    report.add(p99.beside("bare append", middle_bare(|it| it.latencies.percentile_ms(99))));
    report.add(Figure::new(BENCH, name("processor time of a request"), middle(|it| it.micros(it.cpu)), "µs"));
    let own = "processor time of sending one";
    report.add(Figure::new(BENCH, name(own), middle(|it| it.micros(it.cpu_sending)), "µs"));
    Ok(())
}

/// All roles in one process, which fold what is sent, beside the role alone.
async fn everything(ground: &Ground, report: &mut Report, bodies: &Bodies) -> Result<()> {
    let crowd = &CROWDS[2];
    let count = ground.sized(crowd.events);
    let mut taken = Vec::new();
    for round in 0..ROUNDS {
        let place = Place::new(ground, Kind::Sqlite)?;
        let bodies = bodies.some(round * (count + WARM_UP), count + WARM_UP);
        taken.push(over_http(ground, &place, &bodies, crowd.senders, "up").await?);
    }
    let middle = |figure: fn(&Taken) -> f64| median(taken.iter().map(figure).collect());
    let name = |what: &str| format!("`up` on SQLite, {} at once: {what}", crowd.senders);
    report.add(Figure::new(BENCH, name("durable requests"), middle(Taken::rate), "1/s"));
    report.add(Figure::new(BENCH, name("p99"), middle(|it| it.latencies.percentile_ms(99)), "ms"));
    Ok(())
}

/// What one round took.
struct Taken {
    count: usize,
    elapsed: Duration,
    latencies: Spread,
    cpu: Duration,
    cpu_sending: Duration,
}

impl Taken {
    fn rate(&self) -> f64 {
        per_second(self.count, self.elapsed)
    }

    /// A part of the time for each, in microseconds.
    fn micros(&self, time: Duration) -> f64 {
        1e6 / per_second(self.count, time)
    }
}

/// A process that was just started takes what is sent.
async fn over_http(
    ground: &Ground,
    place: &Place,
    bodies: &[Vec<u8>],
    senders: usize,
    verb: &'static str,
) -> Result<Taken> {
    let folder = place.folder.path();
    let views = sqlite(&folder.join("views.db"));
    let service = Service::start(&ground.binary, folder, &settings(folder, &place.log, &views, ""), &[verb]).await?;
    let address = service.address("ingest")?;
    let mut requests: Vec<Vec<u8>> = bodies.iter().map(|body| load::webhook(body)).collect();
    let warm_up = requests.drain(..WARM_UP).collect();
    load::send(&address, warm_up, senders, Pace::Answered).await?.all_taken()?;

    let before = service.usage()?;
    let sent: Sent = load::send(&address, requests, senders, Pace::Answered).await?;
    let cpu = service.usage()?.cpu.saturating_sub(before.cpu);
    sent.all_taken()?;
    service.kill().await?;
    let Sent { ref each, elapsed, cpu: cpu_sending } = sent;
    Ok(Taken { count: each.len(), elapsed, latencies: sent.latencies(), cpu, cpu_sending })
}

/// As many appenders, in this process, on a log that was just made.
async fn bare(place: &Place, bodies: &[Vec<u8>], appenders: usize) -> Result<Taken> {
    let log = open::open(&place.log, Arc::new(SystemClock), Options::default()).await?;
    let mut events = VecDeque::new();
    for body in bodies {
        events.push_back(event(body)?);
    }
    let warm_up = events.drain(..WARM_UP).collect();
    append_all(&log, warm_up, appenders).await?;
    let count = events.len();
    let began = Instant::now();
    let latencies = append_all(&log, events, appenders).await?;
    let elapsed = began.elapsed();
    log.close().await;
    Ok(Taken { count, elapsed, latencies, cpu: Duration::ZERO, cpu_sending: Duration::ZERO })
}

async fn append_all(log: &Arc<dyn EventLog>, events: VecDeque<NewEvent>, appenders: usize) -> Result<Spread> {
    let waiting = Arc::new(Mutex::new(events));
    let appending = (0..appenders).map(|_| {
        let (log, waiting) = (log.clone(), waiting.clone());
        tokio::spawn(async move {
            let mut took = Vec::new();
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(event) = next else { return anyhow::Ok(took) };
                let began = Instant::now();
                let placed = log.append(Append::events(vec![event])).await?;
                took.push(began.elapsed());
                ensure!(matches!(placed[..], [Placed::Appended(_)]), "an event was there already");
            }
        })
    });
    let mut latencies = Vec::new();
    for took in try_join_all(appending).await? {
        latencies.extend(took?);
    }
    Ok(Spread::of(latencies.into_iter()))
}

/// What ingest makes of a delivery.
///
/// # Errors
///
/// When the body is no event.
pub fn event(body: &[u8]) -> Result<NewEvent> {
    let received_at = SystemClock.now();
    // As long as a real one.
    let signature = format!("t={},v1={}", received_at.as_second(), "0".repeat(64));
    let delivery = Delivery { signature, secret: "secret-1".to_owned(), received_at };
    let header = Header::read(body).context("a body that is no event")?;
    Ok(event_of(&SourceName::default(), header, delivery, body.to_vec()))
}

/// A folder, and a log that is not there yet.
struct Place {
    folder: tempfile::TempDir,
    log: String,
    _server: Option<Postgres>,
}

impl Place {
    fn new(ground: &Ground, kind: Kind) -> Result<Self> {
        let folder = ground.empty_folder()?;
        Ok(match kind {
            Kind::Sqlite => Self { log: sqlite(&folder.path().join("log.db")), folder, _server: None },
            Kind::Postgres => {
                // The server runs as another user when we are root.
                set_permissions(folder.path(), Permissions::from_mode(0o755))?;
                let data = folder.path().join("postgres");
                create_dir(&data)?;
                let server = tokio::task::block_in_place(|| Postgres::start_in(&data, &POSTGRES));
                Self { log: server.url(), folder, _server: Some(server) }
            }
        })
    }
}

/// What an operator would give it on this machine, instead of what tests do with.
const POSTGRES: [&str; 3] = ["shared_buffers=256MB", "max_wal_size=2GB", "min_wal_size=512MB"];

/// Bodies of as many customers as it takes.
pub struct Bodies(Vec<Template>);

impl Bodies {
    /// Of [`FIXTURES`].
    ///
    /// # Errors
    ///
    /// When they are not there.
    pub fn new() -> Result<Self> {
        Ok(Self(FIXTURES.iter().map(|file| Template::fixture(file)).collect::<Result<_>>()?))
    }

    /// `count` of them, from the `first` on; each is another event.
    pub fn some(&self, first: usize, count: usize) -> Vec<Vec<u8>> {
        let one = |number: usize| self.0[number % self.0.len()].render(number / self.0.len());
        (first..first + count).map(one).collect()
    }
}
