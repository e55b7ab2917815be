//! Settings: any file and any variables come to settings or to problems that say what to mend, and neither shows a secret.
//!
//! The input is the text of a settings file. A comment `#env NAME=value` sets a variable besides. After it was read as it
//! is, every secret in it is replaced by one that is known to the harness, and what is said then must not have it in it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Num, Value};
use keyledger::settings::{BadSettings, Environment, Settings};

/// What stands in the place of every secret, as text and as a number.
const PLANTED: &str = "planted7f3a";
const PLANTED_NUMBER: i64 = 730_511_894_305_118;

/// The settings that hold secrets, by the last part of their names, where nothing else can be told of them.
const SECRETS: [&str; 7] =
    ["access_token", "api_key", "log_password", "password", "token", "views_password", "webhook_secrets"];

/// Reads any text as settings, and again with secrets that are known.
pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let file = tempfile::NamedTempFile::new().unwrap();
    let variables = variables(&text);
    let said = check(file.path(), &text, &variables);
    assert_eq!(said, check(file.path(), &text, &variables), "the same settings come to the same");

    let number = PLANTED_NUMBER.to_string();
    if text.contains(PLANTED) || text.contains(&number) {
        return;
    }
    let planted: Vec<_> = variables.iter().map(|(name, value)| (name.clone(), planted_variable(name, value))).collect();
    let said = check(file.path(), &with_planted_secrets(&text), &planted);
    assert!(!said.contains(PLANTED) && !said.contains(&number), "a secret is told:\n{said}\nof\n{text}");
}

/// Everything that is said about the settings: what they come to and are warned of, or what is wrong.
fn check(path: &Path, text: &str, variables: &[(String, String)]) -> String {
    fs::write(path, text).unwrap();
    let environment: Environment = variables.iter().cloned().collect();
    match Settings::load(Some(path), &environment) {
        Err(bad) => problems(&bad, path),
        Ok(settings) => {
            let deciding = settings.deciding();
            let recorded = serde_json::to_string(&deciding).unwrap();
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&recorded).unwrap(),
                serde_json::to_value(&deciding).unwrap()
            );
            assert_eq!(
                serde_json::from_str::<keyledger_schemas::settings::DecidingSettings>(&recorded).unwrap(),
                deciding
            );
            let mut said = vec![format!("{settings:?}"), recorded];
            said.extend(settings.warnings());
            said.extend(settings.warnings_of_roles());
            said.extend(settings.require_sources().map_err(|bad| problems(&bad, path)).err());
            said.join("\n")
        }
    }
}

/// Each problem says which setting it is about, or that it is about the file.
fn problems(bad: &BadSettings, path: &Path) -> String {
    assert!(!bad.problems.is_empty());
    for problem in &bad.problems {
        let names_the_file = problem.0.starts_with(&path.display().to_string());
        assert!(names_the_file || problem.0.split('`').count() > 2, "{problem}");
    }
    bad.to_string()
}

/// The variables that comments set.
fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("#env ")?.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether a setting, and whatever may stand in it, is a secret.
fn is_secret(path: &[&str]) -> bool {
    matches!(
        path,
        ["log_password" | "views_password", ..]
            | ["nats", "password" | "token", ..]
            | ["api", "token", ..]
            | ["stripe", _, "webhook_secrets" | "api_key", ..]
            | ["provider", _, "access_token" | "token", ..]
    )
}

/// Whether a setting is an address with, perhaps, a password in it.
fn is_address(path: &[&str]) -> bool {
    matches!(path, ["log" | "views"] | ["nats", "url"])
}

fn planted_variable(name: &str, value: &str) -> String {
    let path = match name {
        "STRIPE_WEBHOOK_SECRET" => "stripe__default__webhook_secrets".to_owned(),
        "STRIPE_API_KEY" => "stripe__default__api_key".to_owned(),
        name => name.strip_prefix("KEYLEDGER_").unwrap_or_default().to_lowercase(),
    };
    let path: Vec<&str> = path.split("__").collect();
    if is_secret(&path) {
        without_words(value)
    } else if is_address(&path) {
        with_login(value)
    } else {
        value.to_owned()
    }
}

/// The same settings with known secrets. What is not TOML keeps all else as it is, because its fault must stay.
fn with_planted_secrets(text: &str) -> String {
    let Ok(Value::Dict(_, mut table)) = Figment::from(Toml::string(text)).find_value("") else {
        return text.lines().map(line_with_planted_secrets).collect::<Vec<_>>().join("\n");
    };
    plant_in_table(&mut table, &[]);
    let mut written = String::new();
    for (key, value) in &table {
        write_key(key, &mut written);
        write_value(value, &mut written);
        written.push('\n');
    }
    written
}

fn line_with_planted_secrets(line: &str) -> String {
    let Some((key, value)) = line.split_once('=') else { return line.to_owned() };
    let name = key.rsplit(['.', '{', ',', '#']).next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    if SECRETS.contains(&name) { format!("{key}={}", without_words(value)) } else { line.to_owned() }
}

/// The text with every word of three letters or more replaced.
fn without_words(text: &str) -> String {
    let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut replaced = String::new();
    for part in text.split_inclusive(|c| !is_of_word(c)) {
        let word = part.trim_end_matches(|c| !is_of_word(c));
        let is_word = word.chars().count() >= 3;
        replaced.push_str(if is_word { PLANTED } else { word });
        replaced.push_str(&part[word.len()..]);
    }
    replaced
}

fn plant_in_table(table: &mut Dict, path: &[&str]) {
    for (key, value) in table {
        plant(value, &[path, &[key.as_str()]].concat());
    }
}

fn plant(value: &mut Value, path: &[&str]) {
    match value {
        Value::String(_, text) if is_address(path) => *text = with_login(text),
        Value::String(_, text) if is_secret(path) && !text.trim().is_empty() => PLANTED.clone_into(text),
        Value::Num(_, number) if is_secret(path) && number.to_i128().is_some() => *number = Num::I64(PLANTED_NUMBER),
        Value::Array(_, elements) => elements.iter_mut().for_each(|element| plant(element, path)),
        Value::Dict(_, table) => plant_in_table(table, path),
        _ => {}
    }
}

/// The address with a known password in it, if it is one of a server.
fn with_login(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let place = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://kl:{PLANTED}@{place}{path}")
}

fn write_key(key: &str, out: &mut String) {
    write_text(key, out);
    out.push('=');
}

/// A value of TOML on one line.
fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::String(_, text) => write_text(text, out),
        Value::Char(_, c) => write_text(&c.to_string(), out),
        Value::Bool(_, flag) => out.push_str(&flag.to_string()),
        Value::Num(_, number) => {
            let float = || number.to_f64().map(|float| format!("{float:?}"));
            out.push_str(&number.to_i128().map(|int| int.to_string()).or_else(float).unwrap_or_default());
        }
        Value::Empty(..) => out.push_str("\"\""),
        Value::Array(_, elements) => {
            out.push('[');
            for element in elements {
                write_value(element, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Dict(_, table) => {
            out.push('{');
            for (index, (key, value)) in table.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write_key(key, out);
                write_value(value, out);
            }
            out.push('}');
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "\\U{:08X}", u32::from(c));
        }
    }
    out.push('"');
}
