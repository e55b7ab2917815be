//! Prices that were paid for and mean nothing here.

use jiff::Timestamp;
use keyledger_projector::read;
use serde::Serialize;
use utoipa::ToSchema;

use super::Amount;

/// A price that was paid for and that neither metadata nor the catalog says anything about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UnmappedPrice {
    /// The source it came from.
    pub source: String,
    /// The connected Stripe account.
    pub account: Option<String>,
    /// `live` or `test`.
    pub mode: String,
    /// The Stripe price.
    #[schema(example = "price_1PqX")]
    pub price: String,
    /// The Stripe product, where known.
    pub product: Option<String>,
    /// How many lines of it were paid for.
    pub times: u64,
    /// What they came to, by currency.
    pub amounts: Vec<Amount>,
    /// When the first was paid.
    pub since: Option<Timestamp>,
    /// Open cases that wait for it to be mapped.
    pub cases_open: u64,
}

impl From<read::UnmappedPrice> for UnmappedPrice {
    fn from(price: read::UnmappedPrice) -> Self {
        Self {
            source: price.scope.source.to_string(),
            account: price.scope.account.map(|account| account.to_string()),
            mode: price.scope.mode.to_string(),
            price: price.price,
            product: price.product,
            times: price.times,
            amounts: price.amounts.into_iter().map(Amount::from).collect(),
            since: price.since,
            cases_open: price.cases_open,
        }
    }
}
