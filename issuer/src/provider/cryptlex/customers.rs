//! Who a buyer is among Cryptlex' users.
//!
//! A user is somebody's by hidden metadata that names the Stripe customer. An address alone decides nothing once a user has
//! that: two Stripe customers with one address are two users, where the account allows it, and share one where it does not.

use super::client::Client;
use super::wire::{self, Entry, NewUser, User, UserPatch};
use crate::provider::{CallError, Customer, Person, ProviderError};

/// A part of a name that is longer is cut: no limit is documented.
const NAME_CHARS_MAX: usize = 255;

/// How often in a row a user whom the account does not take, and who is not shown either, may still be one who was just made.
const UNSEEN_MAX: u32 = 3;

/// Stands for a last name where the account insists on one and none is known.
const NO_LAST_NAME: &str = "-";

/// Finds the user, or makes one.
pub(super) async fn customer(
    client: &Client,
    person: &Person,
    portal: Option<bool>,
) -> Result<Customer, ProviderError> {
    for id in [&person.known, &person.named].into_iter().flatten().filter(|id| super::is_id(id)) {
        if let Some(user) = client.user(id).await? {
            return Ok(found(&user, person));
        }
    }
    if let Some(user) = by_mark(client, person).await? {
        return Ok(found(&user, person));
    }
    let Some(email) = address(person) else {
        let reason = "Cryptlex holds nobody without an address, and Stripe knows none of this customer".to_owned();
        return Err(ProviderError::Refused { reason });
    };
    if let Some(user) = at_address(client, person).await?.into_iter().find(|user| may_be(user, person)) {
        return claim(client, user, person).await;
    }
    match make(client, person, &email, portal).await {
        Ok(user) => Ok(Customer { made: true, ..found(&user, person) }),
        // The account takes an address once, or somebody was faster: whoever has it now is it. After any other loss the create
        // may still be on its way, and is looked for when it is asked again.
        Err(error) if is_no(&error) => match taken(client, person).await? {
            Some(user) => Ok(found(&user, person)),
            None => Err(unseen(error, person)),
        },
        Err(error) => Err(error),
    }
}

/// Brings name and address up to date.
pub(super) async fn update(client: &Client, id: &str, person: &Person) -> Result<(), ProviderError> {
    let Some(user) = client.user(id).await? else {
        return Err(ProviderError::Refused { reason: format!("Cryptlex has no user `{id}`") });
    };
    if is_anothers(&user, person) {
        let reason = "another Stripe customer has this user as well; it keeps what that one says".to_owned();
        return Err(ProviderError::Refused { reason });
    }
    let patch = difference(&user, person);
    if patch == UserPatch::default() {
        return Ok(());
    }
    match client.patch_user(id, &patch).await {
        // An address that somebody else has may be answered so; it was not changed then, and never will be by asking again.
        Err(ProviderError::Indeterminate { source: CallError::Status { status: 409 } }) => {
            let now = client.user(id).await?;
            let done = now.is_some_and(|user| difference(&user, person) == UserPatch::default());
            let reason = "status 409: another user has this address".to_owned();
            if done { Ok(()) } else { Err(ProviderError::Refused { reason }) }
        }
        other => other,
    }
}

fn found(user: &User, person: &Person) -> Customer {
    Customer { id: user.id.clone(), made: false, shared: is_anothers(user, person) }
}

fn is_anothers(user: &User, person: &Person) -> bool {
    user.customer().is_some_and(|customer| customer != person.customer && !both_are_guests(customer, person))
}

/// Sales without a Stripe customer, which only an address tells apart.
fn both_are_guests(customer: &str, person: &Person) -> bool {
    is_guest(customer) && is_guest(&person.customer)
}

fn is_guest(customer: &str) -> bool {
    !customer.starts_with("cus_")
}

/// Whether a user with the same address may be this person.
fn may_be(user: &User, person: &Person) -> bool {
    user.customer().is_none_or(|customer| customer == person.customer || both_are_guests(customer, person))
}

/// The user that names the Stripe customer; the oldest, where a lost answer left two.
async fn by_mark(client: &Client, person: &Person) -> Result<Option<User>, ProviderError> {
    let found = client.users_with(wire::CUSTOMER, &person.customer).await?;
    Ok(oldest_first(found).into_iter().find(|user| user.customer() == Some(person.customer.as_str())))
}

/// Users with the person's address. It is asked for as Stripe has it too, since nobody knows whether case matters.
async fn at_address(client: &Client, person: &Person) -> Result<Vec<User>, ProviderError> {
    let (Some(lower), Some(given)) = (address(person), person.email.as_deref().map(str::trim)) else {
        return Ok(Vec::new());
    };
    let mut found = client.users_at(&lower).await?;
    if given != lower {
        let more = client.users_at(given).await?;
        found.extend(more);
    }
    found.retain(|user| user.email.trim().to_lowercase() == lower);
    Ok(oldest_first(found))
}

fn oldest_first(mut users: Vec<User>) -> Vec<User> {
    users.sort_by_key(|user| user.created_at);
    users
}

/// Whether an answer says that the user was not made. A conflict does too: it only leaves open who has the address.
fn is_no(error: &ProviderError) -> bool {
    match error {
        ProviderError::Refused { .. } => true,
        ProviderError::Indeterminate { source } => matches!(source, CallError::Status { status: 409 }),
        ProviderError::Unavailable { .. } => false,
    }
}

/// A "no" for an address that nobody seems to have. Searches lag behind, so the one who has it may be shown in a moment; what
/// is refused again and again is wrong in itself.
fn unseen(error: ProviderError, person: &Person) -> ProviderError {
    match error {
        ProviderError::Refused { reason } if person.failures < UNSEEN_MAX => {
            ProviderError::Indeterminate { source: CallError::NotShown { reason } }
        }
        other => other,
    }
}

/// Who has the address that could not be taken.
async fn taken(client: &Client, person: &Person) -> Result<Option<User>, ProviderError> {
    match by_mark(client, person).await? {
        Some(user) => Ok(Some(user)),
        None => Ok(at_address(client, person).await?.into_iter().next()),
    }
}

/// Writes whose user it is, beside what it carries. A guest leaves it open: the address may become a customer's.
async fn claim(client: &Client, user: User, person: &Person) -> Result<Customer, ProviderError> {
    if user.customer().is_some() || is_guest(&person.customer) {
        return Ok(found(&user, person));
    }
    let metadata = wire::merged(&user.metadata, &[mark(person)]);
    client.patch_user(&user.id, &UserPatch { metadata: Some(metadata.clone()), ..UserPatch::default() }).await?;
    let kept = client.user(&user.id).await?;
    match kept {
        Some(kept) if metadata.iter().all(|entry| kept.metadata.contains(entry)) => Ok(found(&kept, person)),
        _ => {
            let reason = "the metadata of a user is not what was written; somebody else writes it too".to_owned();
            Err(ProviderError::Indeterminate { source: CallError::Unreadable { reason } })
        }
    }
}

/// Makes the user. Its password is nobody's: the customer sets one by the portal's own reset.
async fn make(client: &Client, person: &Person, email: &str, portal: Option<bool>) -> Result<User, ProviderError> {
    let password = password()?;
    let (first, last) = names(person.display_name());
    let mut body = NewUser {
        email,
        first_name: &first,
        last_name: last.as_deref(),
        password: &password,
        role: "user",
        allow_customer_portal_access: portal,
        metadata: vec![mark(person)],
    };
    let made = client.create_user(&body).await;
    match made {
        // Nothing was made, and whether a last name is required is not documented for sure.
        Err(ProviderError::Refused { .. }) if body.last_name.is_none() => {
            body.last_name = Some(NO_LAST_NAME);
            client.create_user(&body).await
        }
        other => other,
    }
}

fn mark(person: &Person) -> Entry {
    Entry::hidden(wire::CUSTOMER, &person.customer)
}

fn password() -> Result<String, ProviderError> {
    let mut random = [0_u8; 24];
    if getrandom::fill(&mut random).is_err() {
        return Err(ProviderError::Refused { reason: "this machine gives no random numbers".to_owned() });
    }
    // With all kinds of characters that an account may ask for.
    let start = "Kl-7".to_owned();
    Ok(random.iter().fold(start, |text, byte| format!("{text}{byte:02x}")))
}

fn address(person: &Person) -> Option<String> {
    let email = person.email.as_deref().map(str::trim).filter(|email| !email.is_empty());
    email.map(str::to_lowercase)
}

/// First name, and last name where there is one.
fn names(whole: &str) -> (String, Option<String>) {
    let cut = |part: &str| part.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect::<String>();
    match whole.trim().split_once(char::is_whitespace) {
        Some((first, last)) => (cut(first), Some(cut(last.trim())).filter(|last| !last.is_empty())),
        None => (cut(whole.trim()), None),
    }
}

/// What the user holds that is not as Stripe has it. What Stripe does not know stays.
fn difference(user: &User, person: &Person) -> UserPatch {
    let email = address(person).filter(|email| user.email.trim().to_lowercase() != *email);
    let mut patch = UserPatch { email, ..UserPatch::default() };
    let name = person.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let Some(name) = name else { return patch };
    let (first, last) = names(name);
    let last = last.unwrap_or_default();
    let held_first = user.first_name.as_deref().unwrap_or_default();
    let held_last = user.last_name.as_deref().unwrap_or_default();
    if (held_first, held_last) != (&first, &last)
        && !(held_first == first && held_last == NO_LAST_NAME && last.is_empty())
    {
        patch.first_name = Some(first);
        patch.last_name = Some(if last.is_empty() { NO_LAST_NAME.to_owned() } else { last });
    }
    patch
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn person(customer: &str, name: Option<&str>) -> Person {
        let email = Some("Jane@Example.com".to_owned());
        Person { customer: customer.to_owned(), email, name: name.map(ToOwned::to_owned), ..Person::default() }
    }

    fn user(first: &str, last: Option<&str>, customer: Option<&str>) -> User {
        let entries = customer.map(|customer| json!({ "key": "stripe_customer_id", "value": customer }));
        let metadata: Vec<_> = entries.into_iter().collect();
        let shown = json!({
            "id": "1", "email": "jane@example.com", "firstName": first, "lastName": last, "metadata": metadata
        });
        serde_json::from_value(shown).unwrap()
    }

    #[test]
    fn a_name_is_split_at_its_first_space_and_one_word_is_enough() {
        assert_eq!(names("Jane van der Roe"), ("Jane".to_owned(), Some("van der Roe".to_owned())));
        assert_eq!(names(" Jane "), ("Jane".to_owned(), None));
        assert_eq!(names("  Jane\u{a0}Roe\u{7} "), ("Jane".to_owned(), Some("Roe".to_owned())));
        assert_eq!(names(&"é".repeat(300)).0.chars().count(), NAME_CHARS_MAX);
    }

    #[test]
    fn only_what_differs_is_sent() {
        let none = UserPatch::default();
        assert!(difference(&user("Jane", Some("Roe"), None), &person("cus_1", Some("Jane Roe"))) == none);
        assert!(difference(&user("Jane", None, None), &person("cus_1", Some("Jane"))) == none);
        assert!(difference(&user("Jane", Some("-"), None), &person("cus_1", Some("Jane"))) == none);
        assert!(difference(&user("Jane", Some("Roe"), None), &person("cus_1", None)) == none);
        let renamed = difference(&user("Jane", Some("Roe"), None), &person("cus_1", Some("Jane")));
        assert_eq!((renamed.first_name.as_deref(), renamed.last_name.as_deref()), (Some("Jane"), Some("-")));
    }

    #[test]
    fn a_user_of_another_customer_is_never_this_ones_by_address() {
        assert!(may_be(&user("J", None, None), &person("cus_1", None)));
        assert!(!may_be(&user("J", None, Some("cus_2")), &person("cus_1", None)));
        assert!(!may_be(&user("J", None, Some("cus_2")), &person("cs_1", None)));
        assert!(!may_be(&user("J", None, Some("cs_1")), &person("cus_1", None)));
        // Two sales without a customer are told apart by the address alone.
        assert!(may_be(&user("J", None, Some("cs_1")), &person("cs_2", None)));
        assert!(is_anothers(&user("J", None, Some("cus_2")), &person("cus_1", None)));
        assert!(!is_anothers(&user("J", None, Some("cs_1")), &person("cs_2", None)));
    }

    #[test]
    fn passwords_differ_and_are_long() {
        let (one, two) = (password().unwrap(), password().unwrap());
        assert!(one != two && one.len() > 40);
    }
}
