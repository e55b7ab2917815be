//! Keeping cases: they open when their fact shows, close when it is gone, and keep a person's waiver.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use keyledger_schemas::envelope::{Position, Recorded};
use keyledger_schemas::event::{MirrorDiverged, MirrorFault};
use keyledger_schemas::ids::CaseId;
use keyledger_schemas::money::Money;

use crate::derive::DerivedCase;
use crate::facts::Waiver;
use crate::waiting::Waiting;

/// How long a refund, dispute, refunded charge or invoice may wait for its link before it is a case.
const ROUTED_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// Where a case stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Someone must look.
    Open,
    /// Its fact changed.
    Closed,
    /// A person closed it.
    Waived,
}

impl Status {
    /// The word in the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Waived => "waived",
        }
    }

    /// The status that the tables' word means.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Open, Self::Closed, Self::Waived].into_iter().find(|status| status.as_str() == word)
    }
}

/// A case as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseRow {
    /// Its kind.
    pub kind: String,
    /// Where it stands.
    pub status: Status,
    /// What it is about.
    pub subject: String,
    /// The unit, where it is about one.
    pub unit: Option<(String, u32)>,
    /// Whose.
    pub customer: Option<String>,
    /// How much money.
    pub amount: Option<Money>,
    /// Since when.
    pub opened_at: Timestamp,
    /// The event that opened it.
    pub opened_position: Position,
    /// Not shown before.
    pub visible_from: Timestamp,
    /// The last event that touched it.
    pub last_position: Position,
    /// When it was closed or waived.
    pub closed_at: Option<Timestamp>,
    /// Why.
    pub cause: Option<String>,
    /// The issuer may be behind instead.
    pub awaits_issuer: bool,
    /// More about why.
    pub detail: Option<String>,
    /// How often a provider was asked.
    pub attempts: u32,
    /// When it is tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// Who waived it, if someone did.
    pub waived_by: Option<String>,
    /// Why it was waived.
    pub waived_reason: Option<String>,
}

impl CaseRow {
    /// A case that opens now.
    fn opened(case: &DerivedCase, event: &Recorded) -> Self {
        let opened_at = case.since.unwrap_or(event.occurred_at);
        Self {
            kind: case.kind.to_owned(),
            status: Status::Open,
            subject: case.subject.clone(),
            unit: case.unit.clone(),
            customer: None,
            amount: None,
            opened_at,
            opened_position: event.position,
            visible_from: Timestamp::UNIX_EPOCH,
            last_position: event.position,
            closed_at: None,
            cause: None,
            awaits_issuer: false,
            detail: None,
            attempts: 0,
            next_attempt_at: None,
            waived_by: None,
            waived_reason: None,
        }
    }

    fn update(&mut self, case: &DerivedCase, customer: Option<&str>, event: &Recorded) {
        self.customer = customer.map(str::to_owned);
        self.amount.clone_from(&case.amount);
        self.cause = case.cause.map(str::to_owned);
        self.awaits_issuer = case.awaits_issuer;
        self.detail.clone_from(&case.detail);
        self.attempts = case.attempts;
        self.next_attempt_at = case.next_attempt_at;
        self.last_position = event.position;
    }

    /// A person closed it.
    pub fn waive(&mut self, waiver: &Waiver, at: Timestamp) {
        if self.status != Status::Waived {
            self.closed_at = Some(at.max(self.opened_at));
        }
        self.status = Status::Waived;
        self.waived_by.clone_from(&waiver.by);
        self.waived_reason = Some(waiver.reason.clone());
    }

    fn close(&mut self, event: &Recorded) {
        self.status = Status::Closed;
        self.closed_at = Some(event.occurred_at.max(self.opened_at));
        self.last_position = event.position;
    }

    /// Whether a waiver of the unit, and not of the case, closes it.
    pub fn is_about_obligation(&self) -> bool {
        self.unit.is_some() && matches!(self.kind.as_str(), "no_key" | "not_extended" | "free_without_key")
    }
}

/// Brings the cases of one purchase to what was derived after `event`. Says which changed.
pub fn settle(
    kept: &mut BTreeMap<CaseId, CaseRow>,
    derived: &[DerivedCase],
    customer: Option<&str>,
    event: &Recorded,
) -> BTreeSet<CaseId> {
    let mut changed = BTreeSet::new();
    let mut shown = BTreeSet::new();
    for case in derived {
        let id = CaseId::derive(case.kind, &case.subject);
        shown.insert(id);
        let before = kept.get(&id).cloned();
        let row = kept.entry(id).or_insert_with(|| CaseRow::opened(case, event));
        let reopens = match (row.status, &case.waived) {
            (Status::Closed, _) => true,
            (Status::Waived, None) => row.is_about_obligation(),
            (Status::Open | Status::Waived, _) => false,
        };
        if reopens {
            *row = CaseRow::opened(case, event);
        }
        row.update(case, customer, event);
        if let Some(waiver) = &case.waived {
            row.waive(waiver, event.occurred_at);
        }
        if before.as_ref() != Some(row) {
            changed.insert(id);
        }
    }
    for (id, row) in kept.iter_mut().filter(|(id, row)| row.status != Status::Closed && !shown.contains(id)) {
        row.close(event);
        changed.insert(*id);
    }
    changed
}

/// What becomes of the case of an object that waits, or waited, for its link. `None`: there is none.
pub fn unrouted(kept: Option<CaseRow>, subject: &str, waiting: Option<Waiting>, event: &Recorded) -> Option<CaseRow> {
    let Some(waiting) = waiting else {
        let mut row = kept?;
        if event.recorded_at < row.visible_from {
            return None;
        }
        if row.status != Status::Closed {
            row.close(event);
        }
        return Some(row);
    };
    let case = DerivedCase {
        amount: waiting.amount,
        since: Some(event.recorded_at),
        detail: Some(waiting.detail.to_owned()),
        ..DerivedCase::about("unrouted", subject)
    };
    // What waits no more because settings changed may wait again when they do.
    let mut row = kept.filter(|row| row.status != Status::Closed).unwrap_or_else(|| {
        let mut row = CaseRow::opened(&case, event);
        row.visible_from = event.recorded_at.saturating_add(ROUTED_WITHIN).unwrap_or(Timestamp::MAX);
        row
    });
    row.update(&case, waiting.customer.as_deref(), event);
    Some(row)
}

/// The case of bodies that were refused: of one source and hour, with their number.
pub fn body_refused(kept: Option<CaseRow>, subject: &str, detail: String, event: &Recorded) -> CaseRow {
    let case = DerivedCase { detail: Some(detail), ..DerivedCase::about("body_refused", subject) };
    let mut row = kept.unwrap_or_else(|| CaseRow::opened(&case, event));
    row.update(&case, None, event);
    row
}

/// The case of a mirror that is not what the log holds. What a person waived stays so until something else is wrong.
pub fn mirror_diverged(kept: Option<CaseRow>, diverged: &MirrorDiverged, event: &Recorded) -> CaseRow {
    let place = diverged.position.map(|position| format!(" (position {position})")).unwrap_or_default();
    let case = DerivedCase {
        cause: Some(fault(diverged.fault)),
        detail: Some(format!("{}{place}", diverged.detail)),
        ..DerivedCase::about("mirror_diverged", &diverged.stream)
    };
    let goes_on = |row: &CaseRow| match row.status {
        Status::Open => true,
        Status::Closed => false,
        Status::Waived => row.cause.as_deref() == case.cause,
    };
    let mut row = kept.filter(goes_on).unwrap_or_else(|| CaseRow::opened(&case, event));
    row.update(&case, None, event);
    row
}

/// The case of something that Stripe refused. What a person waived stays so until it is refused for another reason.
pub fn refused(kept: Option<CaseRow>, kind: &'static str, subject: &str, detail: String, event: &Recorded) -> CaseRow {
    let case = DerivedCase { detail: Some(detail), ..DerivedCase::about(kind, subject) };
    let goes_on = |row: &CaseRow| match row.status {
        Status::Open => true,
        Status::Closed => false,
        Status::Waived => row.detail == case.detail,
    };
    let mut row = kept.filter(goes_on).unwrap_or_else(|| CaseRow::opened(&case, event));
    row.update(&case, None, event);
    row
}

/// What becomes of such a case when what was wrong is right again.
pub fn settled(mut kept: CaseRow, event: &Recorded) -> CaseRow {
    if kept.status != Status::Closed {
        kept.close(event);
    }
    kept
}

/// The word for what is wrong with a mirror.
fn fault(fault: MirrorFault) -> &'static str {
    match fault {
        MirrorFault::OtherBytes => "other_bytes",
        MirrorFault::CannotImport => "cannot_import",
        MirrorFault::Holes => "holes",
        MirrorFault::Foreign => "foreign",
        MirrorFault::UnsafeSettings => "unsafe_settings",
    }
}
