//! Subscriptions as Stripe last showed them, and one with what hangs on it.

use keyledger_schemas::ids::{PurchaseId, Scope};
use keyledger_schemas::stripe::fact;

use super::{
    AsOf, CaseFilter, LicenseFilter, PAGE_MAX, Page, PageRequest, Subscription, SubscriptionDetail, SubscriptionFilter,
    SubscriptionItem, Views, Within, page,
};
use crate::db;
use crate::facts::ObjectFacts;
use crate::sql::{self, ViewsError};
use crate::store::ObjectDocument;

/// `for_ever` and `paid_until` come from its units: for ever wins.
macro_rules! subscriptions_where {
    ($narrowed:literal, $order:literal) => {
        subscriptions_where!("o.kind", $narrowed, $order)
    };
    ($kind:literal, $narrowed:literal, $order:literal) => {
        concat!(
            "select o.scope, o.id, o.customer, o.status, o.facts, o.sort_key, \
             (select max(paid_until) from obligation b where b.scope = o.scope and b.purchase = o.id) as paid_until, \
             (select count(*) from obligation b where b.scope = o.scope and b.purchase = o.id \
              and b.has_counting = 1 and b.paid_until is null) as for_ever \
             from object o where ",
            $kind,
            " = 'subscription' and ",
            $narrowed,
            " and o.mode = $1 and (cast($2 as text) is null or o.source = $2) ",
            $order
        )
    };
}

const SUBSCRIPTIONS: &str = subscriptions_where!(
    "(cast($3 as text) is null or o.sort_key < $3) and (cast($4 as text) is null or o.customer = $4) \
     and (cast($5 as text) is null or o.status = $5)",
    "order by o.sort_key desc limit $6"
);

const SUBSCRIPTIONS_BY_STATUS: &str = subscriptions_where!(
    "(cast($3 as text) is null or o.sort_key < $3) and (cast($4 as text) is null or o.customer = $4) and o.status = $5",
    "order by o.sort_key desc limit $6"
);

/// The kind is kept from the planner, which would read all subscriptions in their order to find one customer's.
const SUBSCRIPTIONS_BY_CUSTOMER: &str = subscriptions_where!(
    "coalesce(o.kind, '')",
    "(cast($3 as text) is null or o.sort_key < $3) and o.customer = $4 and (cast($5 as text) is null or o.status = $5)",
    "order by o.sort_key desc limit $6"
);

const SUBSCRIPTION: &str = subscriptions_where!("o.id = $3", "order by o.scope limit 1");

impl Views {
    /// Subscriptions, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn subscriptions(
        &self,
        within: &Within,
        filter: &SubscriptionFilter,
        request: &PageRequest,
    ) -> Result<Page<Subscription>, ViewsError> {
        let text = match (&filter.customer, &filter.status) {
            (Some(_), _) => SUBSCRIPTIONS_BY_CUSTOMER,
            (None, Some(_)) => SUBSCRIPTIONS_BY_STATUS,
            (None, None) => SUBSCRIPTIONS,
        };
        let rows: Vec<SubscriptionRow> = db::query(text)
            .bind(within.mode.as_str())
            .bind(within.source())
            .bind(request.after.as_deref())
            .bind(filter.customer.as_deref())
            .bind(filter.status.as_deref())
            .bind(i64::from(request.rows()) + 1)
            .fetch_all(&self.pool)
            .await?;
        page(rows, request, |row| row.sort_key.clone(), |row| Ok(row.read()?.1))
    }

    /// One subscription with what hangs on it, as of a time. `None` when there is none with that id.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn subscription(
        &self,
        within: &Within,
        id: &str,
        as_of: AsOf,
    ) -> Result<Option<SubscriptionDetail>, ViewsError> {
        let row: Option<SubscriptionRow> = db::query(SUBSCRIPTION)
            .bind(within.mode.as_str())
            .bind(within.source())
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (scope, subscription) = row.read()?;
        let here = Within { mode: scope.mode, source: Some(scope.source.clone()) };
        let all = PageRequest { limit: PAGE_MAX, after: None };
        let purchase = PurchaseId::new(scope, id);
        let licenses = LicenseFilter { purchase: Some(id.to_owned()), ..LicenseFilter::default() };
        let cases = CaseFilter { purchase: Some(id.to_owned()), ..CaseFilter::default() };
        let mut cases = self.cases(&here, &cases, as_of, &all).await?.data;
        cases.sort_by_key(|case| case.status);
        Ok(Some(SubscriptionDetail {
            obligations: self.obligations(&purchase).await?,
            licenses: self.licenses(&here, &licenses, as_of.at, &all).await?.data,
            payments: self.payments_of_purchase(&purchase).await?,
            cases,
            subscription,
        }))
    }
}

#[derive(sqlx::FromRow)]
struct SubscriptionRow {
    scope: String,
    id: String,
    customer: Option<String>,
    status: Option<String>,
    facts: String,
    sort_key: String,
    paid_until: Option<String>,
    for_ever: i64,
}

impl SubscriptionRow {
    fn read(self) -> Result<(Scope, Subscription), ViewsError> {
        let scope = sql::parse_scope(&self.scope)?;
        let document: ObjectDocument = sql::parse_json("a subscription", &self.facts)?;
        let ObjectFacts::Subscription(facts) = document.facts else {
            return Err(ViewsError::damaged("a subscription", "its document is of another kind"));
        };
        let current = facts.register.current().or_else(|| facts.register.skipped());
        let items = current.map(|snapshot| snapshot.items.as_slice()).unwrap_or_default();
        let paid_until = self.paid_until.filter(|_| self.for_ever == 0);
        let subscription = Subscription {
            id: self.id.as_str().into(),
            source: scope.source.clone(),
            account: scope.account.clone(),
            mode: scope.mode,
            status: self.status,
            customer: self.customer.as_deref().map(Into::into),
            items: items.iter().map(item).collect(),
            paid_until: sql::parse_optional_time(paid_until.as_deref())?,
            cancel_at: current.and_then(|snapshot| snapshot.cancel_at),
            cancel_at_period_end: current.is_some_and(|snapshot| snapshot.cancel_at_period_end),
            ended_at: current.and_then(fact::SubscriptionSeen::ended),
            trial_end: current.and_then(|snapshot| snapshot.trial_end),
            metadata: current.map(|snapshot| snapshot.metadata.clone()).unwrap_or_default(),
        };
        Ok((scope, subscription))
    }
}

fn item(item: &fact::SubscriptionItem) -> SubscriptionItem {
    SubscriptionItem {
        id: item.id.to_string(),
        price: item.price.as_ref().map(|price| price.id.to_string()),
        product: item.price.as_ref().and_then(|price| price.product.as_ref()).map(ToString::to_string),
        quantity: item.quantity,
        period_end: item.period_end,
    }
}
