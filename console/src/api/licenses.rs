//! Licenses: lists, one by its id, and its signed file.

use keyledger_engine::file::{self, Payload};
use keyledger_projector::read::{self, LicenseFilter, LicenseState, PageRequest};
use keyledger_schemas::ids::LicenseId;

use super::{Api, View};
use crate::access::Caller;
use crate::model::{License, Page, masked};
use crate::page;
use crate::problem::Problem;

/// The engine whose licenses keyledger itself makes, and signs files for.
pub(super) const BUILTIN: &str = "builtin";

impl Api {
    /// Licenses, newest first. With `reveal` their keys are shown in full to that caller, and the log says so.
    ///
    /// # Errors
    ///
    /// [`Problem::Invalid`] for a bad cursor; [`Problem::Forbidden`] to reveal without the role;
    /// [`Problem::NotReady`] when the log or the views cannot be reached.
    pub async fn licenses(
        &self,
        view: &View,
        filter: &LicenseFilter,
        page: &PageRequest,
        reveal: Option<&Caller>,
    ) -> Result<Page<License>, Problem> {
        let at = self.as_of(view).await?.at;
        let rows = self.views().await?.licenses(&view.within, filter, at, &page::request(page)?).await?;
        let next = rows.next.as_deref().map(page::cursor);
        Ok(Page { data: self.shown(rows.data, reveal).await?, next })
    }

    /// One license.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFound`]; otherwise as [`Api::licenses`].
    pub async fn license(&self, view: &View, id: &str, reveal: Option<&Caller>) -> Result<License, Problem> {
        let license = self.license_row(view, id).await?;
        let mut shown = self.shown(vec![license], reveal).await?;
        shown.pop().ok_or_else(|| Problem::not_found("license", id))
    }

    /// The license's signed file, which verifies without a network.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFound`]; [`Problem::Conflict`] for a license that another engine holds, or that is suspended or
    /// revoked: a file cannot be taken back.
    pub async fn license_file(&self, view: &View, id: &str) -> Result<String, Problem> {
        let license = self.license_row(view, id).await?;
        let payload = self.payload(license).map_err(Problem::Conflict)?;
        Ok(file::sign(&self.keys, &payload))
    }

    fn payload(&self, license: read::License) -> Result<Payload, String> {
        let (Some(provider), Some(product), Some(seats)) = (license.provider, license.product, license.seats) else {
            return Err("no license was made here, so there is no file".to_owned());
        };
        if provider.as_str() != BUILTIN {
            return Err(format!("this license is held by `{provider}`; files are signed for `{BUILTIN}` only"));
        }
        match license.state {
            LicenseState::Suspended | LicenseState::Revoked => {
                return Err(format!("the license is {}", license.state.as_str()));
            }
            LicenseState::Active | LicenseState::Grace | LicenseState::Expired => {}
        }
        Ok(Payload {
            expires_at: license.expires_at,
            features: license.features,
            issued_at: self.clock.now(),
            key: license.key.as_ref().map(|sealed| masked(sealed, Some(BUILTIN))).unwrap_or_default(),
            license: license.id,
            paid_until: license.paid_until,
            product,
            purchase: license.purchase.to_string(),
            seats,
        })
    }

    pub(super) async fn license_row(&self, view: &View, id: &str) -> Result<read::License, Problem> {
        let not_found = || Problem::not_found("license", id);
        let id: LicenseId = id.parse().map_err(|_| not_found())?;
        let filter = LicenseFilter { id: Some(id), ..LicenseFilter::default() };
        let at = view.at.unwrap_or_else(|| self.clock.now());
        let one = PageRequest { limit: 1, after: None };
        self.views().await?.licenses(&view.within, &filter, at, &one).await?.data.pop().ok_or_else(not_found)
    }

    async fn shown(&self, rows: Vec<read::License>, reveal: Option<&Caller>) -> Result<Vec<License>, Problem> {
        let Some(caller) = reveal else { return Ok(rows.into_iter().map(License::from).collect()) };
        let keys = self.reveal(&rows, caller).await?;
        let mut shown = Vec::with_capacity(rows.len());
        for (row, key) in rows.into_iter().zip(keys) {
            let masked = License::from(row);
            let key = key.map(|key| key.expose().to_owned()).or(masked.key.clone());
            shown.push(License { key, ..masked });
        }
        Ok(shown)
    }
}
