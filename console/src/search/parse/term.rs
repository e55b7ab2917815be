//! One term: a field with its operator and value, a flag, or a word.

use std::ops::Bound;

use jiff::Timestamp;

use super::super::query::{AMOUNT, Condition, Flag, METADATA, NumberField, Query, TextField, TimeField};
use super::super::value::{self, Expected, Op};
use super::{BadQuery, Parser, term_at};

/// What a field's values are.
enum Field {
    Text(TextField),
    Metadata(String),
    Number(NumberField),
    Time(TimeField),
    Amount,
}

/// One side of a value, and where it was written.
struct Written {
    column: usize,
    text: String,
    quoted: bool,
}

type Bounds = (Bound<i64>, Bound<i64>);
type Times = (Option<Timestamp>, Option<Timestamp>);

impl Parser {
    pub(super) fn field_or_word(&mut self, column: usize) -> Result<Query, BadQuery> {
        let name = self.bare(|c| !c.is_whitespace() && !"()\":=<>~!".contains(c));
        if name.is_empty() {
            return Err(BadQuery::at(column, "a field or a word is expected here"));
        }
        let after_name = self.at;
        self.space();
        let op_column = self.column();
        let Some(op) = self.op() else {
            return if matches!(self.peek(), Some('!')) {
                Err(BadQuery::at(op_column, "`!` is only known in `!=`"))
            } else if after_name == self.at && self.peek() == Some('"') {
                Err(BadQuery::at(op_column, "an operator or a space is missing before this quote"))
            } else {
                Ok(term_at(column, Condition::Word(name.to_lowercase())))
            };
        };
        self.space();
        if name.eq_ignore_ascii_case("is") || name.eq_ignore_ascii_case("has") {
            return self.flag(column, &name, op, op_column);
        }
        let field = field(&name, column)?;
        let (value, end) = self.value()?;
        self.space();
        let condition = condition(field, op, op_column, &value, end.as_ref(), self.now)?;
        let term = term_at(column, condition);
        Ok(if op == Op::IsNot { Query::Not(Box::new(term)) } else { term })
    }

    fn flag(&mut self, column: usize, name: &str, op: Op, op_column: usize) -> Result<Query, BadQuery> {
        if op != Op::Is {
            return Err(BadQuery::at(op_column, format!("`{}` is written with `:`", name.to_ascii_lowercase())));
        }
        let value_column = self.column();
        let value = self.bare(|c| !c.is_whitespace() && c != '(' && c != ')');
        let full = format!("{name}:{value}").to_ascii_lowercase().replace('_', "-");
        self.space();
        if let Some((_, flag)) = Flag::ALL.iter().find(|(known, _)| *known == full) {
            return Ok(term_at(column, Condition::Flag(*flag)));
        }
        let known = Flag::ALL.iter().map(|(known, _)| *known);
        let message = format!("there is no such flag; known are {}", list(known.clone()));
        Err(BadQuery::at(value_column, message).suggesting(nearest(&full, known)))
    }

    fn op(&mut self) -> Option<Op> {
        let second = self.chars.get(self.at + 1) == Some(&'=');
        let (op, length) = match (self.peek()?, second) {
            (':' | '=', _) => (Op::Is, 1),
            ('~', _) => (Op::Contains, 1),
            ('!', true) => (Op::IsNot, 2),
            ('<', true) => (Op::AtMost, 2),
            ('<', false) => (Op::Less, 1),
            ('>', true) => (Op::AtLeast, 2),
            ('>', false) => (Op::Greater, 1),
            _ => return None,
        };
        self.at += length;
        Some(op)
    }

    /// A value, and the end of the range where it is one.
    fn value(&mut self) -> Result<(Written, Option<Written>), BadQuery> {
        let first = self.one_value()?;
        if first.quoted {
            let ranges = self.chars[self.at..].starts_with(&['.', '.']);
            if !ranges {
                return Ok((first, None));
            }
            self.at += 2;
            let end = self.one_value()?;
            return Ok((first, Some(end)));
        }
        let Some((start, end)) = first.text.split_once("..") else { return Ok((first, None)) };
        let end_column = first.column + start.chars().count() + 2;
        if start.is_empty() {
            return Err(BadQuery::at(first.column, "the range has no beginning; write `<=` instead"));
        }
        let end = match (end.is_empty(), self.peek()) {
            (true, Some('"')) => self.one_value()?,
            (true, _) => return Err(BadQuery::at(end_column, "the range has no end; write `>=` instead")),
            (false, _) => Written { column: end_column, text: end.to_owned(), quoted: false },
        };
        Ok((Written { column: first.column, text: start.to_owned(), quoted: false }, Some(end)))
    }

    fn one_value(&mut self) -> Result<Written, BadQuery> {
        let column = self.column();
        let quoted = self.peek() == Some('"');
        let text = if quoted { self.quoted()? } else { self.bare(|c| !c.is_whitespace() && !"()\"".contains(c)) };
        if text.is_empty() {
            return Err(BadQuery::at(column, "a value is missing here"));
        }
        Ok(Written { column, text, quoted })
    }

    fn bare(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&belongs) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }
}

fn field(name: &str, column: usize) -> Result<Field, BadQuery> {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with(METADATA) && lower.len() > METADATA.len() {
        return Ok(Field::Metadata(name[METADATA.len()..].to_owned()));
    }
    if lower == AMOUNT {
        return Ok(Field::Amount);
    }
    if let Some((_, field)) = TextField::ALL.iter().find(|(known, _)| *known == lower) {
        return Ok(Field::Text(*field));
    }
    if let Some((_, field)) = NumberField::ALL.iter().find(|(known, _)| *known == lower) {
        return Ok(Field::Number(*field));
    }
    if let Some((_, field)) = TimeField::ALL.iter().find(|(known, _)| *known == lower) {
        return Ok(Field::Time(*field));
    }
    let known = field_names();
    let message = format!("there is no field `{}`; known are {}", shown(name), list(known.iter().copied()));
    Err(BadQuery::at(column, message).suggesting(nearest(&lower, known.into_iter())))
}

fn condition(
    field: Field,
    op: Op,
    op_column: usize,
    value: &Written,
    end: Option<&Written>,
    now: Timestamp,
) -> Result<Condition, BadQuery> {
    let is_text = matches!(field, Field::Text(_) | Field::Metadata(_));
    let compares = matches!(op, Op::Less | Op::AtMost | Op::Greater | Op::AtLeast);
    if is_text && compares {
        return Err(BadQuery::at(op_column, "text is compared with `:`, `=`, `!=` or `~`"));
    }
    if !is_text && op == Op::Contains {
        return Err(BadQuery::at(op_column, "`~` is for text; use `=`, `<=`, `>=` or a range"));
    }
    if let Some(end) = end {
        if is_text {
            return Err(BadQuery::at(end.column, "a range needs numbers, amounts or dates"));
        }
        if compares {
            return Err(BadQuery::at(op_column, "a range is written with `:` or `=`"));
        }
    }
    let contains = op == Op::Contains;
    Ok(match field {
        Field::Text(field) => Condition::Text { field, contains, text: value.text.clone() },
        Field::Metadata(key) => Condition::Metadata { key, contains, text: value.text.clone() },
        Field::Number(field) => Condition::Number { field, within: bounds(op, value, end, value::number)? },
        Field::Amount => Condition::Amount { within: bounds(op, value, end, value::amount)? },
        Field::Time(field) => {
            let (from, before) = times(op, value, end, now)?;
            Condition::Time { field, from, before }
        }
    })
}

fn bounds(
    op: Op,
    value: &Written,
    end: Option<&Written>,
    read: fn(&str) -> Result<i64, Expected>,
) -> Result<Bounds, BadQuery> {
    let start = read(&value.text).map_err(|expected| unreadable(value, &expected))?;
    let Some(end) = end else { return Ok(value::number_bounds(op, start)) };
    let last = read(&end.text).map_err(|expected| unreadable(end, &expected))?;
    Ok((Bound::Included(start), Bound::Included(last)))
}

fn times(op: Op, value: &Written, end: Option<&Written>, now: Timestamp) -> Result<Times, BadQuery> {
    let start = value::date(&value.text, now).map_err(|expected| unreadable(value, &expected))?;
    let Some(end) = end else { return Ok(value::time_bounds(op, start, now)) };
    let last = value::date(&end.text, now).map_err(|expected| unreadable(end, &expected))?;
    let (_, before) = value::time_bounds(Op::AtMost, last, now);
    Ok((Some(start.from), before))
}

fn unreadable(written: &Written, expected: &Expected) -> BadQuery {
    BadQuery::at(written.column, format!("{} is expected here", expected.0))
}

fn field_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = TextField::ALL.iter().map(|(name, _)| *name).collect();
    names.extend(NumberField::ALL.iter().map(|(name, _)| *name));
    names.extend(TimeField::ALL.iter().map(|(name, _)| *name));
    names.extend([AMOUNT, "metadata.<key>"]);
    names
}

fn list(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// A field name is echoed, but not a page of it.
fn shown(name: &str) -> String {
    name.chars().take(32).collect()
}

/// The known name that `typed` is closest to, if any is close.
fn nearest(typed: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let typed: Vec<char> = typed.chars().take(32).collect();
    let close_enough = 1 + typed.len() / 4;
    known.map(|name| (distance(&typed, name), name)).filter(|(d, _)| *d <= close_enough).min().map(|(_, name)| name)
}

/// How many letters must be inserted, removed or replaced to make one of the other.
fn distance(typed: &[char], name: &str) -> usize {
    let mut row: Vec<usize> = (0..=typed.len()).collect();
    for (above, c) in name.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (place, t) in typed.iter().enumerate() {
            let replaced = diagonal + usize::from(*t != c);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(row[place] + 1).min(diagonal + 1);
        }
    }
    row[typed.len()]
}
