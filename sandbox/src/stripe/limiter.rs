//! Requests in a second, in all and of one kind.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Refusal;

const WINDOW: Duration = Duration::from_secs(1);

/// Requests of the last second.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    asked: VecDeque<(Instant, String)>,
}

impl Limiter {
    /// Takes a request of this kind, unless there were too many. A limit of 0 is none.
    pub(super) fn ask(&mut self, kind: &str, all: u32, each: u32, now: Instant) -> Result<(), Refusal> {
        while self.asked.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.asked.pop_front();
        }
        let within = |limit: u32, count: usize| limit == 0 || u32::try_from(count).is_ok_and(|count| count < limit);
        if !within(all, self.asked.len()) {
            return Err(Refusal::limited("global-rate"));
        }
        if !within(each, self.asked.iter().filter(|(_, of)| of == kind).count()) {
            return Err(Refusal::limited("endpoint-rate"));
        }
        self.asked.push_back((now, kind.to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_and_all_together_are_limited_within_a_second() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let reason = |asked: Result<(), Refusal>| asked.err().and_then(|refusal| refusal.limited);
        for _ in 0..2 {
            assert_eq!(reason(limiter.ask("a", 3, 2, start)), None);
        }
        assert_eq!(reason(limiter.ask("a", 3, 2, start)), Some("endpoint-rate"));
        assert_eq!(reason(limiter.ask("b", 3, 2, start)), None);
        assert_eq!(reason(limiter.ask("c", 3, 2, start)), Some("global-rate"));
        assert_eq!(reason(limiter.ask("a", 3, 2, start + WINDOW)), None);
        for _ in 0..100 {
            assert_eq!(reason(limiter.ask("a", 0, 0, start + WINDOW)), None);
        }
    }
}
