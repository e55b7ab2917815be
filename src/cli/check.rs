//! `keyledger check`: the trial balance. The issuer's books and the views are kept apart on purpose; here they are held
//! against each other, and the log's chain is proved.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::checkpoint::Cursor;
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::verify;
use keyledger_issuer::balance;
use keyledger_projector::read::{Views, Within};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::envelope::Position;
use keyledger_schemas::ids::Mode;
use serde_json::json;

use super::Context;
use super::open;
use crate::output::Exit;
use crate::serve;

/// How often the books are read again when events come in meanwhile.
const ATTEMPTS_MAX: u32 = 20;

/// How long to wait before reading again.
const PAUSE: Duration = Duration::from_millis(250);

/// An obligation that is open: its kind, and the unit or purchase.
type Open = (String, String);

/// Compares, and lists each difference.
///
/// # Errors
///
/// When the log or the views cannot be read.
pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let sqlite = open::log_of(&settings).await?;
    let views = open::views_of(&settings).await?;
    let keys = Arc::new(DeploymentKeys::load(&settings.keys_dir)?);
    let engines = serve::engines(&settings, keys)?;
    let log: Arc<dyn EventLog> = Arc::new(sqlite);

    let mut found = chain(context, &*log).await?;
    let mut books = Books::read(&log, &views, &engines).await?;
    for _ in 0..ATTEMPTS_MAX {
        // While it runs, either side may be a moment ahead; a true difference stays.
        if books.differences().is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        books = Books::read(&log, &views, &engines).await?;
    }
    found.extend(books.differences());

    if context.output.json {
        context.output.value(&json!({"position": books.head, "open": books.views.len(), "differences": found}))?;
    } else {
        for difference in &found {
            context.output.line(difference)?;
        }
        context.output.line(format!(
            "at {}: {} open obligations, {} differences",
            books.head,
            books.views.len(),
            found.len()
        ))?;
    }
    Ok(if found.is_empty() { Exit::Fine } else { Exit::Found })
}

/// What is wrong with the chain, if something is.
async fn chain(context: &Context, log: &dyn EventLog) -> anyhow::Result<Vec<String>> {
    let mut progress = context.output.progress("chain", log.head().await?.position);
    let report = verify::verify(log, |so_far| progress.at(so_far.events)).await.context("reading the log")?;
    progress.finish();
    Ok(report.problem.iter().map(|problem| format!("chain: {problem}")).collect())
}

/// Both books at one moment.
struct Books {
    head: Position,
    issuer_position: Position,
    projector_position: Position,
    parked: u64,
    issuer: BTreeSet<Open>,
    views: BTreeSet<Open>,
}

impl Books {
    async fn read(log: &Arc<dyn EventLog>, views: &Views, engines: &keyledger_issuer::Engines) -> anyhow::Result<Self> {
        let mut open = BTreeSet::new();
        let mut parked = 0;
        let mut projector_position = 0;
        for mode in [Mode::Live, Mode::Test] {
            let within = Within { mode, source: None };
            let obligations = views.open_obligations(&within).await.context("reading the views")?;
            open.extend(obligations.into_iter().map(|it| (it.kind, it.subject)));
            let status = views.status(&within, SystemClock.now()).await.context("reading the views")?;
            (projector_position, parked) = (status.position, status.parked);
        }
        let issuer = balance::open_obligations(log, engines).await.context("reading the issuer's books")?;
        let issuer_position = Cursor::load(&**log, keyledger_issuer::NAME).await?.checkpoint().position;
        // Read last: a part never seems to be ahead of it.
        let head = log.head().await?.position;
        Ok(Self {
            head,
            issuer_position,
            projector_position,
            parked,
            issuer: issuer.into_iter().map(|it| (it.kind.as_str().to_owned(), it.subject)).collect(),
            views: open,
        })
    }

    /// What does not agree, in sentences.
    fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, position) in [("issuer", self.issuer_position), ("projector", self.projector_position)] {
            if position < self.head {
                found.push(format!(
                    "{name}: {} events behind the log; is `keyledger up` running?",
                    self.head - position
                ));
            }
        }
        if self.parked > 0 {
            found.push(format!("projector: {} events are set aside, because they could not be read", self.parked));
        }
        for (kind, subject) in self.views.difference(&self.issuer) {
            found.push(format!("{kind} {subject}: open in the views, not in the issuer's books"));
        }
        for (kind, subject) in self.issuer.difference(&self.views) {
            found.push(format!("{kind} {subject}: open in the issuer's books, not in the views"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let open = BTreeSet::from([("no_key".to_owned(), "default:-:live:sub_1/si_1/1".to_owned())]);
        Books { head: 7, issuer_position: 7, projector_position: 7, parked: 0, issuer: open.clone(), views: open }
    }

    #[test]
    fn books_that_agree_have_no_differences() {
        assert_eq!(books().differences(), Vec::<String>::new());
    }

    #[test]
    fn each_side_that_knows_more_is_named() {
        let mut more_in_views = books();
        more_in_views.issuer.clear();
        assert!(more_in_views.differences()[0].contains("open in the views"));
        let mut more_at_issuer = books();
        more_at_issuer.views.clear();
        assert!(more_at_issuer.differences()[0].contains("open in the issuer's books"));
    }

    #[test]
    fn a_part_that_is_behind_is_a_difference() {
        let behind = Books { projector_position: 5, ..books() };
        assert_eq!(behind.differences(), ["projector: 2 events behind the log; is `keyledger up` running?"]);
    }
}
