//! What should stand in the metadata of Stripe's objects, and what is not there yet: pure.
//!
//! | object | key | value |
//! | --- | --- | --- |
//! | subscription | `skm_key_id`, `skm_key_globalid` | the first unit's license, where Cryptolens holds it |
//! | subscription | `keyledger_license_id` | the first unit's license, where another engine holds it |
//! | subscription | `skm_temp_var` | `keyledger: <cause>` while a charged key is owed and there is none |
//! | customer | `skm_customer_id` | the customer at Cryptolens |
//!
//! Only keys that differ are written; all others are the seller's. What stands there is what the newest snapshot says, and
//! over it what we wrote since. So the echo of a write differs in nothing, and a storm of changes asks for one write.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_schemas::envelope::{Recorded, derived_id};
use keyledger_schemas::event::{Event, NotDone};
use keyledger_schemas::stripe::fact::Metadata;

use crate::balance::{OpenKind, open_in};
use crate::purchase::Purchase;
use crate::purchase::desired::{self, CRYPTOLENS, Context, Desired};
use crate::purchase::owed::is_unmanaged;
use crate::purchase::state::{License, Unit};

/// Cryptolens' id of the license, unique within its product.
pub const KEY_ID: &str = "skm_key_id";
/// Cryptolens' id of the license, unique in the account.
pub const KEY_GLOBAL_ID: &str = "skm_key_globalid";
/// Our id of a license at any other engine.
pub const LICENSE_ID: &str = "keyledger_license_id";
/// The customer at Cryptolens.
pub const CUSTOMER_ID: &str = "skm_customer_id";
/// Says that a key was paid for and is not there.
pub const MARK: &str = "skm_temp_var";

/// What a mark of ours begins with.
const OUR_MARK: &str = "keyledger: ";

/// How far Stripe's clock may be from ours: a snapshot that is no more than this newer than our write may show what was
/// there before it.
const SKEW: Duration = Duration::from_mins(1);

/// How soon a value is written again that someone took away, and how often the cause in a mark is brought up to date: two
/// programs that disagree must not write against each other without end.
const AGAIN_AFTER: Duration = Duration::from_hours(1);

/// Begins a name of a license that a person gave and that is not its id within the product.
const GLOBALLY: &str = "globalId=";

/// The word by which Cryptolens' adapter names the id that is unique in the account.
const GLOBAL_ID: &str = "globalId";

/// Values to be written to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// By key; an empty value takes the key away.
    pub values: BTreeMap<String, String>,
    /// Not before this moment.
    pub due_at: Timestamp,
}

/// What our log says about writes to one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// By key: the value that was written last, and when.
    written: BTreeMap<String, (String, Timestamp)>,
    /// By key: values that were refused since the last write.
    refused: BTreeMap<String, String>,
    /// Writes and refusals so far: a new round takes a new idempotency key.
    pub rounds: usize,
}

impl Record {
    /// Reads the object's own stream of effects.
    pub fn of(events: &[Recorded]) -> Self {
        let mut record = Self::default();
        for event in events {
            match Event::decode(&event.kind, &event.data) {
                Ok(Some(Event::MetadataWritten(data))) => {
                    record.rounds += 1;
                    record.refused.clear();
                    let values = data.values.into_iter().map(|(key, value)| (key, (value, event.occurred_at)));
                    record.written.extend(values);
                }
                Ok(Some(Event::MetadataRefused(data))) => {
                    record.rounds += 1;
                    record.refused.extend(data.values);
                }
                _ => {}
            }
        }
        record
    }

    /// When these very values were written before, if they were.
    fn written_at(&self, values: &BTreeMap<String, String>) -> Option<Timestamp> {
        let times = values.iter().map(|(key, value)| {
            let (written, at) = self.written.get(key)?;
            (written == value).then_some(*at)
        });
        times.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    fn has_refused(&self, values: &BTreeMap<String, String>) -> bool {
        values.iter().all(|(key, value)| self.refused.get(key) == Some(value))
    }
}

/// The metadata of an object as we know it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// In the newest snapshot.
    pub metadata: &'a Metadata,
    /// When that was.
    pub at: Timestamp,
}

impl Known<'_> {
    /// What stands under `key` now; empty for nothing.
    fn value<'v>(&'v self, record: &'v Record, key: &str) -> &'v str {
        match record.written.get(key) {
            Some((value, at)) if self.at <= after(*at, SKEW) => value,
            _ => self.metadata.get(key).map_or("", String::as_str),
        }
    }
}

/// What is to be written to a purchase's subscription. `noticed` is when the lack of a key was first seen, if it was;
/// `mark_after` is how long it may lack one.
pub fn of_purchase(
    purchase: &Purchase,
    context: &Context,
    record: &Record,
    noticed: Option<Timestamp>,
    mark_after: Duration,
    now: Timestamp,
) -> Option<Values> {
    if !purchase.id.object.starts_with("sub_") {
        return None;
    }
    let nothing = Metadata::new();
    let known = snapshot(purchase).unwrap_or(Known { metadata: &nothing, at: Timestamp::MIN });
    let first = first_unit(purchase, context);
    let unit = first.as_ref().and_then(|desired| purchase.unit(&desired.unit.item, desired.unit.number));
    if let Some((_, license)) = unit.and_then(Unit::license) {
        let wanted = with_license(license, context, &known, record);
        return due(differing(wanted, &known, record), record, now, now);
    }
    let wanted = without_license(purchase, context, first.as_ref(), unit, &known, record);
    let earliest = match wanted.get(MARK).map(String::as_str) {
        Some("") | None => now,
        Some(_) => after(noticed.unwrap_or(now), mark_after),
    };
    due(differing(wanted, &known, record), record, earliest, now)
}

/// What is to be written to a customer, whom Cryptolens knows by `linked`.
pub fn of_customer(known: &Known<'_>, linked: &str, record: &Record, now: Timestamp) -> Option<Values> {
    let wanted = BTreeMap::from([(CUSTOMER_ID.to_owned(), linked.to_owned())]);
    due(differing(wanted, known, record), record, now, now)
}

/// The idempotency key of a write: the same values for the same object in the same round, whoever sends them.
/// `fresh` counts answers that Stripe would only repeat (it keeps failures of its own, too, for a day).
pub fn idempotency_key(object: &str, values: &BTreeMap<String, String>, round: usize, fresh: u32) -> String {
    let text: String = values.iter().map(|(key, value)| [key, "\n", value, "\n"].concat()).collect();
    format!("keyledger/metadata/{object}/{round}.{fresh}/{}", derived_id(&text, "metadata", object))
}

fn due(values: BTreeMap<String, String>, record: &Record, earliest: Timestamp, now: Timestamp) -> Option<Values> {
    if values.is_empty() || record.has_refused(&values) {
        return None;
    }
    let again = record.written_at(&values).map(|at| after(at, AGAIN_AFTER));
    // Only the cause is another one: the mark itself stands there.
    let marked = record.written.get(MARK).filter(|(value, _)| is_ours(value));
    let only_mark = values.len() == 1 && values.get(MARK).is_some_and(|value| is_ours(value));
    let changed = marked.filter(|_| only_mark).map(|(_, at)| after(*at, AGAIN_AFTER));
    let due_at = [Some(now), Some(earliest), again, changed].into_iter().flatten().max().unwrap_or(now);
    Some(Values { values, due_at })
}

fn differing(wanted: BTreeMap<String, String>, known: &Known<'_>, record: &Record) -> BTreeMap<String, String> {
    wanted.into_iter().filter(|(key, value)| known.value(record, key) != value).collect()
}

/// The metadata of the newest snapshot; without one, that which the newest paid invoice carries.
fn snapshot(purchase: &Purchase) -> Option<Known<'_>> {
    let knowledge = &purchase.knowledge;
    if let Some(current) = knowledge.subscription.current() {
        return Some(Known { metadata: &current.metadata, at: current.seen.at });
    }
    let metadata = knowledge.subscription_metadata()?;
    let at = knowledge.invoices.values().filter(|invoice| invoice.paid).map(|invoice| invoice.lines_seen.at).max()?;
    Some(Known { metadata, at })
}

/// The first unit of the purchase's first item.
fn first_unit(purchase: &Purchase, context: &Context) -> Option<Desired> {
    let units = desired::units(purchase, context).into_iter().map(|(desired, _)| desired);
    units.filter(|desired| desired.unit.number == 1).min_by(|a, b| a.unit.item.cmp(&b.unit.item))
}

fn with_license(license: &License, context: &Context, known: &Known<'_>, record: &Record) -> BTreeMap<String, String> {
    let mut wanted = BTreeMap::new();
    // What we wrote about a license that is another one by now.
    for key in [KEY_ID, KEY_GLOBAL_ID, LICENSE_ID] {
        let ours = record.written.get(key).map(|(value, _)| value.as_str());
        if ours.is_some_and(|ours| !ours.is_empty() && ours == known.value(record, key)) {
            wanted.insert(key.to_owned(), String::new());
        }
    }
    let named = || [KEY_ID, KEY_GLOBAL_ID].iter().any(|key| !known.value(record, key).is_empty());
    if license.provider.as_str() != CRYPTOLENS {
        wanted.insert(LICENSE_ID.to_owned(), license.id.to_string());
    } else if !is_unmanaged(license, context) {
        wanted.insert(KEY_ID.to_owned(), license.provider_id.clone());
        if let Some(global) = license.also.get(GLOBAL_ID) {
            wanted.insert(KEY_GLOBAL_ID.to_owned(), global.clone());
        }
    } else if named() {
        // Nobody looked it up: what names it may be either of its ids, and is left as it is.
        wanted.retain(|_, _| false);
    } else {
        let (key, id) = match license.provider_id.strip_prefix(GLOBALLY) {
            Some(global) => (KEY_GLOBAL_ID, global),
            None => (KEY_ID, license.provider_id.as_str()),
        };
        wanted.insert(key.to_owned(), id.to_owned());
    }
    if !known.value(record, MARK).is_empty() {
        wanted.insert(MARK.to_owned(), String::new());
    }
    wanted
}

fn without_license(
    purchase: &Purchase,
    context: &Context,
    first: Option<&Desired>,
    unit: Option<&Unit>,
    known: &Known<'_>,
    record: &Record,
) -> BTreeMap<String, String> {
    let subject = first.map_or_else(|| purchase.id.to_string(), |desired| desired.unit.to_string());
    let open = open_in(purchase, context);
    let lacks_key = open.iter().any(|open| open.kind == OpenKind::NoKey && open.subject == subject);
    let mark = known.value(record, MARK);
    let value = if lacks_key && (mark.is_empty() || is_ours(mark)) {
        format!("{OUR_MARK}{}", cause(first, unit))
    } else if !lacks_key && is_ours(mark) {
        String::new()
    } else {
        return BTreeMap::new();
    };
    BTreeMap::from([(MARK.to_owned(), value)])
}

fn is_ours(mark: &str) -> bool {
    mark.starts_with(OUR_MARK.trim_end())
}

/// Why there is no key, in the words that cases use.
fn cause(first: Option<&Desired>, unit: Option<&Unit>) -> &'static str {
    let Some(desired) = first else { return "waiting_for_link" };
    let last = unit.and_then(|unit| unit.not_done.iter().max_by_key(|answered| answered.asked.attempt));
    match last.map(|answered| answered.answer) {
        Some(NotDone::Refused) => "provider_refused",
        Some(NotDone::Unavailable) => "provider_unavailable",
        Some(NotDone::Indeterminate) => "indeterminate",
        None if desired.mapping.is_err() => "unmapped_price",
        None => "issuing",
    }
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}
