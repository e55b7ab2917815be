//! Any order, repeats, a crowd at once, both renderings: every way to deliver the same stories ends alike.

use std::collections::BTreeMap;

use futures::future::join_all;

use crate::deployment::Deployment;
use crate::support::client::Caller;
use crate::support::random::Random;
use crate::support::setup::{SELL_EVERYTHING, Setup};
use crate::support::state::{EndState, end_state};
use crate::support::stories::{self, VERSIONS};

/// Moments at which licenses of the stories are active, in grace, and expired.
const TIMES: [&str; 5] = [
    "2026-08-10T00:00:00Z",
    "2026-09-01T00:00:00Z",
    "2026-09-13T06:00:00Z",
    "2026-10-05T00:00:00Z",
    "2026-12-24T00:00:00Z",
];

/// How many requests are in flight where a crowd delivers.
const CROWD: usize = 32;

/// One way to deliver all stories, to a source of its own.
struct Delivery {
    source: String,
    bodies: Vec<Vec<u8>>,
    at_once: usize,
}

impl Delivery {
    fn new(source: impl Into<String>, bodies: Vec<Vec<u8>>) -> Self {
        Self { source: source.into(), bodies, at_once: 1 }
    }

    fn by_a_crowd(self) -> Self {
        Self { at_once: CROWD, ..self }
    }

    fn shuffled(mut self, seed: u64) -> Self {
        Random::new(seed).shuffle(&mut self.bodies);
        self
    }

    fn reversed(mut self) -> Self {
        self.bodies.reverse();
        self
    }

    fn thrice(mut self) -> Self {
        self.bodies = self.bodies.into_iter().flat_map(|body| [body.clone(), body.clone(), body]).collect();
        self
    }
}

fn deliveries() -> Vec<Delivery> {
    let stories = stories::all();
    let mut deliveries = Vec::new();
    for (name, version) in ["old", "new"].into_iter().zip(VERSIONS) {
        let straight = |how: &str| {
            let bodies = stories.iter().flat_map(|story| story.bodies(version)).collect();
            Delivery::new(format!("{name}-{how}"), bodies)
        };
        deliveries.push(straight("straight"));
        deliveries.push(straight("reversed").reversed());
        deliveries.push(straight("shuffled-1").shuffled(1));
        deliveries.push(straight("shuffled-2").shuffled(2));
        deliveries.push(straight("thrice").thrice());
        deliveries.push(straight("thrice-shuffled").thrice().shuffled(3));
        deliveries.push(straight("crowd").by_a_crowd());
    }
    let both = |how: &str| {
        Delivery::new(format!("both-{how}"), stories.iter().flat_map(stories::Story::both_renderings).collect())
    };
    deliveries.push(both("straight"));
    deliveries.push(both("reversed").reversed());
    deliveries.push(both("shuffled").shuffled(4));
    deliveries.push(both("crowd").shuffled(5).by_a_crowd());
    deliveries
}

#[tokio::test]
async fn every_way_to_deliver_the_stories_ends_in_the_same_state() {
    let expected = ends_alike(deliveries(), SELL_EVERYTHING).await;
    assert!(expected.licenses.len() > 10 * TIMES.len() && expected.subscriptions.len() > 10);
    assert!(expected.cases.is_empty());
}

#[tokio::test]
async fn who_is_without_a_key_is_the_same_in_every_order() {
    let settings = "[[catalog]]\nprice = \"price_1PgafmB7WZ01zgkW6dKueIc5\"\nprovider = \"builtin\"\n\
                    [policy]\nleft_by_other_system = \"case\"\n";
    let mut deliveries = deliveries();
    deliveries.retain(|delivery| !delivery.source.contains("thrice") && !delivery.source.contains("shuffled-2"));
    let expected = ends_alike(deliveries, settings).await;
    // Two one-off sales that nothing maps, and the subscription that another system left.
    let without_key: Vec<_> = expected.cases.iter().filter(|(kind, _)| kind == "no_key").collect();
    assert_eq!(without_key.len(), 3, "{without_key:#?}");
}

/// Delivers each to a source of its own, all at the same time, and compares where they end.
async fn ends_alike(deliveries: Vec<Delivery>, settings: &str) -> EndState {
    let sources = deliveries.iter().map(|delivery| delivery.source.clone()).collect();
    let deployment = Deployment::new(&Setup { sources, settings: settings.to_owned() });
    let service = deployment.up().await;
    join_all(deliveries.iter().map(|delivery| deliver(&service, delivery))).await;
    service.caught_up().await;

    let expected = end_state(&service, &deliveries[0].source, &TIMES).await;
    let mut differences = Vec::new();
    for delivery in &deliveries[1..] {
        let found = end_state(&service, &delivery.source, &TIMES).await;
        differences.extend(difference(&delivery.source, &expected, &found));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    deployment.finish(service).await;
    expected
}

async fn deliver(caller: &Caller, delivery: &Delivery) {
    caller.post_together(&delivery.source, &delivery.bodies, delivery.at_once).await;
}

/// What differs, one line each.
fn difference(source: &str, expected: &EndState, found: &EndState) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(of_maps(source, &expected.subscriptions, &found.subscriptions));
    lines.extend(of_maps(source, &expected.licenses, &found.licenses));
    let cases = expected.cases.symmetric_difference(&found.cases);
    lines.extend(cases.map(|case| format!("{source}: {case:?} is open on one side alone")));
    lines
}

fn of_maps<K: Ord + std::fmt::Debug>(
    source: &str,
    expected: &BTreeMap<K, Vec<String>>,
    found: &BTreeMap<K, Vec<String>>,
) -> Vec<String> {
    let keys: std::collections::BTreeSet<&K> = expected.keys().chain(found.keys()).collect();
    let differing = keys.into_iter().filter(|key| expected.get(key) != found.get(key));
    differing.map(|key| format!("{source}: {key:?}: {:?}, not {:?}", found.get(key), expected.get(key))).collect()
}
