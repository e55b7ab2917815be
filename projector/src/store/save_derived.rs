//! Writing what was derived: obligations, licenses, cases. A purchase's rows are replaced as a whole.

use keyledger_schemas::ids::{CaseId, Scope};

use crate::casebook::CaseRow;
use crate::db::{self, Listed, Writes};
use crate::derive::units::PaidUntil;
use crate::derive::{Derived, LicenseRow, PaidPrice, Unit};
use crate::sql;

macro_rules! delete {
    ($table:literal) => {
        Listed {
            postgres: concat!("delete from ", $table, " where scope = $1 and purchase = any($2)"),
            sqlite: concat!(
                "delete from ",
                $table,
                " where scope = $1 and purchase in (select value from json_each($2))"
            ),
        }
    };
}

/// The tables whose rows of a purchase are replaced as a whole.
pub(crate) const DELETE: [Listed; 5] =
    [delete!("obligation"), delete!("license"), delete!("license_name"), delete!("paid_price"), delete!("sold")];

const PUT_OBLIGATION: &str = "insert into obligation (scope, purchase, item, number, source, mode, paid_until, \
     has_counting, charged, standing, open, cause, amount_minor, currency, price, provider, product) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
const PUT_LICENSE: &str = "insert into license (id, scope, source, mode, purchase, item, number, generation, customer, \
     state, reason, origin, provider, provider_id, also, product, key_sealed, key_id, key_hash, key_last4, seats, \
     features, paid_until, expires_at, perpetual, issued_at, sort_key) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
     $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)";
const PUT_NAME: &str = "insert into license_name (scope, purchase, license, kind, id) values ($1, $2, $3, $4, $5)";
const PUT_PAID: &str = "insert into paid_price (scope, purchase, price, currency, source, mode, product, times, \
     amount_minor, first_paid_at, means) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const PUT_SOLD: &str = "insert into sold (scope, kind, id, purchase) values ($1, $2, $3, $4)";
const PUT_CASE: &str = "insert into casefile (id, kind, status, scope, source, mode, subject, purchase, item, number, \
     customer, amount_minor, currency, opened_at, opened_position, visible_from, last_position, closed_at, cause, \
     awaits_issuer, detail, attempts, next_attempt_at, waived_by, waived_reason, sort_key) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, \
     $24, $25, $26) on conflict (id) do update set status = excluded.status, customer = excluded.customer, \
     amount_minor = excluded.amount_minor, currency = excluded.currency, opened_at = excluded.opened_at, \
     opened_position = excluded.opened_position, visible_from = excluded.visible_from, \
     last_position = excluded.last_position, closed_at = excluded.closed_at, cause = excluded.cause, \
     awaits_issuer = excluded.awaits_issuer, detail = excluded.detail, attempts = excluded.attempts, \
     next_attempt_at = excluded.next_attempt_at, waived_by = excluded.waived_by, \
     waived_reason = excluded.waived_reason, sort_key = excluded.sort_key";
const DELETE_CASE: &str = "delete from casefile where id in (values ($1))";

/// Where derived rows belong.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub scope: &'a Scope,
    /// The scope as text.
    pub key: &'a str,
    pub purchase: &'a str,
    /// Where the purchase stands in lists.
    pub first_position: u64,
}

/// Deletes the derived rows of these purchases.
pub(crate) fn delete_derived(writes: &mut Writes, key: &str, purchases: &[String]) {
    if !purchases.is_empty() {
        for texts in DELETE {
            writes.first(texts, vec![key.into(), purchases.to_vec().into()]);
        }
    }
}

/// Writes the derived rows of a purchase that has none, or none any more.
pub(crate) fn put_derived(writes: &mut Writes, of: Of<'_>, derived: &Derived) {
    for unit in derived.units.iter().filter(|unit| unit.has_periods) {
        put_obligation(writes, of, derived, unit);
    }
    for license in &derived.licenses {
        put_license(writes, of, derived.customer.as_deref(), license);
    }
    for paid in &derived.paid {
        put_paid(writes, of, paid);
    }
    let prices = derived.prices.iter().map(|id| ("price", id));
    let products = derived.products.iter().map(|id| ("product", id));
    for (kind, id) in prices.chain(products) {
        db::query(PUT_SOLD).bind(of.key).bind(kind).bind(id).bind(of.purchase).later(writes);
    }
}

fn put_obligation(writes: &mut Writes, of: Of<'_>, derived: &Derived, unit: &Unit) {
    let here = Some((unit.item.clone(), unit.number));
    let open = derived.cases.iter().find(|case| {
        case.unit == here
            && case.waived.is_none()
            && ["no_key", "free_without_key", "not_extended"].contains(&case.kind)
    });
    db::query(PUT_OBLIGATION)
        .bind(of.key)
        .bind(of.purchase)
        .bind(&unit.item)
        .bind(i64::from(unit.number))
        .bind(of.scope.source.as_str())
        .bind(of.scope.mode.as_str())
        .bind(unit.paid_until.date().map(sql::time))
        .bind(i64::from(unit.paid_until != PaidUntil::None))
        .bind(i64::from(unit.charged))
        .bind(unit.standing.as_str())
        .bind(open.map(|case| case.kind))
        .bind(open.and_then(|case| case.cause))
        .bind(unit.amount.as_ref().map(|amount| amount.amount_minor))
        .bind(unit.amount.as_ref().map(|amount| amount.currency.as_str().to_owned()))
        .bind(unit.price.as_ref().map(|price| price.as_str().to_owned()))
        .bind(unit.mapping.as_ref().map(|mapping| mapping.provider.as_str().to_owned()))
        .bind(unit.mapping.as_ref().map(|mapping| mapping.product.clone()))
        .later(writes);
}

fn put_license(writes: &mut Writes, of: Of<'_>, customer: Option<&str>, license: &LicenseRow) {
    let (provider, provider_id, product) = match &license.provider {
        Some((provider, id, product)) => (Some(provider.as_str()), Some(id.as_str()), product.as_deref()),
        None => (None, None, None),
    };
    let key = license.key.as_ref();
    let name = format!("{}/{}/{}/{:010}/{:010}", of.key, of.purchase, license.item, license.number, license.generation);
    let terms = &license.terms;
    db::query(PUT_LICENSE)
        .bind(license.id.to_string())
        .bind(of.key)
        .bind(of.scope.source.as_str())
        .bind(of.scope.mode.as_str())
        .bind(of.purchase)
        .bind(&license.item)
        .bind(i64::from(license.number))
        .bind(i64::from(license.generation))
        .bind(customer)
        .bind(license.state)
        .bind(license.reason)
        .bind(&license.origin)
        .bind(provider)
        .bind(provider_id)
        .bind(sql::json(&license.also))
        .bind(product)
        .bind(key.map(|key| key.sealed.as_str()))
        .bind(key.map(|key| key.key_id.as_str()))
        .bind(key.map(|key| key.hash.to_ascii_lowercase()))
        .bind(key.map(|key| key.last4.to_uppercase()))
        .bind(terms.seats.map(i64::from))
        .bind(sql::json(&terms.features))
        .bind(terms.paid_until.map(sql::time))
        .bind(terms.expires_at.map(sql::time))
        .bind(i64::from(terms.perpetual))
        .bind(license.issued_at.map(sql::time))
        .bind(sql::sort_key(of.first_position, &name))
        .later(writes);
    let names = provider_id.map(|id| ("id", id)).into_iter();
    for (kind, id) in names.chain(license.also.iter().map(|(kind, id)| (kind.as_str(), id.as_str()))) {
        let license = license.id.to_string();
        db::query(PUT_NAME).bind(of.key).bind(of.purchase).bind(license).bind(kind).bind(id).later(writes);
    }
}

fn put_paid(writes: &mut Writes, of: Of<'_>, paid: &PaidPrice) {
    db::query(PUT_PAID)
        .bind(of.key)
        .bind(of.purchase)
        .bind(paid.price.as_str())
        .bind(paid.currency.as_str())
        .bind(of.scope.source.as_str())
        .bind(of.scope.mode.as_str())
        .bind(paid.product.as_ref().map(|product| product.as_str().to_owned()))
        .bind(sql::integer(paid.times))
        .bind(paid.amount_minor)
        .bind(paid.first_paid_at.map(sql::time))
        .bind(paid.means)
        .later(writes);
}

pub(crate) fn put_case(writes: &mut Writes, scope: &Scope, purchase: Option<&str>, id: CaseId, case: &CaseRow) {
    db::query(PUT_CASE)
        .bind(id.to_string())
        .bind(&case.kind)
        .bind(case.status.as_str())
        .bind(scope.key())
        .bind(scope.source.as_str())
        .bind(scope.mode.as_str())
        .bind(&case.subject)
        .bind(purchase)
        .bind(case.unit.as_ref().map(|(item, _)| item.as_str()))
        .bind(case.unit.as_ref().map(|(_, number)| i64::from(*number)))
        .bind(case.customer.as_deref())
        .bind(case.amount.as_ref().map(|amount| amount.amount_minor))
        .bind(case.amount.as_ref().map(|amount| amount.currency.as_str().to_owned()))
        .bind(sql::time(case.opened_at))
        .bind(sql::integer(case.opened_position))
        .bind(sql::time(case.visible_from))
        .bind(sql::integer(case.last_position))
        .bind(case.closed_at.map(sql::time))
        .bind(case.cause.as_deref())
        .bind(i64::from(case.awaits_issuer))
        .bind(case.detail.as_deref())
        .bind(i64::from(case.attempts))
        .bind(case.next_attempt_at.map(sql::time))
        .bind(case.waived_by.as_deref())
        .bind(case.waived_reason.as_deref())
        .bind(format!("{}/{id}", sql::time(case.opened_at)))
        .later(writes);
}

pub(crate) fn delete_case(writes: &mut Writes, id: CaseId) {
    db::query(DELETE_CASE).bind(id.to_string()).later(writes);
}
