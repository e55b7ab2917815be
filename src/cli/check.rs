//! `keyledger check`: the trial balance. The issuer's books and the views are kept apart on purpose; here they are held
//! against each other, and the log's chain is proved.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::checkpoint::Cursor;
use keyledger_eventlog::jetstream::compare::{self, CompareError, Comparison};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::verify;
use keyledger_projector::read::{Views, Within};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::envelope::Position;
use serde_json::json;

use super::Context;
use super::balance::{Balance, Books};
use super::open;
use crate::output::Exit;
use crate::serve;
use crate::settings::Settings;

/// How often it looks again while events come in.
const ATTEMPTS_MAX: u32 = 20;

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(250);

/// How often the mirror is compared again while it is short of the log.
const MIRROR_ATTEMPTS_MAX: u32 = 5;

/// How long to wait before that.
const MIRROR_PAUSE: Duration = Duration::from_millis(500);

/// Compares, and lists each difference.
///
/// # Errors
///
/// When the log or the views cannot be read.
pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let log = open::log_of(&settings).await?;
    let views = open::views_of(&settings).await?;
    let keys = Arc::new(DeploymentKeys::load(&settings.keys_dir)?);
    let engines = serve::engines(&settings, keys)?;

    let chain = chain(context, &*log).await?;
    let mirror = mirror(context, &settings, &*log).await?;
    let (behind, at) = wait_until_read(&*log, &views).await?;
    let is_behind = !behind.is_empty();
    let books = Books { log: &log, engines: &engines, views: &views };
    // Books of which one has not read what the other has would differ in what is right.
    let (balance, at) = if is_behind { (Balance::default(), at) } else { settled(&books).await? };
    let found = chain.into_iter().chain(mirror).chain(behind).chain(at.parked()).chain(balance.differences);
    let found: Vec<String> = found.collect();

    let (head, open, licenses) = (at.head, balance.open, balance.licenses);
    if is_behind {
        context.output.words("The books are compared once both have read the whole log: ask again then.");
    }
    if context.output.json {
        let found = json!({"position": head, "open": open, "licenses": licenses, "differences": found});
        context.output.value(&found)?;
    } else {
        for difference in &found {
            context.output.line(difference)?;
        }
        let found = found.len();
        context.output.line(format!("at {head}: {licenses} licenses, {open} open obligations, {found} differences"))?;
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

/// In what the mirror is not what the log is, if there is one that answers. What a relay has still to publish is waited
/// for.
async fn mirror(context: &Context, settings: &Settings, log: &dyn EventLog) -> anyhow::Result<Vec<String>> {
    let Some(mirror) = serve::mirror(settings.nats.as_ref(), log, "check").await? else { return Ok(Vec::new()) };
    let target = log.head().await.context("reading the log")?.position;
    let mut attempt = 0;
    loop {
        let mut progress = context.output.progress("mirror", target);
        let compared = compare::compare(log, &mirror, |position| progress.at(position)).await;
        progress.finish();
        attempt += 1;
        match compared {
            Ok(found) if found.problem.is_none() && found.mirror < target && attempt < MIRROR_ATTEMPTS_MAX => {}
            Ok(found) => return Ok(in_words(&found, target).into_iter().collect()),
            Err(CompareError::Log(error)) => return Err(error).context("reading the log"),
            // NATS may be away without anything being wrong with the books; `doctor` tells of it.
            Err(error @ CompareError::Mirror(_)) => {
                context.output.words(format!("The mirror was not compared: {error}."));
                return Ok(Vec::new());
            }
        }
        tokio::time::sleep(MIRROR_PAUSE).await;
    }
}

fn in_words(found: &Comparison, target: Position) -> Option<String> {
    match &found.problem {
        Some(problem) => Some(format!("{problem}; `keyledger doctor` says what to do")),
        None if found.mirror < target => {
            let behind = target - found.mirror;
            Some(format!("mirror: {behind} events behind the log; is `keyledger ingest` running?"))
        }
        None => None,
    }
}

/// Gives both parts a while to read what stands in the log now. Says who did not.
async fn wait_until_read(log: &dyn EventLog, views: &Views) -> anyhow::Result<(Vec<String>, Read)> {
    let target = log.head().await?.position;
    let mut read = Read::now(log, views).await?;
    for _ in 0..ATTEMPTS_MAX {
        if read.behind(target).is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        read = Read::now(log, views).await?;
    }
    Ok((read.behind(target), read))
}

/// Compares again while events come in, because either side may be a moment ahead: what differs every time is a true
/// difference, and so is what differs while all is read and nothing moves.
async fn settled(books: &Books<'_>) -> anyhow::Result<(Balance, Read)> {
    let mut differing: Option<BTreeSet<String>> = None;
    let mut attempt = 0;
    loop {
        let before = Read::now(&**books.log, books.views).await?;
        let mut balance = books.compare().await?;
        let after = Read::now(&**books.log, books.views).await?;
        attempt += 1;
        if let Some(before) = &differing {
            balance.differences.retain(|difference| before.contains(difference));
        }
        let at_rest = before == after && after.behind(after.head).is_empty();
        if at_rest || balance.differences.is_empty() || attempt >= ATTEMPTS_MAX {
            return Ok((balance, after));
        }
        differing = Some(balance.differences);
        tokio::time::sleep(PAUSE).await;
    }
}

/// How far each part has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    issuer: Position,
    projector: Position,
    parked: u64,
    head: Position,
}

impl Read {
    async fn now(log: &dyn EventLog, views: &Views) -> anyhow::Result<Self> {
        let status = views.status(&Within::default(), SystemClock.now()).await.context("reading the views")?;
        let issuer = Cursor::load(log, keyledger_issuer::NAME).await?.checkpoint().position;
        // Read last: a part never seems to be ahead of it.
        let head = log.head().await?.position;
        Ok(Self { issuer, projector: status.position, parked: status.parked, head })
    }

    /// Who has not read up to `target`.
    fn behind(&self, target: Position) -> Vec<String> {
        let parts = [("issuer", self.issuer), ("projector", self.projector)];
        let behind = parts.into_iter().filter(|(_, position)| *position < target);
        behind
            .map(|(name, position)| {
                let events = target - position;
                format!("{name}: {events} events behind the log; is `keyledger {name}` or `keyledger up` running?")
            })
            .collect()
    }

    fn parked(&self) -> Option<String> {
        let parked = self.parked;
        (parked > 0).then(|| format!("projector: {parked} events are set aside, because they could not be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Read = Read { issuer: 7, projector: 7, parked: 0, head: 7 };

    #[test]
    fn parts_that_have_read_everything_are_not_behind() {
        assert_eq!(READ.behind(7), Vec::<String>::new());
        assert_eq!(READ.parked(), None);
    }

    #[test]
    fn a_part_that_is_behind_is_a_difference() {
        let behind = Read { projector: 5, ..READ };
        assert_eq!(
            behind.behind(7),
            ["projector: 2 events behind the log; is `keyledger projector` or `keyledger up` running?"]
        );
    }

    #[test]
    fn a_mirror_that_is_short_or_other_is_a_difference() {
        let of = |mirror, problem| Comparison { events: mirror, log: 7, mirror, problem };
        assert_eq!(in_words(&of(7, None), 7), None);
        assert_eq!(
            in_words(&of(5, None), 7).unwrap(),
            "mirror: 2 events behind the log; is `keyledger ingest` running?"
        );
        let problem = compare::Problem { position: 3, reason: "it is missing".to_owned() };
        assert!(in_words(&of(7, Some(problem)), 7).unwrap().starts_with("mirror, position 3: it is missing"));
    }

    #[test]
    fn events_that_were_set_aside_are_a_difference() {
        assert!(Read { parked: 2, ..READ }.parked().unwrap().starts_with("projector: 2 events"));
    }
}
