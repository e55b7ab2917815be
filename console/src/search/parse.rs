//! From text to a [`Query`], or to an error that points at the column.
//!
//! ```text
//! query   = or ; or = and { "OR" and } ; and = unary { [ "AND" ] unary } ; unary = [ "NOT" | "-" ] primary
//! primary = "(" query ")" | field op value | flag | word
//! op      = ":" | "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
//! value   = word | '"' text '"' | value ".." value
//! ```

mod term;

use std::fmt;

use jiff::Timestamp;

use super::query::{Condition, Query, Term};

/// Brackets and NOTs may nest this deep.
pub const DEPTH_MAX: usize = 32;

/// A query may have this many terms.
pub const TERMS_MAX: usize = 64;

/// A query that cannot be read: where, why, and what was perhaps meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (column {column})")]
pub struct BadQuery {
    /// The column of the mistake, from 1, in characters.
    pub column: usize,
    /// What is wrong, without what was typed in values.
    pub message: String,
    /// What was perhaps meant.
    pub suggestion: Option<String>,
}

impl BadQuery {
    /// A mistake at `column`.
    pub fn at(column: usize, message: impl Into<String>) -> Self {
        Self { column, message: message.into(), suggestion: None }
    }

    fn suggesting(self, suggestion: Option<&str>) -> Self {
        Self { suggestion: suggestion.map(str::to_owned), ..self }
    }

    /// The query with a caret under the mistake, for a terminal.
    pub fn caret<'a>(&self, query: &'a str) -> Caret<'a> {
        Caret { query, column: self.column }
    }
}

/// Two lines: the query, and a caret under one of its columns.
#[derive(Clone, Copy)]
pub struct Caret<'a> {
    query: &'a str,
    column: usize,
}

impl fmt::Display for Caret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tabs and line breaks would move the caret away from its column.
        let line: String = self.query.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        write!(f, "{line}\n{:>width$}", '^', width = self.column)
    }
}

/// Reads a query; `now` is what relative dates count from.
///
/// # Errors
///
/// [`BadQuery`] points at the first mistake.
pub fn parse(text: &str, now: Timestamp) -> Result<Query, BadQuery> {
    let mut parser = Parser { chars: text.chars().collect(), at: 0, depth: 0, terms: 0, now };
    parser.space();
    if parser.peek().is_none() {
        return Err(BadQuery::at(1, "there is nothing to search for"));
    }
    let query = parser.or()?;
    match parser.peek() {
        None => Ok(query),
        Some(')') => Err(parser.mistake("this bracket was never opened")),
        Some(_) => Err(parser.mistake("a term is expected here")),
    }
}

/// Where in the text the parser stands.
struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
    terms: usize,
    now: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyword {
    And,
    Or,
    Not,
}

impl Parser {
    fn or(&mut self) -> Result<Query, BadQuery> {
        let mut parts = vec![self.and()?];
        while self.take_keyword(Keyword::Or) {
            parts.push(self.and()?);
        }
        Ok(one_or(parts, Query::Or))
    }

    fn and(&mut self) -> Result<Query, BadQuery> {
        let mut parts = vec![self.unary()?];
        loop {
            let joined = self.take_keyword(Keyword::And);
            let ends = matches!(self.peek(), None | Some(')')) || self.keyword() == Some(Keyword::Or);
            if ends && !joined {
                return Ok(one_or(parts, Query::And));
            }
            parts.push(self.unary()?);
        }
    }

    fn unary(&mut self) -> Result<Query, BadQuery> {
        if self.take_keyword(Keyword::Not) || self.take_minus() {
            return self.deeper(|parser| Ok(Query::Not(Box::new(parser.unary()?))));
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Query, BadQuery> {
        if self.peek() != Some('(') {
            return self.term();
        }
        let opened = self.column();
        self.at += 1;
        self.space();
        let inner = self.deeper(Self::or)?;
        if self.peek() != Some(')') {
            return Err(BadQuery::at(opened, "this bracket is never closed"));
        }
        self.at += 1;
        self.space();
        Ok(inner)
    }

    fn term(&mut self) -> Result<Query, BadQuery> {
        let column = self.column();
        if self.terms == TERMS_MAX {
            return Err(BadQuery::at(column, format!("a search has at most {TERMS_MAX} terms")));
        }
        self.terms += 1;
        match self.peek() {
            None => return Err(self.mistake("a term is missing at the end")),
            Some(')') => return Err(self.mistake("a term is missing before this bracket")),
            Some('"') => {
                let word = self.quoted()?;
                if word.is_empty() {
                    return Err(BadQuery::at(column, "there is nothing between these quotes"));
                }
                self.space();
                return Ok(term_at(column, Condition::Word(word.to_lowercase())));
            }
            Some(_) => {}
        }
        if self.keyword().is_some() {
            return Err(self.mistake("a term is missing before this operator"));
        }
        self.field_or_word(column)
    }

    /// Runs `inner` one level deeper, so that no text can exhaust the stack.
    fn deeper(&mut self, inner: impl FnOnce(&mut Self) -> Result<Query, BadQuery>) -> Result<Query, BadQuery> {
        if self.depth == DEPTH_MAX {
            return Err(self.mistake(&format!("a search nests at most {DEPTH_MAX} deep")));
        }
        self.depth += 1;
        let query = inner(self);
        self.depth -= 1;
        query
    }

    /// The keyword that stands here as a whole word.
    fn keyword(&self) -> Option<Keyword> {
        let word: String = self.chars[self.at..].iter().take_while(|c| c.is_ascii_alphabetic()).take(4).collect();
        let follows = self.chars.get(self.at + word.len());
        if follows.is_some_and(|c| !c.is_whitespace() && *c != '(' && *c != ')') {
            return None;
        }
        match word.to_ascii_lowercase().as_str() {
            "and" => Some(Keyword::And),
            "or" => Some(Keyword::Or),
            "not" => Some(Keyword::Not),
            _ => None,
        }
    }

    fn take_keyword(&mut self, wanted: Keyword) -> bool {
        if self.keyword() != Some(wanted) {
            return false;
        }
        self.at += if wanted == Keyword::Or { 2 } else { 3 };
        self.space();
        true
    }

    fn take_minus(&mut self) -> bool {
        let taken = self.peek() == Some('-');
        if taken {
            self.at += 1;
            self.space();
        }
        taken
    }

    /// The text between quotes; a backslash keeps the next character as it is.
    fn quoted(&mut self) -> Result<String, BadQuery> {
        let opened = self.column();
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.next() else { return Err(BadQuery::at(opened, "this quote is never closed")) };
            match c {
                '"' => return Ok(text),
                '\\' => text.extend(self.next()),
                other => text.push(other),
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn column(&self) -> usize {
        self.at + 1
    }

    fn mistake(&self, message: &str) -> BadQuery {
        BadQuery::at(self.column(), message)
    }
}

fn one_or(mut parts: Vec<Query>, joined: fn(Vec<Query>) -> Query) -> Query {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            joined(parts)
        }
        None => joined(parts),
    }
}

fn term_at(column: usize, condition: Condition) -> Query {
    Query::Term(Term { column, condition })
}

#[cfg(test)]
mod tests;
