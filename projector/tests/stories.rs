//! The fixture stories, folded straight into the views without an issuer: what is owed at their end.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

mod support;

use keyledger_projector::read::{CaseFilter, CaseStatus, LicenseState, PageRequest, Within};
use keyledger_schemas::envelope::NewEvent;
use support::{
    Engine, STORIES, Shuffle, VERSIONS, World, issue_all, late, licenses, open, open_kinds, outcome, stop_all, stopped,
    story,
};

on_both! {
    each_story_ends_with_what_was_charged_and_has_no_key,
    both_versions_of_a_story_come_to_the_same,
    money_that_went_back_before_a_license_was_made_is_listed_as_revoked_without_key,
    a_license_closes_the_case_and_nothing_else_does,
    the_order_and_number_of_events_changes_nothing,
    every_event_may_come_three_times,
    a_license_that_was_stopped_is_listed_like_one_that_was_never_made,
    both_renderings_of_every_event_are_one_event,
    a_mode_that_does_not_issue_is_kept_and_has_no_cases,
}

/// What is open at the end of a story when nobody issues: kind, cause and amount of each case, oldest first.
async fn cases_of(engine: &Engine, name: &str, version: &str) -> Vec<String> {
    let world = World::with(engine, story(name, version)).await;
    let views = world.folded().await;
    let open = CaseFilter { status: Some(CaseStatus::Open), ..CaseFilter::default() };
    let page = views.cases(&Within::default(), &open, late(), &PageRequest::default()).await.unwrap();
    let case = |case: keyledger_projector::read::Case| {
        let amount = case.amount.map(|amount| amount.to_string()).unwrap_or_default();
        format!("{} {} {amount}", case.kind, case.cause.unwrap_or_default())
    };
    page.data.into_iter().map(case).collect()
}

async fn each_story_ends_with_what_was_charged_and_has_no_key(engine: Engine) {
    let one = |amount: &str| vec![format!("no_key issuing {amount}")];
    let expected = [
        // A key that the subscription's metadata names is a key: the first unit is met by it.
        ("a", vec![]),
        ("b", one("10.00 USD")),
        ("c", one("20.00 USD")),
        ("d", vec![]),
        ("e", vec![]),
        ("e2", vec![]),
        ("f", vec![]),
        ("g", vec!["no_key left_by_other_system 20.00 USD".to_owned()]),
        ("h", one("20.00 USD")),
        ("i", one("10.00 USD")),
        ("j", one("20.00 USD")),
        ("k", vec![]),
        ("m", vec![]),
        ("l", vec![]),
    ];
    for (name, cases) in expected {
        for version in VERSIONS {
            assert_eq!(cases_of(&engine, name, version).await, cases, "story {name}, {version}");
        }
    }
}

async fn both_versions_of_a_story_come_to_the_same(engine: Engine) {
    for name in STORIES {
        let mut outcomes = Vec::new();
        for version in VERSIONS {
            outcomes.push(outcome(&World::with(&engine, story(name, version)).await.folded().await).await);
        }
        assert_eq!(outcomes[0], outcomes[1], "story {name}");
    }
}

async fn money_that_went_back_before_a_license_was_made_is_listed_as_revoked_without_key(engine: Engine) {
    for name in ["e", "f"] {
        for version in VERSIONS {
            let world = World::with(&engine, story(name, version)).await;
            let views = world.folded().await;
            let listed = licenses(&views, late().at).await;
            assert_eq!(listed.len(), 1, "story {name}, {version}");
            assert_eq!((listed[0].state, listed[0].key.is_some()), (LicenseState::Revoked, false));
            assert_eq!((listed[0].paid_until, listed[0].expires_at), (None, None));
        }
    }
}

async fn a_license_closes_the_case_and_nothing_else_does(engine: Engine) {
    for name in STORIES {
        let world = World::with(&engine, story(name, VERSIONS[1])).await;
        issue_all(&world, &world.folded().await).await;
        let views = world.folded().await;
        assert_eq!(open(&views).await, Vec::<String>::new(), "story {name}");
    }
}

async fn the_order_and_number_of_events_changes_nothing(engine: Engine) {
    for name in engine.some(&STORIES) {
        for version in VERSIONS {
            let events = story(name, version);
            let straight = outcome(&World::with(&engine, events.clone()).await.folded().await).await;
            let mut reversed = events.clone();
            reversed.reverse();
            let mut orders = vec![reversed];
            orders.extend((0..6).map(|seed| Shuffle(seed).shuffle(events.clone())));
            for (number, order) in orders.into_iter().enumerate() {
                let found = outcome(&World::with(&engine, order).await.folded().await).await;
                assert_eq!(found, straight, "story {name}, {version}, order {number}");
            }
        }
    }
}

async fn every_event_may_come_three_times(engine: Engine) {
    for name in engine.some(&STORIES) {
        for version in VERSIONS {
            let straight = outcome(&World::with(&engine, story(name, version)).await.folded().await).await;
            // By other ids, so that the log does not keep the repeats from the fold.
            let again = |event: NewEvent| (0..3).map(move |time| repeated(event.clone(), time));
            let thrice: Vec<NewEvent> = story(name, version).into_iter().flat_map(again).collect();
            for (number, order) in [thrice.clone(), Shuffle(3).shuffle(thrice)].into_iter().enumerate() {
                let world = World::with(&engine, order).await;
                assert_eq!(outcome(&world.folded().await).await, straight, "story {name}, {version}, order {number}");
            }
        }
    }
}

fn repeated(event: NewEvent, time: u32) -> NewEvent {
    let id = format!("{}#{time}", event.id);
    NewEvent { stream: format!("stripe:{id}").as_str().into(), id: id.as_str().into(), ..event }
}

async fn a_license_that_was_stopped_is_listed_like_one_that_was_never_made(engine: Engine) {
    let mut compared = 0;
    let stories = if engine.is_sqlite() { STORIES.to_vec() } else { vec!["f"] };
    for name in stories {
        let events = story(name, VERSIONS[1]);
        let never = stopped(&World::with(&engine, events.clone()).await.folded().await).await;
        for cut in 1..events.len() {
            let (early, later) = events.split_at(cut);
            let world = World::with(&engine, early.to_vec()).await;
            issue_all(&world, &world.folded().await).await;
            world.append(later.to_vec()).await;
            stop_all(&world, &world.folded().await).await;
            let made = stopped(&world.folded().await).await;
            assert_eq!(made, never, "story {name}, licenses made after {cut} events");
            compared += made.len();
        }
    }
    assert!(compared > if engine.is_sqlite() { 5 } else { 0 }, "{compared}");
}

async fn both_renderings_of_every_event_are_one_event(engine: Engine) {
    for name in engine.some(&STORIES) {
        let straight = outcome(&World::with(&engine, story(name, VERSIONS[1])).await.folded().await).await;
        let both: Vec<_> = VERSIONS.iter().flat_map(|version| story(name, version)).collect();
        for seed in 0..4 {
            let found = outcome(&World::with(&engine, Shuffle(seed).shuffle(both.clone())).await.folded().await).await;
            assert_eq!(found, straight, "story {name}, seed {seed}");
        }
    }
}

async fn a_mode_that_does_not_issue_is_kept_and_has_no_cases(engine: Engine) {
    let world = World::new(&engine);
    world.append(story("a", VERSIONS[0])).await;
    let views = world.folded().await;
    assert!(open_kinds(&views).await.is_empty());
    assert!(!outcome(&views).await.is_empty());
}
