//! Cases of no purchase: each is about an object that waits, an hour of refused bodies, the log's mirror, or something that
//! Stripe refused us.

use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::event::{
    BodyRefused, CaseWaived, FetchRefused, MetadataRefused, MetadataWritten, MirrorDiverged, MirrorMended,
};
use keyledger_schemas::ids::{CaseId, Scope};

use super::{Fold, scope_set};
use crate::casebook::{self, CaseRow};
use crate::facts::Waiver;
use crate::sql::ViewsError;
use crate::store;

impl Fold<'_> {
    pub(super) async fn body_refused(&mut self, refused: &BodyRefused, event: &Recorded) -> Result<(), ViewsError> {
        let subject = format!("{}/{}", refused.source, refused.hour);
        let id = CaseId::derive("body_refused", &subject);
        let largest = refused.largest_bytes.map(|bytes| format!(", the largest of {bytes} bytes")).unwrap_or_default();
        let detail = format!("{} bodies over {} bytes{largest}", refused.count, refused.limit_bytes);
        let kept = self.loose_case(id, &event.scope).await?;
        let row = casebook::body_refused(kept, &subject, detail, event);
        self.keep_loose(id, event.scope.clone(), Some(row));
        Ok(())
    }

    pub(super) async fn mirror_diverged(
        &mut self,
        diverged: &MirrorDiverged,
        event: &Recorded,
    ) -> Result<(), ViewsError> {
        let id = CaseId::derive("mirror_diverged", &diverged.stream);
        let kept = self.loose_case(id, &event.scope).await?;
        let row = casebook::mirror_diverged(kept, diverged, event);
        self.keep_loose(id, event.scope.clone(), Some(row));
        Ok(())
    }

    pub(super) async fn mirror_mended(&mut self, mended: &MirrorMended, event: &Recorded) -> Result<(), ViewsError> {
        let id = CaseId::derive("mirror_diverged", &mended.stream);
        if let Some(kept) = self.loose_case(id, &event.scope).await? {
            self.keep_loose(id, event.scope.clone(), Some(casebook::settled(kept, event)));
        }
        Ok(())
    }

    pub(super) async fn metadata_refused(
        &mut self,
        refused: &MetadataRefused,
        event: &Recorded,
    ) -> Result<(), ViewsError> {
        let keys: Vec<&str> = refused.values.keys().map(String::as_str).collect();
        let detail = format!("{} was not written to {}: {}", keys.join(", "), refused.object, refused.reason);
        self.refused("metadata_refused", &refused.object, detail, event).await
    }

    /// What was refused once and taken later is settled.
    pub(super) async fn metadata_written(
        &mut self,
        written: &MetadataWritten,
        event: &Recorded,
    ) -> Result<(), ViewsError> {
        let id = CaseId::derive("metadata_refused", &format!("{}:{}", event.scope, written.object));
        if let Some(kept) = self.loose_case(id, &event.scope).await? {
            self.keep_loose(id, event.scope.clone(), Some(casebook::settled(kept, event)));
        }
        Ok(())
    }

    pub(super) async fn fetch_refused(&mut self, refused: &FetchRefused, event: &Recorded) -> Result<(), ViewsError> {
        let detail = format!("{}: {}", refused.path, refused.reason);
        self.refused("fetch_refused", &refused.path, detail, event).await
    }

    async fn refused(
        &mut self,
        kind: &'static str,
        about: &str,
        detail: String,
        event: &Recorded,
    ) -> Result<(), ViewsError> {
        let subject = format!("{}:{about}", event.scope);
        let id = CaseId::derive(kind, &subject);
        let kept = self.loose_case(id, &event.scope).await?;
        let row = casebook::refused(kept, kind, &subject, detail, event);
        self.keep_loose(id, event.scope.clone(), Some(row));
        Ok(())
    }

    pub(super) async fn case_waived(&mut self, waived: &CaseWaived, event: &Recorded) -> Result<(), ViewsError> {
        let decision = Waiver { through: None, by: event.actor.clone(), reason: waived.reason.clone() };
        if let Some((scope, purchase)) = self.place_of_case(waived.case).await? {
            let set = scope_set(&mut self.scopes, &scope);
            let held = set.open(self.db, &purchase, event).await?;
            if let Some(case) = held.cases.get_mut(&waived.case) {
                waive(case, &decision, event);
                set.case_changed(&purchase, waived.case);
            }
            return Ok(());
        }
        if let Some(mut case) = self.loose_case(waived.case, &event.scope).await? {
            waive(&mut case, &decision, event);
            let scope = self.loose.get(&waived.case).map_or_else(|| event.scope.clone(), |(scope, _)| scope.clone());
            self.keep_loose(waived.case, scope, Some(case));
        }
        Ok(())
    }

    /// The scope and purchase of a case that has one: in memory, else in the rows.
    async fn place_of_case(&mut self, id: CaseId) -> Result<Option<(Scope, String)>, ViewsError> {
        for set in self.scopes.values() {
            if let Some((purchase, _)) = set.purchases.iter().find(|(_, held)| held.cases.contains_key(&id)) {
                return Ok(Some((set.scope.clone(), purchase.clone())));
            }
        }
        match store::place_of_case(self.db, id).await? {
            Some((scope, Some(purchase))) => Ok(Some((crate::sql::parse_scope(&scope)?, purchase))),
            _ => Ok(None),
        }
    }

    pub(super) async fn loose_case(&mut self, id: CaseId, scope: &Scope) -> Result<Option<CaseRow>, ViewsError> {
        if !self.loose.contains_key(&id) {
            let scope = match store::place_of_case(self.db, id).await? {
                Some((scope, _)) => crate::sql::parse_scope(&scope)?,
                None => scope.clone(),
            };
            let row = store::loose_case(self.db, id).await?;
            self.loose.insert(id, (scope, row));
        }
        Ok(self.loose.get(&id).and_then(|(_, row)| row.clone()))
    }

    pub(super) fn keep_loose(&mut self, id: CaseId, scope: Scope, row: Option<CaseRow>) {
        self.loose.insert(id, (scope, row));
        self.dirty_loose.insert(id);
    }
}

/// A case about an open unit is closed by waiving the unit; every other one by waiving the case.
fn waive(case: &mut CaseRow, waiver: &Waiver, event: &Recorded) {
    if !case.is_about_obligation() && case.status == casebook::Status::Open {
        case.waive(waiver, event.occurred_at);
        case.last_position = event.position;
    }
}
