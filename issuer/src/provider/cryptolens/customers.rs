//! Customers: finding one, making one, and keeping its name and address.
//!
//! An address does not tell customers apart there, and what is noted about a customer cannot be read back. So the Stripe
//! customer's id stands in the company's name, which Stripe does not know anyway: there it is seen, searched for, and
//! compared. Thus a customer whose making was not answered is found again instead of made twice.

use tracing::warn;

use super::client::{Client, Failure, Said};
use super::notes;
use super::wire;
use crate::provider::{Customer, CustomerListing, ListedCustomer, Person, ProviderError};

/// The engine takes no more of a name or an address.
const TEXT_MAX: usize = 100;

/// A shorter text would match half of all customers.
const SEARCH_BYTES_MIN: usize = 4;

/// Finds the customer of a person, or makes it.
pub(super) async fn find_or_make(
    client: &Client,
    person: &Person,
    associated: bool,
) -> Result<Customer, ProviderError> {
    for id in [&person.known, &person.named].into_iter().flatten() {
        // Something else than a number is nobody.
        let Ok(id) = id.trim().parse() else { continue };
        if exists(client, id).await? {
            return Ok(found(id));
        }
    }
    if let Some(id) = by_stripe(client, &person.customer).await? {
        return Ok(found(id));
    }
    if let Some(id) = by_address(client, person).await? {
        return Ok(found(id));
    }
    let id = make(client, person, associated).await?;
    Ok(Customer { id: id.to_string(), made: true, shared: false })
}

fn found(id: u64) -> Customer {
    Customer { id: id.to_string(), made: false, shared: false }
}

/// Whether there is such a customer. Asked before any license is given to one: the engine takes a license from its present
/// customer when the new one does not exist.
pub(super) async fn exists(client: &Client, id: u64) -> Result<bool, ProviderError> {
    let form = vec![("CustomerId", id.to_string())];
    match client.look::<wire::Customers>("customer", "GetCustomers", form).await {
        Ok(answer) => Ok(answer.customers.iter().any(|customer| customer.id == id)),
        Err(failure) if failure.said() == Some(Said::NoCustomer) => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

async fn search(client: &Client, text: &str) -> Result<Vec<wire::Customer>, ProviderError> {
    if text.len() < SEARCH_BYTES_MIN {
        return Ok(Vec::new());
    }
    let form = vec![("Search", text.to_owned())];
    let answer = client.look::<wire::Customers>("customer", "GetCustomers", form).await.map_err(ProviderError::from)?;
    Ok(answer.customers)
}

/// The one that was made for this Stripe customer. Of several, which lost answers leave, the oldest.
async fn by_stripe(client: &Client, stripe: &str) -> Result<Option<u64>, ProviderError> {
    if !notes::is_plain(stripe) {
        return Ok(None);
    }
    let hits = search(client, stripe).await?;
    let mut ids: Vec<u64> = hits.iter().filter(|hit| company(hit) == stripe).map(|hit| hit.id).collect();
    ids.sort_unstable();
    if ids.len() > 1 {
        warn!(customer.id = %stripe, provider.customers = ?ids,
            "several customers at Cryptolens are for one Stripe customer; the first is used, and the others can be removed");
    }
    Ok(ids.first().copied())
}

/// The one customer with that address that is for nobody else at Stripe: made by hand, or by another integration.
async fn by_address(client: &Client, person: &Person) -> Result<Option<u64>, ProviderError> {
    let address = person.email.as_deref().map(str::trim).filter(|email| email.contains('@')).map(str::to_lowercase);
    let Some(address) = address else { return Ok(None) };
    let hits = search(client, &address).await?;
    let same = |hit: &&wire::Customer| {
        hit.email.as_deref().map(|email| email.trim().to_lowercase()).as_deref() == Some(&address)
    };
    let free = |hit: &&wire::Customer| !is_stripes(company(hit));
    let ids: Vec<u64> = hits.iter().filter(same).filter(free).map(|hit| hit.id).collect();
    let [id] = ids[..] else { return Ok(None) };
    let form = vec![("CustomerId", id.to_string())];
    let theirs: wire::Licenses =
        client.look("customer", "GetCustomerLicenses", form).await.map_err(ProviderError::from)?;
    let others = |license: &wire::License| notes::customers(license).any(|customer| customer != person.customer);
    Ok((!theirs.licenses.iter().any(others)).then_some(id))
}

fn company(customer: &wire::Customer) -> &str {
    customer.company_name.as_deref().map(str::trim).unwrap_or_default()
}

/// Whether a company's name is an id of Stripe's, written by us.
fn is_stripes(company: &str) -> bool {
    ["cus_", "sub_", "in_", "cs_", "gcus_"].iter().any(|prefix| company.starts_with(prefix)) && notes::is_plain(company)
}

async fn make(client: &Client, person: &Person, associated: bool) -> Result<u64, ProviderError> {
    let address = person.email.as_deref().map(str::trim).unwrap_or_default();
    match add(client, person, address, associated).await {
        // Perhaps it insists on an address: then it has one that can never be anybody's.
        Err(failure) if address.is_empty() && failure.said() == Some(Said::Incorrect) => {
            let nobodys = format!("{}@no-address.invalid", person.customer);
            add(client, person, &nobodys, associated).await.map_err(ProviderError::from)
        }
        other => other.map_err(ProviderError::from),
    }
}

async fn add(client: &Client, person: &Person, address: &str, associated: bool) -> Result<u64, Failure> {
    let form = vec![
        ("Name", notes::cut(person.display_name(), TEXT_MAX)),
        ("Email", whole_address(address).unwrap_or_default().to_owned()),
        ("CompanyName", notes::cut(&person.customer, TEXT_MAX)),
        ("Notes", format!("stripe_customer_id:{};", person.customer)),
        ("EnableCustomerAssociation", associated.to_string()),
    ];
    Ok(client.change::<wire::MadeCustomer>("customer", "AddCustomer", form).await?.customer_id)
}

/// Half an address is somebody else's: one that is too long is left out.
fn whole_address(address: &str) -> Option<&str> {
    (!address.is_empty() && address.encode_utf16().count() <= TEXT_MAX).then_some(address)
}

/// Brings name and address up to date, as far as Stripe knows them.
pub(super) async fn update(client: &Client, id: &str, person: &Person) -> Result<(), ProviderError> {
    let number: u64 = id.trim().parse().map_err(|_| ProviderError::Refused {
        reason: format!("`{id}` is not a customer of Cryptolens: its customers have whole numbers"),
    })?;
    let mut form = vec![("CustomerId", number.to_string())];
    if let Some(name) = person.name.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
        form.push(("Name", notes::cut(name, TEXT_MAX)));
    }
    if let Some(address) = person.email.as_deref().map(str::trim).and_then(whole_address) {
        form.push(("Email", address.to_owned()));
    }
    if form.len() == 1 {
        return Ok(());
    }
    client.change::<wire::Nothing>("customer", "EditCustomer", form).await?;
    Ok(())
}

/// All customers, in the order in which they were made. The engine gives them in one go.
pub(super) async fn all(client: &Client) -> Result<CustomerListing, ProviderError> {
    let answer: wire::Customers = client.look("customer", "GetCustomers", Vec::new()).await?;
    let listed = |customer: &wire::Customer| ListedCustomer {
        id: customer.id.to_string(),
        customer: Some(company(customer)).filter(|company| is_stripes(company)).map(str::to_owned),
    };
    let mut customers = answer.customers;
    customers.sort_by_key(|customer| customer.id);
    Ok(CustomerListing { customers: customers.iter().map(listed).collect(), next: None })
}

/// The link by which a customer opens their portal.
pub(super) async fn association_link(client: &Client, id: &str) -> Result<Option<String>, ProviderError> {
    let form = vec![("CustomerId", id.trim().to_owned()), ("EnableCustomerAssociation", "true".to_owned())];
    let answer = client.change::<wire::EditedCustomer>("customer", "EditCustomer", form).await?;
    Ok(answer.portal_link)
}
