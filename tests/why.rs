//! `docs/why.md` against the tests: every row names at least one, and each one named exists. What we say that we do better
//! must be held by something.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = include_str!("../docs/why.md");

/// How many ways to fail the list has.
const ROWS: usize = 30;

/// The number of a row, and the tests that it names.
fn rows() -> Vec<(String, Vec<String>)> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| CX-"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let named = cells.last().unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (cells[0].trim().to_owned(), named)
    })
    .collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_rust = path.extension().is_some_and(|it| it == "rs");
        if path.is_dir() && !["target", ".git", ".tools"].contains(&name) {
            rust_files(&path, files);
        } else if is_rust {
            files.push(path);
        }
    }
}

/// The names of all functions that the test runner calls: directly, or by a macro that lists them.
fn tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(Path::new(env!("CARGO_MANIFEST_DIR")), &mut files);
    let word = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned();
    let texts = files.into_iter().map(|file| fs::read_to_string(file).unwrap()).filter(|text| text.contains("test"));
    texts.flat_map(|text| text.split("fn ").skip(1).map(word).collect::<Vec<_>>()).collect()
}

#[test]
fn every_way_to_fail_has_a_row_that_names_a_test() {
    let rows = rows();
    let numbers: Vec<String> = rows.iter().map(|(number, _)| number.clone()).collect();
    assert_eq!(numbers, (1..=ROWS).map(|number| format!("CX-{number}")).collect::<Vec<_>>());
    let unheld: Vec<&String> = rows.iter().filter(|(_, named)| named.is_empty()).map(|(number, _)| number).collect();
    assert!(unheld.is_empty(), "held by nothing: {unheld:?}");
}

#[test]
fn every_test_that_a_row_names_exists() {
    let tests = tests();
    let named =
        rows().into_iter().flat_map(|(number, named)| named.into_iter().map(move |test| (number.clone(), test)));
    let missing: Vec<_> = named.filter(|(_, test)| !tests.contains(test)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
