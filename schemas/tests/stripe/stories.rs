//! Both renderings of one event state the same facts, and these are the ones in `testdata/facts`.
//!
//! After a change of reading that is meant, `cargo insta review` shows the difference and takes it over.

use std::collections::BTreeSet;

use keyledger_schemas::stripe::fact::{Fact, Link, ObjectRef};
use keyledger_schemas::stripe::{Header, facts};
use serde_json::{Value, json};

use crate::fixtures::{NEW, OLD, Story, bodies, link_of, stories};

/// The facts of one event that are about an object.
fn about_objects(facts: &[Fact]) -> Vec<&Fact> {
    facts.iter().filter(|fact| link_of(fact).is_none()).collect()
}

/// All facts of a story in one rendering.
fn told(story: &Story, version: &str) -> Vec<Fact> {
    story.steps.iter().filter_map(|step| step.body(version)).flat_map(|body| facts(&body)).collect()
}

/// Who belongs to whom, however many links apart.
fn closure(facts: &[Fact]) -> BTreeSet<Link> {
    let mut closed: BTreeSet<Link> = facts.iter().filter_map(link_of).cloned().collect();
    loop {
        let mut further = BTreeSet::new();
        for first in &closed {
            for second in closed.iter().filter(|second| second.child == first.parent) {
                further.insert(Link { child: first.child.clone(), parent: second.parent.clone() });
            }
        }
        if further.is_subset(&closed) {
            return closed;
        }
        closed.extend(further);
    }
}

#[test]
fn both_renderings_of_a_step_state_the_same_about_its_object() {
    let mut compared = 0;
    for story in stories() {
        for step in &story.steps {
            let (Some(old), Some(new)) = (step.body(OLD), step.body(NEW)) else { continue };
            assert_eq!(
                about_objects(&facts(&old)),
                about_objects(&facts(&new)),
                "{} {} {}",
                story.story,
                step.n,
                step.kind
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 231);
}

#[test]
fn a_step_of_one_version_states_only_refunds_and_links() {
    for step in stories().into_iter().flat_map(|story| story.steps) {
        let Some(version) = &step.only_in else { continue };
        let stated = facts(&step.body(version).unwrap());
        assert!(!stated.is_empty(), "{}", step.kind);
        assert!(stated.iter().all(|fact| matches!(fact, Fact::RefundSeen(_) | Fact::Linked(_))), "{}", step.kind);
    }
}

/// The newer rendering says what a payment paid in `invoice_payment.paid` alone. Stories h and k end with invoices
/// that nobody paid, and story j leaves these events out; there the older rendering knows more.
#[test]
fn over_a_story_both_renderings_link_the_same_objects_once_they_are_paid() {
    for story in stories() {
        let (old, new) = (closure(&told(&story, OLD)), closure(&told(&story, NEW)));
        assert!(new.is_subset(&old), "{}", story.story);
        let linked: BTreeSet<&ObjectRef> = new.iter().map(|link| &link.child).collect();
        let missing: Vec<&Link> = old.difference(&new).collect();
        if !["h", "j", "k"].contains(&story.story.as_str()) {
            assert_eq!(missing, Vec::<&Link>::new(), "{}", story.story);
        }
        for link in missing {
            assert!(!linked.contains(&link.child) || story.story == "j", "{}: {link:?}", story.story);
            assert!(matches!(link.child, ObjectRef::Charge(_) | ObjectRef::PaymentIntent(_)), "{link:?}");
        }
    }
}

#[test]
fn the_facts_of_every_story_are_the_golden_ones() {
    for story in stories() {
        let steps: Vec<Value> = story
            .steps
            .iter()
            .map(|step| {
                let (old, new) = (step.body(OLD), step.body(NEW));
                let read = |body: &Option<Vec<u8>>| body.as_deref().map(facts).unwrap_or_default();
                let (old, new) = (read(&old), read(&new));
                let links = |facts: &[Fact]| facts.iter().filter_map(link_of).cloned().collect::<Vec<_>>();
                let stated = if step.only_in.as_deref() == Some(NEW) { about_objects(&new) } else { about_objects(&old) };
                json!({"step": step.n, "type": step.kind, "facts": stated, "links": {OLD: links(&old), NEW: links(&new)}})
            })
            .collect();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../../testdata/facts");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_json_snapshot!(story.story.as_str(), steps));
    }
}

#[test]
fn every_fact_of_every_story_reads_back_as_itself() {
    for (file, body) in bodies() {
        let stated = facts(&body);
        let written = serde_json::to_vec(&stated).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<Fact>>(&written).unwrap(), stated, "{file}");
    }
}

#[test]
fn every_header_is_what_the_manifest_says() {
    for step in stories().into_iter().flat_map(|story| story.steps) {
        for (version, file) in &step.files {
            let header = Header::read(&step.body(version).unwrap()).unwrap();
            assert_eq!(header.id.as_str(), step.event_id, "{file}");
            assert_eq!(header.kind, step.kind, "{file}");
            assert_eq!(header.created.unwrap().as_second(), step.created, "{file}");
            assert_eq!(header.api_version.as_ref(), Some(version), "{file}");
            assert_eq!((header.account, header.thin), (None, false), "{file}");
        }
    }
}
