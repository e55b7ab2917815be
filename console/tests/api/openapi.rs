//! The committed OpenAPI document is the one that the code makes.

use std::path::Path;

use serde_json::Value;

use crate::app;

/// Run with `KEYLEDGER_UPDATE=1` to write the file anew.
#[test]
fn the_committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = keyledger_console::http::document();
    #[expect(clippy::disallowed_methods, reason = "a developer's switch, in a test")]
    if std::env::var("KEYLEDGER_UPDATE").is_ok() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "console/openapi.json is out of date: run this test with KEYLEDGER_UPDATE=1");
}

#[tokio::test]
async fn the_document_is_served_as_it_is_committed() {
    let app = app::start().await;
    let response = app.send(app.request("GET", "/api/v1/openapi.json")).await;
    let served: Value = response.json().await.unwrap();
    assert!(served["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in served["paths"].as_object().unwrap().keys() {
        assert!(path.starts_with("/api/v1/"), "{path}");
    }
    assert_eq!(served["paths"].as_object().unwrap().len(), 25);
}
