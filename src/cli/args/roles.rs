//! Running: everything, single roles, the demonstration, setting up.

use clap::{Args, ValueEnum};

/// `up`
#[derive(Debug, Default, Args)]
pub struct Up {
    /// Leave a role out, for maintenance. The views stay right.
    #[arg(long, value_name = "ROLE")]
    pub without: Vec<Left>,
    /// Go on with a log that was restored from a backup older than the views.
    #[arg(long)]
    pub accept_loss: bool,
}

/// A role that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Left {
    /// Nothing is issued; cases open and age.
    Issuer,
}

/// `ingest`, `issuer`, `projector`, `console`
#[derive(Debug, Default, Args)]
pub struct RoleArgs {
    /// Go on although the log lacks events that its mirror or the views have: it was restored from an older backup.
    #[arg(long)]
    pub accept_loss: bool,
}

/// `health`
#[derive(Debug, Args)]
pub struct Health {
    /// Which one.
    #[arg(default_value = "ingest")]
    pub role: Service,
}

/// A role that may be a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// It takes webhooks.
    Ingest,
    /// It makes licenses.
    Issuer,
    /// It keeps the views.
    Projector,
    /// It answers the API.
    Console,
}

/// `demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave when all is shown.
    #[arg(long)]
    pub exit: bool,
    /// The Stripe API version that the events are written in.
    #[arg(long, default_value = "2026-07-29.dahlia", value_parser = ["2026-07-29.dahlia", "2024-06-20"])]
    pub api_version: String,
}

/// `init`
#[derive(Debug, Args)]
pub struct Init {}
