//! Any number of customers, and the log of a seller who has them: Stripe's events and those that the issuer recorded.
//!
//! The stories are played once each, to a real issuer. A customer is a story with ids, a name and dates of their own, and a
//! pure function of their number. So a log of a million events is made in a minute, and it is what would be there if the
//! issuer had seen it all.

mod slots;
mod stories;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use keyledger_engine::key::LicenseKey;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_engine::seal;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::sqlite::{Options, SqliteLog};
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::envelope::{Delivery, IdReuse, NewEvent, PARTITIONS, Recorded};
use keyledger_schemas::event::Event;
use keyledger_schemas::ids::{LicenseId, Scope, UnitId};
use uuid::Uuid;

use slots::{Derived, Filling, Origin, Slots};
use stories::KINDS;

/// When the newest event happened.
const END: &str = "2026-11-15T00:00:00Z";

/// Events appended at once.
const BATCH: usize = 4096;

/// A seller's customers.
pub struct World {
    scripts: Vec<Script>,
    keys: Arc<DeploymentKeys>,
    end: i64,
}

/// What happens to a customer of one kind.
struct Script {
    lines: Vec<Line>,
    derived: Derived,
    /// From its first event to its last, in seconds.
    length: i64,
    began: i64,
}

/// One event of it.
struct Line {
    /// When the log took it.
    recorded: i64,
    occurred: i64,
    kind: String,
    scope: Scope,
    id: Slots,
    stream: Slots,
    causation: Option<Slots>,
    correlation: Option<Slots>,
    schema_version: u32,
    partition: u8,
    /// The signature, and the name of the secret.
    delivery: Option<(Slots, String)>,
    data: Slots,
}

/// A customer: which kind, and since when.
#[derive(Clone, Copy)]
struct Customer {
    number: usize,
    script: usize,
    later: i64,
}

/// A log that was made, in a folder of its own with the keys that belong to it.
#[derive(Clone, Debug)]
pub struct Made {
    /// `keys` and `log.db` are here.
    pub folder: PathBuf,
    /// Events in the log.
    pub events: u64,
}

impl Made {
    /// The log's file.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log.db")
    }

    /// Events in a second, when all of them took so long.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 events")]
    pub fn rate(&self, took: Duration) -> f64 {
        self.events as f64 / took.as_secs_f64()
    }
}

impl World {
    /// The customers of a deployment with these keys.
    ///
    /// # Errors
    ///
    /// When the fixtures cannot be read, or the issuer does not do its work.
    pub async fn new(keys: Arc<DeploymentKeys>) -> Result<Self> {
        let recorded = stories::recorded(&keys).await?;
        let scripts = recorded.iter().map(|events| Script::of(events)).collect::<Result<_>>()?;
        let end: Timestamp = END.parse()?;
        Ok(Self { scripts, keys, end: end.as_second() })
    }

    /// As many customers as have about so many events together.
    pub fn customers(&self, events: usize) -> usize {
        let (mut customers, mut count) = (0, 1);
        while count < events {
            count += self.scripts[self.customer(customers).script].lines.len();
            customers += 1;
        }
        customers
    }

    /// Appends everything that happened to the first customers, in the order in which it happened. Says how many events.
    ///
    /// # Errors
    ///
    /// When the log does not take it.
    pub async fn fill(&self, log: &dyn EventLog, clock: &ManualClock, customers: usize) -> Result<u64> {
        let mut order: Vec<(i64, u32, u16)> = Vec::new();
        for number in 0..customers {
            let customer = self.customer(number);
            let lines = self.scripts[customer.script].lines.iter().enumerate();
            for (index, line) in lines {
                order.push((line.recorded + customer.later, u32::try_from(number)?, u16::try_from(index)?));
            }
        }
        order.sort_unstable();
        let first = order.first().context("nobody is there")?.0 - 1;
        let began = Timestamp::from_second(first)?;
        clock.set(began);
        log.append(Append::events(vec![stories::settings_changed(began)?])).await?;
        for batch in order.chunks(BATCH) {
            let events = batch.iter().map(|(_, number, line)| self.event(*number as usize, usize::from(*line)));
            let events = events.collect::<Result<Vec<_>>>()?;
            let Some((at, ..)) = batch.last() else { continue };
            clock.set(Timestamp::from_second(*at)?);
            log.append(Append::events(events)).await?;
        }
        Ok(log.head().await?.position)
    }

    /// One event of a customer.
    fn event(&self, number: usize, line: usize) -> Result<NewEvent> {
        let customer = self.customer(number);
        let script = &self.scripts[customer.script];
        let line = &script.lines[line];
        let with = Own { customer, script, keys: &self.keys };
        let at = |second: i64| Timestamp::from_second(second + customer.later);
        let fill = |slots: &Option<Slots>| slots.as_ref().map(|slots| slots.fill(&with)).transpose();
        let delivery = match &line.delivery {
            Some((signature, secret)) => Some(Delivery {
                signature: signature.fill(&with)?,
                secret: secret.clone(),
                received_at: at(line.recorded)?,
            }),
            None => None,
        };
        Ok(NewEvent {
            id: line.id.fill(&with)?.as_str().into(),
            kind: line.kind.clone(),
            scope: line.scope.clone(),
            stream: line.stream.fill(&with)?.as_str().into(),
            occurred_at: at(line.occurred)?,
            causation_id: fill(&line.causation)?.map(|id| id.as_str().into()),
            correlation_id: fill(&line.correlation)?.map(|id| id.as_str().into()),
            schema_version: line.schema_version,
            actor: None,
            partition: u8::try_from((usize::from(line.partition) + number) % usize::from(PARTITIONS))?,
            on_reuse: if delivery.is_some() { IdReuse::FirstWins } else { IdReuse::Refused },
            delivery,
            data: line.data.fill(&with)?.into_bytes(),
        })
    }

    fn customer(&self, number: usize) -> Customer {
        let chance = scattered(number as u64);
        let mut draw = u32::try_from(chance % 1000).unwrap_or(0);
        let mut kind = 0;
        while draw >= KINDS[kind].share && kind + 1 < KINDS.len() {
            draw -= KINDS[kind].share;
            kind += 1;
        }
        // Both API versions of a kind stand side by side.
        let script = kind * 2 + usize::from(chance >> 20 & 1 == 1);
        let Script { began, length, .. } = self.scripts[script];
        let spread = i64::try_from(scattered(chance) >> 1).unwrap_or(0) % (KINDS[kind].days * 86_400);
        Customer { number, script, later: self.end - length - spread - began }
    }
}

/// Makes a log of about so many events in `folder`, unless one was made there before.
///
/// # Errors
///
/// When it cannot be written.
pub async fn made(folder: &Path, events: usize) -> Result<Made> {
    std::fs::create_dir_all(folder)?;
    let keys = Arc::new(DeploymentKeys::load_or_create(&folder.join("keys"))?);
    let world = World::new(keys).await?;
    let customers = world.customers(events);
    let made = Made { folder: folder.to_owned(), events: 0 };
    let clock = Arc::new(ManualClock::at(END.parse()?));
    let log = SqliteLog::open(&made.log().display().to_string(), clock.clone(), Options::default()).await?;
    let mut head = log.head().await?.position;
    if head == 0 {
        head = world.fill(&log, &clock, customers).await?;
    }
    log.close().await;
    Ok(Made { events: head, ..made })
}

impl Script {
    fn of(events: &[Recorded]) -> Result<Self> {
        let mut derived = Derived::default();
        for event in events {
            if let Some(Event::LicenseRequested(asked)) = Event::decode(&event.kind, &event.data)? {
                derived.license(&asked.unit, asked.generation);
            }
        }
        let lines = events.iter().map(|event| Line::of(event, &mut derived)).collect::<Result<Vec<_>>>()?;
        let times = || lines.iter().map(|line| line.recorded);
        let began = times().min().context("a story without events")?;
        let length = times().max().unwrap_or(began) - began;
        Ok(Self { lines, derived, length, began })
    }
}

impl Line {
    fn of(event: &Recorded, derived: &mut Derived) -> Result<Self> {
        let text = std::str::from_utf8(&event.data)?;
        let key = match Event::decode(&event.kind, &event.data)? {
            Some(Event::LicenseIssued(issued)) => issued.key.map(|key| (key, issued.license)),
            _ => None,
        };
        let data = match key {
            Some((key, license)) => {
                let (license, own) = (derived.index_of(license.0), derived.index_of(event.id.as_str().parse()?));
                Slots::with_key(text, &serde_json::to_string(&key)?, license, own, derived)
            }
            None => Slots::of(text, derived),
        };
        let delivery = event.delivery.as_ref();
        Ok(Self {
            recorded: event.recorded_at.as_second(),
            occurred: event.occurred_at.as_second(),
            kind: event.kind.clone(),
            scope: event.scope.clone(),
            id: Slots::of(event.id.as_str(), derived),
            stream: Slots::of(event.stream.as_str(), derived),
            causation: event.causation_id.as_ref().map(|id| Slots::of(id.as_str(), derived)),
            correlation: event.correlation_id.as_ref().map(|id| Slots::of(id.as_str(), derived)),
            schema_version: event.schema_version,
            partition: event.partition,
            delivery: delivery.map(|it| (Slots::of(&it.signature, derived), it.secret.clone())),
            data,
        })
    }
}

/// What is one customer's own.
struct Own<'w> {
    customer: Customer,
    script: &'w Script,
    keys: &'w DeploymentKeys,
}

impl Filling for Own<'_> {
    fn number(&self) -> usize {
        self.customer.number
    }

    fn later(&self) -> i64 {
        self.customer.later
    }

    fn derived(&self, index: usize) -> Uuid {
        match self.script.derived.get(index) {
            Some((_, Origin::License { unit, generation })) => {
                let unit = unit.fill(self).ok().and_then(|unit| unit.parse::<UnitId>().ok());
                unit.map_or(Uuid::nil(), |unit| unit.license(*generation).0)
            }
            Some((told, Origin::Event)) => Uuid::new_v5(told, &self.customer.number.to_be_bytes()),
            None => Uuid::nil(),
        }
    }

    fn key(&self, license: usize, event: usize) -> String {
        let key = LicenseKey::derive(self.keys, LicenseId(self.derived(license))).to_secret();
        let event = self.derived(event).to_string();
        let sealed = seal::seal(self.keys, &event.as_str().into(), &key);
        serde_json::to_string(&sealed).unwrap_or_default()
    }
}

/// A number that has nothing to do with its neighbours' (`SplitMix64`).
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use keyledger_eventlog::consumer::{self, Consumer, Step};
    use keyledger_eventlog::memory::MemoryLog;
    use keyledger_eventlog::tail::SqlTail;
    use keyledger_projector::Projector;
    use keyledger_projector::read::{Views, Within};
    use keyledger_schemas::ids::Mode;

    use super::*;

    #[tokio::test]
    async fn a_made_log_leaves_nobody_without_a_key() {
        let keys = Arc::new(DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32]));
        let world = World::new(keys).await.unwrap();
        let clock = Arc::new(ManualClock::at(END.parse().unwrap()));
        let log = Arc::new(MemoryLog::new(clock.clone()));
        let customers = world.customers(3000);
        let head = world.fill(&*log, &clock, customers).await.unwrap();
        assert!((3000..3200).contains(&head), "{head}");

        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("views.db").display());
        let projector = Projector::open(&url).await.unwrap();
        let mut consumer = Consumer::new(projector, Arc::new(SqlTail::new(log)), consumer::Options::default());
        assert_eq!(consumer.run_until_idle().await.unwrap(), Step::Idle);
        let views = Views::open_read(&url).await.unwrap();
        let live = Within { mode: Mode::Live, source: None };
        assert_eq!(views.open_obligations(&live).await.unwrap(), []);
    }
}
