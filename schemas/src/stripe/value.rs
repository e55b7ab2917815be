//! How single values of Stripe's JSON are read: total, bounded, and the same for every object.
//!
//! A value of the wrong type, out of range or too long reads as absent. Nothing here knows which object it reads.

use jiff::Timestamp;
use serde_json::Value;

use super::fact::Metadata;
use crate::money::Currency;

/// The longest id taken. Stripe promises that ids fit in 255 characters (<https://docs.stripe.com/upgrades>).
const ID_BYTES_MAX: usize = 255;
/// The longest name, address or reference taken.
const TEXT_CHARS_MAX: usize = 1_000;
/// The longest status or other word taken.
const WORD_BYTES_MAX: usize = 64;
/// Twice what Stripe allows (<https://docs.stripe.com/metadata>), so that a raised limit loses nothing.
const METADATA_KEYS_MAX: usize = 100;
const METADATA_KEY_CHARS_MAX: usize = 80;
const METADATA_VALUE_CHARS_MAX: usize = 1_000;
/// The first second of the year 9999. Later times are absent, so that adding a grace cannot overflow.
const SECONDS_END: i64 = 253_370_764_800;

/// Whether `text` may be an id: it becomes part of our keys, where `:` and `/` separate.
pub(super) fn is_id(text: &str) -> bool {
    let fits = (1..=ID_BYTES_MAX).contains(&text.len());
    fits && !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == ':' || c == '/')
}

/// Whether `text` may be an event's id: an id that also fits a message header.
pub(super) fn is_event_id(text: &str) -> bool {
    text.is_ascii() && is_id(text)
}

/// Whether `text` may be an event's type. It becomes the end of a NATS subject, whose tokens are not empty;
/// `v2.core.account[requirements].updated` has brackets.
pub(super) fn is_kind(text: &str) -> bool {
    let sane = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'[' | b']');
    text.len() <= 200 && text.split('.').all(|token| !token.is_empty() && token.bytes().all(sane))
}

/// The id in an "id or object" field.
pub(super) fn id<T: for<'a> From<&'a str>>(value: &Value) -> Option<T> {
    let text = value.as_str().or_else(|| value["id"].as_str())?;
    is_id(text).then(|| T::from(text))
}

/// The first of several fields that holds an id.
pub(super) fn first_id<T: for<'a> From<&'a str>>(values: &[&Value]) -> Option<T> {
    values.iter().find_map(|value| id(value))
}

/// A whole number. Beyond 64 bits it stays at the end of the range; fractions are absent.
pub(super) fn int(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    if let Some(int) = number.as_i64() {
        return Some(int);
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
    #[expect(clippy::cast_possible_truncation, reason = "the fraction is zero, and the cast saturates")]
    let int = float as i64;
    Some(int)
}

/// A whole number that cannot be negative.
pub(super) fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| int(value).and_then(|int| u64::try_from(int).ok()))
}

/// An amount in minor units; 0 where there is none.
pub(super) fn amount(value: &Value) -> i64 {
    int(value).unwrap_or(0)
}

/// A moment, in whole seconds since 1970.
pub(super) fn time(value: &Value) -> Option<Timestamp> {
    int(value).and_then(seconds)
}

/// The moment `seconds` after 1970 began, if it is before the year 9999.
pub(super) fn seconds(seconds: i64) -> Option<Timestamp> {
    (0..SECONDS_END).contains(&seconds).then(|| Timestamp::from_second(seconds).ok()).flatten()
}

/// A yes or no; absent is no.
pub(super) fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or(false)
}

/// Text for people. Empty text is absent, and so is text with a NUL, which PostgreSQL cannot store.
pub(super) fn text(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    (!text.is_empty() && fits(text, TEXT_CHARS_MAX)).then(|| text.to_owned())
}

/// A word of one of Stripe's enums; empty where there is none.
pub(super) fn word<T: From<String>>(value: &Value) -> T {
    let word = value.as_str().filter(|word| word.len() <= WORD_BYTES_MAX && !word.contains(char::is_control));
    T::from(word.unwrap_or_default().to_owned())
}

/// A currency code.
pub(super) fn currency(value: &Value) -> Option<Currency> {
    let code = value.as_str().filter(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_alphabetic()))?;
    Some(Currency::new(code))
}

/// A currency code, or ISO 4217's `xxx` ("no currency"): that money moved counts even where its currency is unreadable.
pub(super) fn currency_or_none(value: &Value) -> Currency {
    currency(value).unwrap_or_else(|| Currency::new("xxx"))
}

/// Metadata: the entries that are text, in key order, up to a bound.
pub(super) fn metadata(value: &Value) -> Metadata {
    let entries = value.as_object().into_iter().flatten();
    let texts = entries.filter_map(|(key, value)| Some((metadata_key(key)?, metadata_value(value)?)));
    texts.take(METADATA_KEYS_MAX).collect()
}

/// A metadata key, if it is one.
pub(super) fn metadata_key(key: &str) -> Option<String> {
    fits(key, METADATA_KEY_CHARS_MAX).then(|| key.to_owned())
}

/// A metadata value, if it is one. Unlike other text it may be empty.
pub(super) fn metadata_value(value: &Value) -> Option<String> {
    value.as_str().filter(|text| fits(text, METADATA_VALUE_CHARS_MAX)).map(str::to_owned)
}

/// The elements of a list, and whether there are more than shown.
pub(super) fn list(value: &Value) -> (&[Value], bool) {
    let shown = value["data"].as_array().or_else(|| value.as_array()).map_or(&[][..], Vec::as_slice);
    let total = count(&value["total_count"]).unwrap_or(0);
    let more = flag(&value["has_more"]) || usize::try_from(total).is_ok_and(|total| total > shown.len());
    (shown, more)
}

/// A name for an element of a list that has no id of its own.
pub(super) fn numbered<T: for<'a> From<&'a str>>(index: usize) -> T {
    T::from(format!("line_{index}").as_str())
}

fn fits(text: &str, chars_max: usize) -> bool {
    !text.contains('\0') && text.chars().count() <= chars_max
}
