//! Customers, where the engine keeps them.

use keyledger_issuer::provider::Person;
use keyledger_sandbox::faults::Fault;

use crate::contract::{Call, Ended, PATIENCE, Subject, ended, person};

pub async fn somebody_is_made_once<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !provider.capabilities().keeps_customers {
        assert_eq!(ended(&provider.customer(&person(1)).await), Ended::Refused);
        return;
    }
    let first = provider.customer(&person(1)).await.unwrap();
    assert!(first.made && !first.shared);
    let again = provider.customer(&person(1)).await.unwrap();
    assert_eq!((&again.id, again.made, again.shared), (&first.id, false, false));
    let known = Person { known: Some(first.id.clone()), ..person(1) };
    assert_eq!(provider.customer(&known).await.unwrap().id, first.id);
    let people = subject.people().await;
    assert_eq!(people.len(), 1);
    assert_eq!((people[0].name.as_str(), people[0].email.as_str()), ("Buyer 1", "buyer1@example.com"));
}

/// An engine that cannot be searched for customers may be left with an empty second one; the license is never doubled.
pub async fn somebody_made_by_a_lost_reply_is_found_again<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !provider.capabilities().keeps_customers {
        return;
    }
    subject.misbehave(Call::Customer, Fault::CommitThenDrop).await;
    assert_eq!(ended(&provider.customer(&person(1)).await), Ended::Indeterminate);
    let found = provider.customer(&person(1)).await.unwrap();
    assert_eq!(provider.customer(&person(1)).await.unwrap().id, found.id);
    assert_eq!(subject.people().await.len(), 1);
}

pub async fn two_customers_with_one_address_are_two_where_the_engine_allows_it<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !provider.capabilities().keeps_customers {
        return;
    }
    let one = provider.customer(&person(1)).await.unwrap();
    let twin = Person { customer: "cus_2".to_owned(), email: Some("BUYER1@Example.com".to_owned()), ..person(1) };
    for _ in 0..2 {
        let two = provider.customer(&twin).await.unwrap();
        if S::SHARES_BY_ADDRESS {
            assert_eq!((&two.id, two.shared), (&one.id, true));
        } else {
            assert_ne!(two.id, one.id);
        }
    }
    assert_eq!(provider.customer(&person(1)).await.unwrap().id, one.id);
    assert_eq!(subject.people().await.len(), if S::SHARES_BY_ADDRESS { 1 } else { 2 });
}

pub async fn a_customer_without_a_name_has_a_stable_one<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !provider.capabilities().keeps_customers {
        return;
    }
    for (number, name) in [(1, None), (2, Some(String::new())), (3, Some("   ".to_owned()))] {
        provider.customer(&Person { name, ..person(number) }).await.unwrap();
    }
    let mut names: Vec<String> = subject.people().await.into_iter().map(|person| person.name).collect();
    names.sort();
    assert_eq!(names, ["buyer1", "buyer2", "buyer3"]);
}

pub async fn names_may_be_long_and_in_any_script<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !provider.capabilities().keeps_customers {
        return;
    }
    let names = [
        "Łukasz O'Brien \"the <b>second</b>\" & Söhne; 日本語 🙂".to_owned(),
        "x".repeat(99),
        "x".repeat(100),
        "é".repeat(300),
        format!("{} {}", "first".repeat(80), "last".repeat(80)),
        "line\nbreak\tand tab".to_owned(),
    ];
    for (number, name) in (1..).zip(&names) {
        let somebody = Person { name: Some(name.clone()), ..person(number) };
        let made = provider.customer(&somebody).await.unwrap();
        assert_eq!(provider.customer(&somebody).await.unwrap().id, made.id, "{name}");
        let people = subject.people().await;
        let seen = people.iter().find(|person| person.id == made.id).unwrap();
        let begins: String = name.chars().take(40).collect();
        assert!(!seen.name.trim().is_empty(), "{name}");
        if !name.contains('\n') {
            assert!(seen.name.starts_with(&begins), "{} instead of {name}", seen.name);
        }
    }
    assert_eq!(subject.people().await.len(), names.len());
}

pub async fn somebody_without_an_address_is_made_or_refused<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !provider.capabilities().keeps_customers {
        return;
    }
    let nowhere = Person { email: None, ..person(1) };
    let result = provider.customer(&nowhere).await;
    if S::NEEDS_ADDRESS {
        assert_eq!(ended(&result), Ended::Refused);
        assert!(subject.people().await.is_empty());
    } else {
        let made = result.unwrap();
        assert_eq!(provider.customer(&Person { known: Some(made.id.clone()), ..nowhere }).await.unwrap().id, made.id);
    }
}

pub async fn a_new_name_and_address_arrive<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !provider.capabilities().keeps_customers {
        return;
    }
    let made = provider.customer(&person(1)).await.unwrap();
    let renamed = Person {
        name: Some("Jane Roe".to_owned()),
        email: Some("jane.roe@example.com".to_owned()),
        known: Some(made.id.clone()),
        ..person(1)
    };
    for _ in 0..2 {
        provider.update_customer(&made.id, &renamed).await.unwrap();
    }
    let people = subject.people().await;
    assert_eq!(people.len(), 1);
    assert_eq!((people[0].name.as_str(), people[0].email.as_str()), ("Jane Roe", "jane.roe@example.com"));
    assert_eq!(provider.customer(&renamed).await.unwrap().id, made.id);
}

pub async fn a_sweep_shows_every_customer<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !S::LISTS_CUSTOMERS {
        return;
    }
    // More than the greatest page of any engine.
    for number in 1..=130 {
        provider.customer(&person(number)).await.unwrap();
    }
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = provider.customers(after.as_deref()).await.unwrap();
        all.extend(page.customers);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut listed: Vec<String> = all.into_iter().map(|customer| customer.id).collect();
    let mut people: Vec<String> = subject.people().await.into_iter().map(|person| person.id).collect();
    listed.sort();
    people.sort();
    assert_eq!((listed.len(), listed), (130, people));
}
