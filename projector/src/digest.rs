//! Rows by key and content, in the order of their keys: what two views are compared by.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{FromRow, Row, TypeInfo, ValueRef};

use crate::db::{self, Db};
use crate::sql::ViewsError;

/// How long the next row may take: the first one may wait until a whole table is sorted.
const ROW_WITHIN: Duration = Duration::from_mins(10);

/// A table, and which of its columns are the key.
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// How many columns are the key: the first of those that are read.
    keys: usize,
    rows: &'static str,
    count: &'static str,
}

macro_rules! table {
    ($name:literal, [$first:literal $(, $key:literal)*], $content:literal) => {
        Table {
            name: $name,
            keys: [$first $(, $key)*].len(),
            rows: concat!(
                "select ", $first, $(", ", $key,)* $content, " from ", $name, " order by ", $first $(, ", ", $key)*
            ),
            count: concat!("select count(*) from ", $name),
        }
    };
}

/// Every table that the fold writes.
pub const TABLES: &[Table] = &[
    table!("deciding", ["id"], ", settings, position"),
    table!("parked", ["position"], ", event_id, kind, reason, recorded_at"),
    table!(
        "object",
        ["scope", "kind", "id"],
        ", source, mode, purchase, customer, status, amount_minor, currency, number, happened_at, facts, first_position, \
         last_position, sort_key"
    ),
    table!("link", ["scope", "parent_kind", "parent", "child_kind", "child"], ""),
    table!("part", ["scope", "id", "object_kind", "object"], ""),
    table!("purchase", ["scope", "id"], ", source, mode, customer, names, opened_at, first_position, last_position"),
    table!("unit", ["scope", "purchase", "item", "number"], ", facts"),
    table!(
        "customer",
        ["scope", "id"],
        ", source, mode, name, name_folded, email, deleted_at, facts, first_position, last_position, sort_key"
    ),
    table!("contact", ["email", "scope", "object_kind", "object"], ""),
    table!("price", ["scope", "id"], ", facts"),
    table!("product", ["scope", "id"], ", facts"),
    table!("sold", ["scope", "kind", "id", "purchase"], ""),
    table!(
        "obligation",
        ["scope", "purchase", "item", "number"],
        ", source, mode, paid_until, has_counting, charged, standing, open, cause, amount_minor, currency, price, provider, \
         product"
    ),
    table!(
        "license",
        ["id"],
        ", scope, source, mode, purchase, item, number, generation, customer, state, reason, origin, provider, provider_id, \
         also, product, key_sealed, key_id, key_hash, key_last4, seats, features, paid_until, expires_at, perpetual, \
         issued_at, sort_key"
    ),
    table!("license_name", ["license", "kind"], ", scope, purchase, id"),
    table!(
        "paid_price",
        ["scope", "purchase", "price", "currency"],
        ", source, mode, product, times, amount_minor, first_paid_at, means"
    ),
    table!(
        "provider_customer",
        ["scope", "customer", "provider"],
        ", id, source, mode, made, shared, linked_at, synced_at, refused, last_position"
    ),
    table!(
        "reconciled",
        ["source", "mode"],
        ", at, since, events_seen, events_appended, objects_seen, objects_appended, last_position"
    ),
    table!(
        "casefile",
        ["id"],
        ", kind, status, scope, source, mode, subject, purchase, item, number, customer, amount_minor, currency, opened_at, \
         opened_position, visible_from, last_position, closed_at, cause, awaits_issuer, detail, attempts, \
         next_attempt_at, waived_by, waived_reason, sort_key"
    ),
];

/// What stands in one column of a row. Cells of one column are ordered as both engines order them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Nothing.
    Null,
    /// An integer.
    Integer(i64),
    /// A text, by its bytes.
    Text(String),
}

/// The columns of a row, in the order of the query.
struct Cells(Vec<Cell>);

macro_rules! cells_of {
    ($row:ty) => {
        impl<'r> FromRow<'r, $row> for Cells {
            fn from_row(row: &'r $row) -> Result<Self, sqlx::Error> {
                let cell = |index| {
                    let raw = row.try_get_raw(index)?;
                    if raw.is_null() {
                        return Ok(Cell::Null);
                    }
                    match raw.type_info().name() {
                        "INTEGER" | "INT8" => Ok(Cell::Integer(row.try_get(index)?)),
                        _ => Ok(Cell::Text(row.try_get(index)?)),
                    }
                };
                (0..row.len()).map(cell).collect::<Result<_, _>>().map(Self)
            }
        }
    };
}

cells_of!(SqliteRow);
cells_of!(PgRow);

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Which.
    pub key: Vec<Cell>,
    /// All else it says.
    pub content: Vec<Cell>,
}

impl fmt::Display for Digest {
    /// The key, for a person to find the row by.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, cell) in self.key.iter().enumerate() {
            let between = if number == 0 { "" } else { "/" };
            match cell {
                Cell::Null => write!(f, "{between}-")?,
                Cell::Integer(integer) => write!(f, "{between}{integer}")?,
                Cell::Text(text) => write!(f, "{between}{text}")?,
            }
        }
        Ok(())
    }
}

/// The rows of one table as they come. One is held at a time.
pub struct Rows<'c> {
    keys: usize,
    rows: BoxStream<'c, Result<Cells, sqlx::Error>>,
}

impl<'c> Rows<'c> {
    /// From the first row.
    pub fn of(table: &Table, db: &'c mut Db) -> Self {
        let rows = match db {
            Db::Sqlite(db) => sqlx::query_as_with(table.rows, SqliteArguments::default()).fetch(db),
            Db::Postgres(db) => sqlx::query_as_with(table.rows, PgArguments::default()).fetch(db),
        };
        Self { keys: table.keys, rows }
    }

    /// The next row, by key.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<Digest>, ViewsError> {
        let row = db::answered_within(ROW_WITHIN, self.rows.try_next()).await?;
        Ok(row.map(|Cells(mut key)| {
            let content = key.split_off(self.keys.min(key.len()));
            Digest { key, content }
        }))
    }
}

/// How many rows each table has.
///
/// # Errors
///
/// When the database fails.
pub async fn counts(db: &mut Db) -> Result<BTreeMap<String, u64>, ViewsError> {
    let mut counts = BTreeMap::new();
    for table in TABLES {
        let (count,): (i64,) = db::query(table.count).fetch_one(&mut *db).await?;
        counts.insert(table.name.to_owned(), crate::sql::unsigned(count));
    }
    Ok(counts)
}
