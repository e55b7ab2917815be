//! Cases: the queue that a person works from.

use keyledger_schemas::ids::{CaseId, PurchaseId};

use super::{AsOf, Case, CaseFilter, CaseStatus, Page, PageRequest, Views, Within, advice, page};
use crate::db;
use crate::sql::{self, ViewsError};

macro_rules! cases_where {
    ($narrowed:literal) => {
        concat!(
            "select id, kind, status, scope, subject, purchase, item, number, customer, amount_minor, currency, \
             opened_at, opened_position, last_position, closed_at, cause, awaits_issuer, detail, attempts, \
             next_attempt_at, waived_by, waived_reason, sort_key from casefile where ",
            $narrowed,
            " and mode = $2 and (cast($3 as text) is null or source = $3) and visible_from <= $4 \
             and (cast($5 as text) is null or sort_key > $5) and (cast($6 as text) is null or kind = $6) \
             and (cast($7 as text) is null or status = $7) and (cast($8 as text) is null or purchase = $8) \
             and (cast($9 as text) is null or customer = $9) order by sort_key limit $10"
        )
    };
}

const CASES: &str = cases_where!("cast($1 as text) is null");

const CASES_BY_ID: &str = cases_where!("id = $1");

const CASES_BY_STATUS: &str = cases_where!("status = $1");

const CASES_BY_KIND: &str = cases_where!("kind = $1");

const CASES_BY_KIND_AND_STATUS: &str = cases_where!("kind = $1 and status = $7");

const CASES_BY_PURCHASE: &str = cases_where!("purchase = $1");

const CASES_BY_CUSTOMER: &str = cases_where!("customer = $1");

impl Views {
    /// Cases, the oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn cases(
        &self,
        within: &Within,
        filter: &CaseFilter,
        as_of: AsOf,
        request: &PageRequest,
    ) -> Result<Page<Case>, ViewsError> {
        let status = filter.status.map(CaseStatus::as_str);
        let (text, narrowed) = if let Some(purchase) = &filter.purchase {
            (CASES_BY_PURCHASE, Some(purchase.as_str()))
        } else if let Some(customer) = &filter.customer {
            (CASES_BY_CUSTOMER, Some(customer.as_str()))
        } else if let Some(kind) = &filter.kind {
            (if status.is_some() { CASES_BY_KIND_AND_STATUS } else { CASES_BY_KIND }, Some(kind.as_str()))
        } else if let Some(status) = status {
            (CASES_BY_STATUS, Some(status))
        } else {
            (CASES, None)
        };
        let rows = self.case_rows(text, narrowed, within, filter, as_of, request).await?;
        page(rows, request, |row| row.sort_key.clone(), |row| row.read(as_of))
    }

    /// One case. `None` when there is none with that id in this mode, or it is not one yet at that time.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn case(&self, within: &Within, id: CaseId, as_of: AsOf) -> Result<Option<Case>, ViewsError> {
        let id = id.to_string();
        let one = PageRequest { limit: 1, after: None };
        let rows = self.case_rows(CASES_BY_ID, Some(&id), within, &CaseFilter::default(), as_of, &one).await?;
        rows.into_iter().next().map(|row| row.read(as_of)).transpose()
    }

    async fn case_rows(
        &self,
        text: &'static str,
        narrowed: Option<&str>,
        within: &Within,
        filter: &CaseFilter,
        as_of: AsOf,
        request: &PageRequest,
    ) -> Result<Vec<CaseRow>, ViewsError> {
        let rows = db::query(text)
            .bind(narrowed)
            .bind(within.mode.as_str())
            .bind(within.source())
            .bind(sql::time(as_of.at))
            .bind(request.after.as_deref())
            .bind(filter.kind.as_deref())
            .bind(filter.status.map(CaseStatus::as_str))
            .bind(filter.purchase.as_deref())
            .bind(filter.customer.as_deref())
            .bind(i64::from(request.rows()) + 1)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows)
    }
}

#[derive(sqlx::FromRow)]
struct CaseRow {
    id: String,
    kind: String,
    status: String,
    scope: String,
    subject: String,
    purchase: Option<String>,
    item: Option<String>,
    number: Option<i64>,
    customer: Option<String>,
    amount_minor: Option<i64>,
    currency: Option<String>,
    opened_at: String,
    opened_position: i64,
    last_position: i64,
    closed_at: Option<String>,
    cause: Option<String>,
    awaits_issuer: i64,
    detail: Option<String>,
    attempts: i64,
    next_attempt_at: Option<String>,
    waived_by: Option<String>,
    waived_reason: Option<String>,
    sort_key: String,
}

impl CaseRow {
    fn read(self, as_of: AsOf) -> Result<Case, ViewsError> {
        let scope = sql::parse_scope(&self.scope)?;
        let status: CaseStatus = self.status.parse().map_err(|error| ViewsError::damaged("a case", error))?;
        let last_position: u64 = sql::unsigned(self.last_position);
        let behind = self.awaits_issuer != 0
            && status == CaseStatus::Open
            && as_of.issuer.is_some_and(|issuer| issuer < last_position);
        let cause = if behind { Some("issuer_behind".to_owned()) } else { self.cause };
        let id: CaseId = self.id.parse().map_err(|error| ViewsError::damaged("a case id", error))?;
        let unit = super::purchases::unit(&scope, self.purchase.as_deref(), self.item, self.number);
        Ok(Case {
            next: advice::next(&self.kind, status, cause.as_deref(), id),
            id,
            kind: self.kind,
            status,
            subject: self.subject,
            unit,
            stripe_id: self.purchase.clone(),
            purchase: self.purchase.map(|purchase| PurchaseId::new(scope.clone(), purchase)),
            scope,
            customer: self.customer.as_deref().map(Into::into),
            amount: sql::money(self.amount_minor, self.currency.as_deref()),
            opened_at: sql::parse_time(&self.opened_at)?,
            opened_position: sql::unsigned(self.opened_position),
            closed_at: sql::parse_optional_time(self.closed_at.as_deref())?,
            cause,
            awaits_issuer: self.awaits_issuer != 0,
            detail: self.detail,
            attempts: sql::unsigned(self.attempts),
            next_attempt_at: sql::parse_optional_time(self.next_attempt_at.as_deref())?,
            waived_by: self.waived_by,
            waived_reason: self.waived_reason,
        })
    }
}
