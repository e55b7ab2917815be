//! One running API: a log in memory, views on disk, a clock moved by hand.

use std::sync::Arc;

use jiff::Timestamp;
use keyledger_console::access::{Access, Role, Token};
use keyledger_console::api::{Api, MirrorAt, ViewsAt};
use keyledger_console::{Console, http, serve};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::{Append, EventLog};
use keyledger_eventlog::memory::MemoryLog;
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::envelope::NewEvent;
use keyledger_schemas::secret::Secret;
use keyledger_test_servers::Postgres;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The token that may do everything, and those that may do less.
pub const ADMIN: &str = "token-of-the-admin";
pub const VIEWER: &str = "token-of-a-viewer";

pub struct App {
    pub log: MemoryLog,
    pub clock: Arc<ManualClock>,
    pub dir: TempDir,
    pub url: String,
    /// Where the views are, if there are any.
    pub views_url: String,
    /// The server that has them.
    pub server: Option<Postgres>,
    /// What the routes ask.
    pub api: Api,
    client: Client,
    document: Value,
    shutdown: CancellationToken,
}

/// A running API over an empty log, without views.
pub async fn start() -> App {
    start_with(|access| access).await
}

pub async fn start_with(access: impl FnOnce(Access) -> Access) -> App {
    start_at(access, None, None).await
}

/// The same, for views on a server.
pub async fn start_on(server: Postgres) -> App {
    start_at(|access| access, Some(server), None).await
}

/// The same, with a mirror of the log.
pub async fn start_mirrored(position: fn() -> Option<u64>) -> App {
    start_at(|access| access, None, Some(Arc::new(position))).await
}

async fn start_at(access: impl FnOnce(Access) -> Access, server: Option<Postgres>, mirror: Option<MirrorAt>) -> App {
    let dir = TempDir::new().unwrap();
    let views_url = server.as_ref().map_or_else(|| views_url(&dir), Postgres::url);
    let clock = Arc::new(ManualClock::at(at("2026-03-12T09:30:00Z")));
    let log = MemoryLog::new(clock.clone());
    let views = ViewsAt::new(views_url.clone()).unwrap();
    let mut api = Api::new(Arc::new(log.clone()), views, Arc::new(keys()), clock.clone());
    if let Some(mirror) = mirror {
        api = api.with_mirror(mirror);
    }
    let tokens = vec![
        Token::new("api", Role::Admin, &Secret::new(ADMIN)),
        Token::new("reader", Role::Viewer, &Secret::new(VIEWER)),
    ];
    let metrics = http::Metrics::new(|| "keyledger_test 1\n".to_owned());
    let console = Console { api: api.clone(), access: Arc::new(access(Access::tokens(tokens))), metrics };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(listener, console, shutdown.clone()));
    let document = serde_json::from_str(&http::document()).unwrap();
    App {
        log,
        clock,
        dir,
        url,
        views_url,
        server,
        api,
        client: keyledger_test_servers::http::client(),
        document,
        shutdown,
    }
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn keys() -> DeploymentKeys {
    DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])
}

pub fn views_url(dir: &TempDir) -> String {
    format!("sqlite:{}", dir.path().join("views.db").display())
}

impl Drop for App {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl App {
    pub async fn append(&self, events: Vec<NewEvent>) {
        self.log.append(Append::events(events)).await.unwrap();
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    pub async fn send(&self, request: RequestBuilder) -> Response {
        request.send().await.unwrap()
    }

    /// What an administrator gets, which must be 200 and of the documented shape.
    #[track_caller]
    pub fn get(&self, path: &str) -> impl Future<Output = Value> + use<'_> {
        let path = path.to_owned();
        async move {
            let response = self.send(self.request("GET", &path).bearer_auth(ADMIN)).await;
            let status = response.status();
            let body: Value = response.json().await.unwrap();
            assert_eq!(status, StatusCode::OK, "{path}: {body}");
            self.validate("get", &path, "200", &body);
            body
        }
    }

    /// What an administrator gets for a JSON body, with its status.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.request("POST", path).bearer_auth(ADMIN).header("content-type", "application/json");
        let response = self.send(request.body(body.to_string())).await;
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        self.validate("post", path, if status == 200 { "200" } else { "4XX" }, &answer);
        (status, answer)
    }

    /// The problem that an administrator gets, which must be of the documented shape.
    pub async fn problem(&self, path: &str) -> Value {
        let response = self.send(self.request("GET", path).bearer_auth(ADMIN)).await;
        problem_of(response).await
    }

    /// Checks an answer against the schema that the document promises for it.
    pub fn validate(&self, method: &str, path: &str, status: &str, body: &Value) {
        let path = path.split('?').next().unwrap();
        let paths = self.document["paths"].as_object().unwrap();
        let template =
            paths.keys().filter(|template| fits(template, path)).min_by_key(|template| template.matches('{').count());
        let template = template.unwrap_or_else(|| panic!("{path} is not documented"));
        let content = self.document["paths"][template][method]["responses"][status]["content"].as_object().unwrap();
        let schema = content.values().next().unwrap()["schema"].clone();
        let mut whole = schema;
        whole["components"] = self.document["components"].clone();
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let errors: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{method} {path} answers {body:#}, which is not as documented: {errors:?}");
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(t, p)| t.starts_with('{') || t == p)
}

/// A response as a problem: its media type and its own status are right.
pub async fn problem_of(response: Response) -> Value {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} is no JSON: {text}"));
    assert_eq!(headers["content-type"], "application/problem+json", "{body}");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(body["status"], status);
    assert_eq!(body["type"], format!("/problems/{}", body["code"].as_str().unwrap()));
    assert_eq!(headers["x-request-id"], body["instance"].as_str().unwrap());
    body
}
