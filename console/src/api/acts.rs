//! What a person does to one license: stop it, let it work again, revoke it, give it more time, have it replaced.
//!
//! Each records one operator's event; the issuer reads it and tells the engine. What people said of a license before is read
//! from the log and not from the views, which may be behind: so a repeat is known for one at once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyledger_projector::read::{self, LicenseFilter, LicenseState, PAGE_MAX, PageRequest};
use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::event::{
    Action, Event, ExtendRequested, LicenseNotDone, NotDone, ReinstateRequested, ReissueRequested, RevokeRequested,
    SuspendRequested,
};
use keyledger_schemas::ids::{CustomerId, LicenseId, UnitId};
use serde::Deserialize;
use utoipa::ToSchema;

use super::licenses::BUILTIN;
use super::record::{Entry, Recording, occasion};
use super::repair::{TEXT_MAX, name_or, refuse, text};
use super::{Api, View};
use crate::access::{Caller, Role};
use crate::model::Repaired;
use crate::problem::{Fault, Problem};

/// How many events of a purchase are read at a time.
const CHUNK: usize = 500;

/// Does something to a license, and says why.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// Why.
    #[schema(min_length = 1, max_length = 2000)]
    pub reason: String,
    /// Who; without it, the token's name.
    #[serde(default)]
    pub name: Option<String>,
}

/// Gives a license more time than was paid for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// It works at least until this moment, RFC 3339, whatever is paid. A later request replaces this one.
    pub until: Timestamp,
    /// Why.
    #[schema(min_length = 1, max_length = 2000)]
    pub reason: String,
    /// Who; without it, the token's name.
    #[serde(default)]
    pub name: Option<String>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Suspend,
    Reinstate,
    Revoke,
    Extend(Timestamp),
    Reissue,
}

/// What people said of a unit's license so far, as far as it still holds.
#[derive(Debug, Default)]
struct Said {
    count: u64,
    suspended: Option<Entry>,
    revoked: Option<Entry>,
    reinstated: Option<Entry>,
    extended: Option<(Timestamp, Entry)>,
    reissued: BTreeMap<LicenseId, Entry>,
}

impl Api {
    /// Stops a license for now, whatever is paid, until a person reinstates it.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFound`]; [`Problem::Conflict`] when it cannot be done as things stand; [`Problem::Forbidden`];
    /// [`Problem::Invalid`]; [`Problem::IdempotencyMismatch`]; [`Problem::NotReady`].
    pub async fn suspend(
        &self,
        view: &View,
        license: &str,
        act: &Act,
        idempotency_key: Option<&str>,
        caller: &Caller,
    ) -> Result<Repaired, Problem> {
        self.act(view, license, Wish::Suspend, act, idempotency_key, caller).await
    }

    /// Takes back what a person stopped or revoked. What Stripe says still holds.
    ///
    /// # Errors
    ///
    /// As [`Api::suspend`].
    pub async fn reinstate(
        &self,
        view: &View,
        license: &str,
        act: &Act,
        idempotency_key: Option<&str>,
        caller: &Caller,
    ) -> Result<Repaired, Problem> {
        self.act(view, license, Wish::Reinstate, act, idempotency_key, caller).await
    }

    /// Stops a license for good, until a person reinstates it.
    ///
    /// # Errors
    ///
    /// As [`Api::suspend`].
    pub async fn revoke(
        &self,
        view: &View,
        license: &str,
        act: &Act,
        idempotency_key: Option<&str>,
        caller: &Caller,
    ) -> Result<Repaired, Problem> {
        self.act(view, license, Wish::Revoke, act, idempotency_key, caller).await
    }

    /// Gives a license more time than was paid for.
    ///
    /// # Errors
    ///
    /// As [`Api::suspend`].
    pub async fn extend(
        &self,
        view: &View,
        license: &str,
        extend: &Extend,
        idempotency_key: Option<&str>,
        caller: &Caller,
    ) -> Result<Repaired, Problem> {
        let act = Act { reason: extend.reason.clone(), name: extend.name.clone() };
        self.act(view, license, Wish::Extend(extend.until), &act, idempotency_key, caller).await
    }

    /// Has a license replaced by a new one, and the old one revoked.
    ///
    /// # Errors
    ///
    /// As [`Api::suspend`].
    pub async fn reissue(
        &self,
        view: &View,
        license: &str,
        act: &Act,
        idempotency_key: Option<&str>,
        caller: &Caller,
    ) -> Result<Repaired, Problem> {
        self.act(view, license, Wish::Reissue, act, idempotency_key, caller).await
    }

    async fn act(
        &self,
        view: &View,
        license: &str,
        wish: Wish,
        act: &Act,
        idempotency_key: Option<&str>,
        caller: &Caller,
    ) -> Result<Repaired, Problem> {
        caller.must_be(Role::Operator)?;
        let mut faults = Vec::new();
        let actor = name_or(act.name.as_deref(), caller, &mut faults);
        let reason = text("/reason", &act.reason, TEXT_MAX, &mut faults);
        if matches!(wish, Wish::Extend(until) if until <= self.clock.now()) {
            faults.push(Fault::pointer("/until", "must be in the future"));
        }
        refuse(faults)?;
        let row = self.license_row(view, license).await?;
        let latest = self.latest_of(view, &row.unit).await?.unwrap_or_else(|| row.clone());
        let said = self.said_of(&row.unit).await?;
        let replaceable = wish != Wish::Reissue || self.is_configured(&row).await?;
        let content = format!("{wish:?}\n{}\n{reason}\n{actor}", said.count);
        let about = row.customer.as_ref().map_or(row.purchase.object.as_str(), CustomerId::as_str);
        let recording = Recording {
            cause: format!("license\n{}\n{}", row.id, occasion(idempotency_key, &content)),
            subject: row.unit.to_string(),
            scope: row.purchase.scope.clone(),
            stream: row.purchase.stream(),
            about: about.to_owned(),
            actor,
            keyed: idempotency_key.is_some(),
            already: said.already(wish, row.id),
            refusal: refusal(wish, &row, &latest, &said).or((!replaceable).then(|| not_replaceable(&row))),
            event: wish.event(&row, reason),
        };
        Ok(Repaired::of_license(row.id, self.record(recording).await?))
    }

    /// The unit's latest license.
    async fn latest_of(&self, view: &View, unit: &UnitId) -> Result<Option<read::License>, Problem> {
        let filter = LicenseFilter { unit: Some(unit.clone()), ..LicenseFilter::default() };
        let at = view.at.unwrap_or_else(|| self.clock.now());
        let all = PageRequest { limit: PAGE_MAX, after: None };
        let rows = self.views().await?.licenses(&view.within, &filter, at, &all).await?.data;
        Ok(rows.into_iter().filter(|row| row.unit == *unit).max_by_key(|row| row.generation))
    }

    /// Whether the engine of a license can make another.
    async fn is_configured(&self, license: &read::License) -> Result<bool, Problem> {
        let Some(provider) = &license.provider else { return Ok(true) };
        let configured = self.configured_providers().await?;
        // Before the first start nothing is recorded.
        Ok(provider.as_str() == BUILTIN || configured.is_empty() || configured.contains(provider.as_str()))
    }

    async fn said_of(&self, unit: &UnitId) -> Result<Said, Problem> {
        let stream = unit.purchase.stream();
        let mut said = Said::default();
        let mut version = 0;
        loop {
            let chunk = self.log.read_stream(&stream, version, CHUNK).await?;
            let Some(last) = chunk.last() else { return Ok(said) };
            version = last.version;
            for event in &chunk {
                if let Ok(Some(own)) = Event::decode(&event.kind, &event.data) {
                    said.learn(unit, event, &own);
                }
            }
        }
    }
}

impl Said {
    fn learn(&mut self, unit: &UnitId, event: &Recorded, own: &Event) {
        let entry =
            || Entry { event: event.id.clone(), kind: event.kind.clone(), position: event.position, repeated: true };
        match own {
            Event::SuspendRequested(data) if data.unit == *unit => {
                (self.suspended, self.reinstated) = (Some(entry()), None);
            }
            Event::RevokeRequested(data) if data.unit == *unit => {
                (self.revoked, self.reinstated) = (Some(entry()), None);
            }
            Event::ReinstateRequested(data) if data.unit == *unit => {
                (self.suspended, self.revoked, self.reinstated) = (None, None, Some(entry()));
                // It may take a replacement back that was not made yet.
                self.reissued.clear();
            }
            // It waits for a person, who says so by asking again.
            Event::LicenseNotDone(data) if data.unit == *unit && is_refused_create(data) => self.reissued.clear(),
            Event::ExtendRequested(data) if data.unit == *unit => self.extended = Some((data.until, entry())),
            Event::ReissueRequested(data) if data.unit == *unit => _ = self.reissued.insert(data.license, entry()),
            _ => return,
        }
        self.count += 1;
    }

    /// The event by which it is so already, if it is.
    fn already(&self, wish: Wish, license: LicenseId) -> Option<Entry> {
        match wish {
            Wish::Suspend if self.revoked.is_some() => None,
            Wish::Suspend => self.suspended.clone(),
            Wish::Reinstate => self.reinstated.clone(),
            Wish::Revoke => self.revoked.clone(),
            Wish::Extend(until) => self.extended.clone().filter(|(before, _)| *before == until).map(|(_, entry)| entry),
            Wish::Reissue => self.reissued.get(&license).cloned(),
        }
    }
}

impl Wish {
    fn event(self, license: &read::License, reason: String) -> Event {
        let (unit, license) = (license.unit.clone(), license.id);
        match self {
            Self::Suspend => Event::SuspendRequested(SuspendRequested { unit, reason }),
            Self::Reinstate => Event::ReinstateRequested(ReinstateRequested { unit, reason }),
            Self::Revoke => Event::RevokeRequested(RevokeRequested { unit, reason }),
            Self::Extend(until) => Event::ExtendRequested(ExtendRequested { unit, until, reason }),
            Self::Reissue => Event::ReissueRequested(ReissueRequested { unit, license, reason }),
        }
    }
}

/// Whether the engine refused to make a license.
fn is_refused_create(data: &LicenseNotDone) -> bool {
    data.action == Action::Create && data.answer == NotDone::Refused
}

/// Why it cannot be done as things stand.
fn refusal(wish: Wish, license: &read::License, latest: &read::License, said: &Said) -> Option<String> {
    if license.origin == "none" {
        return Some("no license was made here, so there is nothing to change".to_owned());
    }
    if license.generation < latest.generation {
        return Some(format!("this license was replaced by {}", latest.id));
    }
    let because = license.reason.as_deref().unwrap_or("Stripe says so");
    let stopped_by_person = said.suspended.is_some() || said.revoked.is_some();
    match (wish, license.state) {
        (Wish::Reinstate, LicenseState::Suspended | LicenseState::Revoked) if !stopped_by_person => {
            Some(format!("no person stopped it ({because}): it works again by itself once that is over"))
        }
        (Wish::Reinstate, _) if !stopped_by_person => Some("it is not stopped".to_owned()),
        (Wish::Suspend | Wish::Extend(_) | Wish::Reissue, _) if said.revoked.is_some() => {
            Some("a person revoked it: reinstate it first".to_owned())
        }
        (Wish::Suspend | Wish::Extend(_) | Wish::Reissue, LicenseState::Revoked) => {
            Some(format!("it is revoked ({because})"))
        }
        (Wish::Extend(_), _) if license.perpetual => Some("it never expires, so it needs no more time".to_owned()),
        (Wish::Reissue, _) if said.suspended.is_some() => Some("a person suspended it: reinstate it first".to_owned()),
        (Wish::Reissue, LicenseState::Suspended) => {
            Some(format!("it is suspended ({because}): no other is made while it is"))
        }
        _ => None,
    }
}

fn not_replaceable(license: &read::License) -> String {
    let provider = license.provider.as_ref().map_or("-", |provider| provider.as_str());
    format!("`{provider}` is not configured, so no license can be made there: configure it, and restart keyledger")
}
