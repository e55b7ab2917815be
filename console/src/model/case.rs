//! Cases, amounts, and what a repair answers.

use jiff::Timestamp;
use keyledger_projector::read;
use keyledger_schemas::ids::{CaseId, LicenseId};
use keyledger_schemas::money::Money;
use serde::Serialize;
use utoipa::ToSchema;

use super::PurchaseRef;
use crate::api::Entry;

/// Money: whole minor units and a currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Amount {
    /// Cents, yen, fils: whatever the currency's smallest unit is.
    #[schema(example = 4900)]
    pub amount_minor: i64,
    /// ISO 4217, lower case.
    #[schema(example = "eur")]
    pub currency: String,
}

impl From<Money> for Amount {
    fn from(money: Money) -> Self {
        Self { amount_minor: money.amount_minor, currency: money.currency.as_str().to_owned() }
    }
}

/// Something that a person must look at, or had to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Case {
    /// The same trouble is always the same case.
    #[schema(example = "kl_cas_5d41402abc4b5a71b2c3d4e5f6071829")]
    pub id: String,
    /// `no_key`, `not_extended`, `free_without_key`, `surplus_key`, `unrouted`, `mirror_diverged`, …
    #[schema(example = "no_key")]
    pub kind: String,
    /// `open`, `closed` or `waived`.
    #[schema(example = "open")]
    pub status: String,
    /// The source it came from.
    pub source: String,
    /// The connected Stripe account.
    pub account: Option<String>,
    /// `live` or `test`.
    pub mode: String,
    /// What it is about: a unit, a purchase, or an object.
    pub subject: String,
    /// The purchase.
    pub purchase: Option<PurchaseRef>,
    /// The unit, where it is about one: `purchase/item/number`.
    pub unit: Option<String>,
    /// The Stripe customer.
    pub customer: Option<String>,
    /// How much money.
    pub amount: Option<Amount>,
    /// Since when.
    pub opened_at: Timestamp,
    /// When its fact changed, or it was waived.
    pub closed_at: Option<Timestamp>,
    /// Why: `issuing`, `issuer_behind`, `unmapped_price`, `provider_refused`, …
    pub cause: Option<String>,
    /// More about why: what the provider said, which price, which status.
    pub detail: Option<String>,
    /// How often a provider was asked.
    pub attempts: u32,
    /// When it is tried again; null when it waits for a person.
    pub next_attempt_at: Option<Timestamp>,
    /// Who waived it.
    pub waived_by: Option<String>,
    /// Why it was waived.
    pub waived_reason: Option<String>,
    /// What to do, in plain words.
    pub next: String,
}

impl From<read::Case> for Case {
    fn from(case: read::Case) -> Self {
        Self {
            id: case.id.to_string(),
            kind: case.kind,
            status: case.status.as_str().to_owned(),
            source: case.scope.source.to_string(),
            account: case.scope.account.map(|account| account.to_string()),
            mode: case.scope.mode.to_string(),
            subject: case.subject,
            purchase: case.purchase.map(PurchaseRef::from),
            unit: case.unit.map(|unit| unit.to_string()),
            customer: case.customer.map(|customer| customer.to_string()),
            amount: case.amount.map(Amount::from),
            opened_at: case.opened_at,
            closed_at: case.closed_at,
            cause: case.cause,
            detail: case.detail,
            attempts: case.attempts,
            next_attempt_at: case.next_attempt_at,
            waived_by: case.waived_by,
            waived_reason: case.waived_reason,
            next: case.next,
        }
    }
}

/// What a repair recorded. Its effect shows once the issuer and the views have read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Repaired {
    /// The case, where one was repaired.
    pub case: Option<String>,
    /// The license, where something was done to one.
    pub license: Option<String>,
    /// The event that records it.
    pub event: String,
    /// The event's type.
    #[schema(example = "operator.retry_requested")]
    pub r#type: String,
    /// Where the event stands in the log.
    pub position: u64,
    /// The same request was recorded before; nothing was written now.
    pub repeated: bool,
}

impl Repaired {
    pub(crate) fn of_case(case: CaseId, entry: Entry) -> Self {
        Self { case: Some(case.to_string()), ..Self::of(entry) }
    }

    pub(crate) fn of_license(license: LicenseId, entry: Entry) -> Self {
        Self { license: Some(license.to_string()), ..Self::of(entry) }
    }

    fn of(entry: Entry) -> Self {
        Self {
            case: None,
            license: None,
            event: entry.event.to_string(),
            r#type: entry.kind,
            position: entry.position,
            repeated: entry.repeated,
        }
    }
}
