//! Power cuts under load: nothing that was acknowledged is lost. Where nothing is synced, it is: that is the control.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::machine::{Engine, Machine};
use super::post::Post;
use crate::support::histories::histories;
use crate::support::random::Random;
use crate::support::sold::{issued_once, one_each, settled};
use crate::support::wait::{PATIENCE, until};

const ROUNDS: u64 = 8;

/// How long a machine works before its power goes, in milliseconds.
const WORKS_MS: std::ops::Range<u64> = 30..700;

/// How many customers there are: more than are served until the last cut.
const CUSTOMERS: usize = 2000;

/// So many of them buy only after the last cut.
const LATE: usize = 200;

/// How many machines lose power while they start for the first time, and how long after it began, in milliseconds.
const FIRST_STARTS: usize = 12;
const STARTS_MS: std::ops::Range<u64> = 1..250;

const CONTROL_ROUNDS: u64 = 3;

/// In the place of the C library's, so that nothing is ever flushed.
const NEVER_SYNC: &str = "int fsync(int file) { (void)file; return 0; }\n\
     int fdatasync(int file) { (void)file; return 0; }\n";

/// Lets the machine work, cuts its power, and starts it again. Says how many were acknowledged, and which were lost.
async fn round(machine: &mut Machine, post: &Post, unsynced: Option<&Unsynced>, random: &mut Random) -> Outcome {
    machine.boot(&[]);
    let before = machine.disk().flushes();
    let service = machine.up(unsynced.map(|unsynced| &unsynced.library)).await;
    let client = service.client.clone();
    if unsynced.is_some() {
        post.one(&client).await;
        begin_without_sync(machine).await;
    }
    let known = post.acknowledged().len();
    let works = Duration::from_millis(random.within(WORKS_MS));
    let cut = async {
        tokio::time::sleep(works).await;
        // In this order: what is acknowledged after this does not count, and may be on the disk all the same.
        let acknowledged = post.acknowledged();
        let left = machine.cut(random);
        let flushes = machine.disk().flushes() - before;
        machine.fall(service, left).await;
        (acknowledged, flushes)
    };
    let ((acknowledged, flushes), ()) = tokio::join!(cut, post.deliver(&client));
    post.back_to(&acknowledged);
    // What the server was told for its last hour does not hold for its next.
    machine.boot(&["fsync=on"]);
    let kept = machine.events().await;
    let lost: Vec<String> = acknowledged.difference(&kept).cloned().collect();
    eprintln!(
        "{works:?}: {} acknowledged, {flushes} flushes, {} events kept, {} lost",
        acknowledged.len() - known,
        kept.len(),
        lost.len()
    );
    Outcome { acknowledged: acknowledged.len() - known, kept: kept.len(), lost }
}

struct Outcome {
    /// In this round.
    acknowledged: usize,
    /// In the log.
    kept: usize,
    /// In this round and the ones before it.
    lost: Vec<String>,
}

async fn nothing_is_lost(engine: Engine, seed: u64) {
    let histories = histories(CUSTOMERS);
    let (late, others) = histories.split_at(LATE);
    let post = Post::of(others);
    let mut machine = Machine::new(engine);
    let mut random = Random::new(seed);
    let mut acknowledged = 0;
    for number in 0..ROUNDS {
        let outcome = round(&mut machine, &post, None, &mut random).await;
        assert_eq!(outcome.lost, Vec::<String>::new(), "lost in round {number} of seed {seed}");
        machine.is_sound().await;
        acknowledged += outcome.acknowledged;
    }
    assert!(acknowledged > 100, "only {acknowledged} were acknowledged: the test proves little");
    assert!(post.waiting() > 0, "there was no load at the end");

    // It is as good as new: the rest is delivered, and what is sold is sold once.
    let service = machine.up(None).await;
    service.shows().await;
    post.deliver(&service.client).await;
    let rest = Post::of(late);
    rest.deliver(&service.client).await;
    assert_eq!((post.waiting(), rest.waiting()), (0, 0));
    settled(&service.client, &histories).await;
    let licenses = one_each(&service.client, &histories).await;
    issued_once(&service.client, licenses.len()).await;
    machine.finish(service).await;
}

/// How to keep a machine's processes from flushing.
struct Unsynced {
    library: PathBuf,
    _folder: TempDir,
}

impl Unsynced {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("never_sync.c"), folder.path().join("never_sync.so"));
        fs::write(&source, NEVER_SYNC).unwrap();
        compile(&source, &library);
        Self { library, _folder: folder }
    }
}

/// From here on nothing is flushed; what was there until now is.
async fn begin_without_sync(machine: &Machine) {
    if let Some(server) = machine.postgres() {
        server.psql("alter system set fsync = off");
        server.psql("select pg_reload_conf()");
        until("fsync = off", PATIENCE, async || match server.psql("show fsync").as_str() {
            "off" => Ok(()),
            other => Err(other.to_owned()),
        })
        .await;
    }
    machine.disk().sync();
}

fn compile(source: &Path, library: &Path) {
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(library).arg(source).status().unwrap();
    assert!(compiled.success(), "a C compiler is needed: `make needs`");
}

/// The same runs, but that nothing is flushed: then the same check must find that acknowledged events are lost.
async fn loss_is_noticed(engine: Engine, seed: u64) {
    let unsynced = Unsynced::new();
    let histories = histories(CUSTOMERS);
    let mut random = Random::new(seed);
    let mut lost = 0;
    for _ in 0..CONTROL_ROUNDS {
        let post = Post::of(&histories);
        let mut machine = Machine::new(engine);
        let outcome = round(&mut machine, &post, Some(&unsynced), &mut random).await;
        assert!(outcome.acknowledged > 0, "nothing was acknowledged: the control proves nothing");
        assert!(outcome.kept > 0, "what was synced in time is lost too: the log cannot be read at all");
        lost += outcome.lost.len();
    }
    assert!(lost > 0, "nothing was flushed and nothing was lost: these power cuts are none");
}

#[tokio::test]
#[ignore = "needs root: `make test-power`"]
async fn what_was_acknowledged_on_sqlite_survives_power_cuts() {
    nothing_is_lost(Engine::Sqlite, 11).await;
}

#[tokio::test]
#[ignore = "needs root: `make test-power`"]
async fn what_was_acknowledged_on_postgresql_survives_power_cuts() {
    nothing_is_lost(Engine::Postgres, 12).await;
}

#[tokio::test]
#[ignore = "needs root: `make test-power`"]
async fn a_power_cut_at_the_very_first_start_is_in_nobodys_way() {
    let histories = histories(1);
    let mut random = Random::new(15);
    for _ in 0..FIRST_STARTS {
        let mut machine = Machine::new(Engine::Sqlite);
        machine.boot(&[]);
        let mut starting = machine.starting();
        let cut_after = Duration::from_millis(random.within(STARTS_MS));
        tokio::time::sleep(cut_after).await;
        let left = machine.cut(&mut random);
        starting.kill().await.unwrap();
        machine.stand_on(left);
        eprintln!("{cut_after:?}");
        let service = machine.up(None).await;
        Post::of(&histories).deliver(&service.client).await;
        service.shows().await;
        settled(&service.client, &histories).await;
        machine.finish(service).await;
    }
}

#[tokio::test]
#[ignore = "needs root: `make test-power`"]
async fn on_sqlite_that_never_syncs_the_same_cuts_lose_what_was_acknowledged() {
    loss_is_noticed(Engine::Sqlite, 13).await;
}

#[tokio::test]
#[ignore = "needs root: `make test-power`"]
async fn on_postgresql_that_never_syncs_the_same_cuts_lose_what_was_acknowledged() {
    loss_is_noticed(Engine::Postgres, 14).await;
}
