//! `keyledger events import`: an exported log, put back as it was.

use super::Context;
use super::args::ImportEvents;
use crate::output::{Exit, WrongUse};

/// Reads every event, and puts it where it was.
///
/// # Errors
///
/// When the log holds events already, or what is read is not a whole log.
pub async fn run(_: &Context, _: &ImportEvents) -> anyhow::Result<Exit> {
    std::future::ready(Err(WrongUse("this version cannot import yet".to_owned()).into())).await
}
