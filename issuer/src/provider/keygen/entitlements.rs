//! Features as entitlements. Those that the settings do not name are somebody else's and are left alone; those that the
//! policy gives cannot be taken away.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;

use super::client::{self, Client};
use super::wire::{License, Many, Resource, linkages};
use crate::provider::{ProviderError, Terms};

/// The entitlements that the terms ask for.
pub(super) fn wanted(features: &BTreeMap<String, String>, terms: &Terms) -> Result<Vec<String>, ProviderError> {
    let id = |name: &String| {
        features.get(name).cloned().ok_or_else(|| ProviderError::Refused {
            reason: format!(
                "feature `{name}` stands for no entitlement: name one in `features` of the provider's settings"
            ),
        })
    };
    terms.features.iter().map(id).collect()
}

/// Attaches what is missing and detaches what is too much. Only the difference is sent: Keygen refuses the rest.
pub(super) async fn bring_to(
    client: &Client,
    features: &BTreeMap<String, String>,
    license: &License,
    wanted: &[String],
) -> Result<(), ProviderError> {
    if features.is_empty() {
        return Ok(());
    }
    let path = ["licenses", license.id.as_str(), "entitlements"];
    let is = list(client, &path).await?;
    let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    let missing: Vec<&str> = wanted.iter().copied().filter(|id| !is.contains(*id)).collect();
    if !missing.is_empty() {
        let body = linkages("entitlements", missing.into_iter());
        client::done(&client.send(Method::POST, &path, &body).await?)?;
    }
    let known: BTreeSet<&str> = features.values().map(String::as_str).collect();
    let mut surplus: Vec<&str> =
        is.iter().map(String::as_str).filter(|id| known.contains(id) && !wanted.contains(id)).collect();
    if !surplus.is_empty() {
        let given = list(client, &["policies", license.policy(), "entitlements"]).await?;
        surplus.retain(|id| !given.contains(*id));
    }
    if !surplus.is_empty() {
        let body = linkages("entitlements", surplus.into_iter());
        client::done(&client.send(Method::DELETE, &path, &body).await?)?;
    }
    Ok(())
}

async fn list(client: &Client, path: &[&str]) -> Result<BTreeSet<String>, ProviderError> {
    let many: Many<Resource> = client::read(&client.get(path, &[("limit", "100")]).await?)?;
    Ok(many.data.into_iter().map(|entitlement| entitlement.id).collect())
}
