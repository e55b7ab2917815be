//! `keyledger cases`, and `repair`, which works through them.

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{Page, Scope};

/// `cases`
#[derive(Debug, Args)]
pub struct Cases {
    /// What to do. Without it: list them.
    #[command(subcommand)]
    pub verb: Option<CaseVerb>,
    /// Which ones.
    #[command(flatten)]
    pub list: ListCases,
}

/// `cases list`, and `cases` alone.
#[derive(Debug, Args)]
pub struct ListCases {
    /// What is read.
    #[command(flatten)]
    pub scope: Scope,
    /// How much.
    #[command(flatten)]
    pub page: Page,
    /// Of this kind alone, e.g. `no_key`.
    #[arg(long)]
    pub kind: Option<String>,
    /// Open or closed ones.
    #[arg(long, default_value = "open", value_parser = ["open", "closed", "waived", "all"])]
    pub status: String,
}

/// What can be done with cases.
#[derive(Debug, Subcommand)]
pub enum CaseVerb {
    /// List them, as without a verb.
    #[command(after_help = "Example:\n  keyledger cases list --kind no_key")]
    List(ListCases),
    /// Everything about one: why, how often it was tried, when it is tried next, what to do.
    #[command(after_help = "Example:\n  keyledger cases show kl_cas_…")]
    Show(ShowCase),
    /// Try again at once.
    #[command(after_help = "Example:\n  keyledger cases retry kl_cas_…")]
    Retry(OneCase),
    /// Close it without a license, with a name and a reason.
    #[command(after_help = "Example:\n  keyledger cases waive kl_cas_… --reason \"refunded by bank transfer\"")]
    Waive(Waive),
    /// Name the license that meets it: one that somebody made by hand.
    #[command(
        after_help = "At a configured engine the license is looked up first: it must be of the product that was sold, and
belong to nobody else. Then it gets our reference and the customer, and runs to what is paid. One
that may not be taken is left as it is, and the case shows why.

Examples:
  keyledger cases attach kl_cas_… Id=88121 --reason \"made by hand\"
  keyledger cases attach kl_cas_… globalId=812345 --reason \"made by hand\"
  keyledger cases attach kl_cas_… --provider cryptlex --provider-id 0190c1d0-… --reason \"made by hand\""
    )]
    Attach(Attach),
}

/// `cases show`
#[derive(Debug, Args)]
pub struct ShowCase {
    /// The case, as `keyledger cases` shows it.
    pub case: String,
    /// As things stood, or will stand, at this time, e.g. 2026-03-01T00:00:00Z [default: now].
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
}

/// One case, and who acts.
#[derive(Debug, Args)]
pub struct OneCase {
    /// The case, as `keyledger cases` shows it.
    pub case: String,
    /// Who does it [default: $USER].
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// `cases waive`
#[derive(Debug, Args)]
pub struct Waive {
    /// Which, and who.
    #[command(flatten)]
    pub one: OneCase,
    /// Why.
    #[arg(long)]
    pub reason: String,
}

/// `cases attach`
#[derive(Debug, Args)]
pub struct Attach {
    /// Which, and who.
    #[command(flatten)]
    pub one: OneCase,
    /// The license at Cryptolens, as its pages show it: Id=88121 or globalId=812345.
    #[arg(value_name = "Id=…|globalId=…", required_unless_present = "provider_id", conflicts_with = "provider_id")]
    pub license: Option<String>,
    /// The license engine that holds it. Not needed with Id=… and globalId=…, which are Cryptolens'.
    #[arg(long, required_unless_present = "license")]
    pub provider: Option<String>,
    /// The engine's own id of the license.
    #[arg(long)]
    pub provider_id: Option<String>,
    /// Why.
    #[arg(long)]
    pub reason: String,
}

/// `repair`
#[derive(Debug, Args)]
pub struct Repair {
    /// The cases, as `keyledger cases` shows them.
    #[arg(value_name = "CASE", required_unless_present = "all", conflicts_with = "all")]
    pub cases: Vec<String>,
    /// All open ones.
    #[arg(long)]
    pub all: bool,
    /// Do what is safe, after showing it.
    #[arg(long)]
    pub apply: bool,
    /// Who does it [default: $USER].
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// What is read.
    #[command(flatten)]
    pub scope: Scope,
}
