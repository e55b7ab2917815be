//! The committed JSON Schemas say what the types say, and the golden events are valid by them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use keyledger_schemas::event::Event;
use keyledger_schemas::json::{documents, text};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder(name)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let expected: BTreeSet<_> = documents().into_iter().map(|(file, _)| file).collect();
    assert_eq!(
        files("json"),
        expected,
        "run `cargo run -- schemas --export schemas/json`, and delete files of old names"
    );
    for (file, document) in documents() {
        let committed = fs::read_to_string(folder("json").join(&file)).unwrap();
        assert_eq!(committed, text(&document), "{file}: run `cargo run -- schemas --export schemas/json`");
    }
}

#[test]
fn every_kind_of_event_has_a_golden_file() {
    let kinds: BTreeSet<_> = Event::KINDS.iter().map(|kind| format!("{kind}.v1.json")).collect();
    assert_eq!(files("testdata/events"), kinds);
}

#[test]
fn golden_events_decode_to_what_they_say_and_are_valid_by_their_schema() {
    for (file, document) in documents() {
        let Some(kind) = Event::KINDS.iter().find(|kind| file == format!("{kind}.json")) else { continue };
        let golden = fs::read(folder("testdata/events").join(format!("{kind}.v1.json"))).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&golden).unwrap();
        let event = Event::decode(kind, &golden).unwrap().unwrap();
        let again: serde_json::Value = serde_json::from_slice(&event.encode()).unwrap();
        assert_eq!(again, value, "{kind}: reading it back loses or adds something");
        let validator = jsonschema::validator_for(&document).unwrap();
        let problems: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(problems, Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn a_kind_of_a_newer_build_is_passed_over_and_damaged_data_is_an_error() {
    assert!(Event::decode("license.painted", b"{}").unwrap().is_none());
    assert!(Event::decode("stripe.invoice.paid", b"{}").unwrap().is_none());
    assert!(Event::decode("license.issued", b"{}").is_err());
}
