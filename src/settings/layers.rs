//! Where settings come from: the file, the well-known variables, and `KEYLEDGER_…`, each later one winning.
//!
//! The defaults are not a layer: they are the `Default` of the types that the values are read into.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

/// What every variable of ours begins with.
const PREFIX: &str = "KEYLEDGER_";

/// What separates the parts of a setting's path in a variable's name.
const SEPARATOR: &str = "__";

/// Variables that other tools know too, and the setting of the source `default` that each one is.
const WELL_KNOWN: [(&str, &str); 2] = [("STRIPE_WEBHOOK_SECRET", "webhook_secrets"), ("STRIPE_API_KEY", "api_key")];

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "keyledger.toml";

/// The variables of the process, captured once.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl<T: Into<String>> FromIterator<(T, T)> for Environment {
    fn from_iter<I: IntoIterator<Item = (T, T)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Environment {
    /// The variables of this process. Those that are not text are left out: none of ours is.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// These variables, for tests.
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        Self::from_iter(variables)
    }

    /// The value of `name`, unless it is absent or blank.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    /// The raw text of the variable that sets `path`, if one does.
    pub(super) fn raw(&self, path: &[&str]) -> Option<&str> {
        let ours = self.0.get(&variable(path)).map(String::as_str);
        let well_known = || {
            let ["stripe", "default", key] = path else { return None };
            let (name, _) = WELL_KNOWN.into_iter().find(|(_, known)| known == key)?;
            self.0.get(name).map(String::as_str)
        };
        ours.or_else(well_known)
    }
}

/// The variable that sets `path`.
fn variable(path: &[&str]) -> String {
    format!("{PREFIX}{}", path.join(SEPARATOR).to_uppercase())
}

/// One layer of variables, as figment wants it.
struct Variables {
    /// How the layer calls itself in messages.
    name: &'static str,
    values: Vec<(Vec<String>, String)>,
}

impl Provider for Variables {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        for (path, text) in &self.values {
            insert(&mut dict, path, parse(text));
        }
        Ok(Profile::Default.collect(dict))
    }
}

/// Numbers, lists and tables may be written as in TOML; everything else, nothing at all included, is text as it stands.
fn parse(text: &str) -> Value {
    match text.parse::<Value>() {
        Ok(Value::Empty(..)) => Value::from(text),
        Ok(value) => value,
        Err(never) => match never {},
    }
}

fn insert(dict: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            dict.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = dict.entry(first.clone()).or_insert_with(|| Value::Dict(Tag::Default, Dict::new()));
            if let Value::Dict(_, inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The name of the layer of `KEYLEDGER_…` variables.
const OURS: &str = "environment";
/// The name of the layer of variables that other tools know too.
const OTHERS: &str = "well-known environment";

/// The settings that stand somewhere, and where.
pub(super) struct Layers {
    figment: Figment,
    /// The file that was read, if one was.
    pub(super) file: Option<PathBuf>,
}

/// Which layer a value came from. A later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    File,
    WellKnown,
    Environment,
}

impl Layers {
    /// Puts the layers on top of each other. A file that is named must be there; the default one may be missing.
    pub(super) fn new(file: Option<&Path>, environment: &Environment) -> Self {
        let default = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        let mut figment = Figment::new();
        if let Some(file) = file {
            figment = figment.merge(Toml::file(file).search(false).required(true));
        }
        let well_known = WELL_KNOWN
            .into_iter()
            .filter_map(|(name, key)| {
                let value = environment.0.get(name)?;
                Some((vec!["stripe".to_owned(), "default".to_owned(), key.to_owned()], value.clone()))
            })
            .collect();
        let ours = environment
            .0
            .iter()
            .filter_map(|(name, value)| {
                let path = name.strip_prefix(PREFIX)?.to_lowercase();
                Some((path.split(SEPARATOR).map(str::to_owned).collect(), value.clone()))
            })
            .collect();
        let figment =
            figment.merge(Variables { name: OTHERS, values: well_known }).merge(Variables { name: OURS, values: ours });
        Self { figment, file: file.map(Path::to_owned) }
    }

    /// Everything that stands somewhere, as one table.
    pub(super) fn table(&self) -> Result<Dict, Box<figment::Error>> {
        match self.figment.find_value("") {
            Ok(Value::Dict(_, dict)) => Ok(dict),
            Ok(_) => Ok(Dict::new()),
            Err(error) => Err(Box::new(error)),
        }
    }

    /// The layer of a value.
    pub(super) fn layer(&self, value: &Value) -> Layer {
        match self.figment.get_metadata(tag_of(value)).map(|metadata| metadata.name.as_ref()) {
            Some(OURS) => Layer::Environment,
            Some(OTHERS) => Layer::WellKnown,
            _ => Layer::File,
        }
    }

    /// Where a value came from, in words for a person.
    pub(super) fn origin(&self, value: &Value, path: &[&str]) -> String {
        match self.layer(value) {
            Layer::Environment => format!("from {}", variable(path)),
            Layer::WellKnown => {
                let known = WELL_KNOWN.into_iter().find(|(_, key)| path.last() == Some(key));
                known.map_or_else(|| "from the environment".to_owned(), |(name, _)| format!("from {name}"))
            }
            Layer::File => match &self.file {
                Some(file) => format!("in {}", file.display()),
                None => "built in".to_owned(),
            },
        }
    }
}

/// A table has the tag of what is in it: the layers' own tables are merged and carry none.
fn tag_of(value: &Value) -> Tag {
    match value {
        Value::Dict(tag, dict) if tag.is_default() => dict.values().next().map_or(*tag, tag_of),
        _ => value.tag(),
    }
}
