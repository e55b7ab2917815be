//! What verbs read from: the log and the views of a deployment that exists. Nothing is made here.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use keyledger_console::access::{Caller, Role};
use keyledger_console::api::{Api, ViewsAt};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::sqlite::SqliteLog;
use keyledger_projector::ViewsError;
use keyledger_projector::read::{Views, Within};
use keyledger_schemas::clock::{Clock, SystemClock};

use super::Context;
use crate::output::NotReachable;
use crate::serve;
use crate::settings::Settings;

/// The log, if there is one.
///
/// # Errors
///
/// [`NotReachable`] when there is none.
pub async fn log(context: &Context) -> anyhow::Result<SqliteLog> {
    log_of(&context.settings()?).await
}

/// The log of these settings, if there is one.
///
/// # Errors
///
/// [`NotReachable`] when there is none.
pub async fn log_of(settings: &Settings) -> anyhow::Result<SqliteLog> {
    if !settings.log.exists() {
        return Err(NotReachable(format!(
            "there is no log at {} yet: start `keyledger up` first",
            settings.log.display()
        ))
        .into());
    }
    serve::open_log(settings, Arc::new(SystemClock)).await
}

/// The views of these settings, if there are any.
///
/// # Errors
///
/// [`NotReachable`] when there are none that this build can read.
pub async fn views_of(settings: &Settings) -> anyhow::Result<Views> {
    match Views::open_read(&serve::views_url(settings)?).await {
        Ok(views) => Ok(views),
        Err(ViewsError::Unusable { reason }) => Err(NotReachable(reason).into()),
        Err(error) => Err(error).context("opening the views"),
    }
}

/// The API's own functions, over the log and the views as they are. Says so when the views are behind.
///
/// # Errors
///
/// [`NotReachable`] when there is no log, or there are no views.
pub async fn api(context: &Context) -> anyhow::Result<Api> {
    let settings = context.settings()?;
    let log = log_of(&settings).await?;
    let views = views_of(&settings).await?;
    let keys = DeploymentKeys::load(&settings.keys_dir)?;
    let head = log.head().await?.position;
    let position = views.status(&Within::default(), SystemClock.now()).await?.position;
    if position < head {
        let behind = head - position;
        context.output.words(format!("Note: the views are {behind} events behind the log. Is `keyledger up` running?"));
    }
    let views = ViewsAt::new(serve::views_url(&settings)?)?;
    Ok(Api::new(Arc::new(log), views, Arc::new(keys), Arc::new(SystemClock)))
}

/// Who asks from this terminal.
pub fn caller(name: String) -> Caller {
    let request = format!("cli-{}-{}", std::process::id(), SystemClock.now().as_nanosecond());
    Caller { name, role: Role::Admin, request }
}

/// What the API says is wrong, as this process says it.
pub fn problem(problem: keyledger_console::problem::Problem) -> anyhow::Error {
    match problem.status() {
        400..=499 => anyhow!(crate::output::WrongUse(problem.to_string())),
        _ => anyhow!(problem),
    }
}
