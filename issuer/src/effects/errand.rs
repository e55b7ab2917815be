//! Errands: what is to be done outside of license calls, and the state rows that say when.
//!
//! A row only times an errand and counts its failures. Whether it is still to be done, and with what, is asked of the state
//! anew when it falls due: a row too many costs a look, and one that is lost comes back with the next event.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_eventlog::state::{StateChange, StateRow, StateWrite};
use keyledger_schemas::envelope::Position;
use keyledger_schemas::ids::{CustomerId, EventId, ProviderName, PurchaseId, Scope, SourceName};
use keyledger_schemas::stripe::fact::ObjectRef;
use serde::{Deserialize, Serialize};

use crate::purchase::decide::DELAYS;
use crate::store::{self, StoreError};
use crate::stripe::client::Want;

/// Errands by kind, scope and object. Their `due_at` is when they are carried out.
pub const ERRANDS: &str = "issuer.errand";

/// What an errand is about: from its state follows what is to be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A purchase.
    Purchase(PurchaseId),
    /// A payment that belongs to no sale yet.
    Payment(Scope, ObjectRef),
    /// A customer of Stripe's.
    Customer(Scope, CustomerId),
    /// What a thin event was about.
    Thin(Scope, Thin),
    /// A source whose events and objects are compared with the log.
    Source(SourceName),
}

/// The object of a thin event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Thin {
    /// Its id.
    pub id: String,
    /// Stripe's word for its kind.
    pub kind: String,
    /// Where it can be read.
    pub url: String,
    /// When it changed.
    pub at: Timestamp,
    /// Where the event stands in the log.
    pub position: Position,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Metadata to write to a subscription or a customer.
    Write {
        /// Where the object is.
        scope: Scope,
        /// `sub_…` or `cus_…`.
        object: String,
        /// By key; an empty value takes the key away.
        values: BTreeMap<String, String>,
        /// Writes to the object so far.
        round: usize,
    },
    /// Something to ask Stripe for.
    Fetch {
        /// Where the object is.
        scope: Scope,
        /// What.
        want: Want,
    },
    /// A customer to bring up to date at an engine.
    Sync {
        /// Where the customer is.
        scope: Scope,
        /// `cus_…`.
        customer: CustomerId,
        /// The engine.
        provider: ProviderName,
        /// The engine's own id for them.
        id: String,
    },
    /// The log to compare with what Stripe holds.
    Reconcile {
        /// The source.
        source: SourceName,
        /// From when on.
        since: Timestamp,
    },
}

impl Task {
    /// `kind:scope:object`: one errand at a time for each.
    pub fn key(&self) -> String {
        match self {
            Self::Write { scope, object, .. } => format!("metadata:{scope}:{object}"),
            Self::Fetch { scope, want } => format!("fetch:{scope}:{}", want.path()),
            Self::Sync { scope, customer, provider, .. } => format!("customer:{scope}:{customer}:{provider}"),
            Self::Reconcile { source, .. } => format!("reconcile:{source}"),
        }
    }
}

/// A task, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// What.
    pub task: Task,
    /// Not before this moment.
    pub due_at: Timestamp,
    /// The Stripe event that made it wanted, where one did.
    pub cause: Option<EventId>,
}

/// What a state row says about an errand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What it is about.
    pub subject: Subject,
    /// When it was first wanted.
    pub noticed: Timestamp,
    /// How often in a row it failed.
    pub attempts: u32,
    /// How often Stripe failed by itself: it repeats such an answer to the same idempotency key.
    #[serde(default)]
    pub fresh: u32,
    /// An answer that must have been read before it is looked at.
    #[serde(default)]
    pub after: Option<EventId>,
    /// When it was done last, where it comes again by time.
    #[serde(default)]
    pub done_at: Option<Timestamp>,
}

impl Row {
    /// A row for something that is noticed now.
    pub fn new(subject: Subject, now: Timestamp) -> Self {
        Self { subject, noticed: now, attempts: 0, fresh: 0, after: None, done_at: None }
    }
}

/// A row as it stands.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// What it says.
    pub row: Row,
    /// When it is due.
    pub due_at: Option<Timestamp>,
    revision: u64,
}

impl Stored {
    /// Reads a row.
    ///
    /// # Errors
    ///
    /// [`StoreError::Row`] when another build wrote it.
    pub fn of(row: &StateRow) -> Result<Self, StoreError> {
        Ok(Self { key: row.key.clone(), row: store::decode(row)?, due_at: row.due_at, revision: row.revision })
    }

    /// The write of a changed row.
    pub fn put(&self, row: &Row, due_at: Timestamp) -> StateWrite {
        put(&self.key, row, due_at, self.revision)
    }

    /// The write that takes it away: it is done, or not wanted any more.
    pub fn done(&self) -> StateWrite {
        StateWrite {
            namespace: ERRANDS.to_owned(),
            key: self.key.clone(),
            expected: Some(self.revision),
            change: StateChange::Delete,
        }
    }
}

/// The write that notes an errand, if one is needed: a row that failed before keeps its delay.
pub fn note(known: Option<&Stored>, errand: &Errand, subject: &Subject, now: Timestamp) -> Option<StateWrite> {
    let Some(known) = known else {
        return Some(put(&errand.task.key(), &Row::new(subject.clone(), now), errand.due_at, 0));
    };
    let due_at = known.due_at.filter(|due_at| known.row.attempts > 0 || *due_at <= errand.due_at);
    let due_at = due_at.unwrap_or(errand.due_at);
    // A later subject knows of more that must be done.
    let row = Row { subject: subject.clone(), ..known.row.clone() };
    (row != known.row || Some(due_at) != known.due_at).then(|| known.put(&row, due_at))
}

/// How long to wait after a failure: by the table, and at least as long as we were asked to, within an hour.
pub fn delay(attempts: u32, asked: Option<Duration>) -> Duration {
    let index = usize::try_from(attempts).unwrap_or(usize::MAX).min(DELAYS.len() - 1);
    DELAYS[index].max(asked.unwrap_or_default().min(DELAYS[DELAYS.len() - 1]))
}

fn put(key: &str, row: &Row, due_at: Timestamp, revision: u64) -> StateWrite {
    StateWrite {
        namespace: ERRANDS.to_owned(),
        key: key.to_owned(),
        expected: Some(revision),
        change: StateChange::Put { value: store::encode(row), due_at: Some(due_at) },
    }
}
