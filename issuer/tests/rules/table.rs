//! `docs/rules.md` names a test for every sentence of design §5. Each of them must exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::shape::sources;

/// The folders that a test may live in, by how the table calls them.
const FOLDERS: [&str; 9] =
    ["schemas", "eventlog", "ingest", "issuer", "projector", "engine", "console", "src", "tests"];

/// The tests that the table names, e.g. `issuer::rules::time::a_license_expires_…`, with the line they are on.
fn named(table: &str) -> Vec<(usize, &str)> {
    let rows = table.lines().enumerate().filter(|(_, line)| line.starts_with("| ") && !line.starts_with("| ---"));
    rows.flat_map(|(index, line)| line.split('`').skip(1).step_by(2).map(move |name| (index + 1, name)))
        .filter(|(_, name)| name.contains("::"))
        .collect()
}

fn table() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules.md")).unwrap()
}

#[test]
fn every_test_that_the_table_names_exists() {
    let mut known: BTreeSet<(String, String)> = BTreeSet::new();
    for folder in FOLDERS.into_iter().filter(|folder| Path::new("..").join(folder).exists()) {
        for (_, text) in sources(folder) {
            let lines = text.lines().filter_map(|line| line.trim_start().split_once("fn "));
            let names = lines.filter_map(|(before, rest)| {
                let heads = before.is_empty() || before == "async " || before == "pub " || before == "pub async ";
                heads.then(|| {
                    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
                })
            });
            known.extend(names.map(|name| (folder.to_owned(), name)));
        }
    }
    let table = table();
    let named = named(&table);
    assert!(named.len() > 100, "the table names only {} tests", named.len());
    let missing: Vec<_> = named
        .into_iter()
        .filter(|(_, path)| {
            let (folder, name) =
                (path.split("::").next().unwrap_or_default(), path.rsplit("::").next().unwrap_or_default());
            !known.contains(&(folder.to_owned(), name.to_owned()))
        })
        .collect();
    assert_eq!(missing, [], "docs/rules.md names tests that do not exist");
}

#[test]
fn every_row_of_the_table_names_a_test() {
    for (index, line) in table().lines().enumerate().filter(|(_, line)| line.starts_with("| ")) {
        let heading = line.contains("| test") || line.starts_with("| ---");
        assert!(heading || line.contains("::"), "line {}: {line}", index + 1);
    }
}
