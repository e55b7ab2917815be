//! Many at once: writers and readers in one process, and in several.

use std::sync::Arc;

use keyledger_schemas::ids::EventId;

use super::{Factory, all, assert_whole};
use crate::log::{Append, AppendError, EventLog, Placed};
use crate::state::{StateChange, StateWrite};
use crate::testing::event;

const PROCESSES: usize = 3;
const TASKS: usize = 4;
const APPENDS: usize = 12;

async fn handles(place: &impl Factory) -> Vec<Arc<dyn EventLog>> {
    let mut handles = Vec::new();
    for _ in 0..PROCESSES {
        handles.push(place.open().await);
    }
    handles
}

/// Every task of every handle appends batches of one to three, and says which events were acknowledged where.
async fn append_all(handles: &[Arc<dyn EventLog>]) -> Vec<(EventId, Placed)> {
    let mut tasks = Vec::new();
    for (process, log) in handles.iter().enumerate() {
        for task in 0..TASKS {
            let log = Arc::clone(log);
            tasks.push(tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0..APPENDS {
                    let ids: Vec<EventId> = (0..=number % 3)
                        .map(|part| EventId::new(format!("evt_{process}_{task}_{number}_{part}")))
                        .collect();
                    // Two streams per process, one of them shared by all.
                    let stream = if number % 2 == 0 { "shared".to_owned() } else { format!("own_{process}") };
                    let events = ids.iter().map(|id| event(id.as_str(), &stream, id.as_str())).collect();
                    let placed = log.append(Append::events(events)).await.unwrap();
                    acknowledged.extend(ids.into_iter().zip(placed));
                }
                acknowledged
            }));
        }
    }
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    acknowledged
}

/// Gapless, chained, and each event where its writer was told.
pub async fn many_writers_in_many_processes_leave_no_gap(place: &impl Factory) {
    let handles = handles(place).await;
    let acknowledged = append_all(&handles).await;
    let events = all(&*handles[0]).await;
    assert_whole(&events, handles[1].head().await.unwrap());
    assert_eq!(events.len(), acknowledged.len());
    for (id, placed) in acknowledged {
        let Placed::Appended(position) = placed else { panic!("{id} was new: {placed:?}") };
        assert_eq!(events[usize::try_from(position).unwrap() - 1].id, id);
    }
}

/// The version is checked and written in one transaction, across processes.
pub async fn of_those_who_expect_one_version_exactly_one_succeeds(place: &impl Factory) {
    let handles = handles(place).await;
    let mut tasks = Vec::new();
    for number in 0..PROCESSES * TASKS {
        let log = Arc::clone(&handles[number % PROCESSES]);
        tasks.push(tokio::spawn(async move {
            let append = Append {
                events: vec![event(&format!("evt_{number}"), "s", "")],
                expected: Some(("s".into(), 0)),
                ..Append::default()
            };
            log.append(append).await
        }));
    }
    let mut winners = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(placed) => {
                assert_eq!(placed, [Placed::Appended(1)]);
                winners += 1;
            }
            Err(AppendError::Conflict { expected: 0, actual: 1, .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(winners, 1);
    assert_eq!(handles[0].head().await.unwrap().position, 1);
}

/// Appends that are committed together are answered apart.
pub async fn a_refused_append_does_not_harm_its_neighbors(place: &impl Factory) {
    let log = place.open().await;
    log.append(Append::events(vec![event("taken", "s", "1")])).await.unwrap();
    let mut tasks = Vec::new();
    for number in 0..60 {
        let log = Arc::clone(&log);
        tasks.push(tokio::spawn(async move {
            let good = event(&format!("good_{number}"), "s", "");
            let append = match number % 3 {
                0 => Append::events(vec![good]),
                1 => Append::events(vec![good, event("taken", "s", "other")]),
                _ => Append { events: vec![good], expected: Some(("s".into(), 0)), ..Append::default() },
            };
            (number % 3 == 0, log.append(append).await)
        }));
    }
    for task in tasks {
        let (is_good, result) = task.await.unwrap();
        assert_eq!(result.is_ok(), is_good, "{result:?}");
    }
    let events = all(&*log).await;
    assert_eq!(events.len(), 21);
    assert_whole(&events, log.head().await.unwrap());
}

/// Duplicates are found within one group and between processes.
pub async fn one_id_offered_by_many_at_once_is_written_once(place: &impl Factory) {
    let handles = handles(place).await;
    let mut tasks = Vec::new();
    for number in 0..PROCESSES * TASKS * 2 {
        let log = Arc::clone(&handles[number % PROCESSES]);
        tasks.push(tokio::spawn(async move { log.append(Append::events(vec![event("one", "s", "")])).await }));
    }
    let mut appended = 0;
    for task in tasks {
        let placed = task.await.unwrap().unwrap();
        assert_eq!(placed[0].position(), 1);
        appended += usize::from(placed == [Placed::Appended(1)]);
    }
    assert_eq!(appended, 1);
    assert_eq!(handles[0].head().await.unwrap().position, 1);
}

/// A reader that asks for what comes after its last position sees every event, while writers append.
pub async fn paging_while_others_append_skips_nothing(place: &impl Factory) {
    let handles = handles(place).await;
    let reader = place.open().await;
    let expected = PROCESSES * TASKS * (0..APPENDS).map(|number| number % 3 + 1).sum::<usize>();
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
        while seen.len() < expected && tokio::time::Instant::now() < deadline {
            let after = seen.last().map_or(0, |event: &keyledger_schemas::envelope::Recorded| event.position);
            seen.extend(reader.read_after(after, 5).await.unwrap());
            tokio::task::yield_now().await;
        }
        seen
    });
    append_all(&handles).await;
    let seen = reading.await.unwrap();
    assert_eq!(seen.len(), expected);
    assert_whole(&seen, handles[0].head().await.unwrap());
}

/// Expected revisions are checked and written in one transaction, across processes.
pub async fn counting_by_expected_revision_loses_nothing(place: &impl Factory) {
    let handles = handles(place).await;
    let mut tasks = Vec::new();
    for log in &handles {
        for _ in 0..TASKS {
            let log = Arc::clone(log);
            tasks.push(tokio::spawn(async move {
                let mut counted = 0;
                while counted < 5 {
                    counted += usize::from(count_up(&*log).await);
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let row = handles[0].state("test", "counter").await.unwrap().unwrap();
    let total = PROCESSES * TASKS * 5;
    assert_eq!(String::from_utf8(row.value).unwrap(), total.to_string());
    assert_eq!(row.revision, total as u64);
}

/// Reads the counter and writes one more; `false` when someone else was faster.
async fn count_up(log: &dyn EventLog) -> bool {
    let row = log.state("test", "counter").await.unwrap();
    let (count, revision) = match row {
        Some(row) => (String::from_utf8(row.value).unwrap().parse::<u64>().unwrap(), row.revision),
        None => (0, 0),
    };
    let change = StateChange::Put { value: (count + 1).to_string().into_bytes(), due_at: None };
    let write =
        StateWrite { namespace: "test".to_owned(), key: "counter".to_owned(), expected: Some(revision), change };
    match log.append(Append { state: vec![write], ..Append::default() }).await {
        Ok(_) => true,
        Err(AppendError::StaleState { .. }) => false,
        Err(other) => panic!("{other:?}"),
    }
}
