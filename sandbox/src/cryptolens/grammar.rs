//! How a search expression is read. What it may say is told in [`super::query`].

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::query::{Operator, Query, Value};

/// A nesting beyond this is refused rather than read.
const DEPTH_MAX: u32 = 20;

/// Reads a whole expression, or says what is wrong with it.
pub(super) fn read(text: &str) -> Result<Query, String> {
    let mut reader = Reader { tokens: tokens(text)?, next: 0, depth: 0 };
    let query = reader.any(false)?;
    match reader.peek() {
        None => Ok(query),
        Some(token) => Err(format!("{token:?} after the end of the expression")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Number(i64),
    Sign(&'static str),
}

/// Longest first: `<=` is not `<` and `=`.
const SIGNS: [&str; 16] = ["==", "!=", "<>", "<=", ">=", "&&", "||", "=", "<", ">", "(", ")", ".", ",", "!", "-"];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let after = if first == '"' {
            let (inside, after) = rest[1..].split_once('"').ok_or("a text is not closed")?;
            if inside.contains('\\') {
                return Err("a text holds a backslash".to_owned());
            }
            tokens.push(Token::Text(inside.to_owned()));
            after
        } else if first.is_ascii_digit() {
            let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
            tokens.push(Token::Number(rest[..end].parse().map_err(|_| "a number is too long")?));
            &rest[end..]
        } else if first.is_ascii_alphabetic() {
            let end = rest.find(|char: char| !char.is_ascii_alphanumeric()).unwrap_or(rest.len());
            tokens.push(Token::Name(rest[..end].to_ascii_lowercase()));
            &rest[end..]
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
            let sign = sign.ok_or_else(|| format!("`{first}` means nothing here"))?;
            tokens.push(Token::Sign(sign));
            &rest[sign.len()..]
        };
        rest = after.trim_start();
    }
    Ok(tokens)
}

struct Reader {
    tokens: Vec<Token>,
    next: usize,
    depth: u32,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Result<Token, String> {
        let token = self.peek().cloned().ok_or("the expression ends early")?;
        self.next += 1;
        Ok(token)
    }

    fn is_sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.next += usize::from(is);
        is
    }

    fn is_name(&mut self, name: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Name(next)) if next == name);
        self.next += usize::from(is);
        is
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.is_sign(sign) { Ok(()) } else { Err(format!("`{sign}` is missing")) }
    }

    fn any(&mut self, inside: bool) -> Result<Query, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("it is nested too deeply".to_owned());
        }
        let mut queries = vec![self.all(inside)?];
        while self.is_sign("||") || self.is_name("or") {
            queries.push(self.all(inside)?);
        }
        self.depth -= 1;
        Ok(Query::Any(queries))
    }

    fn all(&mut self, inside: bool) -> Result<Query, String> {
        let mut queries = vec![self.one(inside)?];
        while self.is_sign("&&") || self.is_name("and") {
            queries.push(self.one(inside)?);
        }
        Ok(Query::All(queries))
    }

    fn one(&mut self, inside: bool) -> Result<Query, String> {
        if self.is_sign("(") {
            let query = self.any(inside)?;
            self.expect(")")?;
            return Ok(query);
        }
        if self.is_sign("!") {
            return Ok(Query::Not(Box::new(self.one(inside)?)));
        }
        let mut path = vec![self.name()?];
        while self.is_sign(".") {
            path.push(self.name()?);
        }
        if path == ["dataobjects", "count"] && !inside {
            self.expect("(")?;
            let query = self.any(true)?;
            self.expect(")")?;
            let operator = self.operator().ok_or("a count is not compared")?;
            let Value::Number(wanted) = self.value()? else { return Err("a count is a number".to_owned()) };
            return Ok(Query::Count(Box::new(query), operator, wanted));
        }
        if inside && path.first().map(String::as_str) != Some("it") {
            return Err("inside `count` a field begins with `it.`".to_owned());
        }
        let path = &path[usize::from(inside)..];
        if let [field @ .., last] = path
            && last == "contains"
        {
            self.expect("(")?;
            let Token::Text(part) = self.take()? else { return Err("`contains` takes a text".to_owned()) };
            self.expect(")")?;
            return Ok(Query::Contains(field.join("."), part));
        }
        match self.operator() {
            Some(operator) => Ok(Query::Compare(path.join("."), operator, self.value()?)),
            None => Ok(Query::Compare(path.join("."), Operator::Equal, Value::Flag(true))),
        }
    }

    fn name(&mut self) -> Result<String, String> {
        match self.take()? {
            Token::Name(name) => Ok(name),
            other => Err(format!("{other:?} where a field is expected")),
        }
    }

    fn operator(&mut self) -> Option<Operator> {
        let operator = match self.peek()? {
            Token::Sign("=" | "==") => Operator::Equal,
            Token::Sign("!=" | "<>") => Operator::Unequal,
            Token::Sign("<") => Operator::Less,
            Token::Sign("<=") => Operator::AtMost,
            Token::Sign(">") => Operator::More,
            Token::Sign(">=") => Operator::AtLeast,
            _ => return None,
        };
        self.next += 1;
        Some(operator)
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.take()? {
            Token::Text(text) => Ok(Value::Text(text)),
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Sign("-") => Ok(Value::Number(-self.number()?)),
            Token::Name(name) if name == "true" => Ok(Value::Flag(true)),
            Token::Name(name) if name == "false" => Ok(Value::Flag(false)),
            Token::Name(name) if name == "datetime" => self.time().map(Value::Time),
            other => Err(format!("{other:?} is not a value")),
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        match self.take()? {
            Token::Number(number) => Ok(number),
            other => Err(format!("{other:?} where a number is expected")),
        }
    }

    fn time(&mut self) -> Result<Timestamp, String> {
        self.expect("(")?;
        let mut parts = vec![self.number()?];
        while self.is_sign(",") {
            parts.push(self.number()?);
        }
        self.expect(")")?;
        let [year, month, day, clock @ ..] = &parts[..] else { return Err("a date has three numbers".to_owned()) };
        let [hour, minute, second] = match clock {
            [] => [0, 0, 0],
            [hour, minute, second] => [*hour, *minute, *second],
            _ => return Err("a time has three numbers".to_owned()),
        };
        let narrow = |number: i64| i8::try_from(number).map_err(|_| "there is no such date");
        let year = i16::try_from(*year).map_err(|_| "there is no such year")?;
        let (month, day) = (narrow(*month)?, narrow(*day)?);
        let time = DateTime::new(year, month, day, narrow(hour)?, narrow(minute)?, narrow(second)?, 0);
        let time = time.and_then(|time| TimeZone::UTC.to_timestamp(time));
        time.map_err(|_| "there is no such date".to_owned())
    }
}
