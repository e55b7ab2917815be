//! Lists: filters, cursors and pages.

use serde_json::{Value, json};

use super::answer::Refusal;
use super::params::Params;

/// Parameters that every list takes.
pub(super) const PAGING: [&str; 4] = ["limit", "starting_after", "ending_before", "expand[]"];

/// Parameters of lists that can be narrowed to a time.
pub(super) const CREATED: [&str; 5] = ["created", "created[gt]", "created[gte]", "created[lt]", "created[lte]"];

const LIMIT_DEFAULT: i64 = 10;
const LIMIT_MAX: i64 = 100;

/// One page of `all`, which is newest first, of those that `wanted` takes.
pub(super) fn page(
    all: Vec<Value>,
    params: &Params,
    url: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value, Refusal> {
    let limit = params.int("limit")?.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let message = format!("This value must be between 1 and {LIMIT_MAX}.");
        return Err(Refusal::parameter("parameter_invalid_integer", "limit", message));
    }
    let limit = usize::try_from(limit).unwrap_or_default();
    let place = |cursor: &str, param: &str| {
        let found = all.iter().position(|object| object["id"] == cursor);
        found.ok_or_else(|| Refusal { status: 400, ..Refusal::missing("object", cursor, param) })
    };
    let (from, to, newest) = match (params.get("starting_after"), params.get("ending_before")) {
        (Some(_), Some(_)) => {
            let message = "You cannot use both starting_after and ending_before.";
            return Err(Refusal::parameter("parameters_exclusive", "ending_before", message));
        }
        (Some(cursor), None) => (place(cursor, "starting_after")? + 1, all.len(), true),
        (None, Some(cursor)) => (0, place(cursor, "ending_before")?, false),
        (None, None) => (0, all.len(), true),
    };
    let mut found: Vec<Value> = all.into_iter().skip(from).take(to - from).filter(wanted).collect();
    let has_more = found.len() > limit;
    if newest {
        found.truncate(limit);
    } else {
        found.drain(..found.len().saturating_sub(limit));
    }
    Ok(json!({"object": "list", "data": found, "has_more": has_more, "url": url}))
}

/// Whether `created` is within what was asked for.
pub(super) fn is_created_within(object: &Value, params: &Params) -> Result<bool, Refusal> {
    let created = object["created"].as_i64().unwrap_or(0);
    let is = |name: &str, holds: fn(i64, i64) -> bool| -> Result<bool, Refusal> {
        Ok(params.int(name)?.is_none_or(|bound| holds(created, bound)))
    };
    Ok(is("created", |a, b| a == b)?
        && is("created[gt]", |a, b| a > b)?
        && is("created[gte]", |a, b| a >= b)?
        && is("created[lt]", |a, b| a < b)?
        && is("created[lte]", |a, b| a <= b)?)
}

/// The id in a field that holds an id or an object.
pub(super) fn reference(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["id"].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(query: &str) -> (Vec<String>, bool) {
        let all = (0..25).rev().map(|n| json!({"id": format!("x_{n}"), "created": n})).collect();
        let params = Params::parse(query).unwrap();
        let page = page(all, &params, "/v1/x", |object| object["created"] != 20).unwrap();
        let ids = page["data"].as_array().unwrap().iter().map(|object| object["id"].as_str().unwrap().to_owned());
        (ids.collect(), page["has_more"] == true)
    }

    #[test]
    fn pages_go_from_the_newest_on_or_back_from_a_cursor() {
        assert_eq!(ids("limit=2"), (vec!["x_24".to_owned(), "x_23".to_owned()], true));
        assert_eq!(ids("limit=2&starting_after=x_22"), (vec!["x_21".to_owned(), "x_19".to_owned()], true));
        assert_eq!(ids("limit=2&ending_before=x_19"), (vec!["x_22".to_owned(), "x_21".to_owned()], true));
        assert_eq!(ids("limit=5&ending_before=x_23"), (vec!["x_24".to_owned()], false));
        assert_eq!(ids("").0.len(), 10);
        assert_eq!(ids("limit=100").0.len(), 24);
    }

    #[test]
    fn limits_and_cursors_that_cannot_be_are_refused() {
        for query in ["limit=0", "limit=101", "limit=ten", "starting_after=y", "starting_after=x_1&ending_before=x_2"] {
            let params = Params::parse(query).unwrap();
            let refusal = page(vec![json!({"id": "x_1"}), json!({"id": "x_2"})], &params, "/v1/x", |_| true);
            assert_eq!(refusal.unwrap_err().status, 400, "{query}");
        }
    }
}
