//! Reading back what the fold works on, many rows at once. Lists of ids are PostgreSQL's alone; a file is read one row at a
//! time just as fast.

use std::collections::{BTreeMap, BTreeSet};

use keyledger_schemas::ids::CaseId;

use super::load::{CaseColumns, ObjectRow};
use crate::casebook::CaseRow;
use crate::db::{self, Db};
use crate::derive::ItemNames;
use crate::facts::{CustomerFacts, Kind, Node, Object, UnitFacts};
use crate::sql::{self, ViewsError};
use crate::working::PurchaseHead;

const OBJECTS: &str = "select kind, id, purchase, facts, first_position, last_position from object \
     where scope = $1 and (kind, id) in (select * from unnest($2, $3))";
const CHILDREN: &str = "select parent_kind, parent, child_kind, child from link \
     where scope = $1 and (parent_kind, parent) in (select * from unnest($2, $3))";
const PURCHASES: &str = "select id, customer, names, opened_at, first_position, last_position from purchase \
     where scope = $1 and id = any($2)";
const MEMBERS: &str = "select kind, id, purchase, facts, first_position, last_position from object \
     where scope = $1 and purchase = any($2)";
const UNITS: &str = "select purchase, item, number, facts from unit where scope = $1 and purchase = any($2)";
const CASES: &str = "select purchase as place, id, kind, status, subject, item, number, customer, amount_minor, currency, \
     opened_at, opened_position, visible_from, last_position, closed_at, cause, awaits_issuer, detail, attempts, \
     next_attempt_at, waived_by, waived_reason from casefile where scope = $1 and purchase = any($2)";
const LOOSE_CASES: &str = "select scope as place, id, kind, status, subject, item, number, customer, amount_minor, currency, \
     opened_at, opened_position, visible_from, last_position, closed_at, cause, awaits_issuer, detail, attempts, \
     next_attempt_at, waived_by, waived_reason from casefile where id = any($1) and purchase is null";
const CUSTOMERS: &str = "select id, facts, first_position from customer where scope = $1 and id = any($2)";

/// All rows of a purchase.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub head: Option<PurchaseHead>,
    pub objects: Vec<Object>,
    pub units: BTreeMap<(String, u32), UnitFacts>,
    pub cases: BTreeMap<CaseId, CaseRow>,
}

#[derive(sqlx::FromRow)]
struct PlacedCase {
    place: String,
    #[sqlx(flatten)]
    case: CaseColumns,
}

/// The kinds and the ids of `nodes`, as two lists.
fn lists(nodes: &BTreeSet<Node>) -> (Vec<String>, Vec<String>) {
    nodes.iter().map(|node| (node.kind.as_str().to_owned(), node.id.clone())).unzip()
}

fn node(kind: &str, id: String) -> Result<Node, ViewsError> {
    Kind::of(kind).map(|kind| Node { kind, id }).ok_or_else(|| ViewsError::damaged("a link", kind))
}

/// Those of `nodes` that are there.
pub(crate) async fn objects(db: &mut Db, scope: &str, nodes: &BTreeSet<Node>) -> Result<Vec<Object>, ViewsError> {
    let (kinds, ids) = lists(nodes);
    let rows: Vec<ObjectRow> = db::query(OBJECTS).bind(scope).bind(kinds).bind(ids).fetch_all(db).await?;
    rows.into_iter().map(ObjectRow::read).collect()
}

/// The children of each of `nodes`, also where there are none.
pub(crate) async fn all_children(
    db: &mut Db,
    scope: &str,
    nodes: &BTreeSet<Node>,
) -> Result<BTreeMap<Node, BTreeSet<Node>>, ViewsError> {
    let mut children: BTreeMap<Node, BTreeSet<Node>> =
        nodes.iter().map(|node| (node.clone(), BTreeSet::new())).collect();
    let (kinds, ids) = lists(nodes);
    let rows: Vec<(String, String, String, String)> =
        db::query(CHILDREN).bind(scope).bind(kinds).bind(ids).fetch_all(db).await?;
    for (parent_kind, parent, child_kind, child) in rows {
        children.entry(node(&parent_kind, parent)?).or_default().insert(node(&child_kind, child)?);
    }
    Ok(children)
}

/// All rows of these purchases, also where there are none.
pub(crate) async fn purchases(
    db: &mut Db,
    scope: &str,
    ids: &BTreeSet<String>,
) -> Result<BTreeMap<String, Rows>, ViewsError> {
    let list = || ids.iter().cloned().collect::<Vec<_>>();
    let mut found: BTreeMap<String, Rows> = ids.iter().map(|id| (id.clone(), Rows::default())).collect();
    let heads: Vec<(String, Option<String>, String, String, i64, i64)> =
        db::query(PURCHASES).bind(scope).bind(list()).fetch_all(&mut *db).await?;
    for (id, customer, names, opened_at, first_position, last_position) in heads {
        let names: ItemNames = sql::parse_json("item names", &names)?;
        let opened_at = sql::parse_time(&opened_at)?;
        let (first_position, last_position) = (sql::unsigned(first_position), sql::unsigned(last_position));
        let head = PurchaseHead { customer, names, opened_at, first_position, last_position };
        found.entry(id).or_default().head = Some(head);
    }
    let objects: Vec<ObjectRow> = db::query(MEMBERS).bind(scope).bind(list()).fetch_all(&mut *db).await?;
    for object in objects {
        let object = object.read()?;
        if let Some(purchase) = object.purchase.clone() {
            found.entry(purchase).or_default().objects.push(object);
        }
    }
    let units: Vec<(String, String, i64, String)> =
        db::query(UNITS).bind(scope).bind(list()).fetch_all(&mut *db).await?;
    for (purchase, item, number, facts) in units {
        let facts = sql::parse_json("a unit", &facts)?;
        found.entry(purchase).or_default().units.insert((item, sql::unsigned(number)), facts);
    }
    let cases: Vec<PlacedCase> = db::query(CASES).bind(scope).bind(list()).fetch_all(&mut *db).await?;
    for PlacedCase { place, case } in cases {
        let (id, case) = case.read()?;
        found.entry(place).or_default().cases.insert(id, case);
    }
    Ok(found)
}

/// Those of the cases that are there and belong to no purchase, with the scopes they are of.
pub(crate) async fn loose_cases(
    db: &mut Db,
    ids: &BTreeSet<CaseId>,
) -> Result<BTreeMap<CaseId, (String, CaseRow)>, ViewsError> {
    let list: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let rows: Vec<PlacedCase> = db::query(LOOSE_CASES).bind(list).fetch_all(db).await?;
    let read = |PlacedCase { place, case }: PlacedCase| case.read().map(|(id, case)| (id, (place, case)));
    rows.into_iter().map(read).collect()
}

/// Those of the customers that are there: what is known, and the event that first named them.
pub(crate) async fn customers(
    db: &mut Db,
    scope: &str,
    ids: &BTreeSet<String>,
) -> Result<BTreeMap<String, (CustomerFacts, u64)>, ViewsError> {
    let list: Vec<String> = ids.iter().cloned().collect();
    let rows: Vec<(String, String, i64)> = db::query(CUSTOMERS).bind(scope).bind(list).fetch_all(db).await?;
    let read = |(id, text, first): (String, String, i64)| {
        Ok((id, (sql::parse_json("a customer", &text)?, sql::unsigned(first))))
    };
    rows.into_iter().map(read).collect()
}
