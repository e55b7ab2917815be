//! Putting back what another copy of the log recorded.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::envelope::{Delivery, NewEvent, Recorded, content_hash};
use keyledger_schemas::ids::{Mode, Scope};
use uuid::Uuid;

use super::{Factory, all, assert_whole, fill};
use crate::log::{Append, AppendError, EventLog, Head, LogError, Placed, RestoreError};
use crate::memory::MemoryLog;
use crate::testing::event;

/// Another copy, which recorded at another time: `count` events in three streams, the first of them with every field.
async fn copy(count: usize) -> Vec<Recorded> {
    let recorded_at: Timestamp = "2024-02-29T23:59:59.123456789Z".parse().unwrap();
    let log = MemoryLog::with_id(Uuid::from_u128(7), Arc::new(ManualClock::at(recorded_at)));
    let delivery = Delivery { signature: "t=1,v1=\"x\"".to_owned(), secret: "a".to_owned(), received_at: recorded_at };
    let full = NewEvent {
        kind: "stripe.invoice.paid".to_owned(),
        scope: Scope { source: "eu".parse().unwrap(), account: Some("acct_1".into()), mode: Mode::Test },
        occurred_at: Timestamp::MIN,
        causation_id: Some("évt".into()),
        correlation_id: Some("first".into()),
        schema_version: 3,
        actor: Some("Ana".to_owned()),
        partition: 63,
        delivery: Some(delivery),
        ..event("evt_0", "s0", (0..=255).collect::<Vec<u8>>())
    };
    let plain = (1..count).map(|number| event(&format!("evt_{number}"), &format!("s{}", number % 3), "{}"));
    log.append(Append::events(std::iter::once(full).chain(plain).collect())).await.unwrap();
    log.read_after(0, count).await.unwrap()
}

/// Changes an event, and gives it the hash and chain value that it then must have.
fn forged(after: &Recorded, mut event: Recorded, change: impl FnOnce(&mut Recorded)) -> Recorded {
    change(&mut event);
    event.content_hash = content_hash(&event.data);
    event.chain = event.chain_after(&after.chain);
    event
}

fn head_of(events: &[Recorded]) -> Head {
    events.last().map_or_else(Head::default, |last| Head { position: last.position, chain: last.chain })
}

/// The id stays, whoever asks and whenever.
pub async fn a_log_keeps_the_id_it_was_given(place: &impl Factory) {
    let log_id = place.open().await.log_id();
    assert_eq!(place.open().await.log_id(), log_id);
    place.close().await;
    assert_eq!(place.open().await.log_id(), log_id);
}

/// The chain value of each position, and of none beyond the head.
pub async fn the_chain_value_of_each_position_is_known(place: &impl Factory) {
    let log = place.open().await;
    assert_eq!(log.chain_at(0).await.unwrap(), Some([0; 32]));
    fill(&*log, "a", 3).await;
    for event in all(&*log).await {
        assert_eq!(log.chain_at(event.position).await.unwrap(), Some(event.chain));
    }
    for beyond in [4, u64::MAX] {
        assert_eq!(log.chain_at(beyond).await.unwrap(), None);
    }
}

/// Same rows, same head, in one piece or in pages; and what is appended then goes on from there.
pub async fn events_put_back_are_the_same_in_every_field(place: &impl Factory) {
    let log = place.open().await;
    let events = copy(20).await;
    for page in events.chunks(7) {
        assert_eq!(log.restore(page).await.unwrap(), head_of(page));
    }
    assert_eq!(log.restore(&[]).await.unwrap(), head_of(&events));
    place.close().await;

    let log = place.open().await;
    assert_eq!(all(&*log).await, events);
    assert_eq!(log.head().await.unwrap(), head_of(&events));
    let placed = log.append(Append::events(vec![event("evt_3", "s0", "{}"), event("new", "s0", "{}")])).await.unwrap();
    assert_eq!(placed, [Placed::Duplicate(4), Placed::Appended(21)]);
    assert_whole(&all(&*log).await, log.head().await.unwrap());
}

/// `NotNext` says where the log is, whether the events are there already, in part, or come too early.
pub async fn events_that_are_not_next_are_refused(place: &impl Factory) {
    let log = place.open().await;
    let events = copy(6).await;
    let refused = log.restore(&events[1..]).await;
    assert!(matches!(refused, Err(RestoreError::NotNext { expected: 1, offered: 2 })), "{refused:?}");
    log.restore(&events[..3]).await.unwrap();
    for offered in [&events[..3], &events[..], &events[2..]] {
        let refused = log.restore(offered).await;
        let first = offered[0].position;
        let right = matches!(refused, Err(RestoreError::NotNext { expected: 4, offered }) if offered == first);
        assert!(right, "{refused:?}");
    }
    assert_eq!(all(&*log).await, events[..3]);
    log.restore(&events[3..]).await.unwrap();
    assert_eq!(all(&*log).await, events);
}

/// All or nothing: whatever is wrong with one event, none is written, and it is named.
pub async fn events_that_do_not_continue_the_log_are_refused(place: &impl Factory) {
    let log = place.open().await;
    let events = copy(8).await;
    log.restore(&events[..3]).await.unwrap();
    let (before, rest) = (&events[4], &events[3..5]);
    let sixth = |change: fn(&mut Recorded)| forged(before, events[5].clone(), change);
    let mut other_data = events[5].clone();
    other_data.data = b"{ }".to_vec();
    let mut other_chain = events[5].clone();
    other_chain.chain = [1; 32];
    let broken = [
        ("its hash", other_data),
        ("hang on the chain", other_chain),
        ("follows position 5", events[6].clone()),
        ("version 9", sixth(|event| event.version = 9)),
        ("version 1", sixth(|event| event.version = 1)),
        ("in the log at position 2", sixth(|event| event.id = "evt_1".into())),
        ("offered twice", sixth(|event| event.id = "evt_4".into())),
    ];
    for (said, event) in broken {
        let position = event.position;
        let offered: Vec<Recorded> = rest.iter().cloned().chain([event]).collect();
        match log.restore(&offered).await {
            Err(RestoreError::Broken { position: named, reason }) => {
                assert_eq!(named, position, "{said}: {reason}");
                assert!(reason.contains(said), "{said}: {reason}");
            }
            other => panic!("{said}: {other:?}"),
        }
        assert_eq!(log.head().await.unwrap(), head_of(&events[..3]), "{said}");
        assert_eq!(log.find(&"evt_3".into()).await.unwrap(), None, "{said}");
    }
    log.restore(&events[3..]).await.unwrap();
}

/// Another log's events do not hang on this one's head.
pub async fn events_of_another_log_are_refused(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 2).await;
    let refused = log.restore(&copy(5).await[2..]).await;
    assert!(matches!(refused, Err(RestoreError::Broken { position: 3, .. })), "{refused:?}");
    assert_eq!(log.head().await.unwrap().position, 2);
}

/// Many restore the same pages while others append: either the append or the page is first, and nothing is doubled.
pub async fn restoring_and_appending_at_once_leave_one_chain(place: &impl Factory) {
    let events = copy(30).await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let (log, events) = (place.open().await, events.clone());
        tasks.push(tokio::spawn(async move { restore_all(&*log, &events).await }));
    }
    let log = place.open().await;
    loop {
        let reached = log.head().await.unwrap().position;
        if reached >= 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fill(&*log, "late", 1).await;
    for task in tasks {
        task.await.unwrap();
    }
    let kept = all(&*log).await;
    assert_whole(&kept, log.head().await.unwrap());
    let late = kept.iter().position(|event| event.id.as_str() == "late_0").unwrap();
    assert!(late >= 10);
    assert_eq!(kept[..late], events[..late]);
    assert!(kept.len() == late + 1, "nothing hangs on an event that the copy does not have");
}

/// Restores page by page until all is there, or the log went another way.
async fn restore_all(log: &dyn EventLog, events: &[Recorded]) {
    loop {
        let at = usize::try_from(log.head().await.unwrap().position).unwrap();
        let Some(rest) = events.get(at..).filter(|rest| !rest.is_empty()) else { return };
        match log.restore(&rest[..rest.len().min(2)]).await {
            Ok(_) | Err(RestoreError::NotNext { .. }) => {}
            Err(RestoreError::Broken { .. }) => return,
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// The hint tells of events that were put back.
pub async fn putting_back_wakes_who_waits(place: &impl Factory) {
    let log = place.open().await;
    let mut wake = log.wake();
    assert_eq!(*wake.borrow_and_update(), 0);
    log.restore(&copy(4).await).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), wake.changed()).await.unwrap().unwrap();
    assert_eq!(*wake.borrow(), 4);
}

/// Every handle of the process is closed, and the others go on.
pub async fn closing_a_handle_closes_it_alone(place: &impl Factory) {
    let log = place.open().await;
    let other = place.open().await;
    fill(&*log, "a", 1).await;
    log.close().await;
    log.close().await;
    let refused = log.append(Append::events(vec![event("new", "a", "")])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(LogError::Closed))), "{refused:?}");
    let refused = log.restore(&copy(3).await[1..]).await;
    assert!(matches!(refused, Err(RestoreError::Unavailable(LogError::Closed))), "{refused:?}");
    assert!(matches!(log.chain_at(1).await, Err(LogError::Closed)));
    fill(&*other, "b", 1).await;
    assert_eq!(other.head().await.unwrap().position, 2);
}
