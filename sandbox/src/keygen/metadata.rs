//! Metadata, whose keys are folded: `stripe_customer_id`, `stripeCustomerId` and `StripeCustomerId` are one key.

use serde_json::{Map, Value};

use super::problem::Problem;

const KEYS_MAX: usize = 64;
const BYTES_MAX: usize = 16 * 1024;
const DEPTH_MAX: usize = 2;

/// A key as it is stored.
pub(super) fn snake(key: &str) -> String {
    let mut folded = String::with_capacity(key.len() + 4);
    let mut before = '_';
    for letter in key.chars() {
        if letter.is_uppercase() && before != '_' && !before.is_uppercase() {
            folded.push('_');
        }
        before = if letter == '-' || letter == ' ' { '_' } else { letter };
        folded.extend(before.to_lowercase());
    }
    folded
}

/// A key as it is answered.
pub(super) fn camel(key: &str) -> String {
    let mut answered = String::with_capacity(key.len());
    let mut raised = false;
    for letter in key.chars() {
        if letter == '_' && !answered.is_empty() {
            raised = true;
        } else if raised {
            answered.extend(letter.to_uppercase());
            raised = false;
        } else {
            answered.push(letter);
        }
    }
    answered
}

/// All keys of a document as they are stored, at every depth.
pub(super) fn fold(value: Value) -> Value {
    rename(value, snake)
}

/// All keys of metadata as they are answered: up to API version 1.4, nested ones stay as they are stored.
pub(super) fn answered(metadata: &Map<String, Value>, nested_too: bool) -> Value {
    let renamed = metadata.iter().map(|(key, value)| {
        let value = if nested_too { rename(value.clone(), camel) } else { value.clone() };
        (camel(key), value)
    });
    Value::Object(renamed.collect())
}

fn rename(value: Value, name: fn(&str) -> String) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| (name(&key), rename(value, name))).collect(),
        Value::Array(values) => values.into_iter().map(|value| rename(value, name)).collect(),
        plain => plain,
    }
}

/// Metadata that may be stored.
pub(super) fn check(metadata: &Map<String, Value>) -> Result<(), Problem> {
    const POINTER: &str = "/data/attributes/metadata";
    if metadata.values().any(|value| depth(value) > DEPTH_MAX) {
        return Err(Problem::bad_request("maximum depth exceeded").at(POINTER));
    }
    if metadata.len() > KEYS_MAX {
        return Err(Problem::unprocessable("METADATA_TOO_LONG", POINTER, "too many keys (exceeded limit of 64 keys)"));
    }
    if Value::Object(metadata.clone()).to_string().len() > BYTES_MAX {
        return Err(Problem::unprocessable("METADATA_TOO_LONG", POINTER, "too large"));
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Whether the metadata has `wanted` under `key`: as text, or as what the text looks like.
pub(super) fn matches(metadata: &Map<String, Value>, key: &str, wanted: &str) -> bool {
    match metadata.get(&snake(key)) {
        Some(Value::String(text)) => text == wanted,
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::Null)) => *value.to_string() == *wanted,
        Some(Value::Array(_) | Value::Object(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_folded_and_answered_in_camel_case() {
        for written in ["stripe_customer_id", "stripeCustomerId", "StripeCustomerId", "stripe-customer-id"] {
            assert_eq!(snake(written), "stripe_customer_id", "{written}");
        }
        assert_eq!(camel("stripe_customer_id"), "stripeCustomerId");
        assert_eq!(camel("a"), "a");
    }

    #[test]
    fn a_search_takes_text_for_what_it_looks_like() {
        let metadata = json!({"count": 3, "on": true, "text": "3", "none": null}).as_object().unwrap().clone();
        for (key, wanted) in [("count", "3"), ("on", "true"), ("text", "3"), ("none", "null")] {
            assert!(matches(&metadata, key, wanted), "{key}");
        }
        assert!(!matches(&metadata, "count", "30"));
        assert!(!matches(&metadata, "other", "null"));
    }
}
