//! The scripted license engine: a process of its own with its own disk, where creates are counted.

use std::path::Path;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::process::{Process, keyledger};

/// A running `keyledger sandbox stub`.
#[derive(Debug)]
pub struct Stub {
    process: Process,
    /// Where it listens.
    pub url: String,
    http: Client,
}

impl Stub {
    /// Starts it on a folder inside `folder`.
    pub async fn start(folder: &Path) -> Self {
        let mut command = keyledger();
        command.args(["sandbox", "stub", "--listen", "127.0.0.1:0", "--data"]).arg(folder.join("stub"));
        let process = Process::start(command, &folder.join("stub-stderr.log")).await.unwrap();
        let url = process.ready["url"].as_str().unwrap().to_owned();
        Self { process, url, http: keyledger_test_servers::http::client() }
    }

    /// TOML for a deployment that sells everything as licenses of this engine, with short calls.
    pub fn settings(&self) -> String {
        format!(
            "[[catalog]]\nprovider = \"stub\"\nproduct = \"pro\"\n\
             [issuer]\ncall_timeout_ms = 600\nlease_ms = 5000\n\
             [provider.stub]\nbase_url = \"{}\"\ntimeout_ms = 500\nsettle_ms = 400\n",
            self.url
        )
    }

    /// How it misbehaves from now on.
    pub async fn misbehave(&self, faults: &Value) {
        let answer = self.http.put(format!("{}/control/faults", self.url)).json(faults).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    }

    /// No more faults.
    pub async fn behave(&self) {
        self.misbehave(&json!({})).await;
    }

    /// What it really made.
    pub async fn stats(&self) -> Value {
        self.http.get(format!("{}/control/stats", self.url)).send().await.unwrap().json().await.unwrap()
    }

    /// One license, as it stands there.
    pub async fn license(&self, id: &str) -> Value {
        self.http.get(format!("{}/licenses/{id}", self.url)).send().await.unwrap().json().await.unwrap()
    }

    /// Stops it.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}
