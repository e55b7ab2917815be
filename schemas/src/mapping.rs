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
/// product), then the catalog by price, by product, and its default entry.
///
/// # Errors
///
/// [`MappingError`] when metadata names a product of a configured engine in a way that cannot be used.
pub fn resolve(settings: &DecidingSettings, sale: &Sale<'_>) -> Result<Option<Mapping>, MappingError> {
    for metadata in sale.metadata.iter().flatten() {
        if let Some(mapping) = by_metadata(settings, metadata, sale.price)? {
            return Ok(Some(mapping));
        }
    }
    Ok(by_catalog(settings, sale).map(|entry| of_entry(settings, entry, sale.price)))
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

fn of_entry(settings: &DecidingSettings, entry: &CatalogEntry, price: Option<&PriceId>) -> Mapping {
    let units = entry.units.unwrap_or(Count::Fixed(1));
    let seats = entry.seats.unwrap_or(match units {
        Count::Quantity => Count::Fixed(1),
        Count::Fixed(_) => Count::Quantity,
    });
    Mapping {
        provider: entry.provider.clone(),
        product: entry.provider_product().to_owned(),
        seats,
        units,
        term: entry.term.clone(),
        features: entry.features.clone(),
        grace: entry.grace.unwrap_or(settings.policy.grace),
        options: BTreeMap::new(),
        price: price.cloned(),
    }
}

/// Metadata keys by which sellers already name an engine's product (reference: the two vendors' integrations).
fn by_metadata(
    settings: &DecidingSettings,
    metadata: &Metadata,
    price: Option<&PriceId>,
) -> Result<Option<Mapping>, MappingError> {
    let configured = |name: &str| settings.providers.iter().any(|provider| provider.as_str() == name);
    let value = |key: &str| metadata.get(key).map(String::as_str).filter(|value| !value.trim().is_empty());
    let mapping = |provider: &str, product: String, features, options| Mapping {
        provider: ProviderName::from(provider),
        product,
        seats: Count::Quantity,
        units: Count::Fixed(1),
        term: Term::Subscription,
        features,
        grace: settings.policy.grace,
        options,
        price: price.cloned(),
    };
    if configured("cryptolens") {
        let product = value("skm_product_id").map(str::to_owned);
        let skm = value("skm").map(skm_parameters).transpose()?;
        let (named, features, options) = skm.unwrap_or_default();
        if let Some(product) = product.or(named) {
            if product.parse::<u64>().is_err() {
                return Err(MappingError {
                    key: "skm_product_id".to_owned(),
                    reason: "a Cryptolens product id is a whole number".to_owned(),
                });
            }
            return Ok(Some(mapping("cryptolens", product, features, options)));
        }
    }
    if configured("cryptlex")
        && let Some(product) = value("CRYPTLEX_PRODUCT_ID")
    {
        let options = ["CRYPTLEX_LICENSE_TEMPLATE", "CRYPTLEX_ENTITLEMENT_SET_ID"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), value(key)?.to_owned())))
            .collect();
        return Ok(Some(mapping("cryptlex", product.to_owned(), BTreeSet::new(), options)));
    }
    Ok(None)
}

type SkmParameters = (Option<String>, BTreeSet<String>, BTreeMap<String, String>);

/// The `skm` value: a JSON object of the engine's create parameters. `F1`–`F8` become features, the rest is passed on.
fn skm_parameters(text: &str) -> Result<SkmParameters, MappingError> {
    let bad = |reason: &str| MappingError { key: "skm".to_owned(), reason: reason.to_owned() };
    let object: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|_| bad("it is not a JSON object"))?;
    let (mut product, mut features, mut options) = SkmParameters::default();
    for (name, value) in object {
        let plain = match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let is_feature =
            name.len() == 2 && name.starts_with('F') && ('1'..='8').contains(&name.chars().last().unwrap_or('0'));
        match name.as_str() {
            "ProductId" => product = Some(plain),
            "NoOfKeys" if plain != "1" => return Err(bad("`NoOfKeys` must be 1: one unit is one key")),
            "NoOfKeys" => {}
            _ if is_feature && plain.eq_ignore_ascii_case("true") => {
                features.insert(name.to_ascii_lowercase());
            }
            _ if is_feature => {}
            _ => {
                options.insert(name, plain);
            }
        }
    }
    Ok((product, features, options))
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
        resolve(settings, sale).unwrap().map(|mapping| mapping.product)
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

    #[test]
    fn one_item_gets_so_many_licenses_and_no_more() {
        let many = CatalogEntry { units: Some(Count::Quantity), ..entry(None, None) };
        let sale = Sale { allow_default: true, ..Sale::default() };
        let mapping = resolve(&settings(vec![many], &[]), &sale).unwrap().unwrap();
        assert_eq!((mapping.units_for(1000), mapping.too_many(1000)), (1000, None));
        assert_eq!(mapping.units_for(999_999), UNITS_MAX);
        assert!(mapping.too_many(999_999).unwrap().reason.starts_with("999999 licenses"));
    }

    #[test]
    fn quantity_means_seats_unless_it_means_licenses() {
        let sale = Sale { allow_default: true, ..Sale::default() };
        let seats = resolve(&settings(vec![entry(None, None)], &[]), &sale).unwrap().unwrap();
        assert_eq!((seats.units_for(5), seats.seats_for(5)), (1, 5));
        let many = CatalogEntry { units: Some(Count::Quantity), ..entry(None, None) };
        let units = resolve(&settings(vec![many], &[]), &sale).unwrap().unwrap();
        assert_eq!((units.units_for(5), units.seats_for(5)), (5, 1));
        assert_eq!((units.units_for(0), seats.units_for(0), seats.seats_for(0)), (0, 0, 1));
    }
}
