//! The `keyledger` executable. See the library of the same name, and `keyledger --help`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    keyledger_issuer::outbound::install_tls();
    keyledger::cli::run().await
}
