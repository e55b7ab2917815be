//! Bodies over the limit, counted by source and hour: at most two events of each, so that strangers cannot flood
//! the log.
//!
//! The first refusal of an hour is reported at once, so that a case opens; the hour's last count is reported when
//! the hour is over, or when the role stops, if it grew. A body is counted only because of its size: it was not
//! read, so nobody knows whether Stripe signed it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use keyledger_schemas::envelope::{IdReuse, NewEvent, derived_id, partition_of};
use keyledger_schemas::event::{BodyRefused, Event};
use keyledger_schemas::ids::{Scope, SourceName, StreamId};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Which of the two events of an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    First,
    Last,
}

/// A count that should be in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    scope: Scope,
    hour: Timestamp,
    part: Part,
    count: u64,
    largest_bytes: Option<u64>,
}

impl Report {
    /// The event to append. Its id is derived from source, hour and part.
    pub fn event(&self, now: Timestamp, limit_bytes: u64) -> NewEvent {
        let source = &self.scope.source;
        let part = match self.part {
            Part::First => "first",
            Part::Last => "last",
        };
        let event = Event::BodyRefused(BodyRefused {
            source: source.clone(),
            hour: self.hour,
            count: self.count,
            limit_bytes,
            largest_bytes: self.largest_bytes,
        });
        let id = derived_id(&format!("refused:{source}:{}", self.hour), event.kind(), part);
        NewEvent {
            kind: event.kind().to_owned(),
            scope: self.scope.clone(),
            stream: StreamId::new(format!("ingest:{source}")),
            occurred_at: now,
            causation_id: None,
            correlation_id: Some(id.clone()),
            schema_version: 1,
            actor: None,
            partition: partition_of(source.as_str()),
            delivery: None,
            data: event.encode(),
            // Counting starts anew after a restart, so one hour may be counted twice over. The first report stands:
            // the count is then too low, which is better than a log that strangers can fill by making us restart.
            on_reuse: IdReuse::FirstWins,
            id,
        }
    }
}

/// The refusals that are not yet fully in the log.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<(SourceName, Timestamp), Hour>>);

#[derive(Debug)]
struct Hour {
    scope: Scope,
    count: u64,
    reported: u64,
    largest_bytes: Option<u64>,
}

impl Tally {
    /// Counts one refusal. `scope` has the mode that the source issues in; the body's own was not read.
    pub fn count(&self, scope: &Scope, announced_bytes: Option<u64>, now: Timestamp) {
        let mut hours = self.lock();
        let hour = hours.entry((scope.source.clone(), hour_of(now))).or_insert_with(|| Hour {
            scope: scope.clone(),
            count: 0,
            reported: 0,
            largest_bytes: None,
        });
        hour.count += 1;
        hour.largest_bytes = hour.largest_bytes.max(announced_bytes);
    }

    /// What should be reported now: the first of each hour, and the last of each hour that is over. With `stopping`
    /// every hour counts as over.
    pub fn due(&self, now: Timestamp, stopping: bool) -> Vec<Report> {
        let current = hour_of(now);
        let mut reports = Vec::new();
        for ((_, start), hour) in &*self.lock() {
            let is_over = stopping || *start != current;
            let part = if hour.reported == 0 { Part::First } else { Part::Last };
            if hour.reported == 0 || (is_over && hour.count > hour.reported) {
                let (count, largest_bytes) = (hour.count, hour.largest_bytes);
                reports.push(Report { scope: hour.scope.clone(), hour: *start, part, count, largest_bytes });
            }
        }
        reports
    }

    /// Notes that the log has this report, and forgets hours that are over and fully reported.
    pub fn reported(&self, report: &Report, now: Timestamp) {
        let mut hours = self.lock();
        if let Some(hour) = hours.get_mut(&(report.scope.source.clone(), report.hour)) {
            hour.reported = hour.reported.max(report.count);
        }
        let current = hour_of(now);
        hours.retain(|(_, start), hour| *start == current || hour.count > hour.reported);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(SourceName, Timestamp), Hour>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The start of the hour, in UTC.
fn hour_of(now: Timestamp) -> Timestamp {
    let seconds = now.as_second().div_euclid(HOUR.as_secs()) * HOUR.as_secs();
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use keyledger_schemas::ids::Mode;

    use super::*;

    const LIMIT: u64 = 4;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_785_402_000 / 3600 * 3600 + minute * 60).unwrap()
    }

    fn scope() -> Scope {
        Scope::new(SourceName::default(), Mode::Live)
    }

    fn counts(reports: &[Report]) -> Vec<u64> {
        reports.iter().map(|report| report.count).collect()
    }

    /// Reports everything due, as the shell does when the log is well.
    fn flush(tally: &Tally, now: Timestamp, stopping: bool) -> Vec<Report> {
        let reports = tally.due(now, stopping);
        for report in &reports {
            tally.reported(report, now);
        }
        reports
    }

    #[test]
    fn the_first_of_an_hour_is_reported_at_once_and_the_rest_at_its_end() {
        let tally = Tally::default();
        tally.count(&scope(), Some(9), at(1));
        assert_eq!(counts(&flush(&tally, at(1), false)), [1]);
        tally.count(&scope(), Some(7), at(2));
        tally.count(&scope(), None, at(3));
        assert_eq!(counts(&flush(&tally, at(59), false)), [0_u64; 0]);
        let last = flush(&tally, at(60), false);
        assert_eq!(counts(&last), [3]);
        assert_eq!(last[0].largest_bytes, Some(9));
        assert!(tally.lock().is_empty(), "an hour that is over and reported is forgotten");
    }

    #[test]
    fn an_hour_without_growth_has_one_event() {
        let tally = Tally::default();
        tally.count(&scope(), None, at(1));
        assert_eq!(flush(&tally, at(1), false).len(), 1);
        assert_eq!(flush(&tally, at(61), true).len(), 0);
    }

    #[test]
    fn stopping_reports_what_is_left() {
        let tally = Tally::default();
        tally.count(&scope(), None, at(1));
        flush(&tally, at(1), false);
        tally.count(&scope(), None, at(2));
        assert_eq!(counts(&flush(&tally, at(2), true)), [2]);
        assert_eq!(flush(&tally, at(2), true).len(), 0);
    }

    #[test]
    fn a_report_the_log_did_not_take_stays_due() {
        let tally = Tally::default();
        tally.count(&scope(), None, at(1));
        assert_eq!(counts(&tally.due(at(1), false)), [1]);
        tally.count(&scope(), None, at(2));
        assert_eq!(counts(&tally.due(at(90), false)), [2]);
    }

    #[test]
    fn every_hour_and_part_has_an_id_of_its_own() {
        let report = |hour, part| {
            Report { scope: scope(), hour: at(hour), part, count: 1, largest_bytes: None }.event(at(99), LIMIT).id
        };
        assert_eq!(report(0, Part::First), report(0, Part::First));
        assert_ne!(report(0, Part::First), report(0, Part::Last));
        assert_ne!(report(0, Part::First), report(60, Part::First));
    }
}
