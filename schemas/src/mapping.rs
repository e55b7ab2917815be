//! What a sale means at a license engine: a pure function of settings and the sale's metadata, price and product.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{PriceId, ProductId, ProviderName};
use crate::settings::{CatalogEntry, Count, DecidingSettings, Grace, Term};
use crate::stripe::fact::Metadata;

/// The most licenses that one item gets. Buyers can type any quantity; what lies beyond is a `mapping_error` for a person.
pub const UNITS_MAX: u32 = 1000;

/// What is known of one sold thing.
#[derive(Clone, Debug, Default)]
pub struct Sale<'a> {
    /// Metadata in the order of precedence: session, subscription, price, product.
    pub metadata: [Option<&'a Metadata>; 4],
    /// The price, where known.
    pub price: Option<&'a PriceId>,
    /// Stripe's product, where known.
    pub product: Option<&'a ProductId>,
    /// Whether the default entry may match: not for invoice items and invoices without a session.
    pub allow_default: bool,
}

/// What a sale means, complete: an issued unit keeps it for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mapping {
    /// The license engine.
    pub provider: ProviderName,
    /// The engine's product.
    pub product: String,
    /// How many seats each license has.
    pub seats: Count,
    /// How many licenses.
    pub units: Count,
    /// How long one payment lasts.
    pub term: Term,
    /// Feature names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// How long the license works beyond what is paid.
    pub grace: Grace,
    /// What only the engine understands (a template, an entitlement set).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The price it was found for, where known: another price is mapped anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceId>,
    /// The greatest release that the license allows, at engines that know releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_release: Option<String>,
}

/// What a sold thing means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A license.
    License(Box<Mapping>),
    /// More of the license of another item in the same purchase.
    Addon(Addon),
    /// Nothing here.
    Nothing,
}

/// What an add-on gives to the license that it belongs to, for as long as it is paid and bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addon {
    /// The engine whose license it adds to.
    pub provider: ProviderName,
    /// The engine's product whose license it adds to.
    pub of: String,
    /// Feature names that it adds.
    pub features: BTreeSet<String>,
    /// Seats that it adds; `None` for none.
    pub seats: Option<Count>,
}

impl Addon {
    /// Whether it belongs to a license of this kind.
    pub fn belongs_to(&self, mapping: &Mapping) -> bool {
        self.provider == mapping.provider && self.of == mapping.product
    }

    /// Seats that it adds to each license when `quantity` of it was bought.
    pub fn seats_for(&self, quantity: u64) -> u32 {
        self.seats.map_or(0, |seats| count(seats, quantity))
    }
}

impl Meaning {
    /// The license that it means, if it means one.
    pub fn license(self) -> Option<Mapping> {
        match self {
            Self::License(mapping) => Some(*mapping),
            Self::Addon(_) | Self::Nothing => None,
        }
    }
}

impl Mapping {
    /// Seats of one license when `quantity` was bought (at least 1, whatever was bought).
    pub fn seats_for(&self, quantity: u64) -> u32 {
        count(self.seats, quantity).max(1)
    }

    /// Licenses owed when `quantity` was bought; 0 when nothing was, never more than [`UNITS_MAX`].
    pub fn units_for(&self, quantity: u64) -> u32 {
        if quantity == 0 { 0 } else { count(self.units, quantity).min(UNITS_MAX) }
    }

    /// That more licenses were bought than one item gets, if so: the rest is left to a person.
    pub fn too_many(&self, quantity: u64) -> Option<MappingError> {
        let wanted = if quantity == 0 { 0 } else { count(self.units, quantity) };
        (wanted > UNITS_MAX).then(|| MappingError {
            key: "units".to_owned(),
            reason: format!("{wanted} licenses were bought at once, and one item gets {UNITS_MAX} at the most"),
        })
    }

    /// The end of a payment for `start` to `end`; `None` is for ever.
    pub fn period_end(&self, start: Timestamp, end: Option<Timestamp>) -> Option<Timestamp> {
        self.term.end(start, end)
    }

    /// Whether a license made under `self` can become one under `other` in place.
    pub fn same_license(&self, other: &Self) -> bool {
        self.provider == other.provider && self.product == other.product
    }
}

fn count(count: Count, quantity: u64) -> u32 {
    match count {
        Count::Quantity => u32::try_from(quantity).unwrap_or(u32::MAX),
        Count::Fixed(number) => number,
    }
}

/// A sale that says what it means in a way that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` cannot be used: {reason}")]
pub struct MappingError {
    /// The metadata key, or the catalog's.
    pub key: String,
    /// What is wrong with its value.
    pub reason: String,
}

/// What the sale means, `None` when nothing says: metadata of a configured engine first (session, subscription, price,
/// product), then the catalog by price, by product, and its default entry. An entry that skips what it matches, or makes it an
/// add-on, is about Stripe's price or product itself and comes before metadata of the sale.
///
/// # Errors
///
/// [`MappingError`] when metadata names a product of a configured engine in a way that cannot be used.
pub fn resolve(settings: &DecidingSettings, sale: &Sale<'_>) -> Result<Option<Meaning>, MappingError> {
    let entry = by_catalog(settings, sale);
    if let Some(entry) = entry.filter(|entry| !entry.is_default() && (entry.skip || entry.addon_of.is_some())) {
        return Ok(Some(of_entry(settings, entry, sale.price)));
    }
    if let Some(mapping) = by_metadata(settings, sale)? {
        return Ok(Some(Meaning::License(Box::new(mapping))));
    }
    Ok(entry.map(|entry| of_entry(settings, entry, sale.price)))
}

fn by_catalog<'s>(settings: &'s DecidingSettings, sale: &Sale<'_>) -> Option<&'s CatalogEntry> {
    let entries = || settings.catalog.iter();
    let price = sale.price.and_then(|price| entries().find(|entry| entry.price.as_ref() == Some(price)));
    let product = || {
        let product = sale.product?.as_str();
        entries().find(|entry| entry.price.is_none() && entry.matched_product() == Some(product))
    };
    let default = || entries().find(|entry| sale.allow_default && entry.is_default());
    price.or_else(product).or_else(default)
}

fn of_entry(settings: &DecidingSettings, entry: &CatalogEntry, price: Option<&PriceId>) -> Meaning {
    if entry.skip {
        return Meaning::Nothing;
    }
    if let Some(of) = &entry.addon_of {
        return Meaning::Addon(Addon {
            provider: entry.provider.clone(),
            of: of.clone(),
            features: entry.features.clone(),
            seats: entry.seats,
        });
    }
    let units = entry.units.unwrap_or(Count::Fixed(1));
    let seats = entry.seats.unwrap_or(match units {
        Count::Quantity => Count::Fixed(1),
        Count::Fixed(_) => Count::Quantity,
    });
    Meaning::License(Box::new(Mapping {
        provider: entry.provider.clone(),
        product: entry.provider_product().to_owned(),
        seats,
        units,
        term: entry.term.clone(),
        features: entry.features.clone(),
        grace: entry.grace.unwrap_or(settings.policy.grace),
        options: entry.options.clone(),
        price: price.cloned(),
        max_release: entry.max_release.clone(),
    }))
}

/// Metadata keys by which sellers already name an engine's product (reference: the two vendors' integrations). The first
/// object that names a configured engine chooses it; what it leaves open, the ones after it say.
fn by_metadata(settings: &DecidingSettings, sale: &Sale<'_>) -> Result<Option<Mapping>, MappingError> {
    let configured = |name: &str| settings.providers.iter().any(|provider| provider.as_str() == name);
    let (cryptolens, cryptlex) = (configured("cryptolens"), configured("cryptlex"));
    let objects: Vec<&Metadata> = sale.metadata.iter().flatten().copied().collect();
    for (index, metadata) in objects.iter().enumerate() {
        let rest = &objects[index..];
        if cryptolens && (value(metadata, "skm_product_id").is_some() || value(metadata, "skm").is_some()) {
            return of_skm(settings, rest, sale.price).map(Some);
        }
        if cryptlex && value(metadata, "CRYPTLEX_PRODUCT_ID").is_some() {
            return Ok(Some(of_cryptlex(settings, rest, sale.price)));
        }
    }
    Ok(None)
}

fn value<'m>(metadata: &'m Metadata, key: &str) -> Option<&'m str> {
    metadata.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn first<'m>(objects: &[&'m Metadata], key: &str) -> Option<&'m str> {
    objects.iter().find_map(|metadata| value(metadata, key))
}

/// A license of one seat for each that was bought, for as long as it is paid.
fn plain(settings: &DecidingSettings, provider: &str, product: &str, price: Option<&PriceId>) -> Mapping {
    Mapping {
        provider: ProviderName::from(provider),
        product: product.to_owned(),
        seats: Count::Quantity,
        units: Count::Fixed(1),
        term: Term::Subscription,
        features: BTreeSet::new(),
        grace: settings.policy.grace,
        options: BTreeMap::new(),
        price: price.cloned(),
        max_release: None,
    }
}

fn of_cryptlex(settings: &DecidingSettings, objects: &[&Metadata], price: Option<&PriceId>) -> Mapping {
    let product = first(objects, "CRYPTLEX_PRODUCT_ID").unwrap_or_default();
    let mut mapping = plain(settings, "cryptlex", product, price);
    for key in ["CRYPTLEX_LICENSE_TEMPLATE", "CRYPTLEX_ENTITLEMENT_SET_ID"] {
        if let Some(value) = first(objects, key) {
            mapping.options.insert(key.to_owned(), value.to_owned());
        }
    }
    mapping
}

/// The `ProductId` inside `skm` wins over `skm_product_id`.
fn of_skm(
    settings: &DecidingSettings,
    objects: &[&Metadata],
    price: Option<&PriceId>,
) -> Result<Mapping, MappingError> {
    let skm = first(objects, "skm").map(skm_parameters).transpose()?.unwrap_or_default();
    let whole = |text: &str| text.parse::<u64>().is_ok_and(|number| number > 0);
    let product = match (skm.product, first(objects, "skm_product_id")) {
        (Some(product), _) => product,
        (None, Some(product)) if whole(product) => product.to_owned(),
        (None, named) => {
            let reason = match named {
                Some(_) => "a Cryptolens product id is a whole number",
                None => "neither `skm` nor `skm_product_id` says which product",
            };
            return Err(MappingError { key: "skm_product_id".to_owned(), reason: reason.to_owned() });
        }
    };
    let mut mapping = plain(settings, "cryptolens", &product, price);
    mapping.features = skm.features;
    mapping.options = skm.options;
    mapping.seats = skm.seats.unwrap_or(mapping.seats);
    Ok(mapping)
}

/// What an `skm` value says.
#[derive(Default)]
struct Skm {
    product: Option<String>,
    features: BTreeSet<String>,
    seats: Option<Count>,
    options: BTreeMap<String, String>,
}

/// Parameters that `skm` may name and that are passed on as they are, each with what its value must be.
const SKM_OPTIONS: [(&str, Kind); 6] = [
    ("AllowedMachines", Kind::Text),
    ("Block", Kind::Bool),
    ("Notes", Kind::Text),
    // Our dates come from what is paid; a period is taken and has no effect.
    ("Period", Kind::Number),
    ("ResellerId", Kind::Number),
    ("TrialActivation", Kind::Bool),
];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bool,
    Number,
}

/// The `skm` value: a JSON object of the engine's create parameters, in any case, as the engine reads them. `F1`–`F8` become
/// features and `MaxNoOfMachines` the seats; the rest is passed on. A name or a value that is not one is an error: a license
/// is never made from the half that could be read.
fn skm_parameters(text: &str) -> Result<Skm, MappingError> {
    let bad = |reason: String| MappingError { key: "skm".to_owned(), reason };
    let object: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|_| bad("it is not a JSON object".to_owned()))?;
    let mut skm = Skm::default();
    for (name, value) in object {
        let plain = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => continue,
            serde_json::Value::Bool(_) | serde_json::Value::Number(_) => value.to_string(),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
                return Err(bad(format!("`{name}` is neither text nor a number")));
            }
        };
        let number = || plain.parse::<u32>().map_err(|_| bad(format!("`{name}` is not a whole number")));
        let flag = || match plain.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" | "" => Ok(false),
            _ => Err(bad(format!("`{name}` is neither true nor false"))),
        };
        match name.to_ascii_lowercase().as_str() {
            "productid" => match number()? {
                0 => return Err(bad("`ProductId` is 0".to_owned())),
                id => skm.product = Some(id.to_string()),
            },
            "noofkeys" if number()? != 1 => return Err(bad("`NoOfKeys` must be 1: one unit is one key".to_owned())),
            "noofkeys" => {}
            // 0 asks for a key without a limit: nothing is sent then, and the engine sets none.
            "maxnoofmachines" if number()? == 0 => {
                skm.options.insert("MaxNoOfMachines".to_owned(), plain);
            }
            "maxnoofmachines" => skm.seats = Some(Count::Fixed(number()?)),
            feature @ ("f1" | "f2" | "f3" | "f4" | "f5" | "f6" | "f7" | "f8") => {
                if flag()? {
                    skm.features.insert(feature.to_owned());
                }
            }
            lower => {
                let known = SKM_OPTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(lower));
                let Some((known, kind)) = known else {
                    return Err(bad(format!("`{name}` is not a parameter that keyledger passes on")));
                };
                match kind {
                    Kind::Text => {}
                    Kind::Bool => _ = flag()?,
                    Kind::Number => _ = number()?,
                }
                skm.options.insert((*known).to_owned(), plain);
            }
        }
    }
    Ok(skm)
}

/// Engines that cannot hold a license for somebody without an address.
pub fn needs_email(provider: &ProviderName) -> bool {
    provider.as_str() == "cryptlex"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(price: Option<&str>, product: Option<&str>) -> CatalogEntry {
        serde_json::from_value(serde_json::json!({ "price": price, "product": product })).unwrap()
    }

    fn settings(catalog: Vec<CatalogEntry>, providers: &[&str]) -> DecidingSettings {
        let providers = providers.iter().map(|name| ProviderName::from(*name)).collect();
        DecidingSettings { catalog, providers, ..DecidingSettings::default() }
    }

    fn product_of(settings: &DecidingSettings, sale: &Sale<'_>) -> Option<String> {
        resolve(settings, sale).unwrap().and_then(Meaning::license).map(|mapping| mapping.product)
    }

    #[test]
    fn a_price_wins_over_a_product_and_a_product_over_the_default() {
        let price = PriceId::from("price_1");
        let product = ProductId::from("prod_1");
        let all = [entry(None, Some("basic")), entry(None, Some("prod_1")), entry(Some("price_1"), Some("pro"))];
        let sale = Sale { price: Some(&price), product: Some(&product), allow_default: true, ..Sale::default() };
        assert_eq!(product_of(&settings(all.to_vec(), &[]), &sale).as_deref(), Some("pro"));
        assert_eq!(product_of(&settings(all[..2].to_vec(), &[]), &sale).as_deref(), Some("prod_1"));
        assert_eq!(product_of(&settings(all[..1].to_vec(), &[]), &sale).as_deref(), Some("basic"));
        let strict = Sale { allow_default: false, ..sale };
        assert_eq!(product_of(&settings(all[..1].to_vec(), &[]), &strict), None);
    }

    #[test]
    fn metadata_of_an_engine_that_is_not_configured_is_passed_over() {
        let metadata = Metadata::from([("skm_product_id".to_owned(), "3349".to_owned())]);
        let sale = Sale { metadata: [Some(&metadata), None, None, None], allow_default: true, ..Sale::default() };
        let catalog = vec![entry(None, Some("basic"))];
        assert_eq!(product_of(&settings(catalog.clone(), &["builtin"]), &sale).as_deref(), Some("basic"));
        assert_eq!(product_of(&settings(catalog, &["cryptolens"]), &sale).as_deref(), Some("3349"));
    }

    #[test]
    fn metadata_that_cannot_be_used_is_an_error_and_not_the_default() {
        let metadata = Metadata::from([("skm".to_owned(), r#"{"ProductId":3349,"NoOfKeys":2}"#.to_owned())]);
        let sale = Sale { metadata: [None, None, Some(&metadata), None], allow_default: true, ..Sale::default() };
        let error = resolve(&settings(vec![entry(None, None)], &["cryptolens"]), &sale).unwrap_err();
        assert_eq!(error.key, "skm");
    }

    fn skm(text: &str) -> Result<Mapping, MappingError> {
        let metadata = Metadata::from([("skm".to_owned(), text.to_owned())]);
        let product = Metadata::from([("skm_product_id".to_owned(), "7".to_owned())]);
        let sale = Sale { metadata: [None, None, Some(&metadata), Some(&product)], ..Sale::default() };
        Ok(resolve(&settings(vec![], &["cryptolens"]), &sale)?.and_then(Meaning::license).unwrap())
    }

    #[test]
    fn skm_says_what_a_key_is_like_and_its_product_wins() {
        let mapping =
            skm(r#"{"ProductId": 3349, "f1": true, "F3": "True", "F4": false, "MaxNoOfMachines": 5, "Notes": "a"}"#)
                .unwrap();
        assert_eq!((mapping.product.as_str(), mapping.seats), ("3349", Count::Fixed(5)));
        assert_eq!(mapping.features, ["f1".to_owned(), "f3".to_owned()].into());
        assert_eq!(mapping.options, [("Notes".to_owned(), "a".to_owned())].into());
        let without_product = skm(r#"{"MaxNoOfMachines": 0}"#).unwrap();
        assert_eq!((without_product.product.as_str(), without_product.seats), ("7", Count::Quantity));
        assert_eq!(without_product.options.get("MaxNoOfMachines").map(String::as_str), Some("0"));
    }

    #[test]
    fn an_skm_that_cannot_be_read_whole_is_an_error() {
        // An empty one says nothing, and the product stands elsewhere.
        assert_eq!(skm("").unwrap().product, "7");
        for bad in [
            "[]",
            "{",
            r#"{"NoOfKeys": 2}"#,
            r#"{"NewCustomer": true}"#,
            r#"{"F9": true}"#,
            r#"{"F1": "maybe"}"#,
            r#"{"Period": -1}"#,
            r#"{"ProductId": 0}"#,
            r#"{"Notes": {}}"#,
        ] {
            assert!(skm(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entry_may_skip_what_it_matches_or_make_it_an_addon() {
        let price = PriceId::from("price_1");
        let skip = CatalogEntry { skip: true, ..entry(Some("price_1"), None) };
        let metadata = Metadata::from([("skm_product_id".to_owned(), "3349".to_owned())]);
        let sale = Sale {
            metadata: [Some(&metadata), None, None, None],
            price: Some(&price),
            allow_default: true,
            ..Sale::default()
        };
        assert_eq!(
            resolve(&settings(vec![skip, entry(None, None)], &["cryptolens"]), &sale),
            Ok(Some(Meaning::Nothing))
        );
        let addon = CatalogEntry {
            addon_of: Some("pro".to_owned()),
            seats: Some(Count::Fixed(5)),
            ..entry(Some("price_1"), None)
        };
        let Some(Meaning::Addon(addon)) = resolve(&settings(vec![addon], &[]), &sale).unwrap() else {
            panic!("an add-on")
        };
        let pro =
            resolve(&settings(vec![entry(None, Some("pro"))], &[]), &sale).unwrap().and_then(Meaning::license).unwrap();
        assert!(addon.belongs_to(&pro));
        assert_eq!((addon.seats_for(1), addon.seats_for(9)), (5, 5));
    }

    #[test]
    fn one_item_gets_so_many_licenses_and_no_more() {
        let many = CatalogEntry { units: Some(Count::Quantity), ..entry(None, None) };
        let sale = Sale { allow_default: true, ..Sale::default() };
        let mapping = resolve(&settings(vec![many], &[]), &sale).unwrap().and_then(Meaning::license).unwrap();
        assert_eq!((mapping.units_for(1000), mapping.too_many(1000)), (1000, None));
        assert_eq!(mapping.units_for(999_999), UNITS_MAX);
        assert!(mapping.too_many(999_999).unwrap().reason.starts_with("999999 licenses"));
    }

    #[test]
    fn quantity_means_seats_unless_it_means_licenses() {
        let sale = Sale { allow_default: true, ..Sale::default() };
        let seats =
            resolve(&settings(vec![entry(None, None)], &[]), &sale).unwrap().and_then(Meaning::license).unwrap();
        assert_eq!((seats.units_for(5), seats.seats_for(5)), (1, 5));
        let many = CatalogEntry { units: Some(Count::Quantity), ..entry(None, None) };
        let units = resolve(&settings(vec![many], &[]), &sale).unwrap().and_then(Meaning::license).unwrap();
        assert_eq!((units.units_for(5), units.seats_for(5)), (5, 1));
        assert_eq!((units.units_for(0), seats.units_for(0), seats.seats_for(0)), (0, 0, 1));
    }
}
