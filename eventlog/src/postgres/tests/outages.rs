//! The server is killed, restarted, or cut off; another process holds the head, or dies with it.

use std::collections::BTreeMap;

use super::*;
use crate::verify::verify;

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_in_the_database() {
    let server = Postgres::start();
    let log = open(&server).await;
    append(&log, "a").await.unwrap();
    log.0.faults.lose_the_answer();
    assert_eq!(append(&log, "b").await.unwrap(), Placed::Appended(2));
    log.0.faults.lose_the_answer();
    let state = vec![put("k", "1", Some(0))];
    assert_eq!(log.append(Append { state, ..Append::default() }).await.unwrap(), []);
    assert_eq!(log.head().await.unwrap().position, 2);
}

#[tokio::test]
async fn a_commit_that_did_not_happen_is_unavailable_and_the_next_append_takes_its_place() {
    let server = Postgres::start();
    let log = open(&server).await;
    log.0.faults.lose_the_commit();
    let refused = append(&log, "a").await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    log.0.faults.lose_the_commit();
    let refused = log.append(Append { state: vec![put("k", "1", None)], ..Append::default() }).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert_eq!(log.head().await.unwrap(), Head::default());
    assert_eq!(log.state("test", "k").await.unwrap(), None);
    assert_eq!(append(&log, "a").await.unwrap(), Placed::Appended(1));
}

#[tokio::test]
async fn a_restarted_server_is_found_again_and_a_connection_that_was_lost_costs_no_append() {
    let mut server = Postgres::start();
    let log = open(&server).await;
    append(&log, "a").await.unwrap();
    log.head().await.unwrap();
    server.stop();
    let began = Instant::now();
    let refused = append(&log, "b").await;
    assert!(matches!(refused, Err(AppendError::Unavailable(LogError::Database(_)))), "{refused:?}");
    assert!(matches!(log.head().await, Err(LogError::Database(_))));
    assert!(matches!(log.state("test", "k").await, Err(LogError::Database(_))));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    server.start_again();
    assert_eq!(append_patiently(&log, "b").await, Placed::Appended(2));
    // Nobody asked while it was away: the first who asks does not notice.
    server.stop();
    server.start_again();
    assert_eq!(append(&log, "c").await.unwrap(), Placed::Appended(3));
    assert_eq!(log.head().await.unwrap().position, 3);
}

#[tokio::test]
async fn while_the_server_says_nothing_everyone_is_told_in_time() {
    let server = Postgres::start();
    let link = Link::to(server.port()).await;
    let log = try_open(&through(&link)).await.unwrap();
    append(&log, "a").await.unwrap();
    link.silence();
    let began = Instant::now();
    let (appended, head, state) = tokio::join!(append(&log, "b"), log.head(), log.state("test", "k"));
    assert!(matches!(appended, Err(AppendError::Unavailable(LogError::Database(_)))), "{appended:?}");
    assert!(matches!(head, Err(LogError::Database(_))) && matches!(state, Err(LogError::Database(_))));
    // Twice the time for a transaction, and for connecting anew.
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    link.mend();
    assert_eq!(append_patiently(&log, "b").await, Placed::Appended(2));
    assert_eq!(log.head().await.unwrap().position, 2);
}

#[tokio::test]
async fn a_writer_that_goes_silent_with_the_head_does_not_keep_it() {
    let server = Postgres::start();
    let log = open(&server).await;
    let mut silent = Server::new(url::parse(&server.url()).unwrap(), &options()).for_writing().await.unwrap();
    sqlx::query("begin").execute(&mut silent).await.unwrap();
    sqlx::query("select position from log_head for update").execute(&mut silent).await.unwrap();
    assert!(matches!(append(&log, "a").await, Err(AppendError::Unavailable(_))), "the head is taken");
    assert_eq!(append_patiently(&log, "a").await, Placed::Appended(1));
    assert!(sqlx::query("commit").execute(&mut silent).await.is_err(), "the server has ended it");
}

#[tokio::test]
async fn an_append_waits_for_another_process_that_has_the_head() {
    let server = Postgres::start();
    let log = open(&server).await;
    let mut holder = holding_the_head(&server).await;
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { append(&log, "a").await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "the head is taken");
    sqlx::query("commit").execute(&mut holder).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Placed::Appended(1));
}

#[tokio::test]
async fn closing_finishes_what_is_queued() {
    let server = Postgres::start();
    let log = open(&server).await;
    let mut holder = holding_the_head(&server).await;
    let mut tasks = Vec::new();
    for id in ["a", "b", "c"] {
        let log = log.clone();
        tasks.push(tokio::spawn(async move { append(&log, id).await }));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let closing = tokio::spawn(async move { log.close().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    sqlx::query("commit").execute(&mut holder).await.unwrap();
    closing.await.unwrap();
    for (index, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap().unwrap(), Placed::Appended(index as u64 + 1));
    }
}

#[tokio::test]
async fn an_append_of_another_process_wakes_who_waits() {
    let server = Postgres::start();
    let (log, other) = (open(&server).await, open(&server).await);
    let mut wake = log.wake();
    // The listener may not listen yet: a hint is not a promise, so it is given more than once.
    let began = Instant::now();
    for number in 0.. {
        append(&other, &number.to_string()).await.unwrap();
        if tokio::time::timeout(Duration::from_millis(200), wake.changed()).await.is_ok() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "nothing is heard");
    }
    assert!(*wake.borrow() >= 1);
}

#[tokio::test]
async fn large_bodies_that_come_together_are_all_kept() {
    let server = Postgres::start();
    let log = PostgresLog::open(&server.url(), clock(), Options::default()).await.unwrap();
    let mut tasks = Vec::new();
    for number in 0..10_u8 {
        let log = log.clone();
        let body: Vec<u8> = (0..4 * 1024 * 1024_u32).map(|index| number ^ index.to_be_bytes()[2]).collect();
        tasks.push(tokio::spawn(async move {
            log.append(Append::events(vec![event(&number.to_string(), "s", body)])).await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(verify(&log, |_| ()).await.unwrap().events, 10);
}

/// Each writer appends one after the other, again where it was not told, and says where each came to stand.
async fn write(log: PostgresLog, writer: usize, count: usize) -> BTreeMap<String, u64> {
    let mut acknowledged = BTreeMap::new();
    for number in 0..count {
        let id = format!("w{writer}_{number}");
        let placed = append_patiently(&log, &id).await;
        acknowledged.insert(id, placed.position());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_many_writers_loses_and_doubles_nothing() {
    const WRITERS: usize = 24;
    const APPENDS: usize = 60;
    let mut server = Postgres::start();
    let link = Link::to(server.port()).await;
    // Two processes, one of them over a network that is cut too.
    let logs = [open(&server).await, try_open(&through(&link)).await.unwrap()];
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        tasks.push(tokio::spawn(write(logs[writer % 2].clone(), writer, APPENDS)));
    }
    for round in 0..4 {
        let before = logs[0].wake().borrow().to_owned();
        let began = Instant::now();
        while *logs[0].wake().borrow() < before + 100 && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if round % 2 == 0 {
            server.kill();
            server.start_again();
        } else {
            link.cut();
            tokio::time::sleep(Duration::from_millis(50)).await;
            link.mend();
        }
    }
    let mut acknowledged = BTreeMap::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    let report = verify(&logs[0], |_| ()).await.unwrap();
    assert_eq!(report.problem, None);
    assert_eq!(report.events, (WRITERS * APPENDS) as u64, "none is lost, none is there twice");
    assert_eq!(acknowledged.len(), WRITERS * APPENDS);
    for (id, position) in acknowledged {
        assert_eq!(logs[1].find(&id.as_str().into()).await.unwrap().unwrap().position, position, "{id}");
    }
}

#[tokio::test]
async fn the_servers_time_counts_whatever_happens_to_the_machines() {
    let mut server = Postgres::start();
    let local = clock();
    let refresh = Duration::from_millis(50);
    let clock = DatabaseClock::refreshing(&server.url(), local.clone(), refresh).await.unwrap();
    let micros = server.psql("select (extract(epoch from clock_timestamp()) * 1000000)::bigint");
    let servers_now = Timestamp::from_microsecond(micros.parse().unwrap()).unwrap();
    let began = Instant::now();
    let is_right = || {
        let expected = servers_now + began.elapsed();
        assert!(clock.now().duration_since(expected).abs().as_secs() < 10, "{} is not {expected}", clock.now());
    };
    is_right();
    // The machine's own clock jumps, and is not asked.
    local.advance(Duration::from_hours(1000));
    is_right();
    tokio::time::sleep(refresh * 4).await;
    is_right();
    server.stop();
    tokio::time::sleep(refresh * 4).await;
    local.advance(Duration::from_hours(1000));
    is_right();
    let before = clock.now();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(clock.now() > before, "it goes on without the server");
    assert!(DatabaseClock::start(&server.url(), local).await.is_err(), "without any answer there is no time");
}
