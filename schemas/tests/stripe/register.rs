//! Which of several snapshots of a subscription counts, whatever order they arrive in.

use keyledger_schemas::ids::SubscriptionId;
use keyledger_schemas::stripe::fact::{
    Change, Fact, PreviousItem, PreviousSubscription, PriceRef, Seen, SubscriptionItem, SubscriptionSeen,
};
use keyledger_schemas::stripe::facts;
use keyledger_schemas::stripe::register::SubscriptionRegister;
use keyledger_schemas::stripe::status::SubscriptionStatus;
use proptest::prelude::*;

use crate::fixtures::{NEW, OLD, at, stories};

/// An active subscription to one of `price_1`, as event `event` of second `second` showed it.
fn snapshot(event: &str, second: i64, change: Change) -> SubscriptionSeen {
    SubscriptionSeen {
        seen: Seen { at: at(second), change, event: event.into() },
        id: "sub_1".into(),
        customer: None,
        status: SubscriptionStatus::Active,
        items: vec![item("si_1", "price_1", 1)],
        items_truncated: false,
        metadata: [].into(),
        cancel_at: None,
        cancel_at_period_end: false,
        ended_at: None,
        trial_end: None,
        previous: PreviousSubscription::default(),
    }
}

fn updated(event: &str, second: i64) -> SubscriptionSeen {
    snapshot(event, second, Change::Updated)
}

fn item(id: &str, price: &str, quantity: u64) -> SubscriptionItem {
    SubscriptionItem {
        id: id.into(),
        price: Some(PriceRef { id: price.into(), product: None, metadata: [].into() }),
        quantity: Some(quantity),
        metered: false,
        period_start: None,
        period_end: None,
    }
}

fn before(item: &SubscriptionItem) -> PreviousItem {
    PreviousItem {
        id: item.id.clone(),
        price: item.price.as_ref().map(|price| price.id.clone()),
        quantity: item.quantity,
        period_end: item.period_end,
    }
}

fn register(snapshots: &[SubscriptionSeen]) -> SubscriptionRegister {
    let mut register = SubscriptionRegister::default();
    for snapshot in snapshots {
        register.observe(snapshot.clone());
    }
    register
}

/// The event that counts, the same in both directions.
#[track_caller]
fn current(snapshots: &[SubscriptionSeen]) -> String {
    let reversed: Vec<_> = snapshots.iter().rev().cloned().collect();
    assert_eq!(register(snapshots), register(&reversed));
    register(snapshots).current().unwrap().seen.event.to_string()
}

#[test]
fn nothing_counts_before_anything_is_seen() {
    assert_eq!(register(&[]).current(), None);
    assert_eq!(register(&[]).skipped(), None);
}

#[test]
fn the_newest_second_counts() {
    assert_eq!(current(&[updated("evt_9", 1), updated("evt_1", 2)]), "evt_1");
}

#[test]
fn an_ended_one_counts_before_newer_ones() {
    let mut ended = snapshot("evt_1", 1, Change::Deleted);
    ended.status = SubscriptionStatus::Canceled;
    assert_eq!(current(&[ended.clone(), updated("evt_2", 9)]), "evt_1");
    let mut unknown = updated("evt_3", 9);
    unknown.status = SubscriptionStatus::Unknown("frozen".to_owned());
    assert_eq!(register(&[ended, unknown]).skipped(), None);
}

#[test]
fn within_a_second_an_update_follows_the_creation() {
    assert_eq!(current(&[snapshot("evt_9", 1, Change::Created), updated("evt_1", 1)]), "evt_1");
    assert_eq!(current(&[updated("evt_9", 1), snapshot("evt_1", 1, Change::Deleted)]), "evt_1");
}

#[test]
fn within_a_second_the_one_that_names_the_other_as_its_past_counts() {
    let first = updated("evt_9", 1);
    let mut status = updated("evt_1", 1);
    status.status = SubscriptionStatus::PastDue;
    status.previous.status = Some(SubscriptionStatus::Active);
    assert_eq!(current(&[first.clone(), status]), "evt_1");

    let mut seats = updated("evt_1", 1);
    seats.items = vec![item("si_1", "price_1", 5)];
    seats.previous.items = Some(vec![before(&item("si_1", "price_1", 1))]);
    assert_eq!(current(&[first.clone(), seats]), "evt_1");

    let mut written = updated("evt_1", 1);
    written.metadata = [("skm_key_id".to_owned(), "7".to_owned())].into();
    written.previous.metadata = [("skm_key_id".to_owned(), None)].into();
    assert_eq!(current(&[first.clone(), written]), "evt_1");

    let mut canceling = updated("evt_1", 1);
    canceling.cancel_at = Some(at(99));
    canceling.previous.cancel_at = Some(None);
    assert_eq!(current(&[first.clone(), canceling]), "evt_1");

    let mut canceling = updated("evt_1", 1);
    canceling.cancel_at_period_end = true;
    canceling.previous.cancel_at_period_end = Some(false);
    assert_eq!(current(&[first, canceling]), "evt_1");
}

#[test]
fn old_items_name_only_a_snapshot_with_just_these_items() {
    let mut wider = updated("evt_9", 1);
    wider.items = vec![item("si_1", "price_1", 1), item("si_2", "price_2", 1)];
    let mut changed = updated("evt_1", 1);
    changed.items = vec![item("si_1", "price_1", 5)];
    changed.previous.items = Some(vec![before(&item("si_1", "price_1", 1))]);
    assert_eq!(current(&[wider, changed]), "evt_9");
}

#[test]
fn two_that_name_each_other_are_settled_by_the_greatest_event() {
    let mut down = updated("evt_1", 1);
    down.status = SubscriptionStatus::PastDue;
    down.previous.status = Some(SubscriptionStatus::Active);
    let mut up = updated("evt_2", 1);
    up.previous.status = Some(SubscriptionStatus::PastDue);
    assert_eq!(current(&[down, up]), "evt_2");
}

#[test]
fn an_unknown_status_is_skipped_and_shown_until_a_newer_one_is_understood() {
    let mut unknown = updated("evt_2", 2);
    unknown.status = SubscriptionStatus::Unknown("frozen".to_owned());
    let seen = [updated("evt_1", 1), unknown.clone()];
    assert_eq!(current(&seen), "evt_1");
    assert_eq!(register(&seen).skipped(), Some(&unknown));
    let seen = [unknown, updated("evt_3", 3)];
    assert_eq!(current(&seen), "evt_3");
    assert_eq!(register(&seen).skipped(), None);
}

#[test]
fn two_renderings_of_one_event_are_one_snapshot_whichever_came_first() {
    let older = updated("evt_1", 1);
    let mut newer = older.clone();
    newer.metadata = [("only".to_owned(), "here".to_owned())].into();
    assert_eq!(current(&[older, newer]), "evt_1");
}

#[test]
fn every_story_ends_in_its_last_snapshot() {
    for story in stories() {
        for version in [OLD, NEW] {
            let bodies = story.steps.iter().filter_map(|step| step.body(version));
            let seen: Vec<SubscriptionSeen> = bodies
                .flat_map(|body| facts(&body))
                .filter_map(|fact| match fact {
                    Fact::SubscriptionSeen(seen) => Some(seen),
                    _ => None,
                })
                .collect();
            let ids: std::collections::BTreeSet<SubscriptionId> = seen.iter().map(|seen| seen.id.clone()).collect();
            for id in ids {
                let of_one: Vec<_> = seen.iter().filter(|seen| seen.id == id).cloned().collect();
                assert_eq!(current(&of_one), of_one.last().unwrap().seen.event.as_str(), "{}", story.story);
            }
        }
    }
}

/// A snapshot out of few values, so that seconds, events and old values meet often.
/// One event is of one second and one kind, but may come in several renderings.
fn any_snapshot() -> impl Strategy<Value = SubscriptionSeen> {
    let status = prop::sample::select(vec!["active", "past_due", "trialing", "frozen", "canceled"]);
    let old_status = prop::option::of(prop::sample::select(vec!["active", "past_due", "trialing"]));
    (0_u8..8, status, old_status, 1_u64..4, prop::option::of(1_u64..4), any::<bool>(), prop::option::of(any::<bool>()))
        .prop_map(|(event, status, old_status, seats, old_seats, canceling, was_canceling)| {
            let change = [Change::Created, Change::Updated, Change::Updated, Change::Deleted][usize::from(event % 4)];
            let mut seen = snapshot(&format!("evt_{event}"), i64::from(event / 3), change);
            seen.status = status.to_owned().into();
            seen.items = vec![item("si_1", "price_1", seats)];
            seen.cancel_at_period_end = canceling;
            seen.previous.status = old_status.map(|status| status.to_owned().into());
            seen.previous.items = old_seats.map(|seats| vec![before(&item("si_1", "price_1", seats))]);
            seen.previous.cancel_at_period_end = was_canceling;
            seen
        })
}

/// A subscription that changes `changes` times within one second, each time in one attribute and to a new value.
fn busy_second(changes: &[(u8, String)]) -> Vec<SubscriptionSeen> {
    let mut now = snapshot("evt_0", 1, Change::Created);
    let mut seen = vec![now.clone()];
    for (step, (attribute, event)) in changes.iter().enumerate() {
        let fresh = u64::try_from(step).unwrap() + 2;
        let mut next = now.clone();
        next.seen = Seen { at: at(1), change: Change::Updated, event: event.as_str().into() };
        next.previous = PreviousSubscription::default();
        match attribute {
            0 => {
                next.items = vec![item("si_1", "price_1", fresh)];
                next.previous.items = Some(now.items.iter().map(before).collect());
            }
            1 => {
                let old = next.metadata.insert("k".to_owned(), fresh.to_string());
                next.previous.metadata = [("k".to_owned(), old)].into();
            }
            _ => {
                next.cancel_at = Some(at(i64::try_from(fresh).unwrap()));
                next.previous.cancel_at = Some(now.cancel_at);
            }
        }
        seen.push(next.clone());
        now = next;
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_with_repeats_ends_the_same(
        (once, again) in prop::collection::vec(any_snapshot(), 0..12).prop_flat_map(|seen| {
            let twice: Vec<_> = seen.iter().chain(&seen).cloned().collect();
            (Just(seen), Just(twice).prop_shuffle())
        })
    ) {
        let (first, second) = (register(&once), register(&again));
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(first.current(), second.current());
        prop_assert_eq!(first.skipped(), second.skipped());
        prop_assert_eq!(first.current().is_some(), once.iter().any(|seen| !seen.status.is_unknown()));
    }

    #[test]
    fn what_is_stored_and_read_back_goes_on_as_before(seen in prop::collection::vec(any_snapshot(), 0..10), cut in 0_usize..10) {
        let (early, late) = seen.split_at(cut.min(seen.len()));
        let stored = serde_json::to_vec(&register(early)).unwrap();
        let mut resumed: SubscriptionRegister = serde_json::from_slice(&stored).unwrap();
        late.iter().cloned().for_each(|snapshot| resumed.observe(snapshot));
        prop_assert_eq!(resumed, register(&seen));
    }

    #[test]
    fn a_busy_second_ends_in_its_last_change(
        (changes, order) in prop::collection::vec(0_u8..3, 1..7).prop_flat_map(|attributes| {
            let events: Vec<_> = (1..=attributes.len()).map(|n| format!("evt_{n}")).collect();
            let changes = (Just(attributes), Just(events).prop_shuffle())
                .prop_map(|(attributes, events)| attributes.into_iter().zip(events).collect::<Vec<_>>());
            changes.prop_flat_map(|changes| (Just(changes.clone()), Just(busy_second(&changes)).prop_shuffle()))
        })
    ) {
        let last = &changes.last().unwrap().1;
        let register = register(&order);
        prop_assert_eq!(register.current().unwrap().seen.event.as_str(), last);
    }
}
