//! From SQLite to PostgreSQL and back: the same log, the same licenses, and the next payment extends the same license.

use std::fs;

use keyledger_test_servers::Postgres;
use serde_json::{Value, json};

use super::machine::{Machine, Service};
use super::rows::{asked_for, assert_same_state, shown, state_in_file, state_on_server};
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};
use crate::support::stub::Stub;

/// Where the first payment of story `a` ends, where its renewal does, and where the failed one begins.
const FIRST_PAID: u64 = 12;
const RENEWED: u64 = 20;

/// A shop with a subscription that will renew, one that changes seats, a one-off sale, a refund, and a trial.
async fn sold(service: &Service) {
    let version = VERSIONS[1];
    service.take(&story("a").between(version, 1, FIRST_PAID)).await;
    service.take(&story("b").bodies(VERSIONS[0])).await;
    service.take(&story("c").between(version, 1, 7)).await;
    service.take(&story("d").between(version, 1, 19)).await;
    service.take(&story("e").bodies(version)).await;
}

/// The license of the subscription in story `a`.
async fn subscribed(service: &Service, at: &str) -> Value {
    let rows = service.list(&format!("/licenses?at={at}")).await;
    let story = story("a");
    let created: Value = serde_json::from_slice(&story.between(VERSIONS[1], 2, 2)[0]).unwrap();
    let subscription = created["data"]["object"]["id"].clone();
    let mut rows = rows.into_iter().filter(|row| row["purchase"]["stripe_id"] == subscription);
    let license = rows.next().unwrap();
    assert_eq!(rows.next(), None, "there are two");
    license
}

fn end(log: &Value) -> (Value, Value) {
    (log["events"].clone(), log["chain"].clone())
}

/// Everything on one machine, before it moves.
struct Before {
    shown: Value,
    asked: Value,
    log: Value,
}

/// Stops the service once all is done, and keeps what there is.
async fn leave(machine: &Machine, service: Service, stub: &Stub) -> Before {
    service.caught_up().await;
    let shown = shown(&service).await;
    service.stop().await;
    machine.audit().await;
    Before { shown, asked: asked_for(stub).await, log: machine.holds().await }
}

/// On the moved log all is as it was: views, engine, log.
async fn arrive(machine: &Machine, stub: &Stub, before: &Before) -> Service {
    assert_eq!(end(&machine.holds().await), end(&before.log));
    let service = machine.up().await;
    service.caught_up().await;
    assert_eq!(shown(&service).await, before.shown);
    assert_eq!(asked_for(stub).await, before.asked, "the engine was asked for what it had given");
    let checked = machine.json(0, &["check"]).await;
    assert_eq!(checked["differences"], json!([]));
    assert_eq!(end(&machine.holds().await), end(&before.log), "a start on a moved log adds nothing to it");
    service
}

#[tokio::test]
async fn a_log_moves_to_postgresql_and_back_and_the_same_license_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    let server = Postgres::start();
    let machine = Machine::new(Setup { settings: stub.settings(), ..Setup::default() });
    let service = machine.up().await;
    sold(&service).await;
    let first = subscribed(&service, "2026-01-20T00:00:00Z").await;
    let before = leave(&machine, service, &stub).await;
    let state = state_in_file(&machine, "log.db").await;
    let (file, exported) = machine.export("to-postgres.jsonl").await;
    assert_eq!((&exported["events"], &exported["chain"]), (&before.log["events"], &before.log["chain"]));

    // To a server, with the views that are there.
    machine.keep_in(&server.url(), &machine.sqlite("views.db"));
    let imported = machine.import(file.to_str().unwrap()).await;
    assert_eq!((&imported["imported"], &imported["there_already"]), (&before.log["events"], &json!(0)));
    assert_eq!(imported["log_id"], exported["log_id"]);
    let service = arrive(&machine, &stub, &before).await;

    // The next payment finds the license that was made elsewhere.
    service.take(&story("a").between(VERSIONS[1], FIRST_PAID + 1, RENEWED)).await;
    let renewed = subscribed(&service, "2026-01-20T00:00:00Z").await;
    assert_eq!((&renewed["id"], &renewed["provider_id"]), (&first["id"], &first["provider_id"]));
    assert_ne!(renewed["paid_until"], first["paid_until"]);
    let asked = asked_for(&stub).await;
    assert_eq!(asked["creates_by_reference"], before.asked["creates_by_reference"], "a license was made for a renewal");
    assert_ne!(asked["calls"]["change"], before.asked["calls"]["change"], "the engine never heard of the renewal");
    let before = leave(&machine, service, &stub).await;
    assert_ne!(state_on_server(&server).await, state);

    // Back to a file, with views that are made anew.
    let (file, _) = machine.export("to-sqlite.jsonl").await;
    machine.keep_in(&machine.sqlite("new.db"), &machine.sqlite("new-views.db"));
    machine.import(file.to_str().unwrap()).await;
    let service = arrive(&machine, &stub, &before).await;
    service.take(&story("a").between(VERSIONS[1], RENEWED + 1, 36)).await;
    service.take(&story("d").between(VERSIONS[1], 20, 28)).await;
    let asked = asked_for(&stub).await;
    assert_eq!(asked["creates_by_reference"], before.asked["creates_by_reference"]);
    leave(&machine, service, &stub).await;
    stub.stop().await;
}

#[tokio::test]
async fn what_the_issuer_knows_comes_of_the_log_alone() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    let server = Postgres::start();
    let machine = Machine::new(Setup { settings: stub.settings(), ..Setup::default() });
    let service = machine.up().await;
    sold(&service).await;
    let before = leave(&machine, service, &stub).await;
    let state = state_in_file(&machine, "log.db").await;
    assert!(state.len() > 20, "{state:#?}");
    let (file, _) = machine.export("log.jsonl").await;
    let file = file.to_str().unwrap();

    machine.keep_in(&server.url(), &machine.sqlite("views.db"));
    machine.import(file).await;
    let service = arrive(&machine, &stub, &before).await;
    service.stop().await;
    assert_same_state(&state, &state_on_server(&server).await);

    machine.keep_in(&machine.sqlite("again.db"), &machine.sqlite("views.db"));
    machine.import(file).await;
    let service = arrive(&machine, &stub, &before).await;
    service.stop().await;
    assert_same_state(&state, &state_in_file(&machine, "again.db").await);
    stub.stop().await;
}

#[tokio::test]
async fn a_copy_that_stayed_behind_takes_what_came_after_and_knows_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    let server = Postgres::start();
    let machine = Machine::new(Setup { settings: stub.settings(), ..Setup::default() });
    let service = machine.up().await;
    service.take(&story("a").between(VERSIONS[1], 1, FIRST_PAID)).await;
    let first = leave(&machine, service, &stub).await;
    let (file, _) = machine.export("first.jsonl").await;

    machine.keep_in(&server.url(), &machine.sqlite("views.db"));
    machine.import(file.to_str().unwrap()).await;
    let service = arrive(&machine, &stub, &first).await;
    service.take(&story("a").between(VERSIONS[1], FIRST_PAID + 1, 36)).await;
    service.take(&story("b").bodies(VERSIONS[0])).await;
    let then = leave(&machine, service, &stub).await;
    let rest = machine.beside("rest.jsonl");
    let (rest, after) = (rest.to_str().unwrap(), first.log["events"].to_string());
    let exported = machine.json(0, &["events", "export", rest, "--after", &after]).await;
    let new = then.log["events"].as_u64().unwrap() - first.log["events"].as_u64().unwrap();
    assert_eq!(exported["events"], new);

    // The issuer's own events come into a log where it was in the middle of things.
    machine.keep_in(&machine.sqlite("log.db"), &machine.sqlite("views.db"));
    let imported = machine.import(rest).await;
    assert_eq!((&imported["imported"], &imported["there_already"]), (&json!(new), &json!(0)));
    let service = arrive(&machine, &stub, &then).await;
    service.stop().await;
    stub.stop().await;
}

#[tokio::test]
async fn an_import_that_was_interrupted_is_begun_again() {
    let machine = Machine::new(Setup::default());
    let service = machine.up().await;
    sold(&service).await;
    service.stop().await;
    let log = machine.holds().await;
    let (file, _) = machine.export("whole.jsonl").await;
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();

    // From a pipe, what came through is put back, and what was cut off is told.
    let cut = machine.beside("cut.jsonl");
    fs::write(&cut, lines[..lines.len() / 2].join("\n") + "\n").unwrap();
    machine.keep_in(&machine.sqlite("copy.db"), &machine.sqlite("views.db"));
    let mut command = machine.command(&["events", "import", "-"]);
    let output = command.stdin(fs::File::open(&cut).unwrap()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("it was cut off at position") && said.contains("a later import goes on"), "{said}");

    let mut command = machine.command(&["events", "import", "-", "--json"]);
    let output = command.stdin(fs::File::open(&file).unwrap()).output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (there, imported) = (report["there_already"].as_u64().unwrap(), report["imported"].as_u64().unwrap());
    assert_eq!(there + imported, log["events"].as_u64().unwrap());
    assert_eq!(end(&machine.holds().await), end(&log));

    let again = machine.import(file.to_str().unwrap()).await;
    assert_eq!((&again["imported"], &again["there_already"]), (&json!(0), &log["events"]));
    let service = machine.up().await;
    service.caught_up().await;
    service.stop().await;
    machine.audit().await;
}
