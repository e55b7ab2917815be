//! Generated histories: whatever order they arrive in, the issuer and the model agree.

use keyledger_test_servers::Postgres;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::bench::Bench;
use crate::compare::differences;
use crate::deliver::{Delivery, Order, Shapes};
use crate::model::expected::expected;
use crate::model::history::Happened;
use crate::plan::{Plan, plan};
use crate::play::play;
use crate::render::Shape;
use crate::views::Books;

/// Plans tried when `PROPTEST_CASES` does not say otherwise.
const CASES: u32 = 150;

/// Plans tried with views on a server, where each takes longer.
const CASES_ON_SERVER: u32 = 12;

#[test]
fn whatever_is_sold_and_however_it_arrives_everyone_agrees_on_what_is_owed() {
    // Views are files: reading the log into them is the slow part, and the last order is the hardest.
    hold(CASES, &async |plan, history, nth, delivery| {
        let bench = fed(plan, history, delivery).await;
        let books = if nth == 3 { Some(Books::of(&bench, 256).await) } else { None };
        differences(&bench, books.as_ref(), &expected(history, &plan.rules)).await
    });
}

#[test]
fn views_on_postgresql_agree_too() {
    let server = Postgres::start_with(&["fsync=off"]);
    hold(CASES_ON_SERVER, &async |plan, history, nth, delivery| {
        if nth < 2 {
            return Vec::new();
        }
        let bench = fed(plan, history, delivery).await;
        let books = Books::on(&server, &bench, if nth == 3 { 256 } else { 4 }).await;
        differences(&bench, Some(&books), &expected(history, &plan.rules)).await
    });
}

/// Tries plans until one shows differences, of which the smallest is told.
fn hold(cases: u32, differences: &impl AsyncFn(&Plan, &[Happened], usize, Delivery) -> Vec<String>) {
    let config = Config { failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let cases = if config.cases == 256 { cases } else { config.cases };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, b"keyledger: one license, one unit");
    let mut runner = TestRunner::new_with_rng(Config { cases, ..config }, random);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runner.run(&(plan(), any::<u64>()), |(plan, seed)| {
        let history = play(&plan);
        for (nth, delivery) in deliveries(seed).into_iter().enumerate() {
            let found = runtime.block_on(differences(&plan, &history, nth, delivery));
            prop_assert!(found.is_empty(), "{delivery:?}\n{}\n{}", found.join("\n"), list(&history));
        }
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, (plan, _))) => panic!("{reason}\n{plan:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

async fn fed(plan: &Plan, history: &[Happened], delivery: Delivery) -> Bench {
    let mut bench = Bench::new(plan.rules.policy(), plan.rules.catalog()).await;
    for chunk in delivery.of(history) {
        bench.feed(&chunk).await;
    }
    bench
}

/// As it happened, backward, and by chance.
fn deliveries(seed: u64) -> [Delivery; 4] {
    let natural = Delivery { order: Order::Natural, shapes: Shapes::Only(Shape::New), times: 1, portion: 3, seed };
    [
        natural,
        Delivery { shapes: Shapes::Only(Shape::Old), portion: 1000, order: Order::Reversed, ..natural },
        Delivery { order: Order::Shuffled, shapes: Shapes::Mixed, times: 3, portion: 6, ..natural },
        Delivery { order: Order::Shuffled, shapes: Shapes::Mixed, times: 2, portion: 1, seed: seed ^ 1 },
    ]
}

/// The history, for a reader of a failure.
fn list(history: &[Happened]) -> String {
    history.iter().map(|happened| format!("{happened:?}")).collect::<Vec<_>>().join("\n")
}
