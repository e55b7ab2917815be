//! Values of the query language: dates, amounts and numbers.

use std::ops::Bound;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

/// A comparison, as written between field and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `:` or `=`
    Is,
    /// `!=`
    IsNot,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `~`
    Contains,
}

/// A stretch of time: a day, or for relative dates a moment. `before` is excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub before: Timestamp,
    /// Whether it was counted from now: then `:` means between it and now.
    pub relative: bool,
}

/// Why a value cannot be read: what would have been right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(pub &'static str);

const A_DATE: Expected = Expected("a date: 2026-03-01, today, yesterday, -7d, +3d or -2w");
const AN_AMOUNT: Expected = Expected("an amount such as 49 or 49.90");
const A_NUMBER: Expected = Expected("a whole number");

/// Reads `2026-03-01`, `today`, `yesterday`, an RFC 3339 time, or days and weeks from now.
///
/// # Errors
///
/// What a date looks like.
pub fn date(text: &str, now: Timestamp) -> Result<Stretch, Expected> {
    let today = now.to_zoned(TimeZone::UTC).date();
    match text.to_ascii_lowercase().as_str() {
        "today" => return day(today),
        "yesterday" => return day(today.saturating_sub(1.day())),
        _ => {}
    }
    if let Some(from) = relative(text, now) {
        return Ok(Stretch { from, before: from, relative: true });
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(Stretch { from: moment, before: after(moment), relative: false });
    }
    // `Date` reads compact and date-time forms too, which would silently cut off a time of day.
    let written_in_full = text.len() == 10;
    text.parse::<Date>().ok().filter(|_| written_in_full).ok_or(A_DATE).and_then(day)
}

fn day(date: Date) -> Result<Stretch, Expected> {
    let start = |date: Date| date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
    let (from, before) = (start(date).map_err(|_| A_DATE)?, start(date.saturating_add(1.day())).map_err(|_| A_DATE)?);
    Ok(Stretch { from, before, relative: false })
}

/// `-7d`, `+3d`, `-2w`: exact 24-hour days.
fn relative(text: &str, now: Timestamp) -> Option<Timestamp> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => return None,
    };
    let unit_hours = match rest.bytes().last()?.to_ascii_lowercase() {
        b'd' => 24,
        b'w' => 168,
        _ => return None,
    };
    let digits = &rest[..rest.len() - 1];
    if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: i64 = digits.parse().ok()?;
    let span = Span::new().try_hours(sign * count * unit_hours).ok()?;
    now.checked_add(span).ok()
}

fn after(moment: Timestamp) -> Timestamp {
    moment.checked_add(1.nanosecond()).unwrap_or(Timestamp::MAX)
}

/// What `field op value` means for a time: from (included) and before (excluded).
pub fn time_bounds(op: Op, value: Stretch, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
    let end = if value.relative { after(value.from) } else { value.before };
    match op {
        Op::Is | Op::IsNot | Op::Contains if value.relative => {
            (Some(value.from.min(now)), Some(after(value.from.max(now))))
        }
        Op::Is | Op::IsNot | Op::Contains => (Some(value.from), Some(end)),
        Op::Less => (None, Some(value.from)),
        Op::AtMost => (None, Some(end)),
        Op::Greater => (Some(end), None),
        Op::AtLeast => (Some(value.from), None),
    }
}

/// What `field op value` means for a number.
pub fn number_bounds(op: Op, value: i64) -> (Bound<i64>, Bound<i64>) {
    match op {
        Op::Is | Op::IsNot | Op::Contains => (Bound::Included(value), Bound::Included(value)),
        Op::Less => (Bound::Unbounded, Bound::Excluded(value)),
        Op::AtMost => (Bound::Unbounded, Bound::Included(value)),
        Op::Greater => (Bound::Excluded(value), Bound::Unbounded),
        Op::AtLeast => (Bound::Included(value), Bound::Unbounded),
    }
}

/// Reads a whole number.
///
/// # Errors
///
/// What a number looks like.
pub fn number(text: &str) -> Result<i64, Expected> {
    text.parse().map_err(|_| A_NUMBER)
}

/// Reads an amount in major units with up to three decimal places, as thousandths.
///
/// # Errors
///
/// What an amount looks like.
pub fn amount(text: &str) -> Result<i64, Expected> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let ends_in_dot = digits.contains('.') && fraction.is_empty();
    if whole.is_empty() || ends_in_dot || fraction.len() > 3 || !all_digits(whole) || !all_digits(fraction) {
        return Err(AN_AMOUNT);
    }
    let thousandths = format!("{whole}{fraction:0<3}");
    thousandths.parse::<i64>().map(|value| sign * value).map_err(|_| AN_AMOUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-12T09:30:00Z".parse().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_date_is_a_whole_day_in_utc() {
        let day = date("2026-03-01", now()).unwrap();
        assert_eq!((day.from, day.before), (at("2026-03-01T00:00:00Z"), at("2026-03-02T00:00:00Z")));
        assert_eq!(date("today", now()).unwrap().from, at("2026-03-12T00:00:00Z"));
        assert_eq!(date("Yesterday", now()).unwrap().from, at("2026-03-11T00:00:00Z"));
    }

    #[test]
    fn relative_dates_count_from_now() {
        assert_eq!(date("-7d", now()).unwrap().from, at("2026-03-05T09:30:00Z"));
        assert_eq!(date("-2w", now()).unwrap().from, at("2026-02-26T09:30:00Z"));
        assert_eq!(date("+3d", now()).unwrap().from, at("2026-03-15T09:30:00Z"));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for bad in ["", "soon", "-d", "-7", "7d", "2026-13-01", "20260301", "-9999999d", "-999999w", "+é"] {
            assert!(date(bad, now()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_relative_date_alone_means_since_then_or_until_then() {
        let bounds = |text: &str| time_bounds(Op::Is, date(text, now()).unwrap(), now());
        assert_eq!(bounds("-7d").0, Some(at("2026-03-05T09:30:00Z")));
        assert_eq!(bounds("+3d").0, Some(now()));
    }

    #[test]
    fn comparing_with_a_day_takes_the_whole_day() {
        let bounds = |op| time_bounds(op, date("2026-03-01", now()).unwrap(), now());
        assert_eq!(bounds(Op::AtMost), (None, Some(at("2026-03-02T00:00:00Z"))));
        assert_eq!(bounds(Op::Less), (None, Some(at("2026-03-01T00:00:00Z"))));
        assert_eq!(bounds(Op::Greater), (Some(at("2026-03-02T00:00:00Z")), None));
    }

    #[test]
    fn amounts_are_read_in_major_units() {
        assert_eq!(amount("49"), Ok(49_000));
        assert_eq!(amount("49.9"), Ok(49_900));
        assert_eq!(amount("-0.005"), Ok(-5));
        for bad in ["", "-", ".", "49.", ".5", "1.2345", "4e3", "9223372036854775807", "€49"] {
            assert!(amount(bad).is_err(), "{bad}");
        }
    }
}
