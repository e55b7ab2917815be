//! Identifiers as types: one per kind of thing, parsed once at the edge, never mixed up.
//!
//! Stripe's ids are kept exactly as Stripe writes them. What keyledger makes for itself is named by an
//! identity (source, Connect account, mode and Stripe id), so that two accounts, or live and test, can
//! never share a license.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The namespace of every version 5 UUID that keyledger derives.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x6b65_796c_6564_6765_7200_0000_0000_0001);

macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text_id! {
    /// A Stripe customer, `cus_…`.
    CustomerId;
    /// A Stripe subscription, `sub_…`.
    SubscriptionId;
    /// A Stripe subscription item, `si_…`.
    SubscriptionItemId;
    /// A Stripe invoice, `in_…`.
    InvoiceId;
    /// A line of a Stripe invoice, `il_…`.
    LineId;
    /// A Stripe Checkout session, `cs_…`.
    SessionId;
    /// A Stripe charge, `ch_…` or `py_…`.
    ChargeId;
    /// A Stripe payment intent, `pi_…`.
    PaymentIntentId;
    /// A Stripe refund, `re_…` or `pyr_…`.
    RefundId;
    /// A Stripe dispute, `dp_…` or `du_…`.
    DisputeId;
    /// A Stripe price (or legacy plan), `price_…`.
    PriceId;
    /// A Stripe product, `prod_…`.
    ProductId;
    /// A Stripe event, `evt_…`.
    StripeEventId;
    /// A Stripe account reached through Connect, `acct_…`.
    AccountId;
    /// The id of an event in the log. A Stripe event's holds its `evt_…`; our own are UUIDs.
    EventId;
    /// The stream an event belongs to: what its version counts in.
    StreamId;
    /// A license engine by its configured name: `builtin`, `cryptlex`, `cryptolens`, `keygen`, `stub`.
    ProviderName;
}

/// The name of a source: one Stripe account or Connect platform, as configured under `[stripe.<name>]`.
///
/// 1 to 32 characters of `a-z`, `0-9`, `_` and `-`, so that it fits a URL path, a NATS token and a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct SourceName(String);

/// A source name with characters that do not fit a URL path or a NATS subject.
#[derive(Debug, thiserror::Error)]
#[error("source name `{0}` is not 1 to 32 characters of a-z, 0-9, _ and -")]
pub struct BadSourceName(String);

impl SourceName {
    /// The name of the source.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SourceName {
    /// `default`, the source that `POST /webhooks/stripe` without a name means.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl TryFrom<String> for SourceName {
    type Error = BadSourceName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if fits { Ok(Self(text)) } else { Err(BadSourceName(text)) }
    }
}

impl FromStr for SourceName {
    type Err = BadSourceName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<SourceName> for String {
    fn from(name: SourceName) -> Self {
        name.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Stripe's two worlds. They are never mixed: not in an id, a view, a subject or a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Real money.
    #[default]
    Live,
    /// Test cards and sandboxes.
    Test,
}

impl Mode {
    /// The mode that an object's `livemode` says.
    pub fn of_livemode(livemode: bool) -> Self {
        if livemode { Self::Live } else { Self::Test }
    }

    /// `live` or `test`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Neither `live` nor `test`.
#[derive(Debug, thiserror::Error)]
#[error("mode `{0}` is neither `live` nor `test`")]
pub struct BadMode(String);

impl FromStr for Mode {
    type Err = BadMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "live" => Ok(Self::Live),
            "test" => Ok(Self::Test),
            other => Err(BadMode(other.to_owned())),
        }
    }
}

/// Where a Stripe id is unique: source, Connect account and mode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Scope {
    /// The source that delivered.
    pub source: SourceName,
    /// The connected account, where the event came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// Live or test.
    pub mode: Mode,
}

impl Scope {
    /// A scope without a Connect account.
    pub fn new(source: SourceName, mode: Mode) -> Self {
        Self { source, account: None, mode }
    }

    /// `source:account:mode`, with `-` for no account. A prefix of every key in this scope.
    pub fn key(&self) -> String {
        let account = self.account.as_ref().map_or("-", AccountId::as_str);
        format!("{}:{account}:{}", self.source, self.mode)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}

/// Text that is not `source:account:mode:stripe id`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an identity of the form source:account:mode:id")]
pub struct BadIdentity(String);

/// What decisions are made for: one subscription, one one-off invoice, or one Checkout session.
///
/// Written `source:account:mode:id`, e.g. `default:-:live:sub_1w95…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PurchaseId {
    /// Where the id below is unique.
    pub scope: Scope,
    /// `sub_…`, `in_…` or `cs_…`.
    pub object: String,
}

impl PurchaseId {
    /// The purchase that `object` names in `scope`.
    pub fn new(scope: Scope, object: impl Into<String>) -> Self {
        Self { scope, object: object.into() }
    }

    /// The stream of this purchase's own events.
    pub fn stream(&self) -> StreamId {
        StreamId::new(format!("purchase:{self}"))
    }

    /// The purchase whose stream this is, if it is one.
    pub fn of_stream(stream: &StreamId) -> Option<Self> {
        stream.as_str().strip_prefix("purchase:")?.parse().ok()
    }

    /// The unit `number` (from 1) of `item`.
    pub fn unit(&self, item: impl Into<String>, number: u32) -> UnitId {
        UnitId { purchase: self.clone(), item: item.into(), number }
    }
}

impl fmt::Display for PurchaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scope, self.object)
    }
}

impl FromStr for PurchaseId {
    type Err = BadIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadIdentity(text.to_owned());
        let mut parts = text.splitn(4, ':');
        let mut next = || parts.next().filter(|part| !part.is_empty()).ok_or_else(bad);
        let source = next()?.parse().map_err(|_| bad())?;
        let account = Some(next()?).filter(|account| *account != "-").map(AccountId::from);
        let mode = next()?.parse().map_err(|_| bad())?;
        let object = next()?.to_owned();
        Ok(Self { scope: Scope { source, account, mode }, object })
    }
}

impl TryFrom<String> for PurchaseId {
    type Error = BadIdentity;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PurchaseId> for String {
    fn from(id: PurchaseId) -> Self {
        id.to_string()
    }
}

/// One license owed: the `number`th (from 1) of one item of one purchase.
///
/// Written `purchase/item/number`, e.g. `default:-:live:sub_1w95…/si_fO8U…/1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct UnitId {
    /// The purchase it was paid in.
    pub purchase: PurchaseId,
    /// The item's first name: `si_…`, a price id, a line id, or the index of a one-off line.
    pub item: String,
    /// From 1; above 1 only where the mapping says `units = "quantity"`.
    pub number: u32,
}

impl UnitId {
    /// The license that meets this unit in `generation` (from 1).
    pub fn license(&self, generation: u32) -> LicenseId {
        LicenseId(Uuid::new_v5(&NAMESPACE, format!("license\n{self}\n{generation}").as_bytes()))
    }

    /// The reference written into a provider's license by the call that creates it.
    pub fn reference(&self, generation: u32) -> String {
        format!("kl-{}", self.license(generation).0.simple())
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.purchase, self.item, self.number)
    }
}

impl FromStr for UnitId {
    type Err = BadIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadIdentity(text.to_owned());
        let mut parts = text.rsplitn(3, '/');
        let number = parts.next().and_then(|n| n.parse().ok()).ok_or_else(bad)?;
        let item = parts.next().filter(|item| !item.is_empty()).ok_or_else(bad)?.to_owned();
        let purchase = parts.next().ok_or_else(bad)?.parse()?;
        Ok(Self { purchase, item, number })
    }
}

impl TryFrom<String> for UnitId {
    type Error = BadIdentity;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UnitId> for String {
    fn from(id: UnitId) -> Self {
        id.to_string()
    }
}

/// A license as keyledger names it: a version 5 UUID of unit and generation, so that a replayed decision names the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct LicenseId(pub Uuid);

impl fmt::Display for LicenseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LicenseId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("kl_lic_").unwrap_or(text).parse().map(Self)
    }
}

/// A case by what it is about and its kind: the same trouble is always the same case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CaseId(pub Uuid);

impl CaseId {
    /// The case of `kind` about `subject` (a unit, a purchase, or an object key).
    pub fn derive(kind: &str, subject: &str) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("case\n{kind}\n{subject}").as_bytes()))
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kl_cas_{}", self.0.simple())
    }
}

impl FromStr for CaseId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("kl_cas_").unwrap_or(text).parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> UnitId {
        PurchaseId::new(Scope::new(SourceName::default(), Mode::Live), "sub_1").unit("si_1", 1)
    }

    #[test]
    fn a_unit_reads_back_what_it_writes() {
        let text = unit().to_string();
        assert_eq!(text, "default:-:live:sub_1/si_1/1");
        assert_eq!(text.parse::<UnitId>().unwrap(), unit());
    }

    #[test]
    fn a_connect_account_is_part_of_the_identity() {
        let mut other = unit();
        other.purchase.scope.account = Some("acct_9".into());
        assert_ne!(unit().license(1), other.license(1));
        assert_eq!(other.to_string().parse::<UnitId>().unwrap(), other);
    }

    #[test]
    fn generations_are_different_licenses() {
        assert_ne!(unit().license(1), unit().license(2));
        assert_eq!(unit().license(1), unit().license(1));
    }

    #[test]
    fn source_names_fit_a_nats_token() {
        assert!("eu-shop_2".parse::<SourceName>().is_ok());
        for bad in ["", "a.b", "A", "a b", "é", &"a".repeat(33)] {
            assert!(bad.parse::<SourceName>().is_err(), "{bad}");
        }
    }
}
