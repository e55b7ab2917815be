//! What holds for bodies that nobody wrote by hand: reading never panics, and what does not matter changes nothing.

use std::sync::LazyLock;

use keyledger_schemas::stripe::fact::Fact;
use keyledger_schemas::stripe::{Header, facts};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use crate::fixtures::{bodies, event, facts_of, link_of};

/// Every event of the fixtures.
static EVENTS: LazyLock<Vec<Value>> =
    LazyLock::new(|| bodies().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect());

/// Fields that hold an id, or the object when Stripe was asked to expand it.
const REFERENCES: [&str; 10] = [
    "charge",
    "customer",
    "invoice",
    "latest_charge",
    "payment_intent",
    "price",
    "product",
    "subscription",
    "customer_account",
    "dispute",
];

/// The objects that are read.
const OBJECTS: [&str; 11] = [
    "subscription",
    "invoice",
    "invoice_payment",
    "checkout.session",
    "charge",
    "payment_intent",
    "refund",
    "dispute",
    "customer",
    "price",
    "product",
];

/// Reads `body` in every way there is, and checks what every reading promises.
fn read_all(body: &[u8]) -> Vec<Fact> {
    let _ = Header::read(body);
    let stated = facts(body);
    assert_eq!(stated, facts(body));
    let written = serde_json::to_vec(&stated).unwrap();
    assert_eq!(serde_json::from_slice::<Vec<Fact>>(&written).unwrap(), stated);
    for link in stated.iter().filter_map(link_of) {
        for id in [link.child.id(), link.parent.id()] {
            let sane = !id.is_empty() && id.len() <= 255 && !id.contains([':', '/', ' ', '\n', '\0']);
            assert!(sane, "{id:?}");
        }
    }
    stated
}

/// Calls `change` on every object within `value`, from the leaves up, except inside metadata and old values.
fn each_object(value: &mut Value, change: &impl Fn(&mut Map<String, Value>)) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|element| each_object(element, change)),
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if name != "metadata" && name != "previous_attributes" {
                    each_object(field, change);
                }
            }
            change(fields);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every fixture states the same after `change` on each of its objects.
fn changes_nothing(change: impl Fn(&mut Map<String, Value>)) {
    for event in EVENTS.iter() {
        let mut changed = event.clone();
        each_object(&mut changed["data"], &change);
        assert_eq!(facts_of(&changed), facts_of(event), "{}", event["type"]);
    }
}

#[test]
fn fields_of_next_month_change_nothing() {
    changes_nothing(|fields| {
        fields.insert("a_field_of_next_month".to_owned(), json!({"id": "new_1", "data": [{"status": "paid"}]}));
    });
}

#[test]
fn null_and_absent_are_the_same() {
    changes_nothing(|fields| fields.retain(|_, value| !value.is_null()));
}

#[test]
fn an_id_and_the_object_it_names_are_the_same() {
    changes_nothing(|fields| {
        for name in REFERENCES {
            if let Some(field) = fields.get_mut(name).filter(|field| field.is_string()) {
                *field = json!({"id": *field, "object": name});
            }
        }
    });
}

#[test]
fn the_counts_that_live_lists_carry_change_nothing() {
    changes_nothing(|fields| {
        if let Some(shown) = fields.get("data").and_then(Value::as_array).map(Vec::len) {
            fields.insert("total_count".to_owned(), json!(shown));
        }
    });
}

#[test]
fn the_time_of_delivery_changes_nothing() {
    for event in EVENTS.iter() {
        let mut later = event.clone();
        later["pending_webhooks"] = json!(7);
        assert_eq!(facts_of(&later), facts_of(event));
    }
}

#[test]
fn a_body_that_nests_too_deep_to_read_states_nothing() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let body = event("customer.created", json!({"id": "cus_1", "object": "customer", "deep": "DEEP"}));
    let body = body.to_string().replace("\"DEEP\"", &deep);
    assert_eq!(read_all(body.as_bytes()), []);
}

/// Any JSON, a few levels deep, with ids, words and numbers that come near what is looked for.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["paid", "active", "sub_1", "in_1", "usd", "created", ""]).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        let name = prop_oneof![field_name(), any::<String>()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..8).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The name of a field that some object of the fixtures has.
fn field_name() -> impl Strategy<Value = String> {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let names = std::cell::RefCell::new(std::collections::BTreeSet::new());
        for event in EVENTS.iter() {
            each_object(&mut event.clone(), &|fields| names.borrow_mut().extend(fields.keys().cloned()));
        }
        names.into_inner().into_iter().collect()
    });
    prop::sample::select(NAMES.clone())
}

/// One thing done to one place of a body.
#[derive(Clone, Debug)]
enum Mutation {
    Remove,
    Replace(Value),
    Nest(usize),
    Repeat,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let odd = vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e308),
        json!(0.5),
        json!(""),
        json!("a/b:c d"),
        json!("\u{0}"),
        json!("x".repeat(5_000)),
        json!([]),
        json!({}),
        json!({"id": {"id": "x"}}),
        json!({"data": {"data": []}}),
    ];
    prop_oneof![
        Just(Mutation::Remove),
        prop::sample::select(odd).prop_map(Mutation::Replace),
        any_json().prop_map(Mutation::Replace),
        (1_usize..100).prop_map(Mutation::Nest),
        Just(Mutation::Repeat),
    ]
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum(),
        _ => 0,
    }
}

/// Does `mutation` to the `place`th value of `value`, counted from the root down.
fn mutate(value: &mut Value, place: &mut usize, mutation: &Mutation) {
    if *place == 0 {
        match mutation {
            Mutation::Remove => *value = Value::Null,
            Mutation::Replace(other) => *value = other.clone(),
            Mutation::Nest(depth) => (0..*depth).for_each(|_| *value = json!([value.take()])),
            Mutation::Repeat => *value = json!({"id": value.clone(), "data": [value.clone(), value.clone()]}),
        }
        *place = usize::MAX;
        return;
    }
    *place -= 1;
    let children: Vec<&mut Value> = match value {
        Value::Array(elements) => elements.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        if *place == usize::MAX {
            return;
        }
        mutate(child, place, mutation);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read(body in prop::collection::vec(any::<u8>(), 0..300)) {
        read_all(&body);
    }

    #[test]
    fn any_json_is_read(body in any_json()) {
        read_all(body.to_string().as_bytes());
    }

    #[test]
    fn any_object_of_a_known_kind_is_read(
        mut object in prop::collection::vec((field_name(), any_json()), 0..12)
            .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        kind in prop::sample::select(OBJECTS.to_vec()),
        previous in any_json(),
    ) {
        object["id"] = json!("x_1");
        object["object"] = json!(kind);
        let mut body = event("some.thing.updated", object);
        body["data"]["previous_attributes"] = previous;
        read_all(body.to_string().as_bytes());
    }

    #[test]
    fn a_damaged_event_is_read(
        which in any::<Index>(),
        damage in prop::collection::vec((any::<Index>(), mutation()), 1..6),
    ) {
        let mut body = which.get(&EVENTS).clone();
        for (place, mutation) in &damage {
            let mut place = place.index(size(&body));
            mutate(&mut body, &mut place, mutation);
        }
        read_all(body.to_string().as_bytes());
    }

    #[test]
    fn a_cut_event_is_read(which in any::<Index>(), end in any::<Index>()) {
        let body = which.get(&EVENTS).to_string();
        let cut = &body.as_bytes()[..end.index(body.len())];
        prop_assert_eq!(read_all(cut), []);
        prop_assert!(Header::read(cut).is_err());
    }

    #[test]
    fn damage_around_the_object_leaves_a_header_that_is_read(
        which in any::<Index>(),
        field in prop::sample::select(vec!["object", "api_version", "created", "account", "context", "data", "request"]),
        odd in any_json(),
    ) {
        let mut body = which.get(&EVENTS).clone();
        body[field] = odd;
        prop_assert!(Header::read(body.to_string().as_bytes()).is_ok());
    }
}
