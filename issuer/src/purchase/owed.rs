//! What must be done about a purchase now: derived from state, whatever message woke us.

use jiff::Timestamp;
use keyledger_schemas::event::{Action, LicenseTerms, NotDone, RevokeReason, SuspendReason};
use keyledger_schemas::ids::{CustomerId, LicenseId, ProviderName, UnitId};
use keyledger_schemas::mapping::Mapping;

use super::desired::{self, Context, Desired, PaidUntil};
use super::state::{Answered, Asked, License, Purchase, Standing, Unit};

/// A provider call that is outstanding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The unit it is for.
    pub unit: UnitId,
    /// Which of its licenses.
    pub generation: u32,
    /// The license.
    pub license: LicenseId,
    /// Counts the calls for the unit.
    pub attempt: u32,
    /// What to ask.
    pub action: Action,
    /// Whether a create may make a license, or only look for one of an earlier call.
    pub may_create: bool,
    /// Why a license is stopped, where it is.
    pub because: Option<Because>,
    /// Whose it is, where known.
    pub customer: Option<CustomerId>,
    /// Which engine.
    pub provider: ProviderName,
    /// The engine's own id, except for a create.
    pub provider_id: Option<String>,
    /// The engine's product.
    pub product: String,
    /// What the license should be like.
    pub terms: LicenseTerms,
    /// What the sale means.
    pub mapping: Mapping,
}

/// Why a license is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// For now.
    Suspended(SuspendReason),
    /// For good.
    Revoked(RevokeReason),
}

/// What a unit is waiting for, besides its next call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A call, now.
    Call(Box<Request>),
    /// A moment.
    Until(Timestamp),
    /// The outcome of a call that was announced at this moment.
    Outcome(Timestamp),
}

/// Provider calls outstanding at `now`, one per unit at the most.
pub fn owed(purchase: &Purchase, context: &Context, now: Timestamp) -> Vec<Request> {
    let mut calls = Vec::new();
    for (desired, quantity) in desired::units(purchase, context) {
        let unit = purchase.unit(&desired.unit.item, desired.unit.number).cloned().unwrap_or_default();
        if let Need::Call(request) = need(&unit, &desired, quantity, context, now) {
            calls.push(*request);
        }
    }
    calls
}

/// When the purchase wants attention next: `now` if something can be done at once, else its earliest timer.
pub fn next_due(purchase: &Purchase, context: &Context, now: Timestamp) -> Option<Timestamp> {
    if !super::decide::decide(purchase, context, now).is_empty() {
        return Some(now);
    }
    let units = desired::units(purchase, context);
    let needs = units.iter().filter_map(|(desired, quantity)| {
        let unit = purchase.unit(&desired.unit.item, desired.unit.number).cloned().unwrap_or_default();
        let lapse = lapse_at(&unit).filter(|at| *at > now);
        let need = match need(&unit, desired, *quantity, context, now) {
            Need::Nothing => None,
            Need::Call(_) => Some(now),
            // Due all the while: nothing is settled until it is known.
            Need::Until(at) | Need::Outcome(at) => Some(at),
        };
        need.into_iter().chain(lapse).min()
    });
    needs.min()
}

/// When the unit's license reaches an expiry that was not recorded as lapsed yet.
pub fn lapse_at(unit: &Unit) -> Option<Timestamp> {
    let (_, license) = unit.license()?;
    let expires_at = license.terms.expires_at?;
    let runs = matches!(license.standing, Standing::Active | Standing::Suspended(SuspendReason::Lapsed));
    (runs && license.lapsed_at != Some(expires_at)).then_some(expires_at)
}

/// What one unit needs.
pub fn need(unit: &Unit, desired: &Desired, quantity: u64, context: &Context, now: Timestamp) -> Need {
    if !context.settings.issues(&desired.unit.purchase.scope.source, desired.unit.purchase.scope.mode) {
        return Need::Nothing;
    }
    if let Some(pending) = unit.pending.as_ref().filter(|pending| pending.wait_until > now) {
        return Need::Outcome(pending.asked_at);
    }
    let mut earliest = None;
    for request in wanted(unit, desired, quantity, context, now) {
        let answered = unit.answered(request.generation, request.action);
        let answered = answered.filter(|answered| is_same(answered, &request, context));
        match answered.map(|answered| answered.next_attempt_at) {
            None => return Need::Call(Box::new(request)),
            Some(Some(at)) if at <= now => return Need::Call(Box::new(request)),
            Some(Some(at)) => earliest = earliest.into_iter().chain([at]).min(),
            // It waits for a person; what comes after it need not.
            Some(None) => {}
        }
    }
    earliest.map_or(Need::Nothing, Need::Until)
}

/// Whether the last answer was to this very request: then its delay holds. A request that was refused and has changed is
/// a new one; one that went unanswered keeps its delay whatever it asks now.
fn is_same(answered: &Answered, request: &Request, context: &Context) -> bool {
    if answered.unconfigured && context.providers.contains_key(&request.provider) {
        return false;
    }
    let asked = &answered.asked;
    let unchanged = asked.terms == request.terms && asked.mapping == request.mapping;
    unchanged || answered.answer != NotDone::Refused
}

/// The calls that bring the unit to where it should be, delays aside, in the order to make them.
fn wanted(unit: &Unit, desired: &Desired, quantity: u64, context: &Context, now: Timestamp) -> Vec<Request> {
    let ask = Ask { unit, desired, quantity };
    if let Some(asked) = unit.create_in_doubt() {
        return vec![ask.resolve_doubt(asked)];
    }
    let replaced = replaced(unit).map(|(generation, old)| {
        ask.change(generation, old, Action::Revoke, Some(Because::Revoked(RevokeReason::Replaced)))
    });
    let standing = match unit.license() {
        Some((generation, license)) => ask.for_license(generation, license, context, now),
        None => ask.for_none(context).into_iter().collect(),
    };
    replaced.into_iter().chain(standing).collect()
}

/// An older generation that still stands beside a newer one.
fn replaced(unit: &Unit) -> Option<(u32, &License)> {
    let (latest, _) = unit.license()?;
    let old = unit.licenses.range(..latest).find(|(_, license)| !license.is_revoked());
    old.map(|(generation, license)| (*generation, license))
}

struct Ask<'a> {
    unit: &'a Unit,
    desired: &'a Desired,
    quantity: u64,
}

impl Ask<'_> {
    /// Finds out what became of a create whose answer was lost; makes the license if it is still owed.
    fn resolve_doubt(&self, asked: &Asked) -> Request {
        let same = self.desired.mapping.as_ref().is_ok_and(|mapping| mapping.same_license(&asked.mapping));
        let still_owed = self.desired.terms(self.quantity).filter(|_| same && self.is_creatable());
        Request {
            may_create: still_owed.is_some(),
            terms: still_owed.unwrap_or_else(|| asked.terms.clone()),
            ..self.request(asked.generation, Action::Create, asked.mapping.clone(), asked.terms.clone())
        }
    }

    /// A unit without a license that stands.
    fn for_none(&self, context: &Context) -> Option<Request> {
        if let Some(request) = self.for_revoked(context) {
            return Some(request);
        }
        if !self.is_creatable() {
            // Reinstating may have been done before its money went again.
            let (generation, revoked) = self.unit.latest()?;
            let doubtful = self.unit.in_doubt(generation, Action::Reinstate);
            let because = Because::Revoked(RevokeReason::MoneyGone);
            return doubtful.then(|| self.change(generation, revoked, Action::Revoke, Some(because)));
        }
        let mapping = self.desired.mapping.clone().ok()?;
        let terms = self.desired.terms(self.quantity)?;
        if let Some((generation, revoked)) = self.unit.latest() {
            let reinstates = is_unmanaged(revoked, context) || reinstates(revoked, context);
            let same = revoked.adopted || revoked.mapping.as_ref().is_some_and(|old| old.same_license(&mapping));
            if reinstates && same {
                return Some(self.change(generation, revoked, Action::Reinstate, None));
            }
            return Some(self.request(generation + 1, Action::Create, mapping, terms));
        }
        Some(self.request(1, Action::Create, mapping, terms))
    }

    /// A license revoked for want of money, whose money is back while something else stops it: it waits suspended.
    fn for_revoked(&self, context: &Context) -> Option<Request> {
        let Standing::Suspended(reason) = self.desired.standing else { return None };
        let (generation, license) = self.unit.latest()?;
        let money_gone = license.standing == Standing::Revoked(RevokeReason::MoneyGone);
        let comes_back = is_unmanaged(license, context) || reinstates(license, context);
        let because = Because::Suspended(reason);
        (money_gone && comes_back).then(|| self.change(generation, license, Action::Suspend, Some(because)))
    }

    /// A unit with a license that stands.
    fn for_license(&self, generation: u32, license: &License, context: &Context, now: Timestamp) -> Vec<Request> {
        if let Standing::Revoked(reason) = self.desired.standing {
            return vec![self.change(generation, license, Action::Revoke, Some(Because::Revoked(reason)))];
        }
        let standing = self.for_standing(generation, license, context, now);
        self.for_terms(generation, license).into_iter().chain(standing).collect()
    }

    /// A license that is short, or sold as something else by now.
    fn for_terms(&self, generation: u32, license: &License) -> Option<Request> {
        let terms = self.desired.terms(self.quantity).filter(|_| self.desired.number_owed)?;
        let mapping = self.desired.mapping.as_ref().ok()?;
        let moved = !license.adopted && license.mapping.as_ref().is_some_and(|old| !old.same_license(mapping));
        if moved {
            return self.is_creatable().then(|| self.request(generation + 1, Action::Create, mapping.clone(), terms));
        }
        let differs = terms != license.terms || self.unit.in_doubt(generation, Action::SetTerms);
        differs.then(|| self.change(generation, license, Action::SetTerms, None))
    }

    /// A license that works and should not, or should and does not.
    fn for_standing(&self, generation: u32, license: &License, context: &Context, now: Timestamp) -> Option<Request> {
        let lapsed = license.terms.expires_at.is_some_and(|at| at <= now) && must_block(license, context);
        let comes_back = is_unmanaged(license, context) || reinstates(license, context);
        let doubt = |action| self.unit.in_doubt(generation, action);
        let suspend =
            |reason| Some(self.change(generation, license, Action::Suspend, Some(Because::Suspended(reason))));
        let reinstate = || Some(self.change(generation, license, Action::Reinstate, None));
        match (self.desired.standing, license.standing) {
            (Standing::Active, Standing::Active) if lapsed => suspend(SuspendReason::Lapsed),
            // It was to be stopped, and nobody knows whether it was.
            (Standing::Active, Standing::Active) if doubt(Action::Suspend) => reinstate(),
            (Standing::Active, Standing::Active | Standing::Suspended(_)) if doubt(Action::Revoke) && !comes_back => {
                let because = Because::Revoked(RevokeReason::MoneyGone);
                Some(self.change(generation, license, Action::Revoke, Some(because)))
            }
            (Standing::Active, Standing::Active) if doubt(Action::Revoke) => reinstate(),
            (Standing::Active, Standing::Suspended(_)) if !lapsed => reinstate(),
            (Standing::Suspended(reason), Standing::Active) => suspend(reason),
            (Standing::Suspended(reason), Standing::Suspended(_)) if doubt(Action::Reinstate) => suspend(reason),
            _ => None,
        }
    }

    /// Whether a license may be made for the unit now.
    fn is_creatable(&self) -> bool {
        let waived =
            self.unit.waived.is_some_and(|waived| PaidUntil::of_date(waived.through) >= self.desired.paid_until);
        self.desired.standing == Standing::Active
            && self.desired.number_owed
            && !waived
            && !self.desired.left_to_person
            && (self.desired.named.is_none() || !self.unit.licenses.is_empty())
            && self.unit.attached.is_none()
    }

    fn request(&self, generation: u32, action: Action, mapping: Mapping, terms: LicenseTerms) -> Request {
        Request {
            license: self.desired.unit.license(generation),
            unit: self.desired.unit.clone(),
            generation,
            attempt: self.unit.attempts + 1,
            action,
            may_create: action == Action::Create,
            because: None,
            customer: self.desired.customer.clone(),
            provider: mapping.provider.clone(),
            provider_id: None,
            product: mapping.product.clone(),
            terms,
            mapping,
        }
    }

    fn change(&self, generation: u32, license: &License, action: Action, because: Option<Because>) -> Request {
        let recorded = || license.mapping.clone().unwrap_or_else(|| desired::fallback(&license.provider));
        let mapping = self.desired.mapping.clone().unwrap_or_else(|_| recorded());
        let terms = match action {
            Action::SetTerms => self.desired.terms(self.quantity).unwrap_or_else(|| license.terms.clone()),
            Action::Create | Action::Suspend | Action::Reinstate | Action::Revoke => license.terms.clone(),
        };
        Request {
            license: license.id,
            provider: license.provider.clone(),
            provider_id: Some(license.provider_id.clone()),
            product: license.product.clone(),
            because,
            ..self.request(generation, action, mapping, terms)
        }
    }
}

/// Whether the engine leaves an expired license running.
fn must_block(license: &License, context: &Context) -> bool {
    context.providers.get(&license.provider).is_some_and(|engine| !engine.enforces_expiry)
}

/// Whether the engine can bring a revoked license back.
fn reinstates(license: &License, context: &Context) -> bool {
    context.providers.get(&license.provider).is_some_and(|engine| engine.reinstates_revoked)
}

/// Whether the license is at an engine that is not configured: followed in place, without calls.
pub fn is_unmanaged(license: &License, context: &Context) -> bool {
    license.adopted && !context.providers.contains_key(&license.provider)
}
