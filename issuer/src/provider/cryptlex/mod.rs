//! Cryptlex, Web API v3: the cloud, its tenancy in Europe, or one's own installation.
//!
//! What is set is absolute: the expiry by `expires-at`, never by `renew`, which counts from the old one and adds again when it
//! is asked again. What is written is read back. Nothing depends on error codes, which are not documented.
//!
//! A create cannot be made safe by Cryptlex. The reference is in the create call itself, and a create whose answer was lost
//! is looked up before another is sent. What follows the create (seats, expiry) may be lost too; then the license is found,
//! and brought to its terms.

mod client;
mod customers;
mod sale;
mod terms;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::outbound::{BuildError, Http, Limits, Outbound};
use crate::provider::{
    Adopt, CallError, Capabilities, Change, Create, Customer, CustomerListing, Held, Listed, ListedCustomer, Listing,
    Person, Provider, ProviderError, Sale, Target, Terms,
};
use client::Client;
use terms::Set;
use wire::{Entry, License, NewLicense, Patch, User};

/// What a license can hold.
const METADATA_MAX: usize = 50;

/// Settings of Cryptlex, `[provider.cryptlex]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where the Web API is, without `/v3`. In the European tenancy `https://api.eu.cryptlex.com`. Default
    /// `https://api.cryptlex.com`.
    pub base_url: String,
    /// How long one request may take, in milliseconds. Default 10000.
    pub timeout_ms: u64,
    /// Requests in a second, on average. Cryptlex takes 50 in 5 seconds from one address, whatever the token. Default 8.
    pub requests_per_second: u32,
    /// Requests at once. Default 4.
    pub requests_at_once: u32,
    /// How long a license made by a call of unknown outcome may stay invisible to searches, in milliseconds. Not documented
    /// by Cryptlex. Default 5000.
    pub settle_ms: u64,
    /// Whether users that are made may use the customer portal. Not sent by default: the account decides.
    pub customer_portal: Option<bool>,
    /// Entitlement sets by the features that they stand for: names in the order of the alphabet, joined by `+`. Default none.
    pub entitlement_sets: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        let Limits { timeout_ms, requests_per_second, requests_at_once } = Limits::default();
        Self {
            base_url: "https://api.cryptlex.com".to_owned(),
            timeout_ms,
            requests_per_second,
            requests_at_once,
            settle_ms: 5_000,
            customer_portal: None,
            entitlement_sets: BTreeMap::new(),
        }
    }
}

/// A Cryptlex account as a provider.
#[derive(Clone, Debug)]
pub struct Cryptlex {
    name: ProviderName,
    client: Client,
    settle: Duration,
    customer_portal: Option<bool>,
    entitlement_sets: BTreeMap<String, String>,
}

impl Cryptlex {
    /// The provider `name` for the account of a personal access token. Nothing is called yet.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting to mend.
    pub fn new(name: ProviderName, options: &Options, token: Secret, http: &Http) -> Result<Self, BuildError> {
        let limits = Limits {
            timeout_ms: options.timeout_ms,
            requests_per_second: options.requests_per_second,
            requests_at_once: options.requests_at_once,
        };
        Ok(Self {
            name,
            client: Client::new(Outbound::new(http, &options.base_url, &limits)?, token),
            settle: Duration::from_millis(options.settle_ms),
            customer_portal: options.customer_portal,
            entitlement_sets: options.entitlement_sets.clone(),
        })
    }

    /// Brings a license to its terms, with `also` in the same change, and looks whether it is so.
    async fn bring(&self, before: &License, terms: &Terms, also: Patch) -> Result<License, ProviderError> {
        let lacks = terms::patch(before, terms, &self.entitlement_sets)?;
        let patch = Patch {
            suspended: also.suspended.filter(|suspended| *suspended != before.suspended),
            user_id: also.user_id,
            metadata: also.metadata,
            ..lacks
        };
        let expiry_is_right = terms::expires_as_wanted(before, terms);
        if patch == Patch::default() && expiry_is_right {
            return Ok(before.clone());
        }
        if patch != Patch::default() {
            self.client.patch_license(&before.id, &patch).await?;
        }
        let suspended = patch.suspended.unwrap_or(before.suspended);
        if !expiry_is_right {
            self.set_expiry(&before.id, terms, suspended || before.revoked).await?;
        }
        let after = self.stays_stopped(&before.id, suspended).await?;
        let lacks = terms::patch(&after, terms, &self.entitlement_sets)?;
        if lacks != Patch::default() || !terms::expires_as_wanted(&after, terms) {
            return Err(not_kept("terms"));
        }
        Ok(after)
    }

    async fn set_expiry(&self, id: &str, terms: &Terms, is_stopped: bool) -> Result<(), ProviderError> {
        let set = self.client.set_expiry(id, terms.expires_at).await;
        match set {
            Err(ProviderError::Refused { .. }) if terms.expires_at.is_none() => {
                // Not documented: an expiry may have to be a time.
                self.client.set_expiry(id, terms::NEVER.parse().ok()).await
            }
            // Not documented either: a stopped license may have to wait until it works again.
            Err(ProviderError::Refused { .. }) if is_stopped => Err(not_kept("expiry of a stopped license")),
            other => other,
        }
    }

    /// Reads a license back, and stops it again if setting its expiry has let it go.
    async fn stays_stopped(&self, id: &str, suspended: bool) -> Result<License, ProviderError> {
        let after = self.existing(id).await?;
        if !suspended || after.suspended {
            return Ok(after);
        }
        self.client.patch_license(id, &Patch { suspended: Some(true), ..Patch::default() }).await?;
        self.existing(id).await
    }

    /// Sets what decides whether a license works, and looks whether it is so.
    async fn stand(&self, id: &str, patch: Patch) -> Result<(), ProviderError> {
        self.client.patch_license(id, &patch).await?;
        let after = self.existing(id).await?;
        let kept = patch.suspended.is_none_or(|suspended| after.suspended == suspended)
            && patch.revoked.is_none_or(|revoked| after.revoked == revoked);
        if kept { Ok(()) } else { Err(not_kept("state")) }
    }

    /// Writes what makes a license ours beside what it carries. It comes last: a license that carries the reference is taken for
    /// one of ours that needs nothing but its terms.
    async fn claim(&self, license: License, entries: &[Entry]) -> Result<License, ProviderError> {
        let whole = wire::merged(&license.metadata, entries);
        if whole == license.metadata {
            return Ok(license);
        }
        let patch = Patch { metadata: Some(whole.clone()), ..Patch::default() };
        self.client.patch_license(&license.id, &patch).await?;
        let after = self.existing(&license.id).await?;
        let kept = whole.iter().all(|entry| after.metadata.contains(entry));
        if kept { Ok(after) } else { Err(not_kept("metadata")) }
    }

    async fn existing(&self, id: &str) -> Result<License, ProviderError> {
        let found = self.client.license(id).await?;
        found.ok_or_else(|| refused(format!("Cryptlex has no license `{id}`: it was deleted there")))
    }

    /// What may keep a license from becoming ours.
    fn may_adopt(license: &License, request: &Adopt) -> Result<(), ProviderError> {
        let id = &license.id;
        if license.product_id != request.product {
            return Err(refused(format!("license `{id}` is of product `{}`", license.product_id)));
        }
        if license.reference().is_some_and(|reference| reference != request.reference) {
            return Err(refused(format!("license `{id}` meets another unit: its `{}` says so", wire::REFERENCE)));
        }
        if license.revoked {
            return Err(refused(format!("license `{id}` is revoked; lift that at Cryptlex, or name another")));
        }
        if let (Some(has), Some(wanted)) = (license.owner(), request.owner.as_deref())
            && has != wanted
        {
            return Err(refused(format!("license `{id}` belongs to another user, `{has}`")));
        }
        let subscription = [wire::SUBSCRIPTION, wire::SUBSCRIPTION_BEFORE]
            .into_iter()
            .find_map(|key| wire::value(&license.metadata, key))
            .filter(|subscription| *subscription != request.sale.purchase);
        if let Some(subscription) = subscription {
            return Err(refused(format!(
                "license `{id}` was made for `{subscription}`; take that out of its metadata first"
            )));
        }
        Ok(())
    }
}

#[async_trait]
impl Provider for Cryptlex {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { settle: self.settle, enforces_expiry: true, reinstates_revoked: true, keeps_customers: true }
    }

    /// Looks in all products: a reference is of one license, and a hit elsewhere is trouble to be seen.
    async fn find(&self, reference: &str, _product: &str) -> Result<Vec<Held>, ProviderError> {
        let hits = self.client.licenses_with(wire::REFERENCE, reference).await?;
        // Nobody knows whether key and value of a search are of one entry.
        Ok(hits.into_iter().filter(|license| license.reference() == Some(reference)).map(held).collect())
    }

    async fn find_unclaimed(&self, sale: &Sale, product: &str) -> Result<Vec<Held>, ProviderError> {
        let mut found: Vec<License> = Vec::new();
        for (key, value) in sale::names_of(sale) {
            for license in self.client.licenses_with(key, value).await? {
                let fits = wire::value(&license.metadata, key) == Some(value)
                    && license.product_id == product
                    && license.reference().is_none()
                    && found.iter().all(|known| known.id != license.id);
                if fits {
                    found.push(license);
                }
            }
        }
        // Searches show the oldest first, and keep that order among those of one moment.
        found.sort_by_key(|license| license.created_at);
        Ok(found.into_iter().map(held).collect())
    }

    async fn customer(&self, person: &Person) -> Result<Customer, ProviderError> {
        customers::customer(&self.client, person, self.customer_portal).await
    }

    async fn update_customer(&self, id: &str, person: &Person) -> Result<(), ProviderError> {
        customers::update(&self.client, checked(id, "user")?, person).await
    }

    async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
        request.terms.check()?;
        let named = sale::named_options(&request.options)?;
        let of_features = match terms::set_for(&request.terms.features, None, &self.entitlement_sets)? {
            Set::Is(set) => Some(set),
            Set::AsItIs | Set::None => None,
        };
        let body = NewLicense {
            product_id: checked(&request.product, "product")?,
            license_template_id: named.template.map(|id| checked(id, "license template")).transpose()?,
            user_id: request.owner.as_deref().map(|id| checked(id, "user")).transpose()?,
            entitlement_set_id: of_features
                .as_deref()
                .or(named.entitlement_set)
                .map(|id| checked(id, "entitlement set"))
                .transpose()?,
            max_allowed_release_version: request.terms.max_release.as_deref(),
            subscription_interval: request.terms.expires_at.is_none().then_some(""),
            subscription_start_trigger: "creation",
            metadata: sale::ours(&request.reference, &request.sale),
        };
        let made = self.client.create_license(&body).await?;
        if made.reference() != Some(request.reference.as_str()) {
            return Err(unreadable("a license was made, and the answer is about another".to_owned()));
        }
        // From here on it exists: whatever goes wrong, it is looked up and brought to its terms.
        self.bring(&made, &request.terms, Patch::default()).await.map_err(of_a_made_one)?;
        Ok(held(made))
    }

    async fn adopt(&self, request: &Adopt) -> Result<Held, ProviderError> {
        request.terms.check()?;
        let id = checked(&request.named, "license")?;
        let found = self.client.license(id).await?;
        let before = found.ok_or_else(|| refused(format!("Cryptlex has no license `{id}`")))?;
        Self::may_adopt(&before, request)?;
        let is_unlimited = before.seats().is_none() && before.reference().is_none();
        let mark = is_unlimited.then(|| Entry::hidden(wire::SEATS, wire::UNLIMITED));
        let marked = wire::merged(&before.metadata, mark.as_slice());
        let entries = sale::ours(&request.reference, &request.sale);
        if wire::merged(&marked, &entries).len() > METADATA_MAX {
            return Err(refused(format!("license `{id}` would have more than {METADATA_MAX} metadata; take some out")));
        }
        let also = Patch {
            suspended: Some(false),
            user_id: request.owner.clone().filter(|owner| before.owner() != Some(owner)),
            metadata: Some(marked.clone()).filter(|marked| *marked != before.metadata),
            ..Patch::default()
        };
        let owner = also.user_id.clone();
        // The mark of seats without limit counts for what is sent with it.
        let marked = License { metadata: marked, ..before };
        let after = self.bring(&marked, &request.terms, also).await?;
        if after.suspended || owner.is_some_and(|owner| after.owner() != Some(&owner)) {
            return Err(not_kept("owner or state"));
        }
        Self::may_adopt(&after, request)?;
        self.claim(after, &entries).await.map(held)
    }

    async fn change(&self, target: &Target, change: &Change) -> Result<(), ProviderError> {
        let id = checked(&target.provider_id, "license")?;
        match change {
            Change::Terms(terms) => {
                terms.check()?;
                let before = self.existing(id).await?;
                if before.reference().is_some_and(|reference| reference != target.reference) {
                    return Err(refused(format!("license `{id}` carries another reference; somebody changed it")));
                }
                self.bring(&before, terms, Patch::default()).await?;
                Ok(())
            }
            Change::Suspend => {
                // From revoked as well: money that came back while something else still stops it.
                let patch = Patch { suspended: Some(true), revoked: Some(false), ..Patch::default() };
                self.stand(id, patch).await
            }
            Change::Reinstate => {
                let patch = Patch { suspended: Some(false), revoked: Some(false), ..Patch::default() };
                self.stand(id, patch).await
            }
            Change::Revoke => self.stand(id, Patch { revoked: Some(true), ..Patch::default() }).await,
        }
    }

    async fn list(&self, product: &str, after: Option<&str>) -> Result<Listing, ProviderError> {
        let product = checked(product, "product")?;
        let page = page_of(after)?;
        let hits = self.client.licenses_of(product, page).await?;
        let next = next_page(page, hits.len());
        let licenses = hits.into_iter().filter(|license| license.product_id == product).map(|license| listed(&license));
        Ok(Listing { licenses: licenses.collect(), next })
    }

    async fn customers(&self, after: Option<&str>) -> Result<CustomerListing, ProviderError> {
        let page = page_of(after)?;
        let hits = self.client.users(page).await?;
        let next = next_page(page, hits.len());
        let shown = |user: User| ListedCustomer { customer: user.customer().map(ToOwned::to_owned), id: user.id };
        Ok(CustomerListing { customers: hits.into_iter().map(shown).collect(), next })
    }

    async fn prepare(&self) -> Result<(), ProviderError> {
        self.client.probe().await.map_err(|error| match error {
            ProviderError::Unavailable { source: CallError::Credentials { status }, .. } => refused(format!(
                "Cryptlex answers {status}: the access token ran out, or lacks one of the scopes license:read, \
                 license:write, user:read and user:write; put a new one into the settings"
            )),
            other => other,
        })
    }
}

fn held(license: License) -> Held {
    let reference = license.reference().unwrap_or_default().to_owned();
    Held { provider_id: license.id, reference, key: license.key, also: BTreeMap::new() }
}

fn page_of(after: Option<&str>) -> Result<usize, ProviderError> {
    let page = after.map_or(Some(1), |text| text.parse().ok().filter(|page| *page > 0));
    page.ok_or_else(|| refused("what is given is not a page of a list".to_owned()))
}

/// A page that is shorter than asked for is the last.
fn next_page(page: usize, hits: usize) -> Option<String> {
    (hits >= client::PAGE).then(|| (page + 1).to_string())
}

fn listed(license: &License) -> Listed {
    Listed {
        provider_id: license.id.clone(),
        also: BTreeMap::new(),
        reference: license.reference().map(ToOwned::to_owned),
        purchase: license.purchase().map(ToOwned::to_owned),
        owner: license.owner().map(ToOwned::to_owned),
        expires_at: terms::expiry(license),
        seats: license.seats(),
        works: !license.is_stopped(),
    }
}

/// Ids are UUIDs. Anything else in a path would address another thing, and in a body may be understood otherwise.
fn checked<'a>(id: &'a str, what: &str) -> Result<&'a str, ProviderError> {
    if is_id(id) {
        return Ok(id);
    }
    let shown: String = id.chars().take(8).collect();
    Err(refused(format!("`{shown}…` is not the id of a {what} at Cryptlex: those have the form of a UUID")))
}

fn is_id(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn refused(reason: String) -> ProviderError {
    ProviderError::Refused { reason }
}

fn unreadable(reason: String) -> ProviderError {
    ProviderError::Indeterminate { source: CallError::Unreadable { reason } }
}

/// What was set is not what is read back. Setting it again is safe, and may help once something else has changed.
fn not_kept(what: &str) -> ProviderError {
    let reason = format!("Cryptlex did not keep the {what} that was set");
    ProviderError::Unavailable { retry_after: None, source: CallError::Unreadable { reason } }
}

/// After a create that was answered nothing may say that nothing was done.
fn of_a_made_one(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Refused { reason } => unreadable(format!("the license was made, and then: {reason}")),
        ProviderError::Unavailable { source, .. } | ProviderError::Indeterminate { source } => {
            ProviderError::Indeterminate { source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uuids_are_ids() {
        assert!(is_id("63d0a3f2-7b1c-4d5e-8f90-112233445566"));
        for bad in ["", "..", "63d0", "63d0a3f2-7b1c-4d5e-8f90-11223344556g", "63d0a3f2/7b1c-4d5e-8f90-1122-33445566"] {
            assert!(!is_id(bad), "{bad}");
        }
        let Err(ProviderError::Refused { reason }) = checked("A1B2C3-D4E5F6-A1B2C3-D4E5F6", "license") else {
            panic!("taken")
        };
        // It may be a key, which nobody may read in an event.
        assert!(!reason.contains("D4E5F6"), "{reason}");
    }
}
