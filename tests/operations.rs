//! `docs/operations.md` against what there is: every command is one, every metric is counted, every word in quotes is
//! said by somebody, and every link leads somewhere. At night nobody has the time to find out that it is not so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use keyledger::cli::Arguments;
use keyledger::settings::{Environment, Settings};

const DOCUMENT: &str = include_str!("../docs/operations.md");
const COMPOSE: &str = include_str!("../docker-compose.yml");

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The words of every documented command, up to a remark.
fn commands() -> Vec<Vec<&'static str>> {
    let lines = DOCUMENT.lines().filter_map(|line| line.strip_prefix("$ "));
    let inline = DOCUMENT.split('`').skip(1).step_by(2).filter(|code| {
        ["keyledger ", "docker compose "].iter().any(|program| code.starts_with(program)) && !code.contains('\n')
    });
    lines.chain(inline).map(|line| line.split_whitespace().take_while(|word| *word != "#").collect()).collect()
}

/// The program's text, with literals that go on over lines put together.
fn source() -> String {
    let mut text = String::new();
    for folder in ["src", "schemas/src", "eventlog/src", "ingest/src", "issuer/src", "projector/src", "console/src"] {
        for file in rust_files(&project().join(folder)) {
            let file = fs::read_to_string(file).unwrap();
            let mut parts = file.split("\\\n");
            text.push_str(parts.next().unwrap());
            for part in parts {
                text.push_str(part.trim_start());
            }
        }
    }
    text
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
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

#[test]
fn every_command_is_understood() {
    let is_service = |name: &str| COMPOSE.lines().any(|line| line == format!("  {name}:"));
    let mut seen = 0;
    for words in commands() {
        let of_keyledger = match words.as_slice() {
            ["keyledger", ..] => words.clone(),
            ["docker", "compose", "exec", service, "keyledger", rest @ ..]
            | ["docker", "compose", "run", "--rm", service, rest @ ..] => {
                assert!(is_service(service), "{words:?}");
                [&["keyledger"], rest].concat()
            }
            ["docker", "compose", verb @ ("up" | "stop" | "restart" | "build"), rest @ ..] => {
                let services = rest.iter().filter(|word| !word.starts_with('-'));
                for service in services.map(|word| word.split('=').next().unwrap()) {
                    assert!(is_service(service), "docker compose {verb}: {service}");
                }
                continue;
            }
            ["docker", ..] => panic!("{words:?} is not checked"),
            [program, ..] if program.starts_with("./") => {
                assert!(project().join(program).exists(), "{program}");
                continue;
            }
            _ => continue,
        };
        assert!(Arguments::try_parse_from(&of_keyledger).is_ok(), "{of_keyledger:?}");
        seen += 1;
    }
    assert!(seen >= 20, "{seen}");
}

#[test]
fn every_metric_is_counted() {
    let source = source();
    let names: BTreeSet<&str> = DOCUMENT
        .split(|c: char| !c.is_ascii_lowercase() && c != '_')
        .filter(|word| word.starts_with("keyledger_"))
        .filter(|word| !["keyledger_log", "keyledger_views", "keyledger_views_rebuild"].contains(word))
        .collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
    for label in DOCUMENT.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(label, _)| label) {
        let (name, value) = label.split_once('=').unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "{label}");
        assert!(source.contains(value) || source.to_lowercase().contains(&value.replace('"', "")), "{label}");
    }
}

#[test]
fn every_word_in_quotes_is_said() {
    // A variable of a message is `…` in the document.
    let source = source();
    let quotes: Vec<String> = DOCUMENT
        .split('“')
        .skip(1)
        .filter_map(|rest| rest.split_once('”'))
        .map(|(quote, _)| quote.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert!(quotes.len() >= 10, "{quotes:?}");
    // The first one says what quotes are; PostgreSQL says another.
    for quote in quotes.iter().skip(1).filter(|quote| *quote != "No space left on device") {
        for part in quote.split('…').map(|part| part.trim_matches([' ', '`', ',', ':', ';'])) {
            assert!(source.contains(part), "nobody says `{part}` (in “{quote}”)");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let anchor = |heading: &str| -> String {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
    };
    let anchors = |text: &str| -> BTreeSet<String> {
        let headings =
            text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        headings.map(anchor).collect()
    };
    let links: Vec<&str> = DOCUMENT.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(links.len() >= 20, "{links:?}");
    for link in links {
        let (path, heading) = link.split_once('#').unwrap_or((link, ""));
        let text = if path.is_empty() {
            DOCUMENT.to_owned()
        } else {
            fs::read_to_string(project().join("docs").join(path)).unwrap_or_else(|error| panic!("{link}: {error}"))
        };
        assert!(heading.is_empty() || anchors(&text).contains(heading), "{link}");
    }
}

#[test]
fn the_settings_that_are_shown_are_settings() {
    let blocks: Vec<&str> = DOCUMENT.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "a secret").unwrap();
    for block in blocks {
        // The secrets are where this machine has them.
        let lines = block.lines().map(|line| match line.split_once("_file = ") {
            Some((name, _)) => format!("{name}_file = {secret:?}"),
            None => line.to_owned(),
        });
        let file = folder.path().join("keyledger.toml");
        fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
        Settings::load(Some(&file), &Environment::of([])).unwrap_or_else(|bad| panic!("{bad}\n{block}"));
    }
}
