//! Reading back what the fold works on.

use std::collections::{BTreeMap, BTreeSet};

use keyledger_eventlog::consumer::Checkpoint;
use keyledger_schemas::ids::CaseId;
use keyledger_schemas::settings::DecidingSettings;
use serde::de::DeserializeOwned;

use super::bulk::Rows;
use crate::casebook::{CaseRow, Status};
use crate::db::{self, Db};
use crate::derive::ItemNames;
use crate::facts::{Kind, Node, Object, UnitFacts};
use crate::sql::{self, ViewsError};
use crate::working::PurchaseHead;

const CHECKPOINT: &str = "select position, chain from checkpoint where name = 'projector'";
const SETTINGS: &str = "select settings from deciding where id = 1";
const OBJECT: &str = "select kind, id, purchase, facts, first_position, last_position from object where scope = $1 and kind = $2 and id = $3";
const OBJECTS_OF_PURCHASE: &str =
    "select kind, id, purchase, facts, first_position, last_position from object where scope = $1 and purchase = $2";
const CHILDREN: &str = "select child_kind, child from link where scope = $1 and parent_kind = $2 and parent = $3";
const PURCHASE: &str =
    "select customer, names, opened_at, first_position, last_position from purchase where scope = $1 and id = $2";
const PURCHASES_AFTER: &str = "select scope, id from purchase where scope > $1 or (scope = $1 and id > $2) \
     order by scope, id limit $3";
const PURCHASES_SELLING: &str =
    "select purchase from sold where scope = $1 and kind = $2 and id = $3 order by purchase";
const PURCHASES_OF_CUSTOMER: &str = "select id from purchase where scope = $1 and customer = $2 order by id";
const WAITING_INVOICES: &str = "select scope, id from object where purchase is null and kind = 'invoice' \
     and status = 'paid' and (cast($1 as text) is null or scope = $1) order by scope, id";
const UNITS: &str = "select item, number, facts from unit where scope = $1 and purchase = $2";
const CASES_OF_PURCHASE: &str = "select id, kind, status, subject, item, number, customer, amount_minor, currency, \
     opened_at, opened_position, visible_from, last_position, closed_at, cause, awaits_issuer, detail, attempts, \
     next_attempt_at, waived_by, waived_reason from casefile where scope = $1 and purchase = $2";
const CASE: &str = "select id, kind, status, subject, item, number, customer, amount_minor, currency, \
     opened_at, opened_position, visible_from, last_position, closed_at, cause, awaits_issuer, detail, attempts, \
     next_attempt_at, waived_by, waived_reason from casefile where id = $1 and purchase is null";
const PLACE_OF_CASE: &str = "select scope, purchase from casefile where id = $1";
const CUSTOMER: &str = "select facts, first_position from customer where scope = $1 and id = $2";
const PRICE: &str = "select facts from price where scope = $1 and id = $2";
const PRODUCT: &str = "select facts from product where scope = $1 and id = $2";

/// What an `object` row's document holds.
#[derive(serde::Deserialize)]
pub(crate) struct ObjectDocument {
    pub parents: BTreeSet<Node>,
    pub facts: crate::facts::ObjectFacts,
}

/// The same, on its way there.
#[derive(serde::Serialize)]
pub(crate) struct DocumentOf<'o> {
    pub parents: &'o BTreeSet<Node>,
    pub facts: &'o crate::facts::ObjectFacts,
}

pub(crate) async fn checkpoint(db: &mut Db) -> Result<Checkpoint, ViewsError> {
    let (position, chain): (i64, Vec<u8>) = db::query(CHECKPOINT).fetch_one(db).await?;
    let chain =
        chain.try_into().map_err(|_| ViewsError::damaged("the checkpoint", "its chain value is not 32 bytes"))?;
    Ok(Checkpoint { position: sql::unsigned(position), chain })
}

pub(crate) async fn settings(db: &mut Db) -> Result<DecidingSettings, ViewsError> {
    let row: Option<(String,)> = db::query(SETTINGS).fetch_optional(db).await?;
    row.map_or_else(|| Ok(DecidingSettings::default()), |(text,)| sql::parse_json("the settings", &text))
}

#[derive(sqlx::FromRow)]
pub(super) struct ObjectRow {
    kind: String,
    id: String,
    purchase: Option<String>,
    facts: String,
    first_position: i64,
    last_position: i64,
}

impl ObjectRow {
    pub(super) fn read(self) -> Result<Object, ViewsError> {
        let document: ObjectDocument = sql::parse_json("an object", &self.facts)?;
        let kind = Kind::of(&self.kind).ok_or_else(|| ViewsError::damaged("an object", &self.kind))?;
        Ok(Object {
            node: Node { kind, id: self.id },
            purchase: self.purchase,
            parents: document.parents,
            facts: document.facts,
            first_position: sql::unsigned(self.first_position),
            last_position: sql::unsigned(self.last_position),
        })
    }
}

pub(crate) async fn object(db: &mut Db, scope: &str, node: &Node) -> Result<Option<Object>, ViewsError> {
    let query = db::query(OBJECT).bind(scope).bind(node.kind.as_str()).bind(&node.id);
    query.fetch_optional(db).await?.map(ObjectRow::read).transpose()
}

async fn objects_of(db: &mut Db, scope: &str, purchase: &str) -> Result<Vec<Object>, ViewsError> {
    let rows: Vec<ObjectRow> = db::query(OBJECTS_OF_PURCHASE).bind(scope).bind(purchase).fetch_all(db).await?;
    rows.into_iter().map(ObjectRow::read).collect()
}

pub(crate) async fn children(db: &mut Db, scope: &str, of: &Node) -> Result<BTreeSet<Node>, ViewsError> {
    let rows: Vec<(String, String)> =
        db::query(CHILDREN).bind(scope).bind(of.kind.as_str()).bind(&of.id).fetch_all(db).await?;
    let node = |(kind, id): (String, String)| {
        Kind::of(&kind).map(|kind| Node { kind, id }).ok_or_else(|| ViewsError::damaged("a link", kind))
    };
    rows.into_iter().map(node).collect()
}

async fn purchase(db: &mut Db, scope: &str, id: &str) -> Result<Option<PurchaseHead>, ViewsError> {
    let row: Option<(Option<String>, String, String, i64, i64)> =
        db::query(PURCHASE).bind(scope).bind(id).fetch_optional(db).await?;
    let Some((customer, names, opened_at, first_position, last_position)) = row else { return Ok(None) };
    let names: ItemNames = sql::parse_json("item names", &names)?;
    Ok(Some(PurchaseHead {
        customer,
        names,
        opened_at: sql::parse_time(&opened_at)?,
        first_position: sql::unsigned(first_position),
        last_position: sql::unsigned(last_position),
    }))
}

/// All rows of a purchase.
pub(crate) async fn rows(db: &mut Db, scope: &str, id: &str) -> Result<Rows, ViewsError> {
    let head = purchase(db, scope, id).await?;
    let objects = if head.is_some() { objects_of(db, scope, id).await? } else { Vec::new() };
    let (units, cases) = (units(db, scope, id).await?, cases_of(db, scope, id).await?);
    Ok(Rows { head, objects, units, cases })
}

/// The next `limit` purchases of any scope, as scope key and id.
pub(crate) async fn purchases_after(
    db: &mut Db,
    after: &(String, String),
    limit: u32,
) -> Result<Vec<(String, String)>, ViewsError> {
    Ok(db::query(PURCHASES_AFTER).bind(&after.0).bind(&after.1).bind(i64::from(limit)).fetch_all(db).await?)
}

/// The purchases that sell a price or product, as far as they are written.
pub(crate) async fn purchases_selling(
    db: &mut Db,
    scope: &str,
    kind: &str,
    id: &str,
) -> Result<Vec<String>, ViewsError> {
    let rows: Vec<(String,)> = db::query(PURCHASES_SELLING).bind(scope).bind(kind).bind(id).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(purchase,)| purchase).collect())
}

/// The purchases of a customer, as far as they are written.
pub(crate) async fn purchases_of(db: &mut Db, scope: &str, customer: &str) -> Result<Vec<String>, ViewsError> {
    let rows: Vec<(String,)> = db::query(PURCHASES_OF_CUSTOMER).bind(scope).bind(customer).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(purchase,)| purchase).collect())
}

/// Paid invoices that belong to no purchase, as far as they are written: scope key and id.
pub(crate) async fn waiting_invoices(db: &mut Db, scope: Option<&str>) -> Result<Vec<(String, String)>, ViewsError> {
    Ok(db::query(WAITING_INVOICES).bind(scope).fetch_all(db).await?)
}

async fn units(db: &mut Db, scope: &str, purchase: &str) -> Result<BTreeMap<(String, u32), UnitFacts>, ViewsError> {
    let rows: Vec<(String, i64, String)> = db::query(UNITS).bind(scope).bind(purchase).fetch_all(db).await?;
    rows.into_iter()
        .map(|(item, number, facts)| Ok(((item, sql::unsigned(number)), sql::parse_json("a unit", &facts)?)))
        .collect()
}

#[derive(sqlx::FromRow)]
pub(super) struct CaseColumns {
    id: String,
    kind: String,
    status: String,
    subject: String,
    item: Option<String>,
    number: Option<i64>,
    customer: Option<String>,
    amount_minor: Option<i64>,
    currency: Option<String>,
    opened_at: String,
    opened_position: i64,
    visible_from: String,
    last_position: i64,
    closed_at: Option<String>,
    cause: Option<String>,
    awaits_issuer: i64,
    detail: Option<String>,
    attempts: i64,
    next_attempt_at: Option<String>,
    waived_by: Option<String>,
    waived_reason: Option<String>,
}

impl CaseColumns {
    pub(super) fn read(self) -> Result<(CaseId, CaseRow), ViewsError> {
        let id = self.id.parse().map_err(|error| ViewsError::damaged("a case id", error))?;
        let row = CaseRow {
            status: Status::of(&self.status).ok_or_else(|| ViewsError::damaged("a case", &self.status))?,
            kind: self.kind,
            subject: self.subject,
            unit: self.item.zip(self.number.map(sql::unsigned)),
            customer: self.customer,
            amount: sql::money(self.amount_minor, self.currency.as_deref()),
            opened_at: sql::parse_time(&self.opened_at)?,
            opened_position: sql::unsigned(self.opened_position),
            visible_from: sql::parse_time(&self.visible_from)?,
            last_position: sql::unsigned(self.last_position),
            closed_at: sql::parse_optional_time(self.closed_at.as_deref())?,
            cause: self.cause,
            awaits_issuer: self.awaits_issuer != 0,
            detail: self.detail,
            attempts: sql::unsigned(self.attempts),
            next_attempt_at: sql::parse_optional_time(self.next_attempt_at.as_deref())?,
            waived_by: self.waived_by,
            waived_reason: self.waived_reason,
        };
        Ok((id, row))
    }
}

async fn cases_of(db: &mut Db, scope: &str, purchase: &str) -> Result<BTreeMap<CaseId, CaseRow>, ViewsError> {
    let rows: Vec<CaseColumns> = db::query(CASES_OF_PURCHASE).bind(scope).bind(purchase).fetch_all(db).await?;
    rows.into_iter().map(CaseColumns::read).collect()
}

/// A case that belongs to no purchase.
pub(crate) async fn loose_case(db: &mut Db, id: CaseId) -> Result<Option<CaseRow>, ViewsError> {
    let row: Option<CaseColumns> = db::query(CASE).bind(id.to_string()).fetch_optional(db).await?;
    Ok(row.map(CaseColumns::read).transpose()?.map(|(_, row)| row))
}

/// The scope and purchase of a written case.
pub(crate) async fn place_of_case(db: &mut Db, id: CaseId) -> Result<Option<(String, Option<String>)>, ViewsError> {
    Ok(db::query(PLACE_OF_CASE).bind(id.to_string()).fetch_optional(db).await?)
}

/// A customer's document, and the event that first named them.
pub(crate) async fn customer<T: DeserializeOwned>(
    db: &mut Db,
    scope: &str,
    id: &str,
) -> Result<Option<(T, u64)>, ViewsError> {
    let row: Option<(String, i64)> = db::query(CUSTOMER).bind(scope).bind(id).fetch_optional(db).await?;
    row.map(|(text, first)| Ok((sql::parse_json("a customer", &text)?, sql::unsigned(first)))).transpose()
}

pub(crate) async fn price<T: DeserializeOwned>(db: &mut Db, scope: &str, id: &str) -> Result<Option<T>, ViewsError> {
    let row: Option<(String,)> = db::query(PRICE).bind(scope).bind(id).fetch_optional(db).await?;
    row.map(|(text,)| sql::parse_json("a price", &text)).transpose()
}

pub(crate) async fn product<T: DeserializeOwned>(db: &mut Db, scope: &str, id: &str) -> Result<Option<T>, ViewsError> {
    let row: Option<(String,)> = db::query(PRODUCT).bind(scope).bind(id).fetch_optional(db).await?;
    row.map(|(text,)| sql::parse_json("a product", &text)).transpose()
}
