//! Whether a sight of an object says anything that is not known yet.
//!
//! Asking Stripe twice must not grow the log twice, so what came back is compared with what the log already states.

use super::fact::{
    ChargeSeen, CustomerSeen, DisputeSeen, Fact, InvoiceSeen, Metadata, PriceSeen, ProductSeen, RefundSeen, Seen,
    SessionSeen, SubscriptionSeen,
};
use super::register::SubscriptionRegister;
use super::status::{DisputeStatus, PaymentStatus, RefundStatus, SessionStatus};

/// Whether `offered` states anything that `known` does not: a link, an object, more money, a later status, lines that were
/// not shown, or another value where the newest sight counts.
///
/// `known` is what the log says about the same objects; facts about others in it do no harm. Never false where something
/// is new; true twice for the same answer only if what it said was not put into `known`.
pub fn news(known: &[Fact], offered: &[Fact]) -> bool {
    offered.iter().any(|fact| match fact {
        Fact::SubscriptionSeen(seen) => subscription(known, seen),
        Fact::InvoiceSeen(seen) => invoice(known, seen),
        Fact::SessionSeen(seen) => session(known, seen),
        Fact::ChargeSeen(seen) => charge(known, seen),
        Fact::RefundSeen(seen) => refund(known, seen),
        Fact::DisputeSeen(seen) => dispute(known, seen),
        Fact::Linked(_) => !known.contains(fact),
        Fact::CustomerSeen(seen) => customer(known, seen),
        Fact::PriceSeen(seen) => price(known, seen),
        Fact::ProductSeen(seen) => product(known, seen),
    })
}

/// The facts of one kind among `known`.
macro_rules! sights {
    ($variant:ident, $known:expr, $offered:expr) => {{
        let id = &$offered.id;
        $known.iter().filter_map(move |fact| match fact {
            Fact::$variant(seen) if seen.id == *id => Some(seen),
            _ => None,
        })
    }};
}

fn subscription(known: &[Fact], offered: &SubscriptionSeen) -> bool {
    let mut register = SubscriptionRegister::default();
    sights!(SubscriptionSeen, known, offered).for_each(|seen| register.observe(seen.clone()));
    let before = (register.current().cloned(), register.skipped().is_some());
    register.observe(offered.clone());
    let after = (register.current().cloned(), register.skipped().is_some());
    let differs = match (&before.0, &after.0) {
        (Some(before), Some(after)) => is_other_subscription(before, after),
        (before, after) => before.is_some() != after.is_some(),
    };
    differs || before.1 != after.1
}

fn is_other_subscription(before: &SubscriptionSeen, after: &SubscriptionSeen) -> bool {
    // A list that was cut says nothing against one that shows more.
    let other_items = !after.items_truncated && (before.items_truncated || before.items != after.items);
    other_items
        || before.status != after.status
        || before.customer != after.customer
        || before.metadata != after.metadata
        || before.cancel_at != after.cancel_at
        || before.cancel_at_period_end != after.cancel_at_period_end
        || before.ended_at != after.ended_at
        || before.trial_end != after.trial_end
}

fn invoice(known: &[Fact], offered: &InvoiceSeen) -> bool {
    let sights: Vec<_> = sights!(InvoiceSeen, known, offered).collect();
    let as_far: Vec<_> = sights.iter().filter(|seen| seen.paid || !offered.paid).collect();
    let more = |of: fn(&InvoiceSeen) -> i64| sights.iter().all(|seen| of(seen) < of(offered));
    as_far.is_empty()
        || (!offered.lines_truncated && as_far.iter().all(|seen| seen.lines_truncated))
        || more(|seen| seen.total_minor)
        || more(|seen| seen.amount_paid_minor)
        || (offered.subscription.is_some() && sights.iter().all(|seen| seen.subscription.is_none()))
        || (offered.customer.is_some() && sights.iter().all(|seen| seen.customer.is_none()))
        || (!offered.paid && sights.iter().all(|seen| !seen.paid && seen.status != offered.status))
}

fn session(known: &[Fact], offered: &SessionSeen) -> bool {
    let sights: Vec<_> = sights!(SessionSeen, known, offered).collect();
    let furthest = sights.iter().map(|seen| seen.payment_status.clone()).reduce(PaymentStatus::furthest);
    let Some(furthest) = furthest else { return true };
    let is_over = offered.status != SessionStatus::Open && sights.iter().all(|seen| seen.status == SessionStatus::Open);
    is_over
        || furthest.clone().furthest(offered.payment_status.clone()) != furthest
        || (offered.lines.is_some() && sights.iter().all(|seen| seen.lines.is_none()))
        || (offered.invoice.is_some() && sights.iter().all(|seen| seen.invoice.is_none()))
        || (offered.customer.is_some() && sights.iter().all(|seen| seen.customer.is_none()))
        || sights.iter().all(|seen| seen.total_minor < offered.total_minor)
        || newer(&sights, |seen| &seen.seen, offered, |seen| &seen.metadata)
}

fn charge(known: &[Fact], offered: &ChargeSeen) -> bool {
    let sights: Vec<_> = sights!(ChargeSeen, known, offered).collect();
    (offered.paid && !sights.iter().any(|seen| seen.paid))
        || sights.iter().all(|seen| seen.refunded_minor < offered.refunded_minor)
}

fn refund(known: &[Fact], offered: &RefundSeen) -> bool {
    let sights: Vec<_> = sights!(RefundSeen, known, offered).collect();
    let furthest = sights.iter().map(|seen| seen.status.clone()).reduce(RefundStatus::furthest);
    let further = furthest.is_none_or(|known| known.clone().furthest(offered.status.clone()) != known);
    further || sights.iter().all(|seen| seen.amount_minor < offered.amount_minor)
}

fn dispute(known: &[Fact], offered: &DisputeSeen) -> bool {
    let sights: Vec<_> = sights!(DisputeSeen, known, offered).collect();
    let furthest = sights.iter().map(|seen| seen.status.clone()).reduce(DisputeStatus::furthest);
    let further = furthest.is_none_or(|known| known.clone().furthest(offered.status.clone()) != known);
    further || sights.iter().all(|seen| seen.amount_minor < offered.amount_minor)
}

fn customer(known: &[Fact], offered: &CustomerSeen) -> bool {
    let sights: Vec<_> = sights!(CustomerSeen, known, offered).collect();
    let says = |seen: &CustomerSeen| (seen.email.clone(), seen.name.clone(), seen.metadata.clone());
    // Once gone, gone for good, and what is left of them says nothing.
    if sights.iter().any(|seen| seen.deleted) {
        return false;
    }
    offered.deleted || newer(&sights, |seen| &seen.seen, offered, says)
}

fn price(known: &[Fact], offered: &PriceSeen) -> bool {
    let says = |seen: &PriceSeen| -> (_, Metadata, _, _) {
        (seen.product.clone(), seen.metadata.clone(), seen.nickname.clone(), seen.deleted)
    };
    newer(&sights!(PriceSeen, known, offered).collect::<Vec<_>>(), |seen| &seen.seen, offered, says)
}

fn product(known: &[Fact], offered: &ProductSeen) -> bool {
    let says = |seen: &ProductSeen| (seen.metadata.clone(), seen.name.clone(), seen.deleted);
    newer(&sights!(ProductSeen, known, offered).collect::<Vec<_>>(), |seen| &seen.seen, offered, says)
}

/// Whether `offered` is newer than every sight and says otherwise than the newest of them.
fn newer<'a, S, V: PartialEq>(
    sights: &[&'a S],
    seen: fn(&S) -> &Seen,
    offered: &'a S,
    says: impl Fn(&'a S) -> V,
) -> bool {
    match sights.iter().max_by_key(|sight| seen(sight)) {
        None => true,
        Some(newest) => seen(offered) > seen(newest) && says(offered) != says(newest),
    }
}
