//! What is recorded about a purchase: what needs no call, and what a provider's answer means.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyledger_schemas::event::{
    Action, Event, LicenseAdopted, LicenseExtended, LicenseFeaturesChanged, LicenseIssued, LicenseLapsed,
    LicenseNotDone, LicenseReinstated, LicenseRequested, LicenseRevoked, LicenseSeatsChanged, LicenseSurplusFound,
    LicenseSuspended, NotDone, ObligationMet, ObligationOpened, RevokeReason, SealedKey, SuspendReason,
};
use keyledger_schemas::ids::ProviderName;

use super::desired::{self, Context, Desired, PaidUntil};
use super::owed::{Because, Request, lapse_at};
use super::state::{License, Purchase, Standing, Unit};

/// Waiting times after answers that were not *done*, by how many came in a row; the last one repeats.
pub const DELAYS: [Duration; 7] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
    Duration::from_hours(1),
];

/// How long a lost answer is looked up before a person is asked.
pub const LOOK_UPS_END_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// What the shell found out by calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The license exists now.
    Made {
        /// The engine's own id.
        provider_id: String,
        /// The key, sealed.
        key: Option<SealedKey>,
        /// Other ids that the engine has for it.
        also: BTreeMap<String, String>,
        /// It was there already, left by an earlier call.
        found: bool,
        /// What named it, where somebody else had made it.
        adopted: Option<String>,
        /// More licenses of the same kind, by the engine's ids.
        surplus: Vec<String>,
    },
    /// The change was made.
    Changed,
    /// An earlier create had made nothing, and nothing is owed any more.
    NothingMade,
    /// Nobody was asked: the engine is not configured.
    Unconfigured,
    /// It was not done.
    NotDone {
        /// Which answer it was.
        answer: NotDone,
        /// What the engine said, without personal data.
        reason: String,
        /// How long the engine asked us to wait.
        retry_after: Option<Duration>,
        /// The engine was searched and holds no license with our reference.
        nothing_found: bool,
    },
}

/// What can be recorded at `now` without calling anyone.
pub fn decide(purchase: &Purchase, context: &Context, now: Timestamp) -> Vec<Event> {
    let scope = &purchase.id.scope;
    if !context.settings.issues(&scope.source, scope.mode) {
        return Vec::new();
    }
    let mut events = Vec::new();
    for (desired, quantity) in desired::units(purchase, context) {
        let unit = purchase.unit(&desired.unit.item, desired.unit.number).cloned().unwrap_or_default();
        events.extend(opened(&unit, &desired));
        events.extend(adopted(&unit, &desired, quantity, context));
        events.extend(surplus(&unit, &desired));
        events.extend(lapsed(&unit, &desired, now));
        events.extend(met(&unit, &desired));
    }
    events
}

fn opened(unit: &Unit, desired: &Desired) -> Option<Event> {
    let opens = !unit.opened && desired.number_owed && desired.paid_until.is_owed();
    opens.then(|| {
        Event::ObligationOpened(ObligationOpened {
            unit: desired.unit.clone(),
            owed_until: desired.paid_until.date(),
            charged: desired.charged,
            amount: desired.amount.clone(),
        })
    })
}

/// A license that metadata or a person named meets the unit, at an engine that cannot be asked.
fn adopted(unit: &Unit, desired: &Desired, quantity: u64, context: &Context) -> Option<Event> {
    if unit.making_in_doubt().is_some() || !desired.number_owed {
        return None;
    }
    let attached = unit.attached.as_ref().map(|named| (named.provider.clone(), named.provider_id.clone(), "operator"));
    let by_metadata = || {
        let named = desired.named.as_ref().filter(|_| unit.licenses.is_empty())?;
        Some((named.provider.clone(), named.id.clone(), named.key))
    };
    let (provider, provider_id, named_by) = attached.or_else(by_metadata)?;
    if context.providers.contains_key(&provider) {
        return None;
    }
    let terms = desired.terms(quantity)?;
    let generation = unit.latest().map_or(1, |(generation, _)| generation + 1);
    Some(Event::LicenseAdopted(LicenseAdopted {
        unit: desired.unit.clone(),
        generation,
        license: desired.unit.license(generation),
        provider,
        provider_id,
        terms,
        named_by: named_by.to_owned(),
        mapping: desired.mapping.clone().ok(),
        product: None,
        key: None,
        also: BTreeMap::new(),
    }))
}

/// Metadata names another license than the one that meets the unit.
fn surplus(unit: &Unit, desired: &Desired) -> Option<Event> {
    let named = desired.named.as_ref()?;
    let found = (named.provider.clone(), named.id.clone());
    if unit.licenses.is_empty() || unit.surplus.contains(&found) {
        return None;
    }
    let reason = format!("subscription metadata `{}` names it", named.key);
    Some(surplus_found(desired, &named.provider, &named.id, &reason))
}

fn surplus_found(desired: &Desired, provider: &ProviderName, provider_id: &str, reason: &str) -> Event {
    Event::LicenseSurplusFound(LicenseSurplusFound {
        unit: desired.unit.clone(),
        provider: provider.clone(),
        provider_id: provider_id.to_owned(),
        reason: reason.to_owned(),
    })
}

fn lapsed(unit: &Unit, desired: &Desired, now: Timestamp) -> Option<Event> {
    let expires_at = lapse_at(unit).filter(|at| *at <= now)?;
    let (_, license) = unit.license()?;
    Some(Event::LicenseLapsed(LicenseLapsed { unit: desired.unit.clone(), license: license.id, expires_at }))
}

fn met(unit: &Unit, desired: &Desired) -> Option<Event> {
    let (_, license) = unit.license().filter(|(_, license)| is_met(license, desired))?;
    let already = unit.met.is_some_and(|met| met.license == license.id && met.until == desired.paid_until.date());
    (!already).then(|| {
        Event::ObligationMet(ObligationMet {
            unit: desired.unit.clone(),
            license: license.id,
            owed_until: desired.paid_until.date(),
        })
    })
}

/// Whether the license is confirmed to be as good as what is paid.
pub fn is_met(license: &License, desired: &Desired) -> bool {
    let works = match license.standing {
        Standing::Active => true,
        // Stopped because it was over: as good as it can be, until it is extended.
        Standing::Suspended(SuspendReason::Lapsed) => license.lapsed_at == license.terms.expires_at,
        Standing::Suspended(_) | Standing::Revoked(_) => false,
    };
    desired.paid_until.is_owed()
        && desired.number_owed
        && desired.standing == Standing::Active
        && works
        && PaidUntil::of_date(license.terms.paid_until) >= desired.paid_until
}

/// The announcement of a call.
pub fn requested(request: &Request, wait_until: Timestamp) -> Event {
    Event::LicenseRequested(LicenseRequested {
        unit: request.unit.clone(),
        generation: request.generation,
        license: request.license,
        attempt: request.attempt,
        action: request.action,
        terms: request.terms.clone(),
        mapping: request.mapping.clone(),
        named: request.named.as_ref().map(|named| named.text.clone()),
        wait_until,
    })
}

/// What an answer means: always something, so that no outcome is lost.
pub fn answered(purchase: &Purchase, request: &Request, answer: Answer, now: Timestamp) -> Vec<Event> {
    match answer {
        Answer::Made { provider_id, key, also, found, adopted, surplus } => {
            let reason = match adopted {
                Some(_) => "another license that was made for the same purchase",
                None => "a second license carries the same reference",
            };
            let made = match adopted {
                Some(by) => taken(request, provider_id, key, also, by),
                None => made(request, provider_id, key, also, found),
            };
            let doubled = surplus.into_iter().map(|provider_id| doubled(request, provider_id, reason));
            [made].into_iter().chain(doubled).collect()
        }
        Answer::Changed => changed(purchase, request),
        Answer::NothingMade => {
            let reason = "no license was made, and none is owed any more".to_owned();
            vec![Event::LicenseNotDone(not_done(request, NotDone::Unavailable, reason, Some(now), true))]
        }
        Answer::Unconfigured => {
            let reason = format!("provider `{}` is not configured", request.provider);
            let answer = not_done(request, NotDone::Refused, reason, None, false);
            vec![Event::LicenseNotDone(LicenseNotDone { unconfigured: true, ..answer })]
        }
        Answer::NotDone { answer, reason, retry_after, nothing_found } => {
            let next_attempt_at = next_attempt(purchase, request, answer, retry_after, now);
            vec![Event::LicenseNotDone(not_done(request, answer, reason, next_attempt_at, nothing_found))]
        }
    }
}

fn not_done(
    request: &Request,
    answer: NotDone,
    reason: String,
    next_attempt_at: Option<Timestamp>,
    nothing_found: bool,
) -> LicenseNotDone {
    LicenseNotDone {
        unit: request.unit.clone(),
        license: request.license,
        attempt: request.attempt,
        action: request.action,
        answer,
        reason,
        next_attempt_at,
        nothing_found,
        unconfigured: false,
    }
}

fn made(
    request: &Request,
    provider_id: String,
    key: Option<SealedKey>,
    also: BTreeMap<String, String>,
    found: bool,
) -> Event {
    Event::LicenseIssued(LicenseIssued {
        unit: request.unit.clone(),
        generation: request.generation,
        license: request.license,
        provider: request.provider.clone(),
        provider_id,
        product: request.product.clone(),
        key,
        terms: request.terms.clone(),
        found,
        also,
    })
}

/// A license that somebody else had made is ours now.
fn taken(
    request: &Request,
    provider_id: String,
    key: Option<SealedKey>,
    also: BTreeMap<String, String>,
    named_by: String,
) -> Event {
    Event::LicenseAdopted(LicenseAdopted {
        unit: request.unit.clone(),
        generation: request.generation,
        license: request.license,
        provider: request.provider.clone(),
        provider_id,
        terms: request.terms.clone(),
        named_by,
        mapping: Some(request.mapping.clone()),
        product: Some(request.product.clone()),
        key,
        also,
    })
}

fn doubled(request: &Request, provider_id: String, reason: &str) -> Event {
    Event::LicenseSurplusFound(LicenseSurplusFound {
        unit: request.unit.clone(),
        provider: request.provider.clone(),
        provider_id,
        reason: reason.to_owned(),
    })
}

fn changed(purchase: &Purchase, request: &Request) -> Vec<Event> {
    let (unit, license) = (request.unit.clone(), request.license);
    match (request.action, request.because) {
        (Action::SetTerms, _) => terms_set(purchase, request),
        (Action::Suspend, Some(Because::Suspended(reason))) => {
            vec![Event::LicenseSuspended(LicenseSuspended { unit, license, reason })]
        }
        (Action::Suspend, _) => {
            vec![Event::LicenseSuspended(LicenseSuspended { unit, license, reason: SuspendReason::QuantityReduced })]
        }
        (Action::Reinstate, _) => vec![Event::LicenseReinstated(LicenseReinstated { unit, license })],
        (Action::Revoke, Some(Because::Revoked(reason))) => {
            vec![Event::LicenseRevoked(LicenseRevoked { unit, license, reason })]
        }
        (Action::Revoke, _) => {
            vec![Event::LicenseRevoked(LicenseRevoked { unit, license, reason: RevokeReason::MoneyGone })]
        }
        (Action::Create | Action::Adopt, _) => unreachable!("a create is answered with the license that was made"),
    }
}

/// One event for each thing that is different now; at least one, so that the call is seen to be done.
fn terms_set(purchase: &Purchase, request: &Request) -> Vec<Event> {
    let unit = purchase.unit(&request.unit.item, request.unit.number);
    let before = unit.and_then(|unit| unit.licenses.get(&request.generation)).map(|license| &license.terms);
    let terms = &request.terms;
    let (unit, license) = (request.unit.clone(), request.license);
    let mut events = Vec::new();
    if before.is_none_or(|before| before.seats != terms.seats) {
        let (unit, seats) = (unit.clone(), terms.seats);
        events.push(Event::LicenseSeatsChanged(LicenseSeatsChanged { unit, license, seats }));
    }
    if before.is_none_or(|before| before.features != terms.features) {
        events.push(Event::LicenseFeaturesChanged(LicenseFeaturesChanged {
            unit: unit.clone(),
            license,
            features: terms.features.clone(),
            mapping: request.mapping.clone(),
        }));
    }
    let dated = |before: &keyledger_schemas::event::LicenseTerms| {
        before.paid_until != terms.paid_until || before.expires_at != terms.expires_at
    };
    if before.is_none_or(dated) || events.is_empty() {
        events.push(Event::LicenseExtended(LicenseExtended {
            unit,
            license,
            paid_until: terms.paid_until,
            expires_at: terms.expires_at,
        }));
    }
    events
}

/// When to try again: never after a refusal, else by the table; while an outcome is not
/// known not before the engine has settled, and only for so long.
fn next_attempt(
    purchase: &Purchase,
    request: &Request,
    answer: NotDone,
    retry_after: Option<Duration>,
    now: Timestamp,
) -> Option<Timestamp> {
    let unit = purchase.unit(&request.unit.item, request.unit.number);
    let in_a_row =
        unit.and_then(|unit| unit.answered(request.generation, request.action)).map_or(0, |before| before.in_a_row);
    let after = |wait: Duration| now.saturating_add(wait).unwrap_or(Timestamp::MAX);
    match answer {
        NotDone::Refused => None,
        NotDone::Unavailable => {
            let asked = retry_after.unwrap_or_default().min(DELAYS[DELAYS.len() - 1]);
            Some(after(delay(in_a_row).max(asked)))
        }
        NotDone::Indeterminate => {
            let doubts = unit.map_or(&[][..], |unit| &unit.doubts);
            let doubt = doubts.iter().find(|doubt| doubt.asked.is_about(request.generation, request.action));
            if doubt.is_some_and(|doubt| now.duration_since(doubt.since) >= LOOK_UPS_END_AFTER) {
                return None;
            }
            let settled = unit.and_then(|unit| unit.pending.as_ref()).map_or(now, |pending| pending.wait_until);
            Some(after(delay(in_a_row)).max(settled))
        }
    }
}

/// The waiting time after `in_a_row` earlier answers of the kind.
fn delay(in_a_row: u32) -> Duration {
    let index = usize::try_from(in_a_row).unwrap_or(usize::MAX);
    DELAYS[index.min(DELAYS.len() - 1)]
}
