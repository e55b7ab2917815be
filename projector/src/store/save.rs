//! Writing facts. Every statement may be repeated without harm.

use keyledger_eventlog::consumer::Checkpoint;
use keyledger_schemas::envelope::{Position, Recorded};
use keyledger_schemas::ids::Scope;
use keyledger_schemas::settings::DecidingSettings;

use super::TODAYS;
use super::load::DocumentOf;
use crate::db::{self, Db, Writes};
use crate::facts::{CustomerFacts, Node, Object, PriceFacts, ProductFacts, UnitFacts};
use crate::sql::{self, ViewsError};
use crate::working::PurchaseHead;

/// Another build may have made the views anew since they were opened: then they are not ours to write.
const MOVE_CHECKPOINT: &str = "update checkpoint set position = $1, chain = $2 \
     where name = 'projector' and position = $3 and chain = $4 and exists (select 1 from view_meta where id = 1 \
     and schema_version = $5 and projection_version = $6)";
const PARK: &str = "insert into parked (position, event_id, kind, reason, recorded_at) values ($1, $2, $3, $4, $5) \
     on conflict (position) do nothing";
const PUT_SETTINGS: &str = "insert into deciding (id, settings, position) values (1, $1, $2) \
     on conflict (id) do update set settings = excluded.settings, position = excluded.position";
const PUT_OBJECT: &str = "insert into object (scope, kind, id, source, mode, purchase, customer, status, amount_minor, \
     currency, number, happened_at, facts, first_position, last_position, sort_key) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
     on conflict (scope, kind, id) do update set purchase = excluded.purchase, customer = excluded.customer, \
     status = excluded.status, amount_minor = excluded.amount_minor, currency = excluded.currency, \
     number = excluded.number, happened_at = excluded.happened_at, facts = excluded.facts, \
     last_position = excluded.last_position";
const PUT_LINK: &str = "insert into link (scope, parent_kind, parent, child_kind, child) values ($1, $2, $3, $4, $5) \
     on conflict (scope, parent_kind, parent, child_kind, child) do nothing";
const PUT_PART: &str = "insert into part (scope, id, object_kind, object) values ($1, $2, $3, $4) \
     on conflict (id, scope, object_kind, object) do nothing";
const PUT_CONTACT: &str = "insert into contact (email, scope, object_kind, object) values ($1, $2, $3, $4) \
     on conflict (email, scope, object_kind, object) do nothing";
const PUT_PURCHASE: &str = "insert into purchase (scope, id, source, mode, customer, names, opened_at, first_position, \
     last_position) values ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
     on conflict (scope, id) do update set customer = excluded.customer, names = excluded.names, \
     last_position = excluded.last_position";
const PUT_UNIT: &str = "insert into unit (scope, purchase, item, number, facts) values ($1, $2, $3, $4, $5) \
     on conflict (scope, purchase, item, number) do update set facts = excluded.facts";
const PUT_CUSTOMER: &str = "insert into customer (scope, id, source, mode, name, name_folded, email, deleted_at, facts, \
     first_position, last_position, sort_key) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
     on conflict (scope, id) do update set name = excluded.name, name_folded = excluded.name_folded, \
     email = excluded.email, deleted_at = excluded.deleted_at, facts = excluded.facts, \
     last_position = excluded.last_position";
const PUT_PRICE: &str = "insert into price (scope, id, facts) values ($1, $2, $3) \
     on conflict (scope, id) do update set facts = excluded.facts";
const PUT_PRODUCT: &str = "insert into product (scope, id, facts) values ($1, $2, $3) \
     on conflict (scope, id) do update set facts = excluded.facts";

/// Moves the checkpoint, if it is still at `from`. Whoever comes second waits here until the first one is done; one who
/// has waited for too long is second too.
pub(crate) async fn move_checkpoint(db: &mut Db, from: Checkpoint, to: Checkpoint) -> Result<bool, ViewsError> {
    let moved = db::query(MOVE_CHECKPOINT)
        .bind(sql::integer(to.position))
        .bind(to.chain.as_slice())
        .bind(sql::integer(from.position))
        .bind(from.chain.as_slice())
        .bind(TODAYS.0)
        .bind(TODAYS.1)
        .execute(db)
        .await;
    match moved {
        Ok(moved) => Ok(moved == 1),
        Err(error) if super::postgres::is_in_the_way(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn park(db: &mut Db, event: &Recorded, reason: &str) -> Result<(), ViewsError> {
    db::query(PARK)
        .bind(sql::integer(event.position))
        .bind(event.id.as_str())
        .bind(&event.kind)
        .bind(reason)
        .bind(sql::time(event.recorded_at))
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn put_settings(
    db: &mut Db,
    settings: &DecidingSettings,
    position: Position,
) -> Result<(), ViewsError> {
    db::query(PUT_SETTINGS).bind(sql::json(settings)).bind(sql::integer(position)).execute(db).await?;
    Ok(())
}

/// Writes an object with what lists and searches show of it.
pub(crate) fn put_object(writes: &mut Writes, scope: &Scope, key: &str, object: &Object) {
    let summary = object.facts.summary();
    let kind = object.node.kind.as_str();
    let id = object.node.id.as_str();
    let document = DocumentOf { parents: &object.parents, facts: &object.facts };
    db::query(PUT_OBJECT)
        .bind(key)
        .bind(kind)
        .bind(id)
        .bind(scope.source.as_str())
        .bind(scope.mode.as_str())
        .bind(object.purchase.as_deref())
        .bind(summary.customer.as_deref())
        .bind(summary.status.as_deref())
        .bind(summary.amount_minor)
        .bind(summary.currency.as_ref().map(|currency| currency.as_str().to_owned()))
        .bind(summary.number.as_deref())
        .bind(summary.happened_at.map(sql::time))
        .bind(sql::json(&document))
        .bind(sql::integer(object.first_position))
        .bind(sql::integer(object.last_position))
        .bind(sql::sort_key(object.first_position, &format!("{key}/{id}")))
        .later(writes);
    for part in &summary.parts {
        db::query(PUT_PART).bind(key).bind(part).bind(kind).bind(id).later(writes);
    }
    for email in &summary.emails {
        let email = sql::normalize_email(email);
        db::query(PUT_CONTACT).bind(email).bind(key).bind(kind).bind(id).later(writes);
    }
}

pub(crate) fn put_link(writes: &mut Writes, key: &str, child: &Node, parent: &Node) {
    db::query(PUT_LINK)
        .bind(key)
        .bind(parent.kind.as_str())
        .bind(&parent.id)
        .bind(child.kind.as_str())
        .bind(&child.id)
        .later(writes);
}

pub(crate) fn put_purchase(writes: &mut Writes, scope: &Scope, key: &str, id: &str, head: &PurchaseHead) {
    db::query(PUT_PURCHASE)
        .bind(key)
        .bind(id)
        .bind(scope.source.as_str())
        .bind(scope.mode.as_str())
        .bind(head.customer.as_deref())
        .bind(sql::json(&head.names))
        .bind(sql::time(head.opened_at))
        .bind(sql::integer(head.first_position))
        .bind(sql::integer(head.last_position))
        .later(writes);
}

pub(crate) fn put_unit(
    writes: &mut Writes,
    key: &str,
    purchase: &str,
    (item, number): &(String, u32),
    facts: &UnitFacts,
) {
    db::query(PUT_UNIT)
        .bind(key)
        .bind(purchase)
        .bind(item)
        .bind(i64::from(*number))
        .bind(sql::json(facts))
        .later(writes);
}

pub(crate) fn put_customer(
    writes: &mut Writes,
    scope: &Scope,
    key: &str,
    id: &str,
    facts: &CustomerFacts,
    (first, last): (Position, Position),
) {
    db::query(PUT_CUSTOMER)
        .bind(key)
        .bind(id)
        .bind(scope.source.as_str())
        .bind(scope.mode.as_str())
        .bind(facts.name.as_deref())
        .bind(facts.name.as_deref().map(sql::fold_name))
        .bind(facts.email.as_deref())
        .bind(facts.deleted_at.map(sql::time))
        .bind(sql::json(facts))
        .bind(sql::integer(first))
        .bind(sql::integer(last))
        .bind(sql::sort_key(first, &format!("{key}/{id}")))
        .later(writes);
    for email in &facts.emails {
        let email = sql::normalize_email(email);
        db::query(PUT_CONTACT).bind(email).bind(key).bind("customer").bind(id).later(writes);
    }
}

pub(crate) fn put_price(writes: &mut Writes, key: &str, id: &str, facts: &PriceFacts) {
    db::query(PUT_PRICE).bind(key).bind(id).bind(sql::json(facts)).later(writes);
}

pub(crate) fn put_product(writes: &mut Writes, key: &str, id: &str, facts: &ProductFacts) {
    db::query(PUT_PRODUCT).bind(key).bind(id).bind(sql::json(facts)).later(writes);
}
