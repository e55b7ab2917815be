//! `keyledger customers`.

use clap::{Args, Subcommand};

use super::{Page, Scope, Show};

/// `customers`
#[derive(Debug, Args)]
pub struct Customers {
    /// One alone. Without it: list them.
    #[command(subcommand)]
    pub verb: Option<CustomerVerb>,
    /// What is read.
    #[command(flatten)]
    pub scope: Scope,
    /// How much.
    #[command(flatten)]
    pub page: Page,
}

/// Looking at one customer.
#[derive(Debug, Subcommand)]
pub enum CustomerVerb {
    /// Everything about one.
    #[command(after_help = "Example:\n  keyledger customers show cus_…")]
    Show(Show),
    /// The link by which a customer opens a portal of their own at the license engine; asks the engine for it.
    #[command(after_help = "It lets in whoever has it: give it to the customer alone. An earlier one may end.

Examples:
  keyledger customers link cus_…
  keyledger customers link                          the one that anybody may sign up with, where the settings name it")]
    Link(LinkCustomer),
}

/// `customers link`
#[derive(Debug, Args)]
pub struct LinkCustomer {
    /// `cus_…`. Without it: the link that is the same for all.
    pub customer: Option<String>,
    /// The engine, where several are configured.
    #[arg(long, default_value = "cryptolens")]
    pub provider: String,
    /// What is read.
    #[command(flatten)]
    pub scope: Scope,
}
