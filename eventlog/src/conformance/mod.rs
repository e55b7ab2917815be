//! What every log and every tail must hold, as tests: one function per promise of [`crate::log::EventLog`],
//! [`crate::state::StateStore`] and [`crate::tail::Tail`].
//!
//! An adapter's test file names a place and gets a test per promise:
//!
//! ```ignore
//! keyledger_eventlog::log_conformance!(SqlitePlace::new());
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "these functions are tests: they fail by panicking"
)]

pub mod append;
pub mod concurrent;
pub mod read;
pub mod restore;
pub mod state;
pub mod tails;

use std::sync::Arc;

use async_trait::async_trait;
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::envelope::{Position, Recorded};

use crate::log::{Append, EventLog, Head};
use crate::tail::Tail;
use crate::testing::event;

/// A place for one log, fresh for every test.
#[async_trait]
pub trait Factory: Send + Sync {
    /// A handle on this place's log, made by the first call. Every call is another process.
    async fn open(&self) -> Arc<dyn EventLog>;

    /// Closes every handle opened so far, as when the machine goes down in order.
    async fn close(&self);

    /// The clock that the log takes its time from.
    fn clock(&self) -> &ManualClock;
}

/// A place for one log that can also be followed.
#[async_trait]
pub trait TailFactory: Factory {
    /// A tail of this place's log, which has been opened.
    async fn tail(&self) -> Arc<dyn Tail>;
}

/// Makes a test of every promise of a log adapter. The expression makes a [`Factory`], and may await.
#[macro_export]
macro_rules! log_conformance {
    ($place:expr) => {
        $crate::conformance_tests!($place; append:
            acknowledged_events_are_there_after_a_restart
            every_field_reads_back_as_it_was_offered
            positions_and_versions_count_from_one
            an_append_of_nothing_succeeds
            the_clock_says_when_an_event_was_recorded
            a_twin_days_later_is_a_duplicate_of_the_first
            an_id_used_again_with_other_bytes_is_refused
            where_the_first_wins_other_bytes_are_a_duplicate
            the_same_id_twice_in_one_append_is_a_duplicate_of_the_first
            duplicates_come_before_versions_and_write_no_state
            an_append_that_is_partly_new_is_checked_and_writes_the_rest
            a_wrong_version_is_a_conflict_that_names_the_right_one
            a_stream_that_is_not_written_can_be_expected
            a_refused_append_writes_neither_events_nor_state
            every_event_hangs_on_the_chain
            an_append_wakes_who_waits
            a_closed_log_takes_and_gives_nothing
        );
        $crate::conformance_tests!($place; concurrent:
            many_writers_in_many_processes_leave_no_gap
            of_those_who_expect_one_version_exactly_one_succeeds
            a_refused_append_does_not_harm_its_neighbors
            one_id_offered_by_many_at_once_is_written_once
            paging_while_others_append_skips_nothing
            counting_by_expected_revision_loses_nothing
        );
        $crate::conformance_tests!($place; read:
            a_page_begins_after_its_position_and_keeps_its_limit
            a_stream_is_paged_by_version
            an_event_is_found_by_id_and_by_position
            an_event_with_a_large_body_is_kept_whole
        );
        $crate::conformance_tests!($place; restore:
            a_log_keeps_the_id_it_was_given
            the_chain_value_of_each_position_is_known
            events_put_back_are_the_same_in_every_field
            events_that_are_not_next_are_refused
            events_that_do_not_continue_the_log_are_refused
            events_of_another_log_are_refused
            restoring_and_appending_at_once_leave_one_chain
            putting_back_wakes_who_waits
            closing_a_handle_closes_it_alone
        );
        $crate::conformance_tests!($place; state:
            a_row_reads_back_and_counts_its_writes
            rows_are_there_after_a_restart
            a_stale_revision_is_refused_and_named
            a_check_changes_nothing_and_fences
            a_deleted_row_is_gone_and_starts_over
            writes_to_one_key_build_on_each_other
            a_scan_is_sorted_by_bytes_and_keeps_its_prefix
            due_rows_come_longest_due_first
            namespaces_do_not_mix
        );
    };
}

/// Makes a test of every promise of a tail. The expression makes a [`TailFactory`], and may await.
#[macro_export]
macro_rules! tail_conformance {
    ($place:expr) => {
        $crate::conformance_tests!($place; tails:
            events_come_in_order_from_the_one_after
            at_the_end_it_waits_and_answers_empty
            a_waiting_reader_gets_what_is_appended_meanwhile
            appends_of_another_process_arrive
            it_holds_no_position_of_its_own
            a_tail_shows_the_same_events_and_head_as_the_log
            nothing_is_skipped_whoever_appends
        );
    };
}

/// One test per name. For [`log_conformance!`] and [`tail_conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($place:expr; $module:ident: $($name:ident)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let place = $place;
            $crate::conformance::$module::$name(&place).await;
        }
    )+};
}

/// Appends `count` events with ids `<name>_0`, `<name>_1`, … to stream `name`.
async fn fill(log: &dyn EventLog, name: &str, count: usize) {
    let events = (0..count).map(|number| event(&format!("{name}_{number}"), name, number.to_string())).collect();
    log.append(Append::events(events)).await.unwrap();
}

/// Everything in the log, read in small pages.
async fn all(log: &dyn EventLog) -> Vec<Recorded> {
    let mut events: Vec<Recorded> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.position);
        let page = log.read_after(after, 7).await.unwrap();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// Asserts positions without gaps, versions without gaps, and the chain, from the first event to the head.
#[track_caller]
fn assert_whole(events: &[Recorded], head: Head) {
    let mut versions = std::collections::HashMap::new();
    let mut before = Head::default();
    for event in events {
        assert_eq!(event.position, before.position + 1, "positions have no gaps");
        assert_eq!(event.chain, event.chain_after(&before.chain), "position {} hangs on the chain", event.position);
        let version = versions.entry(event.stream.clone()).or_insert(0);
        *version += 1;
        assert_eq!(event.version, *version, "versions of `{}` have no gaps", event.stream);
        before = Head { position: event.position, chain: event.chain };
    }
    assert_eq!(before, head);
}

/// The positions of `events`.
fn positions(events: &[Recorded]) -> Vec<Position> {
    events.iter().map(|event| event.position).collect()
}
