//! The `keyledger` executable. See the library of the same name, and `keyledger --help`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    keyledger::cli::run().await
}
