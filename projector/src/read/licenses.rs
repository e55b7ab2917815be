//! Licenses, with the state that a reader sees at a time.

use jiff::Timestamp;
use keyledger_schemas::event::SealedKey;
use keyledger_schemas::ids::ProviderName;

use super::{AsOf, License, LicenseFilter, LicenseState, Page, PageRequest, Views, Within, page};
use crate::db;
use crate::facts::Kind;
use crate::sql::{self, ViewsError};

macro_rules! licenses_where {
    ($narrowed:literal) => {
        concat!(
            "select id, scope, purchase, item, number, generation, customer, state, reason, origin, provider, \
             provider_id, also, product, key_sealed, key_id, key_hash, key_last4, seats, features, paid_until, expires_at, \
             perpetual, issued_at, sort_key from license where ",
            $narrowed,
            " and mode = $2 and (cast($3 as text) is null or source = $3) \
             and (cast($4 as text) is null or sort_key < $4) \
             and (cast($5 as text) is null or purchase = $5) and (cast($6 as text) is null or customer = $6) \
             and (cast($7 as text) is null or id in (select license from license_name where id = $7)) \
             and (cast($8 as text) is null or item = $8) \
             and (cast($9 as bigint) is null or number = $9) order by sort_key desc limit $10"
        )
    };
}

const LICENSES: &str = licenses_where!("cast($1 as text) is null");

const LICENSES_BY_ID: &str = licenses_where!("id = $1");

const LICENSES_BY_PURCHASE: &str = licenses_where!("purchase = $1");

const LICENSES_BY_CUSTOMER: &str = licenses_where!("customer = $1");

const LICENSES_BY_PROVIDER_ID: &str = licenses_where!("id in (select license from license_name where id = $1)");

const LICENSES_BY_EMAIL: &str = licenses_where!(
    "((scope, customer) in (select scope, object from contact where email = $1 and object_kind = 'customer') \
     or (scope, customer) in (select o.scope, o.customer from contact c join object o \
     on o.scope = c.scope and o.kind = c.object_kind and o.id = c.object where c.email = $1 and o.customer is not null) \
     or (scope, purchase) in (select o.scope, o.purchase from contact c join object o \
     on o.scope = c.scope and o.kind = c.object_kind and o.id = c.object where c.email = $1 and o.purchase is not null))"
);

const PURCHASE_OF: &str = "select purchase from object where id = $1 and kind = $2 and mode = $3 \
     and (cast($4 as text) is null or source = $4) and purchase is not null order by scope limit 1";

impl Views {
    /// Licenses, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn licenses(
        &self,
        within: &Within,
        filter: &LicenseFilter,
        at: Timestamp,
        request: &PageRequest,
    ) -> Result<Page<License>, ViewsError> {
        let mut purchase = filter.purchase.clone().or_else(|| filter.subscription.clone());
        if let Some(unit) = &filter.unit {
            purchase = purchase.or_else(|| Some(unit.purchase.object.clone()));
        }
        if let Some(session) = &filter.session {
            let Some(of_session) = self.purchase_of(within, Kind::Session, session).await? else {
                return Ok(Page { data: Vec::new(), next: None });
            };
            if purchase.as_ref().is_some_and(|purchase| *purchase != of_session) {
                return Ok(Page { data: Vec::new(), next: None });
            }
            purchase = Some(of_session);
        }
        let id = filter.id.map(|id| id.to_string());
        let email = filter.email.as_deref().map(sql::normalize_email);
        let (text, narrowed) = if let Some(id) = &id {
            (LICENSES_BY_ID, Some(id.as_str()))
        } else if let Some(email) = &email {
            (LICENSES_BY_EMAIL, Some(email.as_str()))
        } else if let Some(purchase) = &purchase {
            (LICENSES_BY_PURCHASE, Some(purchase.as_str()))
        } else if let Some(provider_id) = &filter.provider_id {
            (LICENSES_BY_PROVIDER_ID, Some(provider_id.as_str()))
        } else if let Some(customer) = &filter.customer {
            (LICENSES_BY_CUSTOMER, Some(customer.as_str()))
        } else {
            (LICENSES, None)
        };
        let rows: Vec<LicenseRow> = db::query(text)
            .bind(narrowed)
            .bind(within.mode.as_str())
            .bind(within.source())
            .bind(request.after.as_deref())
            .bind(purchase.as_deref())
            .bind(filter.customer.as_deref())
            .bind(filter.provider_id.as_deref())
            .bind(filter.unit.as_ref().map(|unit| unit.item.as_str()))
            .bind(filter.unit.as_ref().map(|unit| i64::from(unit.number)))
            .bind(i64::from(request.rows()) + 1)
            .fetch_all(&self.pool)
            .await?;
        page(rows, request, |row| row.sort_key.clone(), |row| row.read(AsOf::at(at)))
    }

    /// The purchase that an object was routed to.
    pub(super) async fn purchase_of(
        &self,
        within: &Within,
        kind: Kind,
        id: &str,
    ) -> Result<Option<String>, ViewsError> {
        let row: Option<(String,)> = db::query(PURCHASE_OF)
            .bind(id)
            .bind(kind.as_str())
            .bind(within.mode.as_str())
            .bind(within.source())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|(purchase,)| purchase))
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct LicenseRow {
    id: String,
    scope: String,
    purchase: String,
    item: String,
    number: i64,
    generation: i64,
    customer: Option<String>,
    state: String,
    reason: Option<String>,
    origin: String,
    provider: Option<String>,
    provider_id: Option<String>,
    also: String,
    product: Option<String>,
    key_sealed: Option<String>,
    key_id: Option<String>,
    key_hash: Option<String>,
    key_last4: Option<String>,
    seats: Option<i64>,
    features: String,
    paid_until: Option<String>,
    expires_at: Option<String>,
    perpetual: i64,
    issued_at: Option<String>,
    sort_key: String,
}

impl LicenseRow {
    pub(super) fn read(self, as_of: AsOf) -> Result<License, ViewsError> {
        let scope = sql::parse_scope(&self.scope)?;
        let purchase = keyledger_schemas::ids::PurchaseId::new(scope, self.purchase);
        let paid_until = sql::parse_optional_time(self.paid_until.as_deref())?;
        let expires_at = sql::parse_optional_time(self.expires_at.as_deref())?;
        let key = match (self.key_sealed, self.key_id, self.key_hash, self.key_last4) {
            (Some(sealed), Some(key_id), Some(hash), Some(last4)) => Some(SealedKey { sealed, key_id, hash, last4 }),
            _ => None,
        };
        Ok(License {
            id: self.id.parse().map_err(|error| ViewsError::damaged("a license id", error))?,
            unit: purchase.unit(self.item, sql::unsigned(self.number)),
            generation: sql::unsigned(self.generation),
            customer: self.customer.as_deref().map(Into::into),
            state: shown(&self.state, paid_until, expires_at, as_of.at),
            reason: self.reason,
            seats: self.seats.map(sql::unsigned),
            features: sql::parse_json("features", &self.features)?,
            paid_until,
            expires_at,
            perpetual: self.perpetual != 0,
            provider: self.provider.as_deref().map(ProviderName::from),
            provider_id: self.provider_id,
            also: sql::parse_json("ids of a license", &self.also)?,
            product: self.product,
            origin: self.origin,
            purchase,
            issued_at: sql::parse_optional_time(self.issued_at.as_deref())?,
            key,
        })
    }
}

/// The state that a reader sees at `at` (docs/deciding.md §7).
fn shown(stored: &str, paid_until: Option<Timestamp>, expires_at: Option<Timestamp>, at: Timestamp) -> LicenseState {
    match stored {
        "revoked" => LicenseState::Revoked,
        "suspended" => LicenseState::Suspended,
        _ if expires_at.is_some_and(|expires_at| expires_at <= at) => LicenseState::Expired,
        _ if paid_until.is_some_and(|paid_until| paid_until <= at) => LicenseState::Grace,
        _ => LicenseState::Active,
    }
}
