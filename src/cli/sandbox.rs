//! `keyledger sandbox`: parts to try things with, each a process of its own.

use std::fs;
use std::io;

use anyhow::Context as _;
use keyledger_issuer::provider::stub;
use keyledger_sandbox::faults::{Fault, Faults, Rule};
use keyledger_sandbox::stage::Stage as Scene;
use keyledger_sandbox::{cryptlex, cryptolens, keygen, stripe};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::args::{Sandbox, SandboxVerb, StandIn, Stub};
use crate::lifecycle::{Lifecycle, Stage};
use crate::output::{Exit, WrongUse};

/// How long calls in hand may take to finish.
const STOP_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// What every stand-in has besides what it imitates.
const CONTROL: [&str; 4] = ["/control/state", "/control/settings", "/control/faults", "/control/calls"];

/// Runs what is asked for until told to stop.
///
/// # Errors
///
/// When the address is taken, the settings or faults are none, or the folder cannot be used.
pub async fn run(context: &Context, sandbox: &Sandbox) -> anyhow::Result<Exit> {
    match &sandbox.verb {
        SandboxVerb::Stub(stub) => run_stub(context, stub).await,
        SandboxVerb::Cryptlex(wanted) => {
            let server = cryptlex::Server::new(settings(wanted)?);
            let (token, scene) = (server.settings().token, server.stage().clone());
            let serve = async move |listener, stop| server.serve(listener, stop).await;
            let table = |url: &str| format!("[provider.cryptlex] base_url = \"{url}\", access_token = \"{token}\"");
            run_stand_in(context, "cryptlex", wanted, &scene, table, serve).await
        }
        SandboxVerb::Cryptolens(wanted) => {
            let server = cryptolens::Server::new(settings(wanted)?);
            let (token, scene) = (server.settings().token, server.stage().clone());
            let serve = async move |listener, stop| server.serve(listener, stop).await;
            let table = |url: &str| format!("[provider.cryptolens] base_url = \"{url}\", access_token = \"{token}\"");
            run_stand_in(context, "cryptolens", wanted, &scene, table, serve).await
        }
        SandboxVerb::Keygen(wanted) => {
            let server = keygen::Server::new(settings(wanted)?);
            let (settings, scene) = (server.settings(), server.stage().clone());
            let serve = async move |listener, stop| server.serve(listener, stop).await;
            let table = |url: &str| {
                let (account, token) = (&settings.account, &settings.token);
                format!("[provider.keygen] base_url = \"{url}\", account = \"{account}\", token = \"{token}\"")
            };
            run_stand_in(context, "keygen", wanted, &scene, table, serve).await
        }
        SandboxVerb::Stripe(wanted) => {
            let server = stripe::Server::new(settings(wanted)?);
            let (key, scene) = (server.settings().token, server.stage().clone());
            let serve = async move |listener, stop| server.serve(listener, stop).await;
            let table = |url: &str| format!("[stripe.default] api_base = \"{url}\", api_key = \"{key}\"");
            run_stand_in(context, "stripe", wanted, &scene, table, serve).await
        }
    }
}

/// Serves one stand-in until told to stop. `table` says what points keyledger to it.
async fn run_stand_in<F>(
    context: &Context,
    name: &'static str,
    wanted: &StandIn,
    scene: &Scene,
    table: impl FnOnce(&str) -> String,
    serve: impl FnOnce(TcpListener, CancellationToken) -> F + Send + 'static,
) -> anyhow::Result<Exit>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    scene.misbehave(faults(wanted)?).map_err(|bad| WrongUse(bad.to_string()))?;
    let listener = TcpListener::bind(wanted.listen).await.with_context(|| format!("listening on {}", wanted.listen))?;
    let url = format!("http://{}", listener.local_addr().context("asking for the address")?);
    let mut lifecycle = Lifecycle::new()?;
    lifecycle.spawn(Stage::Work, name, |stop| async move { Ok(serve(listener, stop).await?) });
    let control: Vec<String> = CONTROL.iter().map(|path| format!("{url}{path}")).collect();
    context.output.value(&json!({"ready": true, "stands_for": name, "url": url, "control": control}))?;
    context.output.words(format!(
        "A stand-in for {name}: {url}. What it holds is in memory, and is shown by {url}/control/state.\nIn \
         keyledger.toml: {}",
        table(&url)
    ));
    lifecycle.run(STOP_WITHIN).await?;
    Ok(Exit::Fine)
}

/// The settings that are given, or the stand-in's own.
fn settings<T: DeserializeOwned + Default>(wanted: &StandIn) -> Result<T, WrongUse> {
    let Some(text) = &wanted.settings else { return Ok(T::default()) };
    serde_json::from_str(text).map_err(|error| WrongUse(format!("--settings: {error}")))
}

/// The faults that are given: those in JSON, after those in short.
fn faults(wanted: &StandIn) -> Result<Faults, WrongUse> {
    let mut faults: Faults = match &wanted.faults {
        Some(text) => serde_json::from_str(text).map_err(|error| WrongUse(format!("--faults: {error}")))?,
        None => Faults::default(),
    };
    let short: Vec<Rule> = wanted.fault.iter().map(|text| rule(text)).collect::<Result<_, _>>()?;
    faults.script.splice(0..0, short);
    Ok(faults)
}

/// `OPERATION=KIND` or `OPERATION=KIND:NUMBER`: what happens to the next such call.
fn rule(text: &str) -> Result<Rule, WrongUse> {
    let bad = |why: &str| {
        WrongUse(format!(
            "--fault {text}: {why}; write it as `create=commit_then_drop`, `any=fail:503` or `find=slow:30000`"
        ))
    };
    let (operation, fault) = text.split_once('=').ok_or_else(|| bad("there is no `=`"))?;
    let (kind, number) = match fault.split_once(':') {
        Some((kind, number)) => (kind, Some(number.parse::<u64>().map_err(|_| bad("that is no number"))?)),
        None => (fault, None),
    };
    let mut fault = json!({ "kind": kind });
    if let Some(number) = number {
        let what = if kind == "slow" { "delay_ms" } else { "status" };
        fault[what] = Value::from(number);
    }
    let fault: Fault = serde_json::from_value(fault).map_err(|error| bad(&error.to_string()))?;
    Ok(Rule { operation: operation.to_owned(), about: None, count: Some(1), fault })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_in_short_is_one_rule_for_the_next_call() {
        let read = |text: &str| rule(text).map(|rule| (rule.operation, rule.count, rule.fault)).ok();
        assert_eq!(read("create=commit_then_drop"), Some(("create".to_owned(), Some(1), Fault::CommitThenDrop)));
        assert_eq!(
            read("any=fail:503"),
            Some(("any".to_owned(), Some(1), Fault::Fail { status: 503, retry_after_s: None }))
        );
        assert_eq!(read("find=slow:30000"), Some(("find".to_owned(), Some(1), Fault::Slow { delay_ms: 30_000 })));
        for bad in ["create", "create=vanish", "create=fail", "create=fail:x", "create=slow"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
