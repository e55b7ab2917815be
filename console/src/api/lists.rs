//! Customers, subscriptions and cases: lists, and one by its id.

use jiff::Timestamp;
use keyledger_projector::read::{self, CASE_KINDS, CaseFilter, CustomerFilter, PageRequest, SubscriptionFilter};
use keyledger_schemas::ids::{CaseId, UnitId};

use super::{Api, View};
use crate::model::{Case, Customer, Page, Subscription, UnmappedPrice};
use crate::page;
use crate::problem::Problem;

impl Api {
    /// Customers, newest first, each with what hangs on them.
    ///
    /// # Errors
    ///
    /// [`Problem::Invalid`] for a bad cursor; [`Problem::NotReady`] when the views cannot be reached.
    pub async fn customers(
        &self,
        view: &View,
        filter: &CustomerFilter,
        page: &PageRequest,
    ) -> Result<Page<Customer>, Problem> {
        let (views, as_of) = (self.views().await?, self.as_of(view).await?);
        let rows = views.customers(&view.within, filter, &page::request(page)?).await?;
        let mut data = Vec::with_capacity(rows.data.len());
        for row in rows.data {
            let here = read::Within { mode: row.mode, source: Some(row.source.clone()) };
            // A customer that a replay has just taken away is left out.
            data.extend(views.customer(&here, row.id.as_str(), as_of).await?.map(Customer::from));
        }
        Ok(Page { data, next: rows.next.as_deref().map(page::cursor) })
    }

    /// One customer with what hangs on them.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFound`], [`Problem::NotReady`].
    pub async fn customer(&self, view: &View, id: &str) -> Result<Customer, Problem> {
        let as_of = self.as_of(view).await?;
        let found = self.views().await?.customer(&view.within, id, as_of).await?;
        found.map(Customer::from).ok_or_else(|| Problem::not_found("customer", id))
    }

    /// Subscriptions, newest first, each with what hangs on it.
    ///
    /// # Errors
    ///
    /// As [`Api::customers`].
    pub async fn subscriptions(
        &self,
        view: &View,
        filter: &SubscriptionFilter,
        page: &PageRequest,
    ) -> Result<Page<Subscription>, Problem> {
        let (views, as_of) = (self.views().await?, self.as_of(view).await?);
        let rows = views.subscriptions(&view.within, filter, &page::request(page)?).await?;
        let mut data = Vec::with_capacity(rows.data.len());
        for row in rows.data {
            let here = read::Within { mode: row.mode, source: Some(row.source.clone()) };
            data.extend(views.subscription(&here, row.id.as_str(), as_of).await?.map(Subscription::from));
        }
        Ok(Page { data, next: rows.next.as_deref().map(page::cursor) })
    }

    /// One subscription with what hangs on it.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFound`], [`Problem::NotReady`].
    pub async fn subscription(&self, view: &View, id: &str) -> Result<Subscription, Problem> {
        let as_of = self.as_of(view).await?;
        let found = self.views().await?.subscription(&view.within, id, as_of).await?;
        found.map(Subscription::from).ok_or_else(|| Problem::not_found("subscription", id))
    }

    /// Prices that were paid for and that neither metadata nor the catalog says anything about.
    ///
    /// # Errors
    ///
    /// [`Problem::NotReady`] when the views cannot be reached.
    pub async fn unmapped_prices(&self, view: &View) -> Result<Vec<UnmappedPrice>, Problem> {
        self.source_is_known(view).await?;
        let prices = self.views().await?.unmapped_prices(&view.within).await?;
        Ok(prices.into_iter().map(UnmappedPrice::from).collect())
    }

    /// Cases, the oldest first.
    ///
    /// # Errors
    ///
    /// As [`Api::customers`]; [`Problem::Invalid`] for a kind that there is none of.
    pub async fn cases(&self, view: &View, filter: &CaseFilter, page: &PageRequest) -> Result<Page<Case>, Problem> {
        if let Some(kind) = filter.kind.as_deref().filter(|kind| !CASE_KINDS.contains(kind)) {
            let known = CASE_KINDS.map(|known| format!("`{known}`")).join(", ");
            let shown: String = kind.chars().take(64).collect();
            return Err(Problem::parameter("kind", format!("there is no kind `{shown}`; known are {known}")));
        }
        let as_of = self.as_of(view).await?;
        let rows = self.views().await?.cases(&view.within, filter, as_of, &page::request(page)?).await?;
        Ok(page::page(rows, Case::from))
    }

    /// One case.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFound`], [`Problem::NotReady`].
    pub async fn case(&self, view: &View, id: &str) -> Result<Case, Problem> {
        self.case_row(view, id).await.map(Case::from)
    }

    pub(super) async fn case_row(&self, view: &View, id: &str) -> Result<read::Case, Problem> {
        let not_found = || Problem::not_found("case", id);
        let case: CaseId = id.parse().map_err(|_| not_found())?;
        let as_of = self.as_of(view).await?;
        self.views().await?.case(&view.within, case, as_of).await?.ok_or_else(not_found)
    }

    /// What a unit is paid until; `None` for ever.
    pub(super) async fn paid_until(&self, unit: &UnitId) -> Result<Option<Timestamp>, Problem> {
        let obligations = self.views().await?.obligations(&unit.purchase).await?;
        Ok(obligations.into_iter().find(|obligation| obligation.unit == *unit).and_then(|unit| unit.paid_until))
    }
}
