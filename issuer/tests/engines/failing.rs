//! Engines that fail, and what a caller learns of it.

use std::time::Duration;

use keyledger_issuer::provider::{CallError, Change, ProviderError};
use keyledger_sandbox::faults::Fault;

use crate::contract::{Call, Ended, PATIENCE, Subject, ended, ensure, request, seen, settles_at, target};

fn fail(status: u16) -> Fault {
    Fault::Fail { status, retry_after_s: None }
}

pub async fn a_create_of_unknown_outcome_makes_one_license<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let faults = [
        Fault::CommitThenDrop,
        Fault::CommitThenFail { status: 500 },
        Fault::CommitThenFail { status: 502 },
        Fault::CommitThenFail { status: 408 },
        Fault::CommitThenGarble,
    ];
    for (number, fault) in (1..).zip(faults) {
        let request = request(&subject, &*provider, number).await;
        subject.misbehave(Call::Create, fault.clone()).await;
        assert_eq!(ended(&provider.create(&request).await), Ended::Indeterminate, "{fault:?}");
        let held = ensure(&*provider, &request).await;
        assert!(!held.key.unwrap().is_blank(), "{fault:?}");
        assert_eq!(subject.creates(&request.reference).await, 1, "{fault:?}");
        let seen = seen(&subject, &request.reference).await.unwrap();
        assert_eq!((seen.seats, &seen.features), (Some(3), &request.terms.features), "{fault:?}");
    }
}

pub async fn a_create_that_did_nothing_makes_one_license_later<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let gone = Fault::Fail { status: 503, retry_after_s: Some(1) };
    for (number, (fault, expected)) in (1..).zip([
        (Fault::Drop, Ended::Indeterminate),
        (fail(500), Ended::Indeterminate),
        (fail(503), Ended::Indeterminate),
        (gone, Ended::Unavailable),
        (fail(429), Ended::Unavailable),
    ]) {
        let request = request(&subject, &*provider, number).await;
        subject.misbehave(Call::Create, fault.clone()).await;
        assert_eq!(ended(&provider.create(&request).await), expected, "{fault:?}");
        ensure(&*provider, &request).await;
        assert_eq!(subject.creates(&request.reference).await, 1, "{fault:?}");
    }
}

pub async fn a_refusal_is_one_and_makes_nothing<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let request = request(&subject, &*provider, 1).await;
    for &status in S::REFUSALS {
        subject.misbehave(Call::Create, fail(status)).await;
        assert_eq!(ended(&provider.create(&request).await), Ended::Refused, "{status}");
        assert_eq!(subject.held().await, [], "{status}");
    }
    ensure(&*provider, &request).await;
    assert_eq!(subject.creates(&request.reference).await, 1);
}

/// Thirty seconds in production; here the caller's patience is shorter instead.
pub async fn a_slow_engine_makes_one_license<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let patient = subject.provider(PATIENCE);
    let request = request(&subject, &*patient, 1).await;
    subject.misbehave(Call::Create, Fault::Slow { delay_ms: 1_500 }).await;
    let hurried = subject.provider(Duration::from_millis(300));
    assert_eq!(ended(&hurried.create(&request).await), Ended::Indeterminate);
    settles_at(&subject, 1).await;
    ensure(&*patient, &request).await;
    assert_eq!(subject.creates(&request.reference).await, 1);
}

pub async fn an_engine_that_asks_for_it_is_left_alone<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let request = request(&subject, &*provider, 1).await;
    subject.misbehave(Call::Create, Fault::Fail { status: 429, retry_after_s: Some(2) }).await;
    let error = provider.create(&request).await.unwrap_err();
    let ProviderError::Unavailable { retry_after, .. } = error else { panic!("{error:?}") };
    assert_eq!(retry_after, Some(Duration::from_secs(2)));
    let calls = subject.calls().await;
    let result = provider.find(&request.reference, &request.product).await;
    assert_eq!(ended(&result), Ended::Unavailable);
    assert_eq!(subject.calls().await, calls);
    ensure(&*provider, &request).await;
    assert_eq!(subject.creates(&request.reference).await, 1);
}

pub async fn a_look_up_is_never_of_unknown_outcome<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let request = request(&subject, &*provider, 1).await;
    for fault in [Fault::CommitThenDrop, Fault::CommitThenGarble, fail(500), fail(408)] {
        subject.misbehave(Call::Find, fault.clone()).await;
        let result = provider.find(&request.reference, &request.product).await;
        assert_eq!(ended(&result), Ended::Unavailable, "{fault:?}");
    }
}

pub async fn a_token_that_ran_out_parks_nothing_and_says_what_to_mend<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let made = request(&subject, &*provider, 1).await;
    let held = provider.create(&made).await.unwrap();
    let more = request(&subject, &*provider, 2).await;
    subject.expire_token().await;
    let found = provider.find(&made.reference, &made.product).await.map(|_| ());
    let created = provider.create(&more).await.map(|_| ());
    let changed = provider.change(&target(&made, &held), &Change::Suspend).await;
    for result in [found, created, changed] {
        // Nothing is parked: all of it goes on by itself once the token is replaced.
        assert_eq!(ended(&result), Ended::Unavailable);
        let Err(ProviderError::Unavailable { source, .. }) = result else { unreachable!("it was unavailable") };
        assert!(matches!(source, CallError::Credentials { .. }), "{source}");
    }
    if !S::SETTING.is_empty() {
        let error = provider.prepare().await.unwrap_err();
        let ProviderError::Refused { reason } = error else { panic!("{error:?}") };
        assert!(reason.contains(S::SETTING), "{reason}");
    }
    assert_eq!(subject.creates(&more.reference).await, 0);
}

pub async fn an_engine_that_is_away_was_sent_nothing<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let mut subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let request = request(&subject, &*provider, 1).await;
    subject.stop().await;
    assert_eq!(ended(&provider.create(&request).await), Ended::Unavailable);
    assert_eq!(ended(&provider.find(&request.reference, &request.product).await), Ended::Unavailable);
    subject.restart().await;
    let provider = subject.provider(PATIENCE);
    ensure(&*provider, &request).await;
    assert_eq!(subject.creates(&request.reference).await, 1);
}

pub async fn a_search_that_lags_makes_no_second_license<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    assert!(provider.capabilities().settle >= Duration::from_millis(600));
    subject.lag(Duration::from_millis(400)).await;
    for number in 1..=3 {
        let request = request(&subject, &*provider, number).await;
        subject.misbehave(Call::Create, Fault::CommitThenDrop).await;
        assert_eq!(ended(&provider.create(&request).await), Ended::Indeterminate);
        tokio::time::sleep(provider.capabilities().settle).await;
        ensure(&*provider, &request).await;
        assert_eq!(subject.creates(&request.reference).await, 1);
    }
}

pub async fn under_a_mix_of_faults_there_is_one_license_each<S: Subject>() {
    if !S::WIRE {
        return;
    }
    let subject = S::start().await;
    let provider = subject.provider(PATIENCE);
    let mut requests = Vec::new();
    for number in 1..=20 {
        requests.push(request(&subject, &*provider, number).await);
    }
    subject
        .mix(&[
            (0.1, Fault::CommitThenDrop),
            (0.04, Fault::CommitThenFail { status: 500 }),
            (0.04, Fault::CommitThenGarble),
            (0.04, Fault::Drop),
            (0.04, fail(500)),
            (0.04, fail(429)),
        ])
        .await;
    for request in &requests {
        ensure(&*provider, request).await;
    }
    subject.mix(&[]).await;
    for request in &requests {
        assert_eq!(subject.creates(&request.reference).await, 1);
        let seen = seen(&subject, &request.reference).await.unwrap();
        assert_eq!((seen.seats, &seen.features, seen.works), (Some(3), &request.terms.features, true));
    }
    assert_eq!(subject.held().await.len(), requests.len());
}
