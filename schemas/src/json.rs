//! The JSON Schemas of everything that leaves keyledger as an event, for those who read it in other languages.
//!
//! Committed under `schemas/json/`; a test fails when the files and the types disagree.

use serde_json::{Value, json};

use crate::envelope::Delivery;
use crate::event::Event;
use crate::settings::DecidingSettings;
use crate::stripe::fetched::Data;

/// Where the schemas are published, with the file's name appended.
const BASE: &str = "https://keyledger.dev/schemas/v1/";

/// Every schema with the name of its file, in a fixed order.
pub fn documents() -> Vec<(String, Value)> {
    let mut documents: Vec<(String, Value)> = Event::schemas()
        .into_iter()
        .map(|(kind, schema)| document(kind, &format!("Data of the event `{kind}`, schema version 1."), schema))
        .collect();
    let delivery = schemars::schema_for!(Delivery);
    documents.push(document("delivery", "How a Stripe event reached keyledger, kept beside its body.", delivery));
    let fetched = schemars::schema_for!(Data);
    documents.push(document("fetched", "What Stripe answered when it was asked.", fetched));
    let settings = schemars::schema_for!(DecidingSettings);
    documents.push(document(
        "deciding_settings",
        "Settings that decide: catalog, policy, sources, providers.",
        settings,
    ));
    documents
}

/// The text of a schema file: two-space indent, a final line feed.
pub fn text(document: &Value) -> String {
    format!("{document:#}\n")
}

fn document(name: &str, description: &str, schema: schemars::Schema) -> (String, Value) {
    let file = format!("{name}.json");
    let mut value = schema.to_value();
    if let Some(object) = value.as_object_mut() {
        object.insert("$id".to_owned(), json!(format!("{BASE}{file}")));
        object.insert("title".to_owned(), json!(name));
        let own = object.get("description").and_then(Value::as_str).unwrap_or_default();
        let text = if own.is_empty() { description.to_owned() } else { own.to_owned() };
        object.insert("description".to_owned(), json!(text));
    }
    (file, value)
}
