//! Fifty requests in five seconds, whoever asks.

use std::time::{Duration, Instant};

pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// Requests since the window began.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    began: Option<Instant>,
    asked: u32,
    /// How many were turned away.
    pub(super) turned_away: u64,
}

/// What the limiter says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) admitted: bool,
    pub(super) remaining: u32,
    /// How long until the next window.
    pub(super) reset_in: Duration,
}

impl Limiter {
    pub(super) fn ask(&mut self, allowed: u32, now: Instant) -> Verdict {
        let age = self.began.map(|began| now.saturating_duration_since(began)).filter(|age| *age < WINDOW);
        if age.is_none() {
            self.began = Some(now);
            self.asked = 0;
        }
        let admitted = self.asked < allowed;
        if admitted {
            self.asked += 1;
        } else {
            self.turned_away += 1;
        }
        Verdict { admitted, remaining: allowed - self.asked, reset_in: WINDOW.saturating_sub(age.unwrap_or_default()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_admits_what_is_allowed_and_the_next_begins_anew() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        for left in [1, 0] {
            let verdict = limiter.ask(2, start);
            assert_eq!((verdict.admitted, verdict.remaining), (true, left));
        }
        let late = limiter.ask(2, start + Duration::from_secs(3));
        assert_eq!((late.admitted, late.reset_in), (false, Duration::from_secs(2)));
        assert!(limiter.ask(2, start + WINDOW).admitted);
        assert_eq!(limiter.turned_away, 1);
    }
}
