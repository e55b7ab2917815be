//! Holds the shape of the workspace: who may depend on whom (design §2), lints for all, versions in one place.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeSet;
use std::fs;

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand, Package};

/// The real servers that tests start. Any member's tests may; nothing that ships does.
const SERVERS: &str = "keyledger-test-servers";

/// Stand-ins for what we call. The executable runs them for people; any member's tests may use them, and nothing else.
const SANDBOX: &str = "keyledger-sandbox";

/// The example of a program downstream. It knows NATS and `schemas/json`, and nothing of ours; our tests run it.
const SUBSCRIBER: &str = "license-subscriber";

/// What measures the others, on real servers. Nobody depends on it.
const BENCH: &str = "keyledger-bench";

/// What fuzzers try: it holds readers of several members against checks of its own. Nobody depends on it.
const FUZZ: &str = "keyledger-fuzz-targets";

/// Who may know whom. Tests of a member obey it too.
const ALLOWED: &[(&str, &[&str])] = &[
    ("keyledger-schemas", &[]),
    ("keyledger-eventlog", &["keyledger-schemas"]),
    ("keyledger-ingest", &["keyledger-schemas", "keyledger-eventlog"]),
    ("keyledger-engine", &["keyledger-schemas", "keyledger-eventlog"]),
    ("keyledger-issuer", &["keyledger-schemas", "keyledger-eventlog", "keyledger-engine"]),
    ("keyledger-projector", &["keyledger-schemas", "keyledger-eventlog"]),
    ("keyledger-console", &["keyledger-schemas", "keyledger-eventlog", "keyledger-engine", "keyledger-projector"]),
    (
        "keyledger",
        &[
            "keyledger-schemas",
            "keyledger-eventlog",
            "keyledger-ingest",
            "keyledger-engine",
            "keyledger-issuer",
            "keyledger-projector",
            "keyledger-console",
            "keyledger-sandbox",
        ],
    ),
    (
        BENCH,
        &[
            "keyledger-schemas",
            "keyledger-eventlog",
            "keyledger-ingest",
            "keyledger-engine",
            "keyledger-issuer",
            "keyledger-projector",
            SERVERS,
        ],
    ),
    (
        FUZZ,
        &[
            "keyledger-schemas",
            "keyledger-eventlog",
            "keyledger-ingest",
            "keyledger-engine",
            "keyledger-projector",
            "keyledger-console",
            "keyledger",
        ],
    ),
    (SANDBOX, &[]),
    (SERVERS, &[]),
    (SUBSCRIBER, &[]),
];

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).no_deps().exec().unwrap()
}

/// The manifest of a member, as text.
fn manifest(package: &Package) -> String {
    fs::read_to_string(&package.manifest_path).unwrap()
}

#[test]
fn members_know_only_whom_the_design_lets_them_know() {
    let mut wrong = Vec::new();
    for package in &metadata().packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name.as_str()) else {
            wrong.push(format!("{} is not in the design", package.name));
            continue;
        };
        let ours = package.dependencies.iter().filter(|it| it.path.is_some() || it.name.starts_with("keyledger"));
        let for_tests = |it: &Dependency| {
            [SANDBOX, SERVERS, SUBSCRIBER].contains(&it.name.as_str()) && it.kind == DependencyKind::Development
        };
        for dependency in ours.filter(|it| !allowed.contains(&it.name.as_str()) && !for_tests(it)) {
            wrong.push(format!("{} may not depend on {} ({})", package.name, dependency.name, dependency.kind));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_part_of_the_design_is_there() {
    let members: BTreeSet<String> = metadata().packages.iter().map(|package| package.name.to_string()).collect();
    let designed: BTreeSet<String> = ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(members, designed);
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    for package in &metadata().packages {
        let manifest = manifest(package);
        let lints = manifest.split("[lints]").nth(1).unwrap_or_default();
        assert!(lints.trim_start().starts_with("workspace = true"), "{} has lints of its own", package.name);
    }
}

#[test]
fn every_version_stands_in_the_workspace() {
    for package in &metadata().packages {
        let manifest = manifest(package);
        for section in ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"] {
            let Some((_, rest)) = manifest.split_once(&format!("\n{section}\n")) else { continue };
            let lines = rest.lines().take_while(|line| !line.starts_with('['));
            for line in lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
                let inherits = line.contains(".workspace = true") || line.contains("workspace = true,");
                assert!(inherits, "{} pins `{line}` under {section}", package.name);
            }
        }
        assert!(!manifest.contains("dependencies."), "{}: a table per dependency hides its version", package.name);
        assert!(manifest.contains("edition.workspace = true"), "{} has an edition of its own", package.name);
    }
}

#[test]
fn no_member_reads_the_environment() {
    for package in metadata().packages.iter().filter(|package| package.name.as_str() != "keyledger") {
        let folder = package.manifest_path.parent().unwrap().join("src");
        for file in rust_files(folder.as_std_path()) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for call in ["env::var", "env::vars", "env::var_os", "env::vars_os"] {
                assert!(!code.contains(call), "{} reads the environment", file.display());
            }
        }
    }
}

fn rust_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
