//! What is known, as it is kept in rows: one document per Stripe object, one per unit.
//!
//! Everything taken from Stripe is a set, a maximum or a register, so that arrival order does not matter
//! (docs/deciding.md §2). Our own events come in the order of the log, and the last one counts.

pub mod catalog;
pub mod node;
pub mod payment;
pub mod sale;
pub mod unit;

pub use catalog::{CustomerFacts, PriceFacts, ProductFacts};
pub use node::{Kind, Node, Object, ObjectFacts};
pub use payment::{ChargeFacts, DisputeFacts, RefundFacts};
pub use sale::{InvoiceFacts, ItemPeriod, SessionFacts, SubscriptionFacts};
pub use unit::{Answer, Stored, UnitFacts, UnitLicense, Waiver};

/// The greater of two statuses; one that this build does not know never wins over one it knows.
fn greatest<T: Ord + Clone>(held: &mut Option<T>, offered: &T, is_unknown: impl Fn(&T) -> bool) {
    let rank = |status: &T| (!is_unknown(status), status.clone());
    if held.as_ref().is_none_or(|held| rank(offered) > rank(held)) {
        *held = Some(offered.clone());
    }
}

/// The lesser of two times, where there are any.
fn earliest<T: Ord>(held: &mut Option<T>, offered: Option<T>) {
    if let Some(offered) = offered
        && held.as_ref().is_none_or(|held| offered < *held)
    {
        *held = Some(offered);
    }
}
