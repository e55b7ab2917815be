//! What a sale says to Cryptlex: which options, and under which names its ids stand in a license. Pure.

use std::collections::BTreeMap;

use super::refused;
use super::wire::{self, Entry};
use crate::provider::{ProviderError, Sale};

/// The names that a mapping's options may have for a license template: as Stripe's metadata has it, and as a catalog may.
const TEMPLATE: [&str; 2] = ["CRYPTLEX_LICENSE_TEMPLATE", "license_template"];

/// The same for an entitlement set.
const ENTITLEMENT_SET: [&str; 2] = ["CRYPTLEX_ENTITLEMENT_SET_ID", "entitlement_set"];

/// What a mapping's options name.
pub(super) struct Named<'a> {
    pub(super) template: Option<&'a str>,
    pub(super) entitlement_set: Option<&'a str>,
}

pub(super) fn named_options(options: &BTreeMap<String, String>) -> Result<Named<'_>, ProviderError> {
    let known = |key: &str| TEMPLATE.contains(&key) || ENTITLEMENT_SET.contains(&key);
    if let Some(unknown) = options.keys().find(|key| !known(key)) {
        let reason = format!("Cryptlex has no option `{unknown}`; there are `license_template` and `entitlement_set`");
        return Err(refused(reason));
    }
    let first = |keys: [&str; 2]| keys.into_iter().find_map(|key| options.get(key)).map(String::as_str);
    Ok(Named { template: first(TEMPLATE), entitlement_set: first(ENTITLEMENT_SET) })
}

/// Our entries of a license's metadata, hidden from everyone but administrators.
pub(super) fn ours(reference: &str, sale: &Sale) -> Vec<Entry> {
    let (key, value) = if sale.purchase.starts_with("sub_") {
        (wire::SUBSCRIPTION, &sale.purchase)
    } else {
        (wire::TRANSACTION, sale.payment.as_ref().unwrap_or(&sale.purchase))
    };
    let mut entries = vec![Entry::hidden(wire::REFERENCE, reference)];
    entries.extend((!value.is_empty()).then(|| Entry::hidden(key, value)));
    entries
}

/// By what another integration may have marked a license that it made for this sale.
pub(super) fn names_of(sale: &Sale) -> Vec<(&'static str, &str)> {
    let purchase = sale.purchase.as_str();
    let mut names = Vec::new();
    if purchase.starts_with("sub_") {
        names.extend([(wire::SUBSCRIPTION, purchase), (wire::SUBSCRIPTION_BEFORE, purchase)]);
    } else if !purchase.is_empty() {
        names.push((wire::TRANSACTION, purchase));
    }
    names.extend(sale.payment.as_deref().filter(|payment| !payment.is_empty()).map(|id| (wire::TRANSACTION, id)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_is_looked_for_by_its_own_ids_alone() {
        let sale = |purchase: &str, payment: Option<&str>| Sale {
            purchase: purchase.to_owned(),
            payment: payment.map(ToOwned::to_owned),
            ..Sale::default()
        };
        let subscription = [("stripe_subscription_id", "sub_1"), ("subscription_id", "sub_1")];
        assert_eq!(names_of(&sale("sub_1", None)), subscription);
        let one_off = [("stripe_transaction_id", "cs_1"), ("stripe_transaction_id", "pi_1")];
        assert_eq!(names_of(&sale("cs_1", Some("pi_1"))), one_off);
        assert_eq!(names_of(&sale("", None)), []);
    }

    #[test]
    fn unknown_options_make_no_license() {
        let options = |key: &str| BTreeMap::from([(key.to_owned(), "x".to_owned())]);
        assert!(named_options(&options("Period")).is_err());
        assert_eq!(named_options(&options("CRYPTLEX_LICENSE_TEMPLATE")).unwrap().template, Some("x"));
        assert_eq!(named_options(&options("entitlement_set")).unwrap().entitlement_set, Some("x"));
    }
}
