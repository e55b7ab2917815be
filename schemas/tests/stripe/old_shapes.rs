//! Shapes that accounts still receive when their endpoint is pinned to a version of 2016 to 2023.

use keyledger_schemas::stripe::fact::{Fact, LineKind, ObjectRef};
use keyledger_schemas::stripe::status::{
    InvoiceStatus, PaymentStatus, RefundStatus, SessionMode, SessionStatus, SubscriptionStatus,
};
use serde_json::{Value, json};

use crate::fixtures::{at, charge, event, facts_of, links, shown, with};
use crate::the;

/// A subscription of 2016: one plan, no items.
fn subscription_2016() -> Value {
    json!({
        "id": "sub_8", "object": "subscription", "customer": "cus_8", "status": "active", "quantity": 3,
        "current_period_start": 1_499_000_000, "current_period_end": 1_501_600_000, "trial_end": null,
        "cancel_at_period_end": false, "ended_at": null, "metadata": {"seat_owner": "ada"},
        "plan": {"id": "gold", "object": "plan", "interval": "month", "name": "Gold", "metadata": {"skm": "1"}},
    })
}

/// An invoice of 2016.
fn invoice_2016() -> Value {
    json!({
        "id": "in_8", "object": "invoice", "date": 1_499_999_000, "paid": true, "closed": true, "forgiven": false,
        "attempted": true, "charge": "ch_8", "customer": "cus_8", "subscription": "sub_8", "currency": "usd",
        "amount_due": 3000, "total": 3000, "receipt_number": null,
        "lines": {"object": "list", "total_count": 2, "has_more": false, "data": [
            {"id": "sub_8", "object": "line_item", "type": "subscription", "amount": 3000, "quantity": 3,
             "period": {"start": 1_499_000_000, "end": 1_501_600_000}, "proration": false, "subscription": null,
             "metadata": {"seat_owner": "ada"}, "plan": {"id": "gold", "object": "plan"}},
            {"id": "ii_8", "object": "line_item", "type": "invoiceitem", "amount": 0, "quantity": null,
             "period": {"start": 1_499_000_000, "end": 1_499_000_000}, "proration": false, "subscription": "sub_8",
             "metadata": {"setup": "fee"}, "plan": null},
        ]},
    })
}

#[test]
fn a_subscription_without_items_has_one_named_by_its_plan() {
    let seen = the!(SubscriptionSeen, shown("customer.subscription.created", subscription_2016()));
    assert_eq!((seen.items.len(), seen.items_truncated), (1, false));
    let item = &seen.items[0];
    let price = item.price.as_ref().unwrap();
    assert_eq!((item.id.as_str(), price.id.as_str(), item.quantity), ("gold", "gold", Some(3)));
    assert_eq!(price.metadata["skm"], "1");
    assert_eq!((item.period_start, item.period_end), (Some(at(1_499_000_000)), Some(at(1_501_600_000))));
}

#[test]
fn its_old_plan_and_quantity_come_out_as_an_item() {
    let mut body = event("customer.subscription.updated", subscription_2016());
    body["data"]["previous_attributes"] = json!({"quantity": 1, "plan": {"id": "silver", "object": "plan"}});
    let old = the!(SubscriptionSeen, facts_of(&body)).previous.items.unwrap();
    assert_eq!(old.len(), 1);
    assert_eq!((old[0].id.as_str(), old[0].price.as_ref().unwrap().as_str()), ("silver", "silver"));
    assert_eq!((old[0].quantity, old[0].period_end), (Some(1), Some(at(1_501_600_000))));
}

#[test]
fn a_metered_plan_has_no_quantity() {
    let mut object = subscription_2016();
    object["plan"]["usage_type"] = json!("metered");
    object["items"] = json!({"data": [{"id": "si_8", "plan": object["plan"]}]});
    let item = the!(SubscriptionSeen, shown("customer.subscription.updated", object)).items.remove(0);
    assert_eq!((item.id.as_str(), item.metered, item.quantity), ("si_8", true, None));
}

#[test]
fn a_lone_item_without_a_quantity_has_that_of_the_subscription() {
    let mut object = subscription_2016();
    object["items"] = json!({"data": [{"id": "si_8", "plan": {"id": "gold"}}]});
    assert_eq!(the!(SubscriptionSeen, shown("customer.subscription.updated", object)).items[0].quantity, Some(3));
}

#[test]
fn an_invoice_without_a_status_is_paid_when_it_says_so() {
    let stated = shown("invoice.payment_succeeded", invoice_2016());
    assert_eq!(links(&stated), ["in_8 -> sub_8", "ch_8 -> in_8"]);
    let seen = the!(InvoiceSeen, stated);
    assert_eq!((seen.status, seen.paid, seen.paid_at), (InvoiceStatus::Paid, true, Some(at(1_500_000_000))));
    assert_eq!((seen.created, seen.total_minor, seen.amount_paid_minor), (Some(at(1_499_999_000)), 3000, 3000));
    assert_eq!(seen.subscription_metadata["seat_owner"], "ada");
    assert!(!seen.lines_truncated);
}

#[test]
fn a_line_of_2016_is_the_subscription_and_a_set_up_fee_stands_alone() {
    let seen = the!(InvoiceSeen, shown("invoice.payment_succeeded", invoice_2016()));
    let kinds: Vec<_> = seen.lines.iter().map(|line| (line.id.as_str(), line.kind, line.proration)).collect();
    assert_eq!(kinds, [("sub_8", LineKind::Subscription, false), ("ii_8", LineKind::InvoiceItem, false)]);
    assert_eq!(seen.lines[0].price.as_ref().unwrap().id.as_str(), "gold");
    assert_eq!(seen.lines[0].item, None);
}

#[test]
fn the_subscription_of_an_invoice_may_be_told_by_its_line_alone() {
    let mut object = invoice_2016();
    object["subscription"] = json!(null);
    object["lines"]["data"][1]["subscription"] = json!(null);
    assert_eq!(links(&shown("invoice.payment_succeeded", object))[0], "in_8 -> sub_8");
}

#[test]
fn an_old_proration_is_an_invoice_item_that_bills_a_subscription() {
    let mut object = invoice_2016();
    object["lines"]["data"][1]["proration"] = json!(true);
    let seen = the!(InvoiceSeen, shown("invoice.payment_succeeded", object));
    assert_eq!((seen.lines[1].kind, seen.lines[1].proration), (LineKind::Subscription, true));
}

#[test]
fn lines_of_2018_and_2019_go_by_their_unique_id() {
    let mut object = invoice_2016();
    object["lines"]["data"][0]["id"] = json!("sli_8");
    object["lines"]["data"][0]["unique_id"] = json!("il_8");
    assert_eq!(the!(InvoiceSeen, shown("invoice.paid", object)).lines[0].id.as_str(), "il_8");
}

#[test]
fn an_old_invoice_is_open_until_it_is_paid_or_given_up() {
    let status = |paid: bool, closed: bool, forgiven: bool| {
        let mut object = invoice_2016();
        object["paid"] = json!(paid);
        object["closed"] = json!(closed);
        object["forgiven"] = json!(forgiven);
        let seen = the!(InvoiceSeen, shown("invoice.updated", object));
        assert_eq!((seen.paid, seen.paid_at.is_some(), seen.amount_paid_minor > 0), (paid, paid, paid));
        seen.status
    };
    assert_eq!(status(true, true, false), InvoiceStatus::Paid);
    assert_eq!(status(false, false, false), InvoiceStatus::Open);
    assert_eq!(status(false, true, false), InvoiceStatus::Uncollectible);
    assert_eq!(status(false, false, true), InvoiceStatus::Uncollectible);
}

#[test]
fn money_from_elsewhere_is_not_counted_as_paid_through_stripe() {
    let object = json!({
        "id": "in_1", "object": "invoice", "status": "paid", "paid": true, "paid_out_of_band": true, "total": 900,
        "amount_paid": 900, "currency": "eur", "status_transitions": {"paid_at": 1_400_000_000},
    });
    let seen = the!(InvoiceSeen, shown("invoice.paid", object));
    assert_eq!((seen.paid, seen.total_minor, seen.amount_paid_minor), (true, 900, 0));
    assert_eq!(seen.paid_at, Some(at(1_400_000_000)));
}

#[test]
fn an_old_charge_shows_its_refunds() {
    let object = json!({
        "id": "ch_8", "object": "charge", "paid": true, "captured": true, "amount": 3000, "amount_refunded": 500,
        "currency": "usd", "customer": "cus_8", "invoice": "in_8",
        "refunds": {"object": "list", "data": [
            {"id": "re_8", "object": "refund", "amount": 500, "currency": "usd", "charge": "ch_8"},
            {"id": "re_9", "object": "refund", "amount": 200, "currency": "usd", "status": "failed"},
        ]},
    });
    let stated = shown("charge.refunded", object);
    assert_eq!(links(&stated), ["ch_8 -> in_8"]);
    let refunds: Vec<_> = stated
        .iter()
        .filter_map(|fact| match fact {
            Fact::RefundSeen(refund) => Some((refund.id.as_str(), refund.amount_minor, refund.status.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(refunds, [("re_8", 500, RefundStatus::Succeeded), ("re_9", 200, RefundStatus::Failed)]);
    assert!(stated.iter().all(|fact| !matches!(fact, Fact::RefundSeen(r) if r.payment != Some(charge("ch_8")))));
    let seen = the!(ChargeSeen, stated);
    assert_eq!((seen.paid, seen.amount_minor, seen.refunded_minor), (true, 3000, 500));
}

#[test]
fn an_old_intent_shows_its_charges_and_its_invoice() {
    let object = json!({
        "id": "pi_1", "object": "payment_intent", "invoice": "in_1",
        "charges": {"object": "list", "data": [{"id": "ch_1", "object": "charge"}, {"id": "ch_2", "object": "charge"}]},
    });
    let expected = ["pi_1 -> in_1", "ch_1 -> pi_1", "ch_1 -> in_1", "ch_2 -> pi_1", "ch_2 -> in_1"];
    assert_eq!(links(&shown("payment_intent.succeeded", object)), expected);
}

#[test]
fn the_first_sessions_did_not_say_their_mode() {
    let session = |extra: Value| {
        let object = with(json!({"id": "cs_1", "object": "checkout.session"}), extra);
        the!(SessionSeen, shown("checkout.session.completed", object))
    };
    assert_eq!(session(json!({"subscription": "sub_1"})).mode, SessionMode::Subscription);
    assert_eq!(session(json!({"setup_intent": "seti_1"})).mode, SessionMode::Setup);
    let one_off = session(json!({"payment_intent": "pi_1", "customer_email": "ada@example.com"}));
    assert_eq!((one_off.mode, one_off.status), (SessionMode::Payment, SessionStatus::Complete));
    assert_eq!(one_off.customer_email.as_deref(), Some("ada@example.com"));
    // Nothing is delivered on a guess.
    assert_eq!(one_off.payment_status, PaymentStatus::Unpaid);
}

#[test]
fn a_plan_is_a_price_and_its_name_a_nickname() {
    let object = json!({"id": "gold", "object": "plan", "name": "Gold", "metadata": {"skm": "1"}});
    let seen = the!(PriceSeen, shown("plan.deleted", object));
    assert_eq!((seen.id.as_str(), seen.nickname.as_deref(), seen.deleted), ("gold", Some("Gold"), true));
}

#[test]
fn a_subscription_that_ended_long_ago_says_when() {
    let mut object = subscription_2016();
    object["status"] = json!("canceled");
    object["ended_at"] = json!(1_499_500_000);
    let seen = the!(SubscriptionSeen, shown("customer.subscription.deleted", object));
    assert_eq!((seen.status.clone(), seen.ended()), (SubscriptionStatus::Canceled, Some(at(1_499_500_000))));
}

#[test]
fn an_old_dispute_names_its_charge_and_nothing_else() {
    let object = json!({"id": "dp_1", "object": "dispute", "charge": "ch_1", "amount": 5, "currency": "usd",
                        "status": "needs_response"});
    let stated = shown("charge.dispute.created", object);
    assert_eq!(links(&stated), Vec::<String>::new());
    assert_eq!(the!(DisputeSeen, stated).payment, Some(ObjectRef::Charge("ch_1".into())));
}
