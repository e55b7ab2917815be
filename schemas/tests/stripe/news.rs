//! What a fetched object adds to what the log says, on the end of each story and on single changes.

use keyledger_schemas::stripe::fact::Fact;
use keyledger_schemas::stripe::fetched::{Fetched, with_list};
use keyledger_schemas::stripe::{facts, news};
use serde_json::{Value, json};

use crate::fixtures::{NEW, OLD, at, event, facts_of, read, shown, stories, with};

fn fetched(answer: Value) -> Vec<Fact> {
    let fetched = Fetched {
        object: answer["object"].as_str().unwrap().to_owned(),
        about: answer["id"].as_str().unwrap().to_owned(),
        at: at(1_900_000_000),
        path: "/".to_owned(),
        answer,
    };
    facts(&fetched.encode())
}

fn invoice() -> Value {
    serde_json::from_slice(&read(&format!("api/{NEW}/get_invoice.json"))).unwrap()
}

fn subscription() -> Value {
    serde_json::from_slice(&read(&format!("api/{NEW}/get_subscription.json"))).unwrap()
}

/// Whatever a webhook showed last is no news when it is fetched in the same rendering or in the other.
#[test]
fn an_object_as_its_last_event_showed_it_is_no_news() {
    for story in stories() {
        for (known_in, asked_in) in [(OLD, NEW), (NEW, OLD), (NEW, NEW)] {
            let told: Vec<Fact> =
                story.steps.iter().filter_map(|step| step.body(known_in)).flat_map(|body| facts(&body)).collect();
            let mut last = std::collections::BTreeMap::new();
            for step in &story.steps {
                let Some(body) = step.body(asked_in) else { continue };
                let body: Value = serde_json::from_slice(&body).unwrap();
                let object = body["data"]["object"].clone();
                if ["subscription", "invoice", "checkout.session", "charge"]
                    .contains(&object["object"].as_str().unwrap())
                {
                    last.insert(object["id"].as_str().unwrap().to_owned(), object);
                }
            }
            for (id, object) in last {
                // Which invoice a charge paid is said by other objects in the newer rendering.
                let offered: Vec<_> =
                    fetched(object).into_iter().filter(|fact| !matches!(fact, Fact::Linked(_))).collect();
                assert!(!news(&told, &offered), "{} {id} {known_in} {asked_in}", story.story);
            }
        }
    }
}

#[test]
fn what_nothing_is_known_of_is_news_and_then_is_not() {
    for object in [subscription(), invoice()] {
        let offered = fetched(object);
        assert!(news(&[], &offered));
        assert!(!news(&offered, &offered));
    }
}

#[test]
fn a_subscription_that_changed_is_news() {
    let known = shown("customer.subscription.updated", subscription());
    assert!(!news(&known, &fetched(subscription())));
    for change in [
        json!({"status": "past_due"}),
        json!({"metadata": {"a": "b"}}),
        json!({"cancel_at": 1_900_000_001}),
        json!({"cancel_at_period_end": true}),
        json!({"status": "canceled", "ended_at": 1_899_999_999}),
        json!({"status": "something_new"}),
        with_list(json!({}), "items", Vec::new()),
    ] {
        let offered = fetched(with(subscription(), change.clone()));
        assert!(news(&known, &offered), "{change}");
        let both = [known.clone(), offered.clone()].concat();
        assert!(!news(&both, &offered), "{change}");
    }
}

#[test]
fn a_subscription_that_ended_is_not_brought_back_by_an_answer() {
    let ended = with(subscription(), json!({"status": "canceled", "ended_at": 1_400_000_000}));
    let known = shown("customer.subscription.deleted", ended);
    assert!(!news(&known, &fetched(subscription())));
}

#[test]
fn an_invoice_is_news_once_it_is_paid_and_once_all_of_its_lines_are_there() {
    let open = with(invoice(), json!({"status": "open", "amount_paid": 0}));
    let known = shown("invoice.finalized", open.clone());
    assert!(!news(&known, &fetched(open)));
    assert!(news(&known, &fetched(invoice())));

    let mut cut = invoice();
    cut["lines"]["has_more"] = json!(true);
    let known = shown("invoice.paid", cut.clone());
    assert!(!news(&known, &fetched(cut)));
    assert!(news(&known, &fetched(invoice())));
    assert!(!news(&fetched(invoice()), &known));
}

#[test]
fn a_session_is_news_with_its_lines() {
    let name = format!("api/{NEW}/get_checkout_session_payment_expand_line_items.json");
    let whole: Value = serde_json::from_slice(&read(&name)).unwrap();
    let mut bare = whole.clone();
    bare.as_object_mut().unwrap().remove("line_items");
    let known = shown("checkout.session.completed", bare.clone());
    assert!(!news(&known, &fetched(bare.clone())));
    assert!(news(&known, &fetched(whole)));
    let unpaid = shown("checkout.session.completed", with(bare.clone(), json!({"payment_status": "unpaid"})));
    assert!(news(&unpaid, &fetched(bare)));
}

#[test]
fn money_back_is_news_as_far_as_it_is_more() {
    let charge = |refunded: i64| {
        json!({"id": "ch_1", "object": "charge", "amount": 10, "paid": true, "status": "succeeded", "currency": "usd",
               "amount_refunded": refunded})
    };
    let known = facts_of(&event("charge.refunded", charge(5)));
    assert!(!news(&known, &fetched(charge(5))) && !news(&known, &fetched(charge(4))));
    assert!(news(&known, &fetched(charge(6))));

    let refund = |status: &str| json!({"id": "re_1", "object": "refund", "amount": 5, "currency": "usd", "charge": "ch_1", "status": status});
    let known = facts_of(&event("refund.updated", refund("succeeded")));
    assert!(!news(&known, &fetched(refund("pending"))) && !news(&known, &fetched(refund("succeeded"))));
    assert!(news(&known, &fetched(refund("failed"))));

    let dispute = |status: &str| json!({"id": "dp_1", "object": "dispute", "amount": 5, "currency": "usd", "charge": "ch_1", "status": status});
    let known = facts_of(&event("charge.dispute.created", dispute("needs_response")));
    assert!(!news(&known, &fetched(dispute("needs_response"))));
    assert!(news(&known, &fetched(dispute("lost"))));
}

#[test]
fn of_customers_and_the_catalog_the_newest_sight_counts() {
    for (object, kind) in [("customer", "customer.updated"), ("price", "price.updated"), ("product", "product.updated")]
    {
        let thing = |value: &str| json!({"id": "x_1", "object": object, "metadata": {"k": value}});
        let known = facts_of(&event(kind, thing("a")));
        assert!(!news(&known, &fetched(thing("a"))), "{object}");
        assert!(news(&known, &fetched(thing("b"))), "{object}");
        assert!(!news(&fetched(thing("b")), &known), "{object}: an older sight says nothing");
    }
    let gone = json!({"id": "cus_1", "object": "customer", "deleted": true});
    let known =
        facts_of(&event("customer.updated", json!({"id": "cus_1", "object": "customer", "email": "a@b.example"})));
    assert!(news(&known, &fetched(gone.clone())));
    assert!(!news(&fetched(gone.clone()), &fetched(gone)));
}
