//! Customers at engines that keep them: found or made once, recorded, and passed on.

use std::sync::Arc;
use std::time::Duration;

use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::tail::SqlTail;
use keyledger_issuer::customer::{self, CUSTOMERS, Contact, CustomerRow};
use keyledger_issuer::provider::Capabilities;
use keyledger_issuer::{Engines, Issuer, Options, Parts};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::ids::{Mode, Scope, SourceName};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::engine::{ABLE, Call, Engine, Fault};
use crate::stripe::{And, OCT, customer as called, invoice_paid, line, payment_of, seen, session};
use crate::support::stripe_event;
use crate::world::{World, entry};

const KEEPS: Capabilities = Capabilities { keeps_customers: true, ..ABLE };
const UNIT: &str = "sub_1/si_pro/1";
const ACTIVE: &str = "si_pro/1 active 1x until 2026-11-01, expires 2026-11-04";

fn october() -> Vec<u8> {
    invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)])
}

/// The same sale in another subscription, of this customer.
fn sale(subscription: &str, customer: &str) -> Vec<u8> {
    let body = String::from_utf8(october()).unwrap();
    let body = body.replace("sub_1", subscription).replace("in_1", &format!("in_{subscription}"));
    body.replace("cus_1", customer).into_bytes()
}

fn ada() -> Vec<u8> {
    called("cus_1", Some("ada@example.com"), Some("Ada"), "2026-10-01")
}

async fn row(world: &World, customer: &str) -> CustomerRow {
    let scope = Scope::new(SourceName::default(), Mode::Live);
    customer::load(&*world.bench.log, &scope, customer).await.unwrap().unwrap().0
}

/// Another issuer on the same log, as another process would be.
fn parts(world: &World) -> Parts {
    Parts {
        log: world.bench.log.clone(),
        tail: Arc::new(SqlTail::new(world.bench.log.clone())),
        clock: world.bench.clock.clone(),
        engines: Engines::new(world.bench.engines.clone()),
        keys: Arc::new(DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])),
        holder: "test".to_owned(),
        options: Options::default(),
    }
}

#[tokio::test]
async fn a_customer_is_found_or_made_before_the_license_and_recorded_with_it() {
    let mut world = World::at_engine(KEEPS).await;
    world.sees([ada(), october()]).await;
    assert_eq!(world.engine.calls(), [Call::Find, Call::Customer, Call::Create]);
    assert_eq!(world.engine.licenses()[0].owner.as_deref(), Some("user_1"));
    let linked = &world.events("customer.linked").await[0];
    assert_eq!(linked.stream.as_str(), "customer:default:-:live:cus_1");
    let issued = &world.events("license.issued").await[0];
    assert_eq!(linked.position, issued.position + 1, "in one append");
    assert_eq!(linked.causation_id, issued.causation_id);
    let data = &world.data("customer.linked").await[0];
    assert_eq!(
        data,
        &json!({ "provider": "stub", "customer": "cus_1", "provider_customer_id": "user_1", "made": true })
    );
    assert_eq!(row(&world, "cus_1").await.linked["stub"].id, "user_1");
}

#[tokio::test]
async fn who_is_known_is_not_asked_for_again() {
    let mut world = World::at_engine(KEEPS).await;
    world.sees([ada(), october(), sale("sub_2", "cus_1")]).await;
    assert_eq!(world.engine.calls().iter().filter(|call| **call == Call::Customer).count(), 1);
    assert!(world.engine.licenses().iter().all(|made| made.owner.as_deref() == Some("user_1")));
    assert_eq!(world.data("customer.linked").await.len(), 1);
}

#[tokio::test]
async fn a_sale_before_its_customer_event_takes_name_and_address_from_the_sale() {
    let mut world = World::at_engine(KEEPS).await;
    let details = json!({ "email": "ada@example.com", "name": "Ada" });
    let sold = session("payment", "paid", 4900).and(json!({ "customer_details": details, "payment_intent": "pi_1" }));
    world.sees([seen("checkout.session.completed", "2026-10-01", sold)]).await;
    let known = world.engine.customers();
    assert_eq!((known[0].stripe.as_str(), known[0].name.as_str()), ("cus_1", "Ada"));
    assert_eq!(known[0].email.as_deref(), Some("ada@example.com"));
    assert_eq!(
        world.engine.licenses()[0].sale,
        ("cs_1".to_owned(), Some("pi_1".to_owned())),
        "and the payment is said"
    );
    assert!(row(&world, "cus_1").await.to_sync().is_empty());
    world.sees([called("cus_1", Some("ada@example.com"), Some("Ada L."), "2026-10-02")]).await;
    assert_eq!(world.engine.customers()[0].name, "Ada L.", "told later");
    assert!(row(&world, "cus_1").await.to_sync().is_empty());
    assert!(world.bench.log.state_due(CUSTOMERS, world.bench.clock.now(), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_sale_without_a_customer_is_its_own_customer() {
    let mut world = World::at_engine(KEEPS).await;
    let details = json!({ "email": "guest@example.com" });
    let sold = session("payment", "paid", 4900).and(json!({ "customer": null, "customer_details": details }));
    world.sees([seen("checkout.session.completed", "2026-10-01", sold)]).await;
    let known = world.engine.customers();
    assert_eq!(
        (known[0].stripe.as_str(), known[0].name.as_str()),
        ("cs_1", "guest"),
        "and the name is always the same"
    );
    assert_eq!(world.data("customer.linked").await[0]["customer"], "cs_1");
}

#[tokio::test]
async fn name_and_address_are_the_same_whatever_the_order() {
    let invoice = |id: &str, created: &str, name: &str| {
        let paid = crate::stripe::paid(id, created, &[line("pro", 1, 4900, OCT)]);
        let details = json!({ "customer_email": format!("{name}@example.com"), "customer_name": name });
        seen("invoice.paid", created, paid.and(details))
    };
    let bodies = [invoice("in_1", "2026-10-01", "old"), invoice("in_2", "2026-10-02", "new")];
    for order in [[0, 1], [1, 0]] {
        let mut world = World::at_engine(KEEPS).await;
        world.sees_at_once(order.map(|index: usize| bodies[index].clone())).await;
        assert_eq!(world.engine.customers()[0].name, "new");
    }
}

#[tokio::test]
async fn no_name_and_no_address_is_a_stable_name() {
    let mut world = World::at_engine(KEEPS).await;
    world.sees([october()]).await;
    assert_eq!((world.engine.customers()[0].name.as_str(), world.licenses().await), ("cus_1", vec![ACTIVE.to_owned()]));
}

#[tokio::test]
async fn two_customers_with_one_address_are_shared_where_the_engine_tells_them_apart_by_address() {
    let mut world = World::at_engine(KEEPS).await;
    world.engine.tells_apart_by_address();
    let twin = called("cus_2", Some("ada@example.com"), Some("Ada"), "2026-10-01");
    world.sees([ada(), twin.clone(), october(), sale("sub_2", "cus_2")]).await;
    let linked = world.data("customer.linked").await;
    assert_eq!((&linked[1]["customer"], &linked[1]["shared"]), (&json!("cus_2"), &json!(true)));
    assert_eq!(linked[0].get("shared"), None);
    assert_eq!(world.engine.customers().len(), 1);

    let mut world = World::at_engine(KEEPS).await;
    world.sees([ada(), twin, october(), sale("sub_2", "cus_2")]).await;
    assert_eq!(world.engine.customers().len(), 2, "two where the engine allows it");
}

#[tokio::test]
async fn a_customer_is_recorded_although_the_license_was_not_made() {
    for fault in [Fault::Refused, Fault::Unavailable, Fault::CallLost] {
        let mut world = World::at_engine(KEEPS).await;
        world.engine.fail(Call::Create, fault);
        world.sees([ada(), october()]).await;
        assert_eq!(world.data("customer.linked").await.len(), 1, "{fault:?}");
        assert_eq!(world.data("license.not_done").await.len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn no_license_is_made_while_its_customer_is_not_known() {
    for fault in [Fault::Unavailable, Fault::CallLost, Fault::AnswerLost] {
        let mut world = World::at_engine(KEEPS).await;
        world.engine.fail(Call::Customer, fault);
        world.sees([ada(), october()]).await;
        assert_eq!((world.held().len(), world.data("customer.linked").await.len()), (0, 0), "{fault:?}");
        assert_eq!(world.data("license.not_done").await[0]["answer"], "unavailable", "no license is in doubt");
        world.patience().await;
        assert_eq!(world.licenses().await, [ACTIVE]);
        assert_eq!(world.engine.customers().len(), 1, "{fault:?}: it looks before it makes");
    }
}

#[tokio::test]
async fn a_customer_who_is_refused_parks_the_license() {
    let mut world = World::at_engine(KEEPS).await;
    world.engine.fail(Call::Customer, Fault::Refused);
    world.sees([ada(), october()]).await;
    world.patience().await;
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    world.retries(UNIT).await;
    assert_eq!(world.licenses().await, [ACTIVE]);
}

#[tokio::test]
async fn a_customer_whom_the_engine_lost_is_found_or_made_anew() {
    let mut world = World::at_engine(KEEPS).await;
    world.sees([ada(), october()]).await;
    world.engine.forgets_customers();
    world.engine.fail(Call::Create, Fault::Refused);
    world.sees([sale("sub_2", "cus_1")]).await;
    assert_eq!(world.engine.customers().len(), 0, "taken as they are known");
    world.retries("sub_2/si_pro/1").await;
    assert_eq!(world.engine.customers().len(), 1);
    assert_eq!(world.held().len(), 2);
}

#[tokio::test]
async fn two_purchases_of_one_customer_worked_on_at_once_make_them_once() {
    let mut world = World::at_engine(KEEPS).await;
    world.engine.looks_slowly();
    let stop = CancellationToken::new();
    let issuer = Issuer::start(parts(&world), &stop).await.unwrap().unwrap();
    let sales = (1..=6).map(|number| stripe_event(&sale(&format!("sub_{number}"), "cus_1"))).collect();
    world.bench.log.append(Append::events(sales)).await.unwrap();
    let running = tokio::spawn(issuer.run(stop.clone()));
    for _ in 0..800 {
        if world.held().len() == 6 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(world.held().len(), 6);
    assert_eq!(world.engine.calls().iter().filter(|call| **call == Call::Customer).count(), 1);
    assert_eq!(world.data("customer.linked").await.len(), 1);
    world.bench.restart().await;
    world.settle().await;
}

/// An engine that cannot hold a license for somebody without an address.
async fn cryptlex() -> (World, Engine) {
    let mut world = World::with(vec![entry(json!({ "provider": "cryptlex", "product": "pro" }))]).await;
    let engine = Engine::new("cryptlex", KEEPS);
    world.joined_by(&engine).await;
    (world, engine)
}

#[tokio::test]
async fn without_any_address_nothing_is_asked_of_an_engine_that_needs_one() {
    let (mut world, engine) = cryptlex().await;
    world.sees([october()]).await;
    assert!(engine.calls().is_empty());
    assert_eq!(world.open().await, ["no_key sub_1/si_pro/1"]);
    assert_eq!(world.due().await["sub_1"], None, "nothing to do until one comes");
    world.sees([called("cus_1", Some(" "), Some("Ada"), "2026-10-02")]).await;
    assert!(engine.calls().is_empty(), "a blank is no address");
    world.sees([called("cus_1", Some("ada@example.com"), Some("Ada"), "2026-10-03")]).await;
    assert_eq!(engine.customers()[0].email.as_deref(), Some("ada@example.com"));
    assert_eq!(world.open().await, [""; 0]);
}

#[tokio::test]
async fn an_address_on_the_sale_itself_is_as_good() {
    let (mut world, engine) = cryptlex().await;
    let paid = crate::stripe::paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)]);
    world.sees([seen("invoice.paid", "2026-10-01", paid.and(json!({ "customer_email": "ada@example.com" })))]).await;
    assert_eq!(engine.customers()[0].email.as_deref(), Some("ada@example.com"));
}

#[tokio::test]
async fn who_has_a_license_needs_no_address_for_it_to_follow() {
    let (mut world, engine) = cryptlex().await;
    world.sees([ada(), october()]).await;
    world.sees([called("cus_1", None, Some("Ada"), "2026-10-03")]).await;
    world.sees([invoice_paid("in_2", "2026-11-01", &[line("pro", 1, 4900, crate::stripe::NOV)])]).await;
    assert_eq!(engine.licenses()[0].terms.expires_at.map(|at| at.to_string()).as_deref(), Some("2026-12-04T00:00:00Z"));
}

#[tokio::test]
async fn a_customer_s_metadata_names_them_at_cryptolens() {
    let mut world = World::with(vec![entry(json!({ "provider": "cryptolens", "product": "3349" }))]).await;
    let engine = Engine::new("cryptolens", KEEPS);
    world.joined_by(&engine).await;
    let named = json!({ "id": "cus_1", "object": "customer", "metadata": { "skm_customer_id": "4711" } });
    world.sees([seen("customer.created", "2026-10-01", named)]).await;
    assert_eq!(
        row(&world, "cus_1").await.person("cus_1", &"cryptolens".into(), &Contact::default()).named.as_deref(),
        Some("4711")
    );
    assert_eq!(row(&world, "cus_1").await.person("cus_1", &"stub".into(), &Contact::default()).named, None);
}

#[tokio::test]
async fn names_and_addresses_stand_in_no_event_of_ours() {
    let mut world = World::at_engine(KEEPS).await;
    let details = json!({ "customer_email": "ada@example.com", "customer_name": "Ada" });
    let paid = crate::stripe::paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)]).and(details);
    world.engine.fail(Call::Customer, Fault::Refused);
    world.sees([ada(), seen("invoice.paid", "2026-10-01", paid), payment_of("in_1", "pi_1", "2026-10-01")]).await;
    world.retries(UNIT).await;
    for event in world.bench.log.read_after(0, 1000).await.unwrap().iter().filter(|event| !event.is_stripe()) {
        let text = String::from_utf8_lossy(&event.data).into_owned();
        assert!(!text.contains("example.com") && !text.contains("Ada"), "{} {text}", event.kind);
    }
}

#[tokio::test]
async fn rows_of_customers_are_the_same_when_they_are_read_anew_from_the_log() {
    let mut world = World::at_engine(KEEPS).await;
    world.sees([ada(), october(), sale("sub_2", "cus_2")]).await;
    world.sees([called("cus_1", Some("ada@example.com"), Some("Ada L."), "2026-10-02")]).await;
    let rows = async |log: &dyn EventLog| {
        let rows = log.state_scan(CUSTOMERS, "", "", 100).await.unwrap();
        rows.into_iter().map(|row| (row.key, String::from_utf8(row.value).unwrap())).collect::<Vec<_>>()
    };
    let (before, calls) = (rows(&*world.bench.log).await, world.engine.calls().len());
    let anew: Arc<dyn EventLog> = Arc::new(MemoryLog::new(world.bench.clock.clone()));
    anew.restore(&world.bench.log.read_after(0, 1000).await.unwrap()).await.unwrap();
    let parts = Parts { log: anew.clone(), tail: Arc::new(SqlTail::new(anew.clone())), ..parts(&world) };
    let mut issuer = Issuer::start(parts, &CancellationToken::new()).await.unwrap().unwrap();
    issuer.run_until_idle().await.unwrap();
    assert_eq!(rows(&*anew).await, before);
    assert_eq!((before.len(), world.engine.calls().len()), (2, calls), "and nobody is called for it");
}
