//! Users: one per address in the account, so two of Stripe's customers with one address share theirs.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::client::{self, Client};
use super::wire::{User, document, merged};
use crate::provider::{Customer, Person, ProviderError};

/// Under which name a user carries `cus_…`; the same as `stripe_customer_id` for Keygen.
pub(super) const CUSTOMER: &str = "stripeCustomerId";

/// The longest name of either kind.
const NAME_CHARS_MAX: usize = 255;

/// Finds the person's user, or makes them.
pub(super) async fn customer(client: &Client, person: &Person) -> Result<Customer, ProviderError> {
    if let Some(id) = person.known.as_deref().filter(|id| super::is_id(id))
        && let Some(user) = client.user(id).await?
    {
        return Ok(held(&user, person));
    }
    let carriers: Vec<User> = client.search(CUSTOMER, &person.customer).await?;
    // The oldest of them: it is the last in a list that begins with the newest.
    if let Some(user) = carriers.iter().rfind(|user| user.field(CUSTOMER) == Some(&person.customer)) {
        return Ok(held(user, person));
    }
    let Some(email) = address(person) else {
        let reason = "the customer has no email address, and Keygen makes no user without one".to_owned();
        return Err(ProviderError::Refused { reason });
    };
    if let Some(user) = client.user(&email).await? {
        return claimed(client, user, person).await;
    }
    let (first, last) = names(person);
    let mut attributes = json!({ "email": email, "firstName": first, "metadata": { CUSTOMER: person.customer } });
    if let Some(last) = last {
        attributes["lastName"] = json!(last);
    }
    let answer = client.send(Method::POST, &["users"], &document("users", None, &attributes, None)).await?;
    if answer.status == StatusCode::CONFLICT || client::says(&answer, "EMAIL_TAKEN") {
        return match client.user(&email).await? {
            Some(user) => claimed(client, user, person).await,
            None => Err(ProviderError::Refused {
                reason:
                    "the address belongs to somebody whom this token does not see, such as one of the Keygen account's \
                         own people: give the customer another address in Stripe"
                        .to_owned(),
            }),
        };
    }
    let made: super::wire::One<User> = client::read(&answer)?;
    Ok(Customer { id: made.data.id, made: true, shared: false })
}

/// Brings name and address up to date, unless another of Stripe's customers is who they are.
pub(super) async fn update(client: &Client, id: &str, person: &Person) -> Result<(), ProviderError> {
    let gone = || ProviderError::Refused { reason: format!("there is no user `{id}` any more") };
    if !super::is_id(id) {
        return Err(gone());
    }
    let user = client.user(id).await?.ok_or_else(gone)?;
    if is_of_another(&user, person) {
        return Ok(());
    }
    let (first, last) = names(person);
    let mut attributes = json!({});
    if user.attributes.first_name.as_deref() != Some(&first) {
        attributes["firstName"] = json!(first);
    }
    if user.attributes.last_name.as_deref().unwrap_or_default() != last.as_deref().unwrap_or_default() {
        attributes["lastName"] = json!(last);
    }
    if let Some(email) = address(person).filter(|email| *email != user.attributes.email) {
        attributes["email"] = json!(email);
    }
    if attributes == json!({}) {
        return Ok(());
    }
    let body = document("users", None, &attributes, None);
    client::done(&client.send(Method::PATCH, &["users", id], &body).await?)
}

/// A user that was found by the address: it carries `cus_…` from now on, unless it carries another.
async fn claimed(client: &Client, user: User, person: &Person) -> Result<Customer, ProviderError> {
    if user.field(CUSTOMER).is_none() {
        let metadata = merged(&user.attributes.metadata, &[(CUSTOMER, &person.customer)]);
        let body = document("users", None, &json!({ "metadata": metadata }), None);
        client::done(&client.send(Method::PATCH, &["users", &user.id], &body).await?)?;
    }
    Ok(held(&user, person))
}

fn held(user: &User, person: &Person) -> Customer {
    Customer { id: user.id.clone(), made: false, shared: is_of_another(user, person) }
}

fn is_of_another(user: &User, person: &Person) -> bool {
    user.field(CUSTOMER).is_some_and(|customer| customer != person.customer)
}

/// As Keygen stores it.
fn address(person: &Person) -> Option<String> {
    let email = person.email.as_deref()?.trim().to_lowercase();
    (!email.is_empty()).then_some(email)
}

/// The name in Keygen's two parts: the last word, and all before it.
fn names(person: &Person) -> (String, Option<String>) {
    let name: Vec<&str> = person.display_name().split_whitespace().collect();
    let cut = |text: String| text.chars().filter(|letter| !letter.is_control()).take(NAME_CHARS_MAX).collect();
    match name.as_slice() {
        [before @ .., last] if !before.is_empty() => (cut(before.join(" ")), Some(cut((*last).to_owned()))),
        all => (cut(all.join(" ")), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_two_parts_where_it_has_two_words() {
        let of = |name: &str| names(&Person { customer: "cus_1".into(), name: Some(name.into()), ..Person::default() });
        assert_eq!(of(" Jane  van Roe "), ("Jane van".to_owned(), Some("Roe".to_owned())));
        assert_eq!(of("Acme"), ("Acme".to_owned(), None));
        assert_eq!(of(""), ("cus_1".to_owned(), None));
        assert_eq!(of(&"é".repeat(300)).0.chars().count(), 255);
    }
}
