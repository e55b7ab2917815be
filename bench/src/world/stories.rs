//! What happens to customers: events of the fixtures in both API versions, as Stripe sends them to a seller who listens to
//! what matters, and what the issuer records meanwhile.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::tail::SqlTail;
use keyledger_issuer::provider::Provider;
use keyledger_issuer::provider::builtin::Builtin;
use keyledger_issuer::{Engines, Issuer, Options, Parts};
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::envelope::{Delivery, IdReuse, NewEvent, Recorded, derived_id};
use keyledger_schemas::event::{Event, SETTINGS_STREAM, SettingsChanged};
use keyledger_schemas::ids::{Mode, ProviderName, Scope, SourceName};
use keyledger_schemas::settings::{DecidingSettings, SourceSettings};
use keyledger_schemas::stripe::Header;
use keyledger_schemas::stripe::record::event_of;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// What the ids of a renewal's own objects begin with.
const RENEWED: [&str; 6] = ["evt_", "in_1", "ch_", "pi_", "il_", "txn_"];

/// The API versions that every story is told in.
const VERSIONS: [&str; 2] = ["2024-06-20", "2026-07-29.dahlia"];

/// A month of the fixtures, in seconds.
const MONTH: i64 = 31 * 86_400;

/// A year.
const YEAR: i64 = 365 * 86_400;

/// A period is said to begin some seconds before the first event.
const SLACK: i64 = 3600;

/// Every time in the fixtures lies between these, and no other number does: 2026-01-01 to 2029-01-01.
const TOLD: std::ops::Range<i64> = 1_767_225_600..1_861_920_000;

/// A kind of customer.
pub struct Kind {
    /// Of a thousand customers, so many.
    pub share: u32,
    /// The letter of the fixtures' story.
    story: &'static str,
    /// Steps of the story.
    steps: &'static [u64],
    /// Its months are years.
    yearly: bool,
    /// Steps of a renewal that happens this many times more.
    again: (u32, &'static [u64]),
    /// The story began so many days before the world's end at most, beside its own length.
    pub days: i64,
}

const NOT_AGAIN: (u32, &[u64]) = (0, &[]);

/// Most bought a year lately; some renewed once, were renewed monthly for a year, bought once for ever, tried first, changed
/// seats, got their money back, ended, or took it to their bank.
pub const KINDS: [Kind; 10] = [
    Kind { share: 700, story: "a", steps: &[1, 2, 7, 10], yearly: true, again: NOT_AGAIN, days: 360 },
    Kind { share: 60, story: "a", steps: &[1, 2, 7, 10, 14, 16, 18], yearly: true, again: NOT_AGAIN, days: 360 },
    Kind {
        share: 3,
        story: "a",
        steps: &[1, 2, 5, 7, 10, 14, 16, 18],
        yearly: false,
        again: (11, &[14, 16, 18]),
        days: 28,
    },
    Kind { share: 59, story: "b", steps: &[1, 3, 4], yearly: false, again: NOT_AGAIN, days: 700 },
    Kind { share: 50, story: "c", steps: &[1, 2, 5, 7, 10, 14], yearly: false, again: NOT_AGAIN, days: 28 },
    Kind { share: 50, story: "d", steps: &[1, 2, 7, 10, 12, 17, 20, 26], yearly: true, again: NOT_AGAIN, days: 360 },
    Kind { share: 35, story: "e", steps: &[1, 2, 5, 7, 9, 10, 11, 12, 15], yearly: true, again: NOT_AGAIN, days: 700 },
    Kind {
        share: 25,
        story: "a",
        steps: &[1, 2, 7, 10, 14, 18, 22, 26, 27, 31, 34, 35, 36],
        yearly: false,
        again: NOT_AGAIN,
        days: 700,
    },
    Kind {
        share: 13,
        story: "f",
        steps: &[1, 2, 5, 6, 7, 9, 10, 11, 14, 15, 16],
        yearly: true,
        again: NOT_AGAIN,
        days: 700,
    },
    Kind { share: 5, story: "f", steps: &[1, 2, 5, 6, 7, 9, 10, 11], yearly: true, again: NOT_AGAIN, days: 60 },
];

/// The settings under which all of it is decided: everything is `pro` at the built-in engine.
///
/// # Errors
///
/// Never: they are written here.
pub fn settings() -> Result<DecidingSettings> {
    let catalog = vec![serde_json::from_str(r#"{"provider": "builtin", "product": "pro"}"#)?];
    let sources = [(SourceName::default(), SourceSettings { mode: Mode::Live })].into();
    let providers = [ProviderName::from("builtin")].into();
    Ok(DecidingSettings { catalog, sources, providers, ..DecidingSettings::default() })
}

/// The event that records the settings, as start-up does.
///
/// # Errors
///
/// As [`settings`].
pub fn settings_changed(at: Timestamp) -> Result<NewEvent> {
    let changed = Event::SettingsChanged(SettingsChanged { settings: settings()? });
    Ok(NewEvent {
        id: derived_id("none", changed.kind(), "the benchmarks"),
        kind: changed.kind().to_owned(),
        scope: Scope::new(SourceName::default(), Mode::Live),
        stream: SETTINGS_STREAM.into(),
        occurred_at: at,
        causation_id: None,
        correlation_id: None,
        schema_version: 1,
        actor: None,
        partition: 0,
        delivery: None,
        data: changed.encode(),
        on_reuse: IdReuse::Refused,
    })
}

/// What happens to one customer of each kind, in each API version: the log's events after the settings, with what a real
/// issuer recorded.
///
/// # Errors
///
/// When the fixtures are not there, or the issuer does not do its work.
pub async fn recorded(keys: &Arc<DeploymentKeys>) -> Result<Vec<Vec<Recorded>>> {
    let mut all = Vec::new();
    for kind in &KINDS {
        for version in VERSIONS {
            all.push(play(&kind.bodies(version)?, keys).await?);
        }
    }
    Ok(all)
}

/// Lets an issuer see the events one by one, each a second after it happened.
async fn play(bodies: &[Value], keys: &Arc<DeploymentKeys>) -> Result<Vec<Recorded>> {
    let mut now = second(&bodies[0]["created"])?;
    let clock = Arc::new(ManualClock::at(Timestamp::from_second(now)?));
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(clock.clone()));
    log.append(Append::events(vec![settings_changed(Timestamp::from_second(now)?)?])).await?;
    let builtin: Arc<dyn Provider> = Arc::new(Builtin::new(keys.clone()));
    let parts = Parts {
        log: log.clone(),
        tail: Arc::new(SqlTail::new(log.clone())),
        clock: clock.clone(),
        engines: Engines::new(vec![builtin]),
        keys: keys.clone(),
        holder: "the benchmarks".to_owned(),
        options: Options::default(),
    };
    let issuer = Issuer::start(parts, &CancellationToken::new()).await?;
    let mut issuer = issuer.context("the issuer did not start")?;
    for body in bodies {
        now = now.max(second(&body["created"])?) + 1;
        let at = Timestamp::from_second(now)?;
        clock.set(at);
        let body = serde_json::to_vec_pretty(body)?;
        let signature = format!("t={now},v1={}", "5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd");
        let delivery = Delivery { signature, secret: "whsec-1".to_owned(), received_at: at };
        let event = event_of(&SourceName::default(), Header::read(&body)?, delivery, body);
        log.append(Append::events(vec![event])).await?;
        clock.advance(Duration::from_secs(1));
        issuer.run_until_idle().await?;
    }
    let mut events = log.read_after(1, 10_000).await?;
    events.retain(|event| event.kind != "settings.changed");
    Ok(events)
}

impl Kind {
    /// The bodies in one API version, which may lack events that are newer.
    fn bodies(&self, version: &str) -> Result<Vec<Value>> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/testdata/stripe"));
        let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json"))?)?;
        let story = manifest["stories"].as_array().into_iter().flatten().find(|story| story["story"] == self.story);
        let steps = story.and_then(|story| story["steps"].as_array()).context("a story is missing")?;
        let mut bodies = Vec::new();
        let read = |wanted: &u64| -> Result<Option<Value>> {
            let step = steps.iter().find(|step| step["n"].as_u64() == Some(*wanted)).context("a step is missing")?;
            let Some(file) = step["files"][version].as_str() else { return Ok(None) };
            let mut body = serde_json::from_slice(&fs::read(folder.join(file))?)?;
            without_keys(&mut body);
            Ok(Some(body))
        };
        for step in self.steps {
            bodies.extend(read(step)?);
        }
        for round in 1..=self.again.0 {
            for step in self.again.1 {
                let mut body = read(step)?;
                if let Some(body) = &mut body {
                    renew(body, round);
                }
                bodies.extend(body);
            }
        }
        if self.yearly {
            let began = second(&bodies[0]["created"])? - SLACK;
            for body in &mut bodies {
                stretch(body, began);
            }
        }
        Ok(bodies)
    }
}

fn second(value: &Value) -> Result<i64> {
    value.as_i64().context("an event without its time")
}

/// Takes out keys that another system is said to have made.
fn without_keys(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(without_keys),
        Value::Object(fields) => {
            fields.remove("skm_key_id");
            fields.values_mut().for_each(without_keys);
        }
        _ => {}
    }
}

/// Makes a renewal the one that came `round` months later: with objects of its own, of the same subscription.
fn renew(value: &mut Value, round: u32) {
    match value {
        Value::String(text) if RENEWED.iter().any(|prefix| text.starts_with(prefix)) => {
            text.push('r');
            text.push_str(&round.to_string());
        }
        Value::Number(number) => {
            if let Some(at) = number.as_i64().filter(|at| TOLD.contains(at)) {
                *value = Value::from(at + MONTH * i64::from(round));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| renew(inner, round)),
        Value::Object(fields) => {
            let is_subscription = fields.get("object").is_some_and(|object| object == "subscription");
            for (name, inner) in fields {
                let stays = ["billing_cycle_anchor", "created", "start_date"].contains(&name.as_str());
                if !(is_subscription && stays) {
                    renew(inner, round);
                }
            }
        }
        _ => {}
    }
}

/// Makes years of the months since `began`.
fn stretch(value: &mut Value, began: i64) {
    match value {
        Value::Number(number) => {
            if let Some(at) = number.as_i64().filter(|at| TOLD.contains(at)) {
                let months = (at + SLACK - began).div_euclid(MONTH).max(0);
                *value = Value::from(at + months * (YEAR - MONTH));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| stretch(inner, began)),
        Value::Object(fields) => fields.values_mut().for_each(|inner| stretch(inner, began)),
        _ => {}
    }
}
