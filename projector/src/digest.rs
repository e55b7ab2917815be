//! Rows by key and content, in the order of their keys: what two views are compared by.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use sqlx::SqliteConnection;

use crate::sql::ViewsError;

/// A table, and how its rows become a key and a content.
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Fills it with the rows of the same table in the database attached as `rebuilt`.
    pub copy: &'static str,
    rows: &'static str,
    count: &'static str,
}

/// Rows come in the order of the key's columns, which is that of the joined key: no id holds a control character.
macro_rules! table {
    ($name:literal, [$first:literal $(, $key:literal)*], $content:literal) => {
        Table {
            name: $name,
            copy: concat!("insert into main.", $name, " select * from rebuilt.", $name),
            rows: concat!(
                "select ", $first, $(" || char(1) || ", $key,)* " as row_key, json_array(", $content, ") as content from ",
                $name, " order by ", $first $(, ", ", $key)*
            ),
            count: concat!("select count(*) from ", $name),
        }
    };
}

/// Every table that the fold writes.
pub const TABLES: &[Table] = &[
    table!("deciding", ["cast(id as text)"], "settings, position"),
    table!("parked", ["printf('%020d', position)"], "event_id, kind, reason, recorded_at"),
    table!(
        "object",
        ["scope", "kind", "id"],
        "source, mode, purchase, customer, status, amount_minor, currency, number, happened_at, facts, first_position, \
         last_position, sort_key"
    ),
    table!("link", ["scope", "parent_kind", "parent", "child_kind", "child"], "1"),
    table!("part", ["scope", "id", "object_kind", "object"], "1"),
    table!("purchase", ["scope", "id"], "source, mode, customer, names, opened_at, first_position, last_position"),
    table!("unit", ["scope", "purchase", "item", "printf('%010d', number)"], "facts"),
    table!(
        "customer",
        ["scope", "id"],
        "source, mode, name, name_folded, email, deleted_at, facts, first_position, last_position, sort_key"
    ),
    table!("contact", ["email", "scope", "object_kind", "object"], "1"),
    table!("price", ["scope", "id"], "facts"),
    table!("product", ["scope", "id"], "facts"),
    table!("sold", ["scope", "kind", "id", "purchase"], "1"),
    table!(
        "obligation",
        ["scope", "purchase", "item", "printf('%010d', number)"],
        "source, mode, paid_until, has_counting, charged, standing, open, cause, amount_minor, currency, price, provider, \
         product"
    ),
    table!(
        "license",
        ["id"],
        "scope, source, mode, purchase, item, number, generation, customer, state, reason, origin, provider, provider_id, \
         product, key_sealed, key_id, key_hash, key_last4, seats, features, paid_until, expires_at, perpetual, \
         issued_at, sort_key"
    ),
    table!(
        "casefile",
        ["id"],
        "kind, status, scope, source, mode, subject, purchase, item, number, customer, amount_minor, currency, opened_at, \
         opened_position, visible_from, last_position, closed_at, cause, awaits_issuer, detail, attempts, \
         next_attempt_at, waived_by, waived_reason, sort_key"
    ),
];

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Which.
    pub key: String,
    /// All else it says.
    pub content: String,
}

/// The rows of one table as they come.
pub struct Rows<'c>(BoxStream<'c, Result<(String, String), sqlx::Error>>);

impl<'c> Rows<'c> {
    /// From the first row.
    pub fn of(table: &Table, db: &'c mut SqliteConnection) -> Self {
        Self(sqlx::query_as(table.rows).fetch(db))
    }

    /// The next row, by key.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<Digest>, ViewsError> {
        let row = self.0.try_next().await?;
        Ok(row.map(|(key, content)| Digest { key, content }))
    }
}

/// How many rows each table has.
///
/// # Errors
///
/// When the database fails.
pub async fn counts(db: &mut SqliteConnection) -> Result<BTreeMap<String, u64>, ViewsError> {
    let mut counts = BTreeMap::new();
    for table in TABLES {
        let count: i64 = sqlx::query_scalar(table.count).fetch_one(&mut *db).await?;
        counts.insert(table.name.to_owned(), crate::sql::unsigned(count));
    }
    Ok(counts)
}
