//! Following a log.

use std::time::{Duration, Instant};

use keyledger_schemas::envelope::Recorded;

use super::{TailFactory, all, assert_whole, fill, positions};
use crate::tail::Tail;

/// Long enough for anything to arrive; a test that works never waits for it.
const LONG: Duration = Duration::from_secs(30);

/// What `tail` gives after `after` until there are `count`.
async fn collect(tail: &dyn Tail, after: u64, count: usize) -> Vec<Recorded> {
    let mut seen: Vec<Recorded> = Vec::new();
    while seen.len() < count {
        let last = seen.last().map_or(after, |event| event.position);
        let page = tail.next_after(last, 3, LONG).await.unwrap();
        assert!(!page.is_empty(), "{} of {count} events arrived", seen.len());
        seen.extend(page);
    }
    seen
}

/// In order, from `after + 1`, at most `limit`.
pub async fn events_come_in_order_from_the_one_after(place: &impl TailFactory) {
    let log = place.open().await;
    fill(&*log, "a", 5).await;
    let tail = place.tail().await;
    assert_eq!(positions(&collect(&*tail, 0, 5).await), [1, 2, 3, 4, 5]);
    assert_eq!(positions(&collect(&*tail, 3, 2).await), [4, 5]);
    let page = tail.next_after(0, 2, LONG).await.unwrap();
    assert!(page.len() <= 2 && page[0].position == 1);
}

/// The end is an empty page, no sooner than asked.
pub async fn at_the_end_it_waits_and_answers_empty(place: &impl TailFactory) {
    let log = place.open().await;
    fill(&*log, "a", 2).await;
    let tail = place.tail().await;
    collect(&*tail, 0, 2).await;
    assert_eq!(tail.next_after(2, 9, Duration::ZERO).await.unwrap(), []);
    let started = Instant::now();
    assert_eq!(tail.next_after(2, 9, Duration::from_millis(120)).await.unwrap(), []);
    assert!(started.elapsed() >= Duration::from_millis(120));
}

/// A wait ends when there is something, not when it is over.
pub async fn a_waiting_reader_gets_what_is_appended_meanwhile(place: &impl TailFactory) {
    let log = place.open().await;
    let tail = place.tail().await;
    let waiting = tokio::spawn(async move { tail.next_after(0, 9, LONG).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(20)).await;
    fill(&*log, "a", 1).await;
    assert_eq!(positions(&waiting.await.unwrap()), [1]);
}

/// A hint is not needed.
pub async fn appends_of_another_process_arrive(place: &impl TailFactory) {
    let _log = place.open().await;
    let tail = place.tail().await;
    let other = place.open().await;
    let waiting = tokio::spawn(async move { collect(&*tail, 0, 4).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    fill(&*other, "a", 4).await;
    assert_eq!(positions(&waiting.await.unwrap()), [1, 2, 3, 4]);
}

/// A consumer may go back, and several may follow one tail.
pub async fn it_holds_no_position_of_its_own(place: &impl TailFactory) {
    let log = place.open().await;
    fill(&*log, "a", 4).await;
    let tail = place.tail().await;
    for after in [3, 0, 2, 0] {
        let expected: Vec<u64> = (after + 1..=4).collect();
        assert_eq!(positions(&collect(&*tail, after, expected.len()).await), expected);
    }
}

/// Same events, byte for byte, so that a checkpoint of one tail is good on another.
pub async fn a_tail_shows_the_same_events_and_head_as_the_log(place: &impl TailFactory) {
    let log = place.open().await;
    fill(&*log, "a", 3).await;
    fill(&*log, "b", 2).await;
    let tail = place.tail().await;
    assert_eq!(collect(&*tail, 0, 5).await, all(&*log).await);
    assert_eq!(tail.head().await.unwrap(), log.head().await.unwrap());
}

/// With writers in several processes, every event arrives, in order.
pub async fn nothing_is_skipped_whoever_appends(place: &impl TailFactory) {
    let log = place.open().await;
    let tail = place.tail().await;
    let reading = tokio::spawn(async move { collect(&*tail, 0, 90).await });
    let mut writers = Vec::new();
    for writer in 0..3 {
        let log = place.open().await;
        writers.push(tokio::spawn(async move {
            for number in 0..15 {
                fill(&*log, &format!("{writer}_{number}"), 2).await;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_whole(&reading.await.unwrap(), log.head().await.unwrap());
}
