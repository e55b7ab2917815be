//! `keyledger up`: everything in one process.

use std::io::{self, IsTerminal};

use super::Context;
use super::args::{Role, Up};
use crate::output::Exit;
use crate::serve::{self, Running, Wanted};

/// Runs until told to stop.
///
/// # Errors
///
/// When the settings are wrong, the data folder is in use, or a role dies.
pub async fn run(context: &Context, up: &Up) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    settings.require_sources()?;
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let wanted = Wanted { issuer: !up.without.contains(&Role::Issuer), accept_loss: up.accept_loss };
    let stop_timeout = settings.stop_timeout();
    let running = serve::start(&settings, wanted).await?;
    context.output.value(&running.ready())?;
    say(context, &running);
    running.run(stop_timeout).await?;
    Ok(Exit::Fine)
}

/// Tells where everything is: in words on a terminal, else as a log line. A token is shown on a terminal alone; where
/// stderr is collected it has no business.
fn say(context: &Context, running: &Running) {
    let (ingest, api) = (running.ingest_url(), running.api_url());
    if !io::stderr().is_terminal() {
        tracing::info!(ingest, api, "ready; the API's token is in {}", running.token_from);
        return;
    }
    let token = match &running.token {
        Some(token) => format!("Its token is {}", token.expose()),
        None => "From this machine it needs no token".to_owned(),
    };
    context.output.words(format!(
        "keyledger is ready.\n  Stripe's webhooks go to {ingest}/webhooks/stripe\n  The API is at {api}/api/v1/status\n  {token}"
    ));
}
