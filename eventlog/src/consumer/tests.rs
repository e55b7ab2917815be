use std::collections::VecDeque;

use jiff::Timestamp;
use keyledger_schemas::clock::ManualClock;

use super::*;
use crate::log::{Append, EventLog};
use crate::memory::MemoryLog;
use crate::tail::SqlTail;
use crate::testing::event;

/// What the handler's next calls answer, before it does as told by the events.
enum Fault {
    Retry,
    Moved,
    Fatal,
    Park(Position),
}

/// Keeps its checkpoint and what it handled together, as a database would.
#[derive(Default)]
struct Recorder {
    checkpoint: Checkpoint,
    handled: Vec<Position>,
    parked: Vec<(Position, String)>,
    faults: VecDeque<Fault>,
    ticks_due: usize,
}

#[async_trait]
impl Handler for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    async fn checkpoint(&mut self) -> Result<Checkpoint, HandleError> {
        Ok(self.checkpoint)
    }

    async fn handle(&mut self, batch: &[Recorded], from: Checkpoint) -> Result<(), HandleError> {
        assert_eq!(from, self.checkpoint);
        let position = batch[0].position;
        let mut take = batch.len();
        let result = match self.faults.pop_front() {
            None => Ok(()),
            Some(Fault::Retry) => return Err(HandleError::Retry { position, source: "the database is busy".into() }),
            Some(Fault::Moved) => return Err(HandleError::Moved),
            Some(Fault::Fatal) => return Err(HandleError::Fatal("broken".into())),
            Some(Fault::Park(position)) => {
                take = batch.iter().position(|event| event.position == position).unwrap_or(0);
                Err(HandleError::Park { position, reason: "unreadable".to_owned() })
            }
        };
        self.handled.extend(batch[..take].iter().map(|event| event.position));
        self.checkpoint = batch[..take].last().map_or(from, of_event);
        result
    }

    async fn park(&mut self, event: &Recorded, reason: &str, from: Checkpoint) -> Result<(), HandleError> {
        assert_eq!(from, self.checkpoint);
        self.parked.push((event.position, reason.to_owned()));
        self.checkpoint = of_event(event);
        Ok(())
    }

    async fn tick(&mut self) -> Result<bool, HandleError> {
        let due = self.ticks_due > 0;
        self.ticks_due = self.ticks_due.saturating_sub(1);
        Ok(due)
    }
}

async fn log_of(count: usize) -> Arc<MemoryLog> {
    let log = MemoryLog::new(Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
    grow(&log, count).await;
    Arc::new(log)
}

async fn grow(log: &MemoryLog, count: usize) {
    let start = log.head().await.unwrap().position;
    let events = (start..start + count as u64).map(|number| event(&format!("evt_{number}"), "s", "{}")).collect();
    log.append(Append::events(events)).await.unwrap();
}

fn consumer(log: &Arc<MemoryLog>, handler: Recorder) -> Consumer<Recorder> {
    let tail = Arc::new(SqlTail::new(log.clone()));
    Consumer::new(handler, tail, Options { batch: 4, ..Options::default() })
}

fn failing(faults: impl IntoIterator<Item = Fault>) -> Recorder {
    Recorder { faults: faults.into_iter().collect(), ..Recorder::default() }
}

#[tokio::test]
async fn every_event_is_handled_once_and_in_order() {
    let log = log_of(10).await;
    let mut consumer = consumer(&log, Recorder::default());
    assert_eq!(consumer.step().await.unwrap(), Step::Handled(4));
    assert_eq!(consumer.run_until_idle().await.unwrap(), Step::Idle);
    assert_eq!(consumer.handler().handled, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_restarted_consumer_goes_on_after_its_checkpoint() {
    let log = log_of(3).await;
    let mut first = consumer(&log, Recorder::default());
    first.run_until_idle().await.unwrap();
    let checkpoint = first.handler().checkpoint;
    grow(&log, 2).await;
    let mut second = consumer(&log, Recorder { checkpoint, ..Recorder::default() });
    second.run_until_idle().await.unwrap();
    assert_eq!(second.handler().handled, [4, 5]);
}

#[tokio::test]
async fn a_retry_waits_by_the_table_and_offers_the_same_batch_again() {
    let log = log_of(3).await;
    let mut consumer = consumer(&log, failing([Fault::Retry, Fault::Retry]));
    assert_eq!(consumer.step().await.unwrap(), Step::Delayed(DELAYS[0]));
    assert_eq!(consumer.step().await.unwrap(), Step::Delayed(DELAYS[1]));
    assert_eq!(consumer.step().await.unwrap(), Step::Handled(3));
    consumer.handler().faults.push_back(Fault::Retry);
    grow(&log, 1).await;
    assert_eq!(consumer.step().await.unwrap(), Step::Delayed(DELAYS[0]), "a success starts the table over");
}

#[test]
fn the_last_delay_repeats() {
    assert_eq!(delay(DELAYS, 1), DELAYS[0]);
    assert_eq!(delay(DELAYS, DELAYS.len()), Duration::from_secs(5));
    assert_eq!(delay(DELAYS, 1000), Duration::from_secs(5));
    assert_eq!(delay(&[], 1), Duration::ZERO);
}

#[tokio::test]
async fn a_parked_event_is_set_aside_with_its_reason_and_the_rest_goes_on() {
    let log = log_of(4).await;
    let mut consumer = consumer(&log, failing([Fault::Park(3)]));
    assert_eq!(consumer.step().await.unwrap(), Step::Parked(3));
    assert_eq!(consumer.step().await.unwrap(), Step::Handled(1));
    assert_eq!(consumer.handler().handled, [1, 2, 4]);
    assert_eq!(consumer.handler().parked, [(3, "unreadable".to_owned())]);
}

#[tokio::test]
async fn parking_what_was_not_offered_stops_the_role() {
    let log = log_of(2).await;
    let mut consumer = consumer(&log, failing([Fault::Park(9)]));
    assert!(matches!(consumer.step().await, Err(HandleError::Fatal(_))));
}

#[tokio::test]
async fn a_checkpoint_moved_by_another_is_loaded_again() {
    let log = log_of(3).await;
    let mut consumer = consumer(&log, failing([Fault::Moved]));
    assert!(matches!(consumer.step().await.unwrap(), Step::Delayed(_)));
    consumer.handler().checkpoint = of_event(&log.at(2).await.unwrap().unwrap());
    assert_eq!(consumer.step().await.unwrap(), Step::Handled(1));
    assert_eq!(consumer.handler().handled, [3]);
}

#[tokio::test]
async fn a_broken_invariant_stops_the_role() {
    let log = log_of(1).await;
    let mut consumer = consumer(&log, failing([Fault::Fatal]));
    assert!(matches!(consumer.step().await, Err(HandleError::Fatal(_))));
}

#[tokio::test]
async fn a_checkpoint_of_another_log_or_beyond_the_end_has_diverged() {
    let log = log_of(3).await;
    let elsewhere = [(2, [7; 32]), (4, [7; 32]), (0, [7; 32])];
    for (position, chain) in elsewhere {
        let handler = Recorder { checkpoint: Checkpoint { position, chain }, ..Recorder::default() };
        let mut consumer = consumer(&log, handler);
        let result = consumer.step().await;
        assert!(matches!(result, Err(HandleError::Diverged { position: at }) if at == position), "{result:?}");
        assert!(consumer.handler().handled.is_empty());
    }
}

#[tokio::test]
async fn a_log_exchanged_under_a_running_consumer_is_noticed() {
    let log = log_of(3).await;
    let mut consumer = consumer(&log, Recorder::default());
    consumer.run_until_idle().await.unwrap();

    let other = MemoryLog::new(Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
    let events = (0..4).map(|number| event(&format!("other_{number}"), "s", "{}")).collect();
    other.append(Append::events(events)).await.unwrap();
    consumer.tail = Arc::new(SqlTail::new(Arc::new(other)));
    assert!(matches!(consumer.step().await, Err(HandleError::Diverged { position: 4 })));
}

#[tokio::test]
async fn a_checkpoint_that_went_back_with_its_log_is_read_again() {
    let log = log_of(3).await;
    let mut consumer = consumer(&log, Recorder::default());
    consumer.run_until_idle().await.unwrap();

    let other = log_of(2).await;
    let events = (0..3).map(|number| event(&format!("other_{number}"), "s", "{}")).collect();
    other.append(Append::events(events)).await.unwrap();
    consumer.handler().checkpoint = of_event(&other.at(2).await.unwrap().unwrap());
    consumer.tail = Arc::new(SqlTail::new(other));
    assert_eq!(consumer.step().await.unwrap(), Step::Delayed(Duration::ZERO));
    assert_eq!(consumer.step().await.unwrap(), Step::Handled(3));
}

#[tokio::test]
async fn a_byte_that_changed_in_the_data_stops_the_role() {
    let log = log_of(3).await;
    let mut batch = log.read_after(0, 3).await.unwrap();
    assert!(follows(&batch, Checkpoint::default()).is_ok());
    batch[1].data = b"{ }".to_vec();
    let Err(HandleError::Fatal(error)) = follows(&batch, Checkpoint::default()) else { panic!("not noticed") };
    assert_eq!(error.to_string(), "the event at position 2 is damaged: its data is not what was recorded");
}

#[tokio::test]
async fn idle_means_that_neither_events_nor_time_have_work() {
    let log = log_of(0).await;
    let mut consumer = consumer(&log, Recorder { ticks_due: 3, ..Recorder::default() });
    assert_eq!(consumer.step().await.unwrap(), Step::Ticked);
    assert_eq!(consumer.run_until_idle().await.unwrap(), Step::Idle);
    assert_eq!(consumer.handler().ticks_due, 0);
}

#[tokio::test]
async fn a_closed_log_stops_the_role() {
    let log = log_of(1).await;
    log.close().await;
    let mut consumer = consumer(&log, Recorder::default());
    assert!(matches!(consumer.step().await, Err(HandleError::Fatal(_))));
}

#[tokio::test(start_paused = true)]
async fn a_running_consumer_stops_when_told_even_in_a_long_delay() {
    let log = log_of(2).await;
    let handler = failing(std::iter::repeat_with(|| Fault::Retry).take(100));
    let mut consumer = consumer(&log, handler);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_mins(1)).await;
        stop.cancel();
    });
    let started = tokio::time::Instant::now();
    consumer.run(shutdown).await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_mins(1));
    assert!(consumer.handler().handled.is_empty());
}

#[tokio::test]
async fn a_running_consumer_sees_what_is_appended_while_it_waits() {
    let log = log_of(0).await;
    let mut consumer = consumer(&log, Recorder::default());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let writer = tokio::spawn(async move {
        for _ in 0..5 {
            grow(&log, 3).await;
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
    });
    consumer.run(shutdown).await.unwrap();
    writer.await.unwrap();
    assert_eq!(consumer.handler().handled, (1..=15).collect::<Vec<_>>());
}
