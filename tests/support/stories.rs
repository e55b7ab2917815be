//! Stripe's fixture stories, as they are delivered.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// The API versions that every story is told in.
pub const VERSIONS: [&str; 2] = ["2024-06-20", "2026-07-29.dahlia"];

/// One event of a story.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number, from 1.
    pub number: u64,
    /// The body, by version; an old version lacks event types that are newer.
    bodies: [Option<Vec<u8>>; 2],
}

/// What happened to one or a few customers.
#[derive(Clone, Debug)]
pub struct Story {
    /// Its letter.
    pub key: String,
    /// Its events in order.
    pub steps: Vec<Step>,
}

impl Story {
    /// Every body of one version, in order.
    pub fn bodies(&self, version: &str) -> Vec<Vec<u8>> {
        self.between(version, 1, u64::MAX)
    }

    /// The bodies of the steps `first` to `last`.
    pub fn between(&self, version: &str, first: u64, last: u64) -> Vec<Vec<u8>> {
        let column = VERSIONS.iter().position(|it| *it == version).unwrap();
        let steps = self.steps.iter().filter(|step| (first..=last).contains(&step.number));
        steps.filter_map(|step| step.bodies[column].clone()).collect()
    }

    /// Both renderings of every event, side by side.
    pub fn both_renderings(&self) -> Vec<Vec<u8>> {
        self.steps.iter().flat_map(|step| step.bodies.iter().flatten().cloned()).collect()
    }
}

/// All 14 stories.
pub fn all() -> Vec<Story> {
    let manifest: Value = serde_json::from_slice(&fs::read(fixtures().join("manifest.json")).unwrap()).unwrap();
    let stories: Vec<Story> = manifest["stories"].as_array().unwrap().iter().map(read).collect();
    assert_eq!(stories.len(), 14);
    stories
}

/// The story with this letter.
pub fn story(key: &str) -> Story {
    all().into_iter().find(|story| story.key == key).unwrap()
}

fn read(story: &Value) -> Story {
    let steps = story["steps"].as_array().unwrap().iter().map(|step| {
        let bodies = VERSIONS.map(|version| {
            let file = step["files"][version].as_str()?;
            Some(fs::read(fixtures().join(file)).unwrap())
        });
        Step { number: step["n"].as_u64().unwrap(), bodies }
    });
    Story { key: story["story"].as_str().unwrap().to_owned(), steps: steps.collect() }
}

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/testdata/stripe"))
}
