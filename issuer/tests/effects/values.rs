//! What should stand in metadata, and what is not there yet: given what is known, then what is written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_issuer::effects::write_back::{Known, Record, idempotency_key, of_customer, of_purchase};
use keyledger_issuer::provider::Capabilities;
use keyledger_issuer::purchase::Purchase;
use keyledger_issuer::purchase::desired::Context;
use keyledger_issuer::purchase::evolve::evolve;
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::event::{Event, LicenseIssued, LicenseTerms, MetadataRefused, MetadataWritten};
use keyledger_schemas::ids::{Mode, PurchaseId, Scope, SourceName};
use keyledger_schemas::settings::Policy;
use keyledger_schemas::stripe::fact::{Fact, Metadata};
use keyledger_schemas::stripe::facts;

use crate::support::{VERSIONS, own_event, settings, story};
use crate::world::entry;

const MARK_AFTER: Duration = Duration::from_mins(1);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-20T12:00:00Z")
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A subscription that was paid once, with this metadata in its newest snapshot, which was made at `seen`.
fn paid(metadata: &[(&str, &str)], seen: Timestamp) -> Purchase {
    let bodies: Vec<_> = story("a", VERSIONS[1]).into_iter().take(10).collect();
    let all: Vec<Fact> = bodies.iter().flat_map(|body| facts(body)).collect();
    let id = all.iter().find_map(|fact| match fact {
        Fact::SubscriptionSeen(seen) => Some(seen.id.clone()),
        _ => None,
    });
    let scope = Scope::new(SourceName::default(), Mode::Live);
    let mut purchase = Purchase::new(PurchaseId::new(scope, id.unwrap().as_str()));
    for fact in all {
        let fact = match fact {
            Fact::SubscriptionSeen(mut snapshot) => {
                snapshot.metadata = map(metadata);
                snapshot.seen.at = seen;
                Fact::SubscriptionSeen(snapshot)
            }
            Fact::CustomerSeen(_) | Fact::PriceSeen(_) | Fact::ProductSeen(_) | Fact::Linked(_) => continue,
            other => other,
        };
        purchase.knowledge.learn(fact);
    }
    purchase
}

fn licensed(purchase: Purchase, provider: &str) -> Purchase {
    let context = context(provider);
    let units = keyledger_issuer::purchase::desired::units(&purchase, &context);
    let unit = units[0].0.unit.clone();
    let issued = Event::LicenseIssued(LicenseIssued {
        license: unit.license(1),
        unit,
        generation: 1,
        provider: provider.into(),
        provider_id: "5".to_owned(),
        product: "3349".to_owned(),
        key: None,
        terms: LicenseTerms { paid_until: None, expires_at: None, seats: 1, features: [].into() },
        found: false,
        also: map(&[("globalId", "812345")]),
    });
    evolve(purchase, &issued, now())
}

fn context(provider: &str) -> Context {
    let catalog = vec![entry(&format!(r#"{{"provider": "{provider}", "product": "3349"}}"#))];
    let mut settings = settings(Policy::default(), catalog);
    settings.providers = [provider.into()].into();
    let engine = Capabilities {
        settle: Duration::ZERO,
        enforces_expiry: true,
        reinstates_revoked: true,
        keeps_customers: false,
    };
    Context { settings, providers: [(provider.into(), engine)].into(), ..Context::default() }
}

/// The record that these events make.
async fn record(events: &[(Event, &str)]) -> Record {
    let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(Arc::new(ManualClock::at(now()))));
    for (event, time) in events {
        log.append(Append::events(vec![own_event(event, "effects:x", at(time))])).await.unwrap();
    }
    Record::of(&log.read_after(0, 100).await.unwrap())
}

fn written(values: &[(&str, &str)]) -> Event {
    let (object, idempotency_key) = ("sub_1".to_owned(), "keyledger/x".to_owned());
    Event::MetadataWritten(MetadataWritten { object, values: map(values), idempotency_key })
}

fn refused(values: &[(&str, &str)]) -> Event {
    Event::MetadataRefused(MetadataRefused { object: "sub_1".to_owned(), values: map(values), reason: String::new() })
}

/// What is to be written at [`now`], and how many seconds later at the soonest.
fn wanted(purchase: &Purchase, provider: &str, record: &Record) -> Option<(BTreeMap<String, String>, i64)> {
    let values = of_purchase(purchase, &context(provider), record, None, MARK_AFTER, now())?;
    Some((values.values, values.due_at.duration_since(now()).as_secs()))
}

const EARLIER: &str = "2026-11-20T10:00:00Z";
const IDS: [(&str, &str); 2] = [("skm_key_id", "5"), ("skm_key_globalid", "812345")];

#[tokio::test]
async fn a_license_at_cryptolens_is_named_by_both_of_its_ids() {
    let purchase = licensed(paid(&[("note", "x")], at(EARLIER)), "cryptolens");
    assert_eq!(wanted(&purchase, "cryptolens", &Record::default()), Some((map(&IDS), 0)));
    let half = licensed(paid(&[IDS[0]], at(EARLIER)), "cryptolens");
    assert_eq!(wanted(&half, "cryptolens", &Record::default()), Some((map(&IDS[1..]), 0)));
    let all = licensed(paid(&IDS, at(EARLIER)), "cryptolens");
    assert_eq!(wanted(&all, "cryptolens", &Record::default()), None);
}

#[tokio::test]
async fn a_license_elsewhere_is_named_by_our_id_and_every_mark_goes() {
    let purchase = licensed(paid(&[("skm_temp_var", "other")], at(EARLIER)), "keygen");
    let (values, _) = wanted(&purchase, "keygen", &Record::default()).unwrap();
    let (_, license) = purchase.units.values().next().unwrap()[&1].license().unwrap();
    assert_eq!(values, map(&[("keyledger_license_id", &license.id.to_string()), ("skm_temp_var", "")]));
}

#[tokio::test]
async fn what_was_written_stands_until_a_later_snapshot_says_otherwise() {
    let record = record(&[(written(&IDS), EARLIER)]).await;
    // The snapshot was made before the write, or so soon after it that clocks may differ.
    for seen in ["2026-11-20T09:00:00Z", "2026-11-20T10:00:59Z"] {
        assert_eq!(wanted(&licensed(paid(&[], at(seen)), "cryptolens"), "cryptolens", &record), None, "{seen}");
    }
    let taken = licensed(paid(&[], at("2026-11-20T10:30:00Z")), "cryptolens");
    assert_eq!(wanted(&taken, "cryptolens", &record), Some((map(&IDS), 0)), "an hour has passed");
}

#[tokio::test]
async fn what_somebody_takes_away_is_put_back_no_sooner_than_after_an_hour() {
    let record = record(&[(written(&IDS), "2026-11-20T11:30:00Z")]).await;
    let taken = licensed(paid(&[], at("2026-11-20T11:45:00Z")), "cryptolens");
    assert_eq!(wanted(&taken, "cryptolens", &record), Some((map(&IDS), 1800)));
}

#[tokio::test]
async fn what_was_refused_is_not_wanted_again_and_other_values_are() {
    let purchase = licensed(paid(&[], at(EARLIER)), "cryptolens");
    assert_eq!(wanted(&purchase, "cryptolens", &record(&[(refused(&IDS), EARLIER)]).await), None);
    let other = record(&[(refused(&[("skm_key_id", "4")]), EARLIER)]).await;
    assert_eq!(wanted(&purchase, "cryptolens", &other), Some((map(&IDS), 0)));
}

#[tokio::test]
async fn what_we_wrote_about_a_license_at_another_engine_is_taken_away() {
    let record = record(&[(written(&IDS), EARLIER)]).await;
    let moved = licensed(paid(&IDS, at(EARLIER)), "keygen");
    let (values, _) = wanted(&moved, "keygen", &record).unwrap();
    assert_eq!((values["skm_key_id"].as_str(), values["skm_key_globalid"].as_str()), ("", ""));
    let not_ours = licensed(paid(&[("skm_key_id", "7")], at(EARLIER)), "keygen");
    let (values, _) = wanted(&not_ours, "keygen", &Record::default()).unwrap();
    assert!(!values.contains_key("skm_key_id"));
}

#[tokio::test]
async fn a_charged_key_that_is_missing_is_marked_after_a_minute() {
    let purchase = paid(&[], at(EARLIER));
    let mark = map(&[("skm_temp_var", "keyledger: issuing")]);
    assert_eq!(wanted(&purchase, "cryptolens", &Record::default()), Some((mark.clone(), 60)));
    let noticed = Some(at("2026-11-20T11:59:30Z"));
    let values = of_purchase(&purchase, &context("cryptolens"), &Record::default(), noticed, MARK_AFTER, now());
    assert_eq!(values.unwrap().due_at, at("2026-11-20T12:00:30Z"));
    let marked = paid(&[("skm_temp_var", "keyledger: issuing")], at(EARLIER));
    assert_eq!(wanted(&marked, "cryptolens", &Record::default()), None);
}

#[tokio::test]
async fn the_mark_of_another_system_is_left_alone_while_there_is_no_key() {
    let purchase = paid(&[("skm_temp_var", "left")], at(EARLIER));
    assert_eq!(wanted(&purchase, "cryptolens", &Record::default()), None);
}

#[test]
fn a_customer_is_named_where_they_are_not_yet() {
    let (nothing, right, wrong) = (Metadata::new(), map(&[("skm_customer_id", "7")]), map(&[("skm_customer_id", "8")]));
    let wanted = |metadata: &Metadata| {
        let values = of_customer(&Known { metadata, at: at(EARLIER) }, "7", &Record::default(), now());
        values.map(|values| values.values)
    };
    assert_eq!(wanted(&nothing), Some(right.clone()));
    assert_eq!(wanted(&wrong), Some(right.clone()));
    assert_eq!(wanted(&right), None);
}

#[test]
fn the_same_values_for_the_same_object_are_the_same_write() {
    let key = |object: &str, values: &[(&str, &str)], round, fresh| idempotency_key(object, &map(values), round, fresh);
    let first = key("sub_1", &IDS, 0, 0);
    assert!(first.starts_with("keyledger/metadata/sub_1/") && first.len() <= 255);
    assert_eq!(first, key("sub_1", &IDS, 0, 0));
    for other in [
        key("sub_2", &IDS, 0, 0),
        key("sub_1", &IDS[..1], 0, 0),
        key("sub_1", &IDS, 1, 0),
        key("sub_1", &IDS, 0, 1),
        key("sub_1", &[("skm_key_id", "5=skm_key_globalid"), ("x", "")], 0, 0),
    ] {
        assert_ne!(first, other);
    }
}
