//! Prices that were paid for and mean nothing here: what a catalog leaves out.

use std::collections::BTreeMap;

use keyledger_schemas::money::{Currency, Money};

use super::{UnmappedPrice, Views, Within};
use crate::db;
use crate::sql::{self, ViewsError};

const UNMAPPED: &str = "select scope, price, currency, max(product), cast(sum(times) as bigint), \
     cast(sum(amount_minor) as bigint), min(first_paid_at) from paid_price \
     where means = 'nothing' and mode = $1 and (cast($2 as text) is null or source = $2) \
     group by scope, price, currency order by scope, price, currency";

const WAITING: &str = "select scope, price, count(*) from obligation \
     where open is not null and cause = 'unmapped_price' and price is not null and mode = $1 \
     and (cast($2 as text) is null or source = $2) group by scope, price";

type UnmappedRow = (String, String, String, Option<String>, i64, i64, Option<String>);

impl Views {
    /// Prices that were paid for and that neither metadata nor the catalog says anything about, by scope and price.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn unmapped_prices(&self, within: &Within) -> Result<Vec<UnmappedPrice>, ViewsError> {
        let rows: Vec<UnmappedRow> =
            db::query(UNMAPPED).bind(within.mode.as_str()).bind(within.source()).fetch_all(&self.pool).await?;
        let waiting: Vec<(String, String, i64)> =
            db::query(WAITING).bind(within.mode.as_str()).bind(within.source()).fetch_all(&self.pool).await?;
        let waiting: BTreeMap<(String, String), i64> =
            waiting.into_iter().map(|(scope, price, count)| ((scope, price), count)).collect();
        let mut prices: Vec<UnmappedPrice> = Vec::new();
        for (scope, price, currency, product, times, amount_minor, since) in rows {
            let cases_open = waiting.get(&(scope.clone(), price.clone())).copied().unwrap_or_default();
            let scope = sql::parse_scope(&scope)?;
            let since = sql::parse_optional_time(since.as_deref())?;
            let amount = Money::new(amount_minor, Currency::new(&currency));
            // Rows of one price in several currencies follow each other.
            match prices.last_mut().filter(|last| last.scope == scope && last.price == price) {
                Some(last) => {
                    last.times += sql::unsigned::<u64>(times);
                    last.amounts.push(amount);
                    last.since = last.since.into_iter().chain(since).min();
                    last.product = last.product.take().or(product);
                }
                None => prices.push(UnmappedPrice {
                    scope,
                    price,
                    product,
                    times: sql::unsigned(times),
                    amounts: vec![amount],
                    since,
                    cases_open: sql::unsigned(cases_open),
                }),
            }
        }
        Ok(prices)
    }
}
