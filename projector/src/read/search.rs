//! Exact look-ups that a search is built from.

use std::collections::BTreeSet;

use super::customers::after_prefix;
use super::{Hit, Term, Views, Within};
use crate::db;
use crate::sql::{self, ViewsError};

/// Hits for one term.
const HITS_MAX: i64 = 50;

const OBJECT_BY_ID: &str = "select kind, id, source, mode, purchase, customer, status from object \
     where id = $1 and mode = $2 and (cast($3 as text) is null or source = $3) order by scope, kind limit $4";

const OBJECT_BY_NUMBER: &str = "select kind, id, source, mode, purchase, customer, number from object \
     where number = $1 and mode = $2 and (cast($3 as text) is null or source = $3) order by scope, id limit $4";

const OBJECT_BY_PART: &str = "select o.kind, o.id, o.source, o.mode, o.purchase, o.customer, p.id from part p \
     join object o on o.scope = p.scope and o.kind = p.object_kind and o.id = p.object \
     where p.id = $1 and o.mode = $2 and (cast($3 as text) is null or o.source = $3) order by o.scope, o.id limit $4";

const PURCHASE_BY_SOLD: &str = "select 'purchase', p.id, p.source, p.mode, p.id, p.customer, s.id from sold s \
     join purchase p on p.scope = s.scope and p.id = s.purchase \
     where s.id = $1 and p.mode = $2 and (cast($3 as text) is null or p.source = $3) order by p.scope, p.id limit $4";

const OBJECT_BY_EMAIL: &str = "select o.kind, o.id, o.source, o.mode, o.purchase, o.customer, o.status from contact c \
     join object o on o.scope = c.scope and o.kind = c.object_kind and o.id = c.object \
     where c.email = $1 and o.mode = $2 and (cast($3 as text) is null or o.source = $3) \
     order by o.first_position desc limit $4";

const CUSTOMER_BY_EMAIL: &str = "select 'customer', u.id, u.source, u.mode, null, u.id, u.name from contact c \
     join customer u on u.scope = c.scope and u.id = c.object and c.object_kind = 'customer' \
     where c.email = $1 and u.mode = $2 and (cast($3 as text) is null or u.source = $3) order by u.sort_key limit $4";

const CUSTOMER_BY_ID: &str = "select 'customer', id, source, mode, null, id, name from customer \
     where id = $1 and mode = $2 and (cast($3 as text) is null or source = $3) order by scope limit $4";

const CUSTOMER_BY_NAME: &str = "select 'customer', id, source, mode, null, id, name from customer \
     where name_folded >= $1 and name_folded < $5 and mode = $2 and (cast($3 as text) is null or source = $3) \
     order by name_folded, id limit $4";

const LICENSE_BY_HASH: &str = "select 'license', id, source, mode, purchase, customer, provider from license \
     where key_hash = $1 and mode = $2 and (cast($3 as text) is null or source = $3) order by id limit $4";

const LICENSE_BY_LAST4: &str = "select 'license', id, source, mode, purchase, customer, provider from license \
     where key_last4 = $1 and mode = $2 and (cast($3 as text) is null or source = $3) order by id limit $4";

const LICENSE_BY_PROVIDER_ID: &str = "select 'license', l.id, l.source, l.mode, l.purchase, l.customer, l.provider \
     from license_name n join license l on l.id = n.license \
     where n.id = $1 and l.mode = $2 and (cast($3 as text) is null or l.source = $3) order by l.id limit $4";

const CUSTOMER_BY_PROVIDER: &str = "select 'customer', customer, source, mode, null, customer, provider \
     from provider_customer where id = $1 and mode = $2 and (cast($3 as text) is null or source = $3) \
     order by scope, customer limit $4";

const LICENSE_BY_ID: &str = "select 'license', id, source, mode, purchase, customer, provider from license \
     where id = $1 and mode = $2 and (cast($3 as text) is null or source = $3) order by id limit $4";

const CASE_BY_ID: &str = "select 'case', id, source, mode, purchase, customer, kind from casefile \
     where id = $1 and mode = $2 and (cast($3 as text) is null or source = $3) order by id limit $4";

type HitRow = (String, String, String, String, Option<String>, Option<String>, Option<String>);

impl Views {
    /// What any of the terms names exactly, without repeats, at most 50 per kind of look-up.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn search(&self, within: &Within, terms: &[Term]) -> Result<Vec<Hit>, ViewsError> {
        let mut hits = BTreeSet::new();
        for term in terms {
            for (text, value) in look_ups(term) {
                hits.extend(self.look_up(within, text, &value).await?);
            }
        }
        Ok(hits.into_iter().collect())
    }

    async fn look_up(&self, within: &Within, text: &'static str, value: &str) -> Result<Vec<Hit>, ViewsError> {
        let mut query = db::query(text).bind(value).bind(within.mode.as_str()).bind(within.source()).bind(HITS_MAX);
        if text == CUSTOMER_BY_NAME {
            query = query.bind(after_prefix(value));
        }
        let rows: Vec<HitRow> = query.fetch_all(&self.pool).await?;
        rows.into_iter().map(hit).collect()
    }
}

fn look_ups(term: &Term) -> Vec<(&'static str, String)> {
    match term {
        Term::StripeId(id) => [OBJECT_BY_ID, CUSTOMER_BY_ID, OBJECT_BY_PART, PURCHASE_BY_SOLD]
            .map(|text| (text, id.trim().to_owned()))
            .to_vec(),
        Term::Email(email) => {
            [CUSTOMER_BY_EMAIL, OBJECT_BY_EMAIL].map(|text| (text, sql::normalize_email(email))).to_vec()
        }
        Term::KeyHash(hash) => vec![(LICENSE_BY_HASH, hash.to_ascii_lowercase())],
        Term::KeyLast4(last4) => vec![(LICENSE_BY_LAST4, last4.to_uppercase())],
        Term::ProviderId(id) => vec![(LICENSE_BY_PROVIDER_ID, id.clone())],
        Term::ProviderCustomer(id) => vec![(CUSTOMER_BY_PROVIDER, id.clone())],
        Term::InvoiceNumber(number) => vec![(OBJECT_BY_NUMBER, number.trim().to_owned())],
        Term::Uuid(uuid) => vec![
            (LICENSE_BY_ID, uuid.to_string()),
            (LICENSE_BY_PROVIDER_ID, uuid.to_string()),
            (CASE_BY_ID, keyledger_schemas::ids::CaseId(*uuid).to_string()),
        ],
        Term::NamePrefix(name) => {
            let folded = sql::fold_name(name);
            // The empty prefix is everyone, which is not a search.
            if folded.is_empty() { Vec::new() } else { vec![(CUSTOMER_BY_NAME, folded)] }
        }
    }
}

fn hit((kind, id, source, mode, purchase, customer, label): HitRow) -> Result<Hit, ViewsError> {
    // A sale without a customer stands for one at an engine.
    let (kind, purchase, customer) = match customer {
        Some(sale) if kind == "customer" && !sale.starts_with("cus_") => ("purchase".to_owned(), Some(sale), None),
        customer => (kind, purchase, customer),
    };
    Ok(Hit {
        kind,
        id,
        source: source.parse().map_err(|error| ViewsError::damaged("a source", error))?,
        mode: mode.parse().map_err(|error| ViewsError::damaged("a mode", error))?,
        purchase,
        customer,
        label,
    })
}
