//! What the account is like, and which way it behaves where nobody could verify the real one.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The product of the default account.
pub const PRODUCT: Uuid = Uuid::from_u128(0x0a10_0000_0000_4000_8000_0000_0000_0001);
/// A product that the default token does not see.
pub const PRODUCT_FOREIGN: Uuid = Uuid::from_u128(0x0a10_0000_0000_4000_8000_0000_0000_0002);
/// Floating, without a limit of machines, no duration.
pub const POLICY_PRO: Uuid = Uuid::from_u128(0x0b10_0000_0000_4000_8000_0000_0000_0001);
/// Floating, one machine unless the license says otherwise, 30 days.
pub const POLICY_BASIC: Uuid = Uuid::from_u128(0x0b10_0000_0000_4000_8000_0000_0000_0002);
/// Node-locked: one machine, always.
pub const POLICY_SINGLE: Uuid = Uuid::from_u128(0x0b10_0000_0000_4000_8000_0000_0000_0003);
/// Of the foreign product.
pub const POLICY_FOREIGN: Uuid = Uuid::from_u128(0x0b10_0000_0000_4000_8000_0000_0000_0009);
/// An entitlement.
pub const ENTITLEMENT_EXPORT: Uuid = Uuid::from_u128(0x0c10_0000_0000_4000_8000_0000_0000_0001);
/// Another entitlement.
pub const ENTITLEMENT_SYNC: Uuid = Uuid::from_u128(0x0c10_0000_0000_4000_8000_0000_0000_0002);
/// An entitlement that `POLICY_BASIC` gives to all its licenses.
pub const ENTITLEMENT_CORE: Uuid = Uuid::from_u128(0x0c10_0000_0000_4000_8000_0000_0000_0003);

/// The account and its switches, `PUT /control/settings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "switches that are thrown one by one")]
pub struct Settings {
    /// Id or slug behind `/v1/accounts/`. Default `sandbox`.
    pub account: String,
    /// The account part of the path may be left out, as in a self-hosted installation of one account. Default false.
    pub single_account: bool,
    /// The token that calls must bear. Default `sandbox`.
    pub token: String,
    /// The product whose token it is; `None` for an administrator's. Default the default product's.
    pub token_product: Option<Uuid>,
    /// The token has run out. Default false.
    pub token_expired: bool,
    /// What the token may do, as Keygen names it; `None` for everything. Default `None`.
    pub permissions: Option<BTreeSet<String>>,
    /// The API version of calls that name none: the one stored in the account. Default `1.8`.
    pub default_version: String,
    /// Answers carry `X-RateLimit-*`. Default true.
    pub rate_limit_headers: bool,
    /// Calls per half a minute of the machine's clock; `None` for any number. Default `None`.
    pub calls_per_30_s: Option<u32>,
    /// Users that the account's plan covers; one more is answered with 402. Default `None`.
    pub users_max: Option<usize>,
    /// What is taken is found by the database index, as when two creates race: 409 instead of 422. Default false.
    pub races: bool,
    /// License ids in use in another account of the installation. Default none.
    pub ids_elsewhere: BTreeSet<Uuid>,
    /// What time it is; `None` for the machine's clock. Default `None`.
    pub now: Option<Timestamp>,
    /// Products.
    pub products: Vec<Product>,
    /// Policies.
    pub policies: Vec<Policy>,
    /// Entitlements.
    pub entitlements: Vec<Entitlement>,
}

/// A product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
}

/// A policy: what licenses are like unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its id.
    pub id: Uuid,
    /// Of this product.
    pub product: Uuid,
    /// Its name.
    pub name: String,
    /// How long a license runs, in seconds; `None` for ever.
    #[serde(default)]
    pub duration_s: Option<u64>,
    /// Licenses run from their creation, and not from first use.
    #[serde(default = "yes")]
    pub from_creation: bool,
    /// What a renewal counts from.
    #[serde(default)]
    pub renewal_basis: RenewalBasis,
    /// A license that comes to this policy starts anew (`RESET_EXPIRY`).
    #[serde(default)]
    pub resets_expiry: bool,
    /// Many machines per license; otherwise exactly one.
    #[serde(default)]
    pub floating: bool,
    /// Machines per license; `None` for any number.
    #[serde(default)]
    pub max_machines: Option<u32>,
    /// How keys are signed; `None` for not at all.
    #[serde(default)]
    pub scheme: Option<String>,
    /// Given to all its licenses.
    #[serde(default)]
    pub entitlements: BTreeSet<Uuid>,
}

/// What a renewal counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RenewalBasis {
    /// The old expiry.
    #[default]
    FromExpiry,
    /// Now.
    FromNow,
    /// Now for an expired license, otherwise the old expiry.
    FromNowIfExpired,
}

/// An entitlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entitlement {
    /// Its id.
    pub id: Uuid,
    /// Its code, as software asks for it.
    pub code: String,
}

fn yes() -> bool {
    true
}

impl Default for Settings {
    fn default() -> Self {
        let product = |id, name: &str| Product { id, name: name.to_owned() };
        let entitlement = |id, code: &str| Entitlement { id, code: code.to_owned() };
        Self {
            account: "sandbox".to_owned(),
            single_account: false,
            token: "sandbox".to_owned(),
            token_product: Some(PRODUCT),
            token_expired: false,
            permissions: None,
            default_version: "1.8".to_owned(),
            rate_limit_headers: true,
            calls_per_30_s: None,
            users_max: None,
            races: false,
            ids_elsewhere: BTreeSet::new(),
            now: None,
            products: vec![product(PRODUCT, "Editor"), product(PRODUCT_FOREIGN, "Somebody else's")],
            policies: policies(),
            entitlements: vec![
                entitlement(ENTITLEMENT_EXPORT, "EXPORT"),
                entitlement(ENTITLEMENT_SYNC, "SYNC"),
                entitlement(ENTITLEMENT_CORE, "CORE"),
            ],
        }
    }
}

fn policies() -> Vec<Policy> {
    let floating = |id, product, name: &str| Policy {
        id,
        product,
        name: name.to_owned(),
        duration_s: None,
        from_creation: true,
        renewal_basis: RenewalBasis::FromExpiry,
        resets_expiry: false,
        floating: true,
        max_machines: None,
        scheme: None,
        entitlements: BTreeSet::new(),
    };
    vec![
        floating(POLICY_PRO, PRODUCT, "Pro"),
        Policy {
            duration_s: Some(30 * 86_400),
            max_machines: Some(1),
            entitlements: [ENTITLEMENT_CORE].into(),
            ..floating(POLICY_BASIC, PRODUCT, "Basic")
        },
        Policy { floating: false, max_machines: Some(1), ..floating(POLICY_SINGLE, PRODUCT, "Single") },
        floating(POLICY_FOREIGN, PRODUCT_FOREIGN, "Somebody else's"),
    ]
}
