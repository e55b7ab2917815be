//! Keygen, API v1: the cloud, or one's own installation.
//!
//! The license's id is ours, so that a create cannot make two: the second is told that the id is taken. What the catalog
//! calls a product is one of Keygen's policies. Everything that is set is absolute; the relative renewal is never used, and
//! nothing is destroyed unless the settings say so.

mod client;
mod customers;
mod entitlements;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::ids::{LicenseId, ProviderName};
use keyledger_schemas::secret::Secret;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::outbound::{BuildError, Http, Limits, Outbound};
use crate::provider::{
    Adopt, CallError, Capabilities, Change, Create, Customer, CustomerListing, Held, Listed, ListedCustomer, Listing,
    Person, Provider, ProviderError, Sale, Target, Terms,
};
use client::Client;
use wire::{License, One, User};

/// Under which name a license carries our reference.
const REFERENCE: &str = "keyledgerRef";

/// Under which name it carries `sub_…`, as Keygen's example integration writes it too.
const SUBSCRIPTION: &str = "stripeSubscriptionId";

/// Under which name it carries what a one-off sale was paid with.
const TRANSACTION: &str = "stripeTransactionId";

/// Settings of Keygen, `[provider.keygen]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where Keygen is, without `/v1`. Default `https://api.keygen.sh`.
    pub base_url: String,
    /// The account's id or slug. Blank for one's own installation with a single account. Default blank.
    pub account: String,
    /// What revoking does: `suspend`, or `destroy`, after which no trace of the license is left at Keygen. Default `suspend`.
    pub revoke: Revoke,
    /// Whether the policies stop expired licenses by themselves (`RESTRICT_ACCESS`, `REVOKE_ACCESS`). With false, for
    /// `MAINTAIN_ACCESS` and `ALLOW_ACCESS`, a license is suspended when it expires. Default true.
    pub enforces_expiry: bool,
    /// Ids of entitlements by the names of the features that they stand for. Default none.
    pub features: BTreeMap<String, String>,
    /// How long one request may take, in milliseconds. Default 10000.
    pub timeout_ms: u64,
    /// Requests in a second, on average. Default 5.
    pub requests_per_second: u32,
    /// Requests at once. Default 4.
    pub requests_at_once: u32,
    /// How long a license made by a call of unknown outcome may stay invisible, in milliseconds. By its id it is seen at once
    /// where the database is one. Default 1000.
    pub settle_ms: u64,
}

/// What revoking does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoke {
    /// Suspends.
    #[default]
    Suspend,
    /// Destroys.
    Destroy,
}

impl Default for Options {
    fn default() -> Self {
        let Limits { timeout_ms, requests_at_once, .. } = Limits::default();
        Self {
            base_url: "https://api.keygen.sh".to_owned(),
            account: String::new(),
            revoke: Revoke::Suspend,
            enforces_expiry: true,
            features: BTreeMap::new(),
            timeout_ms,
            requests_per_second: 5,
            requests_at_once,
            settle_ms: 1_000,
        }
    }
}

/// A Keygen account as a provider.
#[derive(Clone, Debug)]
pub struct Keygen {
    name: ProviderName,
    client: Client,
    revoke: Revoke,
    features: BTreeMap<String, String>,
    capabilities: Capabilities,
}

impl Keygen {
    /// The account in `options`, called with `token`. Nothing is called yet.
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
        let base_url = options.base_url.trim_end_matches('/');
        let account = options.account.trim();
        let address = match account {
            "" => format!("{base_url}/v1"),
            account => format!("{base_url}/v1/accounts/{account}"),
        };
        if !account.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter)) {
            return Err(BuildError::Address(address));
        }
        let capabilities = Capabilities {
            settle: Duration::from_millis(options.settle_ms),
            enforces_expiry: options.enforces_expiry,
            reinstates_revoked: options.revoke == Revoke::Suspend,
            keeps_customers: true,
        };
        let client = Client::new(Outbound::new(http, &address, &limits)?, token);
        Ok(Self { name, client, revoke: options.revoke, features: options.features.clone(), capabilities })
    }

    async fn patch(&self, id: &str, attributes: &Value) -> Result<License, ProviderError> {
        let body = wire::document("licenses", None, attributes, None);
        let answer = self.client.send(Method::PATCH, &["licenses", id], &body).await?;
        let changed: One<License> = client::read(&answer)?;
        Ok(changed.data)
    }

    /// The id that we chose is taken: by what an earlier call of ours made, or by something that must not be touched.
    async fn taken(&self, request: &Create) -> Result<License, ProviderError> {
        let id = request.license.to_string();
        match self.client.license(&id).await {
            Ok(Some(license)) if carries(&license, &request.reference) => Ok(license),
            Ok(Some(_)) => {
                let reason = format!("license {id} carries another `{REFERENCE}`: somebody changed its metadata");
                Err(ProviderError::Refused { reason })
            }
            Ok(None) => {
                let reason = format!(
                    "the id {id} is in use where this token cannot see it: in another product, or in another account of \
                     the installation"
                );
                Err(ProviderError::Refused { reason })
            }
            Err(error) => Err(unfinished(error)),
        }
    }

    /// Brings a license that was just made to its terms, as far as the create itself did not.
    async fn finish(&self, license: &License, terms: &Terms, wanted: &[String]) -> Result<(), ProviderError> {
        let is = &license.attributes;
        // A policy with a duration takes an expiry of null for none given, and sets its own.
        if is.expiry != terms.expires_at || is.max_machines != Some(terms.seats) {
            self.patch(&license.id, &limits_of(terms)).await?;
        }
        entitlements::bring_to(&self.client, &self.features, license, wanted).await
    }

    /// The license of this id, if it may be adopted; or why not.
    async fn adoptable(&self, id: &str, request: &Adopt) -> Result<License, ProviderError> {
        let refused = |reason: String| Err(ProviderError::Refused { reason });
        let Some(license) = self.client.license(id).await.map_err(of_a_look_up)? else {
            return refused(format!("there is no license {id} that this token sees"));
        };
        if !license.policy().eq_ignore_ascii_case(&request.product) {
            return refused(format!("license {id} is of policy {}, not of {}", license.policy(), request.product));
        }
        if let Some(other) = license.field(REFERENCE).filter(|other| *other != request.reference) {
            return refused(format!("license {id} carries the reference {other}: it is another paid unit's"));
        }
        let sale = request.sale.purchase.as_str();
        if let Some(other) = license.field(SUBSCRIPTION).filter(|other| sale.starts_with("sub_") && *other != sale) {
            return refused(format!("license {id} was made for {other}"));
        }
        if let (Some(owner), Some(wanted)) = (license.owner(), request.owner.as_deref())
            && !owner.eq_ignore_ascii_case(wanted)
        {
            return refused(format!("license {id} belongs to user {owner}, not to {wanted}"));
        }
        Ok(license)
    }

    fn held(license: &License, reference: &str) -> Held {
        Held {
            provider_id: license.id.clone(),
            reference: reference.to_owned(),
            key: Some(Secret::new(license.attributes.key.clone())),
            also: BTreeMap::new(),
        }
    }

    async fn find_all(&self, reference: &str) -> Result<Vec<License>, ProviderError> {
        let mut found = Vec::new();
        if let Some(id) = chosen_id(reference)
            && let Some(license) = self.client.license(&id).await?
            && carries(&license, reference)
        {
            found.push(license);
        }
        // Adopted ones have an id of their own.
        for license in self.client.search::<License>(REFERENCE, reference).await? {
            if license.field(REFERENCE) == Some(reference) && found.iter().all(|known| known.id != license.id) {
                found.push(license);
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Provider for Keygen {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// By the id that we chose, and among metadata, in all that the token sees.
    async fn find(&self, reference: &str, _product: &str) -> Result<Vec<Held>, ProviderError> {
        let found = self.find_all(reference).await.map_err(of_a_look_up)?;
        Ok(found.iter().map(|license| Self::held(license, reference)).collect())
    }

    async fn find_unclaimed(&self, sale: &Sale, product: &str) -> Result<Vec<Held>, ProviderError> {
        let mut found: Vec<License> = Vec::new();
        for (name, value) in names_of(sale) {
            let hits = self.client.search::<License>(name, value).await.map_err(of_a_look_up)?;
            // Newest first.
            for license in hits.into_iter().rev() {
                let fits = license.field(name) == Some(value)
                    && license.field(REFERENCE).is_none()
                    && license.policy().eq_ignore_ascii_case(product);
                if fits && found.iter().all(|known| known.id != license.id) {
                    found.push(license);
                }
            }
        }
        Ok(found.iter().map(|license| Self::held(license, "")).collect())
    }

    async fn customer(&self, person: &Person) -> Result<Customer, ProviderError> {
        customers::customer(&self.client, person).await
    }

    async fn update_customer(&self, id: &str, person: &Person) -> Result<(), ProviderError> {
        customers::update(&self.client, id, person).await
    }

    async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
        request.terms.check()?;
        let policy = id_of(&request.product, "the catalog's product is the id of a Keygen policy")?;
        let wanted = entitlements::wanted(&self.features, &request.terms)?;
        let mut relationships = json!({ "policy": wire::linkage("policies", policy) });
        if let Some(owner) = &request.owner {
            relationships["owner"] = wire::linkage("users", id_of(owner, "an owner is the id of a Keygen user")?);
        }
        let mut attributes = json!({
            "maxMachines": request.terms.seats,
            "metadata": wire::merged(&serde_json::Map::new(), &fields(&request.reference, &request.sale, request.customer.as_deref())),
        });
        if let Some(expiry) = request.terms.expires_at {
            attributes["expiry"] = json!(expiry.to_string());
        }
        let id = request.license.to_string();
        let body = wire::document("licenses", Some(&id), &attributes, Some(relationships));
        let answer = self.client.send(Method::POST, &["licenses"], &body).await?;
        let is_taken = answer.status == StatusCode::CONFLICT || client::says(&answer, "ID_CONFLICT");
        let license = if is_taken {
            self.taken(request).await?
        } else {
            let made: One<License> = client::read(&answer)?;
            made.data
        };
        // It exists from here on: nothing that goes wrong now may say that nothing was done.
        self.finish(&license, &request.terms, &wanted).await.map_err(unfinished)?;
        Ok(Self::held(&license, &request.reference))
    }

    async fn adopt(&self, request: &Adopt) -> Result<Held, ProviderError> {
        request.terms.check()?;
        let wanted = entitlements::wanted(&self.features, &request.terms)?;
        let id = license_id(request.named.trim())?;
        let license = self.adoptable(id, request).await?;
        if let (None, Some(owner)) = (license.owner(), &request.owner) {
            let body = wire::linkage("users", id_of(owner, "an owner is the id of a Keygen user")?);
            client::done(&self.client.send(Method::PUT, &["licenses", id, "owner"], &body).await?)?;
        }
        entitlements::bring_to(&self.client, &self.features, &license, &wanted).await?;
        // The reference comes last: a license that carries it is taken for one of ours that needs nothing but its terms.
        // Metadata is written as a whole: what somebody wrote meanwhile stays too.
        let license = self.adoptable(id, request).await?;
        let mut attributes = limits_of(&request.terms);
        attributes["suspended"] = json!(false);
        // Whoever gave it no limit meant it.
        if license.attributes.max_machines.is_none() {
            attributes["maxMachines"] = Value::Null;
        }
        let fields = fields(&request.reference, &request.sale, None);
        attributes["metadata"] = wire::merged(&license.attributes.metadata, &fields);
        let license = self.patch(id, &attributes).await?;
        Ok(Self::held(&license, &request.reference))
    }

    async fn change(&self, target: &Target, change: &Change) -> Result<(), ProviderError> {
        let id = license_id(&target.provider_id)?;
        match change {
            Change::Terms(terms) => {
                terms.check()?;
                let wanted = entitlements::wanted(&self.features, terms)?;
                let license = self.patch(id, &limits_of(terms)).await?;
                entitlements::bring_to(&self.client, &self.features, &license, &wanted).await
            }
            Change::Suspend => self.patch(id, &json!({ "suspended": true })).await.map(drop),
            Change::Reinstate => self.patch(id, &json!({ "suspended": false })).await.map(drop),
            Change::Revoke => match self.revoke {
                Revoke::Suspend => self.patch(id, &json!({ "suspended": true })).await.map(drop),
                Revoke::Destroy => {
                    let answer = self.client.delete(&["licenses", id, "actions", "revoke"]).await?;
                    // The second time there is nothing left.
                    if answer.status == StatusCode::NOT_FOUND { Ok(()) } else { client::done(&answer) }
                }
            },
        }
    }

    async fn list(&self, product: &str, after: Option<&str>) -> Result<Listing, ProviderError> {
        let filter = [("policy", product)];
        let page = self.client.page::<License>("licenses", &filter, after.unwrap_or_default()).await;
        let page = page.map_err(of_a_look_up)?;
        let of_product = page.items.iter().filter(|license| license.policy().eq_ignore_ascii_case(product));
        Ok(Listing { licenses: of_product.map(listed).collect(), next: page.next })
    }

    async fn customers(&self, after: Option<&str>) -> Result<CustomerListing, ProviderError> {
        let page = self.client.page::<User>("users", &[], after.unwrap_or_default()).await.map_err(of_a_look_up)?;
        let customers = page.items.iter().map(|user| ListedCustomer {
            id: user.id.clone(),
            customer: user.field(customers::CUSTOMER).map(str::to_owned),
        });
        Ok(CustomerListing { customers: customers.collect(), next: page.next })
    }

    /// That the token works, and that what features are mapped to is there.
    async fn prepare(&self) -> Result<(), ProviderError> {
        let answer = self.client.get(&["licenses"], &[("limit", "1")]).await.map_err(of_a_look_up)?;
        let name = &self.name;
        let refused = |reason: String| Err(ProviderError::Refused { reason });
        match answer.status {
            StatusCode::UNAUTHORIZED => {
                return refused(format!(
                    "Keygen does not accept the token of [provider.{name}]: make one for the product, and set it there"
                ));
            }
            StatusCode::NOT_FOUND => {
                return refused(format!("Keygen knows no such account: check `account` of [provider.{name}]"));
            }
            _ => client::done(&answer).map_err(of_a_look_up)?,
        }
        for (feature, id) in &self.features {
            if !is_id(id) {
                return refused(format!("feature `{feature}` of [provider.{name}] is no id of an entitlement: `{id}`"));
            }
            let answer = self.client.get(&["entitlements", id], &[]).await.map_err(of_a_look_up)?;
            if answer.status == StatusCode::NOT_FOUND {
                return refused(format!("feature `{feature}` of [provider.{name}]: there is no entitlement {id}"));
            }
            client::done(&answer).map_err(of_a_look_up)?;
        }
        Ok(())
    }
}

fn listed(license: &License) -> Listed {
    let is = &license.attributes;
    Listed {
        provider_id: license.id.clone(),
        also: BTreeMap::new(),
        reference: license.field(REFERENCE).map(str::to_owned),
        purchase: license.field(SUBSCRIPTION).or_else(|| license.field(TRANSACTION)).map(str::to_owned),
        owner: license.owner().map(str::to_owned),
        expires_at: is.expiry,
        seats: is.max_machines,
        works: !is.suspended && is.status.as_deref() != Some("BANNED"),
    }
}

/// Expiry and machines, absolute.
fn limits_of(terms: &Terms) -> Value {
    json!({ "expiry": terms.expires_at.map(|at| at.to_string()), "maxMachines": terms.seats })
}

/// Whether it is the license of this reference, found by the id that we chose: it carries the reference, or nobody's.
fn carries(license: &License, reference: &str) -> bool {
    license.field(REFERENCE).is_none_or(|carried| carried == reference)
}

/// What is written into a license.
fn fields<'s>(reference: &'s str, sale: &'s Sale, customer: Option<&'s str>) -> Vec<(&'static str, &'s str)> {
    let mut fields = vec![(REFERENCE, reference)];
    fields.extend(names_of(sale).into_iter().take(1));
    fields.extend(customer.map(|customer| (customers::CUSTOMER, customer)));
    fields
}

/// Under which names a license of this sale carries what, the best first.
fn names_of(sale: &Sale) -> Vec<(&'static str, &str)> {
    let purchase = sale.purchase.as_str();
    let names = if purchase.starts_with("sub_") {
        vec![(SUBSCRIPTION, purchase)]
    } else {
        vec![(TRANSACTION, sale.payment.as_deref().unwrap_or_default()), (TRANSACTION, purchase)]
    };
    names.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// The id in a reference of ours.
fn chosen_id(reference: &str) -> Option<String> {
    let id = reference.strip_prefix("kl-").filter(|hex| hex.len() == 32)?;
    Some(id.parse::<LicenseId>().ok()?.to_string())
}

/// Keygen refuses anything else, and in a path it would address another thing.
fn is_id(text: &str) -> bool {
    text.len() == 36 && text.parse::<LicenseId>().is_ok()
}

fn id_of<'t>(text: &'t str, what: &str) -> Result<&'t str, ProviderError> {
    if is_id(text) {
        return Ok(text);
    }
    Err(ProviderError::Refused { reason: format!("`{text}` is no UUID; {what}") })
}

/// What is no id is not repeated: it may be a key, which nobody may read in an event, and which is no part of an address.
fn license_id(text: &str) -> Result<&str, ProviderError> {
    if is_id(text) {
        return Ok(text);
    }
    let reason = "a license at Keygen is named by its id, which has the form of a UUID".to_owned();
    Err(ProviderError::Refused { reason })
}

/// A look-up changes nothing: one of unknown outcome may simply be asked again.
fn of_a_look_up(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Indeterminate { source } => ProviderError::Unavailable { retry_after: None, source },
        other @ (ProviderError::Refused { .. } | ProviderError::Unavailable { .. }) => other,
    }
}

/// Something was done before this went wrong: it is looked up, and then brought to its end.
fn unfinished(error: ProviderError) -> ProviderError {
    let source = match error {
        ProviderError::Indeterminate { source } | ProviderError::Unavailable { source, .. } => source,
        ProviderError::Refused { reason } => {
            CallError::Unreadable { reason: format!("the license is there, but not all of it was done: {reason}") }
        }
    };
    ProviderError::Indeterminate { source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale(purchase: &str, payment: Option<&str>) -> Sale {
        Sale { purchase: purchase.to_owned(), item: "si_1".to_owned(), payment: payment.map(str::to_owned) }
    }

    #[test]
    fn a_license_carries_the_subscription_or_what_it_was_paid_with() {
        let names = |sale: &Sale| -> Vec<String> {
            fields("kl-1", sale, Some("cus_1")).iter().map(|(name, value)| format!("{name}={value}")).collect()
        };
        let customer = "stripeCustomerId=cus_1";
        assert_eq!(names(&sale("sub_1", Some("pi_1"))), ["keyledgerRef=kl-1", "stripeSubscriptionId=sub_1", customer]);
        assert_eq!(names(&sale("cs_1", Some("pi_1"))), ["keyledgerRef=kl-1", "stripeTransactionId=pi_1", customer]);
        assert_eq!(names(&sale("in_1", None)), ["keyledgerRef=kl-1", "stripeTransactionId=in_1", customer]);
        assert!(names_of(&Sale::default()).is_empty());
    }

    #[test]
    fn a_reference_holds_the_id_that_we_chose() {
        let id = uuid::Uuid::from_u128(7);
        assert_eq!(chosen_id(&format!("kl-{}", id.simple())), Some(id.to_string()));
        for other in ["kl-", "kl-7", "x", ""] {
            assert_eq!(chosen_id(other), None, "{other}");
        }
    }

    #[test]
    fn an_account_is_a_part_of_the_path() {
        let http = Http::new(Duration::from_secs(1)).unwrap();
        let new = |account: &str| {
            let options = Options { account: account.to_owned(), ..Options::default() };
            Keygen::new(ProviderName::from("keygen"), &options, Secret::new("t".to_owned()), &http)
        };
        for good in ["", "acme", "8a1a4f2e-0000-4000-8000-000000000001"] {
            new(good).unwrap();
        }
        for bad in ["a/b", "a?b", "a b", "ä", ".."] {
            assert!(new(bad).is_err(), "{bad}");
        }
    }
}
