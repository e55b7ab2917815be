//! Absolute terms for an engine that only knows days to add and features to switch. Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::provider::ProviderError;

const DAY: i64 = 86_400;

/// A license may end so much later than asked: the engine knows whole days only. What is beyond is taken back.
const LATER_MAX: SignedDuration = SignedDuration::from_hours(48);

/// A license that never ends does so in this many days; half of it left counts as never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Never {
    pub(super) days: u32,
}

impl Never {
    /// Whether an expiry means that there is none.
    pub(super) fn is(self, expires: Timestamp, now: Timestamp) -> bool {
        expires.duration_since(now) > days(i64::from(self.days) / 2)
    }

    /// From when on it does.
    fn far(self, now: Timestamp) -> Timestamp {
        now.saturating_add(days(i64::from(self.days) / 2 + 1)).unwrap_or(Timestamp::MAX)
    }
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count.saturating_mul(DAY))
}

/// For how many days a new license is made so that it ends at `until` or up to two days later.
///
/// The engine counts from its own today, which may be this moment or the midnight before it. Counted from the midnight, it
/// is long enough both ways.
pub(super) fn period(until: Option<Timestamp>, now: Timestamp, never: Never) -> i64 {
    let Some(until) = until else { return i64::from(never.days) };
    if until <= now {
        return 0;
    }
    let midnight = now.as_second() - now.as_second().rem_euclid(DAY);
    let seconds = until.as_second() - midnight + i64::from(until.subsec_nanosecond() > 0);
    (seconds + DAY - 1).div_euclid(DAY).max(1)
}

/// How many days to add to a license that ends at `expires`, so that it ends at `until` or little later; `None` for none.
pub(super) fn days_to_add(expires: Timestamp, until: Option<Timestamp>, now: Timestamp, never: Never) -> Option<i64> {
    let Some(until) = until else {
        let left = never.far(now).duration_since(expires.max(now)).as_secs();
        return (!never.is(expires, now)).then(|| (left + DAY - 1).div_euclid(DAY).max(i64::from(never.days)));
    };
    if expires >= until {
        let over = expires.duration_since(until);
        // One that has ended already works no more: there is nothing to take back.
        return (over > LATER_MAX && expires > now).then(|| -over.as_secs().div_euclid(DAY));
    }
    // Days are added to an expiry to come, and else to today.
    let missing = until.duration_since(expires.max(now));
    let whole = missing.as_secs() + i64::from(missing.subsec_nanos() > 0);
    Some((whole + DAY - 1).div_euclid(DAY).max(1))
}

/// F1 to F8 by the names of features.
pub(super) fn switches(features: &BTreeSet<String>) -> Result<[bool; 8], ProviderError> {
    let mut switches = [false; 8];
    for feature in features {
        let number = feature.strip_prefix(['f', 'F']).filter(|number| number.len() == 1);
        let place = number.and_then(|number| number.parse::<usize>().ok()).and_then(|number| number.checked_sub(1));
        let slot = place.and_then(|place| switches.get_mut(place)).ok_or_else(|| ProviderError::Refused {
            reason: format!(
                "Cryptolens knows the features f1 to f8, and `{feature}` is none of them: mend the catalog"
            ),
        })?;
        *slot = true;
    }
    Ok(switches)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Never = Never { days: 36_500 };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_period_is_long_enough_from_this_moment_and_from_midnight() {
        let now = at("2026-02-03T10:00:00Z");
        let period = |until| period(Some(at(until)), now, NEVER);
        assert_eq!(period("2026-02-03T10:00:01Z"), 1);
        assert_eq!(period("2026-02-04T00:00:00Z"), 1);
        assert_eq!(period("2026-02-04T00:00:00.5Z"), 2);
        assert_eq!(period("2026-03-10T10:00:00Z"), 36);
        assert_eq!(period("2026-02-03T10:00:00Z"), 0);
        assert_eq!(period("2025-02-03T10:00:00Z"), 0);
        assert_eq!(super::period(None, now, NEVER), 36_500);
    }

    #[test]
    fn days_are_added_up_to_the_date_and_not_twice() {
        let now = at("2026-02-03T10:00:00Z");
        let add = |expires, until| days_to_add(at(expires), Some(at(until)), now, NEVER);
        assert_eq!(add("2026-02-10T10:00:00Z", "2026-03-10T10:00:00Z"), Some(28));
        assert_eq!(add("2026-02-10T10:00:00Z", "2026-03-10T10:00:00.001Z"), Some(29));
        // Already ended: from today.
        assert_eq!(add("2025-02-10T10:00:00Z", "2026-03-10T10:00:00Z"), Some(35));
        for there in ["2026-03-10T10:00:00Z", "2026-03-12T10:00:00Z"] {
            assert_eq!(add(there, "2026-03-10T10:00:00Z"), None);
        }
        assert_eq!(add("2026-04-10T11:00:00Z", "2026-03-10T10:00:00Z"), Some(-31));
        // Ended in between: it works no more.
        assert_eq!(add("2026-01-10T10:00:00Z", "2025-03-10T10:00:00Z"), None);
        assert_eq!(add("2025-01-10T10:00:00Z", "2025-03-10T10:00:00Z"), Some(1));
    }

    #[test]
    fn never_is_far_away_and_stays_so() {
        let now = at("2026-02-03T10:00:00Z");
        assert_eq!(days_to_add(at("2026-02-10T10:00:00Z"), None, now, NEVER), Some(36_500));
        assert_eq!(days_to_add(at("2126-01-10T10:00:00Z"), None, now, NEVER), None);
        assert!(NEVER.is(at("2126-01-10T10:00:00Z"), now));
        assert!(!NEVER.is(at("2036-01-10T10:00:00Z"), now));
        assert!(
            days_to_add(at("2126-01-10T10:00:00Z"), Some(at("2026-03-10T10:00:00Z")), now, NEVER).unwrap() < -36_000
        );
    }

    #[test]
    fn features_are_the_eight_that_there_are() {
        let of = |names: &[&str]| switches(&names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(of(&["f1", "F8"]).unwrap(), [true, false, false, false, false, false, false, true]);
        for bad in ["f0", "f9", "f", "f11", "pro", "é1"] {
            assert!(of(&[bad]).is_err(), "{bad}");
        }
    }
}
