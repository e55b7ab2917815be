//! What the stand-in is like, with a switch for everything that nobody could verify.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the account is like, and which of the possible ways the service goes where nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The time there, if its clock shall stand. Default `null`: the clock goes.
    pub now: Option<Timestamp>,
    /// The access token. Default `sandbox`.
    pub token: String,
    /// Methods that the token may call, such as `CreateKey`. Default `null`: all.
    pub permissions: Option<Vec<String>>,
    /// The token's key lock; data objects of keys take -1. Default -1.
    pub key_lock: i64,
    /// Whether the seller's own plan is paid. Default true.
    pub plan_is_active: bool,
    /// The products. Default: 3349 and 3350, and 3400 with the old algorithm.
    pub products: Vec<Product>,
    /// The HTTP status of errors. Default `ok`.
    pub errors: Errors,
    /// Whether expiry keeps the time of day. Default `kept`.
    pub time_of_day: TimeOfDay,
    /// A customer without name, email or company. Default `accepted`.
    pub empty_customer_fields: EmptyFields,
    /// A data object whose name is there, with `CheckForDuplicates`. Default `success`.
    pub duplicates: Duplicates,
    /// How long names of data objects may be. Default 100.
    pub data_object_name_chars_max: usize,
    /// Asking for a second association link. Default `same`.
    pub links: Links,
    /// Whether searches for customers show their notes. Default false.
    pub customer_notes_shown: bool,
    /// How searches for licenses compare texts. Default `ignoring_case`.
    pub search: Matching,
    /// The longest period of a common license, in days. Default `null`: none.
    pub period_days_max: Option<i64>,
    /// Whether answers have fields that nobody knows. Default false.
    pub unknown_fields: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let product = |id: u64, name: &str| Product { id, name: name.to_owned(), ..Product::default() };
        let old = Product { algorithm: Algorithm::Skgl, ..product(3400, "Old") };
        Self {
            now: None,
            token: "sandbox".to_owned(),
            permissions: None,
            key_lock: -1,
            plan_is_active: true,
            products: vec![product(3349, "Pro"), product(3350, "Basic"), old],
            errors: Errors::Ok,
            time_of_day: TimeOfDay::Kept,
            empty_customer_fields: EmptyFields::Accepted,
            duplicates: Duplicates::Success,
            data_object_name_chars_max: 100,
            links: Links::Same,
            customer_notes_shown: false,
            search: Matching::IgnoringCase,
            period_days_max: None,
            unknown_fields: false,
        }
    }
}

/// A product of the seller's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Its number.
    pub id: u64,
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// How its keys are made.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Whether licenses without F1 end too.
    #[serde(default)]
    pub all_licenses_time_limited: bool,
    /// Whether clients are told that an expired license is blocked.
    #[serde(default)]
    pub block_expired_licenses: bool,
}

/// How keys are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// The key's text says what the license is like, so that another expiry is another key.
    Skgl,
    /// The key's text says nothing.
    #[default]
    Skm15,
}

/// The HTTP status of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errors {
    /// 200, as for success.
    Ok,
    /// 400, 401, 403 or 404.
    Fitting,
}

/// What a day begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeOfDay {
    /// The moment of the call: a license ends at the time of day at which it was made.
    Kept,
    /// The midnight before the call, in UTC: a license may end up to a day earlier.
    Midnight,
}

/// Customers with less than name, email and company.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyFields {
    /// They are made.
    Accepted,
    /// They are an error.
    Refused,
}

/// What `CheckForDuplicates` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// It answers with the one that is there.
    Success,
    /// It answers with an error.
    Error,
}

/// What a second `EnableCustomerAssociation` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// It gives the link that there is.
    Same,
    /// It makes a new one, and the old one works no more.
    Replaced,
}

/// How texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// Letter by letter.
    Exact,
    /// As most databases do.
    IgnoringCase,
}
