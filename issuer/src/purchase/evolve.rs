//! Folding events into a purchase. Total: every event is accepted in every state.

use keyledger_schemas::event::{
    Action, AttachRequested, Event, LicenseAdopted, LicenseIssued, LicenseNotDone, LicenseRequested, NotDone,
};
use keyledger_schemas::ids::{LicenseId, UnitId};

use super::named::{GLOBAL_ID_KEY, global_id};
use super::state::{Answered, Asked, Attached, Doubt, License, Met, Named, Purchase, Standing, Unit, Waived};

/// Folds one of the purchase's own events.
#[must_use]
pub fn evolve(mut purchase: Purchase, event: &Event, at: jiff::Timestamp) -> Purchase {
    match event {
        Event::ObligationOpened(data) => purchase.unit_mut(&data.unit).opened = true,
        Event::ObligationMet(data) => {
            purchase.unit_mut(&data.unit).met = Some(Met { license: data.license, until: data.owed_until });
        }
        Event::ObligationWaived(data) => {
            purchase.unit_mut(&data.unit).waived = Some(Waived { through: data.through });
        }
        Event::LicenseRequested(data) => requested(purchase.unit_mut(&data.unit), data, at),
        Event::LicenseNotDone(data) => not_done(purchase.unit_mut(&data.unit), data, at),
        Event::LicenseIssued(data) => issued(purchase.unit_mut(&data.unit), data),
        Event::LicenseAdopted(data) => adopted(purchase.unit_mut(&data.unit), data),
        Event::LicenseExtended(data) => {
            change(&mut purchase, &data.unit, data.license, |license| {
                license.terms.paid_until = data.paid_until;
                license.terms.expires_at = data.expires_at;
            });
        }
        Event::LicenseSeatsChanged(data) => {
            change(&mut purchase, &data.unit, data.license, |license| license.terms.seats = data.seats);
        }
        Event::LicenseFeaturesChanged(data) => {
            change(&mut purchase, &data.unit, data.license, |license| {
                license.terms.features.clone_from(&data.features);
                license.mapping = Some(data.mapping.clone());
            });
        }
        Event::LicenseSuspended(data) => {
            change(&mut purchase, &data.unit, data.license, |license| {
                license.standing = Standing::Suspended(data.reason);
            });
        }
        Event::LicenseReinstated(data) => {
            change(&mut purchase, &data.unit, data.license, |license| license.standing = Standing::Active);
        }
        Event::LicenseRevoked(data) => {
            change(&mut purchase, &data.unit, data.license, |license| {
                license.standing = Standing::Revoked(data.reason);
            });
        }
        Event::LicenseLapsed(data) => {
            if let Some(license) = find(purchase.unit_mut(&data.unit), data.license) {
                license.lapsed_at = Some(data.expires_at);
            }
        }
        Event::LicenseSurplusFound(data) => {
            let found = (data.provider.clone(), data.provider_id.clone());
            purchase.unit_mut(&data.unit).surplus.insert(found);
        }
        Event::RetryRequested(data) => {
            let unit = purchase.unit_mut(&data.unit);
            for answered in &mut unit.not_done {
                // A lost answer may still be on its way: not before the engine has settled.
                let settled = if answered.answer == NotDone::Indeterminate { answered.asked.wait_until } else { at };
                answered.next_attempt_at = Some(at.max(settled));
                answered.in_a_row = 0;
            }
            for doubt in &mut unit.doubts {
                doubt.since = at;
            }
            unit.retried_at = Some(at);
        }
        Event::RevokeRequested(data) => purchase.unit_mut(&data.unit).revoked_by_person = true,
        Event::SuspendRequested(data) => purchase.unit_mut(&data.unit).suspended_by_person = true,
        Event::ReinstateRequested(data) => reinstated(purchase.unit_mut(&data.unit)),
        Event::ExtendRequested(data) => purchase.unit_mut(&data.unit).extended_until = Some(data.until),
        Event::ReissueRequested(data) => reissued(purchase.unit_mut(&data.unit), data.license),
        Event::AttachRequested(data) => attach(purchase.unit_mut(&data.unit), data),
        // Not about a purchase's licenses.
        Event::CustomerLinked(_)
        | Event::CustomerSynced(_)
        | Event::MetadataWritten(_)
        | Event::MetadataRefused(_)
        | Event::FetchRefused(_)
        | Event::ReconcileCompleted(_)
        | Event::CaseWaived(_)
        | Event::KeyRevealed(_)
        | Event::SettingsChanged(_)
        | Event::BodyRefused(_)
        | Event::MirrorDiverged(_)
        | Event::MirrorMended(_) => {}
    }
    purchase
}

/// What a person had stopped works again, under the license it had: one that was to replace a revoked one is not made.
fn reinstated(unit: &mut Unit) {
    unit.revoked_by_person = false;
    unit.suspended_by_person = false;
    let revoked = |id: LicenseId| unit.licenses.values().any(|license| license.id == id && license.is_revoked());
    unit.reissue = unit.reissue.filter(|id| !revoked(*id));
}

/// A license is to be replaced. An engine that refused to make the new one is asked again.
fn reissued(unit: &mut Unit, license: LicenseId) {
    unit.reissue = Some(license);
    unit.not_done.retain(|was| was.asked.action != Action::Create || was.answer != NotDone::Refused);
}

/// A person named the license that meets the unit; the one that meets it already needs no more of that.
fn attach(unit: &mut Unit, data: &AttachRequested) {
    let same = |license: &License| license.provider == data.provider && license.provider_id == data.provider_id;
    if !unit.licenses.values().any(|license| same(license) && !license.is_revoked()) {
        unit.attached = Some(Attached { provider: data.provider.clone(), provider_id: data.provider_id.clone() });
    }
}

fn requested(unit: &mut Unit, data: &LicenseRequested, at: jiff::Timestamp) {
    unit.attempts = unit.attempts.max(data.attempt);
    // The one before was never answered: whoever made it died.
    if let Some(lost) = unit.pending.take() {
        doubt(unit, lost, at);
    }
    unit.pending = Some(Asked {
        attempt: data.attempt,
        generation: data.generation,
        action: data.action,
        terms: data.terms.clone(),
        mapping: data.mapping.clone(),
        named: data.named.clone(),
        asked_at: at,
        wait_until: data.wait_until,
    });
}

fn not_done(unit: &mut Unit, data: &LicenseNotDone, at: jiff::Timestamp) {
    let Some(asked) = unit.pending.take_if(|asked| asked.attempt == data.attempt) else { return };
    // A look-up that finds nothing settles it, unless the create after it was lost as well.
    if data.nothing_found && data.answer != NotDone::Indeterminate {
        unit.doubts.retain(|doubt| !doubt.asked.is_about(asked.generation, asked.action));
    }
    if data.answer == NotDone::Indeterminate {
        doubt(unit, asked.clone(), at);
    }
    // The engine knows better than the person who named it; another one may be named, or made.
    if asked.action == Action::Adopt && data.answer == NotDone::Refused {
        let named = asked.named.as_deref();
        unit.attached.take_if(|attached| Some(attached.provider_id.as_str()) == named);
    }
    let before = unit.answered(asked.generation, asked.action).map_or(0, |before| before.in_a_row);
    unit.not_done.retain(|answered| !answered.asked.is_about(asked.generation, asked.action));
    unit.not_done.push(Answered {
        asked,
        answer: data.answer,
        next_attempt_at: data.next_attempt_at,
        unconfigured: data.unconfigured,
        in_a_row: before.saturating_add(1),
    });
}

/// Notes a call of unknown outcome; the first of its kind stays.
fn doubt(unit: &mut Unit, asked: Asked, since: jiff::Timestamp) {
    if !unit.doubts.iter().any(|known| known.asked.is_about(asked.generation, asked.action)) {
        unit.doubts.push(Doubt { asked, since });
    }
}

fn issued(unit: &mut Unit, data: &LicenseIssued) {
    let mapping = unit.pending.as_ref().map(|asked| asked.mapping.clone());
    done(unit, data.generation, Action::Create);
    unit.licenses.insert(
        data.generation,
        License {
            id: data.license,
            provider: data.provider.clone(),
            provider_id: data.provider_id.clone(),
            also: data.also.clone(),
            product: data.product.clone(),
            adopted: false,
            named: None,
            mapping,
            terms: data.terms.clone(),
            standing: Standing::Active,
            lapsed_at: None,
        },
    );
}

fn adopted(unit: &mut Unit, data: &LicenseAdopted) {
    done(unit, data.generation, Action::Adopt);
    unit.attached = None;
    let unchecked = data.product.is_none();
    unit.licenses.insert(
        data.generation,
        License {
            id: data.license,
            provider: data.provider.clone(),
            provider_id: data.provider_id.clone(),
            also: data.also.clone(),
            product: data.product.clone().unwrap_or_default(),
            adopted: true,
            named: unchecked.then(|| Named { text: named_text(data), by: data.named_by.clone() }),
            mapping: data.mapping.clone(),
            terms: data.terms.clone(),
            // What was recorded of one that was adopted without calls was never told to its engine.
            standing: Standing::Active,
            lapsed_at: None,
        },
    );
}

/// How an engine is asked for a license that was adopted without asking it.
fn named_text(data: &LicenseAdopted) -> String {
    if data.named_by == GLOBAL_ID_KEY { global_id(&data.provider_id) } else { data.provider_id.clone() }
}

/// Folds an outcome: the license is changed, and what was asked is done.
fn change(purchase: &mut Purchase, unit: &UnitId, license: LicenseId, change: impl FnOnce(&mut License)) {
    let unit = purchase.unit_mut(unit);
    let asked = unit.pending.take();
    if let Some(asked) = &asked {
        done(unit, asked.generation, asked.action);
    }
    if let Some(license) = find(unit, license) {
        change(license);
        if let Some(asked) = asked.filter(|asked| asked.action == Action::SetTerms) {
            license.mapping = Some(asked.mapping);
        }
    }
}

/// What was asked is done: delays start over, and what earlier calls of the kind did matters no more. Stopping and
/// restarting are one kind: each says in absolute words whether the license works.
fn done(unit: &mut Unit, generation: u32, action: Action) {
    let kind = |action: Action| match action {
        Action::Create | Action::Adopt => 0,
        Action::SetTerms => 1,
        Action::Suspend | Action::Reinstate | Action::Revoke => 2,
    };
    let same = |asked: &Asked| asked.generation == generation && kind(asked.action) == kind(action);
    unit.not_done.retain(|answered| !same(&answered.asked));
    unit.doubts.retain(|doubt| !same(&doubt.asked));
    unit.pending = None;
}

fn find(unit: &mut Unit, license: LicenseId) -> Option<&mut License> {
    unit.licenses.values_mut().find(|candidate| candidate.id == license)
}
