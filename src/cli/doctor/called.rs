//! Who is called: each license engine is asked whether it can serve us, and Stripe whether the key may read.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use futures::StreamExt;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_issuer::provider::{CallError, Provider, ProviderError};
use keyledger_issuer::stripe::client::{Client, StripeError};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::ids::SourceName;
use tokio::time::timeout;

use super::Report;
use crate::serve;
use crate::settings::{BadSettings, Settings};

/// How long one of them may take.
const WITHIN: Duration = Duration::from_secs(15);

pub(super) async fn check(report: &mut Report, settings: &Settings) {
    // Without the deployment's keys no engine can be made; that they are missing is said elsewhere.
    if let Ok(keys) = DeploymentKeys::load(&settings.keys_dir) {
        match serve::engines(settings, Arc::new(keys)) {
            Ok(engines) => {
                for name in settings.providers.names() {
                    engine(report, &*engines.get(&name)).await;
                }
            }
            Err(error) => unusable(report, "engine", &error),
        }
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    match serve::http(settings).and_then(|http| serve::stripe_sources(settings, &http, &clock)) {
        Ok(sources) => {
            for source in sources {
                stripe(report, &source.name, &source.client).await;
            }
        }
        Err(error) => unusable(report, "Stripe", &error),
    }
}

fn unusable(report: &mut Report, check: &'static str, error: &anyhow::Error) {
    match error.downcast_ref::<BadSettings>() {
        Some(bad) => {
            for problem in &bad.problems {
                report.problem(check, problem.to_string(), "mend it as keyledger.example.toml shows");
            }
        }
        None => report.problem(check, format!("{error:#}"), "mend what it names"),
    }
}

async fn engine(report: &mut Report, engine: &dyn Provider) {
    let name = engine.name();
    let table = format!("look at `[provider.{name}]`; docs/providers.md says what its token needs");
    match timeout(WITHIN, engine.prepare()).await {
        Ok(Ok(())) => report.good("engine", format!("{name} can be called")),
        Ok(Err(ProviderError::Refused { reason })) => report.problem("engine", format!("{name}: {reason}"), table),
        Ok(Err(error)) => report.problem("engine", format!("{name}: {:#}", anyhow!(error)), table),
        Err(_) => report.problem("engine", format!("{name}: no answer within {} s", WITHIN.as_secs()), table),
    }
}

/// One page of events: what reconciling begins with.
async fn stripe(report: &mut Report, name: &SourceName, client: &Client) {
    let table = format!("look at `[stripe.{name}]`; docs/providers.md says which permissions the key needs");
    let mut pages = pin!(client.pages("/v1/events", &[]));
    match timeout(WITHIN, pages.next()).await {
        Ok(None | Some(Ok(_))) => report.good("Stripe", format!("source {name}: the API key can read events")),
        Ok(Some(Err(StripeError::Unavailable { source: CallError::Credentials { status }, .. }))) => {
            report.problem(
                "Stripe",
                format!("source {name}: the API key may not read events (status {status})"),
                table,
            );
        }
        Ok(Some(Err(error))) => report.problem("Stripe", format!("source {name}: {:#}", anyhow!(error)), table),
        Err(_) => report.problem("Stripe", format!("source {name}: no answer within {} s", WITHIN.as_secs()), table),
    }
}
