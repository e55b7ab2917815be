//! What verbs read from: the log and the views of a deployment that exists. Nothing is made here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use keyledger_console::access::{Caller, Role};
use keyledger_console::api::{Api, ViewsAt};
use keyledger_console::problem::{Fault, Problem};
use keyledger_console::search::parse::BadQuery;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_engine::seal::OpenError;
use keyledger_eventlog::log::EventLog;
use keyledger_ingest::gate::Gate;
use keyledger_projector::ViewsError;
use keyledger_projector::read::{Views, Within};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::envelope::Position;

use super::Context;
use crate::output::{NotReachable, WrongUse, counted};
use crate::serve::{self, Gated, Keeper, Lock};
use crate::settings::{Database, Settings};

/// How often it is asked whether the views have caught up.
const ATTEMPTS_MAX: u32 = 20;

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(100);

/// A path that says where it is, whatever folder this was started in.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The log, if there is one.
///
/// # Errors
///
/// [`NotReachable`] when there is none.
pub async fn log(context: &Context) -> anyhow::Result<Arc<dyn EventLog>> {
    log_of(&context.settings()?).await
}

/// The log of these settings, if there is one.
///
/// # Errors
///
/// [`NotReachable`] when there is none, or its server does not answer.
pub async fn log_of(settings: &Settings) -> anyhow::Result<Arc<dyn EventLog>> {
    match serve::log_exists(&settings.log).await {
        Ok(true) => {}
        Ok(false) => {
            let place = shown(&settings.log);
            let who = if settings.log.server().is_some() { "ingest" } else { "up" };
            return Err(NotReachable(format!("there is no log at {place} yet: start `keyledger {who}` first")).into());
        }
        Err(error) if settings.log.server().is_some() => return Err(NotReachable(format!("{error:#}")).into()),
        Err(error) => return Err(error),
    }
    let clock = serve::clock(settings).await?;
    serve::open_log(settings, clock).await
}

/// The log of these settings, for verbs that add to it: before the first event it is looked whether others have seen
/// what it lacks.
///
/// # Errors
///
/// As [`log_of`].
pub async fn log_to_add_to(settings: &Settings) -> anyhow::Result<Arc<dyn EventLog>> {
    let log = log_of(settings).await?;
    let mirror = serve::mirror(settings.nats.as_ref(), &*log, "verb").await?;
    let keeper = Keeper::new(Gate::default(), log.clone(), mirror, settings.views.url(), false);
    Ok(Arc::new(Gated::new(log, keeper)))
}

/// Where a database is, whatever folder this was started in.
pub fn shown(database: &Database) -> String {
    database.file().map_or_else(|| database.to_string(), |path| absolute(path).display().to_string())
}

/// The views of these settings, if there are any.
///
/// # Errors
///
/// [`NotReachable`] when there are none that this build can read.
pub async fn views_of(settings: &Settings) -> anyhow::Result<Views> {
    match Views::open_read(settings.views.url().expose()).await {
        Ok(views) => Ok(views),
        Err(ViewsError::Unusable { reason }) => Err(NotReachable(reason).into()),
        Err(ViewsError::Database(error)) if settings.views.server().is_some() => {
            Err(NotReachable(format!("the views at {} cannot be read: {error}", settings.views)).into())
        }
        Err(error) => Err(error).context("opening the views"),
    }
}

/// How far the views are, and how far the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    views: Position,
    log: Position,
}

impl Seen {
    /// Now.
    ///
    /// # Errors
    ///
    /// When the log or the views cannot be read.
    pub async fn now(log: &dyn EventLog, views: &Views) -> anyhow::Result<Self> {
        let views = views.status(&Within::default(), SystemClock.now()).await.context("reading the views")?.position;
        // Read last: views that are up to date never seem to be ahead of it.
        let log = log.head().await.context("reading the log")?.position;
        Ok(Self { views, log })
    }

    /// Whether the views have seen events that the log does not hold.
    pub fn is_ahead(self) -> bool {
        self.views > self.log
    }

    /// What is wrong when the views are ahead.
    pub fn ahead(self) -> String {
        format!(
            "the views have seen {}, and the log holds {}: it was restored from an older backup, or belongs elsewhere",
            counted(self.views, "event"),
            self.log
        )
    }

    /// What a reader of the views should know, if anything.
    fn note(self, runs: bool) -> Option<String> {
        if self.is_ahead() {
            return Some(format!("Note: {}. `keyledger doctor` says what to do.", self.ahead()));
        }
        let behind = self.log - self.views;
        let why = if runs { "It reads them now." } else { "`keyledger up` is not running." };
        (behind > 0).then(|| format!("Note: the views are {} behind the log. {why}", counted(behind, "event")))
    }
}

/// The log, and the views of what stands in it. Says so when the views are not as the log is.
///
/// # Errors
///
/// [`NotReachable`] when there is no log, or there are no views.
pub async fn log_and_views(context: &Context, settings: &Settings) -> anyhow::Result<(Arc<dyn EventLog>, Views)> {
    let (log, views) = (log_of(settings).await?, views_of(settings).await?);
    note_lag(context, settings, &*log, &views).await?;
    Ok((log, views))
}

/// The API's own functions, over the log and the views as they are. Says so when the views are not as the log is.
///
/// # Errors
///
/// [`NotReachable`] when there is no log, or there are no views.
pub async fn api(context: &Context) -> anyhow::Result<Api> {
    let settings = context.settings()?;
    let log = log_to_add_to(&settings).await?;
    let views = views_of(&settings).await?;
    let keys = DeploymentKeys::load(&settings.keys_dir)?;
    note_lag(context, &settings, &*log, &views).await?;
    let views = ViewsAt::new(settings.views.url().expose())?;
    Ok(Api::new(log, views, Arc::new(keys), Arc::new(SystemClock)))
}

/// Waits for a service that runs to have read what stands in the log now, and says so when the views are not as the log is.
async fn note_lag(context: &Context, settings: &Settings, log: &dyn EventLog, views: &Views) -> anyhow::Result<()> {
    // Who works on a server's log is not seen from here: it is taken for granted.
    let runs = settings.log.server().is_some() || Lock::holder(&settings.data_dir).is_some();
    let seen = settled(log, views, runs).await?;
    if let Some(note) = seen.note(runs) {
        context.output.words(note);
    }
    Ok(())
}

/// Lets a service that runs read what stands in the log now: the verb before this one may have written it.
async fn settled(log: &dyn EventLog, views: &Views, runs: bool) -> anyhow::Result<Seen> {
    let first = Seen::now(log, views).await?;
    let mut seen = first;
    for _ in 0..ATTEMPTS_MAX {
        if !runs || seen.views >= first.log {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        seen = Seen::now(log, views).await?;
    }
    // What came in meanwhile is no lag.
    Ok(if seen.views >= first.log && seen.log > first.log { Seen { log: seen.views, ..seen } } else { seen })
}

/// Who asks from this terminal.
pub fn caller(name: String) -> Caller {
    let request = format!("cli-{}-{}", std::process::id(), SystemClock.now().as_nanosecond());
    Caller { name, role: Role::Admin, request }
}

/// What the API says is wrong, as this process says it: in the words of the command line.
pub fn problem(problem: Problem) -> anyhow::Error {
    match &problem {
        Problem::Invalid(faults) => anyhow!(WrongUse(faults.iter().map(fault).collect::<Vec<_>>().join("; "))),
        Problem::NotFound { what, id } => {
            anyhow!(WrongUse(format!("there is no {what} `{id}` here; `--mode` and `--source` look elsewhere")))
        }
        // That is the operator's to mend, and no fault of ours.
        Problem::Internal(source) if source.downcast_ref::<OpenError>().is_some_and(is_other_key) => {
            anyhow!("this license key cannot be read: it is {source}")
        }
        other if other.status() < 500 => anyhow!(WrongUse(problem.to_string())),
        _ => anyhow!(problem),
    }
}

fn is_other_key(error: &OpenError) -> bool {
    matches!(error, OpenError::OtherKey { .. })
}

/// A fault by the name it has on the command line.
fn fault(fault: &Fault) -> String {
    let detail = &fault.detail;
    let suggestion = fault.suggestion.as_ref().map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
    let pointer = fault.pointer.as_deref().and_then(|pointer| pointer.strip_prefix('/')).filter(|it| !it.is_empty());
    match pointer {
        Some("name") => format!("--by {detail}"),
        Some(name) => format!("--{} {detail}", name.replace('_', "-")),
        None => match fault.parameter.as_deref() {
            None | Some("q") => format!("{detail}{suggestion}"),
            Some(name) => format!("--{name}: {detail}{suggestion}"),
        },
    }
}

/// What is wrong with a search, with a caret under the place where that is known.
pub fn bad_search(query: &str, found: Problem) -> anyhow::Error {
    let column = found.faults().first().and_then(|fault| fault.column);
    let said = problem(found);
    let Some(column) = column else { return said };
    let caret = BadQuery::at(column, "").caret(query).to_string();
    anyhow!(WrongUse(format!("{said}\n{caret}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(problem: Problem) -> String {
        super::problem(problem).to_string()
    }

    #[test]
    fn faults_have_the_names_of_the_command_line() {
        let faults =
            vec![Fault::pointer("/provider_id", "must have 1 to 200 characters"), Fault::parameter("q", "bad")];
        assert_eq!(says(Problem::Invalid(faults)), "--provider-id must have 1 to 200 characters; bad");
        assert!(!says(Problem::not_found("case", "x")).contains("in this mode and source"));
    }

    #[test]
    fn keys_of_another_deployment_are_no_fault_of_keyledger() {
        let error = OpenError::OtherKey { key_id: "a".to_owned(), ours: "b".to_owned() };
        let said = says(Problem::Internal(error.into()));
        assert!(said.contains("restore the key files") && !said.contains("fault"), "{said}");
        assert!(says(Problem::Internal("bug".into())).contains("fault in keyledger"));
    }

    #[test]
    fn a_caret_stands_under_the_mistake_of_a_search() {
        let said = bad_search("emial:x", BadQuery::at(3, "there is no field `emial`").into()).to_string();
        assert_eq!(said, "there is no field `emial`\nemial:x\n  ^");
    }

    #[test]
    fn views_are_noted_when_they_are_not_as_the_log_is() {
        let note = |views, log, runs| Seen { views, log }.note(runs);
        assert_eq!(note(7, 7, false), None);
        assert_eq!(
            note(6, 7, false).unwrap(),
            "Note: the views are 1 event behind the log. `keyledger up` is not running."
        );
        assert!(note(5, 7, true).unwrap().contains("2 events behind"));
        assert!(note(9, 7, true).unwrap().contains("have seen 9 events, and the log holds 7"));
    }
}
