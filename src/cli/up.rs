//! `keyledger up`, and the verbs of single roles: a process that runs until it is told to stop.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

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
    let absent = absent(&settings);
    let started = up::start(&settings, wanted).await;
    until_stopped(context, &settings, absent, started).await
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
    let absent = absent(&settings);
    let accept_loss = arguments.accept_loss;
    let started = match role {
        Role::Ingest => ingest::start(&settings, accept_loss).await,
        Role::Issuer => issuer::start(&settings, accept_loss).await,
        Role::Projector => projector::start(&settings, accept_loss).await,
        Role::Console => console::start(&settings, accept_loss).await,
    };
    until_stopped(context, &settings, absent, started).await
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
    absent: Vec<(&'static str, PathBuf)>,
    started: anyhow::Result<Running>,
) -> anyhow::Result<Exit> {
    // Told of a start that failed too: what it made stays.
    for (what, path) in absent.into_iter().filter(|(_, path)| path.exists()) {
        tracing::info!("made {what} in {}", path.display());
    }
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

/// What is not there yet, and where it will be. Relative paths start at the current folder: started in a wrong one, a
/// second deployment would be born without a word.
fn absent(settings: &Settings) -> Vec<(&'static str, PathBuf)> {
    let log = settings.log.file().map(|file| ("a new log", file));
    let places = [("new keys", &*settings.keys_dir), ("a new API token", &*settings.api.token_file)];
    let places = places.into_iter().chain(log).map(|(what, path)| (what, open::absolute(path)));
    places.filter(|(_, path)| !path.exists()).collect()
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
