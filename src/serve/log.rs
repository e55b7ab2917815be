//! Opening the log, wherever it is, and the clock that all who share it go by.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use keyledger_eventlog::log::{EventLog, LogError};
use keyledger_eventlog::open::{self, Options};
use keyledger_schemas::clock::{Clock, SystemClock};
use tokio::time::Instant;
use uuid::Uuid;

use crate::cli;
use crate::output::NotReachable;
use crate::settings::{Database, Settings};

/// How long a server that is not there yet is waited for: where everything is started together, it comes up a moment
/// later.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long to wait before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How often that is said.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What PostgreSQL answers while it starts, stops, or has no room: it passes. (PostgreSQL, Appendix A)
const PASSING: [&str; 5] = ["57P01", "57P02", "57P03", "53300", "08006"];

/// The clock that leases and waiting times go by: this machine's, or the one that several machines share.
///
/// # Errors
///
/// When the log's server cannot be asked for the time.
pub async fn clock(settings: &Settings) -> anyhow::Result<Arc<dyn Clock>> {
    let clock = open::clock(settings.log.url().expose(), Arc::new(SystemClock)).await;
    clock.with_context(|| format!("asking {} the time", settings.log))
}

/// Does what needs the log's server, again for a minute at most while it is not there yet.
///
/// # Errors
///
/// [`NotReachable`] when there is no server by then; otherwise what the work fails with.
pub async fn patiently<T>(settings: &Settings, work: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let begun = Instant::now();
    let mut said = None;
    loop {
        let error = match work().await {
            Err(error) if settings.log.server().is_some() && is_passing(&error) => error,
            done => return done,
        };
        if begun.elapsed() >= PATIENCE {
            let within = PATIENCE.as_secs();
            let what = format!("{} did not answer within {within} s ({error:#})", settings.log);
            return Err(NotReachable(what).into());
        }
        if said.is_none_or(|at: Instant| at.elapsed() >= SAY_EVERY) {
            tracing::warn!("{} does not answer yet, it is tried again: {error:#}", settings.log);
            said = Some(Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a server that does not answer may answer in a moment.
fn is_passing(error: &anyhow::Error) -> bool {
    let Some(LogError::Database(error)) = error.chain().find_map(|cause| cause.downcast_ref::<LogError>()) else {
        return false;
    };
    match error.as_database_error() {
        Some(error) => error.code().is_some_and(|code| PASSING.contains(&&*code)),
        None => true,
    }
}

/// Opens the log, and makes it where there is none.
///
/// # Errors
///
/// When it cannot be opened, or would not keep what it acknowledges.
pub async fn open_log(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn EventLog>> {
    open_log_with(settings, clock, None).await
}

/// Opens the log. One that is made gets this id, where there is one: it is a copy of the log that has it.
///
/// # Errors
///
/// As [`open_log`].
pub async fn open_log_with(
    settings: &Settings,
    clock: Arc<dyn Clock>,
    log_id: Option<Uuid>,
) -> anyhow::Result<Arc<dyn EventLog>> {
    make_folder_of(&settings.log)?;
    let opened = Box::pin(open::open(settings.log.url().expose(), clock, Options { log_id })).await;
    opened.with_context(|| format!("opening the log {}", settings.log))
}

/// Whether there is a log. Nothing is made.
///
/// # Errors
///
/// When its server does not say.
pub async fn log_exists(log: &Database) -> anyhow::Result<bool> {
    match log {
        Database::File(path) => Ok(path.exists()),
        Database::Server(_) => {
            let exists = open::exists(log.url().expose()).await;
            exists.with_context(|| format!("looking for the log {log}"))
        }
    }
}

/// Makes the folder of a database that is a file.
///
/// # Errors
///
/// When it cannot be made, or its name is not text.
pub fn make_folder_of(database: &Database) -> anyhow::Result<()> {
    let Some(path) = database.file() else { return Ok(()) };
    path.to_str().with_context(|| format!("{} is not text", path.display()))?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => cli::make_data_dir(folder),
        None => Ok(()),
    }
}
