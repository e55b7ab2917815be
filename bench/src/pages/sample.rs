//! What there is to ask for: things from everywhere in the lists, and the cursors that lead there.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Api;

/// The lists that are walked through.
const LISTS: [&str; 4] = ["customers", "subscriptions", "licenses", "cases"];

/// Rows on a page while they are walked through.
const ROWS: usize = 200;

/// Of so many rows, one is taken.
const APART: usize = 97;

/// Things of each list that are taken at most.
const TAKEN_MAX: usize = 400;

/// A part of what there is.
pub struct Sample {
    things: BTreeMap<&'static str, Vec<Value>>,
    counts: BTreeMap<&'static str, usize>,
    /// A cursor in the middle of each list.
    middles: BTreeMap<&'static str, String>,
    head: u64,
}

impl Sample {
    /// Walks through every list to its end.
    pub async fn take(api: &Api) -> Result<Self> {
        let head = api.get("/status").await?["log"]["position"].as_u64().context("a status without a position")?;
        let mut sample = Self { things: BTreeMap::new(), counts: BTreeMap::new(), middles: BTreeMap::new(), head };
        for list in LISTS {
            sample.walk(api, list).await?;
        }
        let events = sample.events_apart(api).await?;
        sample.things.insert("events", events);
        Ok(sample)
    }

    async fn walk(&mut self, api: &Api, list: &'static str) -> Result<()> {
        let (mut cursors, mut count, mut taken) = (Vec::new(), 0, Vec::new());
        let mut path = format!("/{list}?limit={ROWS}");
        loop {
            let mut page = api.get(&path).await?;
            for row in page["data"].as_array_mut().context("a list without data")? {
                if count % APART == 0 {
                    taken.push(row.take());
                }
                count += 1;
            }
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/{list}?limit={ROWS}&after={}", encoded(next));
            cursors.push(next.to_owned());
        }
        // From all over the list, and not its first ones.
        let step = taken.len().div_ceil(TAKEN_MAX).max(1);
        self.things.insert(list, taken.into_iter().step_by(step).collect());
        self.counts.insert(list, count);
        if let Some(middle) = cursors.get(cursors.len() / 2) {
            self.middles.insert(list, encoded(middle));
        }
        Ok(())
    }

    /// Events from everywhere in the log.
    async fn events_apart(&self, api: &Api) -> Result<Vec<Value>> {
        let mut taken = Vec::new();
        for number in 0..100 {
            let after = self.head * number / 100;
            let mut page = api.get(&format!("/events?limit=2&after={after}")).await?;
            taken.extend(page["data"].as_array_mut().into_iter().flatten().map(Value::take));
        }
        Ok(taken)
    }

    /// How many rows a list has.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 rows")]
    pub fn count(&self, list: &str) -> f64 {
        self.counts.get(list).map_or(0.0, |count| *count as f64)
    }

    /// How many events the log has.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 events")]
    pub fn events(&self) -> f64 {
        self.head as f64
    }

    /// The position in the middle of the log.
    pub fn middle_position(&self) -> u64 {
        self.head / 2
    }

    /// The cursor in the middle of a list.
    pub fn middle(&self, list: &str) -> &str {
        self.middles.get(list).map_or("", String::as_str)
    }

    /// A path for each thing of a list: `{}` stands for what a JSON pointer finds in it.
    pub fn paths(&self, list: &str, pointer: &str, path: &str) -> Vec<String> {
        let things = self.things.get(list).into_iter().flatten();
        let found = things.filter_map(|thing| thing.pointer(pointer)?.as_str());
        found.map(|found| path.replace("{}", &encoded(found))).collect()
    }

    /// As [`Self::paths`], with only the last so many characters of what is found.
    pub fn ends(&self, list: &str, pointer: &str, characters: usize, path: &str) -> Vec<String> {
        let things = self.things.get(list).into_iter().flatten();
        let found = things.filter_map(|thing| thing.pointer(pointer)?.as_str());
        let tails = found.filter_map(|found| found.get(found.len().checked_sub(characters)?..));
        tails.map(|end| path.replace("{}", &encoded(end))).collect()
    }
}

/// As a value in a query or a segment of a path.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
