//! What has arrived from the mirror and was not asked for yet: [`Window`]. Pure.

use std::collections::BTreeMap;

use keyledger_schemas::envelope::{Position, Recorded};

/// Events held at most, and the bytes of their data, though one is always taken.
pub(super) const EVENTS_MAX: usize = 1024;
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events by position. There may be gaps: messages that went to another process, or stand for an event in the log.
#[derive(Debug, Default)]
pub(super) struct Window {
    events: BTreeMap<Position, Recorded>,
    bytes: usize,
}

impl Window {
    /// Adds an event that has arrived.
    pub(super) fn push(&mut self, event: Recorded) {
        self.bytes += event.data.len();
        if let Some(before) = self.events.insert(event.position, event) {
            self.bytes -= before.data.len();
        }
    }

    /// Drops what is not needed by whoever stands at `after`.
    pub(super) fn forget_until(&mut self, after: Position) {
        while let Some(first) = self.events.first_entry()
            && *first.key() <= after
        {
            self.bytes -= first.remove().data.len();
        }
    }

    /// Takes what comes right after `after`, without gaps, at most `limit`.
    pub(super) fn take(&mut self, after: Position, limit: usize) -> Vec<Recorded> {
        let mut run = Vec::new();
        let mut next = after.saturating_add(1);
        while run.len() < limit
            && let Some(event) = self.events.remove(&next)
        {
            self.bytes -= event.data.len();
            run.push(event);
            next = next.saturating_add(1);
        }
        run
    }

    /// How many events are missing after `after` before the next one that has arrived.
    pub(super) fn gap_after(&self, after: Position) -> Option<u64> {
        let (next, _) = self.events.range(after.saturating_add(1)..).next()?;
        Some(next - after - 1)
    }

    /// Whether it takes no more for now.
    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= EVENTS_MAX || self.bytes >= BYTES_MAX
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use keyledger_schemas::clock::ManualClock;

    use super::*;
    use crate::log::{Append, EventLog};
    use crate::memory::MemoryLog;
    use crate::testing::event;

    async fn window(arrived: &[Position]) -> Window {
        let log = MemoryLog::new(Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
        let events = (1..=9).map(|number| event(&format!("evt_{number}"), "s", "{}")).collect();
        log.append(Append::events(events)).await.unwrap();
        let mut window = Window::default();
        for event in log.read_after(0, 9).await.unwrap() {
            if arrived.contains(&event.position) {
                window.push(event.clone());
                window.push(event);
            }
        }
        window
    }

    fn positions(events: &[Recorded]) -> Vec<Position> {
        events.iter().map(|event| event.position).collect()
    }

    #[tokio::test]
    async fn a_run_ends_at_a_gap_and_at_its_limit() {
        let mut window = window(&[2, 3, 4, 6, 7]).await;
        assert_eq!(window.gap_after(0), Some(1));
        assert_eq!(positions(&window.take(1, 2)), [2, 3]);
        assert_eq!(positions(&window.take(3, 9)), [4]);
        assert_eq!(window.gap_after(4), Some(1));
        assert!(window.take(4, 9).is_empty());
        assert_eq!(positions(&window.take(5, 9)), [6, 7]);
        assert_eq!((window.gap_after(7), window.bytes), (None, 0));
    }

    #[tokio::test]
    async fn what_was_passed_is_forgotten() {
        let mut window = window(&[2, 3, 4, 6]).await;
        window.forget_until(3);
        assert_eq!(window.bytes, 4);
        assert!(window.take(1, 9).is_empty());
        window.clear();
        assert_eq!((window.gap_after(0), window.bytes), (None, 0));
    }

    #[tokio::test]
    async fn it_is_full_by_count_or_by_bytes() {
        let mut window = window(&[1, 2, 3]).await;
        assert!(!window.is_full());
        window.bytes = BYTES_MAX;
        assert!(window.is_full());
    }
}
