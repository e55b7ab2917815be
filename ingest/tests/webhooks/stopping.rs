//! Stopping: what is in hand is finished, and every 2xx is in the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keyledger_ingest::options::Options;
use keyledger_ingest::signature;
use keyledger_schemas::secret::Secret;
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::support::{SECRET, Service, Switch, event, options, source, start_of_test};

#[tokio::test]
async fn requests_in_hand_are_finished_and_every_200_is_in_the_log() {
    let mut service = Service::start().await;
    service.log.switch(Switch::Slow);
    let url = Arc::new(service.url("/webhooks/stripe"));
    let senders: Vec<_> = (0..20)
        .map(|sender| {
            let (client, url) = (service.client.clone(), Arc::clone(&url));
            tokio::spawn(async move {
                let mut answered = Vec::new();
                for n in 0..1000 {
                    let id = format!("evt_{sender}x{n}");
                    let body = event(&id, "invoice.paid");
                    let header = signature::sign(&Secret::new(SECRET), &body, start_of_test());
                    let request = client.post(url.as_str()).header(signature::HEADER, header).body(body);
                    match request.send().await {
                        Ok(response) if response.status().is_success() => answered.push(id),
                        _ => break,
                    }
                }
                answered
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(400)).await;
    service.stopped().await;

    let kept: BTreeSet<String> = service.events().await.into_iter().map(|event| event.id.to_string()).collect();
    let mut answered = 0;
    for sender in senders {
        for id in sender.await.unwrap() {
            answered += 1;
            assert!(kept.contains(&format!("default:-:live:{id}:2024-06-20")), "{id} was answered with 200 and lost");
        }
    }
    assert!(answered >= 20, "{answered}: every sender had a request answered before or while stopping");
    assert!(TcpStream::connect(service.address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn idle_connections_do_not_delay_stopping() {
    let mut service = Service::start().await;
    let _untouched = TcpStream::connect(service.address).await.unwrap();
    let _kept_alive = service.get("/health/live").await;
    let started = Instant::now();
    service.stopped().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_request_that_does_not_end_is_dropped_at_the_deadline() {
    let options = Options { stop_timeout_ms: 200, ..options() };
    let mut service = Service::with(options, vec![source("default", &[SECRET])]).await;
    let mut endless = TcpStream::connect(service.address).await.unwrap();
    let head = b"POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    endless.write_all(head).await.unwrap();
    // Answered after the head above was accepted: connections are accepted in order.
    service.get("/health/live").await;
    let started = Instant::now();
    service.stopped().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn while_it_drains_every_request_is_taken_and_ends_its_connection() {
    let options = Options { drain_ms: 1_500, ..options() };
    let mut service = Service::with(options, vec![source("default", &[SECRET])]).await;
    assert_eq!(service.get("/health/ready").await.0, StatusCode::OK);
    service.stop.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (status, body) = service.get("/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("told to stop"), "{body}");

    let body = event("evt_late", "invoice.paid");
    let header = signature::sign(&Secret::new(SECRET), &body, start_of_test());
    let response = service.post_with("/webhooks/stripe", &header, body).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["connection"], "close");
    service.stopped().await;
    assert_eq!(service.kinds().await, ["stripe.invoice.paid"]);
    assert!(TcpStream::connect(service.address).await.is_err(), "nothing listens any more");
}
