//! Writing what is known of other systems: who a customer is at a license engine, and when Stripe was compared with.

use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::event::{CustomerLinked, CustomerSynced, ReconcileCompleted};

use crate::db::{self, Db};
use crate::sql::{self, ViewsError};

const PUT_LINKED: &str = "insert into provider_customer (scope, customer, provider, id, source, mode, made, shared, \
     linked_at, last_position) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
     on conflict (scope, customer, provider) do update set id = excluded.id, made = excluded.made, \
     shared = excluded.shared, linked_at = excluded.linked_at, synced_at = null, refused = null, \
     last_position = excluded.last_position";
const PUT_SYNCED: &str = "update provider_customer set synced_at = $5, refused = $6, last_position = $7 \
     where scope = $1 and customer = $2 and provider = $3 and id = $4";
const PUT_RECONCILED: &str = "insert into reconciled (source, mode, at, since, events_seen, events_appended, \
     objects_seen, objects_appended, last_position) values ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
     on conflict (source, mode) do update set at = excluded.at, since = excluded.since, \
     events_seen = excluded.events_seen, events_appended = excluded.events_appended, \
     objects_seen = excluded.objects_seen, objects_appended = excluded.objects_appended, \
     last_position = excluded.last_position";

/// Keeps who a customer is at an engine. There are few of these, so each is written at once.
pub(crate) async fn put_linked(db: &mut Db, linked: &CustomerLinked, event: &Recorded) -> Result<(), ViewsError> {
    db::query(PUT_LINKED)
        .bind(event.scope.key())
        .bind(linked.customer.as_str())
        .bind(linked.provider.as_str())
        .bind(linked.provider_customer_id.as_str())
        .bind(event.scope.source.as_str())
        .bind(event.scope.mode.as_str())
        .bind(i64::from(linked.made))
        .bind(i64::from(linked.shared))
        .bind(sql::time(event.occurred_at))
        .bind(sql::integer(event.position))
        .execute(db)
        .await?;
    Ok(())
}

/// Keeps when an engine was last told of a name or an address, and what it said if it did not take them.
pub(crate) async fn put_synced(db: &mut Db, synced: &CustomerSynced, event: &Recorded) -> Result<(), ViewsError> {
    db::query(PUT_SYNCED)
        .bind(event.scope.key())
        .bind(synced.customer.as_str())
        .bind(synced.provider.as_str())
        .bind(synced.provider_customer_id.as_str())
        .bind(sql::time(event.occurred_at))
        .bind(synced.refused.as_deref())
        .bind(sql::integer(event.position))
        .execute(db)
        .await?;
    Ok(())
}

/// Keeps when the log was last compared with what Stripe holds.
pub(crate) async fn put_reconciled(
    db: &mut Db,
    completed: &ReconcileCompleted,
    event: &Recorded,
) -> Result<(), ViewsError> {
    db::query(PUT_RECONCILED)
        .bind(event.scope.source.as_str())
        .bind(event.scope.mode.as_str())
        .bind(sql::time(event.occurred_at))
        .bind(sql::time(completed.since))
        .bind(sql::integer(completed.events_seen))
        .bind(sql::integer(completed.events_appended))
        .bind(sql::integer(completed.objects_seen))
        .bind(sql::integer(completed.objects_appended))
        .bind(sql::integer(event.position))
        .execute(db)
        .await?;
    Ok(())
}
