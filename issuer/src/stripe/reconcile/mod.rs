//! Comparing the log with what Stripe holds, and appending what it lacks.
//!
//! Stripe lists its events of the last 30 days; what is older it only shows as it is now. So:
//!
//! 1. events that some endpoint did not take, then all events: those of which the log has no rendering are appended as if
//!    they had been delivered, byte for byte as the API renders them;
//! 2. for what is older than that: subscriptions, paid invoices, sessions, refunds and disputes that say something new
//!    ([`keyledger_schemas::stripe::news`]) are appended as answers ([`keyledger_schemas::stripe::fetched`]).
//!
//! Doing it again finds the log complete and changes nothing. An event that comes twice, by webhook and from here, is one.

mod events;
mod known;
mod objects;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use keyledger_eventlog::log::{Append, AppendError, EventLog, LogError, Placed};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::NewEvent;
use keyledger_schemas::ids::{AccountId, Mode, Scope, SourceName};
use serde_json::Value;

use self::known::Known;
use super::client::{Client, StripeError};
use super::other_mode;
use crate::provider::CallError;

/// Stripe lists its events for this long.
const EVENTS_KEPT: Duration = Duration::from_hours(30 * 24);

/// Objects are looked at up to this close to where the list of events begins, so that no gap is left between the two.
const OVERLAP: Duration = Duration::from_hours(24);

/// A report names no more than this.
const NAMED_MAX: usize = 10_000;

/// How long to wait before a read that failed is repeated; after the last one it fails.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(30)];

/// One Stripe account, or Connect platform, and how to ask it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in the settings.
    pub name: SourceName,
    /// The mode that its key is for.
    pub mode: Mode,
    /// How it is asked.
    pub client: Client,
    /// Connected accounts to look at, besides those that its events have shown.
    pub accounts: Vec<AccountId>,
    /// All sources of the settings: what the first of two that are the same account has is not appended for the other.
    pub others: Vec<SourceName>,
}

impl Source {
    /// A source without connected accounts, beside no other.
    pub fn new(name: SourceName, mode: Mode, client: Client) -> Self {
        Self { name, mode, client, accounts: Vec::new(), others: Vec::new() }
    }

    /// Nothing of the other mode is compared, let alone appended.
    fn holds(&self, object: &Value) -> Result<(), ReconcileError> {
        match other_mode(object, self.mode) {
            None => Ok(()),
            Some(shown) => Err(ReconcileError::OtherMode { source_name: self.name.clone(), shown, wanted: self.mode }),
        }
    }
}

/// What is looked at, and whether anything is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// From when on.
    pub since: Timestamp,
    /// Append what is missing. Otherwise nothing is written.
    pub apply: bool,
    /// Look at objects, where `since` is before the first event that Stripe lists.
    pub objects: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { since: Timestamp::MAX, apply: false, objects: true }
    }
}

/// What is being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Events that some endpoint did not take.
    Undelivered,
    /// All events.
    Events,
    /// Subscriptions.
    Subscriptions,
    /// Paid invoices.
    Invoices,
    /// Checkout sessions.
    Sessions,
    /// Refunds.
    Refunds,
    /// Disputes.
    Disputes,
}

impl Step {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undelivered => "undelivered events",
            Self::Events => "events",
            Self::Subscriptions => "subscriptions",
            Self::Invoices => "invoices",
            Self::Sessions => "checkout sessions",
            Self::Refunds => "refunds",
            Self::Disputes => "disputes",
        }
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The connected account, or the source's own.
    pub account: Option<AccountId>,
    /// What is being looked at.
    pub step: Step,
    /// How many were looked at in this step.
    pub looked: u64,
    /// How many were found missing so far, in all.
    pub missing: u64,
    /// Everything newer than this was looked at in this step.
    pub back_to: Option<Timestamp>,
}

/// Something that the log lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The connected account.
    pub account: Option<AccountId>,
    /// What kind of event it becomes, e.g. `stripe.invoice.paid` or `stripe.fetched.invoice`.
    pub kind: String,
    /// `evt_…`, or the object's id.
    pub id: String,
    /// When it was made.
    pub at: Timestamp,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events looked at.
    pub events_seen: u64,
    /// Of these, the log lacked so many.
    pub events_missing: u64,
    /// Of these, so many were appended.
    pub events_appended: u64,
    /// Objects looked at.
    pub objects_seen: u64,
    /// Of these, so many said something new.
    pub objects_missing: u64,
    /// Of these, so many were appended.
    pub objects_appended: u64,
    /// The first ten thousand of what was missing, in the order in which it was found.
    pub missing: Vec<Missing>,
    /// Connected accounts that could not be looked at, and why.
    pub left_out: Vec<(AccountId, String)>,
}

/// Why the comparison was broken off. What was appended until then stays; doing it again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Stripe.
    #[error("cannot read from Stripe")]
    Stripe(#[from] StripeError),
    /// The log.
    #[error("cannot read the log")]
    Log(#[from] LogError),
    /// The log, again.
    #[error("cannot append to the log")]
    Append(#[from] AppendError),
    /// The key is for the other mode: check it in the settings.
    #[error(
        "the API key of source `{source_name}` shows {shown} objects, and the source is for {wanted}: check the key"
    )]
    OtherMode {
        /// The source.
        source_name: SourceName,
        /// What the key shows.
        shown: Mode,
        /// What it should show.
        wanted: Mode,
    },
}

/// Compares the log with what Stripe holds of one source, its connected accounts included. What the log lacks is listed, and
/// appended if the options say so. Safe to do again, at any time and beside everything else.
///
/// # Errors
///
/// See [`ReconcileError`].
pub async fn reconcile(
    log: &dyn EventLog,
    clock: &dyn Clock,
    source: &Source,
    options: &Options,
    progress: &mut (dyn FnMut(Progress) + Send + Sync),
) -> Result<Report, ReconcileError> {
    let mut accounts = known::accounts(log, &source.name, source.mode).await?;
    accounts.extend(source.accounts.iter().cloned());
    let mut report = Report::default();
    for account in std::iter::once(None).chain(accounts.into_iter().map(Some)) {
        let mut run = Run {
            log,
            clock,
            source,
            options,
            client: source.client.of(account.as_ref()),
            known: Known::new(log),
            handled: BTreeSet::new(),
            report: &mut report,
            progress,
            account: account.clone(),
        };
        match (run.account().await, account) {
            (Ok(()), _) => {}
            (Err(ReconcileError::Stripe(error)), Some(account)) if error.is_not_connected() => {
                report.left_out.push((account, error.to_string()));
            }
            (Err(error), _) => return Err(error),
        }
    }
    Ok(report)
}

/// The comparison of one account.
struct Run<'r> {
    log: &'r dyn EventLog,
    clock: &'r dyn Clock,
    source: &'r Source,
    options: &'r Options,
    client: Client,
    known: Known<'r>,
    /// Events that were found missing already.
    handled: BTreeSet<String>,
    report: &'r mut Report,
    progress: &'r mut (dyn FnMut(Progress) + Send + Sync),
    account: Option<AccountId>,
}

impl Run<'_> {
    async fn account(&mut self) -> Result<(), ReconcileError> {
        let now = self.clock.now();
        let events_from = now.saturating_sub(EVENTS_KEPT).unwrap_or(Timestamp::MIN);
        self.events(Step::Undelivered, now).await?;
        self.events(Step::Events, now).await?;
        if self.options.objects && self.options.since < events_from {
            self.objects(events_from.saturating_add(OVERLAP).unwrap_or(now)).await?;
        }
        Ok(())
    }

    fn scope(&self) -> Scope {
        Scope { source: self.source.name.clone(), account: self.account.clone(), mode: self.source.mode }
    }

    fn found(&mut self, missing: Missing) {
        if self.report.missing.len() < NAMED_MAX {
            self.report.missing.push(missing);
        }
    }

    fn tell(&mut self, step: Step, looked: u64, back_to: Option<Timestamp>) {
        let missing = self.report.events_missing + self.report.objects_missing;
        (self.progress)(Progress { account: self.account.clone(), step, looked, missing, back_to });
    }

    /// Appends, if that is wanted. Gives how many of them are new in the log.
    async fn append(&self, events: Vec<NewEvent>) -> Result<u64, ReconcileError> {
        if !self.options.apply || events.is_empty() {
            return Ok(0);
        }
        let placed = self.log.append(Append::events(events)).await?;
        let appended = placed.iter().filter(|placed| matches!(placed, Placed::Appended(_)));
        Ok(u64::try_from(appended.count()).unwrap_or(u64::MAX))
    }
}

/// Does a read, and repeats it a few times while Stripe is not available.
async fn patiently<'r, T>(
    mut read: impl FnMut() -> BoxFuture<'r, Result<T, StripeError>> + Send,
) -> Result<T, StripeError> {
    for wait in AGAIN {
        match read().await {
            // A person must mend the key.
            Err(StripeError::Unavailable { source, retry_after })
                if !matches!(source, CallError::Credentials { .. }) =>
            {
                let asked = retry_after.unwrap_or_default().min(Duration::from_mins(1));
                tokio::time::sleep(wait.max(asked)).await;
            }
            answer => return answer,
        }
    }
    read().await
}
