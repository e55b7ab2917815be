//! Whatever a fuzzer once tried still holds: every file of every corpus goes through its target.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use keyledger_fuzz_targets::{TARGETS, Target};

/// The package that `cargo fuzz` builds.
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");

/// Bytes of all corpora together. They are read in every test, and by everybody who clones.
const CORPORA_BYTES_MAX: u64 = 300 * 1024;

macro_rules! corpora {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            try_corpus(stringify!($target));
        }
    )*

        /// Those that are tried here, one test each.
        const TRIED: &[&str] = &[$(stringify!($target)),*];
    };
}

corpora! { cursor exchange license_file license_key search settings signature_header stripe_reader }

/// Calls the target with every file of its corpus. A panic's backtrace does not say with which: this does.
#[track_caller]
fn try_corpus(name: &str) {
    let (_, target): (_, Target) = *TARGETS.iter().find(|(target, _)| *target == name).unwrap();
    let files = files(&corpus(name));
    assert!(!files.is_empty(), "fuzz/corpus/{name} is empty");
    for file in files {
        let data = fs::read(&file).unwrap();
        let tried = std::panic::catch_unwind(|| target(&data));
        assert!(tried.is_ok(), "{} does not hold", file.display());
    }
}

#[test]
fn every_target_has_a_corpus_a_dictionary_a_program_and_a_test() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let here = |folder: &str| -> BTreeSet<String> {
        let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        files(&Path::new(FUZZ).join(folder)).iter().map(stem).collect()
    };
    for folder in ["corpus", "dictionaries", "fuzz_targets"] {
        assert_eq!(here(folder), targets, "fuzz/{folder}");
    }
    assert_eq!(TRIED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), targets);
    let manifest = fs::read_to_string(Path::new(FUZZ).join("Cargo.toml")).unwrap();
    let readme = fs::read_to_string(Path::new(FUZZ).join("README.md")).unwrap();
    for name in &targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in fuzz/Cargo.toml");
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in fuzz/README.md");
    }
}

#[test]
fn the_corpora_are_small() {
    let files = TARGETS.iter().flat_map(|(name, _)| files(&corpus(name)));
    let bytes: u64 = files.map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes <= CORPORA_BYTES_MAX, "{bytes} bytes: take the least of them, `cargo fuzz cmin`");
}

fn corpus(name: &str) -> PathBuf {
    Path::new(FUZZ).join("corpus").join(name)
}

/// What lies in a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
