//! Licenses. A key is shown masked unless it was asked for and may be shown.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_engine::key;
use keyledger_projector::read;
use keyledger_schemas::event::SealedKey;
use serde::Serialize;
use utoipa::ToSchema;

use super::PurchaseRef;

/// What a reader sees of a license's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LicenseState {
    /// Paid, and working.
    Active,
    /// No longer paid, still working.
    Grace,
    /// Stopped for now.
    Suspended,
    /// Past its expiry.
    Expired,
    /// Stopped for good.
    Revoked,
}

impl From<read::LicenseState> for LicenseState {
    fn from(state: read::LicenseState) -> Self {
        match state {
            read::LicenseState::Active => Self::Active,
            read::LicenseState::Grace => Self::Grace,
            read::LicenseState::Suspended => Self::Suspended,
            read::LicenseState::Expired => Self::Expired,
            read::LicenseState::Revoked => Self::Revoked,
        }
    }
}

/// A license, or a unit whose money was gone before one was made (`revoked`, without key and provider).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct License {
    /// The license.
    #[schema(example = "5d41402a-bc4b-5a71-b2c3-d4e5f6071829")]
    pub id: String,
    /// As of the time asked about.
    pub state: LicenseState,
    /// Why it is suspended or revoked.
    pub reason: Option<String>,
    /// Seats; null where no license was made.
    pub seats: Option<u32>,
    /// Feature names.
    pub features: BTreeSet<String>,
    /// Paid until; null for ever, or when nothing is paid any more.
    pub paid_until: Option<Timestamp>,
    /// When it stops working; null for never, or when nothing is paid any more.
    pub expires_at: Option<Timestamp>,
    /// Sold for good.
    pub perpetual: bool,
    /// The license engine.
    pub provider: Option<String>,
    /// The engine's own id.
    pub provider_id: Option<String>,
    /// Every id that the engine has for it: `id` for its own, else by the engine's word for it (`globalId`).
    pub provider_ids: BTreeMap<String, String>,
    /// The engine's product.
    pub product: Option<String>,
    /// `made`, `found`, `adopted`, or `none` where no license was made.
    pub origin: String,
    /// The key, masked unless revealed; null where the engine does not show it.
    #[schema(example = "KL-…-9F4C")]
    pub key: Option<String>,
    /// The purchase.
    pub purchase: PurchaseRef,
    /// The unit it meets: `purchase/item/number`.
    pub unit: String,
    /// The unit's 1st, 2nd … license.
    pub generation: u32,
    /// The Stripe customer.
    pub customer: Option<String>,
    /// When it was made or adopted.
    pub issued_at: Option<Timestamp>,
}

impl From<read::License> for License {
    fn from(license: read::License) -> Self {
        let provider = license.provider.map(|provider| provider.to_string());
        let key = license.key.as_ref().map(|sealed| masked(sealed, provider.as_deref()));
        Self {
            id: license.id.to_string(),
            state: license.state.into(),
            reason: license.reason,
            seats: license.seats,
            features: license.features,
            paid_until: license.paid_until,
            expires_at: license.expires_at,
            perpetual: license.perpetual,
            provider,
            provider_ids: license
                .provider_id
                .iter()
                .map(|id| ("id".to_owned(), id.clone()))
                .chain(license.also)
                .collect(),
            provider_id: license.provider_id,
            product: license.product,
            origin: license.origin,
            key,
            purchase: license.purchase.into(),
            unit: license.unit.to_string(),
            generation: license.generation,
            customer: license.customer.map(|customer| customer.to_string()),
            issued_at: license.issued_at,
        }
    }
}

/// What may be shown of a key: `KL-…-9F4C` for one of ours, `…-NIJBT`'s last four for another engine's.
pub fn masked(sealed: &SealedKey, provider: Option<&str>) -> String {
    let prefix = if provider == Some("builtin") { format!("{}-", key::PREFIX) } else { String::new() };
    match sealed.last4.as_str() {
        "" => format!("{prefix}…"),
        last4 => format!("{prefix}…-{last4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(last4: &str) -> SealedKey {
        SealedKey { sealed: "x".into(), key_id: "k".into(), hash: "h".into(), last4: last4.into() }
    }

    #[test]
    fn a_masked_key_shows_the_last_four_at_most() {
        assert_eq!(masked(&sealed("9F4C"), Some("builtin")), "KL-…-9F4C");
        assert_eq!(masked(&sealed("IJBT"), Some("cryptolens")), "…-IJBT");
        assert_eq!(masked(&sealed(""), Some("keygen")), "…");
    }
}
