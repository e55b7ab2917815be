//! Attributes that change: which of several snapshots counts, whatever order they arrived in (design §3.5).

use serde::{Deserialize, Serialize};

use super::fact::SubscriptionSeen;

/// The snapshots of one subscription that still matter.
///
/// Kept are those of the newest second (with a known status, and apart from them with an unknown one), and those of
/// the newest second among the ended ones. The set, and so the answer, does not depend on arrival order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionRegister {
    known: Vec<SubscriptionSeen>,
    ended: Vec<SubscriptionSeen>,
    unknown: Vec<SubscriptionSeen>,
}

impl SubscriptionRegister {
    /// Takes one more snapshot. Repeats change nothing.
    pub fn observe(&mut self, snapshot: SubscriptionSeen) {
        if snapshot.has_ended() {
            keep_newest(&mut self.ended, snapshot);
        } else if snapshot.status.is_unknown() {
            keep_newest(&mut self.unknown, snapshot);
        } else {
            keep_newest(&mut self.known, snapshot);
        }
    }

    /// The snapshot that counts: an ended one before all others, else the newest with a status this build knows.
    pub fn current(&self) -> Option<&SubscriptionSeen> {
        winner(&self.ended).or_else(|| winner(&self.known))
    }

    /// The snapshot with an unknown status that was skipped, when nothing newer says better.
    pub fn skipped(&self) -> Option<&SubscriptionSeen> {
        let unknown = winner(&self.unknown)?;
        let overtaken = !self.ended.is_empty() || self.known.iter().any(|known| known.seen.at > unknown.seen.at);
        (!overtaken).then_some(unknown)
    }
}

/// Keeps only the snapshots of the newest second, each once, in a canonical order.
fn keep_newest(kept: &mut Vec<SubscriptionSeen>, snapshot: SubscriptionSeen) {
    match kept.first().map(|first| first.seen.at) {
        Some(at) if at > snapshot.seen.at => return,
        Some(at) if at < snapshot.seen.at => kept.clear(),
        _ => {}
    }
    // One event in two renderings is one snapshot. Where they differ the greater one stays, not the first one:
    // which endpoint delivers first is chance.
    match kept.iter_mut().find(|other| other.seen.event == snapshot.seen.event) {
        Some(other) if *other < snapshot => *other = snapshot,
        Some(_) => {}
        None => kept.push(snapshot),
    }
    kept.sort();
}

/// Among snapshots of one second: the strongest change, then the one that the others' old values do not name
/// as past, then the greatest event id.
fn winner(kept: &[SubscriptionSeen]) -> Option<&SubscriptionSeen> {
    let strongest = kept.iter().map(|snapshot| snapshot.seen.change).max()?;
    let candidates: Vec<_> = kept.iter().filter(|snapshot| snapshot.seen.change == strongest).collect();
    candidates
        .iter()
        .filter(|a| !candidates.iter().any(|b| a.seen != b.seen && came_before(a, b)))
        .max_by(|a, b| a.seen.event.cmp(&b.seen.event))
        .or_else(|| candidates.iter().max_by(|a, b| a.seen.event.cmp(&b.seen.event)))
        .copied()
}

/// Whether `later` names a value of `earlier` as its own past, and not the other way around.
fn came_before(earlier: &SubscriptionSeen, later: &SubscriptionSeen) -> bool {
    names_as_past(later, earlier) && !names_as_past(earlier, later)
}

/// Whether the old values that `event` names are those that `other` shows, and at least one differs from `event`'s own.
fn names_as_past(event: &SubscriptionSeen, other: &SubscriptionSeen) -> bool {
    let previous = &event.previous;
    let mut matches = Vec::new();
    if let Some(status) = &previous.status {
        matches.push(*status == other.status && other.status != event.status);
    }
    if let Some(cancel) = previous.cancel_at_period_end {
        matches.push(cancel == other.cancel_at_period_end && cancel != event.cancel_at_period_end);
    }
    if let Some(cancel_at) = previous.cancel_at {
        matches.push(cancel_at == other.cancel_at && cancel_at != event.cancel_at);
    }
    if let Some(items) = &previous.items {
        let as_many = items.len() == other.items.len();
        let same = as_many
            && items.iter().all(|old| {
                other.items.iter().any(|item| {
                    item.id == old.id
                        && item.quantity == old.quantity
                        && item.price.as_ref().map(|price| &price.id) == old.price.as_ref()
                        && (old.period_end.is_none() || item.period_end == old.period_end)
                })
            });
        matches.push(same && other.items != event.items);
    }
    for (key, old) in &previous.metadata {
        matches.push(other.metadata.get(key) == old.as_ref() && other.metadata.get(key) != event.metadata.get(key));
    }
    !matches.is_empty() && matches.into_iter().all(|named| named)
}
