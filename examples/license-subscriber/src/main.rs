//! Follows `license.issued` and prints a line for each, for ever. See `lib.rs` for how.
//!
//! ```console
//! $ cargo run -p license-subscriber -- --password-file deploy/secrets/nats_licenses
//! ```

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use license_subscriber::{Handled, Options, follow};

#[derive(Parser)]
struct Arguments {
    /// Where NATS is.
    #[arg(long, default_value = "nats://127.0.0.1:4222")]
    url: String,
    /// The user, and the name of the consumer and of the inbox: deploy/nats/permissions.conf has them alike.
    #[arg(long, default_value = "licenses")]
    user: String,
    /// The file of the user's password.
    #[arg(long)]
    password_file: PathBuf,
    /// The folder of the JSON Schemas.
    #[arg(long, default_value = "schemas/json")]
    schemas: PathBuf,
    /// The file that remembers what was handled.
    #[arg(long, default_value = "handled")]
    handled: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let password = std::fs::read_to_string(&arguments.password_file)
        .with_context(|| format!("reading {}", arguments.password_file.display()))?;
    let options = Options {
        url: arguments.url,
        user: arguments.user,
        password: password.trim().to_owned(),
        schemas: arguments.schemas,
    };
    let mut handled = Handled::open(&arguments.handled)?;
    #[expect(clippy::print_stdout, reason = "its data goes to stdout")]
    let print = |line: &str| println!("{line}");
    follow(&options, &mut handled, print).await
}
