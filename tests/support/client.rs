//! Talking to a running service: as Stripe, and as a user of the API.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use keyledger_ingest::signature;
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::secret::Secret;
use reqwest::{Client, StatusCode};
use serde_json::Value;

use super::setup::{TOKEN, secret_of};
use super::wait::{PATIENCE, until};

/// The addresses of a service, and a connection pool. Clones share it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `http://…` of ingest.
    pub ingest: String,
    /// `http://…` of the API.
    pub api: String,
    /// No proxy, no retry.
    pub http: Client,
}

/// Where webhooks may be posted.
pub trait Webhooks {
    /// Posts a body, signed now.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    async fn post(&self, source: &str, body: &[u8]) -> reqwest::Result<StatusCode>;
}

impl Webhooks for Caller {
    async fn post(&self, source: &str, body: &[u8]) -> reqwest::Result<StatusCode> {
        self.try_post(source, body).await
    }
}

impl Caller {
    /// To these addresses.
    pub fn new(ingest: &str, api: &str) -> Self {
        let http =
            keyledger_test_servers::http::builder().retry(reqwest::retry::never()).timeout(Duration::from_secs(30));
        Self { ingest: ingest.to_owned(), api: api.to_owned(), http: http.build().unwrap() }
    }

    /// Posts a body, signed now.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn try_post(&self, source: &str, body: &[u8]) -> reqwest::Result<StatusCode> {
        let header = signature::sign(&Secret::new(secret_of(source)), body, SystemClock.now());
        self.post_with(source, &header, body.to_vec()).await
    }

    /// Posts a body with any signature.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn post_with(&self, source: &str, header: &str, body: Vec<u8>) -> reqwest::Result<StatusCode> {
        let url = format!("{}/webhooks/stripe/{source}", self.ingest);
        let answer = self.http.post(url).header(signature::HEADER, header).body(body).send().await?;
        Ok(answer.status())
    }

    /// Posts bodies one after the other, as events of the source's own account; each must be taken.
    pub async fn post_all(&self, source: &str, bodies: &[Vec<u8>]) {
        for body in &of_account(source, bodies) {
            assert_eq!(self.try_post(source, body).await.unwrap(), StatusCode::OK);
        }
    }

    /// Posts bodies with up to `at_once` in flight, as events of the source's own account; each must be taken.
    pub async fn post_together(&self, source: &str, bodies: &[Vec<u8>], at_once: usize) {
        let bodies = of_account(source, bodies);
        let posts = stream::iter(&bodies).map(|body| self.try_post(source, body));
        let statuses: Vec<_> = posts.buffer_unordered(at_once).collect().await;
        for status in statuses {
            assert_eq!(status.unwrap(), StatusCode::OK);
        }
    }

    /// Asks the API; anything but 200 fails.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.try_get(path).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// Asks the API.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn try_get(&self, path: &str) -> reqwest::Result<(StatusCode, Value)> {
        let answer = self.http.get(format!("{}/api/v1{path}", self.api)).bearer_auth(TOKEN).send().await?;
        Ok((answer.status(), answer.json().await?))
    }

    /// Every page of a list. `path` has a query already.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("{path}&limit=200{after}")).await;
            rows.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return rows,
            }
        }
    }

    /// Open cases of a kind, all sources.
    pub async fn open_cases(&self, kind: &str) -> Vec<Value> {
        self.list(&format!("/cases?kind={kind}&status=open")).await
    }

    /// How far everything is. While views are put in place there is a moment without any.
    pub async fn status(&self) -> Value {
        until("the status", PATIENCE, async || match self.try_get("/status").await.unwrap() {
            (StatusCode::OK, status) => Ok(status),
            (status, body) => Err(format!("{status}: {body}")),
        })
        .await
    }

    /// Waits until the issuer and the views have seen the whole log, and nothing is due.
    pub async fn caught_up(&self) {
        until("catching up", PATIENCE, async || {
            let status = self.status().await;
            let at = |part: &str| status[part]["position"].as_u64().unwrap();
            let head = at("log");
            let done = at("issuer") == head && at("projector") == head && status["issuer"]["due_now"] == 0;
            if done { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }
}

/// The bodies with event ids of the source's own: two sources that show one event are one account, and refused. Objects
/// keep their ids.
fn of_account(source: &str, bodies: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if source == "default" {
        return bodies.to_vec();
    }
    let renamed = |body: &Vec<u8>| String::from_utf8_lossy(body).replace("\"evt_", &format!("\"evt_{source}_"));
    bodies.iter().map(|body| renamed(body).into_bytes()).collect()
}
