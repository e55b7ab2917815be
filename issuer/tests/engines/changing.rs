//! Changing licenses.

use keyledger_issuer::provider::{Change, Create, Provider, Target};
use keyledger_sandbox::faults::Fault;

use crate::contract::{
    Call, Ended, PATIENCE, Seen, Subject, assert_expiry, change, ended, holds, request, seen, target, terms,
};

/// A license of `subject`, as it is addressed.
async fn made<S: Subject>(subject: &S, provider: &dyn Provider) -> (Create, Target) {
    let request = request(subject, provider, 1).await;
    let held = provider.create(&request).await.unwrap();
    let target = target(&request, &held);
    (request, target)
}

pub async fn every_change_may_be_asked_twice<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let (request, target) = made(&subject, &*provider).await;
    let [one, two] = subject.features();
    for (wanted, works) in [
        (Change::Terms(terms(Some("2028-01-04T00:00:00Z"), 5, &[one, two])), true),
        (Change::Terms(terms(None, 1, &[])), true),
        (Change::Suspend, false),
        (Change::Reinstate, true),
        (Change::Revoke, false),
    ] {
        let mut before: Option<Seen> = None;
        for _ in 0..2 {
            change(&*provider, &target, wanted.clone()).await;
            if subject.held().await.is_empty() {
                // An engine that destroys what is revoked.
                assert!(!holds::<S>() || matches!(wanted, Change::Revoke));
                continue;
            }
            let now = seen(&subject, &request.reference).await;
            assert_eq!(now.as_ref().map(|seen| seen.works), Some(works), "{wanted:?}");
            if before.is_some() {
                assert_eq!(before, now, "{wanted:?}");
            }
            before = now;
        }
    }
    assert_eq!(subject.creates(&request.reference).await, 1);
}

pub async fn expiry_is_set_to_what_is_asked<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let (request, target) = made(&subject, &*provider).await;
    for day in [
        "2027-01-04T00:00:00Z",
        "2027-02-04T00:00:00Z",
        "2027-02-04T00:00:00Z",
        "2027-02-04T13:14:15Z",
        "2028-02-29T23:59:59Z",
    ] {
        change(&*provider, &target, Change::Terms(terms(Some(day), 3, &[]))).await;
        if let Some(seen) = seen(&subject, &request.reference).await {
            assert_expiry::<S>(&seen, Some(day));
        }
    }
    if S::SHORTENS {
        let earlier = "2026-12-20T00:00:00Z";
        change(&*provider, &target, Change::Terms(terms(Some(earlier), 3, &[]))).await;
        if let Some(seen) = seen(&subject, &request.reference).await {
            assert_expiry::<S>(&seen, Some(earlier));
        }
    }
}

pub async fn a_long_lapsed_license_comes_back<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let mut lapsed = request(&subject, &*provider, 1).await;
    // Paid for a time that is long over; the license is made all the same.
    lapsed.terms = terms(Some("2024-03-01T00:00:00Z"), 3, &[]);
    let held = provider.create(&lapsed).await.unwrap();
    let day = "2027-03-01T00:00:00Z";
    for _ in 0..2 {
        change(&*provider, &target(&lapsed, &held), Change::Terms(terms(Some(day), 3, &[]))).await;
    }
    if let Some(seen) = seen(&subject, &lapsed.reference).await {
        assert_expiry::<S>(&seen, Some(day));
    }
}

pub async fn seats_go_up_and_down<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let (request, target) = made(&subject, &*provider).await;
    for seats in [10, 10, 2, 1, 1_000] {
        change(&*provider, &target, Change::Terms(terms(Some("2027-01-04T00:00:00Z"), seats, &[]))).await;
        if let Some(seen) = seen(&subject, &request.reference).await {
            assert_eq!(seen.seats, Some(seats));
        }
    }
}

pub async fn features_go_up_and_down<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let (request, target) = made(&subject, &*provider).await;
    let [one, two] = subject.features();
    for features in [&[one, two][..], &[two], &[], &[one], &[one]] {
        let wanted = terms(Some("2027-01-04T00:00:00Z"), 3, features);
        change(&*provider, &target, Change::Terms(wanted.clone())).await;
        if let Some(seen) = seen(&subject, &request.reference).await {
            assert_eq!(seen.features, wanted.features);
        }
    }
    if S::KNOWS_PRODUCTS {
        let unknown = Change::Terms(terms(None, 3, &["a feature nobody knows"]));
        let before = subject.held().await;
        assert_eq!(ended(&provider.change(&target, &unknown).await), Ended::Refused);
        assert_eq!(subject.held().await, before);
    }
}

pub async fn limits_are_taken_away_and_given_back<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let (request, target) = made(&subject, &*provider).await;
    for day in [None, Some("2027-01-04T00:00:00Z"), None, None, Some("2027-05-01T00:00:00Z")] {
        change(&*provider, &target, Change::Terms(terms(day, 3, &[]))).await;
        if let Some(seen) = seen(&subject, &request.reference).await {
            assert_expiry::<S>(&seen, day);
        }
    }
}

pub async fn a_suspended_license_stays_so_until_reinstated<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let (request, target) = made(&subject, &*provider).await;
    change(&*provider, &target, Change::Suspend).await;
    let later = terms(Some("2027-02-04T00:00:00Z"), 4, &[]);
    change(&*provider, &target, Change::Terms(later)).await;
    if let Some(seen) = seen(&subject, &request.reference).await {
        assert!(!seen.works);
        assert_expiry::<S>(&seen, Some("2027-02-04T00:00:00Z"));
    }
    change(&*provider, &target, Change::Reinstate).await;
    if let Some(seen) = seen(&subject, &request.reference).await {
        assert_eq!((seen.works, seen.seats), (true, Some(4)));
    }
}

pub async fn a_revoked_license_is_paid_again<S: Subject>() {
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let (old, target) = made(&subject, &*provider).await;
    change(&*provider, &target, Change::Revoke).await;
    if provider.capabilities().reinstates_revoked {
        change(&*provider, &target, Change::Reinstate).await;
        if let Some(seen) = seen(&subject, &old.reference).await {
            assert!(seen.works);
        }
        return;
    }
    let next = request(&subject, &*provider, 2).await;
    provider.create(&next).await.unwrap();
    assert!(seen(&subject, &next.reference).await.is_none_or(|seen| seen.works));
}

pub async fn a_change_with_a_lost_reply_may_simply_be_asked_again<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let (request, target) = made(&subject, &*provider).await;
    let days = ["2027-02-01", "2027-03-01", "2027-04-01", "2027-05-01", "2027-06-01"];
    let faults = [
        Fault::CommitThenDrop,
        Fault::CommitThenFail { status: 500 },
        Fault::CommitThenGarble,
        Fault::Drop,
        Fault::Fail { status: 500, retry_after_s: None },
    ];
    for (day, fault) in days.into_iter().zip(faults) {
        let day = format!("{day}T00:00:00Z");
        let wanted = Change::Terms(terms(Some(&day), 3, &[]));
        subject.misbehave(Call::Change, fault.clone()).await;
        assert_eq!(ended(&provider.change(&target, &wanted).await), Ended::Indeterminate, "{fault:?}");
        change(&*provider, &target, wanted).await;
        assert_expiry::<S>(&seen(&subject, &request.reference).await.unwrap(), Some(&day));
    }
}

pub async fn a_license_that_is_gone_is_refused<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let (_, target) = made(&subject, &*provider).await;
    let before = subject.held().await;
    for provider_id in ["", ".", "..", "a/b", "a?b", "999999", "00000000-0000-4000-8000-000000000000"] {
        let gone = Target { provider_id: provider_id.to_owned(), ..target.clone() };
        for wanted in [Change::Suspend, Change::Reinstate, Change::Terms(terms(None, 1, &[]))] {
            assert_eq!(ended(&provider.change(&gone, &wanted).await), Ended::Refused, "`{provider_id}` {wanted:?}");
        }
    }
    assert_eq!(subject.held().await, before);
}
