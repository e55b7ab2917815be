//! Newer shapes that the fixtures do not show, and values that are missing or odd.

use keyledger_schemas::stripe::fact::{Change, Fact, LineKind};
use keyledger_schemas::stripe::status::{DisputeStatus, PaymentStatus, SessionMode, SubscriptionStatus};
use serde_json::{Value, json};

use crate::fixtures::{at, charge, event, facts_of, links, shown, with};
use crate::the;

fn subscription(extra: Value) -> Value {
    with(
        json!({
            "id": "sub_1", "object": "subscription", "status": "active", "customer": "cus_1",
            "items": {"object": "list", "data": [{
                "id": "si_1", "object": "subscription_item", "quantity": 2, "current_period_end": 1_501_600_000,
                "price": {"id": "price_1", "object": "price", "product": "prod_1", "metadata": {"skm": "7"}},
            }]},
        }),
        extra,
    )
}

fn session(extra: Value) -> Value {
    with(
        json!({
            "id": "cs_1", "object": "checkout.session", "mode": "payment", "status": "complete", "payment_status": "paid",
            "amount_total": 4900, "currency": "eur", "payment_intent": "pi_1",
        }),
        extra,
    )
}

#[test]
fn the_name_of_the_event_says_what_kind_of_change_it_was() {
    let change = |kind: &str| the!(SubscriptionSeen, shown(kind, subscription(json!({})))).seen.change;
    assert_eq!(change("customer.subscription.created"), Change::Created);
    assert_eq!(change("customer.subscription.paused"), Change::Updated);
    assert_eq!(change("customer.subscription.pending_update_applied"), Change::Updated);
    assert_eq!(change("customer.subscription.deleted"), Change::Deleted);
}

#[test]
fn the_object_decides_who_reads_it_and_not_the_name_of_the_event() {
    let stated =
        shown("charge.something.new", json!({"id": "re_1", "object": "refund", "amount": 5, "charge": "ch_1"}));
    assert_eq!(the!(RefundSeen, stated).payment, Some(charge("ch_1")));
}

#[test]
fn an_event_without_a_date_is_older_than_every_other() {
    let mut body = event("customer.subscription.updated", subscription(json!({})));
    body["created"] = json!(1e300);
    assert_eq!(the!(SubscriptionSeen, facts_of(&body)).seen.at, at(0));
}

#[test]
fn under_accounts_v2_the_account_is_the_customer() {
    let accounts = json!({"customer": null, "customer_account": "acct_1"});
    let seen = the!(SubscriptionSeen, shown("customer.subscription.updated", subscription(accounts.clone())));
    assert_eq!(seen.customer.unwrap().as_str(), "acct_1");
    let seen = the!(SessionSeen, shown("checkout.session.completed", session(accounts)));
    assert_eq!(seen.customer.unwrap().as_str(), "acct_1");
}

#[test]
fn a_list_that_goes_on_says_so() {
    let truncated = |list: Value| {
        the!(SubscriptionSeen, shown("customer.subscription.updated", subscription(json!({"items": list}))))
            .items_truncated
    };
    assert!(truncated(json!({"data": [{"id": "si_1"}], "has_more": true})));
    assert!(truncated(json!({"data": [{"id": "si_1"}], "total_count": 2})));
    assert!(truncated(json!({"data": [], "has_more": true})));
    assert!(!truncated(json!({"data": [{"id": "si_1"}], "has_more": false, "total_count": 1})));
}

#[test]
fn a_removed_item_is_no_item() {
    let items = json!({"data": [{"id": "si_1", "deleted": true}, {"id": "si_2"}, {"no": "id"}]});
    let seen = the!(SubscriptionSeen, shown("customer.subscription.updated", subscription(json!({"items": items}))));
    assert_eq!(seen.items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["si_2"]);
}

#[test]
fn no_quantity_differs_from_none_at_all() {
    let quantity = |value: Value| {
        let items = json!({"data": [{"id": "si_1", "quantity": value}]});
        the!(SubscriptionSeen, shown("customer.subscription.updated", subscription(json!({"items": items})))).items[0]
            .quantity
    };
    assert_eq!(quantity(json!(0)), Some(0));
    assert_eq!(quantity(json!(null)), None);
    assert_eq!(quantity(json!(-1)), None);
    assert_eq!(quantity(json!(2.5)), None);
    assert_eq!(quantity(json!("3")), None);
    assert_eq!(quantity(json!(3.0)), Some(3));
    assert_eq!(quantity(json!(u64::MAX)), Some(u64::MAX));
}

#[test]
fn an_unknown_status_is_kept_as_written() {
    let status = |value: Value| {
        the!(SubscriptionSeen, shown("customer.subscription.updated", subscription(json!({"status": value})))).status
    };
    assert_eq!(status(json!("frozen")), SubscriptionStatus::Unknown("frozen".to_owned()));
    assert_eq!(status(json!(null)), SubscriptionStatus::Unknown(String::new()));
    assert_eq!(status(json!("x".repeat(65))), SubscriptionStatus::Unknown(String::new()));
}

#[test]
fn an_unknown_word_ranks_below_every_known_one() {
    assert!(DisputeStatus::from("appeal_later".to_owned()) < DisputeStatus::Prevented);
    assert!(PaymentStatus::from("partially_paid".to_owned()) < PaymentStatus::Unpaid);
}

#[test]
fn old_values_tell_null_from_unnamed() {
    let mut body = event("customer.subscription.updated", subscription(json!({})));
    body["data"]["previous_attributes"] =
        json!({"cancel_at": null, "status": "trialing", "metadata": {"a": null, "b": "1", "c": 3}});
    let previous = the!(SubscriptionSeen, facts_of(&body)).previous;
    assert_eq!((previous.cancel_at, previous.cancel_at_period_end), (Some(None), None));
    assert_eq!(previous.status, Some(SubscriptionStatus::Trialing));
    assert_eq!(previous.metadata, [("a".to_owned(), None), ("b".to_owned(), Some("1".to_owned()))].into());
    assert_eq!(previous.items, None);
    body["data"]["previous_attributes"] = json!({"cancel_at": 1_500_000_000, "cancel_at_period_end": false});
    let previous = the!(SubscriptionSeen, facts_of(&body)).previous;
    assert_eq!((previous.cancel_at, previous.cancel_at_period_end), (Some(Some(at(1_500_000_000))), Some(false)));
}

#[test]
fn a_roll_over_reads_the_same_from_the_subscription_and_from_its_items() {
    let previous = |previous: Value, root: Value| {
        let mut body = event("customer.subscription.updated", subscription(root));
        body["data"]["previous_attributes"] = previous;
        the!(SubscriptionSeen, facts_of(&body)).previous
    };
    let item = json!({"id": "si_1", "quantity": 2, "price": {"id": "price_1"}, "current_period_end": 1_499_000_000});
    let newer = previous(json!({"items": {"data": [item]}}), json!({}));
    let older = previous(
        json!({"current_period_end": 1_499_000_000, "current_period_start": 1_496_000_000}),
        json!({"current_period_end": 1_501_600_000}),
    );
    assert_eq!(newer, older);
    assert_eq!(newer.items.unwrap()[0].period_end, Some(at(1_499_000_000)));
}

#[test]
fn the_plan_and_quantity_that_live_payloads_repeat_change_nothing() {
    let mut body = event("customer.subscription.updated", subscription(json!({})));
    let item = json!({"id": "si_1", "quantity": 1, "price": {"id": "price_0"}, "current_period_end": 1_501_600_000});
    body["data"]["previous_attributes"] = json!({"items": {"data": [item]}});
    let plain = facts_of(&body);
    body["data"]["object"]["quantity"] = json!(2);
    body["data"]["object"]["plan"] = json!({"id": "price_1", "object": "plan", "product": "prod_1"});
    body["data"]["previous_attributes"]["quantity"] = json!(1);
    body["data"]["previous_attributes"]["plan"] = json!({"id": "price_0"});
    assert_eq!(facts_of(&body), plain);
    // Some name only the repetition.
    body["data"]["previous_attributes"] = json!({"quantity": 1, "plan": {"id": "price_0"}});
    assert_eq!(facts_of(&body), plain);
}

#[test]
fn a_basil_invoice_without_metadata_still_knows_its_subscription() {
    let stated = shown(
        "invoice.paid",
        json!({
            "id": "in_1", "object": "invoice", "status": "paid", "subscription": null, "currency": "usd", "total": 1,
            "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1", "metadata": null}},
            "lines": {"has_more": true, "data": [
                {"id": "il_1", "amount": 1, "parent": {"type": "subscription_item_details", "subscription_item_details":
                    {"subscription": "sub_1", "subscription_item": "si_1", "proration": false}},
                 "pricing": {"type": "price_details", "price_details": {"price": {"id": "price_1", "metadata": {"a": "b"}},
                    "product": "prod_1"}}},
                {"id": "il_2", "amount": 1, "parent": {"type": "invoice_item_details", "invoice_item_details":
                    {"subscription": "sub_1", "proration": true}}},
                {"id": "il_3", "amount": 1, "parent": {"type": "invoice_item_details", "invoice_item_details":
                    {"subscription": "sub_1", "proration": false}}, "metadata": {"not": "the subscription's"}},
            ]},
        }),
    );
    assert_eq!(links(&stated), ["in_1 -> sub_1"]);
    let seen = the!(InvoiceSeen, stated);
    assert!(seen.lines_truncated && seen.subscription_metadata.is_empty());
    let kinds: Vec<_> = seen.lines.iter().map(|line| (line.kind, line.proration)).collect();
    let expected = [(LineKind::Subscription, false), (LineKind::Subscription, true), (LineKind::InvoiceItem, false)];
    assert_eq!(kinds, expected);
    let price = seen.lines[0].price.as_ref().unwrap();
    assert_eq!((price.id.as_str(), price.product.as_ref().unwrap().as_str()), ("price_1", "prod_1"));
    assert_eq!(price.metadata["a"], "b");
}

#[test]
fn a_one_off_invoice_has_no_subscription() {
    let lines = json!({"data": [{"id": "il_1", "amount": 5, "parent": {"type": "invoice_item_details",
        "invoice_item_details": {"subscription": null, "proration": false}}}]});
    let object = json!({"id": "in_1", "object": "invoice", "status": "paid", "parent": null, "lines": lines});
    let seen = the!(InvoiceSeen, shown("invoice.paid", object));
    assert_eq!((seen.subscription, seen.lines[0].kind), (None, LineKind::InvoiceItem));
    assert_eq!(seen.currency.as_str(), "xxx");
}

#[test]
fn a_preview_of_an_invoice_states_nothing() {
    assert_eq!(shown("invoice.upcoming", json!({"object": "invoice", "subscription": "sub_1", "total": 5})), []);
}

#[test]
fn expanded_payments_of_an_invoice_link_once_they_are_paid() {
    let payments = json!({"data": [
        {"status": "paid", "payment": {"type": "payment_intent", "payment_intent": {"id": "pi_1", "latest_charge": "ch_1"}}},
        {"status": "canceled", "payment": {"type": "payment_intent", "payment_intent": "pi_2"}},
        {"status": "paid", "payment": {"type": "charge", "charge": "ch_3"}},
        {"status": "paid", "payment": {"type": "payment_record", "payment_record": "pr_1"}},
    ]});
    let stated =
        shown("invoice.paid", json!({"id": "in_1", "object": "invoice", "status": "paid", "payments": payments}));
    assert_eq!(links(&stated), ["ch_1 -> pi_1", "ch_1 -> in_1", "pi_1 -> in_1", "ch_3 -> in_1", "pr_1 -> in_1"]);
}

#[test]
fn an_invoice_payment_links_only_when_paid() {
    let stated = |kind: &str, status: &str| {
        let payment = json!({"type": "payment_intent", "payment_intent": "pi_1"});
        let object = json!({"id": "inpay_1", "object": "invoice_payment", "invoice": "in_1", "status": status,
                            "payment": payment});
        links(&shown(kind, object))
    };
    assert_eq!(stated("invoice_payment.paid", "paid"), ["pi_1 -> in_1"]);
    assert_eq!(stated("invoice_payment.paid", "settled"), ["pi_1 -> in_1"]);
    assert_eq!(stated("invoice_payment.updated", "paid"), ["pi_1 -> in_1"]);
    assert_eq!(stated("invoice_payment.canceled", "canceled"), Vec::<String>::new());
    assert_eq!(stated("invoice_payment.created", "open"), Vec::<String>::new());
}

#[test]
fn a_delayed_payment_that_succeeded_counts_as_paid_whatever_the_field_says() {
    let status =
        |kind: &str| the!(SessionSeen, shown(kind, session(json!({"payment_status": "unpaid"})))).payment_status;
    assert_eq!(status("checkout.session.async_payment_succeeded"), PaymentStatus::Paid);
    assert_eq!(status("checkout.session.async_payment_failed"), PaymentStatus::Unpaid);
    assert_eq!(status("checkout.session.completed"), PaymentStatus::Unpaid);
}

#[test]
fn the_intent_belongs_to_the_session_only_where_the_session_is_the_sale() {
    let stated = |extra: Value| links(&shown("checkout.session.completed", session(extra)));
    assert_eq!(stated(json!({})), ["pi_1 -> cs_1"]);
    assert_eq!(stated(json!({"invoice": {"id": "in_1"}})), ["cs_1 -> in_1", "pi_1 -> cs_1"]);
    let subscribing = json!({"mode": "subscription", "subscription": "sub_1", "invoice": "in_1"});
    assert_eq!(stated(subscribing), ["cs_1 -> sub_1", "cs_1 -> in_1"]);
}

#[test]
fn the_lines_of_a_session_are_read_where_all_of_them_are_shown() {
    let line =
        json!({"id": "li_1", "amount_total": 4900, "quantity": 2, "price": {"id": "price_1", "product": "prod_1"}});
    let lines = |list: Value| {
        the!(SessionSeen, shown("checkout.session.completed", session(json!({"line_items": list})))).lines
    };
    let read = lines(json!({"data": [line], "has_more": false})).unwrap();
    assert_eq!((read[0].id.as_str(), read[0].amount_minor, read[0].quantity), ("li_1", 4900, Some(2)));
    assert_eq!(read[0].price.as_ref().unwrap().product.as_ref().unwrap().as_str(), "prod_1");
    assert_eq!(lines(json!({"data": [line], "has_more": true})), None);
    assert_eq!(lines(json!(null)), None);
}

#[test]
fn a_guest_has_an_address_and_no_id() {
    let details = json!({"customer": null, "customer_details": {"email": "ada@example.com", "name": "Ada"},
                         "customer_email": "typed@example.com", "client_reference_id": "order-7", "mode": "donation"});
    let seen = the!(SessionSeen, shown("checkout.session.completed", session(details)));
    assert_eq!((seen.customer, seen.customer_email.as_deref()), (None, Some("ada@example.com")));
    assert_eq!((seen.customer_name.as_deref(), seen.client_reference_id.as_deref()), (Some("Ada"), Some("order-7")));
    assert_eq!(seen.mode, SessionMode::Unknown("donation".to_owned()));
}

#[test]
fn an_authorization_is_not_a_payment() {
    let paid = |extra: Value| {
        let object = with(
            json!({"id": "ch_1", "object": "charge", "paid": true, "status": "succeeded", "captured": true,
                                "amount": 900, "currency": "usd"}),
            extra,
        );
        let seen = the!(ChargeSeen, shown("charge.updated", object));
        (seen.paid, seen.amount_minor)
    };
    assert_eq!(paid(json!({})), (true, 900));
    assert_eq!(paid(json!({"amount_captured": 400})), (true, 400));
    assert_eq!(paid(json!({"captured": false, "amount_captured": 0})), (false, 0));
    assert_eq!(paid(json!({"status": "pending"})), (false, 900));
    assert_eq!(paid(json!({"status": "failed", "paid": false})), (false, 900));
}

#[test]
fn a_refund_without_a_charge_gives_back_money_of_its_intent() {
    let stated = |object: Value| {
        let stated = shown("refund.created", object);
        (links(&stated), the!(RefundSeen, stated).payment.map(|payment| payment.id().to_owned()))
    };
    let (linked, payment) = stated(json!({"id": "re_1", "object": "refund", "charge": null, "payment_intent": "pi_1"}));
    assert_eq!((linked.len(), payment.as_deref()), (0, Some("pi_1")));
    let (linked, payment) =
        stated(json!({"id": "re_1", "object": "refund", "charge": "ch_1", "payment_intent": "pi_1"}));
    assert_eq!((linked[0].as_str(), payment.as_deref()), ("ch_1 -> pi_1", Some("ch_1")));
}

#[test]
fn a_dispute_with_an_expanded_charge_names_the_intent_of_that_charge() {
    let object = json!({"id": "du_1", "object": "dispute", "status": "prevented", "amount": 5, "currency": "usd",
                        "charge": {"id": "ch_1", "object": "charge", "payment_intent": {"id": "pi_1"}}});
    let stated = shown("charge.dispute.created", object);
    assert_eq!(links(&stated), ["ch_1 -> pi_1"]);
    let seen = the!(DisputeSeen, stated);
    assert_eq!((seen.payment, seen.status), (Some(charge("ch_1")), DisputeStatus::Prevented));
}

#[test]
fn a_deleted_customer_is_told_by_the_event_or_by_the_object() {
    let deleted = |kind: &str, extra: Value| {
        let object = with(json!({"id": "cus_1", "object": "customer"}), extra);
        the!(CustomerSeen, shown(kind, object)).deleted
    };
    assert!(deleted("customer.deleted", json!({"email": "ada@example.com"})));
    assert!(deleted("customer.updated", json!({"deleted": true})));
    assert!(!deleted("customer.updated", json!({})));
}

#[test]
fn ids_that_would_break_our_keys_are_absent() {
    for id in [
        json!("sub:1"),
        json!("sub/1"),
        json!("sub 1"),
        json!("sub\u{0}1"),
        json!(""),
        json!("s".repeat(256)),
        json!(1),
    ] {
        assert_eq!(shown("customer.subscription.updated", subscription(json!({"id": id}))), [], "{id}");
        let seen =
            the!(SubscriptionSeen, shown("customer.subscription.updated", subscription(json!({"customer": id}))));
        assert_eq!(seen.customer, None, "{id}");
    }
}

#[test]
fn metadata_is_text_and_bounded() {
    let metadata = |value: Value| {
        the!(SubscriptionSeen, shown("customer.subscription.updated", subscription(json!({"metadata": value}))))
            .metadata
    };
    let odd =
        json!({"a": "1", "b": 2, "c": null, "d": {"e": "f"}, "empty": "", "nul": "\u{0}", "long": "x".repeat(1001)});
    assert_eq!(metadata(odd), [("a".to_owned(), "1".to_owned()), ("empty".to_owned(), String::new())].into());
    let many: serde_json::Map<_, _> = (0..1000).map(|n| (format!("k{n:04}"), json!("v"))).collect();
    assert_eq!(metadata(Value::Object(many)).len(), 100);
    assert_eq!(metadata(json!(["a"])).len(), 0);
}

#[test]
fn numbers_out_of_range_stay_at_its_end_and_times_out_of_range_are_absent() {
    let object = json!({"id": "in_1", "object": "invoice", "status": "paid", "currency": "usd", "total": u64::MAX,
                        "amount_paid": -1e300, "created": 253_370_764_800_i64, "date": -1});
    let seen = the!(InvoiceSeen, shown("invoice.paid", object));
    assert_eq!((seen.total_minor, seen.amount_paid_minor, seen.created), (i64::MAX, i64::MIN, None));
}

#[test]
fn unknown_objects_and_thin_events_state_nothing() {
    assert_eq!(shown("file.created", json!({"id": "file_1", "object": "file"})), []);
    let summary = json!({"object": "entitlements.active_entitlement_summary", "customer": "cus_1"});
    assert_eq!(shown("entitlements.active_entitlement_summary.updated", summary), []);
    let mut thin = event("v1.customer.updated", json!({"id": "cus_1", "object": "customer"}));
    assert_eq!(facts_of(&thin).len(), 1);
    thin["object"] = json!("v2.core.event");
    assert_eq!(facts_of(&thin), Vec::<Fact>::new());
}

#[test]
fn a_price_says_what_it_is_of_and_called() {
    let object = json!({"id": "price_1", "object": "price", "product": {"id": "prod_1", "object": "product"},
                        "nickname": "Pro monthly", "metadata": {"skm_product_id": "9"}});
    let seen = the!(PriceSeen, shown("price.updated", object));
    assert_eq!((seen.product.unwrap().as_str(), seen.nickname.as_deref()), ("prod_1", Some("Pro monthly")));
    assert_eq!((seen.metadata["skm_product_id"].as_str(), seen.deleted), ("9", false));
    let seen = the!(ProductSeen, shown("product.deleted", json!({"id": "prod_1", "object": "product", "name": "Pro"})));
    assert_eq!((seen.name.as_deref(), seen.deleted), (Some("Pro"), true));
}
