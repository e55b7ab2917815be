//! Reading back what the fold works on, many rows at once. A list is PostgreSQL's own there, and the JSON of one for SQLite.

use std::collections::{BTreeMap, BTreeSet};

use keyledger_schemas::ids::CaseId;

use super::load::{CaseColumns, ObjectRow};
use crate::casebook::CaseRow;
use crate::db::{Db, Listed, Readable};
use crate::derive::ItemNames;
use crate::facts::{CustomerFacts, Kind, Node, Object, UnitFacts};
use crate::sql::{self, ViewsError};
use crate::working::PurchaseHead;

macro_rules! listed {
    ($before:literal, $column:literal in $list:literal) => {
        Listed {
            postgres: concat!($before, " ", $column, " = any(", $list, ")"),
            sqlite: concat!($before, " ", $column, " in (select value from json_each(", $list, "))"),
        }
    };
}

/// By kinds and ids. SQLite has no lists of pairs: there it is one kind at a time.
const OBJECTS: Listed = Listed {
    postgres: "select kind, id, purchase, facts, first_position, last_position from object \
        where scope = $1 and (kind, id) in (select * from unnest($2, $3))",
    sqlite: "select kind, id, purchase, facts, first_position, last_position from object \
        where scope = $1 and kind = $2 and id in (select value from json_each($3))",
};
const CHILDREN: Listed = Listed {
    postgres: "select parent_kind, parent, child_kind, child from link \
        where scope = $1 and (parent_kind, parent) in (select * from unnest($2, $3))",
    sqlite: "select parent_kind, parent, child_kind, child from link \
        where scope = $1 and parent_kind = $2 and parent in (select value from json_each($3))",
};
const PURCHASES: Listed = listed!(
    "select id, customer, names, opened_at, first_position, last_position from purchase where scope = $1 and",
    "id" in "$2"
);
const MEMBERS: Listed = listed!(
    "select kind, id, purchase, facts, first_position, last_position from object where scope = $1 and",
    "purchase" in "$2"
);
const UNITS: Listed =
    listed!("select purchase, item, number, facts from unit where scope = $1 and", "purchase" in "$2");
const CASES: Listed = listed!(
    "select purchase as place, id, kind, status, subject, item, number, customer, amount_minor, currency, opened_at, \
     opened_position, visible_from, last_position, closed_at, cause, awaits_issuer, detail, attempts, next_attempt_at, \
     waived_by, waived_reason from casefile where scope = $1 and",
    "purchase" in "$2"
);
const LOOSE_CASES: Listed = listed!(
    "select scope as place, id, kind, status, subject, item, number, customer, amount_minor, currency, opened_at, \
     opened_position, visible_from, last_position, closed_at, cause, awaits_issuer, detail, attempts, next_attempt_at, \
     waived_by, waived_reason from casefile where purchase is null and",
    "id" in "$1"
);
const CUSTOMERS: Listed = listed!("select id, facts, first_position from customer where scope = $1 and", "id" in "$2");

/// All of them.
#[cfg(test)]
pub(crate) const ALL: [Listed; 8] = [OBJECTS, CHILDREN, PURCHASES, MEMBERS, UNITS, CASES, LOOSE_CASES, CUSTOMERS];

impl Listed {
    /// The rows of `nodes` in one scope, by as few questions as the engine needs.
    async fn of_nodes<T: Readable>(
        &self,
        db: &mut Db,
        scope: &str,
        nodes: &BTreeSet<Node>,
    ) -> Result<Vec<T>, ViewsError> {
        if db.is_far() {
            let (kinds, ids): (Vec<String>, Vec<String>) =
                nodes.iter().map(|node| (node.kind.as_str().to_owned(), node.id.clone())).unzip();
            return Ok(self.query(db).bind(scope).bind(kinds).bind(ids).fetch_all(db).await?);
        }
        let mut by_kind: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
        for node in nodes {
            by_kind.entry(node.kind).or_default().push(node.id.clone());
        }
        let mut rows = Vec::new();
        for (kind, ids) in by_kind {
            rows.extend(self.query(db).bind(scope).bind(kind.as_str()).bind(ids).fetch_all(&mut *db).await?);
        }
        Ok(rows)
    }
}

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

fn node(kind: &str, id: String) -> Result<Node, ViewsError> {
    Kind::of(kind).map(|kind| Node { kind, id }).ok_or_else(|| ViewsError::damaged("a link", kind))
}

/// Those of `nodes` that are there.
pub(crate) async fn objects(db: &mut Db, scope: &str, nodes: &BTreeSet<Node>) -> Result<Vec<Object>, ViewsError> {
    let rows: Vec<ObjectRow> = OBJECTS.of_nodes(db, scope, nodes).await?;
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
    let rows: Vec<(String, String, String, String)> = CHILDREN.of_nodes(db, scope, nodes).await?;
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
        PURCHASES.query(db).bind(scope).bind(list()).fetch_all(&mut *db).await?;
    for (id, customer, names, opened_at, first_position, last_position) in heads {
        let names: ItemNames = sql::parse_json("item names", &names)?;
        let opened_at = sql::parse_time(&opened_at)?;
        let (first_position, last_position) = (sql::unsigned(first_position), sql::unsigned(last_position));
        let head = PurchaseHead { customer, names, opened_at, first_position, last_position };
        found.entry(id).or_default().head = Some(head);
    }
    let objects: Vec<ObjectRow> = MEMBERS.query(db).bind(scope).bind(list()).fetch_all(&mut *db).await?;
    for object in objects {
        let object = object.read()?;
        if let Some(purchase) = object.purchase.clone() {
            found.entry(purchase).or_default().objects.push(object);
        }
    }
    let units: Vec<(String, String, i64, String)> =
        UNITS.query(db).bind(scope).bind(list()).fetch_all(&mut *db).await?;
    for (purchase, item, number, facts) in units {
        let facts = sql::parse_json("a unit", &facts)?;
        found.entry(purchase).or_default().units.insert((item, sql::unsigned(number)), facts);
    }
    let cases: Vec<PlacedCase> = CASES.query(db).bind(scope).bind(list()).fetch_all(&mut *db).await?;
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
    let rows: Vec<PlacedCase> = LOOSE_CASES.query(db).bind(list).fetch_all(db).await?;
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
    let rows: Vec<(String, String, i64)> = CUSTOMERS.query(db).bind(scope).bind(list).fetch_all(db).await?;
    let read = |(id, text, first): (String, String, i64)| {
        Ok((id, (sql::parse_json("a customer", &text)?, sql::unsigned(first))))
    };
    rows.into_iter().map(read).collect()
}
