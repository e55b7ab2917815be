//! The search box: any text is read or refused at a column, and a query that is written out again is the same query.

use std::ops::Bound;

use jiff::{Timestamp, ToSpan};
use keyledger_console::search::parse::{BadQuery, DEPTH_MAX, TERMS_MAX, parse};
use keyledger_console::search::query::{AMOUNT, Condition, METADATA, Query};
use keyledger_console::search::shape::{self, Lookup};
use keyledger_console::search::{QUERY_BYTES_MAX, Search, read};

const NOW: i64 = 1_785_402_950;

/// Reads any text at several times, as the box does and as a query.
pub fn search(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let now = Timestamp::from_second(NOW).unwrap();
    check_shape(&text);
    for now in [now, Timestamp::MIN, Timestamp::MAX] {
        let found = read(&text, now);
        assert_eq!(found, read(&text, now), "the same is read alike");
        let parsed = parse(&text, now);
        match found {
            Ok(Search::Lookups(lookups)) => assert_eq!((lookups.is_empty(), lookups), (false, shape::recognize(&text))),
            Ok(Search::Query(query)) => assert_eq!(Ok(query), parsed),
            Err(_) if text.len() > QUERY_BYTES_MAX => {}
            Err(bad) => assert_eq!(Err(bad), parsed),
        }
        match parsed {
            Ok(query) => check_query(&text, &query, now),
            Err(bad) => check_refusal(&text, &bad),
        }
    }
}

/// White space around a token says nothing, and its `Debug` shows nothing of it.
fn check_shape(text: &str) {
    let lookups = shape::recognize(text);
    assert_eq!(lookups, shape::recognize(text.trim()));
    for lookup in &lookups {
        assert_eq!(format!("{lookup:?}"), lookup.meaning());
        if let Lookup::Key(typed) | Lookup::KeyTail(typed) = lookup {
            assert!(typed.expose().chars().filter(char::is_ascii_alphanumeric).count() >= 4);
        }
    }
}

/// A query keeps its bounds, its terms stand where they say, and it reads back from how it is written.
fn check_query(text: &str, query: &Query, now: Timestamp) {
    let terms = query.terms();
    assert!((1..=TERMS_MAX).contains(&terms.len()));
    // `!=` puts a NOT around a term that nobody nested.
    assert!(depth(query) <= DEPTH_MAX + 1);
    let characters: Vec<char> = text.chars().collect();
    for pair in terms.windows(2) {
        assert!(pair[0].column < pair[1].column, "terms stand in the order written");
    }
    for term in &terms {
        let first = characters.get(term.column - 1).unwrap();
        assert!(!first.is_whitespace() && !"():=<>~!".contains(*first), "no term begins with {first:?}");
        assert!(asks_for_something(&term.condition), "{:?}", term.condition);
    }
    let written = written(query);
    match parse(&written, now) {
        Ok(again) => assert_eq!(without_columns(again), without_columns(query.clone()), "{written}"),
        Err(bad) => panic!("{bad}\n{}", bad.caret(&written)),
    }
}

/// Nothing is everything: a text that is empty would be found everywhere.
fn asks_for_something(condition: &Condition) -> bool {
    match condition {
        Condition::Text { text, .. } | Condition::Word(text) => !text.is_empty(),
        Condition::Metadata { key, text, .. } => !key.is_empty() && !text.is_empty(),
        Condition::Time { from, before, .. } => from.is_some() || before.is_some(),
        Condition::Number { .. } | Condition::Amount { .. } | Condition::Flag(_) => true,
    }
}

fn check_refusal(text: &str, bad: &BadQuery) {
    let characters = text.chars().count();
    assert!((1..=characters + 1).contains(&bad.column), "column {} of {characters}", bad.column);
    assert!(!bad.message.is_empty());
    let shown = bad.caret(text).to_string();
    let (line, caret) = shown.split_once('\n').unwrap();
    assert_eq!((line.chars().count(), caret.chars().count()), (characters, bad.column));
}

/// How deep brackets or NOTs must be nested to write it.
fn depth(query: &Query) -> usize {
    match query {
        Query::Term(_) => 0,
        Query::Not(part) => 1 + depth(part),
        Query::And(parts) | Query::Or(parts) => {
            parts.iter().map(|part| nested(query, part) + depth(part)).max().unwrap()
        }
    }
}

/// 1 if `part` needs brackets within `whole`.
fn nested(whole: &Query, part: &Query) -> usize {
    match (whole, part) {
        (_, Query::Term(_) | Query::Not(_)) | (Query::Or(_), Query::And(_)) => 0,
        _ => 1,
    }
}

/// The query as text: the one way in which we write it.
fn written(query: &Query) -> String {
    match query {
        Query::Term(term) => condition(&term.condition, false),
        Query::Not(part) => match &**part {
            Query::Term(term) if has_unequal(&term.condition) => condition(&term.condition, true),
            part @ (Query::And(_) | Query::Or(_)) => format!("NOT ({})", written(part)),
            part => format!("NOT {}", written(part)),
        },
        Query::And(parts) => joined(query, parts, " AND "),
        Query::Or(parts) => joined(query, parts, " OR "),
    }
}

fn joined(whole: &Query, parts: &[Query], between: &str) -> String {
    let part = |part| if nested(whole, part) == 1 { format!("({})", written(part)) } else { written(part) };
    parts.iter().map(part).collect::<Vec<_>>().join(between)
}

/// Whether its opposite is written with `!=`.
fn has_unequal(condition: &Condition) -> bool {
    match condition {
        Condition::Text { contains, .. } | Condition::Metadata { contains, .. } => !contains,
        Condition::Number { within, .. } | Condition::Amount { within } => {
            matches!(within, (Bound::Included(_), Bound::Included(_)))
        }
        Condition::Time { from, before, .. } => from.is_some() && before.is_some(),
        Condition::Flag(_) | Condition::Word(_) => false,
    }
}

fn condition(condition: &Condition, unequal: bool) -> String {
    let equal = if unequal { "!=" } else { "=" };
    let op = |contains: bool| if contains { "~" } else { equal };
    match condition {
        Condition::Text { field, contains, text } => format!("{}{}{}", field.name(), op(*contains), quoted(text)),
        Condition::Metadata { key, contains, text } => format!("{METADATA}{key}{}{}", op(*contains), quoted(text)),
        Condition::Number { field, within } => bounds(field.name(), equal, *within, |number| number.to_string()),
        Condition::Amount { within } => bounds(AMOUNT, equal, *within, amount),
        Condition::Time { field, from, before } => times(field.name(), equal, *from, *before),
        Condition::Flag(flag) => flag.name().to_owned(),
        Condition::Word(word) => quoted(word),
    }
}

fn bounds(name: &str, equal: &str, within: (Bound<i64>, Bound<i64>), show: fn(i64) -> String) -> String {
    match within {
        (Bound::Included(first), Bound::Included(last)) => format!("{name}{equal}{}..{}", show(first), show(last)),
        (Bound::Included(first), Bound::Unbounded) => format!("{name}>={}", show(first)),
        (Bound::Excluded(first), Bound::Unbounded) => format!("{name}>{}", show(first)),
        (Bound::Unbounded, Bound::Included(last)) => format!("{name}<={}", show(last)),
        (Bound::Unbounded, Bound::Excluded(last)) => format!("{name}<{}", show(last)),
        other => panic!("no operator makes {other:?}"),
    }
}

/// Thousandths in major units.
fn amount(thousandths: i64) -> String {
    let sign = if thousandths < 0 { "-" } else { "" };
    let size = thousandths.unsigned_abs();
    format!("{sign}{}.{:03}", size / 1000, size % 1000)
}

/// The last moment before `before`, because the end of a range belongs to it.
fn times(name: &str, equal: &str, from: Option<Timestamp>, before: Option<Timestamp>) -> String {
    match (from, before) {
        (Some(from), Some(before)) => {
            let last = before.checked_sub(1.nanosecond()).unwrap();
            format!("{name}{equal}\"{from}\"..\"{last}\"")
        }
        (Some(from), None) => format!("{name}>=\"{from}\""),
        (None, Some(before)) => format!("{name}<\"{before}\""),
        (None, None) => panic!("no operator asks for any time"),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }

        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// The same, but for where its terms were written.
fn without_columns(query: Query) -> Query {
    match query {
        Query::And(parts) => Query::And(parts.into_iter().map(without_columns).collect()),
        Query::Or(parts) => Query::Or(parts.into_iter().map(without_columns).collect()),
        Query::Not(part) => Query::Not(Box::new(without_columns(*part))),
        Query::Term(mut term) => {
            term.column = 0;
            Query::Term(term)
        }
    }
}
