//! Stripe's fixture stories: however they arrive, the end is the same.

use std::collections::BTreeMap;
use std::path::PathBuf;

use keyledger_schemas::settings::{CatalogEntry, LeftPolicy, Policy};
use serde_json::Value;

use crate::bench::Bench;
use crate::deliver::{Delivery, Order, Shapes};
use crate::render::Shape;
use crate::views::Books;

/// How many licenses a reader sees at the end of each story (the fixtures' README).
const LISTED: [(&str, usize); 14] = [
    ("a", 1),
    ("b", 1),
    ("c", 1),
    ("d", 1),
    ("e", 1),
    ("e2", 1),
    ("f", 1),
    ("g", 3),
    ("h", 1),
    ("i", 1),
    ("j", 1),
    ("k", 0),
    ("l", 0),
    ("m", 1),
];

/// Each event in the renderings that there are of it.
type Events = Vec<Vec<Vec<u8>>>;

/// The end of a story by unit, as far as it may not depend on the order of arrival.
type Ending = (BTreeMap<String, String>, Vec<String>);

#[test]
fn every_story_ends_the_same_reversed_shuffled_and_three_times_in_both_renderings() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (key, listed) in LISTED {
        runtime.block_on(async {
            let expected = as_told(key, &Policy::default(), listed).await;
            in_any_order(key, &expected).await;
        });
    }
}

/// In the order told: where the money arrives before the mark, the license is out before anyone could hold it back.
#[tokio::test]
async fn what_another_system_left_is_held_in_every_rendering() {
    as_told("g", &Policy { left_by_other_system: LeftPolicy::Case, ..Policy::default() }, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stories_posted_by_many_at_once_end_the_same() {
    let together: Events = LISTED.iter().flat_map(|(key, _)| story(key)).collect();
    let expected = ending(&Policy::default(), &TOLD, together.clone()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log.db");
    let mut bench = Bench::on_disk(&file, Policy::default(), vec![default_entry()]).await;
    let shuffled = Delivery { order: Order::Shuffled, times: 3, portion: 20, ..TOLD };
    let mut posting = Vec::new();
    for chunk in shuffled.of_bodies(together) {
        posting.push(tokio::spawn(Bench::post(bench.log.clone(), chunk.bodies)));
        if posting.len() % 8 == 0 {
            bench.work().await;
        }
    }
    for posted in posting {
        posted.await.unwrap();
    }
    bench.work().await;
    assert_eq!(end_of(&bench).await, expected);
}

const TOLD: Delivery =
    Delivery { order: Order::Natural, shapes: Shapes::Only(Shape::New), times: 1, portion: 1, seed: 0 };

/// The end of a story that arrives as it happened, the same in the newer rendering, the older one, and all of it thrice.
async fn as_told(key: &str, policy: &Policy, listed: usize) -> Ending {
    let newer = story(key).into_iter().filter_map(|mut renderings| renderings.pop().map(|body| vec![body])).collect();
    let older = story(key).into_iter().map(|mut renderings| renderings.drain(..1).collect()).collect();
    let expected = ending(policy, &TOLD, newer).await;
    assert_eq!(expected.0.values().filter(|ending| !ending.ends_with(" ()")).count(), listed, "{key}: {expected:#?}");
    for events in [older, thrice(key)] {
        assert_eq!(ending(policy, &TOLD, events).await, expected, "story {key} as told");
    }
    expected
}

async fn in_any_order(key: &str, expected: &Ending) {
    let reversed = Delivery { order: Order::Reversed, ..TOLD };
    assert_eq!(ending(&Policy::default(), &reversed, story(key)).await, *expected, "story {key} reversed");
    for seed in 0..10 {
        let delivery = Delivery { order: Order::Shuffled, portion: 7, seed, ..TOLD };
        let events = if seed % 2 == 0 { story(key) } else { thrice(key) };
        assert_eq!(ending(&Policy::default(), &delivery, events).await, *expected, "story {key}, {delivery:?}");
    }
}

fn thrice(key: &str) -> Events {
    story(key).into_iter().map(|renderings| [&renderings[..]; 3].concat()).collect()
}

async fn ending(policy: &Policy, delivery: &Delivery, events: Events) -> Ending {
    let mut bench = Bench::new(policy.clone(), vec![default_entry()]).await;
    for chunk in delivery.of_bodies(events) {
        bench.feed(&chunk).await;
    }
    end_of(&bench).await
}

/// What the views say, and that the issuer's books and the engine agree with them.
async fn end_of(bench: &Bench) -> Ending {
    let books = Books::of(bench, 256).await;
    let open: Vec<_> = books.open().await.into_iter().collect();
    let issuer: Vec<_> =
        bench.open().await.into_iter().map(|open| (open.kind.as_str().to_owned(), open.subject)).collect();
    assert_eq!(open, issuer, "the views and the issuer's books");
    assert!(bench.engine.made().values().all(|made| made.creates == 1), "{:?}", bench.engine.made());
    (books.endings(bench).await, open.into_iter().map(|(kind, subject)| format!("{kind} {subject}")).collect())
}

/// A catalog entry that matches everything.
fn default_entry() -> CatalogEntry {
    serde_json::from_str(r#"{"provider": "builtin", "product": "pro"}"#).unwrap()
}

/// The events of a story in the order of its steps, the older rendering first.
fn story(key: &str) -> Events {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/testdata/stripe"));
    let manifest: Value = serde_json::from_slice(&std::fs::read(root.join("manifest.json")).unwrap()).unwrap();
    let stories = manifest["stories"].as_array().unwrap();
    let story = stories.iter().find(|story| story["story"] == key).unwrap();
    let steps = story["steps"].as_array().unwrap().iter();
    let bodies = |step: &Value| {
        let files =
            ["2024-06-20", "2026-07-29.dahlia"].into_iter().filter_map(|version| step["files"][version].as_str());
        files.map(|file| std::fs::read(root.join(file)).unwrap()).collect()
    };
    steps.map(bodies).collect()
}
