//! The log: `keyledger events`, `replay`, `backup`, `schemas`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `events`
#[derive(Debug, Args)]
pub struct Events {
    /// What to do. Without it: list them.
    #[command(subcommand)]
    pub verb: Option<EventVerb>,
    /// Which ones.
    #[command(flatten)]
    pub list: ListEvents,
}

/// `events list`, and `events` alone.
#[derive(Debug, Args)]
pub struct ListEvents {
    /// Those after this position, the oldest first [default: the newest; with --follow all].
    #[arg(long, value_name = "POSITION")]
    pub after: Option<u64>,
    /// At most so many [default: 50, with --follow no end].
    #[arg(long)]
    pub limit: Option<usize>,
    /// Of this type alone; a type that ends in `.` or `*` means all that begin so.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Of this stream alone.
    #[arg(long)]
    pub stream: Option<String>,
    /// Go on with new ones as they come, until Ctrl-C.
    #[arg(long, short)]
    pub follow: bool,
}

/// What can be done with the log.
#[derive(Debug, Subcommand)]
pub enum EventVerb {
    /// List them, as without a verb.
    #[command(after_help = "Example:\n  keyledger events list --type license. --follow")]
    List(ListEvents),
    /// One event, with its data.
    #[command(after_help = "Examples:
  keyledger events show 17                          by position
  keyledger events show evt_1MowQV…                 every rendering of that Stripe event
  keyledger events show 17 --raw                    the stored bytes alone")]
    Show(ShowEvent),
    /// Read the whole log and check positions, versions, content and chain. Exits with 3 at the first fault.
    #[command(after_help = "Example:\n  keyledger events verify")]
    Verify,
    /// Write the log into a file, to be imported elsewhere.
    #[command(
        after_help = "The file holds everything that the log holds, personal data among it. It is whole when it is there.

Examples:
  keyledger events export log.jsonl
  keyledger events export --after 41200 rest.jsonl   what came after that position
  keyledger events export - | gzip > log.jsonl.gz"
    )]
    Export(ExportEvents),
    /// Put an exported log back as it was: same positions, same times, same chain.
    #[command(
        after_help = "The log of the settings is made where there is none. What it holds already is compared and skipped, so that an
import that was interrupted is begun again. Stop keyledger first. What it knows beside the log, it makes anew at its next start.

Examples:
  keyledger events import log.jsonl
  gzip -dc log.jsonl.gz | keyledger events import -"
    )]
    Import(ImportEvents),
}

/// `events export`
#[derive(Debug, Args)]
pub struct ExportEvents {
    /// Where to write; `-` writes to stdout.
    pub file: PathBuf,
    /// Those after this position alone, for a log that holds the ones before it.
    #[arg(long, value_name = "POSITION")]
    pub after: Option<u64>,
}

/// `events import`
#[derive(Debug, Args)]
pub struct ImportEvents {
    /// What to read; `-` reads stdin.
    pub file: PathBuf,
}

/// `events show`
#[derive(Debug, Args)]
pub struct ShowEvent {
    /// A position, an event id, or the `evt_…` of a Stripe event.
    pub id: String,
    /// The stored bytes alone.
    #[arg(long)]
    pub raw: bool,
}

/// `replay`
#[derive(Debug, Args)]
pub struct Replay {
    /// Stop at this position. Only with --into.
    #[arg(long, value_name = "POSITION", requires = "into")]
    pub to: Option<u64>,
    /// Leave the copy here and do not switch.
    #[arg(long, value_name = "FILE")]
    pub into: Option<PathBuf>,
}

/// `backup`
#[derive(Debug, Args)]
pub struct Backup {
    /// Where to put `log.db` and `keys/`.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// `schemas`
#[derive(Debug, Args)]
pub struct Schemas {
    /// One event type alone, e.g. license.issued.
    #[arg(value_name = "TYPE", conflicts_with = "export")]
    pub kind: Option<String>,
    /// Write one file for each type into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub export: Option<PathBuf>,
}
