//! How engines are called: announced first, looked up before made again, and never in each other's way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyledger_eventlog::checkpoint::Cursor;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_issuer::provider::{Capabilities, Change, Create, Held, Provider, ProviderError, Target, Terms};
use keyledger_issuer::{Engines, Issuer, NAME, Options, Parts};
use keyledger_schemas::clock::{Clock, ManualClock};
use keyledger_schemas::event::{Event, RevokeRequested};
use keyledger_schemas::ids::ProviderName;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::engine::{ABLE, Call, Engine, Fault, Made};
use crate::stripe::{NOV, OCT, at, dispute, invoice_paid, line, payment_of, refund};
use crate::support::{own_event, stripe_event};
use crate::world::{World, entry, everything, unit_id};

const UNIT: &str = "sub_1/si_pro/1";
const ACTIVE: &str = "si_pro/1 active 1x until 2026-11-01, expires 2026-11-04";

fn october() -> Vec<u8> {
    invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)])
}

/// Lets the future get as far as it can within a moment of real time, then drops it where it stands.
async fn killed(future: impl Future) {
    let _ = tokio::time::timeout(Duration::from_millis(50), future).await;
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true within five seconds");
}

/// A second issuer on the same log, as another process would be.
fn parts(world: &World, holder: &str) -> Parts {
    Parts {
        log: world.bench.log.clone(),
        tail: Arc::new(keyledger_eventlog::tail::SqlTail::new(world.bench.log.clone())),
        clock: world.bench.clock.clone(),
        engines: Engines::new(world.bench.engines.clone()),
        keys: Arc::new(keyledger_engine::keys::DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])),
        holder: holder.to_owned(),
        options: Options::default(),
    }
}

#[tokio::test]
async fn a_request_stands_in_the_log_before_the_engine_is_called() {
    let mut world = World::new().await;
    world.engine.fail(Call::Find, Fault::Hangs);
    killed(Box::pin(world.bench.feed(&[october()]))).await;
    assert_eq!(world.engine.calls(), [Call::Find], "it is being called");
    assert_eq!(world.story().await, ["obligation.opened", "license.requested"]);
    let requested = &world.data("license.requested").await[0];
    assert_eq!(requested["unit"], unit_id(UNIT).to_string());
    assert_eq!((&requested["generation"], &requested["attempt"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn nobody_looks_up_or_creates_before_the_wait_is_over() {
    let settle = Duration::from_secs(5);
    let mut world = World::at_engine(Capabilities { settle, ..ABLE }).await;
    world.engine.fail(Call::Create, Fault::Hangs);
    killed(Box::pin(world.bench.feed(&[october()]))).await;
    let wait_until = &world.data("license.requested").await[0]["wait_until"];
    assert_eq!(wait_until, "2026-10-02T00:00:45Z", "four calls of ten seconds each, and the time to settle");
    world.bench.restart().await;
    world.on("2026-10-02T00:00:44Z").await;
    assert_eq!(world.engine.calls(), [Call::Find, Call::Create], "the successor waits");
    world.on("2026-10-02T00:00:45Z").await;
    assert_eq!(world.engine.calls()[2..], [Call::Find, Call::Create], "and then looks first");
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn a_create_of_unknown_outcome_is_not_looked_up_before_the_engine_has_settled() {
    let settle = Duration::from_mins(1);
    let mut world = World::at_engine(Capabilities { settle, ..ABLE }).await;
    world.engine.fail(Call::Create, Fault::AnswerLost);
    world.sees([october()]).await;
    for _ in 0..10 {
        world.bench.clock.advance(Duration::from_secs(10));
        world.settle().await;
        world.retries(UNIT).await;
    }
    assert_eq!(world.held().len(), 1, "{:?}", world.engine.calls());
    assert_eq!(world.licenses().await, [ACTIVE]);
    assert_eq!(world.data("license.issued").await[0]["found"], true);
}

#[tokio::test]
async fn who_lost_the_lease_calls_nobody_and_records_nothing() {
    let mut world = World::new().await;
    let keys = world.bench.log.head().await.unwrap();
    let successor = Issuer::start(parts(&world, "test"), &CancellationToken::new()).await.unwrap().unwrap();
    let mut replaced = std::mem::replace(&mut world.bench.issuer, successor);
    world.bench.log.append(Append::events(vec![stripe_event(&october())])).await.unwrap();
    assert!(replaced.run_until_idle().await.is_err());
    assert!(world.engine.calls().is_empty());
    assert_eq!(world.bench.log.head().await.unwrap().position, keys.position + 1);
    world.settle().await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn a_request_outlives_neither_its_lease_nor_its_wait() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    let lease = world.bench.log.state("lease", "issuer/until").await.unwrap().unwrap();
    for requested in world.data("license.requested").await {
        let wait_until = requested["wait_until"].as_str().unwrap().parse().unwrap();
        assert!(lease.due_at >= Some(wait_until));
    }
}

/// A clock that goes on whenever it is read, like a real one.
struct Moving(ManualClock);

impl Clock for Moving {
    fn now(&self) -> Timestamp {
        self.0.advance(Duration::from_millis(3));
        self.0.now()
    }
}

#[tokio::test]
async fn every_call_is_sent_although_time_passes_after_it_was_announced() {
    let keeps_customers = Capabilities { keeps_customers: true, ..ABLE };
    for able in [ABLE, keeps_customers] {
        let mut world = World::at_engine(able).await;
        let clock = Arc::new(Moving(ManualClock::at(world.bench.clock.now())));
        let parts = Parts { clock, ..parts(&world, "test") };
        let mut issuer = Issuer::start(parts, &CancellationToken::new()).await.unwrap().unwrap();
        let renewed = invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)]);
        let disputed = dispute("dp_1", "pi_1", 4900, "needs_response", "2026-11-02");
        for body in [payment_of("in_1", "pi_1", "2026-10-01"), october(), renewed, disputed] {
            world.bench.log.append(Append::events(vec![stripe_event(&body)])).await.unwrap();
            issuer.run_until_idle().await.unwrap();
        }
        assert_eq!(world.held(), ["suspended 1x, expires 2026-12-04"]);
        world.engine.left("lic_by_hand", "pro", "");
        world.bench.issuer = issuer;
        world.attaches(UNIT, "stub", "lic_by_hand").await;
        assert!(world.engine.calls().contains(&Call::Adopt));
    }
}

/// An engine during whose create a person revokes the unit.
struct Meddled {
    inner: Engine,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Provider for Meddled {
    fn name(&self) -> &ProviderName {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn find(&self, reference: &str, product: &str) -> Result<Vec<Held>, ProviderError> {
        self.inner.find(reference, product).await
    }

    async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
        let unit = unit_id(UNIT);
        let stream = unit.purchase.stream();
        let revoke = Event::RevokeRequested(RevokeRequested { unit, reason: "asked to".to_owned() });
        let event = own_event(&revoke, stream.as_str(), self.clock.now());
        self.log.append(Append::events(vec![event])).await.unwrap();
        self.inner.create(request).await
    }

    async fn change(&self, target: &Target, change: &Change) -> Result<(), ProviderError> {
        self.inner.change(target, change).await
    }
}

#[tokio::test]
async fn an_outcome_is_recorded_whatever_happened_meanwhile_and_then_it_is_decided_again() {
    let mut world = World::new().await;
    let (log, clock) = (world.bench.log.clone(), world.bench.clock.clone());
    world.bench.engines = vec![Arc::new(Meddled { inner: world.engine.clone(), log, clock })];
    world.bench.restart().await;
    world.sees([october()]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 revoked (Operator) 1x until 2026-11-01, expires 2026-11-04"]);
    assert_eq!(world.held(), ["revoked 1x, expires 2026-11-04"]);
    let kinds = world.bench.own_kinds().await;
    let place = |kind: &str| kinds.iter().position(|found| found == kind).unwrap();
    assert!(place("license.requested") < place("operator.revoke_requested"));
    assert!(place("operator.revoke_requested") < place("license.issued"));
}

#[tokio::test]
async fn a_second_license_with_our_reference_is_surplus() {
    let mut world = World::new().await;
    for id in ["lic_a", "lic_b"] {
        world.engine.put(Made {
            provider_id: id.to_owned(),
            reference: unit_id(UNIT).reference(1),
            product: "pro".to_owned(),
            terms: Terms { expires_at: None, seats: 1, features: [].into(), max_release: None },
            state: "active",
            visible_at: at("2026-01-01"),
            owner: None,
            sale: (String::new(), None),
        });
    }
    world.sees([october()]).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
    assert_eq!(world.data("license.surplus_found").await[0]["provider_id"], "lic_b");
    assert!(!world.engine.calls().contains(&Call::Create));
}

#[tokio::test]
async fn the_reference_is_written_by_the_create_call_itself() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    assert_eq!(world.engine.licenses()[0].reference, unit_id(UNIT).reference(1));
    assert_eq!(world.engine.calls(), [Call::Find, Call::Create], "no second call writes it");
}

#[tokio::test]
async fn an_engine_that_hangs_delays_neither_intake_nor_other_purchases() {
    let mapped = entry(json!({ "price": "price_slow", "provider": "slow", "product": "pro" }));
    let mut world = World::with([vec![mapped], everything()].concat()).await;
    let slow = Engine::new("slow", ABLE);
    slow.fail_all(Fault::Hangs, 100);
    world.bench.engines.push(Arc::new(slow.clone()));
    world.bench.restart().await;
    let stop = CancellationToken::new();
    let issuer = Issuer::start(parts(&world, "test"), &stop).await.unwrap().unwrap();
    let running = tokio::spawn(issuer.run(stop.clone()));
    let other = |sub: &str, name: &str| {
        let body =
            String::from_utf8(invoice_paid(&format!("in_{sub}"), "2026-10-01", &[line(name, 1, 4900, OCT)])).unwrap();
        body.replace("sub_1", sub).into_bytes()
    };
    let log = world.bench.log.clone();
    log.append(Append::events(vec![stripe_event(&other("sub_slow", "slow"))])).await.unwrap();
    eventually(async || slow.calls() == [Call::Find]).await;
    log.append(Append::events(vec![stripe_event(&other("sub_fast", "pro"))])).await.unwrap();
    eventually(async || world.held().len() == 1).await;
    eventually(async || {
        let head = log.head().await.unwrap().position;
        let read = Cursor::load(&*log, NAME).await.unwrap().checkpoint().position;
        // Its own outcomes come back to it as well.
        head == read
    })
    .await;
    assert_eq!(slow.calls(), [Call::Find], "it still hangs");
    running.abort();
}

#[tokio::test]
async fn an_engine_that_is_not_ready_is_told_of_and_stops_nobody() {
    let mut world = World::new().await;
    let engines = Engines::new(world.bench.engines.clone());
    world.engine.is_not_ready("the token may not read users");
    let stop = CancellationToken::new();
    let parts = Parts { engines: engines.clone(), ..parts(&world, "test") };
    let issuer = Issuer::start(parts, &stop).await.unwrap().unwrap();
    let running = tokio::spawn(issuer.run(stop.clone()));
    world.bench.log.append(Append::events(vec![stripe_event(&october())])).await.unwrap();
    eventually(async || world.held().len() == 1).await;
    eventually(async || engines.problems().get("stub").is_some_and(|said| said == "the token may not read users"))
        .await;
    stop.cancel();
    running.await.unwrap().unwrap();
    world.bench.restart().await;
}

#[tokio::test]
async fn one_issuer_is_active_and_a_standby_takes_over() {
    let mut world = World::new().await;
    world.sees([october()]).await;
    let stop = CancellationToken::new();
    let waiting = tokio::spawn({
        let (parts, stop) = (parts(&world, "standby"), stop.clone());
        async move { Issuer::start(parts, &stop).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "the lease is held");
    stop.cancel();
    assert!(waiting.await.unwrap().unwrap().is_none(), "told to stop while standing by");

    let lease = world.bench.log.state("lease", "issuer/until").await.unwrap().unwrap();
    world.bench.clock.set(lease.due_at.unwrap());
    let mut standby = Issuer::start(parts(&world, "standby"), &CancellationToken::new()).await.unwrap().unwrap();
    let renewed = invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)]);
    world.bench.log.append(Append::events(vec![stripe_event(&renewed)])).await.unwrap();
    assert!(world.bench.issuer.run_until_idle().await.is_err(), "the old one is out");
    standby.run_until_idle().await.unwrap();
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-12-01, expires 2026-12-04"]);
    assert_eq!(world.held().len(), 1);
}

#[tokio::test]
async fn a_refusal_parks_at_once_until_a_person_acts() {
    let mut world = World::new().await;
    world.engine.fail(Call::Create, Fault::Refused);
    world.sees([october()]).await;
    world.patience().await;
    assert_eq!(world.engine.calls(), [Call::Find, Call::Create], "asked once");
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    assert_eq!(world.due().await["sub_1"], None);
    world.retries(UNIT).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn a_refused_request_that_changes_is_a_new_one() {
    let mut world = World::new().await;
    world.engine.fail(Call::Create, Fault::Refused);
    world.sees([october()]).await;
    world.sees([invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)])]).await;
    assert_eq!(world.licenses().await, ["si_pro/1 active 1x until 2026-12-01, expires 2026-12-04"]);
}

#[tokio::test]
async fn an_engine_that_is_away_is_asked_for_ever_and_the_last_delay_repeats() {
    let mut world = World::new().await;
    world.engine.fail_all(Fault::Unavailable, 1000);
    world.sees([october()]).await;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let due = world.due().await["sub_1"].expect("it is never parked");
        waits.push(due.duration_since(world.bench.clock.now()).as_secs());
        world.bench.clock.set(due);
        world.settle().await;
    }
    assert_eq!(waits, [1, 5, 30, 120, 600, 1800, 3600, 3600, 3600, 3600, 3600, 3600]);
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    world.engine.recover();
    world.patience().await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn after_an_answer_that_was_lost_the_license_is_looked_up_and_not_made_again() {
    let mut world = World::new().await;
    world.engine.fail(Call::Create, Fault::AnswerLost);
    world.sees([october()]).await;
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    world.patience().await;
    assert_eq!(world.engine.calls(), [Call::Find, Call::Create, Call::Find, Call::Change]);
    assert_eq!((world.licenses().await, world.held().len()), (vec![ACTIVE.to_owned()], 1));
}

#[tokio::test]
async fn after_a_call_that_was_lost_it_is_made_once_nothing_is_found() {
    let mut world = World::new().await;
    world.engine.fail(Call::Create, Fault::CallLost);
    world.sees([october()]).await;
    world.patience().await;
    assert_eq!(world.engine.calls(), [Call::Find, Call::Create, Call::Find, Call::Create]);
    assert_eq!((world.licenses().await, world.held().len()), (vec![ACTIVE.to_owned()], 1));
}

#[tokio::test]
async fn look_ups_end_after_a_day_and_a_person_is_asked() {
    let mut world = World::new().await;
    (0..200).for_each(|_| world.engine.fail(Call::Create, Fault::CallLost));
    world.sees([october()]).await;
    let mut parked_after = None;
    for hours in 0..48 {
        let Some(due) = world.due().await["sub_1"] else {
            parked_after = Some(hours);
            break;
        };
        world.bench.clock.set(due.max(world.bench.clock.now().saturating_add(Duration::from_hours(1)).unwrap()));
        world.settle().await;
    }
    assert!(parked_after.is_some_and(|hours| (24..=26).contains(&hours)), "{parked_after:?}");
    world.engine.recover();
    world.retries(UNIT).await;
    world.patience().await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn a_create_in_doubt_whose_money_went_back_is_looked_up_and_the_license_revoked() {
    let mut world = World::new().await;
    world.engine.fail(Call::Create, Fault::AnswerLost);
    world.sees([october(), payment_of("in_1", "pi_1", "2026-10-01")]).await;
    world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-02")]).await;
    // Even when the first look-up does not work out either.
    world.engine.fail(Call::Find, Fault::Unavailable);
    world.patience().await;
    assert_eq!(world.held(), ["revoked 1x, expires 2026-11-04"]);
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn a_create_lost_in_a_crash_stays_in_doubt_when_the_next_look_up_fails() {
    let mut world = World::new().await;
    world.sees([payment_of("in_1", "pi_1", "2026-10-01")]).await;
    world.engine.fail(Call::Create, Fault::Hangs);
    killed(Box::pin(world.bench.feed(&[october()]))).await;
    // The engine had made it although the caller died.
    world.engine.put(Made {
        provider_id: "lic_orphan".to_owned(),
        reference: unit_id(UNIT).reference(1),
        product: "pro".to_owned(),
        terms: Terms { expires_at: None, seats: 1, features: [].into(), max_release: None },
        state: "active",
        visible_at: at("2026-01-01"),
        owner: None,
        sale: (String::new(), None),
    });
    world.bench.restart().await;
    world.engine.fail(Call::Find, Fault::Unavailable);
    world.on("2026-10-02T00:00:41Z").await;
    world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-02")]).await;
    world.patience().await;
    assert_eq!(world.engine.licenses()[0].state, "revoked", "nobody forgets that it may be there");
}

#[tokio::test]
async fn a_create_that_made_nothing_while_nothing_was_owed_is_made_when_it_is_owed_again() {
    let mut world = World::new().await;
    world.engine.fail(Call::Create, Fault::CallLost);
    world.sees([october(), payment_of("in_1", "pi_1", "2026-10-01")]).await;
    world.sees([dispute("dp_1", "pi_1", 4900, "needs_response", "2026-10-02")]).await;
    world.patience().await;
    assert_eq!((world.held().len(), world.open().await.len()), (0, 0));
    world.sees([dispute("dp_1", "pi_1", 4900, "won", "2026-10-03")]).await;
    world.patience().await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn two_revocations_that_are_refused_are_not_asked_in_turns() {
    let catalog = vec![
        entry(json!({ "price": "price_pro", "provider": "stub", "product": "pro" })),
        entry(json!({ "price": "price_max", "provider": "stub", "product": "max" })),
    ];
    let mut world = World::with(catalog).await;
    world.sees([october(), payment_of("in_1", "pi_1", "2026-10-01")]).await;
    world.engine.fail_all(Fault::Refused, 0);
    (0..50).for_each(|_| world.engine.fail(Call::Change, Fault::Refused));
    let moved = json!({ "id": "price_max", "product": "prod_max" });
    let item = crate::stripe::And::and(crate::stripe::item("pro", 1, OCT), json!({ "price": moved }));
    let moved = crate::stripe::sub("active", &[item]);
    world.sees([crate::stripe::seen("customer.subscription.updated", "2026-10-05", moved)]).await;
    world.sees([refund("re_1", "pi_1", 4900, "succeeded", "2026-10-06")]).await;
    let changes = world.engine.calls().iter().filter(|call| **call == Call::Change).count();
    assert_eq!(changes, 2, "each once");
}

#[tokio::test]
async fn a_parked_change_does_not_hold_up_another() {
    let mut world = World::new().await;
    world.sees([october(), payment_of("in_1", "pi_1", "2026-10-01")]).await;
    world.engine.fail(Call::Change, Fault::Refused);
    world.sees([invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, NOV)])]).await;
    assert_eq!(world.open().await, ["not_extended sub_1/si_pro/1"]);
    world.sees([dispute("dp_1", "pi_1", 4900, "needs_response", "2026-11-02")]).await;
    assert_eq!(world.held(), ["suspended 1x, expires 2026-11-04"]);
}
