//! The fixture stories as if they happened today: their dates moved, and no key of another system in their metadata.

use keyledger_schemas::clock::{Clock, SystemClock};
use serde_json::{Map, Number, Value};

use crate::support::stories::Story;

/// Numbers from here on are moments in seconds: the year 2020.
const MOMENTS: std::ops::Range<i64> = 1_577_836_800..2_208_988_800;

/// When the stories begin: 2026-07-30.
const STORIES_BEGIN: i64 = 1_785_369_600;

const DAY: i64 = 86_400;

/// The bodies of a story in one version, such that the story begins today: nothing that was paid for is over yet.
pub fn told_today(story: &Story, version: &str) -> Vec<Vec<u8>> {
    told(story, version, 0)
}

/// The same, such that the story began so many days ago.
pub fn told(story: &Story, version: &str, days_ago: i64) -> Vec<Vec<u8>> {
    let moved = ((SystemClock.now().as_second() - STORIES_BEGIN) / DAY - days_ago) * DAY;
    let told = story.bodies(version).into_iter().map(|body| {
        let mut event: Value = serde_json::from_slice(&body).unwrap();
        change(&mut event, &mut |value| later(value, moved));
        serde_json::to_vec(&event).unwrap()
    });
    told.collect()
}

/// The same bodies without the keys that another system wrote into the metadata.
pub fn without_other_keys(bodies: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    with_metadata(bodies, |metadata| {
        metadata.remove("skm_key_id");
        metadata.remove("skm_temp_var");
    })
}

/// The same bodies with all metadata changed.
pub fn with_metadata(bodies: Vec<Vec<u8>>, mut edit: impl FnMut(&mut Map<String, Value>)) -> Vec<Vec<u8>> {
    let edited = bodies.into_iter().map(|body| {
        let mut event: Value = serde_json::from_slice(&body).unwrap();
        change(&mut event, &mut |value| {
            if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
                edit(metadata);
            }
        });
        serde_json::to_vec(&event).unwrap()
    });
    edited.collect()
}

/// Visits a value and everything in it.
fn change(value: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| change(item, visit)),
        Value::Object(fields) => fields.values_mut().for_each(|field| change(field, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn later(value: &mut Value, by: i64) {
    if let Some(moment) = value.as_i64().filter(|moment| MOMENTS.contains(moment)) {
        *value = Value::Number(Number::from(moment + by));
    }
}
