//! Rebuilding: whatever the batches were, the rows are those that a replay writes.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

mod support;

use std::sync::Arc;

use keyledger_eventlog::consumer::{HandleError, Handler};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::SqlTail;
use keyledger_projector::replay::{Report, Switch, replay};
use keyledger_schemas::envelope::NewEvent;
use support::{Engine, NEW, OLD, Shuffle, World, issue_all, open, outcome, settings, settings_changed, story};

on_both! {
    batches_of_any_size_write_the_same_rows,
    every_prefix_folded_bit_by_bit_equals_its_replay,
    folding_twice_is_folding_once,
    a_replay_finds_what_someone_changed_and_puts_it_right,
    views_that_are_behind_are_compared_where_they_stand_and_then_brought_up,
    without_views_a_replay_makes_them,
    a_replay_never_stands_in_its_own_way_nor_in_a_readers,
    a_projector_goes_on_where_a_replay_put_it,
    views_that_were_deleted_are_rebuilt_as_they_were,
}

async fn compare(world: &World, name: &str, switch: Switch) -> Report {
    replay(&SqlTail::new(world.log.clone()), &world.url(name), switch, |_, _| {}).await.unwrap()
}

/// Many stories at once, in an order of their own, with licenses for what was open at some point.
async fn busy(engine: &Engine) -> World {
    let mut events: Vec<NewEvent> = ["a", "c", "d", "f", "g", "j"].iter().flat_map(|name| story(name, NEW)).collect();
    events.extend(["b", "e", "i", "k", "m", "l"].iter().flat_map(|name| story(name, OLD)));
    let events = Shuffle(7).shuffle(events);
    let (early, later) = events.split_at(events.len() / 2);
    let world = World::new(engine);
    world.append(vec![settings_changed(settings())]).await;
    world.append(early.to_vec()).await;
    issue_all(&world, &world.folded().await).await;
    world.append(later.to_vec()).await;
    world
}

async fn batches_of_any_size_write_the_same_rows(engine: Engine) {
    let world = busy(&engine).await;
    for batch in [1, 7, 256] {
        let name = format!("batch-{batch}.db");
        world.fold(&name, batch).await;
        let report = compare(&world, &name, Switch::CompareOnly).await;
        assert_eq!(report.differences, [], "batches of {batch}");
        assert_eq!(Some(report.position), report.live_position);
        assert!(report.rows["object"] > 50 && report.rows["license"] > 3 && report.rows["casefile"] > 3);
        assert!(!report.switched);
    }
}

async fn every_prefix_folded_bit_by_bit_equals_its_replay(engine: Engine) {
    let whole = busy(&engine).await;
    let all = whole.log.read_after(0, 10_000).await.unwrap();
    let again = |event: &keyledger_schemas::envelope::Recorded| NewEvent {
        id: event.id.clone(),
        kind: event.kind.clone(),
        stream: event.stream.clone(),
        occurred_at: event.occurred_at,
        actor: event.actor.clone(),
        data: event.data.clone(),
        ..settings_changed(settings())
    };
    let world = World::new(&engine);
    for (number, part) in all.chunks(37).enumerate() {
        world.append(part.iter().map(again).collect()).await;
        world.fold("views.db", [3, 256, 1][number % 3]).await;
        let report = compare(&world, "views.db", Switch::CompareOnly).await;
        assert_eq!(report.differences, [], "after {} events", (number + 1) * 37);
    }
}

async fn folding_twice_is_folding_once(engine: Engine) {
    let world = busy(&engine).await;
    let once = outcome(&world.folded().await).await;
    let twice = outcome(&world.folded().await).await;
    assert_eq!(once, twice);
}

async fn a_replay_finds_what_someone_changed_and_puts_it_right(engine: Engine) {
    let world = busy(&engine).await;
    let before = outcome(&world.folded().await).await;
    world.meddle("views.db", "update license set state = 'revoked' where id = (select min(id) from license)").await;
    world.meddle("views.db", "delete from casefile where id = (select min(id) from casefile)").await;

    let report = compare(&world, "views.db", Switch::CompareOnly).await;
    let found: Vec<_> =
        report.differences.iter().map(|d| (d.table.as_str(), d.changed, d.only_live, d.only_rebuilt)).collect();
    assert_eq!(found, [("license", 1, 0, 0), ("casefile", 0, 0, 1)]);

    let report = compare(&world, "views.db", Switch::Replace).await;
    assert!(report.switched && report.differences.len() == 2);
    assert_eq!(compare(&world, "views.db", Switch::CompareOnly).await.differences, []);
    assert_eq!(outcome(&world.views("views.db").await).await, before);
}

async fn views_that_are_behind_are_compared_where_they_stand_and_then_brought_up(engine: Engine) {
    let world = World::with(&engine, story("b", NEW)).await;
    world.folded().await.close().await;
    world.append(story("i", NEW)).await;
    let mut seen = Vec::new();
    let tail = Arc::new(SqlTail::new(world.log.clone()));
    let report =
        replay(&*tail, &world.url("views.db"), Switch::Replace, |at, head| seen.push((at, head))).await.unwrap();
    let head = world.log.head().await.unwrap().position;
    assert_eq!(report.differences, []);
    assert_eq!((report.live_position, report.position), (Some(5), head));
    assert_eq!(seen.last(), Some(&(head, head)));
    assert_eq!(open(&world.views("views.db").await).await.len(), 2);
    world.append(story("c", NEW)).await;
    assert_eq!(open(&world.folded().await).await.len(), 3);
}

async fn without_views_a_replay_makes_them(engine: Engine) {
    let world = World::with(&engine, story("b", NEW)).await;
    let report = compare(&world, "views.db", Switch::Replace).await;
    assert_eq!((report.live_position, report.switched), (None, true));
    assert_eq!(open(&world.views("views.db").await).await.len(), 1);
    assert_eq!(world.left_beside("views.db").await, Vec::<String>::new());
}

async fn a_replay_never_stands_in_its_own_way_nor_in_a_readers(engine: Engine) {
    let world = World::with(&engine, story("b", NEW)).await;
    let reader = world.folded().await;
    let rounds = if engine.is_sqlite() { 50 } else { 10 };
    for round in 0..rounds {
        if round == rounds / 2 {
            world.append(story("c", NEW)).await;
        }
        let found = replay(&SqlTail::new(world.log.clone()), &world.url("views.db"), Switch::Replace, |_, _| {}).await;
        let report = found.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        assert_eq!(report.differences, [], "round {round}");
        assert_eq!(
            open(&reader).await.len(),
            if round < rounds / 2 { 1 } else { 2 },
            "whoever reads sees the new rows"
        );
        assert_eq!(world.left_beside("views.db").await, Vec::<String>::new(), "round {round}");
    }
    reader.close().await;
}

async fn a_projector_goes_on_where_a_replay_put_it(engine: Engine) {
    let world = World::with(&engine, story("b", NEW)).await;
    let mut projector = keyledger_projector::Projector::open(&world.url("views.db")).await.unwrap();
    assert_eq!(compare(&world, "views.db", Switch::Replace).await.position, 5);
    let all = world.log.read_after(0, 100).await.unwrap();
    let stale = projector.handle(&all, keyledger_eventlog::consumer::Checkpoint::default()).await;
    assert!(matches!(stale, Err(HandleError::Moved)), "{stale:?}");
    assert_eq!(projector.checkpoint().await.unwrap().position, 5);
    projector.close().await.unwrap();
    assert_eq!(open(&world.folded().await).await.len(), 1);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_replaced_and_someone_elses_is_not() {
    let world = World::with(&Engine::Sqlite, story("b", NEW)).await;
    let file = world.folder.path().join("views.db");
    std::fs::write(&file, "not a database, and longer than the header of one".repeat(100)).unwrap();
    assert!(compare(&world, "views.db", Switch::Replace).await.switched);
    assert_eq!(open(&world.views("views.db").await).await.len(), 1);

    world.meddle("other.db", "create table theirs (id integer)").await;
    let refused = replay(&SqlTail::new(world.log.clone()), &world.url("other.db"), Switch::Replace, |_, _| {}).await;
    assert!(refused.is_err());
}

async fn views_that_were_deleted_are_rebuilt_as_they_were(engine: Engine) {
    let world = busy(&engine).await;
    let before = outcome(&world.folded().await).await;
    world.fold("kept.db", 256).await;
    world.delete("views.db").await;
    assert_eq!(outcome(&world.folded().await).await, before);
    assert_eq!(compare(&world, "views.db", Switch::Replace).await.differences, []);
    assert_eq!(compare(&world, "kept.db", Switch::CompareOnly).await.differences, []);
    assert_eq!(outcome(&world.views("views.db").await).await, before);
}
