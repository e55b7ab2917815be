//! What is not a whole copy of the right log is refused, and nothing of it is put back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::machine::Machine;
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};

/// A machine that sold something and was stopped, and its exported log.
async fn sold() -> (Machine, String) {
    let machine = Machine::new(Setup::default());
    let service = machine.up().await;
    service.take(&story("b").bodies(VERSIONS[0])).await;
    service.stop().await;
    let (file, _) = machine.export("log.jsonl").await;
    (machine, file.to_str().unwrap().to_owned())
}

fn log_of(machine: &Machine, name: &str) -> bool {
    machine.data_dir().join(name).exists()
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "`{word}` is not in {said}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_whole_and_sound_makes_nothing() {
    let (machine, file) = sold().await;
    machine.keep_in(&machine.sqlite("new.db"), &machine.sqlite("views.db"));
    let whole = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let last = lines.len() - 1;
    let changed = |line: usize, from: &str, to: &str| {
        assert!(lines[line].contains(from), "{}", lines[line]);
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        lines[line] = lines[line].replacen(from, to, 1);
        lines.join("\n")
    };
    let without = |line: usize| [&lines[..line], &lines[line + 1..]].concat().join("\n");
    let cases = [
        (without(last), "it was cut off"),
        (whole[..whole.len() - 90].to_owned(), "line "),
        (lines[..1].join("\n"), "line 1: nothing follows: it was cut off at position 0"),
        (without(3), "line 4: position 4 stands where 3 must be"),
        (changed(2, "\"time\":\"2", "\"time\":\"3"), "line 3: position 2 does not hang on the chain"),
        (changed(2, "\"contentsha256\":\"", "\"contentsha256\":\"f"), "line 3: it cannot be read"),
        (changed(0, "\"version\":1", "\"version\":9"), "version 9 of the format"),
        (format!("{whole}{whole}"), "there is more after the end"),
        (String::new(), "it is empty"),
        ("SQLite format 3".to_owned(), "this is no export of a log"),
    ];
    let broken = machine.beside("broken.jsonl");
    for (text, words) in cases {
        fs::write(&broken, text).unwrap();
        let said = machine.refuses(broken.to_str().unwrap()).await;
        assert_says(&said, &["nothing of ", words]);
        assert!(!log_of(&machine, "new.db"), "something was made of a file that was refused: {said}");
    }
    fs::write(&broken, [0x1f, 0x8b, 8, 0]).unwrap();
    assert_says(&machine.refuses(broken.to_str().unwrap()).await, &["it is compressed", "gzip -dc"]);
    let missing = machine.run(&["events", "import", "nowhere.jsonl"]).await;
    assert_eq!(missing.status.code(), Some(2));
    machine.import(&file).await;
}

#[tokio::test]
async fn a_copy_of_another_log_is_refused() {
    let (machine, file) = sold().await;
    let (other, theirs) = sold().await;
    let before = other.holds().await;
    assert_says(&other.refuses(&file).await, &["copy of log", "not empty", "(`log`)"]);
    assert_eq!(other.holds().await, before);
    assert_says(&machine.refuses(&theirs).await, &["copy of log"]);
}

#[tokio::test]
async fn a_log_that_went_on_otherwise_is_refused() {
    let (machine, file) = sold().await;
    machine.keep_in(&machine.sqlite("fork.db"), &machine.sqlite("fork-views.db"));
    machine.import(&file).await;
    let mut forks = Vec::new();
    for (name, letter) in [("fork", "c"), ("log", "a")] {
        machine.keep_in(&machine.sqlite(&format!("{name}.db")), &machine.sqlite(&format!("{name}-views.db")));
        let service = machine.up().await;
        service.take(&story(letter).between(VERSIONS[0], 1, 7)).await;
        service.stop().await;
        forks.push(machine.export(&format!("{name}.jsonl.2")).await.0);
    }
    let common = fs::read_to_string(&file).unwrap().lines().count() - 2;
    let before = machine.holds().await;
    let said = machine.refuses(forks[0].to_str().unwrap()).await;
    assert_says(&said, &[&format!("another event at position {}", common + 1), "went on from one copy"]);
    let fork = machine.beside("rest.jsonl");
    machine.keep_in(&machine.sqlite("fork.db"), &machine.sqlite("fork-views.db"));
    let after = (common + 2).to_string();
    machine.json(0, &["events", "export", fork.to_str().unwrap(), "--after", &after]).await;
    machine.keep_in(&machine.sqlite("log.db"), &machine.sqlite("log-views.db"));
    assert_says(&machine.refuses(fork.to_str().unwrap()).await, &[&format!("another event at position {after}")]);
    assert_eq!(machine.holds().await, before);
}

#[tokio::test]
async fn a_copy_that_begins_after_the_end_is_refused_and_says_what_to_export() {
    let (machine, _) = sold().await;
    let rest = machine.beside("rest.jsonl");
    let rest = rest.to_str().unwrap();
    machine.json(0, &["events", "export", rest, "--after", "3"]).await;
    let end = machine.holds().await["events"].to_string();
    let beyond = machine.run(&["events", "export", "beyond.jsonl", "--after", "100000"]).await;
    assert_eq!(beyond.status.code(), Some(2));
    assert_says(&String::from_utf8(beyond.stderr).unwrap(), &["the log ends at", &end]);
    let nothing = machine.beside("nothing.jsonl");
    let nothing = machine.json(0, &["events", "export", nothing.to_str().unwrap(), "--after", &end]).await;
    assert_eq!(nothing["events"], 0);

    machine.keep_in(&machine.sqlite("new.db"), &machine.sqlite("views.db"));
    assert_says(&machine.refuses(rest).await, &["begins after position 3", "`--after 0`"]);
}

#[tokio::test]
async fn a_log_in_use_is_refused() {
    let (machine, file) = sold().await;
    let service = machine.up().await;
    assert_says(&machine.refuses(&file).await, &["is in use by", "process id", "first"]);
    // Exporting beside a service is fine.
    machine.export("beside.jsonl").await;
    service.stop().await;
    machine.import(&file).await;
}

#[tokio::test]
async fn a_file_is_its_owners_alone_and_overwrites_nothing() {
    let (machine, file) = sold().await;
    let file = Path::new(&file);
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(file).unwrap();
    let again = machine.run(&["events", "export", file.to_str().unwrap()]).await;
    assert_eq!(again.status.code(), Some(2));
    assert_says(&String::from_utf8(again.stderr).unwrap(), &["exists: name a file that does not"]);
    assert_eq!(fs::read(file).unwrap(), before);
    let nowhere = machine.run(&["events", "export", "/nowhere/at/all.jsonl"]).await;
    assert_eq!(nowhere.status.code(), Some(1));
    // What a killed one left is written anew.
    fs::write(machine.beside("next.jsonl.partial"), "left over").unwrap();
    let (next, _) = machine.export("next.jsonl").await;
    assert_eq!(fs::read(&next).unwrap(), before);
    let left = fs::read_dir(machine.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains("partial")));

    let piped = machine.run(&["events", "export", "-"]).await;
    assert_eq!(piped.status.code(), Some(0));
    assert_eq!(piped.stdout, before);
    let lines = String::from_utf8(before).unwrap().lines().count();
    assert_eq!(json!(lines - 2), machine.holds().await["events"]);
}
