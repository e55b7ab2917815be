//! Both renderings of one event state the same facts, and these facts are what the golden files say.

mod stripe_support;

use std::collections::BTreeSet;

use keyledger_schemas::stripe::fact::{Fact, Link, ObjectRef};
use keyledger_schemas::stripe::{Header, facts};
use stripe_support::{NEW, OLD, Story, stories};

/// The facts of one event that are about an object.
fn about_objects(facts: &[Fact]) -> Vec<&Fact> {
    facts.iter().filter(|fact| !matches!(fact, Fact::Linked(_))).collect()
}

/// All facts of a story in one rendering.
fn all_facts(story: &Story, version: &str) -> Vec<Fact> {
    story.steps.iter().filter_map(|step| step.body(version)).flat_map(|body| facts(&body)).collect()
}

/// Who belongs to whom, however many links apart.
fn closure(facts: &[Fact]) -> BTreeSet<Link> {
    let direct = facts.iter().filter_map(|fact| match fact {
        Fact::Linked(link) => Some(link.clone()),
        _ => None,
    });
    let mut closed: BTreeSet<Link> = direct.collect();
    loop {
        let further: Vec<Link> = closed
            .iter()
            .flat_map(|first| closed.iter().filter(|second| second.child == first.parent).map(move |second| (first, second)))
            .map(|(first, second)| Link { child: first.child.clone(), parent: second.parent.clone() })
            .filter(|link| !closed.contains(link))
            .collect();
        if further.is_empty() {
            return closed;
        }
        closed.extend(further);
    }
}

#[test]
fn both_renderings_of_a_step_state_the_same_about_its_object() {
    for story in stories() {
        for step in &story.steps {
            let (Some(old), Some(new)) = (step.body(OLD), step.body(NEW)) else { continue };
            let (old, new) = (facts(&old), facts(&new));
            assert_eq!(about_objects(&old), about_objects(&new), "{} {} {}", story.story, step.n, step.kind);
        }
    }
}

#[test]
fn x() {
    for story in stories() {
        let (old, new) = (closure(&all_facts(&story, OLD)), closure(&all_facts(&story, NEW)));
        println!("{} old-new {:?}", story.story, old.difference(&new).collect::<Vec<_>>());
        println!("{} new-old {:?}", story.story, new.difference(&old).collect::<Vec<_>>());
    }
    let _ = |o: ObjectRef| o;
    let _ = Header::read(b"");
}
