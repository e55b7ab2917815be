//! Making licenses ours that somebody else made.

use keyledger_issuer::provider::{Adopt, Change, Create, Provider, ProviderError, Sale};
use keyledger_sandbox::faults::Fault;

use crate::contract::{
    Call, Ended, Hand, PATIENCE, Seen, Subject, adopting, assert_expiry, change, ended, person, request, seen, target,
};
use crate::creating::by_hand;

const NOTE: &str = "made for Jörg's team; see ticket #12 \"old\"";

pub async fn a_license_made_by_hand_becomes_ours<S: Subject>() {
    if !S::ADOPTS {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let wanted = request(&subject, &*provider, 1).await;
    let hand = Hand { note: Some(NOTE.to_owned()), ..by_hand(&wanted.product) };
    let named = subject.make_by_hand(&hand).await;
    let held = provider.adopt(&adopting(&wanted, &named)).await.unwrap();
    assert_eq!(held.reference, wanted.reference);
    assert!(!held.key.as_ref().unwrap().is_blank());
    let seen = seen(&subject, &wanted.reference).await.unwrap();
    assert_eq!((&seen.id, seen.note.as_deref()), (&held.provider_id, Some(NOTE)));
    assert_eq!((seen.seats, &seen.features, seen.works), (Some(3), &wanted.terms.features, true));
    assert_eq!(seen.owner, wanted.owner);
    assert_expiry::<S>(&seen, Some("2027-01-04T00:00:00Z"));
    let found = provider.find(&wanted.reference, &wanted.product).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].provider_id, held.provider_id);
    assert_eq!(subject.held().await.len(), 1);
}

pub async fn adopting_twice_is_adopting_once<S: Subject>() {
    if !S::ADOPTS {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let wanted = request(&subject, &*provider, 1).await;
    let owner = wanted.owner.clone();
    let hand = Hand { note: Some(NOTE.to_owned()), owner, ..by_hand(&wanted.product) };
    let named = subject.make_by_hand(&hand).await;
    let adopt = adopting(&wanted, &named);
    subject.misbehave(Call::Change, Fault::CommitThenDrop).await;
    assert_eq!(ended(&provider.adopt(&adopt).await), Ended::Indeterminate);
    let once = provider.adopt(&adopt).await.unwrap();
    let after_once = seen(&subject, &wanted.reference).await;
    let twice = provider.adopt(&adopt).await.unwrap();
    assert_eq!(once.provider_id, twice.provider_id);
    assert_eq!(seen(&subject, &wanted.reference).await, after_once);
    assert_eq!(after_once.unwrap().note.as_deref(), Some(NOTE));
}

pub async fn an_adopted_license_without_a_limit_of_seats_keeps_none<S: Subject>() {
    if !S::ADOPTS {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let wanted = request(&subject, &*provider, 1).await;
    let named = subject.make_by_hand(&Hand { seats: None, ..by_hand(&wanted.product) }).await;
    provider.adopt(&adopting(&wanted, &named)).await.unwrap();
    assert_eq!(seen(&subject, &wanted.reference).await.unwrap().seats, None);
}

pub async fn a_stopped_license_that_is_adopted_works_again<S: Subject>() {
    if !S::ADOPTS {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let wanted = request(&subject, &*provider, 1).await;
    let named = subject.make_by_hand(&Hand { stopped: true, ..by_hand(&wanted.product) }).await;
    assert!(!subject.held().await[0].works);
    provider.adopt(&adopting(&wanted, &named)).await.unwrap();
    assert_whole::<S>(&seen(&subject, &wanted.reference).await.unwrap(), &wanted);
}

#[track_caller]
fn assert_whole<S: Subject>(seen: &Seen, wanted: &Create) {
    assert_eq!((&seen.owner, seen.works), (&wanted.owner, true));
    assert_eq!((seen.seats, &seen.features), (Some(wanted.terms.seats), &wanted.terms.features));
    assert_expiry::<S>(seen, Some("2027-01-04T00:00:00Z"));
}

/// As the issuer does in another process: look for the reference first, bring to the terms what carries it, and else adopt
/// what was made for the sale.
async fn take_up_again(provider: &dyn Provider, wanted: &Create) {
    let found = provider.find(&wanted.reference, &wanted.product).await.unwrap();
    if let Some(held) = found.first() {
        return change(provider, &target(wanted, held), Change::Terms(wanted.terms.clone())).await;
    }
    let unclaimed = provider.find_unclaimed(&wanted.sale, &wanted.product).await.unwrap();
    assert_eq!(unclaimed.len(), 1);
    provider.adopt(&adopting(wanted, &unclaimed[0].provider_id)).await.unwrap();
}

pub async fn an_adoption_that_breaks_off_is_taken_up_again<S: Subject>() {
    if !S::ADOPTS {
        return;
    }
    let subject = S::start().await;
    let mut number = 0;
    for fault in [Fault::Fail { status: 429, retry_after_s: None }, Fault::CommitThenDrop] {
        for calls in 0.. {
            number += 1;
            let provider = subject.provider(PATIENCE);
            let wanted = request(&subject, &*provider, number).await;
            let subscription = Some(wanted.sale.purchase.clone());
            let hand = Hand { subscription, note: Some(NOTE.to_owned()), stopped: true, ..by_hand(&wanted.product) };
            let named = subject.make_by_hand(&hand).await;
            let before = subject.calls().await;
            subject.break_off_after(calls, fault.clone()).await;
            let result = provider.adopt(&adopting(&wanted, &named)).await;
            assert_ne!(ended(&result), Ended::Refused, "{calls} {fault:?}");
            subject.mix(&[]).await;
            let was_whole = subject.calls().await - before <= u64::from(calls);
            // What carries the reference is taken for ours: nobody looks at its owner and its state again.
            let held = subject.held().await;
            for license in held.iter().filter(|license| license.reference.as_ref() == Some(&wanted.reference)) {
                assert_whole::<S>(license, &wanted);
            }
            take_up_again(&*subject.provider(PATIENCE), &wanted).await;
            let seen = seen(&subject, &wanted.reference).await.unwrap();
            assert_whole::<S>(&seen, &wanted);
            assert_eq!(seen.note.as_deref(), Some(NOTE));
            if was_whole {
                assert!(result.is_ok() && calls > 3, "{calls} {result:?}");
                break;
            }
        }
    }
}

/// It is refused, and nothing at the engine has changed. Gives the reason.
async fn is_refused<S: Subject>(subject: &S, provider: &dyn Provider, adopt: &Adopt) -> String {
    let before = subject.held().await;
    let error = provider.adopt(adopt).await.unwrap_err();
    let ProviderError::Refused { reason } = error else { panic!("{error:?}") };
    assert_eq!(subject.held().await, before);
    reason
}

pub async fn one_that_carries_another_reference_is_refused<S: Subject>() {
    if !S::ADOPTS {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let wanted = request(&subject, &*provider, 1).await;
    let other: Create = request(&subject, &*provider, 2).await;
    let hand = Hand { reference: Some(other.reference), ..by_hand(&wanted.product) };
    let named = subject.make_by_hand(&hand).await;
    is_refused(&subject, &*provider, &adopting(&wanted, &named)).await;
}

pub async fn one_of_another_product_is_refused<S: Subject>() {
    if !S::ADOPTS {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let wanted = request(&subject, &*provider, 1).await;
    let named = subject.make_by_hand(&by_hand(&subject.other_product())).await;
    is_refused(&subject, &*provider, &adopting(&wanted, &named)).await;
}

pub async fn one_that_belongs_to_somebody_else_is_refused<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    if !S::ADOPTS || !provider.capabilities().keeps_customers {
        return;
    }
    let wanted = request(&subject, &*provider, 1).await;
    let other = provider.customer(&person(2)).await.unwrap();
    let named = subject.make_by_hand(&Hand { owner: Some(other.id), ..by_hand(&wanted.product) }).await;
    is_refused(&subject, &*provider, &adopting(&wanted, &named)).await;
}

pub async fn one_that_is_not_there_is_refused<S: Subject>() {
    if !S::ADOPTS {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let wanted = request(&subject, &*provider, 1).await;
    for named in ["", "..", "a/b", "999999", "00000000-0000-4000-8000-000000000000", "AAAAA-BBBBB-CCCCC-DDDDD"] {
        let reason = is_refused(&subject, &*provider, &adopting(&wanted, named)).await;
        // What is no id may be a key, and reasons are shown.
        assert!(!reason.contains("AAAAA-BBBBB"), "{reason}");
    }
}

pub async fn what_another_integration_made_for_the_sale_is_found<S: Subject>() {
    if !S::ADOPTS {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let wanted = request(&subject, &*provider, 1).await;
    let of = |subscription: &str| Hand { subscription: Some(subscription.to_owned()), ..by_hand(&wanted.product) };
    subject.make_by_hand(&of("sub_10")).await;
    subject.make_by_hand(&by_hand(&wanted.product)).await;
    let ours = Hand { reference: Some(wanted.reference.clone()), ..of("sub_1") };
    subject.make_by_hand(&ours).await;
    let unclaimed = async |sale: &Sale| provider.find_unclaimed(sale, &wanted.product).await.unwrap();
    assert!(unclaimed(&wanted.sale).await.is_empty());
    let first = subject.make_by_hand(&of("sub_1")).await;
    subject.make_by_hand(&of("sub_1")).await;
    let found = unclaimed(&wanted.sale).await;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|held| held.reference.is_empty()));
    let adopted = provider.adopt(&Adopt { reference: "kl-9".to_owned(), ..adopting(&wanted, &first) }).await.unwrap();
    assert_eq!(adopted.provider_id, found[0].provider_id);
    assert_eq!(unclaimed(&wanted.sale).await.len(), 1);
    assert!(unclaimed(&Sale { purchase: String::new(), ..wanted.sale.clone() }).await.is_empty());
}
