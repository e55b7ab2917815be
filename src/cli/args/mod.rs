//! What can be written on the command line.

mod cases;
mod customers;
mod events;
mod licenses;
mod reading;
mod reconcile;
mod roles;
mod sandbox;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use cases::*;
pub use customers::*;
pub use events::*;
pub use licenses::*;
pub use reading::*;
pub use reconcile::*;
pub use roles::*;
pub use sandbox::*;

/// Turns verified Stripe webhooks into license keys, and shows who was charged and has no key.
#[derive(Debug, Parser)]
#[command(
    name = "keyledger",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Examples:
  keyledger demo                                    see it work, without a Stripe account
  keyledger init && keyledger doctor                set up this folder, and check it
  STRIPE_WEBHOOK_SECRET=whsec_… keyledger           run everything, keeping data in ./data
  keyledger cases                                   who was charged and has no key
  keyledger search ana@example.com                  find a customer by anything they wrote

Exit codes: 0 fine, 1 failed, 2 wrong use, 3 ran and found something, 4 not reachable."
)]
pub struct Arguments {
    /// The arguments that all verbs share.
    #[command(flatten)]
    pub shared: Shared,
    /// What to do. Without a verb: `up`.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Arguments that all verbs share.
#[derive(Clone, Debug, Args)]
pub struct Shared {
    /// The settings file [default: keyledger.toml, if it is there].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON instead of tables: one object, or one on each line.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print data and errors alone.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print without colors. The variable `NO_COLOR` does the same.
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run everything in this process (what `keyledger` alone does).
    #[command(after_help = "Prints one line of JSON on stdout once it is ready, and words on stderr:
  {\"ready\": true, \"ingest\": \"http://127.0.0.1:8080\", \"api\": \"http://127.0.0.1:8081\"}

Examples:
  keyledger up
  keyledger up --config /etc/keyledger.toml
  keyledger up --without issuer                     take webhooks and show cases, but issue nothing
  keyledger up --accept-loss                        once, after restoring an older backup
  stripe listen --forward-to localhost:8080/webhooks/stripe")]
    Up(Up),
    /// Take webhooks into the log, and keep its mirror on NATS. One role alone; several may run.
    #[command(
        after_help = "Roles are processes of their own, on one machine or several, in any order, on one configuration:
PostgreSQL for log and views, and NATS, if `[nats]` is set. On one machine they share `data_dir`;
on several, copy its `keys` folder to those with an issuer or a console. Each prints a line like
  {\"ready\": true, \"role\": \"ingest\", \"ingest\": \"http://127.0.0.1:8080\"}

Told to stop, it takes requests for another moment (`ingest.drain_ms`), each answer ending its
connection, so that a proxy turns to the other one: restart them one after the other.

While the log lacks events that its mirror or the views have seen, it answers 503, and goes on by
itself once they are back; --accept-loss goes on without them.

Examples:
  keyledger ingest
  keyledger ingest --config /etc/keyledger.toml"
    )]
    Ingest(RoleArgs),
    /// Issue licenses. One role alone; of several one works, and the others stand by.
    #[command(after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"role\": \"issuer\", \"health\": \"http://127.0.0.1:8083\"}

`/health/ready` says whether it is `active` or `standby`. A standby takes over at once when the
other one leaves in order, and after `issuer.lease_ms` when it was killed. One that was replaced
stands by again; nothing it had in hand is recorded twice.

Examples:
  keyledger issuer
  KEYLEDGER_ISSUER__LISTEN=127.0.0.1:0 keyledger issuer      a second one on this machine")]
    Issuer(RoleArgs),
    /// Keep the views. One role alone; several may run.
    #[command(after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"role\": \"projector\", \"health\": \"http://127.0.0.1:8084\"}

Views that have seen events that the log lacks are left as they are until those are back;
--accept-loss makes the views anew.

Examples:
  keyledger projector
  keyledger projector --accept-loss                 once, after restoring an older backup")]
    Projector(RoleArgs),
    /// Answer the API, over the log and the views. One role alone; several may run.
    #[command(after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"role\": \"console\", \"api\": \"http://127.0.0.1:8081\"}

Example:
  keyledger console")]
    Console(RoleArgs),
    /// Show it at work: a service on a fresh folder, fed with made-up Stripe events.
    #[command(after_help = "Nothing is left behind, and nothing leaves this machine.

Examples:
  keyledger demo                                    stays up until Ctrl-C
  keyledger demo --exit                             leaves when all is shown")]
    Demo(Demo),
    /// Write a commented settings file, and make the deployment's keys and API token.
    #[command(after_help = "Never overwrites anything. Back up the keys together with the log.

Examples:
  keyledger init
  keyledger init --config /etc/keyledger.toml")]
    Init(Init),
    /// Check everything, one line each, and say how to mend it.
    #[command(
        after_help = "License engines that are configured are asked whether they can serve us, and Stripe whether the API
key may read. Exits with 3 if something is wrong.

Example:
  keyledger doctor"
    )]
    Doctor,
    /// Ask a role on this machine whether it can do its work.
    #[command(
        after_help = "For health checks: it asks the address that the settings give the role, and prints the answer. Exits
with 3 if the role is not ready, and with 4 if it does not answer.

Examples:
  keyledger health                                  that of `keyledger up`, or of `keyledger ingest`
  keyledger health issuer"
    )]
    Health(Health),
    /// What a person must look at; above all, who was charged and has no key.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  keyledger cases                                   those that are open
  keyledger cases --kind no_key --json
  keyledger cases show kl_cas_…                     everything about one
  keyledger cases retry kl_cas_…                    try again at once
  keyledger cases waive kl_cas_… --reason \"refunded by bank transfer\"
  keyledger cases attach kl_cas_… Id=88121 --reason \"made by hand\"
  keyledger repair --all                            what would be done about all of them"
    )]
    Cases(Cases),
    /// Customers with what they bought.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  keyledger customers
  keyledger customers show cus_…
  keyledger customers link cus_…                    where they sign up at the license engine
  keyledger customers --mode test --json"
    )]
    Customers(Customers),
    /// Subscriptions with what they are paid until.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  keyledger subscriptions
  keyledger subscriptions show sub_…
  keyledger subscriptions show sub_… --at 2026-03-01T00:00:00Z"
    )]
    Subscriptions(Listing),
    /// Licenses and their state; license files.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  keyledger licenses --customer cus_…
  keyledger licenses show 0190c1d0-…
  keyledger licenses suspend 0190c1d0-… --reason \"the card was stolen\"
  keyledger licenses extend 0190c1d0-… --until 2026-06-01T00:00:00Z --reason \"goodwill\"
  keyledger licenses file 0190c1d0-… > ana.license  a signed file for use without internet
  keyledger licenses verify ana.license             whether it is genuine and still valid"
    )]
    Licenses(Licenses),
    /// The log itself.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  keyledger events                                  the newest
  keyledger events --follow
  keyledger events --type stripe.invoice.paid --limit 20
  keyledger events show evt_…                       with the bytes as Stripe sent them
  keyledger events verify                           read all of it and check the hash chain"
    )]
    Events(Events),
    /// Prices that were seen, and what each one means; those that were paid for and mean nothing.
    #[command(
        after_help = "Says of each price which engine's product it sells, with how many seats, and by which rule; what is
an add-on (`addon_of`), what sells no license (`skip`), and what bills metered usage: keyledger
reports no usage to Stripe, and makes a license for such a price only with a fixed number of seats.

Exits with 3 if a price was paid for and means nothing.

Examples:
  keyledger catalog
  keyledger catalog --json"
    )]
    Catalog,
    /// Find anything by id, address, key, or a query.
    #[command(after_help = "Examples:
  keyledger search ana@example.com
  keyledger search sub_1MowQV…
  keyledger search 9F4C                             the last four of a key
  keyledger search 'is:no-key amount>=50 created:-7d'")]
    Search(Search),
    /// Rebuild the views from the log into a side copy, compare, and switch.
    #[command(after_help = "Replaying never issues, mails or calls out.

Examples:
  keyledger replay
  keyledger replay --to 1000 --into /tmp/views.db   the views as they were at position 1000, beside the live ones")]
    Replay(Replay),
    /// Prove the promise: the issuer's books against the views, and the hash chain.
    #[command(
        after_help = "Compares what is open and every license. Exits with 3 and lists each difference, if there is one.

Example:
  keyledger check"
    )]
    Check,
    /// What would repair cases, step by step with reasons; with --apply, do what is safe.
    #[command(
        after_help = "Prints the plan first: what keyledger would do, what a person must do, with the command for it,
and what only takes time. With --apply the steps of keyledger's are recorded, and the issuer does
them: a license is asked for again, made although another system was to make it, or attached where
Stripe's metadata names it. Applying it twice is harmless.

Exits with 3 if there is something to do, or, with --apply, if something is left to a person.

Examples:
  keyledger repair --all
  keyledger repair kl_cas_…
  keyledger repair --all --apply --by ana"
    )]
    Repair(Repair),
    /// Hold the log against Stripe, and license engines against what was paid for.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Reads Stripe's list of events, those first that some endpoint did not take, and beyond the 30
days that Stripe keeps them subscriptions, paid invoices, sessions, refunds and disputes. Without
--apply nothing is written. With it, what the log lacks is appended as if it had been delivered:
what it pays for is issued, and doing it again changes nothing. Needs an API key; the issuer does
the same by itself, every `stripe.<source>.reconcile_every`.

Exits with 3 if something is missing, or could not be looked at; with 4 if Stripe does not answer.

Examples:
  keyledger reconcile                               what is missing of the last 30 days
  keyledger reconcile --apply
  keyledger reconcile --since 400d --source eu_shop --json
  keyledger reconcile --since 2026-01-01T00:00:00Z --apply
  keyledger reconcile provider                      keys without a payment, payments without a key"
    )]
    Reconcile(Reconcile),
    /// Copy the log and the keys into a folder, safely beside a running service.
    #[command(
        after_help = "The folder may hold an earlier backup: it is replaced once the new one is whole. Keep it as secret as the keys are.

Example:
  keyledger backup ./backup"
    )]
    Backup(Backup),
    /// JSON Schemas of keyledger's own events, and of what they carry.
    #[command(after_help = "Examples:
  keyledger schemas                                 all, one on each line
  keyledger schemas license.issued
  keyledger schemas --export ./schemas              one file for each")]
    Schemas(Schemas),
    /// Stand-ins for Stripe and the license engines, to try the whole loop without an account.
    #[command(
        after_help = "Each is a process of its own, strict about what it takes, with what it holds in memory. Any token or
key of theirs is `sandbox`. A loop on one machine, in two terminals:
  keyledger sandbox cryptlex

  export KEYLEDGER_PROVIDER__CRYPTLEX__BASE_URL=http://127.0.0.1:8091
  export KEYLEDGER_PROVIDER__CRYPTLEX__ACCESS_TOKEN=sandbox
  keyledger                                         issues there what the catalog maps there

  curl localhost:8091/control/state                 what was made

Example:
  keyledger sandbox stub --listen 127.0.0.1:8090"
    )]
    Sandbox(Sandbox),
}

impl Default for Verb {
    fn default() -> Self {
        Self::Up(Up::default())
    }
}
