//! Customers, and one customer with all that hangs on them.

use jiff::Timestamp;
use keyledger_schemas::ids::{Mode, Scope};

use super::{
    AsOf, CaseFilter, CrossLink, Customer, CustomerDetail, CustomerFilter, License, LicenseFilter, PAGE_MAX, Page,
    PageRequest, ProviderCustomer, SubscriptionFilter, Views, Within, page,
};
use crate::db;
use crate::facts::CustomerFacts;
use crate::sql::{self, ViewsError};

macro_rules! customers_where {
    ($narrowed:literal) => {
        concat!(
            "select scope, id, name, email, deleted_at, facts, sort_key from customer where ",
            $narrowed,
            " and mode = $2 and (cast($3 as text) is null or source = $3) \
             and (cast($4 as text) is null or sort_key < $4) \
             and (cast($5 as text) is null or (name_folded >= $5 and name_folded < $6)) \
             order by sort_key desc limit $7"
        )
    };
}

const CUSTOMERS: &str = customers_where!("cast($1 as text) is null");

const CUSTOMERS_BY_EMAIL: &str = customers_where!(
    "((scope, id) in (select scope, object from contact where email = $1 and object_kind = 'customer') \
     or (scope, id) in (select o.scope, o.customer from contact c join object o \
     on o.scope = c.scope and o.kind = c.object_kind and o.id = c.object where c.email = $1 and o.customer is not null))"
);

const CUSTOMERS_BY_NAME: &str = customers_where!(
    "(scope, id) in (select scope, id from customer where name_folded >= $5 and name_folded < $6) \
     and cast($1 as text) is null"
);

const CALLED_SO: &str = "select count(*) from (select 1 as one from customer \
     where name_folded >= $1 and name_folded < $2 limit $3) as called_so";

/// Up to so many customers are looked up by their name and then put in order. Of more, the first page is found soon by
/// looking at all in order.
const CALLED_SO_MAX: i64 = 1000;

const CUSTOMER: &str = "select scope, id, name, email, deleted_at, facts, sort_key from customer \
     where id = $1 and mode = $2 and (cast($3 as text) is null or source = $3) order by scope limit 1";

const PROVIDER_CUSTOMERS: &str = "select provider, id, made, shared, linked_at, synced_at, refused \
     from provider_customer where scope = $1 and customer = $2 order by provider";

const SHARED_WITH: &str = "select customer from provider_customer \
     where id = $1 and provider = $2 and mode = $3 and not (scope = $4 and customer = $5) order by scope, customer limit 50";

impl Views {
    /// Customers, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn customers(
        &self,
        within: &Within,
        filter: &CustomerFilter,
        request: &PageRequest,
    ) -> Result<Page<Customer>, ViewsError> {
        let email = filter.email.as_deref().map(sql::normalize_email);
        let prefix = filter.name.as_deref().map(sql::fold_name);
        let text = match (&email, &prefix) {
            (Some(_), _) => CUSTOMERS_BY_EMAIL,
            (None, Some(prefix)) if self.are_few(prefix).await? => CUSTOMERS_BY_NAME,
            (None, _) => CUSTOMERS,
        };
        let rows: Vec<CustomerRow> = db::query(text)
            .bind(email)
            .bind(within.mode.as_str())
            .bind(within.source())
            .bind(request.after.as_deref())
            .bind(prefix.as_deref())
            .bind(prefix.as_deref().map(after_prefix))
            .bind(i64::from(request.rows()) + 1)
            .fetch_all(&self.pool)
            .await?;
        page(rows, request, |row| row.sort_key.clone(), |row| Ok(row.read()?.1))
    }

    /// One customer with what hangs on them, as of a time. `None` when nobody is known by that id.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn customer(&self, within: &Within, id: &str, as_of: AsOf) -> Result<Option<CustomerDetail>, ViewsError> {
        let row: Option<CustomerRow> = db::query(CUSTOMER)
            .bind(id)
            .bind(within.mode.as_str())
            .bind(within.source())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (scope, customer) = row.read()?;
        let here = Within { mode: scope.mode, source: Some(scope.source.clone()) };
        let all = PageRequest { limit: PAGE_MAX, after: None };
        let of_customer = Some(id.to_owned());
        let licenses = self.licenses_of_customer(&here, id, as_of.at).await?;
        let subscriptions = SubscriptionFilter { customer: of_customer.clone(), ..SubscriptionFilter::default() };
        let cases = CaseFilter { customer: of_customer, ..CaseFilter::default() };
        let mut cases = self.cases(&here, &cases, as_of, &all).await?.data;
        cases.sort_by_key(|case| case.status);
        Ok(Some(CustomerDetail {
            cross_links: cross_links(&scope, &customer, &licenses),
            provider_customers: self.provider_customers(&scope, id).await?,
            purchases: self.purchases_of(&scope, id).await?,
            subscriptions: self.subscriptions(&here, &subscriptions, &all).await?.data,
            payments: self.payments_of_customer(&scope, id).await?,
            licenses,
            cases,
            customer,
        }))
    }

    /// Whether few are called so.
    async fn are_few(&self, prefix: &str) -> Result<bool, ViewsError> {
        let count = db::query(CALLED_SO).bind(prefix).bind(after_prefix(prefix)).bind(CALLED_SO_MAX);
        let (count,): (i64,) = count.fetch_one(&self.pool).await?;
        Ok(count < CALLED_SO_MAX)
    }

    async fn provider_customers(&self, scope: &Scope, customer: &str) -> Result<Vec<ProviderCustomer>, ViewsError> {
        let rows: Vec<ProviderCustomerRow> =
            db::query(PROVIDER_CUSTOMERS).bind(scope.key()).bind(customer).fetch_all(&self.pool).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let others: Vec<(String,)> = db::query(SHARED_WITH)
                .bind(row.id.as_str())
                .bind(row.provider.as_str())
                .bind(scope.mode.as_str())
                .bind(scope.key())
                .bind(customer)
                .fetch_all(&self.pool)
                .await?;
            found.push(row.read(others.into_iter().map(|(other,)| other).collect())?);
        }
        Ok(found)
    }

    async fn licenses_of_customer(&self, within: &Within, id: &str, at: Timestamp) -> Result<Vec<License>, ViewsError> {
        let filter = LicenseFilter { customer: Some(id.to_owned()), ..LicenseFilter::default() };
        let all = PageRequest { limit: PAGE_MAX, after: None };
        Ok(self.licenses(within, &filter, at, &all).await?.data)
    }
}

/// The first text after everything that begins with `prefix`.
pub(super) fn after_prefix(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

fn cross_links(scope: &Scope, customer: &Customer, licenses: &[License]) -> Vec<CrossLink> {
    let account = scope.account.as_ref().map(|account| format!("{account}/")).unwrap_or_default();
    let test = if scope.mode == Mode::Test { "test/" } else { "" };
    let url = format!("https://dashboard.stripe.com/{account}{test}customers/{}", customer.id);
    let mut links = vec![CrossLink { system: "stripe".to_owned(), id: customer.id.to_string(), url: Some(url) }];
    if let Some(id) = customer.metadata.get("skm_customer_id") {
        links.push(CrossLink { system: "cryptolens".to_owned(), id: id.clone(), url: None });
    }
    for license in licenses {
        if let (Some(provider), Some(id)) = (&license.provider, &license.provider_id) {
            links.push(CrossLink { system: provider.to_string(), id: id.clone(), url: None });
        }
    }
    links
}

#[derive(sqlx::FromRow)]
struct ProviderCustomerRow {
    provider: String,
    id: String,
    made: i64,
    shared: i64,
    linked_at: String,
    synced_at: Option<String>,
    refused: Option<String>,
}

impl ProviderCustomerRow {
    /// The first of those who share one was not told so when it was linked.
    fn read(self, shared_with: Vec<String>) -> Result<ProviderCustomer, ViewsError> {
        Ok(ProviderCustomer {
            provider: self.provider.as_str().into(),
            id: self.id,
            made: self.made != 0,
            shared: self.shared != 0 || !shared_with.is_empty(),
            shared_with,
            linked_at: sql::parse_time(&self.linked_at)?,
            synced_at: sql::parse_optional_time(self.synced_at.as_deref())?,
            refused: self.refused,
        })
    }
}

#[derive(sqlx::FromRow)]
struct CustomerRow {
    scope: String,
    id: String,
    name: Option<String>,
    email: Option<String>,
    deleted_at: Option<String>,
    facts: String,
    sort_key: String,
}

impl CustomerRow {
    fn read(self) -> Result<(Scope, Customer), ViewsError> {
        let scope = sql::parse_scope(&self.scope)?;
        let facts: CustomerFacts = sql::parse_json("a customer", &self.facts)?;
        let customer = Customer {
            id: self.id.as_str().into(),
            source: scope.source.clone(),
            account: scope.account.clone(),
            mode: scope.mode,
            name: self.name,
            email: self.email,
            deleted_at: sql::parse_optional_time(self.deleted_at.as_deref())?,
            metadata: facts.metadata,
        };
        Ok((scope, customer))
    }
}
