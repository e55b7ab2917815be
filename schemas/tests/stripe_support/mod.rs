//! The fixture stories, as the tests of this crate read them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// The older of the two renderings.
pub const OLD: &str = "2024-06-20";
/// The newer of the two renderings.
pub const NEW: &str = "2026-07-29.dahlia";

/// The table of contents of the fixtures.
#[derive(Deserialize)]
pub struct Manifest {
    pub stories: Vec<Story>,
}

/// What happens to one buyer, or to a few.
#[derive(Deserialize)]
pub struct Story {
    pub story: String,
    pub name: String,
    pub steps: Vec<Step>,
}

/// One event of a story, in one or both renderings.
#[derive(Deserialize)]
pub struct Step {
    pub n: u32,
    #[serde(rename = "type")]
    pub kind: String,
    pub event_id: String,
    pub created: i64,
    pub only_in: Option<String>,
    pub files: BTreeMap<String, String>,
}

impl Step {
    /// The body in `version`, if Stripe sends this event there.
    pub fn body(&self, version: &str) -> Option<Vec<u8>> {
        self.files.get(version).map(|file| read(file))
    }
}

/// Every story.
pub fn stories() -> Vec<Story> {
    let manifest: Manifest = serde_json::from_slice(&read("manifest.json")).unwrap();
    manifest.stories
}

/// Every event body of every story, with its file's name.
pub fn bodies() -> Vec<(String, Vec<u8>)> {
    let files = stories().into_iter().flat_map(|story| story.steps).flat_map(|step| step.files.into_values());
    files.map(|file| (file.clone(), read(&file))).collect()
}

/// The bytes of one fixture file.
pub fn read(file: &str) -> Vec<u8> {
    let path = folder().join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where the fixtures are.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/stripe")
}
