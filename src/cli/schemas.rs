//! `keyledger schemas`: JSON Schemas of keyledger's own events, and of what they carry.

use std::fs;

use anyhow::Context as _;
use keyledger_schemas::json;
use serde_json::json;

use super::Context;
use super::args::Schemas;
use crate::output::{Exit, WrongUse};

/// Prints one or all, or writes a file for each.
///
/// # Errors
///
/// When there is no such schema, or a file cannot be written.
pub fn run(context: &Context, schemas: &Schemas) -> anyhow::Result<Exit> {
    let documents = json::documents();
    if let Some(folder) = &schemas.export {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        for (file, schema) in &documents {
            let file = folder.join(file);
            fs::write(&file, json::text(schema)).with_context(|| format!("writing {}", file.display()))?;
        }
        context.output.words(format!("{} schemas are in {}", documents.len(), folder.display()));
        return Ok(Exit::Fine);
    }
    let documents = documents.into_iter().map(|(file, schema)| (file.trim_end_matches(".json").to_owned(), schema));
    let Some(wanted) = &schemas.kind else {
        for (name, schema) in documents {
            context.output.value(&json!({"type": name, "schema": schema}))?;
        }
        return Ok(Exit::Fine);
    };
    let documents: Vec<_> = documents.collect();
    let Some((_, schema)) = documents.iter().find(|(name, _)| name == wanted) else {
        let names: Vec<&str> = documents.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        return Err(WrongUse(format!("there is no schema `{wanted}`; here are {names}")).into());
    };
    let text = if context.output.json { schema.to_string() } else { json::text(schema).trim_end().to_owned() };
    context.output.line(text)?;
    Ok(Exit::Fine)
}
