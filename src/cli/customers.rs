//! `keyledger customers link`: where a customer signs up at a license engine.

use std::sync::Arc;

use anyhow::anyhow;
use keyledger_console::api::Api;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_schemas::ids::ProviderName;
use serde_json::json;

use super::args::LinkCustomer;
use super::{Context, open, read};
use crate::output::{Exit, WrongUse};
use crate::serve;

/// Asks the engine for the link, and prints it.
///
/// # Errors
///
/// When the engine is not configured or does not answer, or the customer is not known there.
pub async fn link(context: &Context, api: &Api, wanted: &LinkCustomer) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let name = ProviderName::new(&wanted.provider);
    let engines = serve::engines(&settings, Arc::new(DeploymentKeys::load(&settings.keys_dir)?))?;
    if !engines.has(&name) {
        return Err(WrongUse(format!("there is no `[provider.{name}]` in the settings")).into());
    }
    let there = match &wanted.customer {
        Some(id) => {
            let customer = api.customer(&read::view(&wanted.scope), id).await.map_err(open::problem)?;
            let linked = customer.provider_customers.into_iter().find(|linked| linked.provider == name.as_str());
            let unknown = || anyhow!("{id} has no license at {name} yet, so they are not known there");
            Some(linked.ok_or_else(unknown)?.id)
        }
        None => None,
    };
    let link = engines.get(&name).portal_link(there.as_deref()).await?;
    let Some(link) = link else {
        let reason = match wanted.customer {
            Some(_) => format!("{name} gives its customers no link of their own"),
            None => format!("no `sign_up_link` is set under `[provider.{name}]`, or it knows none"),
        };
        return Err(anyhow!(reason));
    };
    if context.output.json {
        context.output.value(&json!({"customer": wanted.customer, "provider": name, "link": link.expose()}))?;
    } else {
        context.output.line(link.expose())?;
    }
    Ok(Exit::Fine)
}
