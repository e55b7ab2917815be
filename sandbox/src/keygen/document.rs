//! Reading request bodies: everything that is not expected is refused.

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::metadata;
use super::problem::Problem;

/// What an attribute may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    TextOrNull,
    Bool,
    CountOrNull,
    TimeOrNull,
    Metadata,
}

/// A relationship that a body may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relationship {
    pub(super) name: &'static str,
    /// Another name for it.
    pub(super) alias: &'static str,
    pub(super) kinds: [&'static str; 2],
    pub(super) required: bool,
}

/// What a body must be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) kinds: [&'static str; 2],
    /// An id may be chosen; otherwise one that is given is passed over.
    pub(super) id: bool,
    /// There must be attributes.
    pub(super) attributes_required: bool,
    pub(super) attributes: &'static [(&'static str, Kind)],
    pub(super) relationships: &'static [Relationship],
}

/// A body that fits its shape. Keys are in `snake_case`.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    pub(super) id: Option<Uuid>,
    pub(super) attributes: Map<String, Value>,
    /// By name; `None` for null.
    pub(super) relationships: Vec<(&'static str, Option<Uuid>)>,
}

impl Document {
    pub(super) fn read(body: &[u8], shape: &Shape) -> Result<Self, Problem> {
        let data = data(body)?;
        let mut data = object(data, "/data")?;
        of_kind(&mut data, shape.kinds, "/data")?;
        let id = match data.remove("id") {
            None => None,
            Some(_) if !shape.id => None,
            Some(value) => Some(uuid(&value, "/data/id")?),
        };
        let attributes = match data.remove("attributes") {
            None if shape.attributes_required => return Err(missing("/data/attributes")),
            None => Map::new(),
            Some(value) => attributes(object(value, "/data/attributes")?, shape.attributes)?,
        };
        let relationships = match data.remove("relationships") {
            None => relationships(Map::new(), shape.relationships)?,
            Some(value) => relationships(object(value, "/data/relationships")?, shape.relationships)?,
        };
        nothing_else(&data, "/data")?;
        Ok(Self { id, attributes, relationships })
    }

    /// Whether it says anything about the attribute; null is something.
    pub(super) fn says(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.attributes.get(name)?.as_u64()
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.as_str()
    }

    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.attributes.get(name)?.as_bool()
    }

    pub(super) fn time(&self, name: &str) -> Option<Timestamp> {
        self.attributes.get(name)?.as_str()?.parse().ok()
    }

    pub(super) fn metadata(&self) -> Option<&Map<String, Value>> {
        self.attributes.get("metadata")?.as_object()
    }

    pub(super) fn relationship(&self, name: &str) -> Option<Uuid> {
        self.relationships.iter().find(|(known, _)| *known == name)?.1
    }
}

/// One linkage: `{"data": {"type", "id"}}`, or null.
pub(super) fn linkage(body: &[u8], kinds: [&str; 2]) -> Result<Option<Uuid>, Problem> {
    linked(data(body)?, kinds, "/data")
}

/// Many linkages: `{"data": [{"type", "id"}]}`, 1 to 100.
pub(super) fn linkages(body: &[u8], kinds: [&str; 2]) -> Result<Vec<Uuid>, Problem> {
    let Value::Array(values) = data(body)? else { return Err(mistyped("/data", "array")) };
    if values.is_empty() || values.len() > 100 {
        return Err(Problem::bad_request("length must be from 1 to 100").at("/data"));
    }
    let one = |(at, value)| {
        let pointer = format!("/data/{at}");
        linked(value, kinds, &pointer)?.ok_or_else(|| missing(&pointer))
    };
    values.into_iter().enumerate().map(one).collect()
}

fn data(body: &[u8]) -> Result<Value, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::bad_request("not UTF-8").coded("ENCODING_INVALID"))?;
    let value: Value = serde_json::from_str(text)
        .map_err(|_| Problem::bad_request("The request could not be completed: not JSON").coded("JSON_INVALID"))?;
    let mut top = object(metadata::fold(value), "")?;
    let data = top.remove("data").ok_or_else(|| missing("/data"))?;
    nothing_else(&top, "")?;
    Ok(data)
}

fn linked(value: Value, kinds: [&str; 2], pointer: &str) -> Result<Option<Uuid>, Problem> {
    if value.is_null() {
        return Ok(None);
    }
    let mut linked = object(value, pointer)?;
    of_kind(&mut linked, kinds, pointer)?;
    let at = format!("{pointer}/id");
    let id = uuid(&linked.remove("id").ok_or_else(|| missing(&at))?, &at)?;
    nothing_else(&linked, pointer)?;
    Ok(Some(id))
}

fn attributes(given: Map<String, Value>, allowed: &[(&str, Kind)]) -> Result<Map<String, Value>, Problem> {
    for (name, value) in &given {
        let pointer = format!("/data/attributes/{}", metadata::camel(name));
        let Some((_, kind)) = allowed.iter().find(|(known, _)| known == name) else {
            return Err(Problem::bad_request("unpermitted parameter").at(&pointer));
        };
        fits(value, *kind, &pointer)?;
    }
    Ok(given)
}

fn fits(value: &Value, kind: Kind, pointer: &str) -> Result<(), Problem> {
    let (fits, expected) = match kind {
        Kind::Text => (value.is_string(), "string"),
        Kind::TextOrNull => (value.is_string() || value.is_null(), "string"),
        Kind::Bool => (value.is_boolean(), "boolean"),
        // A negative number is a number, and breaks a rule later.
        Kind::CountOrNull => (value.is_u64() || value.is_i64() || value.is_null(), "integer"),
        Kind::TimeOrNull => (value.is_null() || value.as_str().is_some_and(is_time), "time"),
        Kind::Metadata => (value.is_object(), "object"),
    };
    if !fits {
        return Err(mistyped(pointer, expected));
    }
    match (kind, value) {
        (Kind::Metadata, Value::Object(metadata)) => metadata::check(metadata),
        _ => Ok(()),
    }
}

fn is_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok()
}

fn relationships(
    mut given: Map<String, Value>,
    allowed: &[Relationship],
) -> Result<Vec<(&'static str, Option<Uuid>)>, Problem> {
    let mut found = Vec::new();
    for relationship in allowed {
        let pointer = format!("/data/relationships/{}", relationship.name);
        let Some(value) = given.remove(relationship.name).or_else(|| given.remove(relationship.alias)) else {
            if relationship.required {
                return Err(missing(&pointer));
            }
            continue;
        };
        let mut value = object(value, &pointer)?;
        let at = format!("{pointer}/data");
        let id = linked(value.remove("data").ok_or_else(|| missing(&at))?, relationship.kinds, &at)?;
        nothing_else(&value, &pointer)?;
        if id.is_none() && relationship.required {
            return Err(missing(&at));
        }
        found.push((relationship.name, id));
    }
    nothing_else(&given, "/data/relationships")?;
    Ok(found)
}

fn of_kind(map: &mut Map<String, Value>, kinds: [&str; 2], pointer: &str) -> Result<(), Problem> {
    let at = format!("{pointer}/type");
    let kind = map.remove("type").ok_or_else(|| missing(&at))?;
    match kind.as_str() {
        Some(kind) if kinds.contains(&kind) => Ok(()),
        _ => Err(Problem::bad_request(format!("type mismatch (expected {})", kinds[1])).at(&at)),
    }
}

fn object(value: Value, pointer: &str) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(mistyped(pointer, "object")),
    }
}

fn uuid(value: &Value, pointer: &str) -> Result<Uuid, Problem> {
    let text = value.as_str().ok_or_else(|| mistyped(pointer, "UUID string"))?;
    hyphenated(text).ok_or_else(|| mistyped(pointer, "UUID string"))
}

/// Only the form with hyphens is one.
pub(super) fn hyphenated(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

fn nothing_else(rest: &Map<String, Value>, pointer: &str) -> Result<(), Problem> {
    match rest.keys().next() {
        None => Ok(()),
        Some(key) => {
            Err(Problem::bad_request("unpermitted parameter").at(&format!("{pointer}/{}", metadata::camel(key))))
        }
    }
}

fn missing(pointer: &str) -> Problem {
    Problem::bad_request("is missing").at(pointer)
}

fn mistyped(pointer: &str, expected: &str) -> Problem {
    Problem::bad_request(format!("type mismatch (expected {expected})")).at(pointer)
}
