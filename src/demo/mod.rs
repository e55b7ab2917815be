//! `keyledger demo`: the real service on a fresh folder, fed over HTTP with signed made-up events.

mod stories;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use keyledger_ingest::signature::{self, HEADER};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::ids::{Mode, ProviderName, SourceName};
use keyledger_schemas::secret::Secret;
use keyledger_schemas::settings::{CatalogEntry, LeftPolicy, Term};
use serde_json::{Value, json};

use crate::cli::{CASES, Column, Context, Demo, LICENSES, make_data_dir, random_token, table};
use crate::output::Exit;
use crate::serve::Running;
use crate::serve::up::{self, Wanted};
use crate::settings::{Settings, Source};
use stories::Step;

/// How long everything may take to be caught up after the last event.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(40);

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Rows asked for at once.
const PAGE: usize = 200;

/// The story that leaves someone charged without a key.
const STUCK_STORY: &str = "g_charged_no_key";

const CUSTOMERS: &[Column] = &[("CUSTOMER", "/id"), ("NAME", "/name"), ("EMAIL", "/email")];

/// Shows the service at work.
///
/// # Errors
///
/// When it does not come out as told: exactly one customer charged without a key.
pub async fn run(context: &Context, demo: &Demo) -> anyhow::Result<Exit> {
    let folder = Folder::new()?;
    let settings = settings(&folder)?;
    let stop_timeout = settings.stop_timeout();
    let mut running = Box::pin(up::start(&settings, Wanted { issuer: true, accept_loss: false })).await?;
    let client = Client::new(&running, &settings)?;
    let steps = stories::stories(&demo.api_version, SystemClock.now())?;
    context.output.words(format!("Posting {} events of 14 stories, signed as Stripe signs them.", steps.len()));
    let outcome = tokio::select! {
        outcome = tell(context, &client, &steps) => Some(outcome?),
        () = running.interrupted() => None,
    };
    if let Some(outcome) = &outcome {
        outcome.show(context, &client)?;
        outcome.check(&steps)?;
    }
    if demo.exit || outcome.is_none() {
        running.stop();
    } else {
        context.output.words("\nIt stays up until Ctrl-C. Nothing is kept.");
    }
    running.run(stop_timeout).await?;
    Ok(Exit::Fine)
}

/// Posts the stories, waits until they are worked off, and says what came of them.
async fn tell(context: &Context, client: &Client, steps: &[Step]) -> anyhow::Result<Outcome> {
    let mut progress = context.output.progress("events", steps.len() as u64);
    for step in steps {
        client.post(step).await?;
        progress.step();
    }
    progress.finish();
    client.wait_until_caught_up().await?;
    Outcome::read(client).await
}

/// A folder that is removed when the demo is over.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let started = SystemClock.now().as_nanosecond();
        let path = std::env::temp_dir().join(format!("keyledger-demo-{}-{started}", std::process::id()));
        make_data_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(folder: &Folder) -> anyhow::Result<Settings> {
    let mut settings = Settings::in_dir(&folder.0);
    settings.ingest.listen.set_port(0);
    settings.api.listen.set_port(0);
    settings.api.token = Some(random_token()?);
    settings.policy.left_by_other_system = LeftPolicy::Case;
    settings.catalog.push(everything());
    let secret = Secret::new(format!("whsec_{}", random_token()?.expose()));
    let source = Source {
        mode: Mode::Live,
        webhook_secrets: vec![secret],
        api_key: None,
        stripe: keyledger_issuer::stripe::Options::default(),
        write_back: false,
        fetch: false,
        reconcile_every: Duration::ZERO,
    };
    settings.sources.insert(SourceName::default(), source);
    Ok(settings)
}

/// The entry that maps every price to one product.
fn everything() -> CatalogEntry {
    CatalogEntry {
        price: None,
        stripe_product: None,
        provider: ProviderName::from("builtin"),
        product: Some("demo".to_owned()),
        seats: None,
        units: None,
        term: Term::Subscription,
        features: std::collections::BTreeSet::new(),
        grace: None,
        skip: false,
        addon_of: None,
        max_release: None,
        options: std::collections::BTreeMap::new(),
    }
}

/// Speaks to the service as Stripe does, and as an operator does.
struct Client {
    http: reqwest::Client,
    ingest: String,
    api: String,
    token: Secret,
    secret: Secret,
}

impl Client {
    fn new(running: &Running, settings: &Settings) -> anyhow::Result<Self> {
        let token = running.ready.token.clone().context("the demo has a token")?;
        let secret = settings.sources.values().flat_map(|source| &source.webhook_secrets).next();
        let secret = secret.cloned().context("the demo has a webhook secret")?;
        let http = reqwest::Client::builder().tls_certs_only([]).timeout(Duration::from_secs(30)).build()?;
        let ingest = running.ready.ingest.clone().context("the demo takes webhooks")?;
        let api = running.ready.api.clone().context("the demo has an API")?;
        Ok(Self { http, ingest, api, token, secret })
    }

    /// Delivers one event.
    async fn post(&self, step: &Step) -> anyhow::Result<()> {
        let header = signature::sign(&self.secret, &step.body, SystemClock.now());
        let request = self.http.post(format!("{}/webhooks/stripe", self.ingest)).header(HEADER, header);
        let response = request.body(step.body.clone()).send().await.context("posting an event")?;
        if !response.status().is_success() {
            bail!("an event of {} was answered with {}", step.story, response.status());
        }
        Ok(())
    }

    async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        let request = self.http.get(format!("{}/api/v1{path}", self.api)).bearer_auth(self.token.expose()).query(query);
        let response = request.send().await.with_context(|| format!("asking the API for {path}"))?;
        let response = response.error_for_status().with_context(|| format!("asking the API for {path}"))?;
        response.json().await.with_context(|| format!("reading what the API answered for {path}"))
    }

    /// All rows of a list.
    async fn list(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Vec<Value>> {
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", PAGE.to_string()));
            query.extend(after.map(|after: String| ("after", after)));
            let mut page = self.get(path, &query).await?;
            rows.extend(page["data"].as_array_mut().map(std::mem::take).unwrap_or_default());
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => return Ok(rows),
            }
        }
    }

    /// Waits until issuer and projector have read everything, and nothing is due.
    async fn wait_until_caught_up(&self) -> anyhow::Result<()> {
        let waiting = async {
            loop {
                let status = self.get("/status", &[]).await?;
                let at = |part: &str| status[part]["position"].as_u64();
                let caught_up = at("log") == at("issuer") && at("log") == at("projector");
                if caught_up && status["issuer"]["due_now"] == 0 {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(CATCH_UP_WITHIN, waiting).await {
            Ok(caught_up) => caught_up,
            Err(_) => bail!("issuer and views did not catch up within {} s", CATCH_UP_WITHIN.as_secs()),
        }
    }
}

/// What came of the stories.
struct Outcome {
    customers: Vec<Value>,
    licenses: Vec<Value>,
    without_key: Vec<Value>,
    /// Open cases of other kinds, counted.
    others: BTreeMap<String, usize>,
}

impl Outcome {
    async fn read(client: &Client) -> anyhow::Result<Self> {
        let open = client.list("/cases", &[("status", "open".to_owned())]).await?;
        let (without_key, open): (Vec<Value>, Vec<Value>) = open.into_iter().partition(|case| case["kind"] == "no_key");
        let mut others = BTreeMap::new();
        for case in &open {
            *others.entry(case["kind"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        Ok(Self {
            customers: client.list("/customers", &[]).await?,
            licenses: client.list("/licenses", &[]).await?,
            without_key,
            others,
        })
    }

    fn show(&self, context: &Context, client: &Client) -> anyhow::Result<()> {
        let output = context.output;
        let token = client.token.expose();
        if output.json {
            output.value(&json!({
                "ready": true,
                "ingest": client.ingest,
                "api": client.api,
                "token": token,
                "customers": self.customers,
                "licenses": self.licenses,
                "charged_without_key": self.without_key,
                "other_cases_open": self.others,
            }))?;
            return Ok(());
        }
        table(output, &self.customers, CUSTOMERS)?;
        output.line("")?;
        table(output, &self.licenses, LICENSES)?;
        output.line("")?;
        output.line(format!("Charged without key: {}", self.without_key.len()))?;
        table(output, &self.without_key, CASES)?;
        if !self.others.is_empty() {
            let others: Vec<String> = self.others.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            output.line(format!("\nOther open cases: {}", others.join(", ")))?;
        }
        output.words(format!(
            "\nThe API:   curl -H 'Authorization: Bearer {}' {}/api/v1/cases\nWebhooks:  {}/webhooks/stripe",
            token, client.api, client.ingest
        ));
        Ok(())
    }

    /// Exactly one customer is charged without a key: the one that story g leaves stuck.
    fn check(&self, steps: &[Step]) -> anyhow::Result<()> {
        let [case] = self.without_key.as_slice() else {
            bail!(
                "the demo should end with one customer charged without a key, and ended with {}",
                self.without_key.len()
            );
        };
        let stuck = case["purchase"]["stripe_id"].as_str().unwrap_or_default();
        let in_story = steps
            .iter()
            .filter(|step| step.story == STUCK_STORY)
            .any(|step| !stuck.is_empty() && String::from_utf8_lossy(&step.body).contains(stuck));
        if !in_story || case["cause"] != "left_by_other_system" {
            bail!("the demo should leave the first subscription of {STUCK_STORY} without a key, and left {stuck}");
        }
        Ok(())
    }
}
