//! Liveness, readiness and metrics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyledger_ingest::gate::{Closed, Gate};
use keyledger_ingest::health::{NotReady, ReadinessCheck};
use keyledger_ingest::options::Options;
use reqwest::StatusCode;

use super::support::{SECRET, Service, Switch, options, source};

struct Lagging;

#[async_trait]
impl ReadinessCheck for Lagging {
    fn name(&self) -> &'static str {
        "projector"
    }

    async fn check(&self) -> Result<(), NotReady> {
        Err(NotReady("3 minutes behind".to_owned()))
    }
}

#[tokio::test]
async fn a_service_whose_log_answers_is_live_and_ready() {
    let service = Service::start().await;
    assert_eq!(service.get("/health/live").await.0, StatusCode::OK);
    let (status, body) = service.get("/health/ready").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"ready":true,"checks":[{"name":"log","ok":true}]}"#));
}

#[tokio::test]
async fn without_its_log_a_service_is_live_but_not_ready() {
    let options = Options { check_timeout_ms: 50, ..options() };
    let service = Service::with(options, vec![source("default", &[SECRET])]).await;
    for state in [Switch::Down, Switch::Hangs] {
        service.log.switch(state);
        assert_eq!(service.get("/health/live").await.0, StatusCode::OK, "{state:?}");
        let (status, body) = service.get("/health/ready").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{state:?}");
        assert!(body.contains(r#""name":"log","ok":false"#), "{body}");
    }
    service.log.switch(Switch::Well);
    assert_eq!(service.get("/health/ready").await.0, StatusCode::OK);
}

#[tokio::test]
async fn checks_of_the_executable_count_too() {
    let sources = vec![source("default", &[SECRET])];
    let service = Service::built(options(), sources, |ingest| ingest.with_check(Arc::new(Lagging))).await;
    let (status, body) = service.get("/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains(r#"{"name":"projector","ok":false,"reason":"3 minutes behind"}"#), "{body}");
    assert!(body.contains(r#"{"name":"log","ok":true}"#), "{body}");
}

#[tokio::test]
async fn metrics_are_what_the_executable_renders() {
    let sources = vec![source("default", &[SECRET])];
    let render = || Arc::new(|| "keyledger_up 1\n".to_owned());
    let service = Service::built(options(), sources, |ingest| ingest.with_metrics(render())).await;
    assert_eq!(service.get("/metrics").await, (StatusCode::OK, "keyledger_up 1\n".to_owned()));
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_service_goes_on() {
    let service = Service::start().await;
    service.log.switch(Switch::Panics);
    let status = service.post(&super::support::event("evt_1", "invoice.paid")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    service.log.switch(Switch::Well);
    tokio::time::timeout(Duration::from_secs(5), service.post(&super::support::event("evt_1", "invoice.paid")))
        .await
        .map(|status| assert_eq!(status, StatusCode::OK))
        .unwrap();
}

#[tokio::test]
async fn while_the_gate_is_closed_nothing_is_taken_and_readiness_says_why() {
    let gate = Gate::default();
    gate.set(Some(Closed::BehindMirror));
    let sources = vec![source("default", &[SECRET])];
    let service = Service::built(options(), sources, |ingest| ingest.with_gate(gate.clone())).await;
    let delivery = super::support::event("evt_1", "invoice.paid");
    assert_eq!(service.post(&delivery).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(service.post_to("/webhooks/stripe", "whsec_of_a_stranger", &delivery).await, StatusCode::BAD_REQUEST);
    let (status, body) = service.get("/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains(r#"{"name":"intake","ok":false,"reason":"the log is behind its mirror"}"#), "{body}");
    assert_eq!(service.kinds().await, Vec::<String>::new());

    assert!(gate.set(None));
    assert!(!gate.set(None));
    assert_eq!(service.post(&delivery).await, StatusCode::OK);
    assert_eq!(service.get("/health/ready").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_log_that_can_be_read_and_takes_nothing_is_not_ready() {
    let service = Service::start().await;
    service.log.switch(Switch::ReadOnly);
    let (status, body) = service.get("/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains(r#""name":"log","ok":false"#), "{body}");
    service.log.switch(Switch::Well);
    assert_eq!(service.get("/health/ready").await.0, StatusCode::OK);
}
