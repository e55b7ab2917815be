//! What can be written on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use keyledger_schemas::ids::{Mode, ProviderName, SourceName};
use keyledger_schemas::settings::Grace;

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

/// `sandbox`
#[derive(Debug, Args)]
pub struct Sandbox {
    /// What to run.
    #[command(subcommand)]
    pub verb: SandboxVerb,
}

/// What the sandbox has.
#[derive(Debug, Subcommand)]
pub enum SandboxVerb {
    /// A scripted license engine with its own disk, which misbehaves on demand.
    #[command(
        after_help = "Prints one line of JSON on stdout once it is ready: {\"ready\": true, \"url\": \"http://…\"}

Examples:
  keyledger sandbox stub --listen 127.0.0.1:8090 --data ./stub
  curl -X PUT localhost:8090/control/faults -H 'Content-Type: application/json' -d '{\"script\": [{\"operation\": \"create\", \"count\": 1, \"fault\": {\"kind\": \"commit_then_hang\"}}]}'"
    )]
    Stub(Stub),
    /// A stand-in for Cryptlex' Web API v3.
    #[command(
        mut_arg("listen", |listen| listen.required(false).default_value("127.0.0.1:8091")),
        after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"stands_for\": \"cryptlex\", \"url\": \"http://127.0.0.1:8091\", \"control\": [\"…\"]}

In keyledger.toml:
  [provider.cryptlex]
  base_url = \"http://127.0.0.1:8091\"
  access_token = \"sandbox\"

Control, without a token: GET /control/state (users, licenses, and how often each was really made),
GET and PUT /control/settings (what nobody could verify about the real service is a switch there),
GET and PUT /control/faults, GET /control/calls. Operations of faults: create, find, list, read,
change, delete, user_create, user_find, user_read, user_change, any.

Examples:
  keyledger sandbox cryptlex
  keyledger sandbox cryptlex --fault create=commit_then_drop      the first answer is lost
  keyledger sandbox cryptlex --settings '{\"duplicate_email\": \"allowed\"}'"
    )]
    Cryptlex(StandIn),
    /// A stand-in for Cryptolens' Web API v3.
    #[command(
        mut_arg("listen", |listen| listen.required(false).default_value("127.0.0.1:8092")),
        after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"stands_for\": \"cryptolens\", \"url\": \"http://127.0.0.1:8092\", \"control\": [\"…\"]}

In keyledger.toml:
  [provider.cryptolens]
  base_url = \"http://127.0.0.1:8092\"
  access_token = \"sandbox\"

Its products are 3349 and 3350, and 3400 with the old kind of key. Control, without a token: GET
/control/state, GET and PUT /control/settings (what nobody could verify about the real service is a
switch there), GET and PUT /control/faults, GET /control/calls. Operations of faults are its
methods: CreateKey, GetKeys, ExtendLicense, AddCustomer …, any.

Examples:
  keyledger sandbox cryptolens
  keyledger sandbox cryptolens --fault CreateKey=commit_then_hang      it is made, and nobody answers
  keyledger sandbox cryptolens --settings '{\"time_of_day\": \"midnight\"}'"
    )]
    Cryptolens(StandIn),
    /// A stand-in for Keygen's API v1.
    #[command(
        mut_arg("listen", |listen| listen.required(false).default_value("127.0.0.1:8093")),
        after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"stands_for\": \"keygen\", \"url\": \"http://127.0.0.1:8093\", \"control\": [\"…\"]}

In keyledger.toml:
  [provider.keygen]
  base_url = \"http://127.0.0.1:8093\"
  account = \"sandbox\"
  token = \"sandbox\"

Its policies are listed by GET /control/settings. Control, without a token: GET /control/state, GET
and PUT /control/settings, GET and PUT /control/faults, GET /control/calls.

Examples:
  keyledger sandbox keygen
  keyledger sandbox keygen --fault any=fail:503      the first call of all fails
  keyledger sandbox keygen --settings '{\"rate_limit_headers\": false}'"
    )]
    Keygen(StandIn),
    /// A stand-in for Stripe's API, as far as keyledger reads and writes it.
    #[command(
        mut_arg("listen", |listen| listen.required(false).default_value("127.0.0.1:8094")),
        after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"stands_for\": \"stripe\", \"url\": \"http://127.0.0.1:8094\", \"control\": [\"…\"]}

In keyledger.toml:
  [stripe.default]
  api_base = \"http://127.0.0.1:8094\"
  api_key = \"sandbox\"

Control, without a key: GET /control/state, GET and PUT /control/settings, GET and PUT
/control/faults, GET /control/calls. With `webhook` in its settings it delivers the events that it
makes, signed.

Examples:
  keyledger sandbox stripe
  keyledger sandbox stripe --settings '{\"requests_per_second\": 5}'"
    )]
    Stripe(StandIn),
}

/// `sandbox cryptlex`, `cryptolens`, `keygen`, `stripe`
#[derive(Debug, Args)]
pub struct StandIn {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// What it is like, as JSON: what GET /control/settings shows, as far as it differs.
    #[arg(long, value_name = "JSON")]
    pub settings: Option<String>,
    /// What happens to the next such call, e.g. `create=commit_then_drop`, `any=fail:503`, `find=slow:30000`. May be repeated.
    #[arg(long, value_name = "OPERATION=FAULT")]
    pub fault: Vec<String>,
    /// How it misbehaves, as JSON: what PUT /control/faults takes, e.g. a mix of faults by chance.
    #[arg(long, value_name = "JSON")]
    pub faults: Option<String>,
}

/// `sandbox stub`
#[derive(Debug, Args)]
pub struct Stub {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// Where to keep what it made.
    #[arg(long, default_value = "./stub", value_name = "FOLDER")]
    pub data: PathBuf,
}
