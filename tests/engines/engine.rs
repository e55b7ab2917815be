//! The three engines' stand-ins under one face: how a deployment is set up for one, and what stands in its books.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_sandbox::faults::{Chance, Fault, Faults, Mix};
use keyledger_sandbox::stage::Stage;
use keyledger_sandbox::{cryptlex, cryptolens, keygen};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The product that everything is sold as.
pub const CRYPTLEX_PRODUCT: &str = "63d00000-0000-4000-8000-000000000001";
/// The product that everything is sold as.
pub const CRYPTOLENS_PRODUCT: u64 = 3349;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Web API v3.
    Cryptlex,
    /// Web API v3.
    Cryptolens,
    /// API v1.
    Keygen,
}

/// A license as it stands at the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtEngine {
    /// The engine's own id.
    pub id: String,
    /// Our reference.
    pub reference: Option<String>,
    /// The engine's own id for its customer.
    pub owner: Option<String>,
    /// `None` for never.
    pub expires_at: Option<Timestamp>,
    /// `None` for no limit.
    pub seats: Option<u64>,
    /// It works until it expires.
    pub works: bool,
}

enum Server {
    Cryptlex(cryptlex::Server),
    Cryptolens(cryptolens::Server),
    Keygen(keygen::Server),
}

/// A stand-in that listens.
pub struct Engine {
    kind: Kind,
    server: Server,
    /// `http://…`
    pub url: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Engine {
    /// Starts one with its usual account.
    pub async fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (server, serving) = match kind {
            Kind::Cryptlex => {
                // The limit of calls is tried elsewhere: here it would only make a story take minutes.
                let settings = cryptlex::Settings { requests_per_window: 0, ..cryptlex::Settings::default() };
                let server = cryptlex::Server::new(settings);
                let serve = server.clone();
                let serving = tokio::spawn(async move { serve.serve(listener, stopped).await.unwrap() });
                (Server::Cryptlex(server), serving)
            }
            Kind::Cryptolens => {
                let server = cryptolens::Server::new(cryptolens::Settings::default());
                let serve = server.clone();
                let serving = tokio::spawn(async move { serve.serve(listener, stopped).await.unwrap() });
                (Server::Cryptolens(server), serving)
            }
            Kind::Keygen => {
                let server = keygen::Server::new(keygen::Settings::default());
                let serve = server.clone();
                let serving = tokio::spawn(async move { serve.serve(listener, stopped).await.unwrap() });
                (Server::Keygen(server), serving)
            }
        };
        Self { kind, server, url, stop, serving }
    }

    /// TOML for a deployment that sells everything as licenses of this engine, with short calls.
    pub fn settings(&self) -> String {
        let url = &self.url;
        let limits = "timeout_ms = 500\nrequests_per_second = 1000\nrequests_at_once = 16\nsettle_ms = 400\n";
        let issuer = "[issuer]\ncall_timeout_ms = 2500\nlease_ms = 20000\n";
        match self.kind {
            Kind::Cryptlex => format!(
                "[[catalog]]\nprovider = \"cryptlex\"\nproduct = \"{CRYPTLEX_PRODUCT}\"\n{issuer}\
                 [provider.cryptlex]\nbase_url = \"{url}\"\naccess_token = \"sandbox\"\n{limits}"
            ),
            Kind::Cryptolens => format!(
                "[[catalog]]\nprovider = \"cryptolens\"\nproduct = \"{CRYPTOLENS_PRODUCT}\"\n{issuer}\
                 [provider.cryptolens]\nbase_url = \"{url}\"\naccess_token = \"sandbox\"\n{limits}"
            ),
            Kind::Keygen => format!(
                "[[catalog]]\nprovider = \"keygen\"\nproduct = \"{}\"\n{issuer}\
                 [provider.keygen]\nbase_url = \"{url}\"\naccount = \"sandbox\"\ntoken = \"sandbox\"\n{limits}",
                keygen::settings::POLICY_PRO
            ),
        }
    }

    /// How it misbehaves, and what was asked.
    pub fn stage(&self) -> &Stage {
        match &self.server {
            Server::Cryptlex(server) => server.stage(),
            Server::Cryptolens(server) => server.stage(),
            Server::Keygen(server) => server.stage(),
        }
    }

    /// One call in five goes wrong, in every way that is not final, and searches lag.
    pub fn misbehave(&self, seed: u64) {
        let chance = |probability, fault| Chance { operation: "any".to_owned(), probability, fault };
        let faults = vec![
            chance(0.04, Fault::CommitThenDrop),
            chance(0.04, Fault::CommitThenFail { status: 500 }),
            chance(0.03, Fault::CommitThenGarble),
            chance(0.02, Fault::CommitThenHang),
            chance(0.03, Fault::Drop),
            chance(0.02, Fault::Fail { status: 503, retry_after_s: None }),
            chance(0.01, Fault::Fail { status: 429, retry_after_s: Some(1) }),
            chance(0.01, Fault::Slow { delay_ms: 300 }),
        ];
        let faults = Faults { mix: Some(Mix { seed, faults }), search_lag_ms: 300, ..Faults::default() };
        self.stage().misbehave(faults).unwrap();
    }

    /// No more faults; searches still lag.
    pub fn behave(&self) {
        self.stage().misbehave(Faults { search_lag_ms: 300, ..Faults::default() }).unwrap();
    }

    /// Every license in its books.
    pub fn licenses(&self) -> Vec<AtEngine> {
        match &self.server {
            Server::Cryptlex(server) => server.licenses().iter().map(of_cryptlex).collect(),
            Server::Cryptolens(server) => server.licenses().iter().map(of_cryptolens).collect(),
            Server::Keygen(server) => server.licenses().into_iter().map(of_keygen).collect(),
        }
    }

    /// The stand-in of Cryptlex, where it is one.
    pub fn cryptlex(&self) -> &cryptlex::Server {
        match &self.server {
            Server::Cryptlex(server) => server,
            Server::Cryptolens(_) | Server::Keygen(_) => panic!("this engine is {:?}", self.kind),
        }
    }

    /// The stand-in of Cryptolens, where it is one.
    pub fn cryptolens(&self) -> &cryptolens::Server {
        match &self.server {
            Server::Cryptolens(server) => server,
            Server::Cryptlex(_) | Server::Keygen(_) => panic!("this engine is {:?}", self.kind),
        }
    }

    /// How far an expiry there may be beyond ours.
    pub fn expiry_beyond(&self) -> Duration {
        match self.kind {
            // It counts in whole days, from a today of its own.
            Kind::Cryptolens => Duration::from_hours(48),
            Kind::Cryptlex | Kind::Keygen => Duration::ZERO,
        }
    }

    /// Stops it.
    pub async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

fn of_cryptlex(license: &Value) -> AtEngine {
    let entries = license["metadata"].as_array().unwrap();
    let reference = entries.iter().find(|entry| entry["key"] == "keyledger_ref");
    let seats = license["allowedActivations"].as_i64().unwrap();
    AtEngine {
        id: license["id"].as_str().unwrap().to_owned(),
        reference: reference.map(|entry| entry["value"].as_str().unwrap().to_owned()),
        owner: license["user"]["id"].as_str().map(str::to_owned),
        expires_at: license["expiresAt"].as_str().map(|at| at.parse().unwrap()),
        seats: u64::try_from(seats).ok().filter(|seats| *seats > 0),
        works: license["suspended"] == false && license["revoked"] == false,
    }
}

fn of_cryptolens(license: &cryptolens::License) -> AtEngine {
    let reference = license.notes.split("ref:").nth(1).and_then(|rest| rest.split(';').next()).map(str::to_owned);
    AtEngine {
        id: license.id.to_string(),
        reference,
        owner: license.customer_id.map(|id| id.to_string()),
        // What never ends is as far away as their calendar goes.
        expires_at: Some(license.expires).filter(|at| *at < license.created + Duration::from_hours(24 * 3650)),
        seats: Some(u64::from(license.max_no_of_machines)).filter(|seats| *seats > 0),
        works: !license.block,
    }
}

fn of_keygen(license: keygen::License) -> AtEngine {
    let metadata: BTreeMap<String, Value> = license.metadata.into_iter().collect();
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
    AtEngine {
        id: license.id.to_string(),
        reference: text("keyledger_ref").or_else(|| text("keyledgerRef")),
        owner: license.owner.map(|id| id.to_string()),
        expires_at: license.expiry,
        seats: license.limits.get("max_machines").copied(),
        works: !license.suspended,
    }
}
