//! What must be done about a purchase now: derived from state, whatever message woke us.

use jiff::Timestamp;
use keyledger_schemas::event::{Action, LicenseTerms, NotDone, RevokeReason, SuspendReason};
use keyledger_schemas::ids::{CustomerId, LicenseId, ProviderName, UnitId};
use keyledger_schemas::mapping::Mapping;

use super::desired::{self, Context, Desired, HeldBack, PaidUntil};
use super::state::{Answered, Asked, License, Named, Purchase, Standing, Unit};

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
    /// Whether a create may make a license, or an adoption take one, or only look for one of an earlier call.
    pub may_create: bool,
    /// The license to adopt.
    pub named: Option<Named>,
    /// No other unit of the purchase is sold as this product: whatever the engine holds for the sale is this unit's.
    pub alone: bool,
    /// Why a license is stopped, where it is.
    pub because: Option<Because>,
    /// Whose it is, where known.
    pub customer: Option<CustomerId>,
    /// `pi_…` of a one-off sale, where a link says.
    pub payment: Option<String>,
    /// Which engine.
    pub provider: ProviderName,
    /// The engine's own id, except for a create and an adoption.
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
    let named = request.named.as_ref().map(|named| &named.text);
    let unchanged = asked.terms == request.terms && asked.mapping == request.mapping && asked.named.as_ref() == named;
    unchanged || answered.answer != NotDone::Refused
}

/// The calls that bring the unit to where it should be, delays aside, in the order to make them.
fn wanted(unit: &Unit, desired: &Desired, quantity: u64, context: &Context, now: Timestamp) -> Vec<Request> {
    let ask = Ask { unit, desired, quantity };
    if let Some(asked) = unit.making_in_doubt() {
        return vec![ask.resolve_doubt(asked, context)];
    }
    let adopted = ask.for_named(context);
    // What was adopted without asking its engine cannot be addressed there before it is looked up.
    if adopted.is_some() && unit.latest().is_some_and(|(_, license)| license.is_unchecked()) {
        return adopted.into_iter().collect();
    }
    let replaced = replaced(unit).map(|(generation, old)| {
        ask.change(generation, old, Action::Revoke, Some(Because::Revoked(RevokeReason::Replaced)))
    });
    let standing = match unit.license() {
        Some((generation, license)) => ask.for_license(generation, license, context, now),
        None => ask.for_none(context).into_iter().collect(),
    };
    adopted.into_iter().chain(replaced).chain(standing).collect()
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
    /// Finds out what became of a create or an adoption whose answer was lost; does it if it is still wanted.
    fn resolve_doubt(&self, asked: &Asked, context: &Context) -> Request {
        if let (Action::Adopt, Some(text)) = (asked.action, &asked.named) {
            let again = self.for_named(context).filter(|request| {
                request.generation == asked.generation
                    && request.named.as_ref().is_some_and(|named| named.text == *text)
            });
            return again.unwrap_or_else(|| Request {
                may_create: false,
                named: Some(Named { text: text.clone(), by: OPERATOR.to_owned() }),
                ..self.request(asked.generation, Action::Adopt, asked.mapping.clone(), asked.terms.clone())
            });
        }
        let same = self.desired.mapping.as_ref().is_ok_and(|mapping| mapping.same_license(&asked.mapping));
        let still_owed = self.desired.terms(self.quantity).filter(|_| same && self.is_creatable());
        Request {
            may_create: still_owed.is_some(),
            terms: still_owed.unwrap_or_else(|| asked.terms.clone()),
            ..self.request(asked.generation, Action::Create, asked.mapping.clone(), asked.terms.clone())
        }
    }

    /// A license at an engine we can ask, that a person, the metadata, or an adoption without calls named for the unit.
    fn for_named(&self, context: &Context) -> Option<Request> {
        let configured = |provider: &ProviderName| context.providers.contains_key(provider);
        let stands = |license: &License| !license.is_revoked() || self.is_creatable();
        if let Some((generation, license)) = self.unit.latest().filter(|(_, license)| license.is_unchecked())
            && self.unit.attached.is_none()
            && stands(license)
        {
            let own = || Named { text: license.provider_id.clone(), by: OPERATOR.to_owned() };
            let named = license.named.clone().unwrap_or_else(own);
            let terms = self.desired.terms(self.quantity).unwrap_or_else(|| license.terms.clone());
            return configured(&license.provider).then(|| self.adopt(generation, &license.provider, named, terms));
        }
        let attached = self.unit.attached.as_ref().map(|attached| {
            (attached.provider.clone(), Named { text: attached.provider_id.clone(), by: OPERATOR.to_owned() })
        });
        let by_metadata = || {
            let named = self.desired.named.as_ref().filter(|_| self.unit.licenses.is_empty())?;
            Some((named.provider.clone(), Named { text: named.text(), by: named.key.to_owned() }))
        };
        let (provider, named) = attached.or_else(by_metadata).filter(|(provider, _)| configured(provider))?;
        let revoked = matches!(self.desired.standing, Standing::Revoked(_));
        if !self.desired.number_owed || revoked || self.desired.held == Some(HeldBack::NoEmail) {
            return None;
        }
        let terms = self.desired.terms(self.quantity)?;
        let generation = self.unit.latest().map_or(1, |(generation, _)| generation + 1);
        Some(self.adopt(generation, &provider, named, terms))
    }

    /// An adoption is of the product that the sale means at that engine; where it means none there, the call is not sent.
    fn adopt(&self, generation: u32, provider: &ProviderName, named: Named, terms: LicenseTerms) -> Request {
        let here = |mapping: &&Mapping| mapping.provider == *provider && !mapping.product.is_empty();
        let kept = self.desired.mapping.as_ref().ok();
        let mapping = kept.filter(here).or(self.desired.today.as_ref().filter(here)).cloned();
        let grace = kept.map_or_else(|| desired::fallback(provider).grace, |kept| kept.grace);
        let mapping = mapping.unwrap_or_else(|| Mapping { grace, ..desired::fallback(provider) });
        Request { named: Some(named), may_create: true, ..self.request(generation, Action::Adopt, mapping, terms) }
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
            let same =
                is_fixed(revoked, context) || revoked.mapping.as_ref().is_some_and(|old| old.same_license(&mapping));
            if reinstates && same && self.unit.reissue != Some(revoked.id) {
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
        self.for_terms(generation, license, context).into_iter().chain(standing).collect()
    }

    /// A license that is short, sold as something else by now, or to be replaced because a person says so.
    fn for_terms(&self, generation: u32, license: &License, context: &Context) -> Vec<Request> {
        let terms = self.desired.terms(self.quantity).filter(|_| self.desired.number_owed);
        let (Some(terms), Ok(mapping)) = (terms, &self.desired.mapping) else { return Vec::new() };
        let recorded = license.mapping.as_ref();
        let moved = !is_fixed(license, context) && recorded.is_some_and(|old| !old.same_license(mapping));
        let next = (moved || self.unit.reissue == Some(license.id)) && self.is_creatable();
        let next = next.then(|| self.request(generation + 1, Action::Create, mapping.clone(), terms.clone()));
        if moved {
            return next.into_iter().collect();
        }
        let released = recorded.is_some_and(|old| old.max_release != mapping.max_release);
        let differs = terms != license.terms || released || self.unit.in_doubt(generation, Action::SetTerms);
        let kept = differs.then(|| self.change(generation, license, Action::SetTerms, None));
        next.into_iter().chain(kept).collect()
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
            && self.desired.held.is_none()
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
            named: None,
            alone: self.desired.alone,
            because: None,
            customer: self.desired.customer.clone(),
            payment: self.desired.payment.as_ref().map(|payment| payment.as_str().to_owned()),
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
            Action::Create | Action::Adopt | Action::Suspend | Action::Reinstate | Action::Revoke => {
                license.terms.clone()
            }
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

/// What a person named.
const OPERATOR: &str = "operator";

/// Whether the license stays where it is, whatever the sale means: its engine was never asked about it, or cannot be.
fn is_fixed(license: &License, context: &Context) -> bool {
    license.is_unchecked() || is_unmanaged(license, context)
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
