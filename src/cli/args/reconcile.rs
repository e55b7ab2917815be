//! `keyledger reconcile`.

use std::str::FromStr;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use keyledger_schemas::ids::{ProviderName, SourceName};
use keyledger_schemas::settings::Grace;

/// `reconcile`
#[derive(Debug, Args)]
pub struct Reconcile {
    /// What to compare with. Without it: Stripe.
    #[command(subcommand)]
    pub verb: Option<ReconcileVerb>,
    /// How to compare with Stripe.
    #[command(flatten)]
    pub stripe: ReconcileStripe,
}

/// `reconcile` alone: with Stripe.
#[derive(Debug, Args)]
pub struct ReconcileStripe {
    /// From when on: so many days or hours back, or a time.
    #[arg(long, default_value = "30d", value_name = "30d|TIME")]
    pub since: Since,
    /// Append what is missing. Without it nothing is written.
    #[arg(long)]
    pub apply: bool,
    /// One source alone [default: all that have an API key].
    #[arg(long, value_name = "NAME")]
    pub source: Option<SourceName>,
}

/// What else the log is compared with.
#[derive(Debug, Subcommand)]
pub enum ReconcileVerb {
    /// License engines: what they hold, against what was paid for.
    #[command(
        after_help = "Lists all keys of each product that the catalog, prices' metadata or licenses name, and all customers
where the engine shows them, and changes nothing. What it finds:
  payment_without_key    paid for, and the engine holds no key
  wrong_expiry           the key ends at another time; up to two days later where days alone count
  wrong_state            the key works and should not, or the other way round
  two_keys               two keys that work for one paid unit
  key_without_payment    a key that works, and nothing that was paid
  customer_without_key   a customer of Stripe's whom the engine knows, and who has no key there

Exits with 3 if it found something, and with 4 if an engine does not answer.

Examples:
  keyledger reconcile provider
  keyledger reconcile provider cryptolens --json"
    )]
    Provider(ReconcileProvider),
}

/// `reconcile provider`
#[derive(Debug, Args)]
pub struct ReconcileProvider {
    /// The engine [default: all that are configured].
    #[arg(value_name = "NAME")]
    pub name: Option<ProviderName>,
}

/// From when on: a length of time back from now, or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Back(Grace),
    /// Then.
    At(Timestamp),
}

impl Since {
    /// The time that it means `now`.
    pub fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Back(length) => {
                now.saturating_sub(SignedDuration::from_secs(length.seconds())).unwrap_or(Timestamp::MIN)
            }
            Self::At(at) => at,
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = || text.parse().map(Self::At);
        text.parse().map(Self::Back).or_else(|_| at()).map_err(|_| {
            format!("`{text}` is neither a length of time such as 30d or 12h nor a time such as 2026-01-01T00:00:00Z")
        })
    }
}
