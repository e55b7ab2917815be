//! What the service tells its operator: numbers and log lines, and never anything of a body.
//!
//! The recorder sees what its thread does, and a test runs on one thread. The subscriber sees all tests of this binary:
//! what must not be in the lines must not be in those of the other tests either.

use std::io::Write;
use std::sync::{Arc, Mutex};

use keyledger_ingest::signature;
use keyledger_schemas::secret::Secret;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use super::support::{SECRET, Service, Switch, event, event_with, start_of_test};

#[tokio::test]
async fn requests_and_events_are_counted_by_how_they_ended() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let service = Service::start().await;
    let body = event("evt_1", "invoice.paid");
    let stale = signature::sign(&Secret::new(SECRET), &body, start_of_test() - jiff::SignedDuration::from_hours(1));

    service.post(&body).await;
    service.post(&body).await;
    service.post(&event_with("evt_2", "a.type.of.tomorrow", &json!({"livemode": false}))).await;
    service.post(b"{}").await;
    service.post(&vec![b'x'; 5_000_000]).await;
    service.post_with("/webhooks/stripe", "t=1", body.clone()).await;
    service.post_with("/webhooks/stripe", &stale, body.clone()).await;
    service.post_to("/webhooks/stripe/a-name-of-a-stranger", SECRET, &body).await;
    service.log.switch(Switch::Down);
    service.post(&event("evt_3", "invoice.paid")).await;

    let rendered = metrics.render();
    let requests = "keyledger_ingest_requests_total";
    for line in [
        format!(r#"{requests}{{source="default",mode="live",outcome="stored"}} 1"#),
        format!(r#"{requests}{{source="default",mode="live",outcome="duplicate"}} 1"#),
        format!(r#"{requests}{{source="default",mode="test",outcome="stored"}} 1"#),
        format!(r#"{requests}{{source="default",mode="live",outcome="unavailable"}} 1"#),
        format!(r#"{requests}{{source="default",mode="unknown",outcome="not_an_event"}} 1"#),
        format!(r#"{requests}{{source="default",mode="unknown",outcome="too_large"}} 1"#),
        format!(r#"{requests}{{source="default",mode="unknown",outcome="bad_signature"}} 1"#),
        format!(r#"{requests}{{source="default",mode="unknown",outcome="stale"}} 1"#),
        format!(r#"{requests}{{source="unknown",mode="unknown",outcome="unknown_source"}} 1"#),
        r#"keyledger_events_total{type="stripe.invoice.paid"} 1"#.to_owned(),
        r#"keyledger_events_total{type="other"} 1"#.to_owned(),
    ] {
        assert!(rendered.lines().any(|rendered| rendered == line), "no line {line} in\n{rendered}");
    }
    assert!(rendered.contains(r#"keyledger_ingest_seconds_count{outcome="stored"} 2"#), "{rendered}");
    assert!(!rendered.contains("stranger"), "{rendered}");
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn log_lines_name_the_event_and_repeat_nothing_of_a_body_or_a_secret() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_env_filter("keyledger=debug").with_ansi(false);
    let subscriber = subscriber.with_writer(lines.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
    let service = Service::start().await;
    let personal = json!({"marker": "jenny.rosen@example.com"});

    service.post(&event_with("evt_logged", "invoice.paid", &personal)).await;
    service.post(&event_with("no event", "invoice.paid", &personal)).await;
    service.post_to("/webhooks/stripe", "whsec_wrong", &event_with("evt_2", "invoice.paid", &personal)).await;
    service.log.switch(Switch::Down);
    service.post(&event_with("evt_3", "invoice.paid", &personal)).await;

    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "event.id=default:-:live:evt_logged:2024-06-20 event.type=\"stripe.invoice.paid\"",
        "secret.name=\"secret-1\"",
        "stored stripe.invoice.paid at position 1",
        "a signed body is not an event",
        "no signature matches a secret of this source",
        "the log is not available",
    ] {
        assert!(lines.contains(expected), "nothing of `{expected}` in\n{lines}");
    }
    for hidden in ["jenny", SECRET, "whsec_", "v1="] {
        assert!(!lines.contains(hidden), "`{hidden}` is in the lines");
    }
}
