//! Webhook bodies of any number of customers: an event of the fixtures, with ids of its own each time.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

/// What an id begins with when each copy needs one of its own. Prices and products are shared.
const OWN: [&str; 14] =
    ["evt_", "sub_", "in_", "cus_", "si_", "ch_", "pi_", "cs_live_", "il_", "inpay_", "re_", "dp_", "ii_", "txn_"];

/// Ids are longer than this; words such as `in_progress` are not.
const ID_BYTES_MIN: usize = 16;

/// Stands behind an id until it is rendered. No fixture has it.
const MARK: &str = "\u{2603}";

/// One event, ready to be made out to any customer.
#[derive(Clone, Debug)]
pub struct Template {
    /// The text between the places where the suffix goes.
    pieces: Vec<String>,
}

impl Template {
    /// An event of the fixtures, by its file below `schemas/testdata/stripe/events`.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub fn fixture(file: &str) -> Result<Self> {
        let body = fs::read(events().join(file)).with_context(|| format!("no fixture {file}"))?;
        let mut event = serde_json::from_slice(&body)?;
        mark(&mut event);
        let text = serde_json::to_string_pretty(&event)?;
        Ok(Self { pieces: text.split(MARK).map(str::to_owned).collect() })
    }

    /// The same with another text in the place of this one.
    #[must_use]
    pub fn replace(&self, from: &str, to: &str) -> Self {
        Self { pieces: self.pieces.iter().map(|piece| piece.replace(from, to)).collect() }
    }

    /// The body of customer `number`, laid out as Stripe does.
    pub fn render(&self, number: usize) -> Vec<u8> {
        self.pieces.join(&format!("x{number}")).into_bytes()
    }
}

/// Where the events of the fixtures are.
pub fn events() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/testdata/stripe/events"))
}

/// Marks every id of its own, and takes out keys that another system is said to have made.
fn mark(value: &mut Value) {
    match value {
        Value::String(text) => {
            if text.len() >= ID_BYTES_MIN && OWN.iter().any(|prefix| text.starts_with(prefix)) {
                text.push_str(MARK);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(mark),
        Value::Object(fields) => {
            fields.remove("skm_key_id");
            fields.values_mut().for_each(mark);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_customer_has_ids_of_its_own_and_the_same_price() {
        let template = Template::fixture("a_subscription_lifecycle/invoice.paid.2024-06-20.a07.json").unwrap();
        let [one, other]: [Value; 2] = [1, 22].map(|number| serde_json::from_slice(&template.render(number)).unwrap());
        assert_ne!(one["id"], other["id"]);
        assert_ne!(one["data"]["object"]["subscription"], other["data"]["object"]["subscription"]);
        let price = "/data/object/lines/data/0/price/id";
        assert!(one.pointer(price).is_some());
        assert_eq!(one.pointer(price), other.pointer(price));
    }
}
