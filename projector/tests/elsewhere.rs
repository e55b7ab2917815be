//! What is known of other systems: ids at engines, customers there, prices that nothing maps, and what Stripe refused.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

mod support;

use keyledger_eventlog::tail::SqlTail;
use keyledger_projector::read::{
    Case, CaseFilter, CaseStatus, LicenseFilter, PageRequest, Term, UnmappedPrice, Views, Within,
};
use keyledger_projector::replay::{Switch, replay};
use keyledger_schemas::envelope::NewEvent;
use keyledger_schemas::event::{
    CustomerLinked, CustomerSynced, Event, FetchRefused, LicenseIssued, LicenseTerms, MetadataRefused, MetadataWritten,
    ReconcileCompleted,
};
use keyledger_schemas::ids::PurchaseId;
use keyledger_schemas::settings::DecidingSettings;
use serde_json::{Value, json};
use support::{Engine, NEW, World, at, late, open, own, scope, settings, settings_changed, story, stripe};

on_both! {
    a_license_is_found_by_every_id_that_its_engine_has_for_it,
    customers_that_share_one_at_an_engine_are_shown_with_each_other,
    prices_that_were_paid_for_and_mean_nothing_are_listed_with_their_money,
    what_stripe_did_not_take_is_a_case_until_it_does,
    what_stripe_does_not_show_is_a_case_once,
    the_last_comparison_with_stripe_is_shown,
    an_address_that_arrives_later_ends_the_wait_for_one,
    batches_of_any_size_write_the_same_rows_about_other_systems,
}

const ALL: PageRequest = PageRequest { limit: 200, after: None };

/// The customer and the subscription of story h.
const CUSTOMER: &str = "cus_l1lGR35zAf0GJh";
const SUBSCRIPTION: &str = "sub_17SKsKB7WZ01zgkWTBlUjnj3";

async fn of_kind(views: &Views, kind: &str) -> Vec<Case> {
    let filter = CaseFilter { kind: Some(kind.to_owned()), ..CaseFilter::default() };
    views.cases(&Within::default(), &filter, late(), &ALL).await.unwrap().data
}

fn noon(day: u32) -> jiff::Timestamp {
    at(&format!("2026-11-{day:02}T12:00:00Z"))
}

fn linked(customer: &str, id: &str, made: bool) -> NewEvent {
    let event = Event::CustomerLinked(CustomerLinked {
        provider: "cryptolens".into(),
        customer: customer.to_owned(),
        provider_customer_id: id.to_owned(),
        made,
        shared: !made,
    });
    own(&format!("linked-{customer}-{id}"), &event, noon(1))
}

async fn a_license_is_found_by_every_id_that_its_engine_has_for_it(engine: Engine) {
    let world = World::with(&engine, story("h", NEW)).await;
    let unit = world.folded().await.open_obligations(&Within::default()).await.unwrap().remove(0).unit.unwrap();
    let issued = Event::LicenseIssued(LicenseIssued {
        generation: 1,
        license: unit.license(1),
        provider: "cryptolens".into(),
        provider_id: "2".to_owned(),
        product: "3349".to_owned(),
        key: None,
        terms: LicenseTerms { paid_until: None, expires_at: None, seats: 1, features: [].into() },
        found: false,
        also: [("globalId".to_owned(), "812345".to_owned())].into(),
        unit: unit.clone(),
    });
    world.append(vec![own("issued", &issued, noon(1))]).await;
    let views = world.folded().await;
    for id in ["2", "812345"] {
        let hits = views.search(&Within::default(), &[Term::ProviderId(id.to_owned())]).await.unwrap();
        assert_eq!(hits.iter().map(|hit| hit.id.clone()).collect::<Vec<_>>(), [unit.license(1).to_string()], "{id}");
        for customer in [None, Some(CUSTOMER.to_owned())] {
            let filter = LicenseFilter { provider_id: Some(id.to_owned()), customer, ..LicenseFilter::default() };
            let found = views.licenses(&Within::default(), &filter, late().at, &ALL).await.unwrap().data;
            assert_eq!((found.len(), found[0].also["globalId"].as_str()), (1, "812345"), "{id}");
        }
    }
    let none = views.search(&Within::default(), &[Term::ProviderId("81234".to_owned())]).await.unwrap();
    assert_eq!(none, []);
}

async fn customers_that_share_one_at_an_engine_are_shown_with_each_other(engine: Engine) {
    let world = World::with(&engine, story("h", NEW)).await;
    let synced = |seen: &str, refused: Option<&str>| {
        let event = Event::CustomerSynced(CustomerSynced {
            provider: "cryptolens".into(),
            customer: CUSTOMER.to_owned(),
            provider_customer_id: "8812".to_owned(),
            seen: seen.to_owned(),
            refused: refused.map(str::to_owned),
        });
        own(&format!("synced-{seen}"), &event, noon(2))
    };
    world.append(vec![stripe(customer(CUSTOMER, None, 1)), linked(CUSTOMER, "8812", true)]).await;
    world.append(vec![linked("cus_other", "8812", false), linked("cs_guest", "9", true)]).await;
    world.append(vec![synced("evt_1", Some("the name is too long"))]).await;
    let shown = async || {
        let views = world.folded().await;
        views.customer(&Within::default(), CUSTOMER, late()).await.unwrap().unwrap().provider_customers.remove(0)
    };
    let first = shown().await;
    assert_eq!(
        (first.provider.as_str(), first.id.as_str(), first.made, first.shared),
        ("cryptolens", "8812", true, true)
    );
    assert_eq!((first.shared_with, first.synced_at), (vec!["cus_other".to_owned()], Some(noon(2))));
    assert_eq!(first.refused.as_deref(), Some("the name is too long"));
    world.append(vec![synced("evt_2", None)]).await;
    assert_eq!(shown().await.refused, None);

    let views = world.folded().await;
    let hits = async |id: &str| {
        let hits = views.search(&Within::default(), &[Term::ProviderCustomer(id.to_owned())]).await.unwrap();
        hits.into_iter().map(|hit| format!("{} {}", hit.kind, hit.id)).collect::<Vec<_>>()
    };
    assert_eq!(hits("8812").await, [format!("customer {CUSTOMER}"), "customer cus_other".to_owned()]);
    assert_eq!(hits("9").await, ["purchase cs_guest"]);
}

async fn prices_that_were_paid_for_and_mean_nothing_are_listed_with_their_money(engine: Engine) {
    let mut nothing_mapped = settings();
    nothing_mapped.catalog.clear();
    let world = World::new(&engine);
    world.append(vec![settings_changed(nothing_mapped)]).await;
    world.append(story("h", NEW)).await;
    let views = world.folded().await;
    let found: Vec<UnmappedPrice> = views.unmapped_prices(&Within::default()).await.unwrap();
    let [price] = &found[..] else { panic!("{found:?}") };
    assert_eq!((price.times, price.cases_open), (1, 1));
    assert_eq!(price.amounts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["20.00 USD"]);
    assert!(price.since.is_some() && price.price.starts_with("price_"), "{price:?}");
    let changed = own("settings-2", &changed(settings()), noon(3));
    world.append(vec![changed]).await;
    assert_eq!(world.folded().await.unmapped_prices(&Within::default()).await.unwrap(), []);
}

fn changed(settings: DecidingSettings) -> Event {
    Event::SettingsChanged(keyledger_schemas::event::SettingsChanged { settings })
}

async fn what_stripe_did_not_take_is_a_case_until_it_does(engine: Engine) {
    let world = World::with(&engine, Vec::new()).await;
    let values = std::collections::BTreeMap::from([("skm_key_id".to_owned(), "2".to_owned())]);
    let refused = Event::MetadataRefused(MetadataRefused {
        object: SUBSCRIPTION.to_owned(),
        values: values.clone(),
        reason: "no such subscription".to_owned(),
    });
    world.append(vec![own("refused", &refused, noon(1))]).await;
    let case = of_kind(&world.folded().await, "metadata_refused").await.remove(0);
    assert_eq!((case.status, case.subject.as_str()), (CaseStatus::Open, &*format!("default:-:live:{SUBSCRIPTION}")));
    assert_eq!(
        case.detail.as_deref(),
        Some(&*format!("skm_key_id was not written to {SUBSCRIPTION}: no such subscription"))
    );
    let written = Event::MetadataWritten(MetadataWritten {
        object: SUBSCRIPTION.to_owned(),
        values,
        idempotency_key: "kl-1".to_owned(),
    });
    world.append(vec![own("written", &written, noon(2))]).await;
    assert_eq!(of_kind(&world.folded().await, "metadata_refused").await.remove(0).status, CaseStatus::Closed);
}

async fn what_stripe_does_not_show_is_a_case_once(engine: Engine) {
    let world = World::with(&engine, Vec::new()).await;
    for number in 1..=2 {
        let path = "/v1/invoices/in_1".to_owned();
        let refused = Event::FetchRefused(FetchRefused { path, reason: "no such invoice".to_owned() });
        world.append(vec![own(&format!("refused-{number}"), &refused, noon(number))]).await;
    }
    let cases = of_kind(&world.folded().await, "fetch_refused").await;
    assert_eq!((cases.len(), cases[0].opened_at), (1, noon(1)));
    assert!(cases[0].next.contains("keyledger cases waive"), "{}", cases[0].next);
}

async fn the_last_comparison_with_stripe_is_shown(engine: Engine) {
    let world = World::with(&engine, Vec::new()).await;
    for day in [1, 2] {
        let completed = Event::ReconcileCompleted(ReconcileCompleted {
            since: noon(day),
            events_seen: 7,
            events_appended: u64::from(2 - day),
            objects_seen: 0,
            objects_appended: 0,
        });
        world.append(vec![own(&format!("reconciled-{day}"), &completed, noon(day + 1))]).await;
    }
    let status = world.folded().await.status(&Within::default(), late().at).await.unwrap();
    let [last] = &status.reconciled[..] else { panic!("{status:?}") };
    assert_eq!((last.at, last.since, last.events_seen, last.events_appended), (noon(3), noon(2), 7, 0));
}

/// A customer as an event of this second shows them.
fn customer(id: &str, email: Option<&str>, second: i64) -> Vec<u8> {
    let body = json!({
        "id": format!("evt_customer_{second}"), "object": "event", "api_version": NEW, "type": "customer.updated",
        "created": 1_790_000_000 + second, "livemode": true,
        "data": { "object": { "id": id, "object": "customer", "email": email, "metadata": {}, "livemode": true } },
    });
    serde_json::to_vec(&body).unwrap()
}

/// The events of a story without any address in them.
fn nameless(name: &str) -> Vec<NewEvent> {
    let strip = |event: NewEvent| {
        let mut body: Value = serde_json::from_slice(&event.data).unwrap();
        forget(&mut body);
        NewEvent { data: serde_json::to_vec(&body).unwrap(), ..event }
    };
    story(name, NEW).into_iter().map(strip).collect()
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.contains("email") && name != "customer_details");
            fields.values_mut().for_each(forget);
        }
        Value::Array(values) => values.iter_mut().for_each(forget),
        _ => {}
    }
}

fn at_cryptlex() -> DecidingSettings {
    let mut settings = settings();
    settings.catalog[0].provider = "cryptlex".into();
    settings
}

async fn an_address_that_arrives_later_ends_the_wait_for_one(engine: Engine) {
    let world = World::new(&engine);
    world.append(vec![settings_changed(at_cryptlex())]).await;
    world.append(nameless("h")).await;
    let causes = async || {
        let views = world.folded().await;
        let cause =
            open(&views).await.iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
        let waits: Vec<CaseStatus> = of_kind(&views, "no_email").await.iter().map(|case| case.status).collect();
        (cause, waits)
    };
    assert_eq!(causes().await, (vec!["no_email".to_owned()], vec![CaseStatus::Open]));
    world.append(vec![stripe(customer(CUSTOMER, None, 1))]).await;
    assert_eq!(causes().await, (vec!["no_email".to_owned()], vec![CaseStatus::Open]));
    world.append(vec![stripe(customer(CUSTOMER, Some("ana@example.com"), 2))]).await;
    assert_eq!(causes().await, (vec!["issuing".to_owned()], vec![CaseStatus::Closed]));
    let purchase = PurchaseId::new(scope(), SUBSCRIPTION);
    assert_eq!(world.folded().await.obligations(&purchase).await.unwrap()[0].cause.as_deref(), Some("issuing"));
}

async fn batches_of_any_size_write_the_same_rows_about_other_systems(engine: Engine) {
    let world = World::new(&engine);
    world.append(vec![settings_changed(at_cryptlex())]).await;
    world.append(vec![stripe(customer(CUSTOMER, Some("ana@example.com"), 1))]).await;
    world.append(nameless("h")).await;
    world.append(vec![linked(CUSTOMER, "8812", true), linked("cus_other", "8812", false)]).await;
    world.append(vec![stripe(customer(CUSTOMER, None, 2)), linked(CUSTOMER, "8813", true)]).await;
    world.append(nameless("a")).await;
    world.append(vec![stripe(customer(CUSTOMER, Some("ana@example.com"), 3))]).await;
    for batch in [1, 3, 256] {
        let name = format!("batch-{batch}.db");
        world.fold(&name, batch).await;
        let tail = SqlTail::new(world.log.clone());
        let report = replay(&tail, &world.url(&name), Switch::CompareOnly, |_, _| {}).await.unwrap();
        assert_eq!(report.differences, [], "batches of {batch}");
        assert_eq!((report.rows["provider_customer"], report.rows["paid_price"] > 0), (2, true));
    }
}
