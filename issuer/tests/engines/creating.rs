//! Making licenses and finding them again.

use keyledger_issuer::provider::{Change, Create};
use keyledger_sandbox::faults::Fault;

use crate::contract::{
    Call, Ended, Hand, PATIENCE, Subject, assert_expiry, ended, ensure, holds, person, request, seen, target, terms,
};

pub async fn a_license_is_made_as_asked<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let request = request(&subject, &*provider, 1).await;
    let held = provider.create(&request).await.unwrap();
    assert_eq!(held.reference, request.reference);
    assert!(!held.provider_id.is_empty());
    assert!(!held.key.as_ref().unwrap().is_blank());
    if let Some(seen) = seen(&subject, &request.reference).await {
        assert_eq!(seen.id, held.provider_id);
        assert_eq!((seen.seats, seen.works), (Some(3), true));
        assert_eq!(seen.features, request.terms.features);
        assert_expiry::<S>(&seen, Some("2027-01-04T00:00:00Z"));
    }
}

pub async fn licenses_have_keys_of_their_own<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let one = provider.create(&request(&subject, &*provider, 1).await).await.unwrap();
    let two = provider.create(&request(&subject, &*provider, 2).await).await.unwrap();
    assert_ne!(one.provider_id, two.provider_id);
    assert_ne!(one.key.unwrap().expose(), two.key.unwrap().expose());
}

pub async fn asked_twice_there_is_one<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let request = request(&subject, &*provider, 1).await;
    let (first, again) = (ensure(&*provider, &request).await, ensure(&*provider, &request).await);
    assert_eq!(first.provider_id, again.provider_id);
    assert_eq!(first.key.unwrap().expose(), again.key.unwrap().expose());
    assert_eq!(subject.creates(&request.reference).await, 1);
}

/// Where only looking first keeps it to one, a second is at least seen: the issuer asks for one unit at a time, and surfaces
/// what another writer makes.
pub async fn two_creators_at_once_are_seen<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let request = request(&subject, &*provider, 1).await;
    let (one, two) = tokio::join!(provider.create(&request), provider.create(&request));
    let (one, two) = (one.unwrap(), two.unwrap());
    let creates = subject.creates(&request.reference).await;
    if S::ATOMIC {
        assert_eq!((one.provider_id, creates), (two.provider_id, 1));
    } else {
        assert_ne!(one.provider_id, two.provider_id);
        let found = provider.find(&request.reference, &request.product).await.unwrap();
        assert_eq!((found.len(), creates), (2, 2));
    }
}

pub async fn a_license_without_end_has_none<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let mut request = request(&subject, &*provider, 1).await;
    request.terms = terms(None, 1, &[]);
    provider.create(&request).await.unwrap();
    if let Some(seen) = seen(&subject, &request.reference).await {
        assert_eq!((seen.expires_at, seen.seats, seen.features.len()), (None, Some(1), 0));
    }
}

pub async fn what_cannot_be_sent_is_refused_and_nothing_is_made<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let good = request(&subject, &*provider, 1).await;
    let no_seats = Create { terms: terms(None, 0, &[]), ..good.clone() };
    assert_eq!(ended(&provider.create(&no_seats).await), Ended::Refused);
    let held = provider.create(&good).await.unwrap();
    let change = Change::Terms(no_seats.terms);
    assert_eq!(ended(&provider.change(&target(&good, &held), &change).await), Ended::Refused);
    if !S::KNOWS_PRODUCTS {
        return;
    }
    for product in ["", "no such product", "../licenses", "00000000-0000-4000-8000-000000000000"] {
        let other = Create { product: product.to_owned(), ..request(&subject, &*provider, 2).await };
        assert_eq!(ended(&provider.create(&other).await), Ended::Refused, "`{product}`");
    }
    let mut unknown = request(&subject, &*provider, 3).await;
    unknown.terms.features = ["a feature nobody knows".to_owned()].into();
    assert_eq!(ended(&provider.create(&unknown).await), Ended::Refused);
    assert_eq!(subject.held().await.len(), 1);
    assert_eq!(seen(&subject, &good.reference).await.unwrap().seats, Some(3));
}

pub async fn an_owner_is_set_by_the_create_itself<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !provider.capabilities().keeps_customers {
        return;
    }
    let mut owned = request(&subject, &*provider, 1).await;
    let other = provider.customer(&person(2)).await.unwrap();
    owned.owner = Some(other.id.clone());
    provider.create(&owned).await.unwrap();
    assert_eq!(seen(&subject, &owned.reference).await.unwrap().owner, Some(other.id));
    let ownerless = Create { owner: None, ..request(&subject, &*provider, 2).await };
    provider.create(&ownerless).await.unwrap();
    assert_eq!(seen(&subject, &ownerless.reference).await.unwrap().owner, None);
}

pub async fn an_unknown_owner_is_refused<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !provider.capabilities().keeps_customers || !S::CHECKS_OWNER {
        return;
    }
    for owner in ["", "nobody", "../users", "00000000-0000-4000-8000-000000000000", "999999"] {
        let request = Create { owner: Some(owner.to_owned()), ..request(&subject, &*provider, 1).await };
        assert_eq!(ended(&provider.create(&request).await), Ended::Refused, "`{owner}`");
    }
    assert_eq!(subject.held().await, []);
}

pub async fn find_by_reference_passes_over_decoys<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let wanted = request(&subject, &*provider, 1).await;
    assert!(provider.find(&wanted.reference, &wanted.product).await.unwrap().is_empty());
    if !S::ADOPTS {
        return;
    }
    let exact = wanted.reference.as_str();
    let hand = |reference: String| Hand { reference: Some(reference), seats: Some(1), ..by_hand(&wanted.product) };
    for decoy in [
        hand(format!("{exact}0")),
        hand(format!("x{exact}")),
        hand(exact[..exact.len() - 1].to_owned()),
        hand(exact.to_uppercase()),
        Hand { elsewhere: Some(exact.to_owned()), ..by_hand(&wanted.product) },
        by_hand(&wanted.product),
    ] {
        subject.make_by_hand(&decoy).await;
    }
    assert!(provider.find(exact, &wanted.product).await.unwrap().is_empty());
    let held = provider.create(&wanted).await.unwrap();
    let found = provider.find(exact, &wanted.product).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].provider_id, &found[0].reference), (&held.provider_id, &wanted.reference));
    assert_eq!(found[0].key.as_ref().unwrap().expose(), held.key.as_ref().unwrap().expose());
}

pub async fn a_sweep_shows_every_license_of_the_product<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !S::ADOPTS {
        return;
    }
    let ours = request(&subject, &*provider, 1).await;
    let held = provider.create(&ours).await.unwrap();
    // More than the greatest page of any engine.
    for _ in 0..130 {
        subject.make_by_hand(&by_hand(&ours.product)).await;
    }
    subject.make_by_hand(&by_hand(&subject.other_product())).await;
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = provider.list(&ours.product, after.as_deref()).await.unwrap();
        all.extend(page.licenses);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(all.len(), 131);
    let mut ids: Vec<&str> = all.iter().map(|license| license.provider_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 131);
    let marked: Vec<_> = all.iter().filter(|license| license.reference.is_some()).collect();
    assert_eq!(marked.len(), 1);
    assert_eq!(marked[0].provider_id, held.provider_id);
    assert_eq!(marked[0].reference.as_ref(), Some(&ours.reference));
    assert_eq!(marked[0].purchase.as_deref(), Some("sub_1"));
    assert_eq!((&marked[0].owner, marked[0].seats, marked[0].works), (&ours.owner, Some(3), true));
    let seen = seen(&subject, &ours.reference).await.unwrap();
    assert_eq!(marked[0].expires_at, seen.expires_at);
}

pub async fn several_licenses_resume_where_one_failed<S: Subject>() {
    let mut subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let mut requests = Vec::new();
    for number in 1..=5 {
        requests.push(request(&subject, &*provider, number).await);
    }
    for (number, request) in requests.iter().enumerate() {
        if S::WIRE && number == 2 {
            subject.misbehave(Call::Create, Fault::Fail { status: S::REFUSALS[0], retry_after_s: None }).await;
            assert_eq!(ended(&provider.create(request).await), Ended::Refused);
            break;
        }
        ensure(&*provider, request).await;
    }
    subject.restart().await;
    let provider = subject.provider(PATIENCE);
    for request in &requests {
        ensure(&*provider, request).await;
        assert_eq!(subject.creates(&request.reference).await, 1);
    }
    assert_eq!(subject.held().await.len(), if holds::<S>() { 5 } else { 0 });
}

pub async fn what_was_made_is_there_after_a_restart<S: Subject>() {
    let mut subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let request = request(&subject, &*provider, 1).await;
    let held = provider.create(&request).await.unwrap();
    subject.restart().await;
    let provider = subject.provider(PATIENCE);
    let again = ensure(&*provider, &request).await;
    assert_eq!(
        (&held.provider_id, held.key.unwrap().expose()),
        (&again.provider_id, again.key.as_ref().unwrap().expose())
    );
    provider.change(&target(&request, &again), &Change::Suspend).await.unwrap();
    if let Some(seen) = seen(&subject, &request.reference).await {
        assert!(!seen.works);
    }
}

/// A license that carries nothing of ours.
pub fn by_hand(product: &str) -> Hand {
    Hand { product: product.to_owned(), seats: Some(1), ..Hand::default() }
}
