//! What a license lacks of the terms that it should have. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::client::whole_seconds;
use super::wire::{self, License, Patch};
use crate::provider::{ProviderError, Terms};

/// From here on an expiry means never: stands for it where `null` is not taken. It is what the vendor's times can hold.
pub(super) const NEVER: &str = "9999-01-01T00:00:00Z";

/// Entitlement sets by the features that they stand for: names joined by `+`.
pub(super) type Sets = BTreeMap<String, String>;

/// What has to be changed, expiry aside.
pub(super) fn patch(license: &License, terms: &Terms, sets: &Sets) -> Result<Patch, ProviderError> {
    let mut patch = Patch::default();
    let meant = wire::value(&license.metadata, wire::SEATS) == Some(wire::UNLIMITED) && license.seats().is_none();
    if !meant && license.seats() != Some(terms.seats) {
        if license.is_floating() {
            patch.allowed_floating_clients = Some(terms.seats);
        } else {
            patch.allowed_activations = Some(terms.seats);
        }
    }
    patch.entitlement_set_id = match set_for(&terms.features, license.entitlement_set_id.as_deref(), sets)? {
        Set::AsItIs => None,
        Set::None => Some(Value::Null),
        Set::Is(set) => Some(set).filter(|set| Some(set) != license.entitlement_set_id.as_ref()).map(Value::String),
    };
    let release = terms.max_release.clone();
    patch.max_allowed_release_version = release.filter(|_| license.max_allowed_release_version != terms.max_release);
    Ok(patch)
}

/// Whether it expires when it should, to the second.
pub(super) fn expires_as_wanted(license: &License, terms: &Terms) -> bool {
    let seconds = |at: Option<Timestamp>| at.map(|at| whole_seconds(at).as_second());
    seconds(expiry(license)) == seconds(terms.expires_at)
}

/// When it stops working; `None` for never.
pub(super) fn expiry(license: &License) -> Option<Timestamp> {
    let never = NEVER.parse::<Timestamp>().ok();
    license.expires_at.filter(|at| never.is_none_or(|never| *at < never))
}

/// The entitlement set that a license should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// What it has: a template's, or one that the sale names.
    AsItIs,
    /// None.
    None,
    /// This one.
    Is(String),
}

/// The entitlement set for these features, at a license that has `has`.
pub(super) fn set_for(features: &BTreeSet<String>, has: Option<&str>, sets: &Sets) -> Result<Set, ProviderError> {
    let name = features.iter().map(String::as_str).collect::<Vec<_>>().join("+");
    match sets.get(&name) {
        Some(set) => Ok(Set::Is(set.clone())),
        // Its features are gone, and it holds the set that stood for some.
        None if name.is_empty() => {
            let stood_for_some = has.is_some_and(|has| sets.values().any(|set| set == has));
            Ok(if stood_for_some { Set::None } else { Set::AsItIs })
        }
        None => {
            let reason =
                format!("no entitlement set stands for `{name}`: name one in [provider.cryptlex.entitlement_sets]");
            Err(ProviderError::Refused { reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn license(more: &serde_json::Value) -> License {
        let mut whole = json!({
            "id": "1", "productId": "p", "suspended": false, "revoked": false, "metadata": [], "allowedActivations": 1,
        });
        for (name, value) in more.as_object().unwrap() {
            whole[name] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    fn terms(seats: u32, features: &[&str]) -> Terms {
        let features = features.iter().map(|name| (*name).to_owned()).collect();
        Terms { expires_at: None, seats, features, max_release: None }
    }

    fn sets() -> Sets {
        [("export".to_owned(), "set-e".to_owned()), ("export+team".to_owned(), "set-et".to_owned())].into()
    }

    #[test]
    fn what_is_as_wanted_is_not_sent() {
        let same = patch(&license(&json!({ "allowedActivations": 2 })), &terms(2, &[]), &Sets::new()).unwrap();
        assert_eq!(same, Patch::default());
        let more = patch(&license(&json!({})), &terms(2, &[]), &Sets::new()).unwrap();
        assert_eq!(more, Patch { allowed_activations: Some(2), ..Patch::default() });
    }

    #[test]
    fn seats_without_limit_are_limited_unless_they_were_meant() {
        let free = json!({ "allowedActivations": 0 });
        assert_eq!(patch(&license(&free), &terms(2, &[]), &Sets::new()).unwrap().allowed_activations, Some(2));
        let mark = json!([{ "key": "keyledger_seats", "value": "unlimited", "viewPermissions": [] }]);
        let meant = json!({ "allowedActivations": -1, "metadata": mark });
        assert_eq!(patch(&license(&meant), &terms(2, &[]), &Sets::new()).unwrap(), Patch::default());
    }

    #[test]
    fn floating_licenses_have_their_seats_elsewhere() {
        let floating = license(&json!({ "type": "on-premise-floating", "allowedFloatingClients": 5 }));
        let sent = patch(&floating, &terms(2, &[]), &Sets::new()).unwrap();
        assert_eq!(sent, Patch { allowed_floating_clients: Some(2), ..Patch::default() });
    }

    #[test]
    fn features_are_entitlement_sets_by_name_and_none_leaves_a_template_alone() {
        let set = |has: Option<&str>, features: &[&str]| set_for(&terms(1, features).features, has, &sets());
        assert_eq!(set(None, &["team", "export"]).unwrap(), Set::Is("set-et".to_owned()));
        assert_eq!(set(Some("set-e"), &[]).unwrap(), Set::None);
        assert_eq!(set(Some("of-the-template"), &[]).unwrap(), Set::AsItIs);
        assert!(matches!(set(None, &["team"]), Err(ProviderError::Refused { .. })));
    }

    #[test]
    fn never_is_null_or_far_away() {
        let never = terms(1, &[]);
        assert!(expires_as_wanted(&license(&json!({ "expiresAt": null })), &never));
        assert!(expires_as_wanted(&license(&json!({ "expiresAt": NEVER })), &never));
        assert!(!expires_as_wanted(&license(&json!({ "expiresAt": "2026-01-01T00:00:00Z" })), &never));
        let dated = Terms { expires_at: Some("2026-01-01T00:00:00Z".parse().unwrap()), ..never };
        assert!(expires_as_wanted(&license(&json!({ "expiresAt": "2026-01-01T00:00:00.0000000Z" })), &dated));
    }
}
