//! Money as lists show it: invoices, sessions, charges, refunds, disputes.

use keyledger_schemas::ids::{PurchaseId, Scope};

use super::{Payment, Views};
use crate::db;
use crate::sql::{self, ViewsError};

/// Rows of money on one page about one thing.
const PAYMENTS_MAX: i64 = 200;

const PAYMENTS_OF_PURCHASE: &str = "select kind, id, purchase, customer, status, amount_minor, currency, number, happened_at from object \
     where scope = $1 and purchase = $2 and kind in ('invoice', 'session', 'charge', 'refund', 'dispute') \
     order by happened_at desc nulls last, kind, id limit $3";

/// Refunds and disputes name no customer themselves: they come with their purchase. An index finds what is one customer's;
/// one of the objects of these kinds would have to be read to its end, so the kind is kept from it.
const PAYMENTS_OF_CUSTOMER: &str = "select kind, id, purchase, customer, status, amount_minor, currency, number, happened_at from object \
     where scope = $1 and customer = $2 \
     and coalesce(kind, '') in ('invoice', 'session', 'charge', 'refund', 'dispute') \
     union select kind, id, purchase, customer, status, amount_minor, currency, number, happened_at from object \
     where scope = $1 and purchase in (select id from purchase where scope = $1 and customer = $2) \
     and coalesce(kind, '') in ('invoice', 'session', 'charge', 'refund', 'dispute') \
     order by happened_at desc nulls last, kind, id limit $3";

impl Views {
    /// A purchase's money, newest first, at most 200 rows.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn payments_of_purchase(&self, purchase: &PurchaseId) -> Result<Vec<Payment>, ViewsError> {
        self.payments(PAYMENTS_OF_PURCHASE, &purchase.scope, &purchase.object).await
    }

    /// A customer's money, newest first, at most 200 rows.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn payments_of_customer(&self, scope: &Scope, customer: &str) -> Result<Vec<Payment>, ViewsError> {
        self.payments(PAYMENTS_OF_CUSTOMER, scope, customer).await
    }

    async fn payments(&self, text: &'static str, scope: &Scope, of: &str) -> Result<Vec<Payment>, ViewsError> {
        let rows: Vec<PaymentRow> =
            db::query(text).bind(scope.key()).bind(of).bind(PAYMENTS_MAX).fetch_all(&self.pool).await?;
        rows.into_iter().map(|row| row.read(scope)).collect()
    }
}

#[derive(sqlx::FromRow)]
struct PaymentRow {
    kind: String,
    id: String,
    purchase: Option<String>,
    customer: Option<String>,
    status: Option<String>,
    amount_minor: Option<i64>,
    currency: Option<String>,
    number: Option<String>,
    happened_at: Option<String>,
}

impl PaymentRow {
    fn read(self, scope: &Scope) -> Result<Payment, ViewsError> {
        Ok(Payment {
            kind: self.kind,
            id: self.id,
            purchase: self.purchase.map(|id| PurchaseId::new(scope.clone(), id)),
            customer: self.customer.as_deref().map(Into::into),
            status: self.status,
            amount: sql::money(self.amount_minor, self.currency.as_deref()),
            number: self.number,
            at: sql::parse_optional_time(self.happened_at.as_deref())?,
        })
    }
}
