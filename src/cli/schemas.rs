//! `keyledger schemas`: JSON Schemas of keyledger's own events.

use std::fs;

use anyhow::Context as _;
use keyledger_schemas::event::Event;
use serde_json::json;

use super::Context;
use super::args::Schemas;
use crate::output::{Exit, WrongUse};

/// Prints one or all, or writes a file for each.
///
/// # Errors
///
/// When there is no such type, or a file cannot be written.
pub fn run(context: &Context, schemas: &Schemas) -> anyhow::Result<Exit> {
    if let Some(folder) = &schemas.export {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        for (kind, schema) in Event::schemas() {
            let file = folder.join(format!("{kind}.json"));
            let text = serde_json::to_string_pretty(&schema)? + "\n";
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        context.output.words(format!("{} schemas are in {}", Event::KINDS.len(), folder.display()));
        return Ok(Exit::Fine);
    }
    let Some(wanted) = &schemas.kind else {
        for (kind, schema) in Event::schemas() {
            context.output.value(&json!({"type": kind, "schema": schema}))?;
        }
        return Ok(Exit::Fine);
    };
    let found = Event::schemas().into_iter().find(|(kind, _)| kind == wanted);
    let Some((_, schema)) = found else {
        let kinds = Event::KINDS.join(", ");
        return Err(WrongUse(format!("`{wanted}` is not an event of keyledger; here are {kinds}")).into());
    };
    let text =
        if context.output.json { serde_json::to_string(&schema)? } else { serde_json::to_string_pretty(&schema)? };
    context.output.line(text)?;
    Ok(Exit::Fine)
}
