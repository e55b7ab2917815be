//! What our own events say about one unit: its licenses, the provider's last answer, what a person decided.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyledger_schemas::event::{
    Action, Event, LicenseAdopted, LicenseIssued, LicenseTerms, NotDone, RevokeReason, SealedKey, SuspendReason,
};
use keyledger_schemas::ids::{LicenseId, ProviderName, UnitId};
use keyledger_schemas::mapping::Mapping;
use serde::{Deserialize, Serialize};

/// A license's state as last confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Stored {
    /// It works.
    Active,
    /// Stopped for now.
    Suspended {
        /// Why.
        reason: SuspendReason,
        /// The expiry it had then: one that lapsed is wrongly stopped only after that moved.
        expires_at: Option<Timestamp>,
    },
    /// Stopped for good.
    Revoked {
        /// Why.
        reason: RevokeReason,
    },
}

/// One license of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitLicense {
    /// The unit's 1st, 2nd … license.
    pub generation: u32,
    /// The license.
    pub license: LicenseId,
    /// The engine that holds it.
    pub provider: ProviderName,
    /// The engine's own id.
    pub provider_id: String,
    /// Other ids that the engine has for it, by the engine's own words for them.
    #[serde(default)]
    pub also: BTreeMap<String, String>,
    /// The engine's product, where known.
    pub product: Option<String>,
    /// The key, sealed.
    pub key: Option<SealedKey>,
    /// What was last confirmed.
    pub terms: LicenseTerms,
    /// Its state.
    pub stored: Stored,
    /// What the sale meant when it was made, adopted or last changed as a whole.
    pub mapping: Option<Mapping>,
    /// `made`, `found` or `adopted`.
    pub origin: String,
    /// When.
    pub issued_at: Timestamp,
}

impl UnitLicense {
    /// Whether it was stopped although nothing but its own, unchanged expiry stops it. That is not a suspension.
    pub fn has_lapsed(&self) -> bool {
        match self.stored {
            Stored::Suspended { reason: SuspendReason::Lapsed, expires_at } => expires_at == self.terms.expires_at,
            Stored::Suspended { .. } | Stored::Active | Stored::Revoked { .. } => false,
        }
    }

    /// Whether the engine knows it by this id in the whole account. One that nobody was asked about is known by the id that
    /// named it.
    pub fn has_global_id(&self, id: &str) -> bool {
        let named = self.provider_id.strip_prefix("globalId=").unwrap_or(&self.provider_id);
        named == id || self.also.get("globalId").is_some_and(|global| global == id)
    }

    /// Whether it was stopped for good.
    pub fn is_revoked(&self) -> bool {
        matches!(self.stored, Stored::Revoked { .. })
    }

    /// Whether it works, as far as its expiry lets it.
    pub fn is_active(&self) -> bool {
        self.stored == Stored::Active || self.has_lapsed()
    }
}

/// A provider's answer other than *done*.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which.
    pub answer: NotDone,
    /// What it said.
    pub reason: String,
    /// When it is tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// The license that was to be adopted, as it was named.
    #[serde(default)]
    pub named: Option<String>,
}

/// A person closed the unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// Periods that end later open it again; `None` closes it for ever.
    pub through: Option<Timestamp>,
    /// Who.
    pub by: Option<String>,
    /// Why.
    pub reason: String,
}

/// What our own events say about a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFacts {
    /// Its licenses, by generation.
    pub licenses: BTreeMap<u32, UnitLicense>,
    /// The request that no outcome answered yet: what it asks for, and what the sale means to it.
    pub asked: Option<(Action, Mapping)>,
    /// The license that the last request names.
    #[serde(default)]
    pub named: Option<String>,
    /// Until when the last request's call may still come to light.
    #[serde(default)]
    pub wait_until: Option<Timestamp>,
    /// The last attempt that was answered. One that is in hand does not count: whoever asks for another try meanwhile has
    /// asked for that one, and may ask again once it is answered.
    pub attempts: u32,
    /// The last answer since the last request or retry, unless it was *done*.
    pub answer: Option<Answer>,
    /// A person closed it.
    pub waiver: Option<Waiver>,
    /// A person revoked its license, and nobody took that back.
    pub revoked_by_person: bool,
    /// A person stopped its license, and nobody took that back.
    #[serde(default)]
    pub suspended_by_person: bool,
    /// Until when a person wants its license to work, whatever is paid.
    #[serde(default)]
    pub extended_until: Option<Timestamp>,
    /// A person asked for another try: what another system left does not hold it any more.
    #[serde(default)]
    pub retried: bool,
    /// Licenses that nobody paid for: why, by `provider/id`.
    pub surplus: BTreeMap<String, String>,
}

impl UnitFacts {
    /// The license of the unit: its latest generation that is not revoked.
    pub fn license(&self) -> Option<&UnitLicense> {
        self.licenses.values().rev().find(|license| !license.is_revoked())
    }

    /// Takes one event of ours about this unit.
    pub fn observe(&mut self, event: &Event, actor: Option<&str>, at: Timestamp) {
        match event {
            Event::LicenseRequested(request) => {
                self.asked = Some((request.action, request.mapping.clone()));
                self.named.clone_from(&request.named);
                self.wait_until = Some(request.wait_until);
                self.answer = None;
            }
            Event::LicenseNotDone(not_done) => {
                self.asked = None;
                self.attempts = self.attempts.max(not_done.attempt);
                self.answer = Some(Answer {
                    answer: not_done.answer,
                    reason: not_done.reason.clone(),
                    next_attempt_at: not_done.next_attempt_at,
                    named: self.named.take().filter(|_| not_done.action == Action::Adopt),
                });
            }
            Event::LicenseIssued(issued) => self.issued(issued, at),
            Event::LicenseAdopted(adopted) => self.adopted(adopted, at),
            Event::LicenseExtended(extended) => self.change(extended.license, |license| {
                license.terms.paid_until = extended.paid_until;
                license.terms.expires_at = extended.expires_at;
            }),
            Event::LicenseSeatsChanged(changed) => {
                self.change(changed.license, |license| license.terms.seats = changed.seats);
            }
            Event::LicenseFeaturesChanged(changed) => self.change(changed.license, |license| {
                license.terms.features.clone_from(&changed.features);
                license.mapping = Some(changed.mapping.clone());
            }),
            Event::LicenseSuspended(suspended) => self.change(suspended.license, |license| {
                license.stored = Stored::Suspended { reason: suspended.reason, expires_at: license.terms.expires_at };
            }),
            Event::LicenseReinstated(reinstated) => {
                self.change(reinstated.license, |license| license.stored = Stored::Active);
            }
            Event::LicenseRevoked(revoked) => {
                self.change(revoked.license, |license| license.stored = Stored::Revoked { reason: revoked.reason });
            }
            Event::LicenseSurplusFound(found) => {
                self.surplus.insert(format!("{}/{}", found.provider, found.provider_id), found.reason.clone());
            }
            Event::ObligationWaived(waived) => {
                self.waiver = Some(Waiver {
                    through: waived.through,
                    by: actor.map(str::to_owned),
                    reason: waived.reason.clone(),
                });
            }
            Event::RetryRequested(_) => self.retry(at),
            Event::RevokeRequested(_) => self.revoked_by_person = true,
            Event::SuspendRequested(_) => self.suspended_by_person = true,
            Event::ReinstateRequested(_) => {
                self.revoked_by_person = false;
                self.suspended_by_person = false;
            }
            Event::ExtendRequested(extend) => self.extended_until = Some(extend.until),
            // What is owed, met and lapsed follows from money, licenses and time; what was attached, from the adoption
            // that follows, and what was reissued, from the license that does. The rest is about no unit.
            Event::ObligationOpened(_)
            | Event::ObligationMet(_)
            | Event::LicenseLapsed(_)
            | Event::AttachRequested(_)
            | Event::ReissueRequested(_)
            | Event::CustomerLinked(_)
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
    }

    /// A person asks for another try. A call in doubt stays in doubt, and is asked about once it can no longer come to
    /// light, not before.
    fn retry(&mut self, at: Timestamp) {
        let wait_until = self.wait_until;
        self.retried = true;
        self.answer = self.answer.take().filter(|answer| answer.answer == NotDone::Indeterminate);
        if let Some(answer) = &mut self.answer {
            answer.next_attempt_at = Some(wait_until.map_or(at, |until| at.max(until)));
        }
    }

    fn issued(&mut self, issued: &LicenseIssued, at: Timestamp) {
        self.answer = None;
        let mapping = self.asked.take().map(|(_, mapping)| mapping);
        let origin = if issued.found { "found" } else { "made" };
        self.licenses.insert(
            issued.generation,
            UnitLicense {
                generation: issued.generation,
                license: issued.license,
                provider: issued.provider.clone(),
                provider_id: issued.provider_id.clone(),
                also: issued.also.clone(),
                product: Some(issued.product.clone()),
                key: issued.key.clone(),
                terms: issued.terms.clone(),
                stored: Stored::Active,
                mapping,
                origin: origin.to_owned(),
                issued_at: at,
            },
        );
    }

    fn adopted(&mut self, adopted: &LicenseAdopted, at: Timestamp) {
        self.answer = None;
        self.asked = None;
        self.licenses.insert(
            adopted.generation,
            UnitLicense {
                generation: adopted.generation,
                license: adopted.license,
                provider: adopted.provider.clone(),
                provider_id: adopted.provider_id.clone(),
                also: adopted.also.clone(),
                product: adopted.product.clone().or_else(|| adopted.mapping.as_ref().map(|of| of.product.clone())),
                key: adopted.key.clone(),
                terms: adopted.terms.clone(),
                stored: Stored::Active,
                mapping: adopted.mapping.clone(),
                origin: "adopted".to_owned(),
                issued_at: at,
            },
        );
    }

    /// Takes an outcome: the license is changed, and what was asked is done.
    fn change(&mut self, id: LicenseId, change: impl FnOnce(&mut UnitLicense)) {
        self.answer = None;
        let asked = self.asked.take();
        if let Some(license) = self.licenses.values_mut().find(|license| license.license == id) {
            if let Some((Action::SetTerms, mapping)) = asked {
                license.mapping = Some(mapping);
            }
            change(license);
        }
    }
}

/// The unit that an event of ours is about, if it is about one.
pub fn unit_of(event: &Event) -> Option<&UnitId> {
    match event {
        Event::ObligationOpened(data) => Some(&data.unit),
        Event::ObligationMet(data) => Some(&data.unit),
        Event::ObligationWaived(data) => Some(&data.unit),
        Event::LicenseRequested(data) => Some(&data.unit),
        Event::LicenseNotDone(data) => Some(&data.unit),
        Event::LicenseIssued(data) => Some(&data.unit),
        Event::LicenseAdopted(data) => Some(&data.unit),
        Event::LicenseExtended(data) => Some(&data.unit),
        Event::LicenseSeatsChanged(data) => Some(&data.unit),
        Event::LicenseFeaturesChanged(data) => Some(&data.unit),
        Event::LicenseSuspended(data) => Some(&data.unit),
        Event::LicenseReinstated(data) => Some(&data.unit),
        Event::LicenseRevoked(data) => Some(&data.unit),
        Event::LicenseLapsed(data) => Some(&data.unit),
        Event::LicenseSurplusFound(data) => Some(&data.unit),
        Event::RetryRequested(data) => Some(&data.unit),
        Event::RevokeRequested(data) => Some(&data.unit),
        Event::AttachRequested(data) => Some(&data.unit),
        Event::SuspendRequested(data) => Some(&data.unit),
        Event::ReinstateRequested(data) => Some(&data.unit),
        Event::ExtendRequested(data) => Some(&data.unit),
        Event::ReissueRequested(data) => Some(&data.unit),
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
        | Event::MirrorMended(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keyledger_schemas::event::{LicenseNotDone, LicenseRequested, RetryRequested};
    use keyledger_schemas::ids::{Mode, PurchaseId, Scope, SourceName};
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A unit whose first call was answered so, and may come to light until the 20th second.
    fn answered(answer: NotDone) -> (UnitFacts, UnitId) {
        let (request, not_done) = attempt(1, answer);
        let mut facts = UnitFacts::default();
        facts.observe(&Event::LicenseRequested(request), None, at(0));
        let unit = not_done.unit.clone();
        facts.observe(&Event::LicenseNotDone(not_done), None, at(5));
        (facts, unit)
    }

    fn attempt(attempt: u32, answer: NotDone) -> (LicenseRequested, LicenseNotDone) {
        let unit = PurchaseId::new(Scope::new(SourceName::default(), Mode::Live), "sub_1").unit("si_1", 1);
        let (license, action) = (unit.license(1), Action::Create);
        let terms = LicenseTerms { paid_until: None, expires_at: None, seats: 1, features: BTreeSet::new() };
        let mapping = serde_json::from_value(json!({
            "provider": "stub", "product": "pro", "seats": "quantity", "units": 1, "term": "subscription",
            "features": [], "grace": "3d",
        }));
        let request = LicenseRequested {
            unit: unit.clone(),
            generation: 1,
            license,
            attempt,
            action,
            terms,
            mapping: mapping.unwrap(),
            named: None,
            wait_until: at(20),
        };
        let not_done = LicenseNotDone {
            unit,
            license,
            attempt,
            action,
            answer,
            reason: "lost".to_owned(),
            next_attempt_at: Some(at(60)),
            nothing_found: false,
            unconfigured: false,
        };
        (request, not_done)
    }

    fn retried(answer: NotDone, second: i64) -> Option<Answer> {
        let (mut facts, unit) = answered(answer);
        facts.observe(&Event::RetryRequested(RetryRequested { unit }), None, at(second));
        facts.answer
    }

    #[test]
    fn a_retry_in_doubt_is_asked_about_once_the_call_can_no_longer_come_to_light() {
        for (second, next) in [(6, 20), (30, 30)] {
            let answer = retried(NotDone::Indeterminate, second).unwrap();
            assert_eq!((answer.answer, answer.next_attempt_at), (NotDone::Indeterminate, Some(at(next))));
        }
    }

    #[test]
    fn an_attempt_counts_once_it_is_answered() {
        let (mut facts, unit) = answered(NotDone::Refused);
        facts.observe(&Event::RetryRequested(RetryRequested { unit }), None, at(6));
        let (request, not_done) = attempt(2, NotDone::Refused);
        facts.observe(&Event::LicenseRequested(request), None, at(7));
        assert_eq!(facts.attempts, 1, "a retry that is asked for now is the one in hand");
        facts.observe(&Event::LicenseNotDone(not_done), None, at(8));
        assert_eq!(facts.attempts, 2, "and another may be asked for");
    }

    #[test]
    fn a_retry_of_a_definite_no_forgets_it() {
        assert_eq!(retried(NotDone::Refused, 6), None);
        assert_eq!(retried(NotDone::Unavailable, 6), None);
    }
}
