//! `keyledger sandbox`: parts to try things with, each a process of its own.

use std::fs;

use anyhow::Context as _;
use keyledger_issuer::provider::stub;
use serde_json::json;
use tokio::net::TcpListener;

use super::Context;
use super::args::{Sandbox, SandboxVerb, Stub};
use crate::lifecycle::{Lifecycle, Stage};
use crate::output::Exit;

/// How long calls in hand may take to finish.
const STOP_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Runs what is asked for until told to stop.
///
/// # Errors
///
/// When the address is taken, or the folder cannot be used.
pub async fn run(context: &Context, sandbox: &Sandbox) -> anyhow::Result<Exit> {
    match &sandbox.verb {
        SandboxVerb::Stub(stub) => run_stub(context, stub).await,
    }
}

async fn run_stub(context: &Context, wanted: &Stub) -> anyhow::Result<Exit> {
    fs::create_dir_all(&wanted.data).with_context(|| format!("making {}", wanted.data.display()))?;
    let listener = TcpListener::bind(wanted.listen).await.with_context(|| format!("listening on {}", wanted.listen))?;
    let url = format!("http://{}", listener.local_addr().context("asking for the address")?);
    let mut lifecycle = Lifecycle::new()?;
    let server = stub::StubServer::open(&wanted.data)?;
    lifecycle.spawn(Stage::Work, "stub", |stop| async move { Ok(server.serve(listener, stop).await?) });
    context.output.value(&json!({"ready": true, "url": url}))?;
    context.output.words(format!("A license engine for trying things: {url}. What it made: {url}/control/stats"));
    lifecycle.run(STOP_WITHIN).await?;
    Ok(Exit::Fine)
}
