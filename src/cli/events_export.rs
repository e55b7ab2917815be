//! `keyledger events export`: the whole log in a file.

use super::Context;
use super::args::ExportEvents;
use crate::output::{Exit, WrongUse};

/// Writes every event.
///
/// # Errors
///
/// When the log cannot be read, or the file not be written.
pub async fn run(_: &Context, _: &ExportEvents) -> anyhow::Result<Exit> {
    std::future::ready(Err(WrongUse("this version cannot export yet".to_owned()).into())).await
}
