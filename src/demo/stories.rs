//! The stories that the demo tells: made-up Stripe events, moved in time so that they have just happened.

use jiff::Timestamp;
use rust_embed::Embed;
use serde_json::Value;

/// The fixtures: one folder per story, one file per event and API version, `<type>.<version>.<story><step>.json`.
#[derive(Embed)]
#[folder = "schemas/testdata/stripe/events"]
struct Fixtures;

/// Every time in the fixtures lies between these, and no other number does: 2026-01-01 to 2029-01-01.
const EPOCH: std::ops::Range<i64> = 1_767_225_600..1_861_920_000;

/// How much later each story ends than the one before it, so that they do not all end in the same second.
const APART_S: i64 = 60;

/// One event of a story, ready to be posted.
#[derive(Clone, Debug)]
pub struct Step {
    /// The folder of the story, e.g. `g_charged_no_key`.
    pub story: String,
    /// The body.
    pub body: Vec<u8>,
}

/// All stories in one API version, in the order they happened, each ending shortly before `now`.
///
/// # Errors
///
/// When an embedded file is not what it should be; a test holds that none is.
pub fn stories(version: &str, now: Timestamp) -> anyhow::Result<Vec<Step>> {
    let mut files: Vec<(String, String, String)> = Fixtures::iter()
        .filter_map(|path| {
            let (story, file) = path.split_once('/')?;
            let (_, step) = file.strip_suffix(".json")?.split_once(&format!(".{version}."))?;
            // The last two digits count the steps; what is before them names the story.
            let step = step.get(step.len().checked_sub(2)?..)?;
            Some((story.to_owned(), step.to_owned(), path.into_owned()))
        })
        .collect();
    files.sort();
    let mut names: Vec<&str> = files.iter().map(|(story, ..)| story.as_str()).collect();
    names.dedup();
    let mut steps = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let paths = files.iter().filter(|(story, ..)| story == name).map(|(.., path)| path.as_str());
        let mut events = paths.map(read).collect::<anyhow::Result<Vec<Value>>>()?;
        let apart = i64::try_from(names.len() - index)? * APART_S;
        move_to(&mut events, now.as_second() - apart);
        for event in events {
            steps.push(Step { story: (*name).to_owned(), body: serde_json::to_vec_pretty(&event)? });
        }
    }
    Ok(steps)
}

fn read(path: &str) -> anyhow::Result<Value> {
    let file = Fixtures::get(path).ok_or_else(|| anyhow::anyhow!("{path} is not embedded"))?;
    Ok(serde_json::from_slice(&file.data)?)
}

/// Moves all times of the events so that the last event happened at `last`.
fn move_to(events: &mut [Value], last: i64) {
    let latest = events.iter().filter_map(|event| event["created"].as_i64()).max();
    let by = latest.map_or(0, |latest| last - latest);
    for event in events {
        move_by(event, by);
    }
}

fn move_by(value: &mut Value, by: i64) {
    match value {
        Value::Number(number) => {
            if let Some(at) = number.as_i64().filter(|at| EPOCH.contains(at)) {
                *value = Value::from(at + by);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| move_by(inner, by)),
        Value::Object(fields) => fields.values_mut().for_each(|inner| move_by(inner, by)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2031-05-01T12:00:00Z".parse().unwrap()
    }

    fn created(step: &Step) -> i64 {
        serde_json::from_slice::<Value>(&step.body).unwrap()["created"].as_i64().unwrap()
    }

    #[test]
    fn both_versions_of_all_stories_are_there() {
        for (version, events) in [("2024-06-20", 231), ("2026-07-29.dahlia", 249)] {
            let steps = stories(version, now()).unwrap();
            let mut names: Vec<&str> = steps.iter().map(|step| step.story.as_str()).collect();
            names.dedup();
            assert_eq!((names.len(), steps.len()), (14, events), "{version}");
        }
    }

    #[test]
    fn every_story_ends_in_the_last_quarter_of_an_hour() {
        let steps = stories("2026-07-29.dahlia", now()).unwrap();
        let lasts = steps.chunk_by(|a, b| a.story == b.story).map(|story| story.iter().map(created).max().unwrap());
        for last in lasts {
            assert!((1..=900).contains(&(now().as_second() - last)));
        }
    }

    #[test]
    fn periods_move_with_their_events() {
        let mut event =
            serde_json::json!({"created": 1_785_402_941, "period": {"end": [1_788_081_341_i64]}, "amount": 4900});
        move_by(&mut event, 100);
        assert_eq!(
            event,
            serde_json::json!({"created": 1_785_403_041, "period": {"end": [1_788_081_441_i64]}, "amount": 4900})
        );
    }
}
