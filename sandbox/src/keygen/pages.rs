//! Lists, newest first: a plain limit without links, numbered pages, and pages behind a cursor.

use serde_json::{Value, json};
use uuid::Uuid;

use super::call::Query;
use super::problem::Problem;

const DEFAULT: usize = 10;

/// How a list is asked for.
#[derive(Clone, Copy, Debug)]
enum Style {
    Limit(usize),
    Numbered { number: usize, size: usize },
    Cursor { after: Option<Uuid>, size: usize },
}

/// One page of `all`, which comes oldest first, as `{"data", "links"}`.
pub(super) fn page<T>(
    all: &[T],
    id: fn(&T) -> Uuid,
    render: impl Fn(&T) -> Value,
    path: &str,
    query: &Query,
) -> Result<Value, Problem> {
    let newest_first: Vec<&T> = all.iter().rev().collect();
    let render = |shown: &[&T]| -> Vec<Value> { shown.iter().map(|item| render(item)).collect() };
    match style(query)? {
        Style::Limit(limit) => {
            let shown = &newest_first[..limit.min(newest_first.len())];
            Ok(json!({ "data": render(shown) }))
        }
        Style::Numbered { number, size } => {
            let count = newest_first.len();
            let pages = count.div_ceil(size).max(1);
            let from = ((number - 1) * size).min(count);
            let shown = &newest_first[from..(from + size).min(count)];
            let link = |number: usize| format!("{path}?page[number]={number}&page[size]={size}");
            Ok(json!({
                "data": render(shown),
                "links": {
                    "self": link(number),
                    "prev": (number > 1).then(|| link(number - 1)),
                    "next": (number < pages).then(|| link(number + 1)),
                    "first": link(1),
                    "last": link(pages),
                    "meta": { "pages": pages, "count": count },
                },
            }))
        }
        Style::Cursor { after, size } => {
            let from = match after {
                None => 0,
                // A cursor that is gone shows nothing more.
                Some(after) => {
                    newest_first.iter().position(|item| id(item) == after).map_or(newest_first.len(), |at| at + 1)
                }
            };
            let shown = &newest_first[from..(from + size).min(newest_first.len())];
            let next = shown.last().filter(|_| from + size < newest_first.len()).map(|item| id(item));
            let link = |after: Option<Uuid>| {
                let after = after.map(|id| id.to_string()).unwrap_or_default();
                format!("{path}?page[cursor]={after}&page[size]={size}")
            };
            Ok(json!({
                "data": render(shown),
                "links": { "self": link(after), "next": next.map(|next| link(Some(next))) },
            }))
        }
    }
}

fn style(query: &Query) -> Result<Style, Problem> {
    let number = within(query, "page[number]")?;
    let size = within(query, "page[size]")?;
    let limit = within(query, "limit")?;
    match (query.get("page[cursor]"), number) {
        (Some(_), Some(_)) => Err(Problem::bad_request("page number and cursor exclude each other")),
        (Some(""), None) => Ok(Style::Cursor { after: None, size: size.unwrap_or(DEFAULT) }),
        (Some(cursor), None) => {
            let after = super::document::hyphenated(cursor)
                .ok_or_else(|| Problem::bad_request("page cursor must be a UUID"))?;
            Ok(Style::Cursor { after: Some(after), size: size.unwrap_or(DEFAULT) })
        }
        (None, Some(number)) => Ok(Style::Numbered { number, size: size.unwrap_or(DEFAULT) }),
        (None, None) if size.is_some() => Err(Problem::bad_request("page must be an object with number or cursor")),
        (None, None) => Ok(Style::Limit(limit.unwrap_or(DEFAULT))),
    }
}

fn within(query: &Query, name: &str) -> Result<Option<usize>, Problem> {
    let Some(text) = query.get(name) else { return Ok(None) };
    match text.parse() {
        Ok(number @ 1..=100) => Ok(Some(number)),
        _ => Err(Problem::bad_request(format!("{name} must be a number between 1 and 100"))),
    }
}
