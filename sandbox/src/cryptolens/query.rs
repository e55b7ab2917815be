//! `SearchQuery`: expressions over the fields of a license, and their refusal when they are not well formed.
//!
//! ```text
//! any       = all { ("or" | "||") all }
//! all       = one { ("and" | "&&") one }
//! one       = "(" any ")" | "!" one | field | field "=" value | field "." "contains" "(" text ")"
//!           | "dataobjects" "." "count" "(" any ")" "=" number
//! ```
//!
//! Instead of `=` there may be `==`, `!=`, `<>`, `<`, `<=`, `>` and `>=`. Values are whole numbers, `true`, `false`, texts in
//! double quotes and `DateTime(2026,7,1)`. Inside `count` the fields begin with `it.`. Names come in any case.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::grammar;

/// What a field is, and what it is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(i64),
    Flag(bool),
    Text(String),
    Time(Timestamp),
}

/// Something that has fields: a license or a data object.
pub(super) trait Fields {
    /// The fields by their names in lower case; `None` for a name that no such thing has.
    fn field(&self, name: &str) -> Option<Field>;
    /// What `count` goes over.
    fn parts(&self) -> Vec<&dyn Fields>;
}

/// A field: of its kind, and empty where its owner is missing (the email of a license without a customer).
pub(super) struct Field {
    pub(super) kind: Value,
    pub(super) empty: bool,
}

impl Field {
    pub(super) fn of(kind: Value) -> Self {
        Self { kind, empty: false }
    }

    pub(super) fn perhaps<T>(value: Option<T>, default: Value, kind: impl Fn(T) -> Value) -> Self {
        let empty = value.is_none();
        Self { kind: value.map_or(default, kind), empty }
    }
}

/// An expression that was read.
#[derive(Debug)]
pub(super) enum Query {
    Any(Vec<Query>),
    All(Vec<Query>),
    Not(Box<Query>),
    Compare(String, Operator, Value),
    Contains(String, String),
    Count(Box<Query>, Operator, i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Operator {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Unequal => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::AtMost => ordering.is_le(),
            Self::More => ordering.is_gt(),
            Self::AtLeast => ordering.is_ge(),
        }
    }
}

impl Query {
    /// Reads an expression.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        grammar::read(text)
    }

    /// Whether it holds of `owner`. With `ignoring_case` texts are compared as most databases do.
    pub(super) fn holds(&self, owner: &dyn Fields, ignoring_case: bool) -> Result<bool, String> {
        match self {
            Self::Any(queries) => one_of(queries, owner, ignoring_case, true),
            Self::All(queries) => one_of(queries, owner, ignoring_case, false).map(|failed| !failed),
            Self::Not(query) => query.holds(owner, ignoring_case).map(|holds| !holds),
            Self::Compare(name, operator, value) => {
                let field = field(owner, name)?;
                let ordering = compare(&field.kind, value, ignoring_case)
                    .ok_or_else(|| format!("`{name}` cannot be compared with {value:?}"))?;
                Ok(!field.empty && operator.holds(ordering))
            }
            Self::Contains(name, part) => match field(owner, name)?.kind {
                Value::Text(text) => Ok(folded(&text, ignoring_case).contains(&folded(part, ignoring_case))),
                _ => Err(format!("`{name}` is not a text")),
            },
            Self::Count(query, operator, wanted) => {
                let mut count = 0;
                for part in owner.parts() {
                    count += i64::from(query.holds(part, ignoring_case)?);
                }
                Ok(operator.holds(count.cmp(wanted)))
            }
        }
    }
}

/// Whether one of the queries answers `wanted`. All are asked: a malformed one is refused wherever it stands.
fn one_of(queries: &[Query], owner: &dyn Fields, ignoring_case: bool, wanted: bool) -> Result<bool, String> {
    let mut found = false;
    for query in queries {
        found |= query.holds(owner, ignoring_case)? == wanted;
    }
    Ok(found)
}

fn field(owner: &dyn Fields, name: &str) -> Result<Field, String> {
    owner.field(name).ok_or_else(|| format!("there is no field `{name}`"))
}

fn folded(text: &str, ignoring_case: bool) -> String {
    if ignoring_case { text.to_lowercase() } else { text.to_owned() }
}

fn compare(left: &Value, right: &Value, ignoring_case: bool) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => Some(left.cmp(right)),
        (Value::Flag(left), Value::Flag(right)) => Some(left.cmp(right)),
        (Value::Time(left), Value::Time(right)) => Some(left.cmp(right)),
        (Value::Text(left), Value::Text(right)) => Some(folded(left, ignoring_case).cmp(&folded(right, ignoring_case))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(Vec<Thing>);

    impl Fields for Thing {
        fn field(&self, name: &str) -> Option<Field> {
            let value = match name {
                "id" => Value::Number(12),
                "block" => Value::Flag(false),
                "notes" | "stringvalue" => Value::Text("ref:A1; by hand".to_owned()),
                "expires" => Value::Time("2026-07-01T00:00:00Z".parse().unwrap()),
                "customer.id" => return Some(Field { kind: Value::Number(0), empty: true }),
                _ => return None,
            };
            Some(Field::of(value))
        }

        fn parts(&self) -> Vec<&dyn Fields> {
            self.0.iter().map(|part| part as &dyn Fields).collect()
        }
    }

    fn ask(text: &str) -> Result<bool, String> {
        Query::read(text)?.holds(&Thing(vec![Thing(Vec::new())]), true)
    }

    #[test]
    fn the_documented_forms_are_read() {
        for (text, holds) in [
            ("id=12", true),
            ("ID == 13", false),
            (r#"notes.contains("REF:a1;")"#, true),
            (r#"notes.contains("ref:a11;")"#, false),
            (r#"dataobjects.count(it.StringValue="ref:a1; by hand")>0"#, true),
            (r#"dataobjects.count(it.StringValue.contains("by"))=0"#, false),
            ("block=false and expires<=DateTime(2026,7,1)", true),
            ("block || expires>DateTime(2026,7,1,0,0,1)", false),
            ("!(block) && customer.id=0", false),
        ] {
            assert_eq!(ask(text), Ok(holds), "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for text in [
            "",
            "id=",
            "id=12 12",
            "id=\"12\"",
            "notes.contains(\"a\"b\")",
            "notes.contains(\"a)",
            "notes.contains(a)",
            "notes.contains('a')",
            "id.contains(\"1\")",
            "notes=12",
            "note.contains(\"a\")",
            "dataobjects.count(StringValue=\"a\")>0",
            "dataobjects.count(it.StringValue=\"a\")",
            "dataobjects.count(it.Nothing=\"a\")>0",
            "expires<=DateTime(2026,13,1)",
            "block=true and",
            "(block=true",
            "id=12;",
        ] {
            assert!(ask(text).is_err(), "{text}");
        }
    }
}
