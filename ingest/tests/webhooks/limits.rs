//! Size, time and number: everything a stranger can send is bounded.

use std::time::Duration;

use keyledger_ingest::options::Options;
use keyledger_ingest::signature;
use keyledger_schemas::event::{BodyRefused, Event};
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{SECRET, Service, Switch, event, event_with, options, source};

const MIB_4: usize = 4 * 1024 * 1024;

/// An event of exactly `size` bytes.
fn event_of_size(id: &str, size: usize) -> Vec<u8> {
    let padded = |padding| event_with(id, "invoice.paid", &json!({"padding": "x".repeat(padding)}));
    let body = padded(size - padded(0).len());
    assert_eq!(body.len(), size);
    body
}

fn refused(event: &keyledger_schemas::envelope::Recorded) -> BodyRefused {
    match Event::decode(&event.kind, &event.data).unwrap() {
        Some(Event::BodyRefused(refused)) => refused,
        other => panic!("not a refusal: {other:?}"),
    }
}

/// Sends `request` as it is and reads until the service closes or is silent for long.
async fn raw(service: &Service, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    // The service may answer and close before it has everything.
    let _ = stream.write_all(request).await;
    answer(&mut stream).await
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request in chunks, without a length.
fn chunked(signature: &str, body: &[u8], is_complete: bool) -> Vec<u8> {
    let mut request = format!(
        "POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{}: {signature}\r\ntransfer-encoding: \
         chunked\r\n\r\n",
        signature::HEADER
    )
    .into_bytes();
    for chunk in body.chunks(50_000) {
        request.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    if is_complete {
        request.extend(b"0\r\n\r\n");
    }
    request
}

#[tokio::test]
async fn four_mebibytes_are_kept_whole() {
    let service = Service::start().await;
    let body = event_of_size("evt_1", MIB_4);
    assert_eq!(service.post(&body).await, StatusCode::OK);
    let [kept] = service.events().await.try_into().unwrap();
    assert!(kept.data == body, "the bytes are not the same");
}

#[tokio::test]
async fn one_byte_more_is_refused_and_noted_once_an_hour() {
    let mut service = Service::start().await;
    let body = event_of_size("evt_1", MIB_4 + 1);
    for _ in 0..3 {
        assert_eq!(service.post(&body).await, StatusCode::PAYLOAD_TOO_LARGE);
        // Until the first is in the log, so that it is the first alone.
        service.wait_for("ingest.body_refused", 1).await;
    }
    let first = service.wait_for("ingest.body_refused", 1).await;
    assert_eq!(first.len(), 1);
    let first = refused(&first[0]);
    assert_eq!((first.count, first.limit_bytes, first.largest_bytes), (1, 4_194_304, Some(4_194_305)));

    service.stopped().await;
    let both = service.wait_for("ingest.body_refused", 2).await;
    assert_eq!(both.iter().map(|event| refused(event).count).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(service.events().await.len(), 2, "nothing else is in the log");
}

#[tokio::test]
async fn a_new_hour_of_refusals_is_a_new_event() {
    let service = Service::start().await;
    let body = event_of_size("evt_1", MIB_4 + 1);
    service.post(&body).await;
    service.wait_for("ingest.body_refused", 1).await;
    service.clock.advance(Duration::from_hours(1));
    service.post(&body).await;
    let events = service.wait_for("ingest.body_refused", 2).await;
    assert_ne!(refused(&events[0]).hour, refused(&events[1]).hour);
}

#[tokio::test]
async fn a_refusal_is_noted_once_the_log_is_back() {
    let mut service = Service::start().await;
    service.log.switch(Switch::Down);
    assert_eq!(service.post(&event_of_size("evt_1", MIB_4 + 1)).await, StatusCode::PAYLOAD_TOO_LARGE);
    service.log.switch(Switch::Well);
    service.stopped().await;
    assert_eq!(service.kinds().await, ["ingest.body_refused"]);
}

#[tokio::test]
async fn an_announced_size_over_the_limit_is_refused_before_the_body_is_sent() {
    let service = Service::start().await;
    let head = "POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    let answer = raw(&service, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn chunks_without_a_length_are_taken_up_to_the_limit() {
    let options = Options { body_bytes_max: 300_000, ..options() };
    let service = Service::with(options, vec![source("default", &[SECRET])]).await;
    let body = event_of_size("evt_1", 300_000);
    let taken = raw(&service, &chunked(&service.signed(&body), &body, true)).await;
    assert!(taken.starts_with("HTTP/1.1 200"), "{taken}");
    let body = event_of_size("evt_2", 300_001);
    let refused = raw(&service, &chunked(&service.signed(&body), &body, true)).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    service.wait_for("ingest.body_refused", 1).await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_given_up() {
    let options = Options { body_timeout_ms: 100, ..options() };
    let service = Service::with(options, vec![source("default", &[SECRET])]).await;
    let body = event("evt_1", "invoice.paid");
    let slow = raw(&service, &chunked(&service.signed(&body), &body, false)).await;
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    assert!(service.events().await.is_empty());
}

#[tokio::test]
async fn a_head_that_does_not_arrive_in_time_is_given_up() {
    let options = Options { header_timeout_ms: 100, ..options() };
    let service = Service::with(options, vec![source("default", &[SECRET])]).await;
    for head in ["", "POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the connection stays open after {head:?}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let service = Service::start().await;
    let body = event("evt_1", "invoice.paid");
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(&chunked(&service.signed(&body), &body, false)).await.unwrap();
    drop(stream);
    assert_eq!(service.post(&event("evt_2", "invoice.paid")).await, StatusCode::OK);
    assert_eq!(service.events().await.len(), 1);
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let service = Service::start().await;
    let long = format!("POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(20_000));
    let many = format!("POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: 1\r\n".repeat(101));
    for head in [long, many] {
        let answer = raw(&service, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn more_requests_than_allowed_are_told_to_come_again() {
    let options = Options { requests_max: 1, ..options() };
    let service = Service::with(options, vec![source("default", &[SECRET])]).await;
    service.log.switch(Switch::Slow);
    let bodies: Vec<_> = (0..8).map(|n| event(&format!("evt_{n}"), "invoice.paid")).collect();
    let responses = futures::future::join_all(
        bodies
            .iter()
            .map(async |body| service.post_with("/webhooks/stripe", &service.signed(body), body.clone()).await),
    )
    .await;
    let taken = responses.iter().filter(|response| response.status() == StatusCode::OK).count();
    let turned_away = responses.iter().filter(|response| response.status() == StatusCode::SERVICE_UNAVAILABLE);
    let turned_away: Vec<_> = turned_away.collect();
    assert!(taken >= 1 && !turned_away.is_empty() && taken + turned_away.len() == 8);
    assert!(turned_away.iter().all(|response| response.headers().contains_key("retry-after")));
    assert_eq!(service.events().await.len(), taken);
    service.log.switch(Switch::Well);
    assert_eq!(service.post(&event("evt_9", "invoice.paid")).await, StatusCode::OK);
}

#[tokio::test]
async fn more_bytes_than_allowed_are_told_to_come_again() {
    let options = Options { body_bytes_max: 100_000, buffered_bytes_max: 100_000, ..options() };
    let service = Service::with(options, vec![source("default", &[SECRET])]).await;
    service.log.switch(Switch::Slow);
    let bodies = [event_of_size("evt_1", 60_000), event_of_size("evt_2", 60_000)];
    let (first, second) = tokio::join!(service.post(&bodies[0]), service.post(&bodies[1]));
    let mut statuses = [first, second];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE]);
    service.log.switch(Switch::Well);
    assert_eq!(service.post(&event_of_size("evt_3", 100_000)).await, StatusCode::OK);
}

#[tokio::test]
async fn a_log_that_cannot_be_reached_is_a_503_with_a_time_to_come_again() {
    let options = Options { append_timeout_ms: 50, ..options() };
    let service = Service::with(options, vec![source("default", &[SECRET])]).await;
    let body = event("evt_1", "invoice.paid");
    for state in [Switch::Down, Switch::Hangs] {
        service.log.switch(state);
        let response = service.post_with("/webhooks/stripe", &service.signed(&body), body.clone()).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{state:?}");
        assert!(response.headers().contains_key("retry-after"), "{state:?}");
        assert!(service.events().await.is_empty());
    }
    service.log.switch(Switch::Well);
    assert_eq!(service.post(&body).await, StatusCode::OK);
    assert_eq!(service.events().await.len(), 1);
}

#[tokio::test]
async fn bodies_that_strangers_do_not_finish_take_no_place_from_a_delivery() {
    let options = Options { requests_max: 1, ..options() };
    let service = Service::with(options, vec![source("default", &[SECRET])]).await;
    let mut unfinished = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        stream.write_all(b"POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
        unfinished.push(stream);
    }
    // Answered after the heads above were accepted: connections are accepted in order.
    service.get("/health/live").await;
    assert_eq!(service.post(&event("evt_1", "invoice.paid")).await, StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_still_waits_for_the_log_counts_as_memory_in_use() {
    let options = Options { body_bytes_max: 100_000, buffered_bytes_max: 150_000, append_timeout_ms: 500, ..options() };
    let service = Service::with(options, vec![source("default", &[SECRET])]).await;
    service.log.switch(Switch::Hangs);
    let body = event_of_size("evt_1", 100_000);
    assert_eq!(service.post(&body).await, StatusCode::SERVICE_UNAVAILABLE);
    service.log.switch(Switch::Well);
    // The first append never ends, so its body is still in memory.
    let refused = service.post_with("/webhooks/stripe", &service.signed(&body), body.clone()).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().await.unwrap().contains("overloaded"));
    assert_eq!(service.post(&event("evt_2", "invoice.paid")).await, StatusCode::OK, "there is room for a small one");
}
