//! The numbers this role exposes. Every label has a bounded set of values, whatever strangers send.

use std::time::Duration;

use keyledger_schemas::ids::Mode;

use crate::answer::Outcome;

/// The event types that are counted by name; all others are counted as `other`. In order, for the search below.
const COUNTED_TYPES: [&str; 41] = [
    "stripe.charge.dispute.closed",
    "stripe.charge.dispute.created",
    "stripe.charge.dispute.funds_reinstated",
    "stripe.charge.dispute.funds_withdrawn",
    "stripe.charge.dispute.updated",
    "stripe.charge.failed",
    "stripe.charge.refunded",
    "stripe.charge.succeeded",
    "stripe.charge.updated",
    "stripe.checkout.session.async_payment_failed",
    "stripe.checkout.session.async_payment_succeeded",
    "stripe.checkout.session.completed",
    "stripe.checkout.session.expired",
    "stripe.customer.created",
    "stripe.customer.deleted",
    "stripe.customer.subscription.created",
    "stripe.customer.subscription.deleted",
    "stripe.customer.subscription.paused",
    "stripe.customer.subscription.pending_update_applied",
    "stripe.customer.subscription.pending_update_expired",
    "stripe.customer.subscription.resumed",
    "stripe.customer.subscription.trial_will_end",
    "stripe.customer.subscription.updated",
    "stripe.customer.updated",
    "stripe.entitlements.active_entitlement_summary.updated",
    "stripe.invoice.created",
    "stripe.invoice.finalized",
    "stripe.invoice.marked_uncollectible",
    "stripe.invoice.paid",
    "stripe.invoice.payment_action_required",
    "stripe.invoice.payment_failed",
    "stripe.invoice.payment_succeeded",
    "stripe.invoice.updated",
    "stripe.invoice.voided",
    "stripe.invoice_payment.paid",
    "stripe.payment_intent.payment_failed",
    "stripe.payment_intent.succeeded",
    "stripe.price.created",
    "stripe.product.created",
    "stripe.refund.created",
    "stripe.refund.updated",
];

/// Names the metrics for whoever renders them.
pub fn describe() {
    metrics::describe_counter!("keyledger_ingest_requests_total", "webhook requests by how they ended");
    metrics::describe_histogram!(
        "keyledger_ingest_seconds",
        metrics::Unit::Seconds,
        "time from a webhook request's head to its answer"
    );
    metrics::describe_counter!("keyledger_events_total", "events stored, by type");
}

/// Counts one request. `source` is a configured name, or `unknown`.
pub fn request(source: &str, mode: Option<Mode>, outcome: Outcome, took: Duration) {
    let mode = mode.map_or("unknown", Mode::as_str);
    let outcome = outcome.label();
    metrics::counter!(
        "keyledger_ingest_requests_total", "source" => source.to_owned(), "mode" => mode, "outcome" => outcome
    )
    .increment(1);
    metrics::histogram!("keyledger_ingest_seconds", "outcome" => outcome).record(took.as_secs_f64());
}

/// Counts one event that is new in the log.
pub fn stored(kind: &str) {
    metrics::counter!("keyledger_events_total", "type" => counted_type(kind)).increment(1);
}

fn counted_type(kind: &str) -> &'static str {
    COUNTED_TYPES.binary_search(&kind).map_or("other", |index| COUNTED_TYPES[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_are_in_order_so_that_each_is_found() {
        for kind in COUNTED_TYPES {
            assert_eq!(counted_type(kind), kind);
        }
    }

    #[test]
    fn types_that_strangers_could_invent_are_counted_together() {
        assert_eq!(counted_type("stripe.invoice.paid.17"), "other");
        assert_eq!(counted_type("stripe.thin.v1.invoice.paid"), "other");
    }
}
