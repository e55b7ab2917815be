//! Several real processes on one SQLite file, killed in the middle of appending.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use keyledger_eventlog::log::{Append, EventLog, Placed};
use keyledger_eventlog::sqlite::{Options, SqliteLog};
use keyledger_eventlog::testing::event;
use keyledger_eventlog::verify::verify;
use keyledger_schemas::clock::SystemClock;
use keyledger_schemas::ids::EventId;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

const ROUNDS: usize = 4;
const WRITERS: usize = 2;
const TASKS: usize = 8;

/// Acknowledged appends of each writer before it is killed. Far from the bound below, so that it dies appending.
const ACKS_BEFORE_KILL: usize = 60;

/// A writer that nobody kills ends by itself.
const APPENDS_MAX: usize = 100_000;

const PATIENCE: Duration = Duration::from_mins(1);

async fn open(path: &Path) -> SqliteLog {
    let options = Options { busy_timeout: Duration::from_secs(30), ..Options::default() };
    SqliteLog::open(path.to_str().unwrap(), Arc::new(SystemClock), options).await.unwrap()
}

/// A process that finds this file where it is started is a writer, not the test.
const MARKER: &str = "this-process-is-a-writer";

/// What the processes run that the test below starts. It is told the file and its name on standard input,
/// and says `ack <id> <position>` for every event that the log acknowledged.
async fn write_until_killed() {
    let mut input = String::new();
    std::io::stdin().read_line(&mut input).unwrap();
    let (name, path) = input.trim_end().split_once(' ').unwrap();
    let log = open(Path::new(path)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (log, name) = (log.clone(), name.to_owned());
        tasks.spawn(async move {
            for number in 0..APPENDS_MAX {
                let ids: Vec<String> = (0..=number % 3).map(|part| format!("{name}_{task}_{number}_{part}")).collect();
                let events = ids.iter().map(|id| event(id, &format!("stream_{task}"), id.repeat(50))).collect();
                let placed = log.append(Append::events(events)).await.unwrap();
                let acks: Vec<String> =
                    ids.iter().zip(placed).map(|(id, placed)| format!("\nack {id} {}\n", placed.position())).collect();
                say(&acks.concat());
                // SQLite's lock is not fair: without a gap, the other processes would wait long for their turn.
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        });
    }
    tasks.join_all().await;
}

/// In one piece, and at once: the next thing that happens may be the kill.
fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).unwrap();
    output.flush().unwrap();
}

/// Starts a writer; its acknowledgements come out of the channel until it is dead.
async fn start(name: &str, path: &Path) -> (Child, mpsc::UnboundedReceiver<(EventId, u64)>) {
    let home = path.parent().unwrap().join("writers");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join(MARKER), "").unwrap();
    let test = "writers_killed_while_appending_lose_nothing_acknowledged_and_leave_no_gap";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{name} {}\n", path.display()).as_bytes()).await.unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (sender, acks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut line = String::new();
        while output.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
            // A line that was cut off by the kill was not heard.
            if let Some(ack) = line.strip_prefix("ack ").and_then(|ack| ack.strip_suffix('\n')) {
                let (id, position) = ack.split_once(' ').unwrap();
                let _ = sender.send((EventId::from(id), position.parse().unwrap()));
            }
            line.clear();
        }
    });
    (child, acks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_killed_while_appending_lose_nothing_acknowledged_and_leave_no_gap() {
    if Path::new(MARKER).exists() {
        return write_until_killed().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let log = open(&path).await;
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            writers.push(start(&format!("r{round}w{writer}"), &path).await);
        }
        // This process writes beside them, and goes on while they die.
        for number in 0..20 {
            let id = format!("r{round}_own_{number}");
            let placed = log.append(Append::events(vec![event(&id, "own", "{}")])).await.unwrap();
            assert!(matches!(placed[0], Placed::Appended(_)));
            acknowledged.push((EventId::from(id.as_str()), placed[0].position()));
        }
        for (mut child, mut acks) in writers {
            for _ in 0..ACKS_BEFORE_KILL {
                let ack = tokio::time::timeout(PATIENCE, acks.recv()).await.expect("the writer appends");
                acknowledged.push(ack.expect("the writer lives until it is killed"));
            }
            child.kill().await.unwrap();
            while let Some(ack) = acks.recv().await {
                acknowledged.push(ack);
            }
        }
    }
    log.close().await;

    let log = open(&path).await;
    let report = verify(&log, |_| ()).await.unwrap();
    assert_eq!(report.problem, None);
    assert_eq!(report.head, log.head().await.unwrap());
    assert!(acknowledged.len() > ROUNDS * WRITERS * ACKS_BEFORE_KILL);
    for (id, position) in acknowledged {
        let found = log.find(&id).await.unwrap().unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
        assert_eq!(found.position, position);
    }
}
