//! Measures keyledger on this machine: what the main path costs, each figure beside the bare limit that the same machine
//! gives in the same run.
//!
//! `cargo build --release && cargo run --release -p keyledger-bench`. What came of it, and what limits it, is in
//! `docs/benchmarks.md`.

mod footprint;
mod ground;
mod ingest;
mod issue;
mod load;
mod mirror;
mod pages;
mod replay;
mod report;
mod service;
mod soak;
mod template;
mod watch;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use ground::Ground;
use report::Report;

/// Measures keyledger on this machine, each figure beside the bare limit of the same machine in the same run.
#[derive(Debug, Parser)]
#[command(name = "keyledger-bench", version)]
struct Args {
    /// What to measure; everything by default.
    what: Vec<What>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// A tenth of the work: to see that everything runs, not to quote figures.
    #[arg(long)]
    small: bool,
    /// The executable to measure, a release build; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// How long the soak runs.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Where databases are made, on the disk that is to be measured; by default a temporary folder beside this program.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Where logs of many customers are kept for the next run; made anew in every run without it.
    #[arg(long, value_name = "FOLDER")]
    worlds: Option<PathBuf>,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Webhooks taken over HTTP, beside the bare append rate of the same log.
    Ingest,
    /// From a webhook to its license key.
    Issue,
    /// From an append to a subscriber on NATS.
    Mirror,
    /// Making the views anew, beside reading the log.
    Replay,
    /// Pages of the API over many subscriptions.
    Pages,
    /// Start-up time and memory.
    Footprint,
    /// Hours of mixed load with kills and faults, in minutes; only when it is asked for.
    Soak,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let ground = Ground::new(args.binary, args.folder, args.worlds, args.small)?;
    let mut report = Report::new();
    let every = What::value_variants().iter().copied().filter(|what| *what != What::Soak).collect();
    let chosen = if args.what.is_empty() { every } else { args.what };
    for what in chosen {
        match what {
            What::Ingest => ingest::run(&ground, &mut report).await?,
            What::Issue => issue::run(&ground, &mut report).await?,
            What::Mirror => mirror::run(&ground, &mut report).await?,
            What::Replay => replay::run(&ground, &mut report).await?,
            What::Pages => pages::run(&ground, &mut report).await?,
            What::Footprint => footprint::run(&ground, &mut report).await?,
            What::Soak => soak::run(&ground, &mut report, Duration::from_mins(args.minutes)).await?,
        }
    }
    report.print(args.json)
}
