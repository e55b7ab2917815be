//! Looking: lists, single things, search.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use keyledger_schemas::ids::{Mode, SourceName};

/// What is read.
#[derive(Clone, Debug, Default, Args)]
pub struct Scope {
    /// Live or test mode.
    #[arg(long, default_value = "live", value_name = "live|test")]
    pub mode: Mode,
    /// One source alone.
    #[arg(long, value_name = "NAME")]
    pub source: Option<SourceName>,
    /// As things stood, or will stand, at this time, e.g. 2026-03-01T00:00:00Z [default: now].
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
}

/// How much is listed.
#[derive(Clone, Debug, Args)]
pub struct Page {
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
    /// All of them.
    #[arg(long)]
    pub all: bool,
}

/// `subscriptions`
#[derive(Debug, Args)]
pub struct Listing {
    /// One alone. Without it: list them.
    #[command(subcommand)]
    pub verb: Option<ShowVerb>,
    /// What is read.
    #[command(flatten)]
    pub scope: Scope,
    /// How much.
    #[command(flatten)]
    pub page: Page,
}

/// Looking at one thing.
#[derive(Debug, Subcommand)]
pub enum ShowVerb {
    /// Everything about one.
    #[command(after_help = "Example:\n  keyledger subscriptions show sub_…")]
    Show(Show),
}

/// `show`
#[derive(Debug, Args)]
pub struct Show {
    /// Its id.
    pub id: String,
    /// What is read.
    #[command(flatten)]
    pub scope: Scope,
}

/// `search`
#[derive(Debug, Args)]
pub struct Search {
    /// What to look for.
    #[arg(required = true, num_args = 1.., value_name = "QUERY")]
    pub query: Vec<String>,
    /// What is read.
    #[command(flatten)]
    pub scope: Scope,
}
