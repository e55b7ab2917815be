//! What an account holds.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::query::{Field, Fields, Value};

/// A customer, as the account holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Customer {
    /// Its number.
    pub id: u64,
    /// At most 100 characters.
    pub name: String,
    /// At most 100 characters; several customers may have the same.
    pub email: String,
    /// At most 100 characters.
    pub company_name: String,
    /// At most 1000 characters. Calls do not show them.
    pub notes: String,
    /// When it was made.
    pub created: Timestamp,
    /// What its portal is opened with.
    pub secret: String,
    /// The code of its association link, if there is one.
    pub link: Option<String>,
    /// Whether it may free seats by itself.
    pub allow_activation_management: bool,
    /// Whether several people may use its portal.
    pub allow_multiple_user_association: bool,
    /// 0 for unlimited.
    pub max_no_of_devices: u32,
    /// For searches that lag.
    #[serde(skip)]
    pub(super) made: Instant,
}

/// A text or a number under a name, at a license or at the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataObject {
    /// Its number.
    pub id: u64,
    /// Its name; several may have the same.
    pub name: String,
    /// A text.
    pub string_value: String,
    /// A number.
    pub int_value: i64,
}

/// A license, as the account holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct License {
    /// The product it is of.
    pub product_id: u64,
    /// Its number within the product.
    pub id: u64,
    /// Its number within the account.
    pub global_id: u64,
    /// What the customer types in.
    pub key: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends, if it is limited in time.
    pub expires: Timestamp,
    /// The days it was made for.
    pub period: u32,
    /// F1 to F8.
    pub features: [bool; 8],
    /// At most 500 characters.
    pub notes: String,
    /// The notes it was made with.
    pub notes_at_first: String,
    /// Whether it is blocked.
    pub block: bool,
    /// Whether its period begins with the first activation.
    pub trial_activation: bool,
    /// 0 for unlimited.
    pub max_no_of_machines: u32,
    /// Machine codes, one in each line.
    pub allowed_machines: String,
    /// Whose it is.
    pub customer_id: Option<u64>,
    /// In the order in which they were added.
    pub data_objects: Vec<DataObject>,
    /// All days that were added to it since it was made.
    pub days_added: i64,
    /// How often days were added.
    pub extensions: u32,
    /// How often it was really blocked.
    pub blocks: u32,
    /// Whether a person made it.
    pub by_hand: bool,
    /// For searches that lag.
    #[serde(skip)]
    pub(super) made: Instant,
}

/// Everything, and the numbers that come next.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) customers: Vec<Customer>,
    pub(super) licenses: Vec<License>,
    /// Those of the account itself.
    pub(super) data_objects: Vec<DataObject>,
    next_customer: u64,
    next_global: u64,
    next_in_product: BTreeMap<u64, u64>,
    next_data_object: u64,
    /// Where keys, secrets and links come from: the same order of calls gives the same ones.
    chance: u64,
}

impl Account {
    pub(super) fn new() -> Self {
        Self {
            customers: Vec::new(),
            licenses: Vec::new(),
            data_objects: Vec::new(),
            next_customer: 4711,
            // Low, so that the number of one license in the account is the number of another in its product.
            next_global: 4,
            next_in_product: BTreeMap::new(),
            next_data_object: 9001,
            chance: 0x1234_5678,
        }
    }

    pub(super) fn customer(&self, id: u64) -> Option<&Customer> {
        self.customers.iter().find(|customer| customer.id == id)
    }

    pub(super) fn numbered_customer(&mut self) -> u64 {
        next(&mut self.next_customer)
    }

    /// The next number in the product and the next in the account.
    pub(super) fn numbered_license(&mut self, product: u64) -> (u64, u64) {
        (next(self.next_in_product.entry(product).or_insert(1)), next(&mut self.next_global))
    }

    pub(super) fn numbered_data_object(&mut self) -> u64 {
        next(&mut self.next_data_object)
    }

    /// Four groups of five characters.
    pub(super) fn new_key(&mut self) -> String {
        let groups: Vec<String> = (0..4).map(|_| self.letters(5)).collect();
        groups.join("-")
    }

    /// So many random characters.
    pub(super) fn letters(&mut self, count: usize) -> String {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let letter = |number: u64| char::from(ALPHABET[usize::try_from(number % 32).unwrap_or(0)]);
        (0..count).map(|_| letter(self.random())).collect()
    }

    /// `SplitMix64`.
    fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A license with its owner, for searches and for answers.
    pub(super) fn whole<'a>(&'a self, license: &'a License) -> Whole<'a> {
        Whole { license, customer: license.customer_id.and_then(|id| self.customer(id)) }
    }
}

fn next(counter: &mut u64) -> u64 {
    let number = *counter;
    *counter += 1;
    number
}

/// A license with its owner.
pub(super) struct Whole<'a> {
    pub(super) license: &'a License,
    pub(super) customer: Option<&'a Customer>,
}

impl Fields for Whole<'_> {
    fn field(&self, name: &str) -> Option<Field> {
        let license = self.license;
        let text = |text: &str| Value::Text(text.to_owned());
        let number = |number: u64| Value::Number(i64::try_from(number).unwrap_or(i64::MAX));
        if let Some(name) = name.strip_prefix("customer.") {
            let customer = self.customer;
            let of = |read: fn(&Customer) -> &str| {
                Field::perhaps(customer, Value::Text(String::new()), |customer| text(read(customer)))
            };
            return match name {
                "id" => Some(Field::perhaps(customer, Value::Number(0), |customer| number(customer.id))),
                "name" => Some(of(|customer| &customer.name)),
                "email" => Some(of(|customer| &customer.email)),
                "companyname" => Some(of(|customer| &customer.company_name)),
                _ => None,
            };
        }
        let value = match name {
            "id" => number(license.id),
            "globalid" => number(license.global_id),
            "key" => text(&license.key),
            "notes" => text(&license.notes),
            "block" => Value::Flag(license.block),
            "trialactivation" => Value::Flag(license.trial_activation),
            "created" => Value::Time(license.created),
            "expires" => Value::Time(license.expires),
            "period" => number(license.period.into()),
            "maxnoofmachines" => number(license.max_no_of_machines.into()),
            feature => Value::Flag(license.features[feature_number(feature)? - 1]),
        };
        Some(Field::of(value))
    }

    fn parts(&self) -> Vec<&dyn Fields> {
        self.license.data_objects.iter().map(|object| object as &dyn Fields).collect()
    }
}

/// `f3` is 3.
fn feature_number(name: &str) -> Option<usize> {
    name.strip_prefix('f')?.parse().ok().filter(|number| (1..=8).contains(number))
}

impl Fields for DataObject {
    fn field(&self, name: &str) -> Option<Field> {
        let value = match name {
            "name" => Value::Text(self.name.clone()),
            "stringvalue" => Value::Text(self.string_value.clone()),
            "intvalue" => Value::Number(self.int_value),
            "id" => Value::Number(i64::try_from(self.id).unwrap_or(i64::MAX)),
            _ => return None,
        };
        Some(Field::of(value))
    }

    fn parts(&self) -> Vec<&dyn Fields> {
        Vec::new()
    }
}

/// Times carry no zone.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

impl Customer {
    /// As answers show it.
    pub(super) fn json(&self, with_notes: bool) -> Json {
        let mut shown = json!({
            "id": self.id,
            "name": self.name,
            "email": self.email,
            "companyName": self.company_name,
            "created": time(self.created),
        });
        if with_notes {
            shown["notes"] = json!(self.notes);
        }
        shown
    }
}

impl DataObject {
    /// As answers show it.
    pub(super) fn json(&self) -> Json {
        json!({ "id": self.id, "name": self.name, "stringValue": self.string_value, "intValue": self.int_value })
    }
}

impl Whole<'_> {
    /// As answers show it; older versions of the model leave fields out.
    pub(super) fn json(&self, model: i64, unknown_fields: bool) -> Json {
        let license = self.license;
        let mut shown = json!({
            "productId": license.product_id,
            "id": license.id,
            "key": license.key,
            "created": time(license.created),
            "expires": time(license.expires),
            "period": license.period,
            "notes": license.notes,
            "block": license.block,
            "globalId": license.global_id,
            "trialActivation": license.trial_activation,
            "maxNoOfMachines": license.max_no_of_machines,
            "allowedMachines": license.allowed_machines,
            "activatedMachines": [],
            "customer": self.customer.map(|customer| customer.json(false)),
            "dataObjects": license.data_objects.iter().map(DataObject::json).collect::<Vec<_>>(),
        });
        for (number, on) in (1..).zip(license.features) {
            shown[format!("f{number}")] = json!(on);
        }
        if model >= 3 {
            shown["reseller"] = Json::Null;
        }
        if unknown_fields {
            shown["addedLater"] = json!([{ "nobody": "knows" }]);
        }
        shown
    }
}
