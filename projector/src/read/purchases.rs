//! Purchases and what their units are owed.

use keyledger_schemas::ids::{PurchaseId, Scope, UnitId};

use super::{Obligation, Purchase, Views};
use crate::db;
use crate::sql::{self, ViewsError};

const PURCHASES_OF_CUSTOMER: &str = "select scope, id, customer, opened_at from purchase \
     where scope = $1 and customer = $2 order by first_position desc, id limit 200";

const OBLIGATIONS: &str = "select item, number, paid_until, has_counting, charged, standing, open, cause, price \
     from obligation where scope = $1 and purchase = $2 order by item, number";

impl Views {
    /// A customer's purchases, newest first, each with its units.
    pub(super) async fn purchases_of(&self, scope: &Scope, customer: &str) -> Result<Vec<Purchase>, ViewsError> {
        let rows: Vec<(String, String, Option<String>, String)> =
            db::query(PURCHASES_OF_CUSTOMER).bind(scope.key()).bind(customer).fetch_all(&self.pool).await?;
        let mut purchases = Vec::with_capacity(rows.len());
        for (_, id, customer, opened_at) in rows {
            let id = PurchaseId::new(scope.clone(), id);
            purchases.push(Purchase {
                stripe_id: id.object.clone(),
                customer: customer.as_deref().map(Into::into),
                opened_at: sql::parse_time(&opened_at)?,
                obligations: self.obligations(&id).await?,
                id,
            });
        }
        Ok(purchases)
    }

    /// What the units of one purchase are owed, by item and number.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn obligations(&self, purchase: &PurchaseId) -> Result<Vec<Obligation>, ViewsError> {
        let rows: Vec<ObligationRow> =
            db::query(OBLIGATIONS).bind(purchase.scope.key()).bind(&purchase.object).fetch_all(&self.pool).await?;
        rows.into_iter().map(|row| row.read(purchase)).collect()
    }
}

/// The unit of optional columns, where all of them are there.
pub(super) fn unit(scope: &Scope, purchase: Option<&str>, item: Option<String>, number: Option<i64>) -> Option<UnitId> {
    Some(PurchaseId::new(scope.clone(), purchase?).unit(item?, sql::unsigned(number?)))
}

#[derive(sqlx::FromRow)]
struct ObligationRow {
    item: String,
    number: i64,
    paid_until: Option<String>,
    has_counting: i64,
    charged: i64,
    standing: String,
    open: Option<String>,
    cause: Option<String>,
    price: Option<String>,
}

impl ObligationRow {
    fn read(self, purchase: &PurchaseId) -> Result<Obligation, ViewsError> {
        let paid_until = sql::parse_optional_time(self.paid_until.as_deref())?;
        Ok(Obligation {
            unit: purchase.unit(self.item, sql::unsigned(self.number)),
            for_ever: self.has_counting != 0 && paid_until.is_none(),
            paid_until,
            charged: self.charged != 0,
            standing: self.standing,
            open: self.open,
            cause: self.cause,
            price: self.price,
        })
    }
}
