//! What the log lacks is found and appended, once.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use keyledger_eventlog::log::{Append, EventLog, Placed};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_eventlog::state::{StateChange, StateWrite};
use keyledger_issuer::stripe::client::StripeError;
use keyledger_issuer::stripe::reconcile::{Options, Progress, ReconcileError, Report, Source, Step, reconcile};
use keyledger_sandbox::faults::Fault;
use keyledger_sandbox::stripe::Realm;
use keyledger_schemas::envelope::{Delivery, NewEvent, Recorded};
use keyledger_schemas::ids::{Mode, SourceName};
use keyledger_schemas::stripe::record::event_of;
use keyledger_schemas::stripe::{Header, facts};
use serde_json::{Value, json};

use crate::place::{NEW, OLD, Place, list, story};

const STORIES: [&str; 14] = ["a", "b", "c", "d", "e", "e2", "f", "g", "h", "i", "j", "k", "m", "l"];

fn log(place: &Place) -> MemoryLog {
    MemoryLog::new(place.clock.clone())
}

fn source(place: &Place) -> Source {
    Source::new(SourceName::default(), Mode::Live, place.client())
}

fn options(since: &str, apply: bool) -> Options {
    Options { since: since.parse().unwrap(), apply, ..Options::default() }
}

async fn compare(place: &Place, log: &MemoryLog, options: &Options) -> Result<Report, ReconcileError> {
    reconcile(log, &*place.clock, &source(place), options, &mut |_| {}).await
}

fn delivered(body: &[u8]) -> NewEvent {
    let received_at = Timestamp::UNIX_EPOCH;
    let delivery = Delivery { signature: "t=1".to_owned(), secret: "secret-1".to_owned(), received_at };
    event_of(&SourceName::default(), Header::read(body).unwrap(), delivery, body.to_vec())
}

async fn everything(log: &MemoryLog) -> Vec<Recorded> {
    log.read_after(0, 10_000).await.unwrap()
}

fn count(bodies: &[Vec<u8>]) -> u64 {
    u64::try_from(bodies.len()).unwrap()
}

#[tokio::test]
async fn a_dry_run_says_what_is_missing_and_writes_nothing() {
    let (place, bodies) = (Place::new().await, story("b", NEW));
    place.tell("b", NEW);
    let log = log(&place);
    log.append(Append::events(vec![delivered(&bodies[0])])).await.unwrap();
    let report = compare(&place, &log, &options("2026-08-01T00:00:00Z", false)).await.unwrap();
    assert_eq!(
        (report.events_seen, report.events_missing, report.events_appended),
        (count(&bodies), count(&bodies) - 1, 0)
    );
    let named: BTreeSet<_> = report.missing.iter().map(|missing| missing.id.clone()).collect();
    let expected: BTreeSet<_> =
        bodies[1..].iter().map(|body| Header::read(body).unwrap().id.as_str().to_owned()).collect();
    assert_eq!(named, expected);
    assert!(report.missing.iter().any(|missing| missing.kind == "stripe.checkout.session.completed"));
    assert_eq!(everything(&log).await.len(), 1);
}

#[tokio::test]
async fn what_is_missing_is_appended_as_if_it_had_been_delivered() {
    let (place, bodies) = (Place::new().await, story("b", NEW));
    place.tell("b", NEW);
    let log = log(&place);
    let report = compare(&place, &log, &options("2026-08-01T00:00:00Z", true)).await.unwrap();
    assert_eq!(report.events_appended, count(&bodies));
    let kept = everything(&log).await;
    // As they would have come: oldest first.
    assert!(kept.is_sorted_by_key(|event| event.occurred_at));
    for body in &bodies {
        let expected = delivered(body);
        let event = kept.iter().find(|event| event.id == expected.id).unwrap();
        assert_eq!(
            (&event.kind, &event.stream, event.partition),
            (&expected.kind, &expected.stream, expected.partition)
        );
        assert_eq!(facts(&event.data), facts(body));
        assert!(event.delivery.as_ref().unwrap().is_reconciled());
        // The webhook that was late is a duplicate now.
        let placed = log.append(Append::events(vec![expected])).await.unwrap();
        assert!(matches!(placed[..], [Placed::Duplicate(_)]));
    }
}

#[tokio::test]
async fn every_story_is_complete_after_one_run_and_unchanged_by_another() {
    for version in [OLD, NEW] {
        let place = Place::new().await;
        for key in STORIES {
            place.tell(key, version);
        }
        let log = log(&place);
        for now in ["2026-08-20T00:00:00Z", "2026-09-18T00:00:00Z", "2026-10-17T00:00:00Z", "2026-11-10T00:00:00Z"] {
            place.set_now(now);
            compare(&place, &log, &options("2026-07-01T00:00:00Z", true)).await.unwrap();
            let head = log.head().await.unwrap();
            let again = compare(&place, &log, &options("2026-07-01T00:00:00Z", true)).await.unwrap();
            assert_eq!(
                (again.missing, again.events_appended, again.objects_appended),
                (vec![], 0, 0),
                "{version} {now}"
            );
            assert_eq!(log.head().await.unwrap(), head, "{version} {now}");
        }
    }
}

/// Whatever keyledger was told by webhooks in either rendering, Stripe's objects, which it asks for in the newer one, say
/// nothing more a year later.
#[tokio::test]
async fn a_log_that_missed_nothing_learns_nothing_from_objects() {
    for (told, asked) in [(OLD, NEW), (NEW, NEW)] {
        let place = Place::new().await;
        let log = log(&place);
        for key in STORIES {
            place.tell(key, asked);
            log.append(Append::events(story(key, told).iter().map(|body| delivered(body)).collect())).await.unwrap();
        }
        place.set_now("2027-07-01T00:00:00Z");
        let report = compare(&place, &log, &options("2026-07-01T00:00:00Z", false)).await.unwrap();
        assert!(report.objects_seen > 30);
        // The older rendering tells of a refund by its charge alone: what it came to is known, but not the refund itself.
        let told_more: Vec<_> = report
            .missing
            .iter()
            .filter(|missing| (told, missing.kind.as_str()) != (OLD, "stripe.fetched.refund"))
            .collect();
        assert_eq!(told_more, Vec::<&_>::new(), "{told} {asked}");
    }
}

#[tokio::test]
async fn beyond_thirty_days_objects_say_what_was_paid_and_what_was_given_back() {
    let place = Place::new().await;
    for key in ["a", "b", "e", "f"] {
        place.tell(key, NEW);
    }
    place.set_now("2026-12-20T00:00:00Z");
    let log = log(&place);
    let report = compare(&place, &log, &options("2026-07-01T00:00:00Z", true)).await.unwrap();
    assert_eq!((report.events_seen, report.objects_missing), (0, report.objects_appended));
    let kinds: BTreeSet<String> = everything(&log).await.into_iter().map(|event| event.kind).collect();
    let expected = ["checkout.session", "dispute", "invoice", "refund", "subscription"];
    assert_eq!(kinds, expected.iter().map(|kind| format!("stripe.fetched.{kind}")).collect());
    let again = compare(&place, &log, &options("2026-07-01T00:00:00Z", true)).await.unwrap();
    assert_eq!((again.objects_missing, again.objects_appended), (0, 0));
    // Asked for less, it looks at no objects.
    let recent = compare(&place, &log, &options("2026-12-01T00:00:00Z", true)).await.unwrap();
    assert_eq!(recent.objects_seen, 0);
}

#[tokio::test]
async fn an_object_that_changed_unseen_is_appended_anew_each_time_it_changes() {
    let place = Place::new().await;
    let subscription = |status: &str| {
        json!({"id": "sub_1", "object": "subscription", "status": status, "created": 1_780_000_000, "livemode": true,
               "items": list([])})
    };
    let log = log(&place);
    for (now, status, expected) in [
        ("2026-10-01T00:00:00Z", "active", 1),
        ("2026-10-02T00:00:00Z", "active", 0),
        ("2026-10-03T00:00:00Z", "past_due", 1),
        ("2026-10-04T00:00:00Z", "active", 1),
        ("2026-10-05T00:00:00Z", "active", 0),
    ] {
        place.set_now(now);
        place.own(subscription(status));
        let report = compare(&place, &log, &options("2026-07-01T00:00:00Z", true)).await.unwrap();
        assert_eq!(report.objects_appended, expected, "{now}");
    }
    // One that was over before the time that is looked at is history.
    let ended = json!({"id": "sub_2", "object": "subscription", "status": "canceled", "created": 1_700_000_000,
        "ended_at": 1_700_000_001, "items": list([])});
    place.own(ended);
    let report = compare(&place, &log, &options("2026-07-01T00:00:00Z", true)).await.unwrap();
    assert_eq!((report.objects_seen, report.objects_appended), (2, 0));
}

#[tokio::test]
async fn a_long_invoice_is_appended_with_all_of_its_lines() {
    let place = Place::new().await;
    let line = |n| json!({"id": format!("il_{n}"), "object": "line_item", "amount": 5});
    place.own(json!({"id": "in_1", "object": "invoice", "status": "paid", "created": 1_780_000_000, "currency": "usd",
        "total": 5, "lines": list((0..30).map(line))}));
    place.set_now("2026-10-01T00:00:00Z");
    let log = log(&place);
    for expected in [1, 0] {
        let report = compare(&place, &log, &options("2026-01-01T00:00:00Z", true)).await.unwrap();
        assert_eq!(report.objects_appended, expected);
    }
    let body: Value = serde_json::from_slice(&everything(&log).await[0].data).unwrap();
    assert_eq!(body["answer"]["lines"]["data"].as_array().unwrap().len(), 30);
    assert_eq!(place.calls("invoices.get"), 1, "the second time a part of it is enough");
}

#[tokio::test]
async fn another_rendering_is_no_other_event_and_a_thin_one_is_none() {
    let place = Place::new().await;
    place.tell("b", NEW);
    let log = log(&place);
    log.append(Append::events(story("b", OLD).iter().map(|body| delivered(body)).collect())).await.unwrap();
    let report = compare(&place, &log, &options("2026-08-01T00:00:00Z", true)).await.unwrap();
    assert_eq!(report.events_missing, 0);

    let body = json!({"id": "evt_9", "object": "event", "type": "customer.updated", "livemode": true, "created": 1_787_000_000,
        "api_version": NEW, "data": {"object": {"id": "cus_9", "object": "customer"}}});
    let thin = json!({"id": "evt_9", "object": "v2.core.event", "type": "v1.customer.updated", "livemode": true,
        "created": "2026-08-17T00:00:00Z", "related_object": {"id": "cus_9", "type": "customer", "url": "/v1/customers/cus_9"}});
    log.append(Append::events(vec![delivered(thin.to_string().as_bytes())])).await.unwrap();
    place.stripe.load_event(body).unwrap();
    let report = compare(&place, &log, &options("2026-08-01T00:00:00Z", true)).await.unwrap();
    assert_eq!(report.events_appended, 1);
}

#[tokio::test]
async fn what_an_endpoint_did_not_take_comes_first_and_is_counted_once() {
    let place = Place::new().await;
    place.tell("b", NEW);
    let oldest = Header::read(&story("b", NEW)[0]).unwrap().id;
    assert!(place.stripe.set_delivered(oldest.as_str(), false));
    let log = log(&place);
    let mut told: Vec<Progress> = Vec::new();
    let options = options("2026-08-01T00:00:00Z", false);
    let report = reconcile(&log, &*place.clock, &source(&place), &options, &mut |progress| told.push(progress)).await;
    let report = report.unwrap();
    assert_eq!((report.missing[0].id.as_str(), report.events_missing, report.events_seen), (oldest.as_str(), 4, 4));
    let told: Vec<_> =
        told.into_iter().map(|told| (told.step, told.looked, told.missing, told.back_to.is_some())).collect();
    assert_eq!(told, [(Step::Undelivered, 1, 1, true), (Step::Events, 4, 4, true)]);
}

/// Many events, more than two pages of them.
fn many(place: &Place) {
    for n in 0..250 {
        let event = json!({"id": format!("evt_{n:03}"), "object": "event", "type": "customer.updated", "livemode": true,
            "created": 1_787_000_000 + n, "api_version": NEW,
            "data": {"object": {"id": format!("cus_{}", n % 7), "object": "customer"}}});
        place.stripe.load_event(event).unwrap();
    }
}

#[tokio::test]
async fn a_run_that_breaks_off_is_finished_by_the_next() {
    let place = Place::new().await;
    many(&place);
    let log = log(&place);
    let options = options("2026-08-01T00:00:00Z", true);
    // The key is taken away after the second page; nobody waits for that.
    let taken = std::sync::atomic::AtomicBool::new(false);
    let broken = {
        let stripe = place.stripe.clone();
        let mut progress = |progress: Progress| {
            if progress.step == Step::Events && progress.looked == 200 {
                taken.store(true, std::sync::atomic::Ordering::SeqCst);
                stripe.set(keyledger_sandbox::stripe::Settings { token: "another".to_owned(), ..stripe.settings() });
            }
        };
        reconcile(&log, &*place.clock, &source(&place), &options, &mut progress).await
    };
    assert!(matches!(broken, Err(ReconcileError::Stripe(StripeError::Unavailable { .. }))), "{broken:?}");
    assert_eq!(everything(&log).await.len(), 200);
    let stripe = &place.stripe;
    stripe.set(keyledger_sandbox::stripe::Settings { token: "sandbox".to_owned(), ..stripe.settings() });
    let report = compare(&place, &log, &options).await.unwrap();
    assert_eq!((report.events_seen, report.events_appended), (250, 50));
}

#[tokio::test]
async fn stripe_may_fail_now_and_then() {
    let place = Place::new().await;
    many(&place);
    place.misbehave("events.list", 1, Fault::Fail { status: 503, retry_after_s: None });
    let log = log(&place);
    let report = compare(&place, &log, &options("2026-08-01T00:00:00Z", true)).await.unwrap();
    assert_eq!(report.events_appended, 250);
}

#[tokio::test]
async fn connected_accounts_that_the_source_has_seen_are_looked_at_too() {
    let place = Place::new().await;
    let log = log(&place);
    // As the issuer's links have them.
    let seen = [
        "default:-:live:in_1",
        "default:acct_1:live:in_1",
        "default:acct_1:test:in_1",
        "default:acct_2:test:in_2",
        "default:acct_3:live:in_3",
        "default2:acct_4:live:in_4",
    ];
    let state = seen.iter().map(|key| StateWrite {
        namespace: "issuer.link".to_owned(),
        key: (*key).to_owned(),
        expected: None,
        change: StateChange::Put { value: b"{}".to_vec(), due_at: None },
    });
    log.append(Append { state: state.collect(), ..Append::default() }).await.unwrap();
    // Asked for an account, Stripe need not name it in its events.
    let of_account = Realm { account: Some("acct_1".to_owned()), live: true };
    place.stripe.load_object(&of_account, json!({"id": "cus_0", "object": "customer", "created": 1})).unwrap();
    let event = json!({"id": "evt_1", "object": "event", "type": "customer.updated", "livemode": true, "created": 1_787_000_000,
        "account": "acct_1", "api_version": NEW, "data": {"object": {"id": "cus_1", "object": "customer"}}});
    place.stripe.load_event(event).unwrap();
    let report = compare(&place, &log, &options("2026-08-01T00:00:00Z", true)).await.unwrap();
    assert_eq!(report.events_appended, 1);
    let kept = everything(&log).await;
    assert_eq!(kept[0].id.as_str(), format!("default:acct_1:live:evt_1:{NEW}"));
    let left_out: Vec<_> = report.left_out.iter().map(|(account, _)| account.as_str()).collect();
    assert_eq!(left_out, ["acct_3"], "it is connected no more");
}

#[tokio::test]
async fn a_key_for_the_other_mode_is_a_setting_to_mend() {
    let place = Place::new().await;
    let event = json!({"id": "evt_1", "object": "event", "type": "customer.updated", "livemode": false, "created": 1_787_000_000,
        "api_version": NEW, "data": {"object": {"id": "cus_1", "object": "customer"}}});
    place.stripe.load_event(event).unwrap();
    let log = log(&place);
    let source = Source::new(SourceName::default(), Mode::Live, place.client_with("sandbox_test"));
    let options = options("2026-08-01T00:00:00Z", true);
    let refused = reconcile(&log, &*place.clock, &source, &options, &mut |_| {}).await;
    assert!(
        matches!(refused, Err(ReconcileError::OtherMode { shown: Mode::Test, wanted: Mode::Live, .. })),
        "{refused:?}"
    );
    assert_eq!(everything(&log).await.len(), 0);
}

/// An account of the other mode in which nothing has happened for a month shows no events that could give it away.
#[tokio::test]
async fn objects_of_the_other_mode_are_refused_in_words() {
    let place = Place::new().await;
    let subscription = json!({"id": "sub_1", "object": "subscription", "status": "active", "created": 1_780_000_000,
        "livemode": false, "items": list([])});
    let invoice = json!({"id": "in_1", "object": "invoice", "status": "paid", "created": 1_780_000_000,
        "livemode": false, "currency": "usd", "total": 5, "lines": list([])});
    for object in [subscription, invoice] {
        let place = Place::new().await;
        place.stripe.load_object(&Realm::own(false), object).unwrap();
        let log = log(&place);
        let source = Source::new(SourceName::default(), Mode::Live, place.client_with("sandbox_test"));
        let options = options("2026-01-01T00:00:00Z", true);
        let refused = reconcile(&log, &*place.clock, &source, &options, &mut |_| {}).await.unwrap_err();
        assert!(
            matches!(refused, ReconcileError::OtherMode { shown: Mode::Test, wanted: Mode::Live, .. }),
            "{refused:?}"
        );
        assert!(refused.to_string().ends_with("shows test objects, and the source is for live: check the key"));
        assert_eq!(everything(&log).await.len(), 0);
    }
    // What says no mode is nobody's fault.
    place.own(json!({"id": "re_1", "object": "refund", "created": 1_780_000_000, "status": "succeeded", "amount": 5,
        "payment_intent": "pi_1"}));
    let report = compare(&place, &log(&place), &options("2026-01-01T00:00:00Z", true)).await.unwrap();
    assert_eq!((report.objects_seen, report.objects_appended), (1, 1));
}

#[tokio::test]
async fn of_two_sources_that_are_one_account_the_second_gets_nothing_that_the_first_has() {
    let place = Place::new().await;
    place.tell("b", NEW);
    let log = log(&place);
    let options = options("2026-08-01T00:00:00Z", true);
    let names: Vec<SourceName> = ["default", "second"].iter().map(|name| name.parse().unwrap()).collect();
    let mut appended = Vec::new();
    for name in &names {
        let source = Source { others: names.clone(), ..Source::new(name.clone(), Mode::Live, place.client()) };
        let report = reconcile(&log, &*place.clock, &source, &options, &mut |_| {}).await.unwrap();
        appended.push(report.events_appended);
    }
    assert_eq!(appended, [4, 0]);
}

#[tokio::test]
async fn two_runs_at_once_append_everything_once() {
    let place = Arc::new(Place::new().await);
    many(&place);
    let log = log(&place);
    let options = options("2026-08-01T00:00:00Z", true);
    let (one, two) = tokio::join!(compare(&place, &log, &options), compare(&place, &log, &options));
    assert_eq!(one.unwrap().events_appended + two.unwrap().events_appended, 250);
    assert_eq!(everything(&log).await.len(), 250);
}
