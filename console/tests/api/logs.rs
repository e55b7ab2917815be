//! What the log lines do not show.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use crate::app::{ADMIN, at};
use crate::shop;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
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
async fn log_lines_hold_no_key_no_token_no_address_and_no_query() {
    let lines = Lines::default();
    // Every level, of this crate and of those it is made of; the other tests of this binary write here too.
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(lines.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let app = shop::open().await;
    let key = shop::key().expose().to_owned();
    for path in [
        format!("/api/v1/search?q={key}"),
        "/api/v1/search?q=planted-in-the-query".to_owned(),
        "/api/v1/search?q=emial:planted-in-the-query".to_owned(),
        "/api/v1/licenses?email=planted%40example.com".to_owned(),
        format!("/api/v1/licenses/{}?reveal=true", shop::license()),
        "/api/v1/customers/cus_ana".to_owned(),
    ] {
        app.send(app.request("GET", &path).bearer_auth(ADMIN)).await;
    }
    app.send(app.request("GET", "/api/v1/cases").bearer_auth("planted-token")).await;
    // A failing database, with its log line.
    std::fs::write(app.dir.path().join("views.new"), "planted-in-the-file").unwrap();
    std::fs::rename(app.dir.path().join("views.new"), app.dir.path().join("views.db")).unwrap();
    assert_eq!(app.problem("/api/v1/cases").await["code"], "not_ready");
    app.clock.set(at("2026-03-13T00:00:00Z"));

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let ours: Vec<&str> = text.lines().filter(|line| line.contains("keyledger") || line.contains("sqlx")).collect();
    assert!(ours.iter().any(|line| line.contains("/api/v1/licenses/{id}")), "nothing was logged");
    assert!(ours.iter().any(|line| line.contains("cannot be reached")), "the failure was not logged");
    for planted in [key.as_str(), "planted", ADMIN, "ana@example.com", "Ana Ruiz"] {
        let shown: Vec<_> = ours.iter().filter(|line| line.contains(planted)).collect();
        assert!(shown.is_empty(), "{planted} is logged: {shown:?}");
    }
}
