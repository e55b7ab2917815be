//! A license engine that misbehaves: `keyledger sandbox stub`, a process of its own with its own disk, where what was really
//! made is counted.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, ensure};
use keyledger_test_servers::http;
use reqwest::Client;
use serde_json::{Value, json};

use super::sales::PRICES;
use crate::service::Service;

/// A running one.
#[derive(Debug)]
pub struct Stub {
    /// Its process.
    pub service: Service,
    url: String,
    http: Client,
}

impl Stub {
    /// Starts it on a folder inside `folder`.
    ///
    /// # Errors
    ///
    /// When it does not get ready.
    pub async fn start(binary: &Path, folder: &Path) -> Result<Self> {
        let folder = folder.join("stub");
        std::fs::create_dir(&folder)?;
        let data = folder.join("data").display().to_string();
        let verb = ["sandbox", "stub", "--listen", "127.0.0.1:0", "--data", &data];
        let service = Service::start(binary, &folder, "", &verb).await?;
        Ok(Self { url: service.address("url")?, service, http: http::client() })
    }

    /// TOML for a service that has licenses for [`PRICES`] made here.
    pub fn settings(&self) -> String {
        let mut settings = String::new();
        for (_, price) in PRICES {
            let _ = write!(settings, "[[catalog]]\nprice = \"{price}\"\nprovider = \"stub\"\nproduct = \"pro\"\n");
        }
        let _ = write!(
            settings,
            "[issuer]\ncall_timeout_ms = 600\nlease_ms = 5000\n\
             [provider.stub]\nbase_url = \"{}\"\ntimeout_ms = 500\nsettle_ms = 400\n",
            self.url
        );
        settings
    }

    /// It fails in every way that is not final, and loses answers.
    ///
    /// # Errors
    ///
    /// When it does not take that.
    pub async fn misbehave(&self) -> Result<()> {
        let fault = |operation: &str, probability: f64, fault: Value| json!({"operation": operation, "probability": probability, "fault": fault});
        self.set_faults(&json!({
            "mix": {"seed": 7, "faults": [
                fault("create", 0.04, json!({"kind": "commit_then_hang"})),
                fault("create", 0.04, json!({"kind": "commit_then_drop"})),
                fault("create", 0.03, json!({"kind": "commit_then_fail", "status": 500})),
                fault("create", 0.03, json!({"kind": "commit_then_garble"})),
                fault("create", 0.03, json!({"kind": "slow", "delay_ms": 550})),
                fault("change", 0.05, json!({"kind": "commit_then_drop"})),
                fault("any", 0.03, json!({"kind": "drop"})),
                fault("any", 0.03, json!({"kind": "fail", "status": 503})),
                fault("any", 0.02, json!({"kind": "fail", "status": 429, "retry_after_s": 1})),
                fault("any", 0.05, json!({"kind": "slow", "delay_ms": 120})),
            ]},
            "search": {"lag_ms": 300, "matching": "contains"},
        }))
        .await
    }

    /// No more faults.
    ///
    /// # Errors
    ///
    /// When it does not take that.
    pub async fn behave(&self) -> Result<()> {
        self.set_faults(&json!({})).await
    }

    async fn set_faults(&self, faults: &Value) -> Result<()> {
        let answer = self.http.put(format!("{}/control/faults", self.url)).json(faults).send().await?;
        ensure!(answer.status().is_success(), "the stub does not take its faults");
        Ok(())
    }

    /// What it really made.
    ///
    /// # Errors
    ///
    /// When it does not say.
    pub async fn stats(&self) -> Result<Value> {
        Ok(self.http.get(format!("{}/control/stats", self.url)).send().await?.json().await?)
    }
}
