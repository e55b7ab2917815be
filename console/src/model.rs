//! What the API and `--json` show: plain structs, one per thing, in the words of the outside contract.
//!
//! They are made from the projector's read structs and the log's events by `From`, so that a change of the views shows
//! here as a compile error and not as a silent change of the contract.

mod case;
mod customer;
mod event;
mod license;
mod plan;
mod price;
mod status;

use keyledger_schemas::ids::PurchaseId;
use serde::Serialize;
use utoipa::ToSchema;

pub use case::{Amount, Case, Repaired};
pub use customer::{
    CrossLink, Customer, Obligation, Payment, ProviderCustomer, Purchase, Subscription, SubscriptionItem,
};
pub use event::{Delivery, Event};
pub use license::{License, LicenseState, masked};
pub use plan::{Applied, Doer, Outcome, Plan, Step, StepAction};
pub use price::UnmappedPrice;
pub use status::{Found, FoundGroup, IssuerStatus, LogStatus, ProjectorStatus, Reconciled, SearchResults, Status};

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// What to give as `after` for the next page; null on the last.
    pub next: Option<String>,
}

/// A purchase, named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PurchaseRef {
    /// As keyledger names it: `source:account:mode:id`.
    #[schema(example = "default:-:live:sub_1PqX")]
    pub id: String,
    /// As Stripe names it: `sub_…`, `in_…` or `cs_…`.
    #[schema(example = "sub_1PqX")]
    pub stripe_id: String,
}

impl From<PurchaseId> for PurchaseRef {
    fn from(id: PurchaseId) -> Self {
        Self { id: id.to_string(), stripe_id: id.object }
    }
}
