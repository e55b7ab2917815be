//! What is kept, and how it is named.

use keyledger_schemas::ids::Mode;
use keyledger_schemas::secret::Secret;
use reqwest::StatusCode;
use serde_json::json;

use super::support::{SECRET, Service, Switch, event, event_with, options, source};
use keyledger_ingest::signature;

#[tokio::test]
async fn a_signed_event_is_kept_byte_for_byte_with_how_it_arrived() {
    let service = Service::start().await;
    let body = event("evt_1", "invoice.paid");
    let header = service.signed(&body);
    let response = service.post_with("/webhooks/stripe", &header, body.clone()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.text().await.unwrap(), r#"{"status":"stored"}"#);

    let [kept] = service.events().await.try_into().unwrap();
    assert_eq!(kept.data, body);
    assert_eq!(kept.id.as_str(), "default:-:live:evt_1:2024-06-20");
    assert_eq!(kept.kind, "stripe.invoice.paid");
    assert_eq!(kept.occurred_at.as_second(), 1_785_402_940);
    let delivery = kept.delivery.unwrap();
    assert_eq!(delivery.signature, header);
    assert_eq!(delivery.secret, "secret-1");
    assert_eq!(delivery.received_at, super::support::start_of_test());
}

#[tokio::test]
async fn every_delivery_of_an_event_is_answered_with_200_and_the_first_body_is_kept() {
    let service = Service::start().await;
    let first = event("evt_1", "invoice.paid");
    let again = event_with("evt_1", "invoice.paid", &json!({"pending_webhooks": 0}));
    for body in [&first, &first, &again] {
        assert_eq!(service.post(body).await, StatusCode::OK);
    }
    let [kept] = service.events().await.try_into().unwrap();
    assert_eq!(kept.data, first);
}

#[tokio::test]
async fn the_same_event_at_the_same_moment_many_times_is_one_event() {
    let service = Service::start().await;
    let body = event("evt_1", "invoice.paid");
    let statuses = futures::future::join_all((0..50).map(|_| service.post(&body))).await;
    assert!(statuses.iter().all(|status| *status == StatusCode::OK), "{statuses:?}");
    assert_eq!(service.events().await.len(), 1);
}

#[tokio::test]
async fn two_renderings_of_one_event_are_both_kept() {
    let service = Service::start().await;
    for version in [json!("2024-06-20"), json!("2026-07-29.dahlia"), json!(null)] {
        let body = event_with("evt_1", "invoice.paid", &json!({"api_version": version}));
        assert_eq!(service.post(&body).await, StatusCode::OK);
    }
    assert_eq!(service.events().await.len(), 3);
}

#[tokio::test]
async fn live_and_test_of_one_id_are_two_events_of_two_modes() {
    let service = Service::start().await;
    for livemode in [true, false] {
        let body = event_with("evt_1", "invoice.paid", &json!({"livemode": livemode}));
        assert_eq!(service.post(&body).await, StatusCode::OK);
    }
    let modes: Vec<_> = service.events().await.into_iter().map(|event| event.scope.mode).collect();
    assert_eq!(modes, [Mode::Live, Mode::Test]);
}

#[tokio::test]
async fn a_connected_account_is_part_of_the_scope() {
    let service = Service::start().await;
    service.post(&event("evt_1", "invoice.paid")).await;
    service.post(&event_with("evt_1", "invoice.paid", &json!({"account": "acct_9"}))).await;
    let scopes: Vec<_> = service.events().await.into_iter().map(|event| event.scope.key()).collect();
    assert_eq!(scopes, ["default:-:live", "default:acct_9:live"]);
}

#[tokio::test]
async fn unknown_types_are_kept() {
    let service = Service::start().await;
    assert_eq!(service.post(&event("evt_1", "quantum.flux.reversed")).await, StatusCode::OK);
    assert_eq!(service.kinds().await, ["stripe.quantum.flux.reversed"]);
}

#[tokio::test]
async fn thin_events_are_kept_beside_their_snapshots() {
    let service = Service::start().await;
    let thin = json!({
        "id": "evt_test_65R9", "object": "v2.core.event", "type": "v1.customer.subscription.updated",
        "livemode": false, "created": "2026-10-01T06:20:52.246Z", "context": null,
        "related_object": {"id": "sub_1", "type": "subscription", "url": "/v1/subscriptions/sub_1"},
        "snapshot_event": "evt_1",
    });
    assert_eq!(service.post(&serde_json::to_vec(&thin).unwrap()).await, StatusCode::OK);
    let [kept] = service.events().await.try_into().unwrap();
    assert_eq!(kept.kind, "stripe.thin.v1.customer.subscription.updated");
    assert_eq!(kept.id.as_str(), "default:-:test:evt_test_65R9:thin");
    assert_eq!(kept.stream.as_str(), "stripe:default:-:test:sub_1");
    assert_eq!(kept.occurred_at.to_string(), "2026-10-01T06:20:52.246Z");
}

#[tokio::test]
async fn any_secret_of_the_source_verifies_and_is_named() {
    let service = Service::with(options(), vec![source("default", &["whsec_old", "whsec_new"])]).await;
    assert_eq!(service.post_to("/webhooks/stripe", "whsec_new", &event("evt_1", "a")).await, StatusCode::OK);
    assert_eq!(service.post_to("/webhooks/stripe", "whsec_old", &event("evt_2", "a")).await, StatusCode::OK);
    assert_eq!(service.post_to("/webhooks/stripe", "whsec_gone", &event("evt_3", "a")).await, StatusCode::BAD_REQUEST);
    let names: Vec<_> = service.events().await.into_iter().map(|event| event.delivery.unwrap().secret).collect();
    assert_eq!(names, ["secret-2", "secret-1"]);
}

#[tokio::test]
async fn an_event_that_another_source_has_is_refused_by_all_but_the_first_source() {
    let sources = vec![source("default", &[SECRET]), source("eu-shop", &["whsec_eu"])];
    let service = Service::with(options(), sources).await;
    let to_default = async |body| service.post_to("/webhooks/stripe", SECRET, body).await;
    let to_eu = async |body| service.post_to("/webhooks/stripe/eu-shop", "whsec_eu", body).await;

    let first = event("evt_1", "invoice.paid");
    assert_eq!(to_default(&first).await, StatusCode::OK);
    assert_eq!(to_eu(&first).await, StatusCode::CONFLICT);
    assert_eq!(service.events().await.len(), 1, "kept once");

    let second = event("evt_2", "invoice.paid");
    assert_eq!(to_eu(&second).await, StatusCode::OK);
    assert_eq!(to_default(&second).await, StatusCode::OK, "the first source misses nothing");

    // Of a connected account it is another event.
    let connected = event_with("evt_1", "invoice.paid", &json!({"account": "acct_1"}));
    assert_eq!(to_eu(&connected).await, StatusCode::OK);
    service.log.switch(Switch::Down);
    assert_eq!(to_eu(&event("evt_3", "invoice.paid")).await, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn sources_have_their_own_paths_and_secrets() {
    let sources = vec![source("default", &[SECRET]), source("eu-shop", &["whsec_eu"])];
    let service = Service::with(options(), sources).await;
    let body = event("evt_1", "invoice.paid");
    assert_eq!(service.post_to("/webhooks/stripe/eu-shop", "whsec_eu", &body).await, StatusCode::OK);
    assert_eq!(service.post_to("/webhooks/stripe/default", SECRET, &body).await, StatusCode::OK);
    assert_eq!(service.post_to("/webhooks/stripe", SECRET, &body).await, StatusCode::OK);
    assert_eq!(service.post_to("/webhooks/stripe/eu-shop", SECRET, &body).await, StatusCode::BAD_REQUEST);
    assert_eq!(service.post_to("/webhooks/stripe", "whsec_eu", &body).await, StatusCode::BAD_REQUEST);
    for nowhere in ["/webhooks/stripe/us-shop", "/webhooks/stripe/", "/webhooks/stripe/%ff", "/webhooks/stripe/a/b"] {
        assert_eq!(service.post_to(nowhere, SECRET, &body).await, StatusCode::NOT_FOUND, "{nowhere}");
    }
    let scopes: Vec<_> = service.events().await.into_iter().map(|event| event.scope.key()).collect();
    assert_eq!(scopes, ["eu-shop:-:live", "default:-:live"]);
}

#[tokio::test]
async fn without_a_default_source_its_path_is_unknown() {
    let service = Service::with(options(), vec![source("eu-shop", &["whsec_eu"])]).await;
    assert_eq!(service.post_to("/webhooks/stripe", "whsec_eu", &event("evt_1", "a")).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_old_signature_is_refused_and_a_later_attempt_with_a_new_one_is_taken() {
    let service = Service::start().await;
    let body = event("evt_1", "invoice.paid");
    let header = service.signed(&body);
    service.clock.advance(std::time::Duration::from_secs(301));
    let response = service.post_with("/webhooks/stripe", &header, body.clone()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(response.text().await.unwrap().contains("too old"));
    assert_eq!(service.post(&body).await, StatusCode::OK);
    assert_eq!(service.events().await.len(), 1);
}

#[tokio::test]
async fn signed_bodies_that_are_no_events_are_refused() {
    let service = Service::start().await;
    let without_mode = br#"{"id":"evt_1","object":"event","type":"invoice.paid"}"#;
    let bodies: [&[u8]; 7] = [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"{\"id\":\"evt_1\"", without_mode];
    for body in bodies {
        assert_eq!(service.post(body).await, StatusCode::BAD_REQUEST, "{}", String::from_utf8_lossy(body));
    }
    assert!(service.events().await.is_empty());
}

#[tokio::test]
async fn a_request_needs_exactly_one_signature_header() {
    let service = Service::start().await;
    let body = event("evt_1", "invoice.paid");
    let header = service.signed(&body);
    let request = || service.client.post(service.url("/webhooks/stripe")).body(body.clone());
    let none = request().send().await.unwrap();
    let two = request().header(signature::HEADER, &header).header(signature::HEADER, &header).send().await.unwrap();
    assert_eq!((none.status(), two.status()), (StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST));
    assert!(service.events().await.is_empty());
}

#[tokio::test]
async fn answers_repeat_nothing_of_the_request() {
    let service = Service::start().await;
    let marker = "jenny.rosen@example.com";
    let body = event_with("evt_1", "invoice.paid", &json!({"marker": marker}));
    let forged = signature::sign(&Secret::new("whsec_wrong"), &body, super::support::start_of_test());
    for (path, header) in [
        ("/webhooks/stripe", format!("{forged},{marker}=1")),
        ("/webhooks/stripe/nobody", service.signed(&body)),
        ("/webhooks/stripe", service.signed(&body)),
    ] {
        let response = service.post_with(path, &header, body.clone()).await;
        assert!(!response.text().await.unwrap().contains("jenny"), "{path}");
    }
}

#[tokio::test]
async fn other_methods_and_other_paths_are_refused() {
    let service = Service::start().await;
    for path in ["/webhooks/stripe", "/webhooks/stripe/default"] {
        assert_eq!(service.get(path).await.0, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    for path in ["/", "/webhooks", "/api/v1/status", "/health"] {
        assert_eq!(service.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(service.post_to("/health/live", SECRET, b"{}").await, StatusCode::METHOD_NOT_ALLOWED);
}
