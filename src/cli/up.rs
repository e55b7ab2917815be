//! `keyledger up`: everything in one process.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::args::{Role, Up};
use super::{Context, open};
use crate::output::Exit;
use crate::serve::{self, Interrupted, Running, Wanted};
use crate::settings::Settings;

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
    let absent = absent(&settings);
    let running = serve::start(&settings, wanted).await;
    // Told of a start that failed too: what it made stays.
    for (what, path) in absent.into_iter().filter(|(_, path)| path.exists()) {
        tracing::info!("made {what} in {}", path.display());
    }
    let running = match running {
        Err(error) if error.is::<Interrupted>() => {
            tracing::info!("{error}");
            return Ok(Exit::Fine);
        }
        started => started?,
    };
    let told = context.output.value(&running.ready());
    match &told {
        Ok(()) => say(context, &running, &open::absolute(&settings.data_dir)),
        // Whoever waits for that line never learns where it is.
        Err(_) => running.stop(),
    }
    let ended = running.run(stop_timeout).await;
    told?;
    ended?;
    Ok(Exit::Fine)
}

/// What is not there yet, and where it will be. Relative paths start at the current folder: started in a wrong one, a
/// second deployment would be born without a word.
fn absent(settings: &Settings) -> Vec<(&'static str, PathBuf)> {
    let places =
        [("new keys", &settings.keys_dir), ("a new log", &settings.log), ("a new API token", &settings.api.token_file)];
    places.into_iter().map(|(what, path)| (what, open::absolute(path))).filter(|(_, path)| !path.exists()).collect()
}

/// Tells where everything is: in words on a terminal, else as a log line. A token is shown on a terminal alone; where
/// stderr is collected it has no business.
fn say(context: &Context, running: &Running, data: &Path) {
    let (ingest, api) = (running.ingest_url(), running.api_url());
    if !io::stderr().is_terminal() {
        tracing::info!(ingest, api, data = %data.display(), "ready; the API's token is in {}", running.token_from);
        return;
    }
    let token = match &running.token {
        Some(token) => format!("Its token is {}", token.expose()),
        None => "From this machine it needs no token".to_owned(),
    };
    let data = data.display();
    context.output.words(format!(
        "keyledger is ready.\n  Stripe's webhooks go to {ingest}/webhooks/stripe\n  The API is at {api}/api/v1/status\n  \
         {token}\n  Its data is in {data}"
    ));
}
