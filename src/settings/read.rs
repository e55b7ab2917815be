//! Reads a table of settings one value at a time, so that every problem is found at once and each says where it stands.

use figment::error::{Actual, Kind};
use figment::value::{Dict, Tag, Value};
use serde::de::DeserializeOwned;

use super::layers::{Environment, Layers};

/// Something that is wrong with the settings: where, what, and where the value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(pub String);

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads values and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) layers: &'a Layers,
    environment: &'a Environment,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers, environment: &'a Environment) -> Self {
        Self { layers, environment, problems: Vec::new() }
    }

    /// Notes a problem.
    pub(super) fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(Problem(text.into()));
    }

    /// The value as a table; a problem and an empty one if it is something else.
    pub(super) fn table(&mut self, path: &[&str], value: Option<Value>) -> Dict {
        match value {
            None => Dict::new(),
            Some(Value::Dict(_, dict)) => dict,
            Some(other) => {
                let origin = self.layers.origin(&other, path);
                self.problem(format!("`{}` must be a table ({origin})", path.join(".")));
                Dict::new()
            }
        }
    }

    /// Reads a table into `T`, whose fields all have defaults. Each value is tried alone: the good ones are kept, and
    /// each bad one is a problem. `None` if even the defaults cannot be read.
    pub(super) fn section<T: DeserializeOwned>(&mut self, path: &[&str], table: Dict) -> Option<T> {
        let mut good = Dict::new();
        for (key, value) in table {
            if let Some(value) = self.tried::<T>(path, &key, value) {
                good.insert(key, value);
            }
        }
        match Value::Dict(Tag::Default, good).deserialize() {
            Ok(section) => Some(section),
            Err(error) => {
                self.problem(format!("`{}`{}", path.join("."), in_words(&error.kind)));
                None
            }
        }
    }

    /// The value in the form in which `T` takes it, or nothing and a problem.
    fn tried<T: DeserializeOwned>(&mut self, path: &[&str], key: &str, value: Value) -> Option<Value> {
        let full: Vec<&str> = path.iter().copied().chain([key]).collect();
        let kind = match trial::<T>(key, value.clone()) {
            Ok(()) => return Some(value),
            Err(kind) => kind,
        };
        // A variable is text: a token of digits alone looks like a number until somebody wants text.
        if let Some(raw) = self.environment.raw(&full) {
            let text = Value::from(raw);
            if trial::<T>(key, text.clone()).is_ok() {
                return Some(text);
            }
        }
        let origin = self.layers.origin(&value, &full);
        let name = full.join(".");
        let text = match kind {
            Kind::UnknownField(_, known) => unknown(&name, key, known),
            _ if is_secret(key) => format!("`{name}` must be text, or a list of texts"),
            kind => format!("`{name}`{}", in_words(&kind)),
        };
        self.problem(format!("{text} ({origin})"));
        None
    }

    /// The text of the variable that sets a key, where one does.
    pub(super) fn text_of_variable(&self, path: &[&str], key: &str) -> Option<String> {
        let full: Vec<&str> = path.iter().copied().chain([key]).collect();
        self.environment.raw(&full).map(str::to_owned)
    }

    /// Notes every key of `table` that is not in `known`.
    pub(super) fn refuse_unknown(&mut self, path: &[&str], table: &Dict, known: &[&str]) {
        for (key, value) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let full: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
            let origin = self.layers.origin(value, &full);
            let text = unknown(&full.join("."), key, known);
            self.problem(format!("{text} ({origin})"));
        }
    }

    /// Of a setting and its `…_file` twin the one from the later layer counts; both in one layer is a problem.
    pub(super) fn choose_twin(&mut self, path: &[&str], table: &mut Dict, key: &str) {
        let twin = format!("{key}_file");
        let (Some(plain), Some(file)) = (table.get(key), table.get(&twin)) else { return };
        match self.layers.layer(plain).cmp(&self.layers.layer(file)) {
            std::cmp::Ordering::Less => drop(table.remove(key)),
            std::cmp::Ordering::Greater => drop(table.remove(&twin)),
            std::cmp::Ordering::Equal => {
                let full: Vec<&str> = path.iter().copied().chain([key]).collect();
                let origin = self.layers.origin(plain, &full);
                let at = full.join(".");
                self.problem(format!("`{at}` and `{at}_file` are both set: leave one out ({origin})"));
            }
        }
    }
}

/// Whether `T` takes `key = value`, all else being absent.
fn trial<T: DeserializeOwned>(key: &str, value: Value) -> Result<(), Kind> {
    let table = Dict::from([(key.to_owned(), value)]);
    Value::Dict(Tag::Default, table).deserialize::<T>().map(drop).map_err(|error| error.kind)
}

/// What is wrong with a value, to go on after its name. The parser speaks of Rust's types, which nobody wrote.
fn in_words(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!(" must be {}, not {}", expected_in_words(expected), found_in_words(found))
        }
        Kind::UnknownVariant(found, expected) => {
            let expected: Vec<String> = expected.iter().map(|value| format!("\"{value}\"")).collect();
            format!(" must be {}, not \"{found}\"", expected.join(" or "))
        }
        Kind::ISizeOutOfRange(number) => format!(": {number} is out of range"),
        Kind::USizeOutOfRange(number) => format!(": {number} is out of range"),
        other => format!(": {other}"),
    }
}

fn expected_in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number of 0 or more",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "text in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        other => other,
    }
}

fn found_in_words(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        Actual::Char(text) => format!("\"{text}\""),
        Actual::Str(text) => format!("\"{text}\""),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// Whether a wrong value of this setting must not be shown.
fn is_secret(key: &str) -> bool {
    !key.ends_with("_file")
        && !key.starts_with("allow_")
        && ["secret", "token", "key", "password"].iter().any(|word| key.contains(word))
}

fn unknown(name: &str, key: &str, known: &[&str]) -> String {
    let near = known.iter().map(|known| (distance(key, known), *known)).min();
    match near {
        Some((distance, near)) if distance <= 1 + key.len() / 3 => {
            format!("`{name}` is not a setting; did you mean `{near}`?")
        }
        _ => format!("`{name}` is not a setting; here are {}", known.join(", ")),
    }
}

/// How many letters must be added, left out, replaced, or swapped with their neighbor to make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_of_neighbors_is_one_mistake() {
        assert_eq!(distance("lisetn", "listen"), 1);
        assert_eq!(distance("grace", "grace"), 0);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn a_wild_guess_gets_the_list() {
        assert_eq!(
            unknown("api.xyzzy", "xyzzy", &["listen", "token"]),
            "`api.xyzzy` is not a setting; here are listen, token"
        );
        assert!(unknown("api.lisetn", "lisetn", &["listen", "token"]).ends_with("did you mean `listen`?"));
    }
}
