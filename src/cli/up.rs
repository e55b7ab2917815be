//! `keyledger up`, and the verbs of single roles: a process that runs until it is told to stop.

use std::io::{self, IsTerminal};
use std::path::Path;

use keyledger_schemas::secret::Secret;

use super::args::{Left, RoleArgs, Up};
use super::{Context, open};
use crate::output::Exit;
use crate::serve::up::{self, Wanted};
use crate::serve::{Interrupted, Ready, Running, console, ingest, issuer, projector};
use crate::settings::Settings;

/// Which role a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes webhooks.
    Ingest,
    /// Issues licenses.
    Issuer,
    /// Keeps the views.
    Projector,
    /// Answers the API.
    Console,
}

/// Runs everything until told to stop.
///
/// # Errors
///
/// When the settings are wrong, the data folder is in use, or a role dies.
pub async fn run(context: &Context, up: &Up) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    settings.require_sources()?;
    warn(settings.warnings());
    let wanted = Wanted { issuer: !up.without.contains(&Left::Issuer), accept_loss: up.accept_loss };
    let started = Box::pin(up::start(&settings, wanted)).await;
    until_stopped(context, &settings, started).await
}

/// Runs one role until told to stop.
///
/// # Errors
///
/// As [`run`].
pub async fn run_role(context: &Context, role: Role, arguments: &RoleArgs) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    if role == Role::Ingest {
        settings.require_sources()?;
    }
    warn(settings.warnings());
    warn(settings.warnings_of_roles());
    let accept_loss = arguments.accept_loss;
    let started = match role {
        Role::Ingest => Box::pin(ingest::start(&settings, accept_loss)).await,
        Role::Issuer => Box::pin(issuer::start(&settings, accept_loss)).await,
        Role::Projector => Box::pin(projector::start(&settings, accept_loss)).await,
        Role::Console => Box::pin(console::start(&settings, accept_loss)).await,
    };
    until_stopped(context, &settings, started).await
}

fn warn(warnings: Vec<String>) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Says that it is ready, and runs until told to stop.
async fn until_stopped(
    context: &Context,
    settings: &Settings,
    started: anyhow::Result<Running>,
) -> anyhow::Result<Exit> {
    let running = match started {
        Err(error) if error.is::<Interrupted>() => {
            tracing::info!("{error}");
            return Ok(Exit::Fine);
        }
        started => started?,
    };
    let told = context.output.value(&running.ready);
    match &told {
        Ok(()) => say(context, &running.ready, &open::absolute(&settings.data_dir)),
        // Whoever waits for that line never learns where it is.
        Err(_) => running.stop(),
    }
    let ended = running.run(settings.stop_timeout()).await;
    told?;
    ended?;
    Ok(Exit::Fine)
}

/// Tells where everything is: in words on a terminal, else as a log line. A token is shown on a terminal alone; where
/// stderr is collected it has no business.
fn say(context: &Context, ready: &Ready, data: &Path) {
    let data = data.display();
    let Ready { ingest, api, health, .. } = ready;
    if !io::stderr().is_terminal() {
        let token = if ready.token_from.is_empty() {
            String::new()
        } else {
            format!("; the API's token is in {}", ready.token_from)
        };
        tracing::info!(ingest, api, health, %data, "ready{token}");
        return;
    }
    let mut lines =
        vec![format!("keyledger{} is ready.", ready.role.map_or_else(String::new, |role| format!(" {role}")))];
    lines.extend(ingest.iter().map(|url| format!("Stripe's webhooks go to {url}/webhooks/stripe")));
    if let Some(url) = api {
        lines.push(format!("The API is at {url}/api/v1/status"));
        lines.push(match ready.token.as_ref().map(Secret::expose) {
            Some(token) => format!("Its token is {token}"),
            None => "From this machine it needs no token".to_owned(),
        });
    }
    lines.extend(health.iter().map(|url| format!("How it is: {url}/health/ready and {url}/metrics")));
    lines.push(format!("Its data is in {data}"));
    context.output.words(lines.join("\n  "));
}
