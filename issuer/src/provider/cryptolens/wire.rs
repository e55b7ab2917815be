//! Cryptolens' JSON, in its spelling. It never leaves this folder. Fields that older versions leave out are defaults.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};

/// What every answer has: whether it was done, and what is said about it.
#[derive(Debug, Deserialize)]
pub(super) struct Verdict {
    /// 0 for done. Absent where the server itself failed.
    pub(super) result: Option<i64>,
    /// A sentence for people, which is all there is to tell errors apart by.
    #[serde(default)]
    pub(super) message: Option<String>,
}

/// An answer of which only the verdict matters.
#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

/// Answer of `CreateKey`.
#[derive(Deserialize)]
pub(super) struct MadeKey {
    pub(super) key: String,
}

/// Answer of `GetKey`.
#[derive(Deserialize)]
pub(super) struct OneLicense {
    #[serde(rename = "licenseKey")]
    pub(super) license: License,
}

/// Answer of `GetKeys` and `GetCustomerLicenses`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Licenses {
    #[serde(rename = "licenseKeys", default)]
    pub(super) licenses: Vec<License>,
    #[serde(default)]
    pub(super) page_count: u32,
}

/// A license.
#[derive(Clone, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the engine has eight switches of its own")]
#[serde(rename_all = "camelCase")]
pub(super) struct License {
    pub(super) product_id: u64,
    pub(super) id: u64,
    #[serde(default)]
    pub(super) global_id: Option<u64>,
    pub(super) key: String,
    #[serde(deserialize_with = "without_zone")]
    pub(super) expires: Timestamp,
    #[serde(default)]
    pub(super) notes: Option<String>,
    #[serde(default)]
    pub(super) block: bool,
    /// 0 for no limit.
    #[serde(default)]
    pub(super) max_no_of_machines: u32,
    #[serde(default)]
    pub(super) customer: Option<Customer>,
    #[serde(default)]
    pub(super) data_objects: Option<Vec<DataObject>>,
    #[serde(default)]
    f1: bool,
    #[serde(default)]
    f2: bool,
    #[serde(default)]
    f3: bool,
    #[serde(default)]
    f4: bool,
    #[serde(default)]
    f5: bool,
    #[serde(default)]
    f6: bool,
    #[serde(default)]
    f7: bool,
    #[serde(default)]
    f8: bool,
}

impl License {
    /// F1 to F8.
    pub(super) fn features(&self) -> [bool; 8] {
        [self.f1, self.f2, self.f3, self.f4, self.f5, self.f6, self.f7, self.f8]
    }

    pub(super) fn notes(&self) -> &str {
        self.notes.as_deref().unwrap_or_default()
    }

    pub(super) fn data_objects(&self) -> &[DataObject] {
        self.data_objects.as_deref().unwrap_or_default()
    }

    /// The texts of its data objects of that name.
    pub(super) fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.data_objects().iter().filter(move |object| object.name == name).map(DataObject::text)
    }
}

/// Answer of `GetCustomers`.
#[derive(Deserialize)]
pub(super) struct Customers {
    #[serde(default)]
    pub(super) customers: Vec<Customer>,
}

/// A customer.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Customer {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) email: Option<String>,
    #[serde(default)]
    pub(super) company_name: Option<String>,
}

/// Answer of `AddCustomer`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MadeCustomer {
    pub(super) customer_id: u64,
}

/// Answer of `EditCustomer`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EditedCustomer {
    #[serde(default)]
    pub(super) portal_link: Option<String>,
}

/// Answer of `ListDataObjects`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DataObjects {
    #[serde(default)]
    pub(super) data_objects: Vec<DataObject>,
}

/// A text under a name.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DataObject {
    #[serde(default)]
    pub(super) id: u64,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) string_value: Option<String>,
}

impl DataObject {
    pub(super) fn text(&self) -> &str {
        self.string_value.as_deref().unwrap_or_default()
    }
}

/// Answer of `GetProducts`.
#[derive(Deserialize)]
pub(super) struct Products {
    #[serde(default)]
    pub(super) products: Vec<Product>,
}

/// A product.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Product {
    #[serde(alias = "productId")]
    pub(super) id: u64,
    #[serde(default)]
    pub(super) key_algorithm: Option<i64>,
}

impl Product {
    /// Its keys say when they end: another expiry is another key.
    pub(super) fn is_skgl(&self) -> bool {
        self.key_algorithm == Some(0)
    }
}

/// Times come without a zone, and are UTC: the vendor's own clients compare them so.
fn without_zone<'de, D: Deserializer<'de>>(value: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(value)?;
    time(&text).ok_or_else(|| serde::de::Error::custom("not a time"))
}

fn time(text: &str) -> Option<Timestamp> {
    let plain = || TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok();
    text.parse().ok().or_else(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_and_without_a_zone() {
        for text in ["2026-02-06T03:04:05", "2026-02-06T03:04:05.0000000", "2026-02-06T04:04:05+01:00"] {
            assert_eq!(time(text), Some("2026-02-06T03:04:05Z".parse().unwrap()), "{text}");
        }
        assert_eq!(time("0001-13-01"), None);
    }

    #[test]
    fn a_license_of_an_older_model_is_read() {
        let text = r#"{"productId": 1, "id": 5, "key": "A", "expires": "2026-02-06T03:04:05", "new": {"a": 1}}"#;
        let license: License = serde_json::from_str(text).unwrap();
        assert_eq!((license.global_id, license.notes(), license.data_objects().len()), (None, "", 0));
    }
}
