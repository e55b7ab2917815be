//! Cryptolens, Web API v3.
//!
//! It has no absolute expiry, no ids of ours and no create that can be repeated, so that each is made from what there is:
//! the reference stands in the notes that the create call itself takes, and is looked up before; an expiry is read, added to
//! and read again; a revoked license is a blocked one. It does not stop an expired license by itself.
//!
//! A license is known by its number in the product (`5`); its number in the account is kept beside it as `globalId`. Calls
//! take neither but the key, which is looked up by the number.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::ids::ProviderName;
use keyledger_schemas::secret::Secret;
use tokio::sync::OnceCell;
use tracing::warn;

use self::client::{Client, Form};
use self::licenses::{Calendar, Memory};
use self::named::{Named, named, product};
use self::terms::Never;
use self::wire::License;
use crate::outbound::{Http, Outbound};
use crate::provider::{
    Adopt, CallError, Capabilities, Change, Create, Customer, CustomerListing, Held, Listed, Listing, Person, Provider,
    ProviderError, Sale, Target,
};

mod adopt;
mod client;
mod create;
mod customers;
mod licenses;
mod named;
mod notes;
mod options;
mod terms;
mod wire;

pub use options::{BuildError, Options};

/// The account's data object that holds the address of the seller's terms of use.
const TERMS_OF_USE: &str = "cryptolens_customtosurl";

/// In `ReferencerType`: the account itself.
const ACCOUNT: &str = "0";

/// Cryptolens as a provider.
#[derive(Clone)]
pub struct Cryptolens {
    name: ProviderName,
    options: Options,
    client: Client,
    clock: Arc<dyn Clock>,
    memory: Arc<Memory>,
    /// Products of the old kind, once they were asked for.
    skgl: Arc<OnceCell<HashSet<u64>>>,
}

impl std::fmt::Debug for Cryptolens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cryptolens").field("name", &self.name).field("options", &self.options).finish_non_exhaustive()
    }
}

impl Cryptolens {
    /// The account that `token` belongs to. Nothing is called yet.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: a setting to mend.
    pub fn new(name: ProviderName, options: &Options, token: Secret, http: &Http) -> Result<Self, BuildError> {
        options.check(&token)?;
        let service = Outbound::new(http, &options.base_url, &options.limits())?;
        Ok(Self {
            name,
            options: options.clone(),
            client: Client::new(service, token),
            clock: Arc::new(SystemClock),
            memory: Arc::default(),
            skgl: Arc::default(),
        })
    }

    /// The same on another clock: periods are counted from today.
    #[must_use]
    pub fn on_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn never(&self) -> Never {
        Never { days: self.options.never_ends_days }
    }

    fn calendar(&self) -> Calendar {
        let unknown = Duration::from_millis(self.options.unknown_wait_ms);
        Calendar { now: self.clock.now(), never: self.never(), unknown }
    }

    /// Products whose keys are of the old kind: another expiry would be another key.
    async fn skgl(&self) -> Result<&HashSet<u64>, ProviderError> {
        let ask = || async {
            let answer: wire::Products = self.client.look("product", "GetProducts", Form::new()).await?;
            Ok::<_, ProviderError>(answer.products.iter().filter(|it| it.is_skgl()).map(|it| it.id).collect())
        };
        self.skgl.get_or_try_init(ask).await
    }

    async fn refuse_skgl(&self, product: u64) -> Result<(), ProviderError> {
        if !self.skgl().await?.contains(&product) {
            return Ok(());
        }
        Err(ProviderError::Refused {
            reason: format!(
                "product {product} makes keys of the old kind (SKGL), which change with every extension: \
                 make a product with the algorithm SKM15 and map to that"
            ),
        })
    }

    fn held(&self, license: &License, reference: &str) -> Held {
        self.memory.remember(license);
        Held {
            provider_id: license.id.to_string(),
            reference: reference.to_owned(),
            key: Some(Secret::new(license.key.clone())),
            also: also(license),
        }
    }

    fn listed(&self, license: &License) -> Listed {
        let ends = Some(license.expires).filter(|ends| !self.never().is(*ends, self.clock.now()));
        Listed {
            provider_id: license.id.to_string(),
            also: also(license),
            reference: notes::ours(license).map(str::to_owned),
            purchase: notes::purchase(license),
            owner: license.customer.as_ref().map(|customer| customer.id.to_string()),
            expires_at: ends,
            seats: Some(license.max_no_of_machines).filter(|seats| *seats > 0),
            works: !license.block,
        }
    }

    /// What can be seen without changing anything, and what the settings say should stand there.
    async fn look_around(&self) -> Result<(), ProviderError> {
        let skgl = self.skgl().await?;
        if !skgl.is_empty() {
            let mut products: Vec<_> = skgl.iter().collect();
            products.sort_unstable();
            warn!(provider.products = ?products,
                "these products of Cryptolens make keys of the old kind (SKGL); nothing is sold from them");
        }
        let form = vec![("Limit", "1".to_owned())];
        self.client.look::<wire::Customers>("customer", "GetCustomers", form).await?;
        match &self.options.terms_of_use_url {
            Some(url) => self.put_up_terms_of_use(url).await,
            None => Ok(()),
        }
    }

    async fn put_up_terms_of_use(&self, url: &str) -> Result<(), ProviderError> {
        let form = vec![("ReferencerType", ACCOUNT.to_owned()), ("Contains", TERMS_OF_USE.to_owned())];
        let present: wire::DataObjects = self.client.look("data", "ListDataObjects", form).await?;
        let present = present.data_objects.iter().find(|object| object.name == TERMS_OF_USE);
        let text = ("StringValue", url.to_owned());
        match present {
            Some(object) if object.text() == url => {}
            Some(object) => {
                let form = vec![("Id", object.id.to_string()), text];
                self.client.change::<wire::Nothing>("data", "SetStringValue", form).await?;
            }
            None => {
                let name = ("Name", TERMS_OF_USE.to_owned());
                let form = vec![("ReferencerType", ACCOUNT.to_owned()), name, text];
                self.client.change::<wire::Nothing>("data", "AddDataObject", form).await?;
            }
        }
        Ok(())
    }
}

fn also(license: &License) -> BTreeMap<String, String> {
    license.global_id.map(|id| ("globalId".to_owned(), id.to_string())).into_iter().collect()
}

#[async_trait]
impl Provider for Cryptolens {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            settle: Duration::from_millis(self.options.settle_ms),
            enforces_expiry: false,
            reinstates_revoked: true,
            keeps_customers: true,
        }
    }

    async fn find(&self, reference: &str, product_id: &str) -> Result<Vec<Held>, ProviderError> {
        let product = product(product_id)?;
        let found = licenses::with_reference(&self.client, product, reference, self.options.data_objects).await?;
        Ok(found.iter().map(|license| self.held(license, reference)).collect())
    }

    async fn find_unclaimed(&self, sale: &Sale, product_id: &str) -> Result<Vec<Held>, ProviderError> {
        let product = product(product_id)?;
        let names = [("si_", &sale.item), ("sub_", &sale.purchase)];
        let mut found = Vec::new();
        for (_, name) in names.into_iter().filter(|(prefix, name)| name.starts_with(prefix)) {
            found.extend(licenses::made_by_theirs(&self.client, product, name).await?);
        }
        found.sort_by_key(|license| license.id);
        found.dedup_by_key(|license| license.id);
        Ok(found.iter().map(|license| self.held(license, "")).collect())
    }

    async fn customer(&self, person: &Person) -> Result<Customer, ProviderError> {
        customers::find_or_make(&self.client, person, self.options.association_links).await
    }

    async fn update_customer(&self, id: &str, person: &Person) -> Result<(), ProviderError> {
        customers::update(&self.client, id, person).await
    }

    async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
        request.terms.check()?;
        let product = product(&request.product)?;
        self.make(product, request).await
    }

    async fn adopt(&self, request: &Adopt) -> Result<Held, ProviderError> {
        request.terms.check()?;
        terms::switches(&request.terms.features)?;
        let product = product(&request.product)?;
        self.refuse_skgl(product).await?;
        self.take_over(product, request).await
    }

    async fn change(&self, target: &Target, change: &Change) -> Result<(), ProviderError> {
        if let Change::Terms(terms) = change {
            terms.check()?;
            terms::switches(&terms.features)?;
        }
        let product = product(&target.product)?;
        let name: Named = named(&target.provider_id)?;
        let license = licenses::of_name(&self.client, &self.memory, product, name, true).await?;
        match change {
            Change::Suspend | Change::Revoke => licenses::change(&self.client, &license, "BlockKey", None).await,
            Change::Reinstate => licenses::change(&self.client, &license, "UnblockKey", None).await,
            Change::Terms(terms) => {
                licenses::set_terms(&self.client, &self.memory, license, terms, self.calendar()).await
            }
        }
    }

    async fn list(&self, product_id: &str, after: Option<&str>) -> Result<Listing, ProviderError> {
        let product = product(product_id)?;
        let number: u32 = after
            .map_or(Ok(1), str::parse)
            .map_err(|_| ProviderError::Refused { reason: "that page was not given by a former one".to_owned() })?;
        let page = licenses::page(&self.client, product, number, Form::new()).await?;
        let next = (number < page.page_count).then(|| (number + 1).to_string());
        Ok(Listing { licenses: page.licenses.iter().map(|license| self.listed(license)).collect(), next })
    }

    async fn customers(&self, after: Option<&str>) -> Result<CustomerListing, ProviderError> {
        // All of them are on the first page.
        match after {
            Some(_) => Ok(CustomerListing::default()),
            None => customers::all(&self.client).await,
        }
    }

    async fn portal_link(&self, customer: Option<&str>) -> Result<Option<Secret>, ProviderError> {
        match customer {
            Some(customer) => Ok(customers::association_link(&self.client, customer).await?.map(Secret::new)),
            None => Ok(self.options.sign_up_link.clone().map(Secret::new)),
        }
    }

    async fn prepare(&self) -> Result<(), ProviderError> {
        self.look_around().await.map_err(|error| match error {
            ProviderError::Unavailable { source: CallError::Credentials { .. }, .. } => ProviderError::Refused {
                reason: "the access token is not accepted: make another, and check that the plan at Cryptolens is paid"
                    .to_owned(),
            },
            other => other,
        })
    }
}
