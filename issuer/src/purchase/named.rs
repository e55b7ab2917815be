//! What a subscription's metadata says about licenses: ids that another integration, or we ourselves, wrote there, and the mark
//! of one that was charged without a key.

use std::collections::BTreeMap;

use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::stripe::fact::Metadata;

use super::desired::CRYPTOLENS;
use super::state::{License, Purchase};

/// The metadata key that holds the id of a license within its product.
const ID_KEY: &str = "skm_key_id";

/// The metadata key that holds the id of a license within the account.
pub(super) const GLOBAL_ID_KEY: &str = "skm_key_globalid";

/// How marks begin that we leave in `skm_temp_var` ourselves.
const OWN_MARK: &str = "keyledger:";

/// How the name of a license begins that is known by its id within the account.
const GLOBAL_ID_PREFIX: &str = "globalId=";

/// How an engine is asked for a license by its id within the account.
pub(super) fn global_id(id: &str) -> String {
    format!("{GLOBAL_ID_PREFIX}{id}")
}

/// A license that the subscription's metadata names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLicense {
    /// The engine that holds it.
    pub provider: ProviderName,
    /// The id as it stands there.
    pub id: String,
    /// The metadata key.
    pub key: &'static str,
}

impl NamedLicense {
    /// As the engine is asked for it.
    pub fn text(&self) -> String {
        if self.key == GLOBAL_ID_KEY { global_id(&self.id) } else { self.id.clone() }
    }
}

/// What the subscription's metadata holds under the key, if it is not blank.
fn metadata_id<'p>(purchase: &'p Purchase, key: &str) -> Option<&'p str> {
    let metadata = purchase.knowledge.subscription_metadata()?;
    metadata.get(key).map(|id| id.trim()).filter(|id| !id.is_empty())
}

/// The license at another engine that the subscription's metadata names.
pub(super) fn license(purchase: &Purchase) -> Option<NamedLicense> {
    [ID_KEY, GLOBAL_ID_KEY].into_iter().find_map(|key| {
        let id = metadata_id(purchase, key)?.to_owned();
        Some(NamedLicense { provider: ProviderName::from(CRYPTOLENS), id, key })
    })
}

/// Whether the license that the metadata names is one that the purchase has already: we may have written it there.
pub(super) fn is_known(purchase: &Purchase) -> bool {
    let (id, global) = (metadata_id(purchase, ID_KEY), metadata_id(purchase, GLOBAL_ID_KEY));
    let named = |license: &License| {
        let own = license.provider_id.as_str();
        // One that nobody was asked about is known by the id that named it.
        let of_account = own.strip_prefix(GLOBAL_ID_PREFIX).unwrap_or(own);
        let also = license.also.get("globalId").map(String::as_str);
        (id.is_some() && id == Some(own)) || (global.is_some() && (global == also || global == Some(of_account)))
    };
    purchase.units.values().flat_map(BTreeMap::values).flat_map(|unit| unit.licenses.values()).any(named)
}

/// Whether another system left the subscription marked as charged without a key.
pub fn is_left(purchase: &Purchase) -> bool {
    let foreign = |value: &String| !value.is_empty() && !value.starts_with(OWN_MARK);
    let marked = |metadata: &Metadata| metadata.get("skm_temp_var").is_some_and(foreign);
    purchase.knowledge.subscription_metadata().is_some_and(marked) && license(purchase).is_none()
}
