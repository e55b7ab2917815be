//! Senders that do not take their answers hold no place for long.

use std::sync::Arc;
use std::time::Duration;

use keyledger_ingest::options::Options;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{SECRET, Service, event, options, source};

/// More than the system buffers for one connection, on both ends together.
const ANSWER_BYTES: usize = 48 * 1024 * 1024;
const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";

/// A service with few places and one large answer.
async fn service(connections_max: usize, header_timeout_ms: u64) -> Service {
    let options = Options { connections_max, header_timeout_ms, ..options() };
    let answer = "x".repeat(ANSWER_BYTES);
    let render = Arc::new(move || answer.clone());
    Service::built(options, vec![source("default", &[SECRET])], |ingest| ingest.with_metrics(render)).await
}

async fn asked(service: &Service, times: usize) -> TcpStream {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(&GET.repeat(times)).await.unwrap();
    stream
}

/// Reads to the end, with a pause after every part; how many bytes came.
async fn taken(stream: &mut TcpStream, part_bytes: usize, pause: Duration) -> usize {
    let mut taken = 0;
    let mut buffer = vec![0; part_bytes];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return taken,
            Ok(bytes) => taken += bytes,
        }
        tokio::time::sleep(pause).await;
    }
}

#[tokio::test]
async fn readers_that_never_read_do_not_keep_a_delivery_out() {
    let service = service(3, 200).await;
    let mut never_read = Vec::new();
    for _ in 0..4 {
        never_read.push(asked(&service, 3).await);
    }
    assert_eq!(service.post(&event("evt_1", "invoice.paid")).await, StatusCode::OK);
    assert_eq!(service.events().await.len(), 1);
}

#[tokio::test]
async fn a_little_progress_does_not_renew_the_time() {
    // Longer than the system takes to report progress, shorter than the answer takes.
    let service = service(1, 1_000).await;
    let mut trickle = asked(&service, 1).await;
    let reading = tokio::spawn(async move { taken(&mut trickle, 64 * 1024, Duration::from_millis(5)).await });
    assert_eq!(service.post(&event("evt_1", "invoice.paid")).await, StatusCode::OK);
    let taken = reading.await.unwrap();
    assert!(taken < ANSWER_BYTES, "all of the answer was taken: {taken}");
}

#[tokio::test]
async fn a_large_answer_arrives_whole_where_it_is_taken() {
    let service = service(1, 10_000).await;
    for _ in 0..2 {
        let (status, body) = service.get("/metrics").await;
        assert_eq!((status, body.len()), (StatusCode::OK, ANSWER_BYTES));
    }
}
