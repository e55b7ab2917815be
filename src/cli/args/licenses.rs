//! `keyledger licenses`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{Page, Scope};

/// `licenses`
#[derive(Debug, Args)]
pub struct Licenses {
    /// What to do with one license. Without it: list them.
    #[command(subcommand)]
    pub verb: Option<LicenseVerb>,
    /// What is read.
    #[command(flatten)]
    pub scope: Scope,
    /// How much.
    #[command(flatten)]
    pub page: Page,
    /// Of this subscription.
    #[arg(long, value_name = "SUB")]
    pub subscription: Option<String>,
    /// Of this customer.
    #[arg(long, value_name = "CUS")]
    pub customer: Option<String>,
    /// Of the customers with this address.
    #[arg(long)]
    pub email: Option<String>,
}

/// What can be done with a license.
#[derive(Debug, Subcommand)]
pub enum LicenseVerb {
    /// Everything about one.
    #[command(after_help = "Example:\n  keyledger licenses show 0190c1d0-… --reveal")]
    Show(ShowLicense),
    /// Stop one for now, whatever is paid, until a person reinstates it.
    #[command(
        after_help = "Example:\n  keyledger licenses suspend 0190c1d0-… --reason \"the card was stolen\" --by ana"
    )]
    Suspend(Act),
    /// Take back what a person stopped or revoked. What Stripe says still holds.
    #[command(
        after_help = "Example:\n  keyledger licenses reinstate 0190c1d0-… --reason \"settled by phone\" --by ana"
    )]
    Reinstate(Act),
    /// Stop one for good. Only a person's revoke is final: no payment brings it back, but a person may.
    #[command(after_help = "Example:\n  keyledger licenses revoke 0190c1d0-… --reason \"shared in public\"")]
    Revoke(Act),
    /// Let one work at least until a time, whatever is paid. A later request replaces this one.
    #[command(after_help = "What is paid until does not change, and a renewal that reaches further counts.

Example:
  keyledger licenses extend 0190c1d0-… --until 2026-06-01T00:00:00Z --reason \"goodwill\" --by ana")]
    Extend(ExtendLicense),
    /// Have one replaced by a new key; the old one is revoked once the new one is there.
    #[command(after_help = "Example:\n  keyledger licenses reissue 0190c1d0-… --reason \"the key leaked\" --by ana")]
    Reissue(Act),
    /// Write the signed license file, which proves the license without internet.
    #[command(after_help = "Example:\n  keyledger licenses file 0190c1d0-… > ana.license")]
    File(LicenseFile),
    /// Whether a license file is genuine and still valid. Exits with 3 if it is not.
    #[command(after_help = "Examples:
  keyledger licenses verify ana.license
  keyledger licenses verify ana.license --public-key license-signing.pub.pem")]
    Verify(VerifyLicense),
}

/// `licenses show`
#[derive(Debug, Args)]
pub struct ShowLicense {
    /// Which.
    pub id: String,
    /// What is read.
    #[command(flatten)]
    pub scope: Scope,
    /// Show the key. That is written into the log.
    #[arg(long)]
    pub reveal: bool,
    /// Who reveals it [default: $USER].
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// `licenses suspend`, `reinstate`, `revoke`, `reissue`
#[derive(Debug, Args)]
pub struct Act {
    /// Which.
    pub id: String,
    /// Its mode.
    #[command(flatten)]
    pub scope: Scope,
    /// Why.
    #[arg(long)]
    pub reason: String,
    /// Who does it [default: $USER].
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// `licenses extend`
#[derive(Debug, Args)]
pub struct ExtendLicense {
    /// Which, why and who.
    #[command(flatten)]
    pub act: Act,
    /// Until when, e.g. 2026-06-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub until: Timestamp,
}

/// `licenses file`
#[derive(Debug, Args)]
pub struct LicenseFile {
    /// Which.
    pub id: String,
    /// Its mode.
    #[command(flatten)]
    pub scope: Scope,
}

/// `licenses verify`
#[derive(Debug, Args)]
pub struct VerifyLicense {
    /// The file; `-` reads stdin.
    pub file: PathBuf,
    /// The public key that must have signed it, as PEM [default: this deployment's].
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
    /// Judge it at this time [default: now].
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
}
