//! Views on a server, when things go wrong: two projectors, a server that dies, a network that is silent, a replay under
//! way, and what somebody else did to the schema.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyledger_eventlog::consumer::{Checkpoint, Consumer, HandleError, Handler, Options, STAND_BY, Step};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::SqlTail;
use keyledger_projector::read::{PageRequest, SubscriptionFilter, Views, Within};
use keyledger_projector::replay::{Switch, replay};
use keyledger_projector::{Projector, ViewsError};
use keyledger_schemas::envelope::{NewEvent, Recorded};
use keyledger_test_servers::{Link, Postgres};
use support::{Engine, NEW, OLD, World, late, open, outcome, settings, settings_changed, story};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Some stories in both versions, each `times` times over under other ids.
fn many(times: usize) -> Vec<NewEvent> {
    let once: Vec<NewEvent> = ["a", "c", "e", "h"]
        .iter()
        .flat_map(|name| [OLD, NEW].into_iter().flat_map(|version| story(name, version)))
        .collect();
    let again = |time: usize| {
        once.clone().into_iter().map(move |event| {
            let id = format!("{}#{time}", event.id);
            NewEvent { stream: format!("stripe:{id}").as_str().into(), id: id.as_str().into(), ..event }
        })
    };
    (0..times).flat_map(again).collect()
}

/// A projector that runs until it is told to stop.
async fn run(world: &World, url: &str, batch: usize, stop: &CancellationToken) -> JoinHandle<Result<(), HandleError>> {
    let projector = Projector::open(url).await.unwrap();
    let (tail, stop) = (Arc::new(SqlTail::new(world.log.clone())), stop.clone());
    tokio::spawn(async move {
        let options = Options { batch, wait: Duration::from_millis(20), ..Options::default() };
        Consumer::new(projector, tail, options).run(stop).await
    })
}

/// Waits until the views have come to the end of the log.
async fn caught_up(world: &World, views: &Views) {
    let began = Instant::now();
    loop {
        let head = world.log.head().await.unwrap().position;
        if views.status(&Within::default(), late().at).await.is_ok_and(|status| status.position == head) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the views did not catch up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn differences(world: &World, url: &str) -> Vec<keyledger_projector::replay::Difference> {
    replay(&SqlTail::new(world.log.clone()), url, Switch::CompareOnly, |_, _| {}).await.unwrap().differences
}

fn server_of(world: &World) -> &Postgres {
    match &world.engine {
        Engine::Postgres(server) => server,
        Engine::Sqlite => panic!("these views are in a file"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_projectors_fold_every_event_once() {
    let world = World::with(&Engine::postgres(), many(2)).await;
    let url = world.url("views.db");
    let stop = CancellationToken::new();
    let running = [run(&world, &url, 7, &stop).await, run(&world, &url, 5, &stop).await];
    world.append(many(3)).await;
    let views = Views::on_server(&url).unwrap();
    caught_up(&world, &views).await;
    // The one that is left goes on alone.
    let [one, other] = running;
    one.abort();
    world.append(many(4)).await;
    caught_up(&world, &views).await;
    stop.cancel();
    other.await.unwrap().unwrap();
    assert_eq!(differences(&world, &url).await, []);
}

/// A projector that always thinks it is at the beginning.
struct Late(Projector);

#[async_trait::async_trait]
impl Handler for Late {
    fn name(&self) -> &'static str {
        "late"
    }

    async fn checkpoint(&mut self) -> Result<Checkpoint, HandleError> {
        Ok(Checkpoint::default())
    }

    async fn handle(&mut self, batch: &[Recorded], from: Checkpoint) -> Result<(), HandleError> {
        self.0.handle(batch, from).await
    }

    async fn park(&mut self, event: &Recorded, reason: &str, from: Checkpoint) -> Result<(), HandleError> {
        self.0.park(event, reason, from).await
    }
}

#[tokio::test]
async fn the_projector_that_comes_second_stands_by() {
    let world = World::with(&Engine::postgres(), story("b", NEW)).await;
    let url = world.url("views.db");
    let all = world.log.read_after(0, 100).await.unwrap();
    let (mut first, mut second) = (Projector::open(&url).await.unwrap(), Projector::open(&url).await.unwrap());
    let start = first.checkpoint().await.unwrap();
    let (one, two) = tokio::join!(first.handle(&all, start), second.handle(&all, start));
    let mut moved = [one, two].into_iter().filter_map(Result::err);
    assert!(matches!(moved.next(), Some(HandleError::Moved)) && moved.next().is_none());

    // It is no failure to come second.
    let mut consumer = Consumer::new(Late(second), Arc::new(SqlTail::new(world.log.clone())), Options::default());
    for _ in 0..4 {
        assert_eq!(consumer.step().await.unwrap(), Step::Delayed(STAND_BY));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_a_projector_loses_nothing() {
    let mut server = Postgres::start();
    let url = server.url();
    let world = World::with(&Engine::Sqlite, many(2)).await;
    let stop = CancellationToken::new();
    let running = run(&world, &url, 3, &stop).await;
    let views = Views::on_server(&url).unwrap();
    for round in 3..6 {
        world.append(many(round)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.start_again();
        caught_up(&world, &views).await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(differences(&world, &url).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_heals_by_itself() {
    let world = World::with(&Engine::postgres(), many(1)).await;
    let direct = world.url("views.db");
    let link = Link::to(server_of(&world).port()).await;
    let url = direct.replace(&format!(":{}/", server_of(&world).port()), &format!(":{}/", link.port()));
    let stop = CancellationToken::new();
    let running = run(&world, &url, 3, &stop).await;
    let views = Views::on_server(&direct).unwrap();
    for round in 2..5 {
        world.append(many(round)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        link.cut();
        tokio::time::sleep(Duration::from_millis(100)).await;
        link.mend();
        caught_up(&world, &views).await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(differences(&world, &direct).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_silent_is_given_up_and_tried_again() {
    let world = World::with(&Engine::postgres(), many(1)).await;
    let direct = world.url("views.db");
    let link = Link::to(server_of(&world).port()).await;
    let url = direct.replace(&format!(":{}/", server_of(&world).port()), &format!(":{}/", link.port()));
    let stop = CancellationToken::new();
    let running = run(&world, &url, 256, &stop).await;
    let (views, through) = (Views::on_server(&direct).unwrap(), Views::on_server(&url).unwrap());
    caught_up(&world, &views).await;
    caught_up(&world, &through).await;
    link.silence();
    world.append(many(2)).await;
    // A reader is told soon; what nobody answers is no reason to hang.
    let began = Instant::now();
    assert!(through.status(&Within::default(), late().at).await.is_err());
    assert!(began.elapsed() < PATIENCE / 2);
    link.mend();
    caught_up(&world, &through).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_switches_under_readers_and_a_running_projector() {
    let world = World::with(&Engine::postgres(), many(2)).await;
    let url = world.url("views.db");
    let stop = CancellationToken::new();
    let running = run(&world, &url, 3, &stop).await;
    let views = Views::on_server(&url).unwrap();
    caught_up(&world, &views).await;
    let expected = outcome(&views).await;
    let reading = {
        let (views, stop, expected) = (views.clone(), stop.clone(), expected.clone());
        tokio::spawn(async move {
            let mut rounds = 0;
            while !stop.is_cancelled() {
                // Repeats of the same stories change nothing of what they come to.
                assert_eq!(outcome(&views).await, expected);
                rounds += 1;
            }
            rounds
        })
    };
    for round in 3..8 {
        world.append(many(round)).await;
        let report = replay(&SqlTail::new(world.log.clone()), &url, Switch::Replace, |_, _| {}).await.unwrap();
        assert!(report.switched && report.live_position.is_some());
        assert_eq!(report.differences, [], "round {round}");
        assert_eq!(world.left_beside("views.db").await, Vec::<String>::new());
        caught_up(&world, &views).await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(reading.await.unwrap() > 10);
    assert_eq!(differences(&world, &url).await, []);
}

#[tokio::test]
async fn what_a_killed_replay_left_is_removed_and_two_replays_do_not_meet() {
    let world = World::with(&Engine::postgres(), story("b", NEW)).await;
    world.folded().await.close().await;
    let left = "create schema keyledger_views_rebuild; create table keyledger_views_rebuild.view_meta (id bigint); \
        create schema keyledger_views_old; create table keyledger_views_old.object (id bigint)";
    world.meddle("views.db", left).await;
    let url = world.url("views.db");
    let tail = SqlTail::new(world.log.clone());
    let report = replay(&tail, &url, Switch::Replace, |_, _| {}).await.unwrap();
    assert!(report.switched && report.differences.is_empty());
    assert_eq!(world.left_beside("views.db").await, Vec::<String>::new());

    let mut second = None;
    let first = replay(&tail, &url, Switch::CompareOnly, |_, _| {
        second.get_or_insert_with(|| {
            let refused = std::thread::scope(|scope| {
                let other = || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(replay(&tail, &url, Switch::CompareOnly, |_, _| {}))
                };
                scope.spawn(other).join().unwrap()
            });
            format!("{:?}", refused.unwrap_err())
        });
    });
    assert_eq!(first.await.unwrap().differences, []);
    assert!(second.unwrap().contains("another replay is at work"));
}

#[tokio::test]
async fn somebody_elses_schema_is_left_alone_and_another_builds_is_made_anew() {
    let world = World::with(&Engine::postgres(), story("b", NEW)).await;
    world.meddle("theirs.db", "create schema keyledger_views; create table keyledger_views.theirs (id bigint)").await;
    let theirs = world.url("theirs.db");
    let refused = Projector::open(&theirs).await.unwrap_err();
    assert!(matches!(refused, ViewsError::Unusable { .. }), "{refused:?}");
    let tail = SqlTail::new(world.log.clone());
    assert!(replay(&tail, &theirs, Switch::Replace, |_, _| {}).await.is_err());
    world.meddle("theirs.db", "select * from theirs").await;

    let views = world.folded().await;
    world.meddle("views.db", "update view_meta set projection_version = 0; alter table object drop column facts").await;
    assert_eq!(Projector::seen(&world.url("views.db")).await.unwrap().unwrap().position, 5);
    world.fold("views.db", 256).await;
    assert_eq!(open(&views).await.len(), 1, "who had them open reads the new ones");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_processes_may_start_at_once() {
    let world = World::new(&Engine::postgres());
    let url = world.url("views.db");
    let starting: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn({
                let url = url.clone();
                async move { Projector::open(&url).await }
            })
        })
        .collect();
    for started in starting {
        started.await.unwrap().unwrap().close().await.unwrap();
    }
    assert_eq!(world.left_beside("views.db").await, Vec::<String>::new());
}

#[tokio::test]
async fn broken_views_are_known_and_put_aside() {
    let world = World::with(&Engine::postgres(), story("b", NEW)).await;
    world.folded().await.close().await;
    let url = world.url("views.db");
    world.meddle("views.db", "drop table object").await;
    let views = Views::on_server(&url).unwrap();
    let broken = views
        .subscriptions(&Within::default(), &SubscriptionFilter::default(), &PageRequest::default())
        .await
        .unwrap_err();
    assert!(broken.is_broken(), "{broken:?}");
    for _ in 0..2 {
        let aside = keyledger_projector::set_aside(&url, 1_800_000_000).await.unwrap();
        assert!(aside.starts_with("keyledger_views_broken_18000000"), "{aside}");
        assert_eq!(Projector::seen(&url).await.unwrap(), None);
        assert_eq!(open(&world.folded().await).await.len(), 1);
    }
    world.delete("views.db").await;
    assert!(keyledger_projector::set_aside(&url, 1_800_000_000).await.is_ok(), "nothing is in the way of new ones");
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_name_is_refused() {
    let world = World::new(&Engine::postgres());
    let server = server_of(&world);
    server.psql("create database narrow encoding 'LATIN1' locale 'C' template template0");
    let refused = Projector::open(&server.url_of("narrow")).await.unwrap_err();
    assert!(matches!(&refused, ViewsError::Unusable { reason } if reason.contains("LATIN1")), "{refused:?}");
}

#[tokio::test]
async fn a_schema_that_was_made_for_a_role_is_enough_for_it() {
    let world = World::with(&Engine::postgres(), story("b", NEW)).await;
    let url = world.url("views.db");
    world.meddle("views.db", "create role guest login; create schema keyledger_views authorization guest").await;
    let guest = url.replace("keyledger@", "guest@");
    let projector = Projector::open(&guest).await.unwrap();
    let tail = Arc::new(SqlTail::new(world.log.clone()));
    assert_eq!(Consumer::new(projector, tail, Options::default()).run_until_idle().await.unwrap(), Step::Idle);
    assert_eq!(open(&Views::open_read(&guest).await.unwrap()).await.len(), 1);
}

#[tokio::test]
async fn an_older_build_leaves_the_views_of_a_newer_one_alone() {
    let world = World::with(&Engine::postgres(), story("b", NEW)).await;
    let url = world.url("views.db");
    let mut running = Projector::open(&url).await.unwrap();
    let start = running.checkpoint().await.unwrap();
    let all = world.log.read_after(0, 100).await.unwrap();
    // A newer one makes the views anew while this one has them open, and its tables are others.
    world.meddle("views.db", "update view_meta set projection_version = projection_version + 1").await;
    world.meddle("views.db", "alter table object rename column facts to knowledge").await;
    for _ in 0..3 {
        let refused = running.handle(&all, start).await.unwrap_err();
        let HandleError::Retry { source, .. } = refused else { panic!("{refused:?}") };
        assert!(matches!(source.downcast_ref(), Some(ViewsError::Newer)), "{source:?}");
    }
    assert!(matches!(Projector::open(&url).await, Err(ViewsError::Newer)));
    assert_eq!(Projector::seen(&url).await.unwrap().unwrap(), start);
    // A person may go back.
    let report = replay(&SqlTail::new(world.log.clone()), &url, Switch::Replace, |_, _| {}).await.unwrap();
    assert!(report.switched);
    assert!(matches!(running.handle(&all, start).await, Err(HandleError::Moved)));
    assert_eq!(open(&Views::open_read(&url).await.unwrap()).await.len(), 1);
}

#[tokio::test]
async fn two_projectors_that_see_the_same_damage_put_it_aside_once() {
    let world = World::with(&Engine::postgres(), story("b", NEW)).await;
    let url = world.url("views.db");
    let all = world.log.read_after(0, 100).await.unwrap();
    let mut both = [Projector::open(&url).await.unwrap(), Projector::open(&url).await.unwrap()];
    world.meddle("views.db", "drop table object").await;
    let start = Checkpoint::default();
    for projector in &mut both {
        let HandleError::Retry { source, .. } = projector.handle(&all, start).await.unwrap_err() else { panic!() };
        assert!(source.downcast_ref::<ViewsError>().unwrap().is_broken());
    }
    let [first, second] = both;
    assert!(first.set_aside(1_800_000_000).await.unwrap().starts_with("keyledger_views_broken_"));
    let views = world.folded().await;
    assert!(second.set_aside(1_800_000_000).await.unwrap().starts_with("nothing"));
    assert_eq!(open(&views).await.len(), 1);
}

#[tokio::test]
async fn a_role_that_may_not_make_a_schema_is_told_what_to_grant_and_no_password_is_shown() {
    let world = World::with(&Engine::postgres(), story("b", NEW)).await;
    let url = world.url("views.db");
    world.meddle("views.db", "create role guest login password 'pa55word'").await;
    let url = url.replace("keyledger@", "guest:pa55word@");
    let refused = Projector::open(&url).await.unwrap_err();
    assert!(matches!(refused, ViewsError::Unusable { .. }), "{refused:?}");
    assert!(refused.to_string().contains("grant create on database"), "{refused}");
    let missing = Views::open_read(&url).await.unwrap_err();
    assert!(matches!(missing, ViewsError::Unusable { .. }), "{missing:?}");
    let elsewhere = Views::open_read("postgres://guest:pa55word@127.0.0.1:1/x").await.unwrap_err();
    for error in [refused, missing, elsewhere] {
        assert!(!format!("{error:?} {error}").contains("pa55word"), "{error:?}");
    }
}

#[tokio::test]
async fn names_that_only_one_engine_could_hold_stop_nothing() {
    let named = |id: &str, name: &str| {
        let body = serde_json::json!({
            "id": id, "object": "event", "type": "customer.created", "created": 1_790_000_000, "livemode": true,
            "api_version": NEW, "data": { "object": {
                "id": format!("cus_{id}"), "object": "customer", "name": name, "email": "Ä\u{0}@example.com",
                "livemode": true, "metadata": { "nul": "\u{0}" },
            } },
        });
        support::stripe(body.to_string().into_bytes())
    };
    let noise: String =
        (0_u32..20_000).filter_map(|n| char::from_u32(0x4e00 + n.wrapping_mul(2_654_435_761) % 20_000)).collect();
    let mut shown = Vec::new();
    for engine in [Engine::Sqlite, Engine::postgres()] {
        let world = World::new(&engine);
        world
            .append(vec![settings_changed(settings()), named("evt_nul", "Nul \u{0}"), named("evt_long", &noise)])
            .await;
        world.append(story("b", NEW)).await;
        let views = world.folded().await;
        assert_eq!(open(&views).await.len(), 1);
        assert_eq!(views.parked(0, 10).await.unwrap(), []);
        let customer = views.customer(&Within::default(), "cus_evt_nul", late()).await.unwrap().unwrap();
        shown.push((customer.customer.name, customer.customer.email));
    }
    assert_eq!(shown[0], shown[1]);
}

#[tokio::test]
async fn an_event_that_the_database_cannot_hold_is_set_aside_and_the_others_are_folded() {
    let mut random = support::Shuffle(1);
    let number: String =
        (0..1000).filter_map(|_| char::from_u32(0x4e00 + u32::try_from(random.below(0x5000)).unwrap())).collect();
    let invoice = serde_json::json!({
        "id": "evt_huge", "object": "event", "type": "invoice.created", "created": 1_790_000_000, "livemode": true,
        "api_version": OLD, "data": { "object": {
            "id": "in_huge", "object": "invoice", "status": "open", "number": number, "created": 1_790_000_000,
            "currency": "usd", "total": 4900, "livemode": true, "lines": { "data": [], "has_more": false },
        } },
    });
    let world = World::with(&Engine::postgres(), story("b", NEW)).await;
    world.append(vec![support::stripe(invoice.to_string().into_bytes())]).await;
    world.append(story("h", NEW)).await;
    let views = world.folded().await;
    assert_eq!(open(&views).await.len(), 2);
    let parked = views.parked(0, 10).await.unwrap();
    assert_eq!((parked.len(), parked[0].kind.as_str()), (1, "stripe.invoice.created"));
    assert!(parked[0].reason.contains("index row"), "{}", parked[0].reason);
    assert_eq!(differences(&world, &world.url("views.db")).await, []);
}
