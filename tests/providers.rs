//! `docs/providers.md` and `docs/migrating.md` against what there is: every command is one, every setting is one, every
//! message in quotes is said by somebody, every test that is named exists, and every link leads somewhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use keyledger::cli::Arguments;
use keyledger::settings::{Environment, Settings};

const DOCUMENTS: [&str; 2] = [include_str!("../docs/providers.md"), include_str!("../docs/migrating.md")];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// All of these folders' text, with literals that go on over lines put together.
fn text_of(folders: &[&str]) -> String {
    let mut files = Vec::new();
    for folder in folders {
        rust_files(&project().join(folder), &mut files);
    }
    let parts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    parts.map(|text| text.split("\\\n").map(str::trim_start).collect::<String>()).collect()
}

/// The words of a command line, in which text in quotes is one word, up to a remark.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in line.chars().chain([' ']) {
        match c {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            _ => word.push(c),
        }
    }
    words.into_iter().take_while(|word| word != "#").collect()
}

#[test]
fn every_command_is_understood() {
    let mut count = 0;
    for document in DOCUMENTS {
        let lines = document.lines().filter_map(|line| line.trim().strip_prefix("$ "));
        let inline = document.split('`').skip(1).step_by(2).filter(|code| code.starts_with("keyledger "));
        for command in lines.chain(inline).filter(|line| line.starts_with("keyledger ")) {
            // A verb alone may stand in a sentence, where it lacks what it needs.
            let is_whole = Arguments::try_parse_from(words(command)).is_ok();
            assert!(is_whole, "{command}");
            count += 1;
        }
    }
    assert!(count >= 25, "{count}");
}

#[test]
fn every_block_of_settings_can_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyledger.toml");
    let blocks: Vec<&str> = DOCUMENTS.iter().flat_map(|it| it.split("```toml\n").skip(1)).collect();
    assert!(blocks.len() >= 6);
    for block in blocks {
        let block = block.split("```").next().unwrap();
        fs::write(&path, block).unwrap();
        Settings::load(Some(&path), &Environment::default()).map_err(|bad| format!("{bad}\n{block}")).unwrap();
    }
}

#[test]
fn every_quoted_message_is_said_and_every_named_test_exists() {
    let source = text_of(&["src", "issuer/src", "projector/src", "console/src"]);
    let tests = text_of(&["issuer/tests"]);
    for document in DOCUMENTS {
        for quoted in document.split('“').skip(1).map(|rest| rest.split('”').next().unwrap()) {
            let said = quoted.replace("keygen can", "{name} can").replace('\n', " ");
            assert!(source.contains(&said), "nobody says “{quoted}”");
        }
        let codes = document.split('`').skip(1).step_by(2);
        for named in codes.filter(|code| code.matches('_').count() >= 5 && !code.contains(' ')) {
            assert!(tests.contains(&format!("fn {named}")), "there is no test {named}");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for document in DOCUMENTS {
        for target in document.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            assert!(project().join("docs").join(target).exists(), "{target}");
        }
    }
}
