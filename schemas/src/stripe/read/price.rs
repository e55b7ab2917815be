//! A price as other objects refer to it.

use serde_json::Value;

use crate::ids::{PriceId, ProductId};
use crate::stripe::fact::PriceRef;
use crate::stripe::value::{first_id, id, metadata};

/// The price that `holder` (an item or a line) sells.
///
/// In `pricing.price_details` since basil, in `price` from 2020 on, in `plan` before that.
pub(super) fn price_of(holder: &Value) -> Option<PriceRef> {
    let details = &holder["pricing"]["price_details"];
    let (price, plan) = (&holder["price"], &holder["plan"]);
    let (id, shown) =
        [&details["price"], price, plan].into_iter().find_map(|shown| Some((id::<PriceId>(shown)?, shown)))?;
    let product: Option<ProductId> = first_id(&[&details["product"], &shown["product"], &plan["product"]]);
    Some(PriceRef { id, product, metadata: metadata(&shown["metadata"]) })
}

/// Whether the price that `holder` embeds, or its legacy plan, bills measured usage.
pub(super) fn is_metered(holder: &Value) -> bool {
    [&holder["price"]["recurring"], &holder["plan"]].iter().any(|terms| terms["usage_type"] == "metered")
}
